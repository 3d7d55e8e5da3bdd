"""Two layers of coupled oscillators read images: the architecture of the authors' two public examples."""

import math

import torch

from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.base import check_number
from pnn_utils.systems.oscillators.solver import n_couplings
from pnn_utils.systems.oscillators.model import pack


def every_second_pixel(images):
    """Return pixels 0, 2, 4, ... of both directions, shape (rows, 1, 196), of images of shape (rows, 784).

    Raises
    ------
    ValueError
        If the images' shape is wrong.
    """
    _check_images(images)
    return images.reshape(-1, 28, 28)[:, ::2, ::2].reshape(len(images), 1, 196)


def tiles(images):
    """Return the sixteen 7 x 7 tiles, row by row, shape (rows, 16, 49), of images of shape (rows, 784).

    Raises
    ------
    ValueError
        If the images' shape is wrong.
    """
    _check_images(images)
    return images.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(len(images), 16, 49)


def _check_images(images):
    if images.ndim != 2 or images.shape[1] != 784:
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (rows, 784)")


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

    Raises
    ------
    TypeError, ValueError
        If there are not two devices and two models, `mode` is unknown, or a number is none.

    References
    ----------
    .. [1] github.com/mcmahon-lab/Physics-Aware-Training, Examples 1 and 2: architecture; how the couplings start is recalled, unchecked.
    """

    def __init__(self, devices, models, arrange, generator, mode="pat", bound=None, factor=1.0):
        super().__init__()
        if len(devices) != 2 or len(models) != 2:
            raise ValueError(f"there are {len(devices)} devices and {len(models)} models; expected two each")
        check_number(0, 1e6, bound=0 if bound is None else bound)
        check_number(-1e6, 1e6, factor=factor)
        self.arrange, self.layers = arrange, torch.nn.ModuleList()
        for device, model in zip(devices, models, strict=True):
            size = device.input_dim
            scale = bound or 1 / math.sqrt(size)
            square = scale * (2 * torch.rand(size, size, generator=generator) - 1)
            theta = torch.cat([pack(square), scale * (2 * torch.rand(size, generator=generator) - 1)])
            self.layers.append(PhysicalLayer(device, model, theta, mode, shared=True))
        self.sizes, self.n_classes = [device.input_dim for device in devices], devices[1].output_dim
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))

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
        return self.initial_angles(1, answered.view(len(images), arranged.shape[1] * answered.shape[1]))

    def forward(self, images):
        """Return logits, shape (rows, classes), for images of shape (rows, pixels).

        Raises
        ------
        TypeError, ValueError
            If `arrange`, a device or a model refuses what it is given.
        """
        return self.factor * self.layers[1](self.hidden(images))


def split(theta, size):
    """Return the couplings, shape (size, size), symmetric with a zero diagonal, and the drives, shape (size,), of packed parameters.

    Raises
    ------
    TypeError, ValueError
        If there are not size (size - 1) / 2 + size parameters.
    """
    if theta.shape != (n_couplings(size) + size,):
        raise ValueError(f"theta has shape {tuple(theta.shape)}; expected ({n_couplings(size) + size},) for {size} oscillators")
    couplings = torch.zeros(size, size, dtype=theta.dtype)
    rows, columns = torch.triu_indices(size, size, 1)
    couplings[rows, columns] = theta[: n_couplings(size)].detach()
    return couplings + couplings.T, theta[n_couplings(size):].detach()
