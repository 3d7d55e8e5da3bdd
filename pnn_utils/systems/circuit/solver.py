"""Transients of the transistor circuit of `pnn_utils.systems.circuit.device`: its equations solved quickly and exactly enough.

Between two substeps the linear part of the circuit is propagated exactly by a matrix exponential, drive steps
included. The transistor's current out of the drain node is split in two: channel and body diode, taken as linear
in time over the substep with an implicit end value (an exponential trapezoidal rule), and the displacement
current of the drain junction in excess of a constant capacitance, taken as constant over the substep with the
right total charge. One unknown remains, found by Newton's method. The rule has order two and damps the fast,
nanosecond modes of a conducting transistor, so that half a microsecond is a short enough substep.

References
----------
.. [1] M. Hochbruck, A. Ostermann, Acta Numerica 19, 209 (2010): exponential integrators (recalled, unchecked).
.. [2] ngspice, source and manual: level-1 MOSFET, diode, and junction capacitance beyond FC * PB (recalled, unchecked; the
   tests compare with ngspice itself).
"""

import math
import numbers

import numba
import numpy as np
import scipy.linalg

BOLTZMANN_OVER_CHARGE = 1.380649e-23 / 1.602176634e-19  # V/K, exact
FORWARD_LIMIT = 0.5  # SPICE's FC: beyond FC * PB of forward bias the junction capacitance grows linearly
DIODE_ON = 0.1  # V, below which the body diode carries less than a nanoampere and its exponential is skipped: 0.2 microvolts
TOLERANCE = 1e-4  # V, of the last Newton step; tightened to nothing, it changes the voltage on C by 0.2 microvolts at most
# No fast-math: sums in another order would let a reading depend, in its last digit, on the row beside it.
OPTIONS = {"cache": True, "error_model": "numpy"}
INLINE = {**OPTIONS, "inline": "always"}


def simulate(p, drive, substeps=2, delay=None):
    """Voltage on the capacitor at the end of each hold interval, from rest.

    Second order in the substep. With 2 substeps the RMS error is 0.3 % of the swing for random drives over +-4 V, with 3 0.1 %,
    and less for weaker ones (tests). Each row is computed independently of the others.

    Parameters
    ----------
    p : CircuitParameters
        Imperfections are ignored: only the circuit's own values count.
    drive : array_like, shape (n, samples)
        Voltages held for one sample interval each; any number of samples.
    substeps : int
        Steps per sample, at least 1.
    delay : array_like, shape (n, samples), optional
        Time of each reading after the end of its hold interval, in seconds; beyond +-1 sample interval it is
        clipped. The drive keeps its last value after the end.

    Returns
    -------
    numpy.ndarray, shape (n, samples)
        In volts, float64.

    Raises
    ------
    TypeError
        If drive or delay hold something else than real numbers.
    ValueError
        If `substeps` is not a positive integer, or drive and delay are not of one shape (n, samples).
    """
    if not isinstance(substeps, numbers.Real) or not 1 <= substeps < np.inf or substeps != int(substeps):
        raise ValueError(f"substeps = {substeps!r}; expected an integer of at least 1")
    for name, values in (("drive", drive), ("delay", drive if delay is None else delay)):
        if np.asarray(values).dtype.kind not in "fiu":
            raise TypeError(f"{name} has dtype {np.asarray(values).dtype}; expected real numbers")
        # The compiled loop looks at no bounds.
        if np.ndim(values) != 2 or np.shape(values) != np.shape(drive):
            raise ValueError(f"{name} has shape {np.shape(values)} and drive {np.shape(drive)}; expected (n, samples) for both")
    drive = np.ascontiguousarray(drive, dtype=np.float64)
    if not drive.size:
        return np.zeros_like(drive)
    matrix, inputs = propagator(p, p.sample_interval / substeps)
    thermal = p.temperature * BOLTZMANN_OVER_CHARGE
    share = -inputs[2, 1] * p.junction_capacitance * substeps / p.sample_interval
    constants = np.array([
        substeps / p.sample_interval, p.threshold, p.transconductance, p.source_resistance, p.diode_saturation_current, p.diode_resistance,
        thermal, p.junction_capacitance, p.junction_potential, -1 / inputs[2, 2], 1 / thermal, 1 / p.junction_potential, share, 1 / (1 - share)])
    late = np.zeros((len(drive), 0)) if delay is None else np.ascontiguousarray(delay, dtype=np.float64) / p.sample_interval
    out = np.empty_like(drive)
    slope = np.array([1 / p.load_resistance, p.sample_interval / (substeps * p.capacitance)])
    _simulate(drive, late, int(substeps), matrix, inputs, constants, slope, out)
    return out


