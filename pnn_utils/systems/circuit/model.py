"""A model of the circuit with its physics in it: two equations with constants fitted to readings.

    L i' = u - R i - v,     v' = i - G v - F(v)
    F(v) = g_1 ramp(v - v_1; s_1) - g_2 ramp(-v - v_2; s_2)

ramp(z; s) = (z + sqrt(z^2 + s^2)) / 2 is a corner rounded over a width s. Time is counted in
samples and the capacitance is 1: only voltages are measured, so the impedance level is free. In
every substep of length h the linear part (i and v, the drive u held) is propagated exactly, then
the load pulls by a linearly implicit step, v <- v - h F / (1 + h F' / 2). Forward and backward
passes are written out and compiled: the backward pass costs as much as the forward pass and needs
no graph.
"""

import numpy as np
import scipy.linalg
import scipy.optimize
import torch

from pnn_utils.systems.compiled import compiled

LANES = 16  # waveforms that the inner loop advances together
NAMES = ("inductance", "resistance", "leak", "g1", "v1", "s1", "g2", "v2", "s2",
         "gain_in", "offset_in", "gain_out", "offset_out")


class Ringing(torch.nn.Module):
    """A resonant circuit loaded by a nonlinear conductance, driven and read by samples, from rest.

    The dimensions are the device's: as many samples out as in. `substeps` are steps per sample.
    """

    def __init__(self, input_dim, param_dim, output_dim, substeps=4):
        super().__init__()
        if input_dim != output_dim or param_dim:
            raise ValueError("expected as many samples out as in, and no parameter controls")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim,
                         "output_dim": output_dim, "substeps": substeps}
        self.register_buffer("constants", torch.zeros(len(NAMES), dtype=torch.float64))

    def forward(self, x, theta):
        """Return the waveform, shape (n, samples), for drives (n, samples); theta is empty."""
        return _Ringing.apply(x, self.constants, self.settings["substeps"])


def fit_ringing(device, x, theta, y, start, substeps=4, rows=1000):
    """Return a `Ringing` whose constants nonlinear least squares (scipy's) fitted to pairs.

    device : only its dimensions are read
    x, theta, y : measured pairs, shapes (n, samples), (n, 0), (n, samples)
    start : dict, a first guess of every constant in `NAMES`, for instance from the values printed
        on the parts; time in samples, capacitance 1
    rows : pairs used, the first ones: 13 constants need few
    """
    twin = Ringing(device.input_dim, device.param_dim, device.output_dim, substeps)
    x, y = np.asarray(x[:rows], np.float64), np.asarray(y[:rows], np.float64)
    first = np.array([start[name] for name in NAMES], dtype=float)
    scale = np.maximum(np.abs(first), 0.05)

    def residuals(scaled):
        return ((_predict(x, scaled * scale, substeps)[0] - y) / y.std()).ravel()

    found = scipy.optimize.least_squares(residuals, first / scale, max_nfev=100)
    twin.constants.copy_(torch.from_numpy(found.x * scale))
    return twin


class _Ringing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, constants, substeps):
        ctx.constants, ctx.substeps = constants.numpy(), substeps
        y, ctx.voltages = _predict(x.detach().numpy(), ctx.constants, substeps)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx, gradient):
        kind = ctx.voltages.dtype
        gains = ctx.constants[NAMES.index("gain_in")] * ctx.constants[NAMES.index("gain_out")]
        padded = _whole_blocks(gradient.numpy() * kind.type(gains))
        wanted = np.empty_like(padded)
        _pull_back(padded, *_substep(ctx.constants, ctx.substeps, kind), ctx.voltages, wanted)
        return torch.from_numpy(wanted[:len(gradient)]), None, None


