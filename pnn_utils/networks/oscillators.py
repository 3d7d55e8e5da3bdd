"""Two layers of coupled oscillators read images: the architecture of the authors' two public examples."""

import math

import torch

from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.oscillator_numerics import n_couplings
from pnn_utils.twins.oscillators import pack


def every_second_pixel(images):
    """Return pixels 0, 2, 4, ... of both directions, shape (rows, 1, 196), of images of shape (rows, 784)."""
    return images.view(-1, 28, 28)[:, ::2, ::2].reshape(len(images), 1, 196)


def tiles(images):
    """Return the sixteen 7 x 7 tiles, row by row, shape (rows, 16, 49), of images of shape (rows, 784)."""
    return images.view(-1, 4, 7, 4, 7).transpose(2, 3).reshape(len(images), 16, 49)


class OscillatorNetwork(torch.nn.Module):
    """Pixels -> oscillators, one shared network per tile -> a large network whose last oscillators are the classes.

    The pixels of a tile are the initial angles of the first network's first oscillators, zeros those of the others. The final angles of all tiles, and a
    zero for each class, are the initial angles of the second network. Final angles of the class oscillators times one trainable factor are the logits.

    Parameters
    ----------
    devices, models : (first, second)
        Devices that read all and only the class oscillators, and their models.
    arrange : callable
        Images of shape (rows, pixels) -> tensor of shape (rows, tiles, pixels of a tile).
    generator : torch.Generator
        Source of the initial couplings and drives.
    mode : {"pat", "in_silico", "device"}
    bound : float, optional
        Couplings and drives start uniform between -bound and bound, omega_0^2. Default: 1 / sqrt(N) for N oscillators.
    factor : float
        Where the output factor starts.

    References
    ----------
    .. [1] github.com/mcmahon-lab/Physics-Aware-Training, Examples 1 and 2: architecture; how the couplings start is recalled, unchecked.
    """

    def __init__(self, devices, models, arrange, generator, mode="pat", bound=None, factor=1.0):
        super().__init__()
        self.arrange, self.layers = arrange, torch.nn.ModuleList()
        for device, model in zip(devices, models, strict=True):
            size = device.input_dim
            scale = bound or 1 / math.sqrt(size)
            square = scale * (2 * torch.rand(size, size, generator=generator) - 1)
            theta = torch.cat([pack(square), scale * (2 * torch.rand(size, generator=generator) - 1)])
            self.layers.append(PhysicalLayer(device, model, theta, mode, shared=True))
        self.sizes, self.n_classes = [device.input_dim for device in devices], devices[1].output_dim
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def set_mode(self, mode):
        """Set the mode of both layers and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    def initial_angles(self, layer, signal):
        """Return the initial angles of a layer's oscillators, zeros after the given signal, shape (rows, oscillators)."""
        return torch.nn.functional.pad(signal, (0, self.sizes[layer] - signal.shape[1]))

    def hidden(self, images):
        """Return the initial angles of the second network, shape (rows, its oscillators)."""
        arranged = self.arrange(images)
        answered = self.layers[0](self.initial_angles(0, arranged.flatten(0, 1)))
        return self.initial_angles(1, answered.view(len(images), -1))

    def forward(self, images):
        """Return logits, shape (rows, classes), for images of shape (rows, pixels)."""
        return self.factor * self.layers[1](self.hidden(images))


def split(theta, size):
    """Return the couplings, shape (size, size), symmetric with a zero diagonal, and the drives, shape (size,), of packed parameters."""
    couplings = torch.zeros(size, size, dtype=theta.dtype)
    rows, columns = torch.triu_indices(size, size, 1)
    couplings[rows, columns] = theta[: n_couplings(size)].detach()
    return couplings + couplings.T, theta[n_couplings(size):].detach()
