"""Pass after pass through one device: light, sound or voltage."""

import numpy as np
import torch

from pnn_utils import parts
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.base import check_choice, check_whole

# Where the controls of light start, before they are squashed: channels about 73 % open. The second
# harmonic grows with the fourth power of the amplitude: 4 times the light of half-open channels.
BRIGHTNESS = 1.0
# Sd of a drive at the start, in half ranges: three of them fill the converter's range.
LOUDNESS = 1 / 3


class Network(torch.nn.Module):
    """What every network has: `layers`, all in one mode.

    Where readings stand on a large offset, let ``network.double()`` send and read float64.
    """

    def set_mode(self, mode):
        """Set the mode of every physical layer and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    @torch.no_grad()
    def calibrate(self, x):
        """Measure all constants that standardise, from one pass a layer and training input.

        Without it differences shrink from layer to layer until noise covers them (layer-sequential
        unit-variance initialisation: Mishkin and Matas, ICLR 2016).
        """
        constants = [part for part in self.modules() if isinstance(part, parts.Standardise)]
        with parts.changed(constants, "live", True), parts.changed(constants, "training", True):
            self(x)


class Chain(Network):
    """Pass after pass through one device; the last reading, pooled, gives the logits.

        u_n = squash(a_n s_n + b_n + c_n f),    y_n = device(u_n, theta_n)

    s_n is the standardised y_(n-1), and f = s_0 the standardised input. Trainable are a, b, theta,
    with `skip` c, by which the input reaches later layers directly, and a factor on the logits.

    scale, offset, theta : one row a layer, where a, b and theta start, theta before a sigmoid
        squashes it into the device's range
    squash : the class `Within` or `Clamp`
    standardise : a `Standardise` a layer, of the input and of each reading but the last
    readout : a `Pool`
    order : a tensor a layer, which element of s_n, and of f with it, goes to each control: wiring,
        not arithmetic
    """

    def __init__(self, device, model, scale, offset, theta, squash, standardise, readout, *,
                 order=None, skip=False, mode="pat"):
        super().__init__()
        if len(scale) > 1 and device.input_dim != device.output_dim:
            raise ValueError("a chain needs as many readings as data controls; the device has "
                             f"{device.output_dim} and {device.input_dim}")
        self.scale, self.offset = torch.nn.Parameter(scale), torch.nn.Parameter(offset)
        self.skip = torch.nn.Parameter(torch.zeros_like(scale[1:])) if skip else None
        self.register_buffer("order", torch.stack(order) if order else None)
        self.squash, within = squash(*device.input_range), parts.Within(*device.param_range)
        self.standardise = torch.nn.ModuleList(standardise)
        self.readout, self.layers = readout, torch.nn.ModuleList()
        for start in theta:
            layer = PhysicalLayer(device, model, within(start), mode)
            torch.nn.utils.parametrize.register_parametrization(layer, "theta", within)
            self.layers.append(layer)

    def controls(self, n, signal, x):
        """Return u_n, (rows, input_dim), from y_(n-1), or x where n is 0, and the input x."""
        order = slice(None) if self.order is None else self.order[n]
        z = self.scale[n] * self.standardise[n](signal)[:, order] + self.offset[n]
        if n and self.skip is not None:
            z = z + self.standardise[0](x, self.skip[n - 1])[:, order]
        return self.squash(z)

    def states(self, x):
        """Return the list of y_n, shape (rows, output_dim) each, in the device's unit."""
        states = [x]
        for n, layer in enumerate(self.layers):
            states.append(layer(self.controls(n, states[-1], x)))
        return states[1:]

    def forward(self, x):
        """Return logits, shape (rows, n_classes), for inputs of shape (rows, features)."""
        return self.readout(self.states(x)[-1])


class Wired(parts.Standardise):
    """Standardise features, and send each to a few neighbouring channels."""

    def __init__(self, n_features, n_channels):
        super().__init__(n_features)
        self.wiring = torch.arange(n_channels) * n_features // n_channels

    def forward(self, features, factor=1):
        return factor * super().forward(features)[:, self.wiring]


