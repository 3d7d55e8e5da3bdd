"""A chain of passes through the SHG device (Fig. 2 of the paper): spectra in, spectra out."""

import numpy as np
import torch
from torch.nn.utils import parametrize

from pnn_utils.pat import PhysicalLayer, check_rows
from pnn_utils.systems.base import check_whole

# Logit of the controls a network starts from: 1 means channels about 73 % open. The second harmonic grows with
# the fourth power of the amplitude, so this is 4 times the light, and twice the signal to noise, of half-open ones.
BRIGHTNESS = 1.0


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
    """Element-wise trainable map onto a device's data controls: within(a_i s_i + b_i + c_i f_i).

    Parameters
    ----------
    width : int
    allowed : (float, float)
        Range of the data controls.
    skip : bool
        Have the term c_i f_i, by which the network's input f reaches this layer directly.
    generator : torch.Generator

    Notes
    -----
    a_i starts at +1 or -1 at random: with equal signs all channels would brighten and dim together, the
    device answers that with one common mode, and after a few layers every token gives the same spectrum.
    """

    def __init__(self, width, allowed, skip, generator):
        super().__init__()
        sign = torch.randint(0, 2, (width,), generator=generator) * 2 - 1
        self.scale = torch.nn.Parameter(sign.float())
        self.offset = torch.nn.Parameter(BRIGHTNESS + 0.3 * torch.randn(width, generator=generator))
        self.skip = torch.nn.Parameter(torch.zeros(width)) if skip else None
        self.within = Within(*allowed)

    def forward(self, signal, features):
        z = self.scale * signal + self.offset
        return self.within(z if self.skip is None else z + self.skip * features)


