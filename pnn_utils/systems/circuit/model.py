"""A model of the circuit with its physics in it: two equations with constants fitted to readings.

    L i' = u - R i - v,     v' = i - I(v - v_1) + g ramp(-v - v_2; w)

    I(z) = k / 2 (z - I / g)^2 for z > 0, else 0

I is the current through the load resistor, of conductance g, and the transistor in saturation
(level 1) in series. The ramp stands for the same resistor with the body diode: 0 below -w, its
argument above w, and a parabola between them. Time is counted in samples and the capacitance is 1:
only voltages are measured, so the impedance level is free, and of the converters' gains and
offsets the readings tell one product and one offset. A substep of length h is a half step of the
linear part (i and v, the drive u held), exact, then the load's pull by a linearly implicit step,
v <- v - h F / (1 + h F' / 2), then the other half: of second order. Forward and backward passes
are written out and compiled: the backward pass costs as much as the forward pass and needs no
graph.
"""

import numpy as np
import torch
from scipy import linalg, optimize

from pnn_utils.systems.compiled import compiled

LANES = 16  # waveforms that the inner loop advances together
NAMES = ("inductance", "resistance", "conductance", "transconductance", "threshold",
         "diode_voltage", "diode_width", "gain", "offset")


class Ringing(torch.nn.Module):
    """A resonant circuit loaded by a nonlinear conductance, driven and read by samples, from rest.

    The dimensions are the device's: as many samples out as in. `substeps` are steps per sample.
    """

    def __init__(self, input_dim, param_dim, output_dim, substeps=2):
        super().__init__()
        if input_dim != output_dim or param_dim:
            raise ValueError("expected as many samples out as in, and no parameter controls")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim,
                         "output_dim": output_dim, "substeps": substeps}
        self.register_buffer("constants", torch.zeros(len(NAMES), dtype=torch.float64))

    def forward(self, x, theta):
        """Return the waveform, shape (n, samples), for drives (n, samples); theta is empty."""
        return _Ringing.apply(x, self.constants, self.settings["substeps"])


def fit_ringing(device, x, theta, y, start, substeps=2, rows=1000):
    """Return a `Ringing` whose constants nonlinear least squares (scipy's) fitted to pairs.

    No constant but the offset may become negative.

    device : only its dimensions are read
    x, theta, y : measured pairs, shapes (n, samples), (n, 0), (n, samples)
    start : dict, a first guess of every constant in `NAMES`, for instance from the values printed
        on the parts; time in samples, capacitance 1
    rows : pairs used, the first ones: nine constants need few
    """
    twin = Ringing(device.input_dim, device.param_dim, device.output_dim, substeps)
    x, y = np.asarray(x[:rows], np.float64), np.asarray(y[:rows], np.float64)
    first = np.array([start[name] for name in NAMES], dtype=float)

    def residuals(constants):
        return ((_predict(x, constants, substeps)[0] - y) / y.std()).ravel()

    found = optimize.least_squares(
        residuals, first, x_scale=np.maximum(np.abs(first), 0.05), max_nfev=100,
        bounds=(np.where(np.array(NAMES) == "offset", -np.inf, 0.0), np.inf))
    twin.constants.copy_(torch.from_numpy(found.x))
    return twin


class _Ringing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, constants, substeps):
        ctx.constants, ctx.substeps = constants.numpy(), substeps
        y, ctx.voltages = _predict(x.detach().numpy(), ctx.constants, substeps)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx, gradient):
        padded = _whole_blocks(gradient.numpy())
        wanted, gain = np.empty_like(padded), float(ctx.constants[NAMES.index("gain")])
        step = _substep(ctx.constants, ctx.substeps, padded.dtype)
        _pull_back(padded, *step, ctx.voltages, wanted)
        return torch.from_numpy(gain * wanted[:len(gradient)]), None, None


