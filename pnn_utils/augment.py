"""Random changes of training images, drawn anew for each batch: ``augment(images, generator)``, as `pnn_utils.training.train` calls it."""

import math

import torch

from pnn_utils.systems.base import check_number, check_whole


def _side(images):
    """Return the side of square images, shape (rows, side**2), or refuse them."""
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    if not side or side**2 != images.shape[1]:
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (rows, side**2)")
    return side


def random_affine(images, generator, degrees=15.0, shift=0.05, scale=(0.9, 1.1)):
    """Turn, shift and scale each image at random, with bilinear interpolation and zeros outside.

    Parameters
    ----------
    images : torch.Tensor, shape (rows, side**2)
        Square images, row by row.
    generator : torch.Generator
    degrees : float
        Angles are drawn uniformly from -degrees to degrees.
    shift : float
        Vertical shifts, uniformly up to this share of the side, either way.
    scale : (float, float)
        Factors are drawn uniformly between these.

    Returns
    -------
    torch.Tensor, shape (rows, side**2)

    Raises
    ------
    TypeError
        If the images are not float32, or a number is none.
    ValueError
        If the images are not square, there is none, or a number is out of range.
    """
    rows, side = len(images), _side(images)
    if images.dtype != torch.float32 or not isinstance(scale, tuple | list) or len(scale) != 2:
        raise TypeError(f"images have dtype {images.dtype} and scale is {scale!r}; expected float32 and (low, high)")
    check_number(0, 1e6, degrees=degrees, shift=shift)
    check_number(1e-6, 1e6, **{"lower scale": scale[0], "upper scale": scale[1]})
    u = 2 * torch.rand(3, rows, generator=generator) - 1
    angle, factor = math.radians(degrees) * u[0], (scale[0] + scale[1]) / 2 + (scale[1] - scale[0]) / 2 * u[2]
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    zero = torch.zeros(rows)
    # Each row maps places in the new image, from -1 to 1 across, to places in the old one.
    maps = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, 2 * shift * u[1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(maps, (rows, 1, side, side), align_corners=False)
    return torch.nn.functional.grid_sample(images.reshape(rows, 1, side, side), grid, align_corners=False).view(rows, -1)


def random_flip(images, generator):
    """Mirror half of the images, chosen at random, left to right; shape (rows, side**2).

    Raises
    ------
    ValueError
        If the images are not square.
    """
    side = _side(images)
    chosen = torch.rand(len(images), 1, generator=generator) < 0.5
    return torch.where(chosen, images.reshape(-1, side, side).flip(2).reshape(images.shape), images)


def random_shift(images, generator, pixels=1):
    """Move each image by whole pixels, up to `pixels` either way in both directions, zeros from outside; shape (rows, side**2).

    Raises
    ------
    TypeError, ValueError
        If the images are not square, or `pixels` is not a whole number of at least 0.
    """
    rows, side = len(images), _side(images)
    check_whole(0, pixels=pixels)
    framed = torch.nn.functional.pad(images.reshape(-1, side, side), (pixels,) * 4)
    down, right = torch.randint(2 * pixels + 1, (2, rows, 1), generator=generator)
    places = torch.arange(side)
    return framed[torch.arange(rows)[:, None, None], (places + down)[:, :, None], (places + right)[:, None, :]].reshape(images.shape)
