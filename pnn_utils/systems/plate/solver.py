"""Solver of the plate device: sums of exponentials for all that is linear, kicks for what is not.

The drive is constant during each sample, so every eigenmode of the linear state space is advanced
exactly by one complex factor. The nonlinear forces act as kicks in the middle of each step (Strang
splitting, of second order), taken such that the coupling of speed and current neither makes nor
loses energy.
"""

import numpy as np

from pnn_utils.systems.compiled import compiled

LANES = 64  # waveforms that the inner loop advances together


def modal(space, p, steps_per_sample):
    """Write the state space as uncoupled exponentials, with all that one splitting step needs.

    flow : per exponential its factor over one step, and what the voltages before and after the
        middle of the step's span add
    kicks : what impulses of force (N s) and voltage (V s) at the coil, of force along d (N s) add
    readings : weights whose real part reads x, x', i, d in the middle of a step
    observe : what makes such weights of any rows of the state space, rows @ observe
    half : factors from a step's middle to its end
    numbers : constants of the nonlinear terms, in the order that `_advance` reads them
    """
    h = 1 / (p.sample_rate * steps_per_sample)
    rates, vectors = np.linalg.eig(space.matrix)
    inverse = np.linalg.inv(vectors)
    kept = rates.imag >= 0  # of each conjugate pair one is enough: its real part counts twice
    twice = np.where(rates.imag > 0, 2.0, 1.0)[kept]
    half = np.exp(rates[kept] * h / 2)
    rise = (half - 1) / rates[kept] * (inverse @ space.voltage)[kept]
    flow = np.stack([half**2, half * rise, rise], 1)
    kicks = [(inverse @ column)[kept] for column in (space.force, space.voltage, space.stretch)]
    observe = vectors[:, kept] * twice
    needed = np.stack([space.excursion, space.speed, space.current, space.deflection])
    b, k = space.force_factor, space.suspension
    numbers = np.array([
        h, p.excursion, b * p.force_factor_slope, b * p.force_factor_curvature,
        k * p.stiffness_slope, k * p.stiffness_curvature, space.stretch_stiffness,
        space.speed @ space.force, space.speed @ space.stretch, space.current @ space.voltage,
        0.5, 0.25])
    return flow, np.stack(kicks, 1), (needed @ observe).T, observe, half, numbers


def run(modes, drive, rows, steps, skip):
    """Run waveforms from rest and record readings, shape (n, samples - skip, outputs).

    modes come from `modal`, made for as many steps per sample; drive, shape (n, samples), is in
    volts at the coil and sets the precision; rows, shape (outputs, states), are what to record.
    """
    flow, kicks, readings, observe, half, numbers = modes
    real = drive.dtype
    # Whole groups of lanes: every row takes the same path through the vector units, and so gives
    # the same bytes in any batch.
    padded = np.pad(np.ascontiguousarray(drive), ((0, -len(drive) % LANES), (0, 0)))
    middle = np.ascontiguousarray((rows @ observe).T)
    direct = (middle * flow[:, 2:]).sum(0).real  # what the voltage adds after a step's middle
    end, pair = middle * half[:, None], np.result_type(real, np.complex64)
    complexes = (np.ascontiguousarray(c, pair) for c in (flow, kicks, readings, end))
    recorded = _advance(padded, steps, *complexes, direct.astype(real), numbers.astype(real), skip)
    return recorded[: len(drive)]


@compiled(fastmath=True)
def _advance(drive, steps, flow, kicks, readings, weights, direct, numbers, skip):
    """Run LANES waveforms at a time; return the readings, shape (rows, samples - skip, outputs).

    drive is in volts at the coil, shape (rows, samples), rows a multiple of LANES. All in one
    function, because fast arithmetic rounds differently in pieces.
    """
    rows, samples = drive.shape
    n, outputs, kind = flow.shape[0], weights.shape[1], drive.dtype
    recorded = np.empty((rows, samples - skip, outputs), kind)
    # The halves are numbers too: a literal would widen float32.
    h, scale, b1, b2, k1, k2, k4, push, bend, lift, half, quarter = numbers
    re, im = np.empty((n, LANES), kind), np.empty((n, LANES), kind)
    before, now = np.empty(LANES, kind), np.empty(LANES, kind)
    read, pulse = np.empty((4, LANES), kind), np.empty((3, LANES), kind)
    for first in range(0, rows, LANES):
        re[:], im[:], now[:] = 0.0, 0.0, 0.0
        for t in range(samples):
            for _ in range(steps):
                before[:] = now
                now[:] = drive[first:first + LANES, t]
                for k in range(n):  # the linear equations, exactly
                    er, ar, br = flow[k].real
                    ei, ai, bi = flow[k].imag
                    for lane in range(LANES):
                        r, i = re[k, lane], im[k, lane]
                        re[k, lane] = er * r - ei * i + ar * before[lane] + br * now[lane]
                        im[k, lane] = er * i + ei * r + ai * before[lane] + bi * now[lane]
                if b1 == b2 == k1 == k2 == k4 == 0:  # no kick
                    continue
                read[:] = 0.0
                for k in range(n):
                    xr, vr, cr, dr = readings[k].real
                    xi, vi, ci, di = readings[k].imag
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
                    # (B - B_0) h couples speed and current, and must neither make nor lose energy:
                    # both are taken in the middle of the kick.
                    a = h * (b1 + b2 * e) * e
                    soft = -h * (k1 + k2 * e) * e * x
                    v += half * (bend * bent + push * soft)
                    loop = half + half + quarter * a * a * push * lift
                    force = a * (current - half * a * lift * v) / loop
                    pulse[0, lane] = force + soft
                    pulse[1, lane] = -a * (v + half * push * force)
                    pulse[2, lane] = bent
                for k in range(n):  # the kick
                    fr, ur, dr = kicks[k].real
                    fi, ui, di = kicks[k].imag
                    for lane in range(LANES):
                        force, volts, bent = pulse[0, lane], pulse[1, lane], pulse[2, lane]
                        re[k, lane] += fr * force + ur * volts + dr * bent
                        im[k, lane] += fi * force + ui * volts + di * bent
            if t < skip:
                continue
            for j in range(outputs):
                for lane in range(LANES):
                    before[lane] = direct[j] * now[lane]
                for k in range(n):
                    wr, wi = weights[k, j].real, weights[k, j].imag
                    for lane in range(LANES):
                        before[lane] += wr * re[k, lane] - wi * im[k, lane]
                recorded[first:first + LANES, t - skip, j] = before
    return recorded