def spectral_chain(device, model, n_features, n_classes, n_layers, generator, *, skip=True,
                   blocks=False, live=False, mode="pat"):
    """Build a `Chain` for light (Fig. 2 of the paper): the class is a spectrum's brightest part.

    n_features, n_classes : at most the device's data controls, and its readings
    blocks : a starts in two blocks of one sign each, cut somewhere in the middle half, instead of
        random signs, which cancel where neighbouring channels mix, layer by layer
    live : constants of the training batch at each step; see `Standardise`
    """
    check_whole(1, device.input_dim, n_features=n_features)
    check_whole(1, device.output_dim, n_classes=n_classes)
    check_whole(1, n_layers=n_layers)
    width, scale, offset, theta = device.input_dim, [], [], []
    for _ in range(n_layers):
        # With equal signs all channels would brighten and dim together: the device answers that
        # with one common mode, and after a few layers every token gives the same spectrum.
        sign = torch.randint(0, 2, (1 if blocks else width,), generator=generator) * 2.0 - 1
        if blocks:
            cut = torch.randint(width // 4, width - width // 4 + 1, (1,), generator=generator)
            sign = torch.where(torch.arange(width) < cut, sign, -sign)
        scale.append(sign)
        offset.append(BRIGHTNESS + 0.3 * torch.randn(width, generator=generator))
        theta.append(BRIGHTNESS + torch.randn(device.param_dim, generator=generator))
    readings = (parts.Standardise(device.output_dim, live) for _ in scale[1:])
    pool = parts.Pool(parts.windows(device.output_dim, n_classes), live=live)
    return Chain(device, model, *map(torch.stack, (scale, offset, theta)), parts.Within,
                 [Wired(n_features, width), *readings], pool, skip=skip, mode=mode)


def waveform_chain(device, model, n_classes, n_layers, generator, *, readout="mean",
                   shuffle=False, skip=False, mode="pat"):
    """Build a `Chain` for sound and voltage (Fig. 4a-h): windows of time are the classes.

    device : as many samples out as in, at least one a class
    readout : "mean" or "power": average the waveform or its square in each window
    shuffle : send the samples to each layer in a random order of its own, drawn once
    """
    check_choice("readout", readout, "mean", "power")
    samples = device.input_dim
    check_whole(1, device.output_dim, n_classes=n_classes)
    check_whole(1, n_layers=n_layers)
    scale = LOUDNESS * torch.randn(n_layers, samples, generator=generator)
    offset = 0.3 * LOUDNESS * torch.randn(n_layers, samples, generator=generator)
    order = [torch.randperm(samples, generator=generator) for _ in scale] if shuffle else None
    window = parts.windows(device.output_dim, n_classes)
    pool = parts.Pool(window / window.sum(0), squared=readout == "power")
    return Chain(device, model, scale, offset, torch.zeros(n_layers, device.param_dim),
                 parts.Clamp, [parts.Standardise() for _ in scale], pool, order=order, skip=skip,
                 mode=mode)


def signal_like_controls(device, n, depth, rng, blocks=False):
    """Draw controls as they occur in a `spectral_chain`: measured spectra, rescaled at random.

    The device makes `n` passes for each layer of a chain of `depth` but the last. Returns x and
    theta, shapes (n * depth, input_dim) and (n * depth, param_dim); see `sent`. `blocks`: of a
    chain that starts so.
    """
    width, passes = device.input_dim, []
    signal = rng.uniform(-1.7, 1.7, (n, width))
    for layer in range(depth):
        if layer:
            y = parts.precise(device(*passes[-1]))
            signal = (y - y.mean(0)) / parts.spread(y)
        # A broad draw a row: wider than a network starts, so that training stays inside.
        scale, offset = rng.normal(0, 1, (2, n, width))
        if blocks:
            sign = rng.choice([-1.0, 1.0], (n, 1))
            cut = rng.integers(width // 4, width - width // 4 + 1, (n, 1))
            signs = np.where(np.arange(width) < cut, sign, -sign)
            scale = 0.7 * scale + signs * rng.uniform(0.3, 2, (n, 1))
        theta = rng.normal(BRIGHTNESS, 1.5, (n, device.param_dim))
        x = parts.squashed(scale * signal + offset + BRIGHTNESS, device.input_range)
        passes.append((x, parts.squashed(theta, device.param_range)))
    return tuple(map(np.concatenate, zip(*passes, strict=True)))


def waveform_like_controls(device, images, depth, rng):
    """Draw drives as they occur in a `waveform_chain`: images and waveforms, rescaled at random.

    The images have shape (n, samples); passes and what is returned: see `signal_like_controls`.
    """
    clamp, rows, passes = parts.Clamp(*device.input_range), (len(images), 1), []
    theta = parts.squashed(np.zeros((len(images), device.param_dim)), device.param_range)
    for layer in range(depth):
        signal = parts.precise(device(*passes[-1]) if layer else images)
        # Rows differ in how hard and how lopsided they drive, more widely than at the start.
        hardness, bias = rng.uniform(0.3, 3, rows), rng.normal(0, 1, rows)
        scale, offset = rng.normal(0, 1, (2, *signal.shape))
        scaled = hardness * scale * (signal - signal.mean()) / parts.spread(signal, None)
        drive = LOUDNESS * (scaled + 0.5 * offset + bias)
        passes.append((clamp(torch.tensor(drive, dtype=torch.float32)).numpy(), theta))
    return tuple(map(np.concatenate, zip(*passes, strict=True)))
