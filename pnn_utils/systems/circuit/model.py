"""The digital model of a ringing circuit with a nonlinear load: its own two equations, with constants fitted to measurements.

    L i' = u - R i - v,     v' = i - G v - F(v),     F(v) = g_1 ramp(v - v_1; s_1) - g_2 ramp(-v - v_2; s_2)

ramp(z; s) = (z + sqrt(z^2 + s^2)) / 2 is a corner rounded over a width s. Time is counted in samples and the capacitance is 1: only
voltages are measured, so the impedance level is free. In every substep of length h the linear part (i and v, the drive u held) is
propagated exactly, then the load pulls by a linearly implicit step, v <- v - h F / (1 + h F' / 2). Forward and backward passes are
written out and compiled: the backward pass costs as much as the forward pass and needs no graph.
"""

import numba
import numpy as np
import scipy.linalg
import scipy.optimize
import torch

from pnn_utils.pat import check_rows
from pnn_utils.systems.base import check_number, check_whole

LANES = 16  # waveforms that the inner loop advances together
NAMES = ("inductance", "resistance", "leak", "g1", "v1", "s1", "g2", "v2", "s2", "gain_in", "offset_in", "gain_out", "offset_out")


class Ringing(torch.nn.Module):
    """A resonant circuit loaded by a nonlinear conductance, driven and read sample by sample, from rest.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        As the device's; ``input_dim == output_dim`` and ``param_dim == 0``.
    substeps : int
        Steps per sample, at least 1.

    Raises
    ------
    TypeError
        If a number is not a whole one.
    ValueError
        If the dimensions are not those of a waveform in and a waveform out, or there are no substeps.
    """

    def __init__(self, input_dim, param_dim, output_dim, substeps=4):
        super().__init__()
        check_whole(0, input_dim=input_dim, param_dim=param_dim, output_dim=output_dim, substeps=substeps)
        if not input_dim or input_dim != output_dim or param_dim or substeps < 1:
            raise ValueError(f"dimensions are {input_dim}, {param_dim}, {output_dim}, substeps {substeps}; expected as many samples out as in, "
                             "no parameter controls, at least 1 substep")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim, "substeps": substeps}
        self.substeps = substeps
        self.register_buffer("constants", torch.zeros(len(NAMES), dtype=torch.float64))

    def forward(self, x, theta):
        """Return the predicted waveform, shape (n, samples), for drives of shape (n, samples); theta has no columns.

        Raises
        ------
        TypeError, ValueError
            If the drives are neither float32 nor float64, or their shape is wrong.
        """
        check_rows("x", x, self.settings["input_dim"], torch.float64 if x.dtype == torch.float64 else torch.float32)
        return _Ringing.apply(x, self.constants, self.substeps)


def fit_ringing(device, x, theta, y, start, substeps=4, rows=1000):
    """Fit the constants by nonlinear least squares (scipy's trust-region method).

    Parameters
    ----------
    device : PhysicalSystem
        Only its dimensions are read; it is not called.
    x, theta, y : ndarray, shapes (n, samples), (n, 0), (n, samples)
        Measured pairs.
    start : dict
        First guess of every constant in `NAMES`, for instance from the values printed on the parts; time in samples, capacitance 1.
    substeps : int
    rows : int
        Pairs used, the first ones: 13 constants need few.

    Returns
    -------
    Ringing

    Raises
    ------
    TypeError
        If the pairs are not of numbers, or a number of the guess is none.
    ValueError
        If the guess misses or adds a name or is 0 where it divides, or the pairs' shapes are wrong, they are not finite or hardly differ.
    """
    check_whole(1, rows=rows)
    if set(start) != set(NAMES):
        raise ValueError(f"start has the names {sorted(start)}; expected {sorted(NAMES)}")
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != device.input_dim:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}; expected (n, {device.input_dim}) for both")
    for name, values in (("x", x), ("y", y)):
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{name} has dtype {values.dtype}; expected numbers")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    check_number(-1e6, 1e6, **{name: value for name, value in start.items() if name != "inductance"})
    check_number(1e-6, 1e6, inductance=start["inductance"])
    twin = Ringing(device.input_dim, device.param_dim, device.output_dim, substeps)
    x, y = np.asarray(x[:rows], np.float64), np.asarray(y[:rows], np.float64)
    if not y.size or not y.std() > 0:
        raise ValueError("all readings are the same; expected readings that differ")
    first = np.array([start[name] for name in NAMES], dtype=float)
    scale = np.maximum(np.abs(first), 0.05)

    def residuals(scaled):
        return ((_predict(x, scaled * scale, substeps)[0] - y) / y.std()).ravel()

    twin.constants.copy_(torch.from_numpy(scipy.optimize.least_squares(residuals, first / scale, max_nfev=100).x * scale))
    return twin