class SpectralNetwork(torch.nn.Module):
    """A chain of passes through the SHG device; the class is the brightest of equal parts of the last spectrum.

    Each feature drives a few neighbouring data channels; then, layer after layer, rescale -> device ->
    standardise. The last spectrum is cut into `n_classes` adjacent parts, whose total charges, standardised,
    are the logits up to one trainable factor.

    Parameters
    ----------
    device : PhysicalSystem
    twin : callable
        Differentiable model of the device.
    n_features, n_classes, n_layers : int
    generator : torch.Generator
        Source of the initial parameters.
    skip : bool
        Send the features to every layer, not only to the first, each through a trainable factor per channel.
    mode : {"pat", "in_silico", "device"}

    Raises
    ------
    TypeError, ValueError
        If a number is not a whole one in its range (no more features than data controls, no more classes than readings), or `mode` is unknown.

    Notes
    -----
    Standardisation uses fixed numbers that `calibrate` measures once, before training. The trainable numbers are
    per layer theta (param_dim), a and b (input_dim each) and, with `skip`, c (input_dim); and the factor.
    """

    def __init__(self, device, twin, n_features, n_classes, n_layers, generator, skip=True, mode="pat"):
        super().__init__()
        check_whole(1, device.input_dim, n_features=n_features)
        check_whole(1, device.output_dim, n_classes=n_classes)
        check_whole(1, n_layers=n_layers)
        self.n_features = n_features
        part = torch.arange(device.output_dim) * n_classes // device.output_dim
        self.register_buffer("parts", torch.nn.functional.one_hot(part, n_classes).float(), persistent=False)
        channels = torch.arange(device.input_dim)
        self.register_buffer("wiring", channels * n_features // device.input_dim, persistent=False)
        for name, shape in (("input", (n_features,)), ("bin", (n_layers, device.output_dim)), ("part", (n_classes,))):
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_sd", torch.ones(shape))
        self.rescale, self.layers = torch.nn.ModuleList(), torch.nn.ModuleList()
        low, high = device.param_range
        for n in range(n_layers):
            self.rescale.append(Rescale(device.input_dim, device.input_range, skip and n > 0, generator))
            start = BRIGHTNESS + torch.randn(device.param_dim, generator=generator)
            layer = PhysicalLayer(device, twin, low + (high - low) * torch.sigmoid(start), mode)
            parametrize.register_parametrization(layer, "theta", Within(low, high))
            self.layers.append(layer)
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def set_mode(self, mode):
        """Set the mode of every physical layer and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    @torch.no_grad()
    def calibrate(self, features):
        """Measure the constants that standardise each layer's spectrum, with the present parameters.

        Parameters
        ----------
        features : torch.Tensor, shape (n, n_features)
            Training inputs; they go through every layer once, so the device makes n passes per layer.

        Notes
        -----
        Afterwards each bin of each layer has mean 0 and variance 1 over these inputs. Without it the differences between
        tokens shrink from layer to layer until the noise covers them. The idea is layer-sequential
        unit-variance initialisation (Mishkin and Matas, ICLR 2016).
        """
        def measure(name, values, index=()):
            getattr(self, f"{name}_mean")[index] = values.mean(0)
            getattr(self, f"{name}_sd")[index] = values.std(0).clamp_min(1e-6)

        measure("input", features)
        spectrum = None
        for n, layer in enumerate(self.layers):
            spectrum = layer(self.controls(n, spectrum, features))
            measure("bin", spectrum, n)
        measure("part", spectrum @ self.parts)

    def controls(self, n, spectrum, features):
        """Return the data controls of layer `n`, shape (rows, input_dim), from the spectrum before it."""
        wired = ((features - self.input_mean) / self.input_sd)[:, self.wiring]
        signal = wired if n == 0 else (spectrum - self.bin_mean[n - 1]) / self.bin_sd[n - 1]
        return self.rescale[n](signal, wired)

    def spectra(self, features):
        """Return the list of spectra, one per layer, each of shape (rows, output_dim), in the device's unit.

        Parameters
        ----------
        features : torch.Tensor, shape (rows, n_features)

        Raises
        ------
        TypeError, ValueError
            If the features are not of the network's dtype, their number is wrong, or they are not finite, so that the device refuses its controls.
        """
        check_rows("features", features, self.n_features, self.factor.dtype)
        spectra = []
        for n, layer in enumerate(self.layers):
            spectra.append(layer(self.controls(n, spectra[-1] if n else None, features)))
        return spectra

    def forward(self, features):
        """Return logits, shape (rows, n_classes), for features of shape (rows, n_features).

        Raises
        ------
        TypeError, ValueError
            See `spectra`.
        """
        charge = self.spectra(features)[-1] @ self.parts
        return self.factor * (charge - self.part_mean) / self.part_sd


def signal_like_controls(device, n, depth, rng):
    """Draw controls as they occur inside a network: measured spectra, standardised, rescaled at random.

    Parameters
    ----------
    device : PhysicalSystem
        Called on `n` rows for each of the `depth` - 1 passes before the last.
    n, depth : int
        Rows per pass, and number of passes in the chain.
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (n * depth, input_dim), float32
    theta : ndarray, shape (n * depth, param_dim), float32

    Raises
    ------
    TypeError, ValueError
        If `depth` is not a whole number of at least 1, or `n` of at least 2, without which no spectrum can be standardised.
    """
    check_whole(1, depth=depth)
    check_whole(1 if depth == 1 else 2, n=n)

    def squash(z, allowed):
        return (allowed[0] + (allowed[1] - allowed[0]) / (1 + np.exp(-z))).astype(np.float32)

    xs, thetas = [], []
    signal = rng.uniform(-1.7, 1.7, (n, device.input_dim))
    for step in range(depth):
        if step:
            y = device(xs[-1], thetas[-1])
            signal = (y - y.mean(0)) / y.std(0)
        # A broad draw of a_i, b_i and theta per row: wider than a network starts, so that training stays inside.
        scale, offset = rng.normal(0, 1, (2, n, device.input_dim))
        xs.append(squash(scale * signal + offset + BRIGHTNESS, device.input_range))
        thetas.append(squash(rng.normal(BRIGHTNESS, 1.5, (n, device.param_dim)), device.param_range))
    return np.concatenate(xs), np.concatenate(thetas)
