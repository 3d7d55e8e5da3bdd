"""Two layers of coupled oscillators read images: the architecture of the authors' two examples.

github.com/mcmahon-lab/Physics-Aware-Training, Examples 1 and 2
"""

import math

import torch

from pnn_utils.networks.chain import Network
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.base import check_whole


class Oscillating(Network):
    """Pixels -> oscillators, the same for every tile -> many, of which the last are the classes.

    Pixels of a tile are the initial angles of the first device's first oscillators, its final
    angles those of the second's; all others start at 0. The logits are the final angles of the
    class oscillators times a trainable factor.

    devices, models : (first, second); the second device reads all and only the class oscillators
    arrange : a function, (rows, pixels) -> (rows, tiles, pixels of a tile)
    n_pixels : of an image; a tile's fit onto the first device, and what all tiles give beside the
        class oscillators onto the second
    bound : couplings and drives start uniform between -bound and bound, omega_0^2; default:
        1 / sqrt(oscillators)
    factor : where the factor starts
    """

    def __init__(self, devices, models, arrange, generator, *, mode="pat", bound=None, factor=1.0,
                 n_pixels=784):
        super().__init__()
        (first, second), (n_tiles, n_each) = devices, arrange(torch.zeros(1, n_pixels)).shape[1:]
        self.between = n_tiles * first.output_dim
        check_whole(1, first.input_dim, pixels_of_a_tile=n_each)
        check_whole(self.between + second.output_dim, second_oscillators=second.input_dim)
        self.arrange, self.layers = arrange, torch.nn.ModuleList()
        self.sizes = [device.input_dim for device in devices]
        for device, model, size in zip(devices, models, self.sizes, strict=True):
            scale = bound or 1 / math.sqrt(size)
            square = scale * (2 * torch.rand(size, size, generator=generator) - 1)
            drives = scale * (2 * torch.rand(size, generator=generator) - 1)
            upper = tuple(torch.triu_indices(size, size, 1))
            theta = torch.cat([(square + square.T)[upper] / 2, drives])
            check_whole(len(theta), len(theta), param_dim=device.param_dim)
            self.layers.append(PhysicalLayer(device, model, theta, mode, shared=True))
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))

    def hidden(self, x):
        """Return the initial angles of the second device, shape (rows, its oscillators)."""
        answered = self.layers[0](_zeros_after(self.arrange(x).flatten(0, 1), self.sizes[0]))
        return _zeros_after(answered.view(len(x), self.between), self.sizes[1])

    def forward(self, x):
        """Return logits, shape (rows, classes), for images of shape (rows, pixels)."""
        return self.factor * self.layers[1](self.hidden(x))


def _zeros_after(signal, width):
    return torch.nn.functional.pad(signal, (0, width - signal.shape[1]))


def split(theta, size):
    """Unpack the couplings, a symmetric (size, size) without diagonal, and the drives, (size,)."""
    couplings = torch.zeros(size, size, dtype=theta.dtype)
    couplings[tuple(torch.triu_indices(size, size, 1))] = theta[:-size].detach()
    return couplings + couplings.T, theta[-size:].detach()
