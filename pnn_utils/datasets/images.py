"""Read MNIST-like image sets from their IDX files."""

import math
import struct

import numpy as np

from pnn_utils.datasets import fetch as data
from pnn_utils.systems.base import check_whole

SETS = ("mnist", "fashion_mnist")


def read_idx(path):
    """Read an IDX file of unsigned bytes.

    Parameters
    ----------
    path : str or pathlib.Path

    Returns
    -------
    ndarray of uint8, shape as the file's header says

    Raises
    ------
    ValueError
        If the file is not an IDX file of unsigned bytes, or its length does not fit its header.
    """
    with open(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} starts with {content[:4].hex()}; expected 000008 and the number of dimensions")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{path} has {len(content)} bytes; its header alone needs {start}")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{path} has {len(content)} bytes; expected {expected} for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # torch wants it writable


def load_images(name, train=True):
    """Load one half of an image set.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist"}
    train : bool
        60,000 training images, or the 10,000 test images.

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
    if name not in SETS:
        raise ValueError(f"image set {name!r} is unknown; expected one of {', '.join(SETS)}")
    part = "train" if train else "t10k"
    images = read_idx(data.path(name, f"{part}-images-idx3-ubyte"))
    labels = read_idx(data.path(name, f"{part}-labels-idx1-ubyte"))
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{name} has images of shape {images.shape} and labels of shape {labels.shape}; "
                         "expected (n, 28, 28) and (n,)")
    return images, labels.astype(np.int64)


def average_pool(images, factor):
    """Average blocks of `factor` x `factor` pixels and flatten, row by row.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width)
    factor : int
        Divides height and width.

    Returns
    -------
    ndarray of float32, shape (n, height * width / factor**2), 0 to 1

    Raises
    ------
    TypeError
        If the images are not of numbers, or `factor` is not a whole number.
    ValueError
        If the images' shape is wrong, or `factor` does not divide the sides.
    """
    check_whole(-math.inf, factor=factor)
    if images.dtype.kind not in "uif":
        raise TypeError(f"images have dtype {images.dtype}; expected uint8")
    if images.ndim != 3 or not images.shape[1] or not images.shape[2]:
        raise ValueError(f"images have shape {images.shape}; expected (n, height, width)")
    n, height, width = images.shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor is {factor}; expected a divisor of {height} and {width}")
    blocks = images.reshape(n, height // factor, factor, width // factor, factor)
    return (blocks.mean((2, 4), dtype=np.float32) / 255).reshape(n, -1)