def propagator(p, step):
    """Exact step of the linear network: state (i, v, w, g), junction capacitance at its zero-bias value.

    Parameters
    ----------
    p : CircuitParameters
    step : float
        In seconds.

    Returns
    -------
    matrix : ndarray, shape (4, 4)
        State after the step for unit states before it.
    inputs : ndarray, shape (4, 3)
        State after the step for a unit drive voltage, for a unit current out of the drain that is constant, and for one
        that rises from 0 to 1 A during the step.
    """
    inverse_capacitance = np.linalg.inv([
        [p.junction_capacitance + p.gate_drain_capacitance, -p.gate_drain_capacitance],
        [-p.gate_drain_capacitance, p.gate_source_capacitance + p.gate_drain_capacitance]])
    load, gate = 1 / p.load_resistance, 1 / p.gate_resistance
    generator = np.zeros((7, 7))  # the state, then drive, constant current, rising current
    generator[0, [0, 1, 4]] = np.array([-(p.resistance + p.coil_resistance), -1, 1]) / p.inductance
    generator[1, :3] = np.array([1, -load, load]) / p.capacitance
    currents = np.array([[load, -load - gate - 1 / p.leakage_resistance, gate, 0, -1], [0, gate, -gate, 0, 0]])
    generator[2:4, 1:6] = inverse_capacitance @ currents
    generator[5, 6] = 1 / step
    whole = scipy.linalg.expm(generator * step)
    return np.ascontiguousarray(whole[:4, :4]), np.ascontiguousarray(whole[:4, 4:])


@numba.njit(**INLINE)
def channel_current(gate, threshold, transconductance, source_resistance):
    """Saturated level-1 drain current and its derivative for a gate voltage in volts (in amperes, siemens).

    I = KP / 2 (g - VTO - RS I)^2, solved for I.
    """
    over = gate - threshold
    if over <= 0.0:
        return 0.0, 0.0
    scale = transconductance * source_resistance
    # The overdrive left after the drop on RS, in a form that keeps its digits for small and zero RS.
    left = 2.0 * over / (1.0 + math.sqrt(1.0 + 2.0 * scale * over))
    return 0.5 * transconductance * left * left, transconductance * left / (1.0 + scale * left)


@numba.njit(**INLINE)
def junction_charge(drain, capacitance, potential):
    """Charge of the drain-bulk junction in coulombs and its capacitance, for a drain voltage in volts (grading 0.5)."""
    s = 1.0 + drain / potential
    edge = 1.0 - FORWARD_LIMIT
    if s >= edge:
        root = math.sqrt(s)
        return 2.0 * capacitance * potential * (root - 1.0), capacitance / root
    # SPICE continues the capacitance as its tangent where the junction is forward biased by more than FC * PB.
    start = math.sqrt(edge)
    slope = -0.5 * capacitance / (start * edge)
    at = capacitance / start
    return (2.0 * capacitance * (start - 1.0) + (s - edge) * (at + 0.5 * slope * (s - edge))) * potential, at + slope * (s - edge)


@numba.njit(**INLINE)
def _end_of_step(w, g, a_w, a_g, d_w, d_g, q_old, c):
    """Currents at the end of a substep: in closed form while the transistor is cut off, else by Newton's method.

    Drain and gate end at w - a n - d m and g - a n - d m, with the resistive current n at the end and the
    mean displacement current m beyond that of the constant junction capacitance. Unknown is the body diode's
    junction voltage x, in which the drain voltage -(x + RS i_D(x)) is explicit. Returns n, m, and the excess charge.
    """
    rate, threshold, kp, r_source, i_sat, r_diode, v_t, c_j, potential, conductance, per_v_t, per_potential, k, per_k = c
    # Cut off, the junction's charge is linear in the root of 1 + drain / PB, for which a quadratic equation is left.
    root = (math.sqrt(max(k * k + (1.0 - k) * (1.0 + k + (w + d_w * rate * q_old) * per_potential), 0.25)) - k) * per_k
    drain = potential * (root * root - 1.0)
    excess = c_j * (2.0 * potential * (root - 1.0) - drain)
    m = (excess - q_old) * rate
    if drain > -DIODE_ON and g - d_g * m <= threshold:
        return 0.0, m, excess

    # Start close to the solution or where the residual is convex, so that no step overshoots into the exponential.
    x = d_w * m - w
    if x > 0.4:
        # A conducting diode takes about half a volt of it, the load the rest.
        x = min(x, v_t * math.log(max(x - 0.5, 0.02) * conductance / i_sat))
    elif -x > threshold:
        over = -x - threshold
        x += over - 2.0 * over / (1.0 + math.sqrt(1.0 + 2.0 * a_w * kp * over))
    n = 0.0
    for _ in range(60):
        i_d = g_d = 0.0
        if x > DIODE_ON:
            e = i_sat * math.exp(x * per_v_t)
            i_d, g_d = e - i_sat, e * per_v_t
        drain = -x - r_diode * i_d
        charge, capacitance = junction_charge(drain, c_j, potential)
        excess = charge - c_j * drain
        m = (excess - q_old) * rate
        m_slope = (capacitance - c_j) * rate
        n = (w - drain - d_w * m) * conductance
        n_slope = -(1.0 + d_w * m_slope) * conductance
        i_ch, g_ch = channel_current(g - a_g * n - d_g * m, threshold, kp, r_source)
        residual = n - i_ch + i_d
        fall = 1.0 + r_diode * g_d  # of the drain voltage per volt of x
        change = residual / (g_d - (n_slope + g_ch * (a_g * n_slope + d_g * m_slope)) * fall)
        x -= change
        if abs(change) < TOLERANCE:
            # What is left is the square of that: renew the currents to first order instead of evaluating again.
            moved = fall * change
            n += n_slope * moved
            m += m_slope * moved
            excess += (capacitance - c_j) * moved
            break
    return n, m, excess


