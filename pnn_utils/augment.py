"""Random changes of training images, drawn anew for each batch: ``augment(images, generator)``, as `pnn_utils.training.train` calls it."""

import math

import torch


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
    """
    rows, side = len(images), math.isqrt(images.shape[1])
    u = 2 * torch.rand(3, rows, generator=generator) - 1
    angle, factor = math.radians(degrees) * u[0], (scale[0] + scale[1]) / 2 + (scale[1] - scale[0]) / 2 * u[2]
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    zero = torch.zeros(rows)
    # Each row maps places in the new image, from -1 to 1 across, to places in the old one.
    maps = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, 2 * shift * u[1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(maps, (rows, 1, side, side), align_corners=False)
    return torch.nn.functional.grid_sample(images.view(rows, 1, side, side), grid, align_corners=False).view(rows, -1)


def random_flip(images, generator):
    """Mirror half of the images, chosen at random, left to right; shape (rows, side**2)."""
    side = math.isqrt(images.shape[1])
    chosen = torch.rand(len(images), 1, generator=generator) < 0.5
    return torch.where(chosen, images.view(-1, side, side).flip(2).reshape(len(images), -1), images)


def random_shift(images, generator, pixels=1):
    """Move each image by whole pixels, up to `pixels` either way in both directions, zeros from outside; shape (rows, side**2)."""
    rows, side = len(images), math.isqrt(images.shape[1])
    framed = torch.nn.functional.pad(images.view(-1, side, side), (pixels,) * 4)
    down, right = torch.randint(2 * pixels + 1, (2, rows, 1), generator=generator)
    places = torch.arange(side)
    return framed[torch.arange(rows)[:, None, None], (places + down)[:, :, None], (places + right)[:, None, :]].reshape(rows, -1)