def _predict(drive, constants, substeps):
    """Return the waveforms, in the drive's precision, and voltages for the backward pass."""
    gain, offset = constants[7:].astype(drive.dtype)
    padded = _whole_blocks(drive)
    rows, samples = padded.shape
    voltages = np.empty((rows // LANES, samples, substeps, LANES), drive.dtype)
    read = np.empty_like(padded)
    _run(padded, *_substep(constants, substeps, drive.dtype), voltages, read)
    return gain * read[:len(drive)] + offset, voltages


def _whole_blocks(values):
    """Add rows of zeros up to a multiple of LANES."""
    return np.pad(np.ascontiguousarray(values), ((0, -len(values) % LANES), (0, 0)))


def _substep(constants, substeps, kind):
    """Return the exact half step of i and v, and the load's constants with 0, 1/2 and 1."""
    inductance, resistance, g, k, threshold, voltage, width = constants[:7]
    step = linalg.expm(np.array([
        [-resistance / inductance, -1 / inductance, 1 / inductance],
        [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) / (2 * substeps))
    load = np.array([k / substeps, threshold, 2 * k / g, g / substeps, voltage, width,
                     0.5 / width, 0.0, 0.5, 1.0])
    return tuple(step[:2].ravel().astype(kind)), tuple(load.astype(kind))


@compiled(inline="always", fastmath=True)
def _half(i, v, u, linear):
    """Advance current and voltage by half a substep of the linear part."""
    a, b, e, f, m, n = linear
    return a * i + b * v + e * u, f * i + m * v + n * u


@compiled(inline="always", fastmath=True)
def _half_back(i, v, u, linear):
    """Take gradients at current and voltage back by half a substep; add to that at the drive."""
    a, b, e, f, m, n = linear
    return a * i + f * v, b * i + m * v, u + e * i + n * v


@compiled(inline="always", fastmath=True)
def _pull(v, load):
    """Return the load's pull h F on the voltage, and its first two derivatives."""
    k, threshold, series, g, voltage, width, per_width, zero, half, one = load
    z, y = max(v - threshold, zero), -v - voltage
    root = np.sqrt(one + series * z)
    left = (z + z) / (one + root)  # of z for the transistor, after the resistor
    share = min(max((y + width) * per_width, zero), one)  # the slope of the ramp
    pull = half * k * left * left - g * (width * share * share + max(y - width, zero))
    of_channel = k / (root * root * root) if z > zero else zero
    of_diode = g * per_width if abs(y) < width else zero
    return pull, k * left / root + g * share, of_channel - of_diode


@compiled(fastmath=True)
def _run(drive, linear, load, voltages, read):
    """Fill `voltages`, before each pull of the load, and `read`, at the end of each sample."""
    blocks, samples, substeps, _ = voltages.shape
    half, one = load[8:]
    for block in range(blocks):
        rows = slice(block * LANES, (block + 1) * LANES)
        current, voltage, held = np.zeros((3, LANES), drive.dtype)
        for t in range(samples):
            held[:] = drive[rows, t]  # side by side, or lanes do not run together
            for step in range(substeps):
                for lane in range(LANES):
                    i, v = _half(current[lane], voltage[lane], held[lane], linear)
                    voltages[block, t, step, lane] = v
                    pull, slope, _ = _pull(v, load)
                    v -= pull / (one + half * slope)
                    current[lane], voltage[lane] = _half(i, v, held[lane], linear)
            read[rows, t] = voltage


@compiled(fastmath=True)
def _pull_back(gradient, linear, load, voltages, wanted):
    """Fill `wanted`, the gradient at the drive, from that at the readings: `_run` transposed."""
    blocks, samples, substeps, _ = voltages.shape
    half, one = load[8:]
    for block in range(blocks):
        rows = slice(block * LANES, (block + 1) * LANES)
        current, voltage, total = np.zeros((3, LANES), gradient.dtype)
        for t in range(samples - 1, -1, -1):
            total[:] = 0
            voltage += gradient[rows, t]
            for step in range(substeps - 1, -1, -1):
                for lane in range(LANES):
                    i, v, u = _half_back(current[lane], voltage[lane], total[lane], linear)
                    pull, slope, bend = _pull(voltages[block, t, step, lane], load)
                    damp = one / (one + half * slope)
                    v *= one - slope * damp + half * pull * bend * damp * damp
                    current[lane], voltage[lane], total[lane] = _half_back(i, v, u, linear)
            wanted[rows, t] = total
