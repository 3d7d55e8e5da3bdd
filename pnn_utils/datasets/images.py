"""MNIST-like image sets from their IDX files, and random changes of training images.

The changes are drawn anew for each batch, ``augment(images, generator)``, as
`pnn_utils.training.train` calls it; their images have shape (rows, side**2), pixels row by row.
"""

import math
import struct

import numpy as np
import torch

from pnn_utils.datasets import fetch


def read_idx(path):
    """Read an IDX file of unsigned bytes; the array's shape is as the file's header says.

    Raises
    ------
    ValueError
        If the file is not an IDX file of unsigned bytes, or its length does not fit its header.
    """
    with open(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} starts with {content[:4].hex()}; "
                         "expected 000008 and the number of dimensions")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{path} has {len(content)} bytes; its header alone needs {start}")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{path} has {len(content)} bytes; expected {expected} for shape {shape}")
    images = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return images.copy()  # torch wants it writable


def load_images(name, train=True):
    """Load the 60,000 training or the 10,000 test images of a set, "mnist" or "fashion_mnist".

    Returns
    -------
    images : ndarray of uint8, shape (n, 28, 28)
    labels : ndarray of int64, shape (n,)

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the name is unknown, or a file is altered.
    """
    part = "train" if train else "t10k"
    images = read_idx(fetch.path(name, f"{part}-images-idx3-ubyte"))
    labels = read_idx(fetch.path(name, f"{part}-labels-idx1-ubyte"))
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{name} has images of shape {images.shape} and labels of shape "
                         f"{labels.shape}; expected (n, 28, 28) and (n,)")
    return images, labels.astype(np.int64)


def average_pool(images, factor):
    """Average blocks of `factor` x `factor` pixels, from 0 to 1, and flatten, row by row.

    >>> average_pool(np.full((5, 28, 28), 255, np.uint8), 2).shape
    (5, 196)
    """
    n, height, width = images.shape
    blocks = images.reshape(n, height // factor, factor, width // factor, factor)
    return (blocks.mean((2, 4), dtype=np.float32) / 255).reshape(n, -1)


def random_affine(images, generator, degrees=15.0, shift=0.05, scale=(0.9, 1.1)):
    """Turn (up to `degrees`), shift vertically (a share of the side) and scale each image.

    All are drawn uniformly; bilinear interpolation, zeros from outside.
    """
    rows, side = len(images), math.isqrt(images.shape[1])
    u = 2 * torch.rand(3, rows, generator=generator) - 1
    angle = math.radians(degrees) * u[0]
    factor = (scale[0] + scale[1]) / 2 + (scale[1] - scale[0]) / 2 * u[2]
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    zero = torch.zeros(rows)
    # Each row maps places in the new image, from -1 to 1 across, to places in the old one.
    right, down = torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, 2 * shift * u[1]], 1)
    old, size = images.reshape(rows, 1, side, side), (rows, 1, side, side)
    grid = torch.nn.functional.affine_grid(torch.stack([right, down], 1), size, False)
    return torch.nn.functional.grid_sample(old, grid, align_corners=False).view(rows, -1)


def random_flip(images, generator):
    """Mirror half of the images, chosen at random, left to right."""
    side = math.isqrt(images.shape[1])
    chosen = torch.rand(len(images), 1, generator=generator) < 0.5
    mirrored = images.reshape(-1, side, side).flip(2).reshape(images.shape)
    return torch.where(chosen, mirrored, images)


def random_shift(images, generator, pixels=1):
    """Move each image by whole pixels, up to `pixels` any way, zeros from outside."""
    rows, side = len(images), math.isqrt(images.shape[1])
    framed = torch.nn.functional.pad(images.reshape(-1, side, side), (pixels,) * 4)
    down, right = torch.randint(2 * pixels + 1, (2, rows, 1), generator=generator)
    places, row = torch.arange(side), torch.arange(rows)[:, None, None]
    moved = framed[row, (places + down)[:, :, None], (places + right)[:, None, :]]
    return moved.reshape(images.shape)
