"""MNIST-like image sets from their IDX files, and a random change of training images.

It is drawn anew for each batch, ``augment(images, generator)``, as `pnn_utils.training.train`
calls it; its images have shape (rows, side**2), pixels row by row.
"""

import math

import numpy as np
import torch

from pnn_utils.datasets import fetch


def read_idx(path):
    """Read an IDX file of unsigned bytes, whose header says the shape; `fetch.path` checked it."""
    dimensions = np.fromfile(path, np.uint8, 4)[3]
    shape = np.fromfile(path, ">u4", dimensions, offset=4)
    # Once in memory and writable, as torch wants it.
    return np.fromfile(path, np.uint8, offset=4 + shape.nbytes).reshape(shape)


def load_images(name, train=True):
    """Load training or test images (n, 28, 28), uint8, and labels (n,), int64.

    name : "mnist" or "fashion_mnist"

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing; if one is altered, or the name is unknown.
    """
    part = "train" if train else "t10k"
    images = read_idx(fetch.path(name, f"{part}-images-idx3-ubyte"))
    labels = read_idx(fetch.path(name, f"{part}-labels-idx1-ubyte"))
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
    # The matrix maps places in the new image, from -1 to 1 across, to places in the old one.
    matrix = torch.stack([cos, -sin, torch.zeros_like(cos), sin, cos, 2 * shift * u[1]], 1)
    old = images.reshape(rows, 1, side, side)
    grid = torch.nn.functional.affine_grid(matrix.view(rows, 2, 3), old.shape, False)
    return torch.nn.functional.grid_sample(old, grid, align_corners=False).view(rows, -1)
