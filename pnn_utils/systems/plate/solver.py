"""Solver of the plate device: sums of exponentials for all that is linear, kicks for what is not.

The drive is constant during each sample, so every eigenmode of the linear state space is advanced exactly by one complex factor. The nonlinear forces
act as kicks in the middle of each step (Strang splitting, of second order), taken such that the coupling of speed and current neither makes nor loses energy.
"""

import numba
import numpy as np

LANES = 16  # waveforms that the inner loop advances together


def modal(space, p, steps_per_sample):
    """Write the state space as uncoupled exponentials and everything that one splitting step needs.

    Parameters
    ----------
    space : StateSpace
    p : PlateParameters
    steps_per_sample : int
        At least 1.

    Returns
    -------
    flow : ndarray, shape (exponentials, 3), complex
        Per exponential: its factor over one step, and what the voltage before and the voltage after the middle of the step's span add.
    kicks : ndarray, shape (exponentials, 3), complex
        What an impulse of force (N s) and of voltage (V s) at the coil, and of force along d (N s), add.
    readings : ndarray, shape (exponentials, 4), complex
        Rows whose real part reads x, x', i, d.
    records : function (rows: ndarray (outputs, states)) -> (ndarray (exponentials, outputs) complex, ndarray (outputs,))
        The same for readings at the end of a sample, and the voltage's direct part.
    numbers : ndarray, shape (12,)
        Constants of the nonlinear terms, in the order that `_advance` reads them.
    """
    if steps_per_sample < 1:
        raise ValueError(f"steps_per_sample is {steps_per_sample}; expected at least 1")
    h = 1 / (p.sample_rate * steps_per_sample)
    rates, vectors = np.linalg.eig(space.matrix)
    inverse = np.linalg.inv(vectors)
    kept = rates.imag >= 0  # of each conjugate pair one is enough: its real part counts twice
    twice = np.where(rates.imag > 0, 2.0, 1.0)[kept]
    half = np.exp(rates[kept] * h / 2)
    rise = (half - 1) / rates[kept] * (inverse @ space.voltage)[kept]
    flow = np.stack([half**2, half * rise, rise], 1)
    kicks = np.stack([(inverse @ column)[kept] for column in (space.force, space.voltage, space.stretch)], 1)

    def rows_of(rows):
        return (rows @ vectors)[:, kept].T * twice[:, None]

    def records(rows):
        weights = rows_of(rows)
        return weights * half[:, None], (weights * rise[:, None]).sum(0).real

    readings = rows_of(np.stack([space.excursion, space.speed, space.current, space.deflection]))
    numbers = np.array([h, p.excursion, space.force_factor * p.force_factor_slope, space.force_factor * p.force_factor_curvature,
                        space.suspension * p.stiffness_slope, space.suspension * p.stiffness_curvature, space.stretch_stiffness,
                        space.speed @ space.force, space.speed @ space.stretch, space.current @ space.voltage, 0.5, 0.25])
    return flow, kicks, readings, records, numbers