@numba.njit(**INLINE)
def _substep(i, v, w, g, n, excess, u, matrix, inputs, c):
    """Advance one circuit by one substep: inductor current, voltages of C, drain and gate, resistive current, excess charge."""
    # Falls of drain and gate voltage per ampere out of the drain, constant and rising.
    d_w, d_g, a_w, a_g = -inputs[2, 1], -inputs[3, 1], -inputs[2, 2], -inputs[3, 2]
    i1 = matrix[0, 0] * i + matrix[0, 1] * v + matrix[0, 2] * w + matrix[0, 3] * g + inputs[0, 0] * u
    v1 = matrix[1, 0] * i + matrix[1, 1] * v + matrix[1, 2] * w + matrix[1, 3] * g + inputs[1, 0] * u
    w1 = matrix[2, 0] * i + matrix[2, 1] * v + matrix[2, 2] * w + matrix[2, 3] * g + inputs[2, 0] * u - (d_w - a_w) * n
    g1 = matrix[3, 0] * i + matrix[3, 1] * v + matrix[3, 2] * w + matrix[3, 3] * g + inputs[3, 0] * u - (d_g - a_g) * n
    end, m, excess = _end_of_step(w1, g1, a_w, a_g, d_w, d_g, excess, c)
    constant, rise = n + m, end - n
    i = i1 + inputs[0, 1] * constant + inputs[0, 2] * rise
    v = v1 + inputs[1, 1] * constant + inputs[1, 2] * rise
    return i, v, w1 - a_w * end - d_w * m, g1 - a_g * end - d_g * m, end, excess


@numba.njit(**OPTIONS)
def _read(value, slope, late, substeps, out):
    """Read one row's voltage at late times by a cubic Hermite polynomial: value and slope are continuous through the drive's steps."""
    for sample in range(len(out)):
        at = (sample + 1 + min(max(late[sample], -1.0), 1.0)) * substeps
        k = min(int(at), len(value) - 2)
        f, rest = at - k, k + 1 - at
        out[sample] = (rest * rest * ((1.0 + 2.0 * f) * value[k] + f * slope[k])
                       + f * f * ((1.0 + 2.0 * rest) * value[k + 1] - rest * slope[k + 1]))


@numba.njit(**OPTIONS)
def _simulate(drive, late, substeps, matrix, inputs, c, slopes, out):
    rows, samples = drive.shape
    jittered = late.shape[1] > 0
    load, rise_per_ampere = slopes
    points = (samples + 1) * substeps + 1
    # Two rows at a time: the processor works on one while it waits for a root or a quotient of the other.
    for pair in range((rows + 1) // 2):
        first = 2 * pair
        second = min(first + 1, rows - 1)  # an odd last row is its own partner
        value = np.zeros((2, points if jittered else 1))
        slope = np.zeros((2, points if jittered else 1))
        i = v = w = g = n = q = 0.0
        i2 = v2 = w2 = g2 = n2 = q2 = 0.0
        for sample in range(samples + 1 if jittered else samples):
            now = min(sample, samples - 1)
            u, u2 = drive[first, now], drive[second, now]
            for part in range(substeps):
                i, v, w, g, n, q = _substep(i, v, w, g, n, q, u, matrix, inputs, c)
                i2, v2, w2, g2, n2, q2 = _substep(i2, v2, w2, g2, n2, q2, u2, matrix, inputs, c)
                if jittered:
                    at = sample * substeps + part + 1
                    value[0, at], value[1, at] = v, v2
                    slope[0, at] = (i - (v - w) * load) * rise_per_ampere
                    slope[1, at] = (i2 - (v2 - w2) * load) * rise_per_ampere
            if not jittered:
                out[first, sample] = v
                out[second, sample] = v2
        if jittered:
            _read(value[0], slope[0], late[first], substeps, out[first])
            _read(value[1], slope[1], late[second], substeps, out[second])
