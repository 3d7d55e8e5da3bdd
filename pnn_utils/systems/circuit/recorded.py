"""The authors' real circuit as their recordings show it, at a DAQ card with 1 MS/s and +-10 V.

Here the transistor stands between the card and the resonator, its source at the card::

    DAQ out --+--[transistor: diode ->, channel <-, coupling]--+--[L]--[R]-- ground
              |                                                |
          output_cap                                           C    v = voltage on C -> DAQ in
              |                                                |
            ground                                           ground

Small signals pass by its junction's capacitance only (no response at DC). Above a drop the body
diode conducts, v follows the drive, and the current in L grows until the card's current limit lets
v droop. Back at rest, that current flows on through the diode: v is clamped a drop below zero. In
reverse the channel conducts beyond a threshold. With x = t - v over the transistor, t the card's
terminal and a its amplifier behind (slew rate, settling),

    L di/dt = v - R i,    C dv/dt = -i + I(x) + C_c dx/dt
    C_o dt/dt = I_card - I(x) - C_c dx/dt,    I_card keeps t = a within +-current_limit
    I(x) = (x - drop) / R_d above the drop, (x + threshold) / R_ch below -threshold, else 0

by the trapezoidal rule for L and C and implicit Euler for I and I_card. A capacitance that falls
with reverse bias explains hardly more of the shots it is fitted to. I and I_card are straight
lines between corners, so that a step is solved exactly, without iteration: all currents grow with
their voltages, and where the transistor would end beyond a corner if it were cut off, there it
ends. The constants are fitted (`recorded.csv`; notebook 13_real_circuit), up to one common
impedance, which voltages do not show.
"""

from pathlib import Path

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, make_parameters
from pnn_utils.systems.compiled import compiled

TABLE = Path(__file__).with_name("recorded.csv")
SUBSTEPS = 8  # a microsecond
NAMES = ("coupling inductance resistance capacitance drop diode_resistance threshold "
         "channel_resistance output_cap current_limit slew settling gain").split()
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
        y = read(simulate(vars(p), held(x, 100)), start + np.arange(self.output_dim))
        return y + p.noise * normal(y.shape)


def held(x, shot):
    """Hold drives by nearest neighbour from 0.3 to 0.9 of `shot` samples, with rests around."""
    samples = np.linspace(0, x.shape[1] - 1, int(0.6 * shot) + 1).round().astype(int)
    return np.pad(x[:, samples].astype(np.float64), ((0, 0), (REST, REST + shot // 10)))


def read(fine, times):
    """Read `simulate`'s voltages at times in microseconds, (times,) or (n, times), linearly."""
    at = np.broadcast_to(times * SUBSTEPS, (len(fine), np.shape(times)[-1]))
    low, row = at.astype(int), np.arange(len(fine))[:, None]
    return fine[row, low] * (1 - at + low) + fine[row, low + 1] * (at - low)


def simulate(p, drive):
    """Voltage on C at the ends of all substeps, from rest, (n, SUBSTEPS * microseconds + 1).

    p holds `NAMES`, in SI units; drive (n, microseconds), V.
    """
    return _simulate(drive, np.array([p[name] for name in NAMES]))


@compiled()
def _simulate(drive, p):
    c_c, inductance, r, c, drop, r_d, threshold, r_ch, c_o, limit, slew, settling, gain = p
    h, out = 1e-6 / SUBSTEPS, np.zeros((len(drive), SUBSTEPS * drive.shape[1] + 1))
    share, per_v = 1.0 - np.exp(-h / settling), 0.5 * h / (inductance + 0.5 * h * r)
    for row in range(len(drive)):
        v = i = t = amplifier = 0.0
        for step, target in enumerate(np.repeat(gain * drive[row], SUBSTEPS)):
            amplifier += min(max(share * (target - amplifier), -slew * h), slew * h)
            i_free = i + per_v * (v - 2.0 * r * i)  # i ends at i_free + per_v * v_end
            x, g, corner, v_end, end = t - v, 0.0, 0.0, 0.0, 0.0
            for _ in range(2):  # cut off; if that ends beyond a corner, on the line beyond it
                slope, charge = c_c / h + g, c_c / h * x + g * corner
                of_v, rest = c / h + 0.5 * per_v + slope, c / h * v - 0.5 * (i + i_free) - charge
                of_t = c_o / h + slope - slope * slope / of_v
                alone = (c_o / h * t + charge + slope * rest / of_v) / of_t  # without the card
                end = alone + min(max((amplifier - alone) * of_t, -limit), limit) / of_t
                v_end = (rest + slope * end) / of_v
                if -threshold <= end - v_end <= drop:
                    break
                g, corner = (1.0 / r_d, drop) if end - v_end > drop else (1.0 / r_ch, -threshold)
            v, t, i = v_end, end, i_free + per_v * v_end
            out[row, step + 1] = v
    return out