class _Ringing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, constants, substeps):
        drive = x.detach().numpy()
        constants = constants.numpy()
        y, ctx.voltages = _predict(drive, constants, substeps)
        ctx.constants, ctx.substeps = constants, substeps
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx, gradient):
        rows, samples = gradient.shape
        kind = ctx.voltages.dtype
        gains = ctx.constants[NAMES.index("gain_in")] * ctx.constants[NAMES.index("gain_out")]
        padded = np.zeros((len(ctx.voltages) * LANES, samples), kind)
        padded[:rows] = gradient.numpy() * kind.type(gains)
        wanted = np.empty_like(padded)
        _pull_back(padded, ctx.substeps, substep(ctx.constants, ctx.substeps).astype(kind), ctx.voltages, wanted)
        return torch.from_numpy(wanted[:rows]), None, None


def substep(constants, substeps):
    """Return the numbers that the compiled loops need: the exact linear step (2 x 3), the load's six, and the literals 1/2 and 1."""
    inductance, resistance, leak, g1, v1, s1, g2, v2, s2 = constants[:9]
    generator = np.array([[-resistance / inductance, -1 / inductance, 1 / inductance], [1.0, -leak, 0.0], [0.0, 0.0, 0.0]])
    step = scipy.linalg.expm(generator / substeps)
    return np.concatenate([step[:2].ravel(), [g1 / substeps, v1, s1**2, g2 / substeps, v2, s2**2, 0.5, 1.0]])


def _predict(drive, constants, substeps):
    """Return the predicted waveforms, in the drive's precision, and the voltages that the backward pass needs."""
    rows, samples = drive.shape
    kind = drive.dtype
    gain_in, offset_in, gain_out, offset_out = (kind.type(c) for c in constants[9:])
    padded = np.zeros((-(-rows // LANES) * LANES, samples), kind)
    padded[:rows] = gain_in * drive + offset_in
    voltages = np.empty((len(padded) // LANES, samples * substeps, LANES), kind)
    read = np.empty_like(padded)
    _run(padded, substeps, substep(constants, substeps).astype(kind), voltages, read)
    return gain_out * read[:rows] + offset_out, voltages


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _run(drive, substeps, c, voltages, read):
    """Fill `voltages`, before each pull of the load, and `read`, at the end of each sample."""
    rows, samples = drive.shape
    kind = drive.dtype
    a, b, e, f, m, n, k1, v1, s1, k2, v2, s2, half, one = c
    current, voltage = np.empty(LANES, kind), np.empty(LANES, kind)
    for block in range(rows // LANES):
        first = block * LANES
        current[:], voltage[:] = 0, 0
        for t in range(samples):
            for step in range(substeps):
                for lane in range(LANES):
                    u, i, v = drive[first + lane, t], current[lane], voltage[lane]
                    current[lane] = a * i + b * v + e * u
                    v = f * i + m * v + n * u
                    voltages[block, t * substeps + step, lane] = v
                    z, y = v - v1, -v - v2
                    p, q = np.sqrt(z * z + s1), np.sqrt(y * y + s2)
                    pull = half * (k1 * (z + p) - k2 * (y + q))
                    slope = half * (k1 * (one + z / p) + k2 * (one + y / q))
                    voltage[lane] = v - pull / (one + half * slope)
            for lane in range(LANES):
                read[first + lane, t] = voltage[lane]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _pull_back(gradient, substeps, c, voltages, wanted):
    """Fill `wanted`, the gradient with respect to the drive, from that with respect to the readings: `_run` transposed, last step first."""
    rows, samples = gradient.shape
    kind = gradient.dtype
    a, b, e, f, m, n, k1, v1, s1, k2, v2, s2, half, one = c
    current, voltage, total = np.empty(LANES, kind), np.empty(LANES, kind), np.empty(LANES, kind)
    for block in range(rows // LANES):
        first = block * LANES
        current[:], voltage[:] = 0, 0
        for t in range(samples - 1, -1, -1):
            for lane in range(LANES):
                total[lane] = 0
                voltage[lane] += gradient[first + lane, t]
            for step in range(substeps - 1, -1, -1):
                for lane in range(LANES):
                    v = voltages[block, t * substeps + step, lane]
                    z, y = v - v1, -v - v2
                    p, q = np.sqrt(z * z + s1), np.sqrt(y * y + s2)
                    pull = half * (k1 * (z + p) - k2 * (y + q))
                    slope = half * (k1 * (one + z / p) + k2 * (one + y / q))
                    bend = half * (k1 * s1 / (p * p * p) - k2 * s2 / (q * q * q))
                    damp = one / (one + half * slope)
                    down = voltage[lane] * (one - slope * damp + half * pull * bend * damp * damp)
                    up = current[lane]
                    total[lane] += e * up + n * down
                    current[lane] = a * up + f * down
                    voltage[lane] = b * up + m * down
            for lane in range(LANES):
                wanted[first + lane, t] = total[lane]
