"""The paper's architectures, built from physical layers."""

import numpy as np
import torch
from torch.nn.utils import parametrize

from pnn_utils.pat import PhysicalLayer
from pnn_utils.twin import random_controls


BRIGHT = 1.0


class Within(torch.nn.Module):
    """Squash any number smoothly into a device's control range: low + (high - low) / (1 + exp(-z))."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, z):
        return self.low + (self.high - self.low) * torch.sigmoid(z)

    def right_inverse(self, value):
        return torch.logit((value - self.low) / (self.high - self.low))


class Rescale(torch.nn.Module):
    """Element-wise trainable rescaling a_i s_i + b_i, squashed into the device's control range.

    Parameters
    ----------
    width : int
    allowed : (float, float)
        Range of the data controls.
    scale, offset_sd : float
        Initial a_i, and standard deviation of the initial b_i.
    generator : torch.Generator
    """

    def __init__(self, width, allowed, scale, offset_sd, generator):
        super().__init__()
        sign = torch.randint(0, 2, (width,), generator=generator) * 2 - 1
        self.scale = torch.nn.Parameter(scale * sign.float())
        self.offset = torch.nn.Parameter(BRIGHT + offset_sd * torch.randn(width, generator=generator))
        self.within = Within(*allowed)

    def forward(self, signal):
        return self.within(self.scale * signal + self.offset)


class SpectralNetwork(torch.nn.Module):
    """A chain of passes through the SHG device; the class is the brightest of equal parts of the last spectrum.

    features -> each repeated over neighbouring data channels -> (rescale -> device -> standardise) x n_layers.
    The last spectrum is cut into `n_classes` adjacent parts, whose total charges, standardised, are the
    logits up to one trainable factor. Standardisation uses fixed numbers, measured once (`calibrate`).

    Parameters
    ----------
    device : PhysicalSystem
    twin : callable
        Differentiable model of the device.
    calibration : dict
        From `calibrate`.
    n_features, n_classes, n_layers : int
    generator : torch.Generator
        Source of the initial parameters.
    mode : {"pat", "in_silico", "device"}
    """

    def __init__(self, device, twin, calibration, n_features, n_classes, n_layers, generator, mode="pat"):
        super().__init__()
        self.n_features = n_features
        bins = torch.arange(device.output_dim)
        part = bins * n_classes // device.output_dim
        self.register_buffer("parts", torch.nn.functional.one_hot(part, n_classes).float(), persistent=False)
        for name, values in calibration.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        channels = torch.arange(device.input_dim)
        self.register_buffer("wiring", channels * n_features // device.input_dim, persistent=False)
        self.rescale, self.layers = torch.nn.ModuleList(), torch.nn.ModuleList()
        for _ in range(n_layers):
            self.rescale.append(Rescale(device.input_dim, device.input_range, 1.0, 0.3, generator))
            low, high = device.param_range
            theta = low + (high - low) * torch.sigmoid(BRIGHT + torch.randn(device.param_dim, generator=generator))
            layer = PhysicalLayer(device, twin, theta, mode)
            parametrize.register_parametrization(layer, "theta", Within(low, high))
            self.layers.append(layer)
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def set_mode(self, mode):
        """Set the mode of every physical layer and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    def spectra(self, features):
        """Return the list of spectra, one per layer, each of shape (n, output_dim), in the device's unit.

        Parameters
        ----------
        features : torch.Tensor, shape (n, n_features), in [0, 1]

        Raises
        ------
        ValueError
            If the number of features is wrong.
        """
        if features.shape[-1] != self.n_features:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected (n, {self.n_features})")
        signal = (2 * features - 1)[:, self.wiring]
        spectra = []
        for rescale, layer in zip(self.rescale, self.layers, strict=True):
            spectra.append(layer(rescale(signal)))
            signal = (spectra[-1] - self.bin_mean) / self.bin_sd
        return spectra

    def forward(self, features):
        """Return logits, shape (n, n_classes), for features of shape (n, n_features) in [0, 1]."""
        charge = self.spectra(features)[-1] @ self.parts
        return self.factor * (charge - self.part_mean) / self.part_sd


def calibrate(device, n_classes, n, rng):
    """Measure once the constants that standardise the device's output between layers.

    Parameters
    ----------
    device : PhysicalSystem
    n_classes : int
        Number of adjacent parts of the last spectrum.
    n : int
        Number of random controls, each measured once.
    rng : numpy.random.Generator

    Returns
    -------
    dict of ndarray
        ``bin_mean``, ``bin_sd`` (output_dim,) and ``part_mean``, ``part_sd`` (n_classes,).
    """
    x, theta = (1 / (1 + np.exp(-rng.normal(BRIGHT, 1.0, (n, w)))) for w in (device.input_dim, device.param_dim))
    y = device(x, theta)
    part = np.arange(device.output_dim) * n_classes // device.output_dim
    charge = np.stack([y[:, part == c].sum(1) for c in range(n_classes)], 1)
    return {"bin_mean": y.mean(0), "bin_sd": y.std(0), "part_mean": charge.mean(0), "part_sd": charge.std(0)}


def signal_like_controls(device, calibration, n, depth, rng):
    """Draw controls as they occur inside a network: measured spectra, standardised, rescaled at random.

    Parameters
    ----------
    device : PhysicalSystem
        Called on `n` rows for each of the `depth` - 1 passes before the last.
    calibration : dict
        From `calibrate`.
    n, depth : int
        Rows per pass, and number of passes in the chain.
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (n * depth, input_dim), float32
    theta : ndarray, shape (n * depth, param_dim), float32
    """
    def squash(z, allowed):
        return (allowed[0] + (allowed[1] - allowed[0]) / (1 + np.exp(-z))).astype(np.float32)

    xs, thetas = [], []
    signal = rng.uniform(-1.7, 1.7, (n, device.input_dim))
    for step in range(depth):
        if step:
            signal = (device(xs[-1], thetas[-1]) - calibration["bin_mean"]) / calibration["bin_sd"]
        # One broad draw of a_i, b_i per row: wider than a network starts, so that training stays inside.
        scale, offset = rng.normal(0, 1.0, (2, n, device.input_dim))
        xs.append(squash(BRIGHT + scale * signal + offset, device.input_range))
        thetas.append(squash(rng.normal(BRIGHT, 1.5, (n, device.param_dim)), device.param_range))
    return np.concatenate(xs), np.concatenate(thetas)
