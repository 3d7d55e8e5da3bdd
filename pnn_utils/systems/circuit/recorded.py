"""The authors' real circuit as their recordings show it, at a DAQ card with 1 MS/s and +-10 V.

Here the transistor stands between the card and the resonator, its source at the card::

    DAQ out --+--[transistor: diode ->, channel <-, coupling]--+--[L]--[R]-- ground
              |                                                |
          output_cap                                           C    v = voltage on C -> DAQ in
              |                                                |
            ground                                           ground

Small signals pass by its capacitance only (no response at DC). Above a drop the body diode
conducts, v follows the drive, and the current in L grows until the card's current limit lets v
droop. Back at rest, that current flows on through the diode: v is clamped a drop below zero. In
reverse the channel conducts beyond a threshold. With x = t - v over the transistor, t the card's
terminal and a its amplifier behind (slew rate, settling),

    L di/dt = v - R i,    C dv/dt = -i + I(x) + C_c dx/dt
    C_o dt/dt = limited((a - t) / R_o) - I(x) - C_c dx/dt

by the trapezoidal rule for L and C, implicit Euler for currents of transistor and card. The
constants are fitted (`recorded.csv`; notebook 13_real_circuit); voltages alone fix them only up to
one common impedance.
"""

import math
from pathlib import Path

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, make_parameters
from pnn_utils.systems.compiled import compiled

TABLE = Path(__file__).with_name("recorded.csv")
SUBSTEPS = 8  # a microsecond
NAMES = ("coupling inductance resistance capacitance drop knee diode_resistance threshold "
         "transconductance output_cap output_resistance current_limit slew settling gain").split()
REST = 6  # microseconds before the drive in `held`, for readings that start earlier
BATCH = 100  # shots that one trigger starts


class Recorded(PhysicalSystem):
    """A shot of 70 drives in V, held for 61 microseconds in all, and 70 readings at 1 MS/s.

    One trigger starts 100 shots, which share its shift in time. Only one copy was recorded.
    """

    input_dim = output_dim = 70
    param_dim = 0
    control_unit = output_unit = "V"
    input_range = (-10.0, 10.0)
    pass_time = 100e-6

    def __init__(self, noise_seed=0, ideal=False, **changes):
        super().__init__(noise_seed)
        self.parameters = make_parameters(TABLE, ideal, **changes)

    def respond(self, x, theta):
        """Return the measured voltages, shape (n, 70); see `PhysicalSystem.__call__`."""
        p, normal = self.parameters, self._noise.standard_normal
        shift = 1e6 * p.trigger_jitter * normal(-(-len(x) // BATCH)).repeat(BATCH)[:len(x), None]
        start = REST - 1e6 * p.lead + np.clip(shift, -2, 2)
        y = read(simulate(vars(p), held(x, 100), 80), start + np.arange(self.output_dim))
        return y + p.noise * normal(y.shape)


def held(x, shot):
    """Hold the drives by nearest neighbour from 0.3 to 0.9 of a shot of so many samples."""
    samples = np.linspace(0, x.shape[1] - 1, int(0.6 * shot) + 1).round().astype(int)
    return np.pad(x[:, samples].astype(np.float64), ((0, 0), (REST, 0)))


def read(fine, times):
    """Read `simulate`'s voltages at times in microseconds, (times,) or (n, times), linearly."""
    at = np.broadcast_to(times * SUBSTEPS, (len(fine), np.shape(times)[-1]))
    low, row = at.astype(int), np.arange(len(fine))[:, None]
    return fine[row, low] * (1 - at + low) + fine[row, low + 1] * (at - low)


def simulate(p, drive, steps):
    """Voltage on C every eighth of a microsecond from rest; p holds `NAMES`, in SI units."""
    return _simulate(drive, np.array([p[name] for name in NAMES]), steps)


@compiled(inline="always")
def _current(x, drop, knee, resistance, threshold, transconductance):
    """Current and slope of the transistor: diode with a rounded knee, channel with a square."""
    z, beyond = min((x - drop) / knee, 30.0), max(-x - threshold, 0.0)
    e = math.exp(z)
    above = x - drop if z == 30.0 else knee * math.log1p(e)
    return (above / resistance - 0.5 * transconductance * beyond * beyond,
            e / (1.0 + e) / resistance + transconductance * beyond)


@compiled()
def _simulate(drive, p, steps):
    (c_c, inductance, r, c, drop, knee, r_d, threshold, kp, c_o, r_o, limit, slew, settling,
     gain) = p
    rows, samples = drive.shape
    h, out = 1e-6 / SUBSTEPS, np.zeros((rows, steps * SUBSTEPS + 1))
    half, share = 0.5 * h / inductance, 1.0 - math.exp(-h / settling)
    damp = 1.0 + half * r
    for row in range(rows):
        v = i = t = amplifier = 0.0
        for step in range(steps * SUBSTEPS):
            target = gain * drive[row, step // SUBSTEPS] if step // SUBSTEPS < samples else 0.0
            amplifier += min(max(share * (target - amplifier), -slew * h), slew * h)
            v_old, t_old, i_free = v, t, (i * (1.0 - half * r) + half * v) / damp
            t += min(max(amplifier - t, -1.0), 1.0)  # where Newton's method starts
            for _ in range(40):
                load, g = _current(t - v, drop, knee, r_d, threshold, kp)
                q = (amplifier - t) / (r_o * limit)
                square = q * q
                power = 1.0 + square * square * square * square
                root = math.sqrt(math.sqrt(math.sqrt(power)))
                through = (c_c * (t - t_old - v + v_old)) / h + load
                of_v = c * (v - v_old) / h + 0.5 * (i + i_free + half / damp * v) - through
                of_t = c_o * (t - t_old) / h - limit * q / root + through
                g += c_c / h
                g_v = c / h + 0.5 * half / damp + g
                g_t = c_o / h + 1.0 / (r_o * root * power) + g
                down = 1.0 / (g_v * g_t - g * g)
                d_v, d_t = (of_v * g_t + g * of_t) * down, (g_v * of_t + g * of_v) * down
                size = max(abs(d_v), abs(d_t), 1.0)
                v -= d_v / size
                t -= d_t / size
                if max(abs(d_v), abs(d_t)) < 1e-5:
                    break
            i = i_free + half / damp * v
            out[row, step + 1] = v
    return out
