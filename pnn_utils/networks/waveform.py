"""A chain of passes through a device that answers a waveform with a waveform (Fig. 4a-h of the paper)."""

import numpy as np
import torch

from pnn_utils.pat import PhysicalLayer, check_rows
from pnn_utils.systems.base import check_whole

SPREAD = 1 / 3  # of a drive at the start, in half ranges: three standard deviations fill the converter's range


class Clamp(torch.nn.Module):
    """Bring a signal of unit range onto a device's data controls; what does not fit is cut off, as a converter would.

    Parameters
    ----------
    low, high : float
        Range of the controls; -1 is sent to `low` and 1 to `high`.
    """

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, z):
        return self.low + (self.high - self.low) * (z.clamp(-1, 1) + 1) / 2


class WaveformNetwork(torch.nn.Module):
    """Element-wise rescaling, pass, and again; averages over equal time windows of the last waveform are the logits.

    Layer n sends clamp(a_i s_i + b_i + c_i f_i) to the device, where s is the input or the waveform measured before, standardised
    by one mean and one standard deviation, and f the input. Trainable are a, b and (with `skip`) c, and one factor on the logits.

    Parameters
    ----------
    device : PhysicalSystem
        As many samples out as in.
    twin : callable
        Differentiable model of the device.
    n_classes, n_layers : int
    generator : torch.Generator
        Source of the initial a and b.
    readout : {"mean", "power"}
        Average the waveform or its square in each window.
    shuffle : bool
        Send the samples of s to each layer in a random order of its own, drawn once: wiring, not arithmetic.
    skip : bool
        Have the term c_i f_i after the first layer, by which the input reaches every layer directly.
    mode : {"pat", "in_silico", "device"}

    Raises
    ------
    TypeError
        If a number is none.
    ValueError
        If the readout or the mode is unknown, there are more classes than samples, or no layers.
    """

    def __init__(self, device, twin, n_classes, n_layers, generator, readout="mean", shuffle=False, skip=False, mode="pat"):
        super().__init__()
        if readout not in ("mean", "power"):
            raise ValueError(f"readout is {readout!r}; expected 'mean' or 'power'")
        check_whole(1, device.input_dim, n_classes=n_classes)
        check_whole(1, n_layers=n_layers)
        self.readout = readout
        samples = device.input_dim
        window = torch.nn.functional.one_hot(torch.arange(samples) * n_classes // samples, n_classes).float()
        self.register_buffer("windows", window / window.sum(0), persistent=False)
        for name, shape in (("signal_mean", n_layers), ("signal_sd", n_layers), ("logit_mean", n_classes), ("logit_sd", n_classes)):
            self.register_buffer(name, torch.ones(shape) if name.endswith("sd") else torch.zeros(shape))
        self.scale = torch.nn.Parameter(SPREAD * torch.randn(n_layers, samples, generator=generator))
        self.offset = torch.nn.Parameter(0.3 * SPREAD * torch.randn(n_layers, samples, generator=generator))
        self.factor = torch.nn.Parameter(torch.tensor(1.0))
        plain = torch.arange(samples)
        orders = [torch.randperm(samples, generator=generator) if shuffle else plain for _ in range(n_layers)]
        self.register_buffer("order", torch.stack(orders), persistent=shuffle)
        self.skip = torch.nn.Parameter(torch.zeros(n_layers - 1, samples)) if skip else None
        self.clamp = Clamp(*device.input_range)
        self.layers = torch.nn.ModuleList(PhysicalLayer(device, twin, torch.zeros(device.param_dim), mode) for _ in range(n_layers))

    def set_mode(self, mode):
        """Set the mode of every physical layer and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    @torch.no_grad()
    def calibrate(self, images):
        """Measure the constants that standardise each layer's signal and the logits, with the present parameters.

        Parameters
        ----------
        images : torch.Tensor, shape (n, samples)
            Training inputs; the device makes n passes per layer.
        """
        waveform = images
        for n, layer in enumerate(self.layers):
            self.signal_mean[n], self.signal_sd[n] = waveform.mean(), waveform.std()
            waveform = layer(self.drive(n, waveform, images))
        averages = self.averages(waveform)
        self.logit_mean.copy_(averages.mean(0))
        self.logit_sd.copy_(averages.std(0).clamp_min(1e-12))

    def drive(self, n, signal, images):
        """Return the data controls of layer `n`, shape (rows, samples), from the signal before it and the network's input."""
        standard = ((signal - self.signal_mean[n]) / self.signal_sd[n])[:, self.order[n]]
        z = self.scale[n] * standard + self.offset[n]
        if n and self.skip is not None:
            z = z + self.skip[n - 1] * (images - self.signal_mean[0]) / self.signal_sd[0]
        return self.clamp(z)

    def waveforms(self, images):
        """Return the list of measured waveforms, one per layer, each of shape (rows, samples), in the device's unit.

        Raises
        ------
        TypeError, ValueError
            If the images are not of the network's dtype, their shape is wrong, or they are not finite, so that the device refuses its controls.
        """
        check_rows("images", images, self.scale.shape[1], self.scale.dtype)
        measured = []
        for n, layer in enumerate(self.layers):
            measured.append(layer(self.drive(n, measured[-1] if n else images, images)))
        return measured

    def averages(self, waveform):
        """Return the readout of each window, shape (rows, n_classes)."""
        return (waveform if self.readout == "mean" else waveform**2) @ self.windows

    def forward(self, images):
        """Return logits, shape (rows, n_classes), for images of shape (rows, samples).

        Raises
        ------
        TypeError, ValueError
            See `waveforms`.
        """
        return self.factor * (self.averages(self.waveforms(images)[-1]) - self.logit_mean) / self.logit_sd


def waveform_like_controls(device, images, depth, rng):
    """Draw drives as they occur inside a network: images, then measured waveforms, rescaled at random.

    Parameters
    ----------
    device : PhysicalSystem
        Called on len(images) rows for each of the `depth` - 1 passes before the last.
    images : ndarray, shape (n, samples)
    depth : int
        Passes in the chain.
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (n * depth, samples), float32
    theta : ndarray, shape (n * depth, 0), float32

    Raises
    ------
    TypeError
        If the images are not of numbers, or `depth` is not a whole number.
    ValueError
        If the images' shape is wrong, they are not finite or all the same, or `depth` is below 1.
    """
    check_whole(1, depth=depth)
    if images.dtype.kind not in "fiu":
        raise TypeError(f"images have dtype {images.dtype}; expected numbers")
    if images.ndim != 2 or images.shape[1] != device.input_dim or not 0 < np.std(images, dtype=np.float64) < np.inf:
        raise ValueError(f"images have shape {images.shape}; expected (n, {device.input_dim}), finite and not all the same")
    clamp, drives, signal = Clamp(*device.input_range), [], images
    theta = np.zeros((len(images), device.param_dim), np.float32)
    for n in range(depth):
        if n:
            signal = device(drives[-1], theta)
        # Rows differ in how hard and how lopsided they drive, more widely than a network does when it starts.
        hardness, bias = rng.uniform(0.3, 3, (len(images), 1)), rng.normal(0, 1, (len(images), 1))
        scale, offset = rng.normal(0, 1, (2, *signal.shape))
        z = SPREAD * (hardness * scale * (signal - signal.mean()) / signal.std() + 0.5 * offset + bias)
        drives.append(clamp(torch.tensor(z, dtype=torch.float32)).numpy())
    return np.concatenate(drives), np.tile(theta, (depth, 1))
