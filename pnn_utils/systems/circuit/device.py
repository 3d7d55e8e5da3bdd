"""Simulated device: a resonant R-L-C circuit loaded by a transistor, at a 1 MS/s DAQ card.

The output u(t) of the data-acquisition (DAQ) card holds one value per microsecond. R and L carry
it in series to a capacitor C, whose voltage v is measured. A second resistor leads from C to an
n-channel MOSFET (BS170) whose gate is tied to its drain and whose source is grounded::

    DAQ out --[R]--[L]--+--[R_load]--+------ drain
                        |            +------ gate    BS170
                        C            (body diode from source to drain)
                        |            source
                       ground        ground            v = voltage on C -> DAQ in

Between about -0.6 V and +1.8 V the transistor is cut off and the circuit rings with little loss:
memory. Above the threshold it conducts in saturation, below -0.6 V its body diode conducts, and
either way the load damps the ringing strongly: nonlinearity. With the inductor current i, the
drain voltage w and the voltage g of the gate behind its internal resistance,

    L di/dt = u - R i - v
    C dv/dt = i - (v - w) / R_load
    d(Q_j(w) + C_gd (w - g))/dt
            = (v - w) / R_load - (w - g) / R_G - w / R_leak - i_ch(g) + i_D(-w)
    d(C_gs g + C_gd (g - w))/dt = (w - g) / R_G

i_ch is the level-1 (Shichman-Hodges) channel current with its source resistance, i_D the body
diode with its series resistance, Q_j the charge of the drain junction. With gate and drain tied,
the channel is either cut off or saturated (tests), so that i_ch depends on the gate alone. Every
pass starts from rest. `solver` solves them; `tests/referees/netlist.py` writes them for ngspice.

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022).
.. [2] SPICE subcircuit of the BS170 (level 1) as found in public simulator libraries; that Zetex
   wrote it is recalled, unchecked.
.. [3] Vishay Siliconix, data sheet 70226 (2N7000 / BS170): threshold 0.8 to 3 V, typically 2.1 V
   at 1 mA; C_oss 11 pF at 25 V.
.. [4] H. Shichman, D. A. Hodges, IEEE J. Solid-State Circuits 3, 285 (1968): the level-1 model.
"""

import math
from pathlib import Path

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters
from pnn_utils.systems.circuit.recorded import Recorded
from pnn_utils.systems.circuit.solver import simulate

TABLE = Path(__file__).with_name("parameters.csv")


class Circuit(PhysicalSystem):
    """A waveform of 196 voltages in, 196 out; nothing else to control (theta has no columns).

    seed, noise_seed : fix this copy's components and converter errors, and its noise
    ideal : switch every imperfection off
    substeps : solver steps per sample
    **changes : values of ``parameters.csv`` to change, by name

    >>> Circuit(ideal=True)(np.full((1, 196), 2.0), np.empty(0)).shape
    (1, 196)
    """

    input_dim = output_dim = 196
    param_dim = 0
    control_unit = output_unit = "V"
    pass_time = 196e-6 + 2e-3  # s: the waveform, then thirteen ring times at 0 V before the next

    def __init__(self, seed=0, noise_seed=0, ideal=False, substeps=4, **changes):
        super().__init__(noise_seed)
        check_whole(1, substeps=substeps)
        self.parameters = p = make_parameters(TABLE, ideal, **changes)
        self.input_range = (-p.drive_range, p.drive_range)
        self.substeps = substeps
        parts, converters = np.random.default_rng(seed).spawn(2)
        self._copy = manufactured(p, parts)
        self._gain = 1 + p.gain_error * converters.standard_normal(2)  # output, input
        self._offset = p.offset_error * converters.standard_normal(2)

    recorded = Recorded  # the authors' real circuit, another one: ``Circuit.recorded()``

    def respond(self, x, theta):
        """Return the measured voltages, shape (n, 196); see `PhysicalSystem.__call__`."""
        p, normal = self.parameters, self._noise.standard_normal
        drive = self._convert(x.astype(np.float64)) * self._gain[0] + self._offset[0]
        # Shots of one triggered batch share the shift of its trigger.
        shifts = normal((-(-len(drive) // p.trigger_batch), 1))
        late = p.trigger_jitter * shifts.repeat(p.trigger_batch, 0)[:len(drive)]
        delay = late + p.jitter * normal(drive.shape)
        y = simulate(self._copy, drive, self.substeps, delay) * self._gain[1] + self._offset[1]
        return self._convert(y + p.noise * normal(y.shape))

    def _convert(self, voltage):
        """Round to the converter's steps and clip to its range, if it has a resolution."""
        bits, limit = self.parameters.converter_bits, self.parameters.converter_range
        if not bits:
            return voltage
        step = 2 * limit / 2**bits
        return np.clip(np.round(voltage / step) * step, -limit, limit - step)


def manufactured(p, rng):
    """Return the parameters of one copy: nominal values with this copy's component tolerances."""
    r1, r2, coil, capacitor, threshold, channel, diode = rng.standard_normal(7).tolist()
    return make_parameters(TABLE, **vars(p) | {
        "resistance": p.resistance * (1 + p.resistor_spread * r1) + p.output_impedance,
        "load_resistance": p.load_resistance * (1 + p.resistor_spread * r2),
        "inductance": p.inductance * (1 + p.inductor_spread * coil),
        "capacitance": p.capacitance * (1 + p.capacitor_spread * capacitor) + p.input_capacitance,
        "threshold": p.threshold + p.threshold_spread * threshold,
        "transconductance": p.transconductance * (1 + p.transconductance_spread * channel),
        "diode_saturation_current": p.diode_saturation_current * math.exp(p.diode_spread * diode)})