def _predict(drive, constants, substeps):
    """Return the waveforms, in the drive's precision, and voltages for the backward pass."""
    gain_in, offset_in, gain_out, offset_out = constants[9:].astype(drive.dtype)
    padded = _whole_blocks(gain_in * drive + offset_in)
    rows, samples = padded.shape
    voltages = np.empty((rows // LANES, samples, substeps, LANES), drive.dtype)
    read = np.empty_like(padded)
    _run(padded, *_substep(constants, substeps, drive.dtype), voltages, read)
    return gain_out * read[:len(drive)] + offset_out, voltages


def _whole_blocks(values):
    """Add rows of zeros up to a multiple of LANES."""
    return np.pad(np.ascontiguousarray(values), ((0, -len(values) % LANES), (0, 0)))


def _substep(constants, substeps, kind):
    """Return the exact linear step of i and v, and the load's constants with 1/2 and 1."""
    inductance, resistance, leak, g1, v1, s1, g2, v2, s2 = constants[:9]
    step = scipy.linalg.expm(np.array([
        [-resistance / inductance, -1 / inductance, 1 / inductance],
        [1.0, -leak, 0.0], [0.0, 0.0, 0.0]]) / substeps)
    load = np.array([g1 / substeps, v1, s1**2, g2 / substeps, v2, s2**2, 0.5, 1.0])
    return tuple(step[:2].ravel().astype(kind)), tuple(load.astype(kind))


@compiled(inline="always", fastmath=True)
def _pull(v, load):
    """Return the load's pull h F on the voltage, and its first two derivatives."""
    k1, v1, s1, k2, v2, s2, half, one = load
    z, y = v - v1, -v - v2
    p, q = np.sqrt(z * z + s1), np.sqrt(y * y + s2)
    pull = half * (k1 * (z + p) - k2 * (y + q))
    slope = half * (k1 * (one + z / p) + k2 * (one + y / q))
    return pull, slope, half * (k1 * s1 / (p * p * p) - k2 * s2 / (q * q * q))


@compiled(fastmath=True)
def _run(drive, linear, load, voltages, read):
    """Fill `voltages`, before each pull of the load, and `read`, at the end of each sample."""
    blocks, samples, substeps, _ = voltages.shape
    a, b, e, f, m, n = linear
    half, one = load[6:]
    current, voltage = np.empty(LANES, drive.dtype), np.empty(LANES, drive.dtype)
    for block in range(blocks):
        first = block * LANES
        current[:], voltage[:] = 0, 0
        for t in range(samples):
            for step in range(substeps):
                for lane in range(LANES):
                    u, i, v = drive[first + lane, t], current[lane], voltage[lane]
                    current[lane] = a * i + b * v + e * u
                    v = f * i + m * v + n * u
                    voltages[block, t, step, lane] = v
                    pull, slope, _ = _pull(v, load)
                    voltage[lane] = v - pull / (one + half * slope)
            for lane in range(LANES):
                read[first + lane, t] = voltage[lane]


@compiled(fastmath=True)
def _pull_back(gradient, linear, load, voltages, wanted):
    """Fill `wanted`, the gradient at the drive, from that at the readings: `_run` transposed."""
    blocks, samples, substeps, _ = voltages.shape
    a, b, e, f, m, n = linear
    half, one = load[6:]
    kind = gradient.dtype
    current, voltage, total = np.empty(LANES, kind), np.empty(LANES, kind), np.empty(LANES, kind)
    for block in range(blocks):
        first = block * LANES
        current[:], voltage[:] = 0, 0
        for t in range(samples - 1, -1, -1):
            for lane in range(LANES):
                total[lane] = 0
                voltage[lane] += gradient[first + lane, t]
            for step in range(substeps - 1, -1, -1):
                for lane in range(LANES):
                    pull, slope, bend = _pull(voltages[block, t, step, lane], load)
                    damp = one / (one + half * slope)
                    down = voltage[lane] * (one - slope * damp + half * pull * bend * damp * damp)
                    up = current[lane]
                    total[lane] += e * up + n * down
                    current[lane] = a * up + f * down
                    voltage[lane] = b * up + m * down
            for lane in range(LANES):
                wanted[first + lane, t] = total[lane]