def run(modes, drive, rows, steps, skip):
    """Run waveforms from rest and record readings of the state.

    Parameters
    ----------
    modes : tuple
        From `modal`.
    drive : ndarray, shape (n, samples), float32 or float64
        Volts at the coil. The calculation keeps this precision; float32 is faster and good to 1e-5 of the loudest reading.
    rows : ndarray, shape (outputs, states)
        What to record, as rows of a `StateSpace`.
    steps : int
        Steps per sample that `modes` was made for.
    skip : int
        Samples at the beginning that are not recorded.

    Returns
    -------
    ndarray, shape (n, samples - skip, outputs)
    """
    flow, kicks, readings, records, numbers = modes
    real, pair = (np.float32, np.complex64) if drive.dtype == np.float32 else (np.float64, np.complex128)
    # Padding to whole groups of lanes makes every row take the same path through the vector units: the same bytes in any batch.
    padded = np.zeros((-(-len(drive) // LANES) * LANES, drive.shape[1]), real)
    padded[: len(drive)] = drive
    weights, direct = records(rows)
    flow, kicks, readings, weights = (np.ascontiguousarray(values, dtype=pair) for values in (flow, kicks, readings, weights))
    linear = not (numbers[2:7] != 0).any()
    recorded = _advance(padded, steps, flow, kicks, readings, weights, direct.astype(real), numbers.astype(real), skip, linear)
    return recorded[: len(drive)]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _advance(drive, steps, flow, kicks, readings, weights, direct, numbers, skip, linear):
    """Run LANES waveforms at a time; returns the recorded readings, shape (waveforms, samples - skip, outputs).

    drive is in volts at the coil, shape (waveforms, samples), the number of waveforms a multiple of LANES.
    """
    rows, samples = drive.shape
    n, outputs, kind = flow.shape[0], weights.shape[1], drive.dtype
    recorded = np.empty((rows, samples - skip, outputs), kind)
    h, scale, b1, b2, k1, k2, k4, push, bend, lift, half, quarter = numbers  # halves too: a literal would widen float32
    re, im = np.empty((n, LANES), kind), np.empty((n, LANES), kind)
    before, now = np.empty(LANES, kind), np.empty(LANES, kind)
    read, pulse = np.empty((4, LANES), kind), np.empty((3, LANES), kind)
    for first in range(0, rows, LANES):
        re[:], im[:], now[:] = 0.0, 0.0, 0.0
        for t in range(samples):
            for _ in range(steps):
                before[:] = now
                for lane in range(LANES):
                    now[lane] = drive[first + lane, t]
                for k in range(n):
                    er, ei = flow[k, 0].real, flow[k, 0].imag
                    ar, ai, br, bi = flow[k, 1].real, flow[k, 1].imag, flow[k, 2].real, flow[k, 2].imag
                    for lane in range(LANES):
                        r, i = re[k, lane], im[k, lane]
                        re[k, lane] = er * r - ei * i + ar * before[lane] + br * now[lane]
                        im[k, lane] = er * i + ei * r + ai * before[lane] + bi * now[lane]
                if linear:
                    continue
                read[:] = 0.0
                for k in range(n):
                    xr, vr, cr, dr = readings[k, 0].real, readings[k, 1].real, readings[k, 2].real, readings[k, 3].real
                    xi, vi, ci, di = readings[k, 0].imag, readings[k, 1].imag, readings[k, 2].imag, readings[k, 3].imag
                    for lane in range(LANES):
                        r, i = re[k, lane], im[k, lane]
                        read[0, lane] += xr * r - xi * i
                        read[1, lane] += vr * r - vi * i
                        read[2, lane] += cr * r - ci * i
                        read[3, lane] += dr * r - di * i
                for lane in range(LANES):
                    x, v, current, d = read[0, lane], read[1, lane], read[2, lane], read[3, lane]
                    e = x / scale
                    bent = -h * k4 * d * d * d
                    a = h * (b1 + b2 * e) * e  # (B - B_0) h: couples speed and current, and must neither make nor lose energy,
                    soft = -h * (k1 + k2 * e) * e * x  # so both are taken in the middle of the kick
                    v += half * (bend * bent + push * soft)
                    force = a * (current - half * a * lift * v) / (half + half + quarter * a * a * push * lift)
                    pulse[0, lane] = force + soft
                    pulse[1, lane] = -a * (v + half * push * force)
                    pulse[2, lane] = bent
                for k in range(n):
                    fr, ur, dr = kicks[k, 0].real, kicks[k, 1].real, kicks[k, 2].real
                    fi, ui, di = kicks[k, 0].imag, kicks[k, 1].imag, kicks[k, 2].imag
                    for lane in range(LANES):
                        re[k, lane] += fr * pulse[0, lane] + ur * pulse[1, lane] + dr * pulse[2, lane]
                        im[k, lane] += fi * pulse[0, lane] + ui * pulse[1, lane] + di * pulse[2, lane]
            if t < skip:
                continue
            for j in range(outputs):
                for lane in range(LANES):
                    before[lane] = direct[j] * now[lane]
                for k in range(n):
                    wr, wi = weights[k, j].real, weights[k, j].imag
                    for lane in range(LANES):
                        before[lane] += wr * re[k, lane] - wi * im[k, lane]
                for lane in range(LANES):
                    recorded[first + lane, t - skip, j] = before[lane]
    return recorded
