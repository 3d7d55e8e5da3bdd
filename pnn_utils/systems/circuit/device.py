"""Simulated device: a resonant R-L-C circuit loaded by a MOSFET, driven and read by a 1 MS/s data-acquisition card (DAQ).

The DAQ output u(t) holds one value per microsecond. R and L carry it in series to a capacitor C, whose
voltage v is measured. A second resistor leads from C to an n-channel MOSFET (BS170) whose gate is tied to
its drain and whose source is grounded::

    DAQ out --[R]--[L]--+--[R_load]--+------ drain
                        |            +------ gate    BS170
                        C            (body diode from source to drain)
                        |            source
                       ground        ground            v = voltage on C -> DAQ in

Between about -0.6 V and +1.8 V the transistor is cut off and the circuit rings with little loss: memory.
Above the threshold it conducts in saturation, below -0.6 V its body diode conducts, and either way the load
damps the ringing strongly: nonlinearity. With the inductor current i, the drain voltage w and the voltage g
of the gate behind its internal resistance,

    L di/dt = u - R i - v
    C dv/dt = i - (v - w) / R_load
    d(Q_j(w) + C_gd (w - g))/dt = (v - w) / R_load - (w - g) / R_G - w / R_leak - i_ch(g) + i_D(-w)
    d(C_gs g + C_gd (g - w))/dt = (w - g) / R_G

i_ch is the level-1 (Shichman-Hodges) channel current with its source resistance, i_D the body diode with its
series resistance, Q_j the charge of the drain junction. With gate and drain tied, the channel is either cut
off or saturated (tests), so that i_ch depends on the gate alone. Every pass starts from rest.

`pnn_utils.systems.circuit.solver` solves them; `tests.referees.netlist` writes them for ngspice.

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022).
.. [2] SPICE subcircuit of the BS170 (level 1) as found in public simulator libraries; that Zetex wrote it is recalled, unchecked.
.. [3] Vishay Siliconix, data sheet 70226 (2N7000 / BS170): threshold 0.8 to 3 V, typically 2.1 V at 1 mA; C_oss 11 pF at 25 V.
.. [4] H. Shichman, D. A. Hodges, IEEE J. Solid-State Circuits 3, 285 (1968): the level-1 model.
"""

import dataclasses
import math

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, make_parameters, parameter
from pnn_utils.systems.circuit.solver import simulate


@dataclasses.dataclass(frozen=True)
class CircuitParameters:
    """Numbers of the circuit in SI units; imperfections have a value that switches them off."""

    resistance: float = parameter(33.0, "ohm", "chosen: with the coil's resistance the ring time 2 L / R is 153 us")
    coil_resistance: float = parameter(10.0, "ohm", "typical of a small 3.3 mH ferrite coil (recalled, unchecked)")
    inductance: float = parameter(3.3e-3, "H", "chosen: with C it rings at 88 kHz, eleven samples a period", allowed=(1e-9, 1.0))
    capacitance: float = parameter(1e-9, "F", "chosen: impedance sqrt(L / C) = 1.8 kilo-ohm keeps the DAQ output's current below 5 mA", allowed=(1e-15, 1.0))
    load_resistance: float = parameter(300.0, "ohm", "chosen: sqrt(L / C) / 6: conduction overdamps the ringing, does not clamp v flat", allowed=(1e-3, 1e9))
    threshold: float = parameter(1.824, "V", "VTO of [2]; the data sheet [3] allows 0.8 to 3 V")
    transconductance: float = parameter(0.1233, "A/V^2", "KP of [2], W / L = 1", allowed=(1e-9, 1e3))
    source_resistance: float = parameter(1.572, "ohm", "RS of [2]")
    drain_resistance: float = parameter(1.436, "ohm", "RD of [2]; without effect on a saturated channel, kept for the netlist")
    gate_resistance: float = parameter(270.0, "ohm", "RG of [2]", allowed=(1e-3, 1e9))
    gate_source_capacitance: float = parameter(28e-12, "F", "C1 of [2]", allowed=(1e-15, 1.0))
    gate_drain_capacitance: float = parameter(3e-12, "F", "C2 of [2]")
    junction_capacitance: float = parameter(35e-12, "F", "CBD of [2], at zero bias; grading 0.5 and FC 0.5 are SPICE's defaults", allowed=(1e-15, 1.0))
    junction_potential: float = parameter(1.0, "V", "PB of [2]", allowed=(0.1, 10.0))
    diode_saturation_current: float = parameter(5e-12, "A", "IS of the body diode in [2]", allowed=(1e-21, 1.0))
    diode_resistance: float = parameter(0.768, "ohm", "RS of the body diode in [2]")
    leakage_resistance: float = parameter(1.2e8, "ohm", "RL of [2]", allowed=(1.0, 1e15))
    temperature: float = parameter(300.15, "K", "27 C, SPICE's default", allowed=(200.0, 450.0))
    drive_range: float = parameter(4.0, "V", "chosen: controls between -4 and 4 V, within a DAQ output of +-5 V", allowed=(1e-3, 1e3))
    sample_interval: float = parameter(1e-6, "s", "1 MS/s [1]", allowed=(1e-9, 1.0))
    output_impedance: float = parameter(0.2, "ohm", "typical DAQ analogue output (recalled, unchecked)", ideal=0.0)
    input_capacitance: float = parameter(100e-12, "F", "typical DAQ analogue input (recalled, unchecked)", ideal=0.0)
    inductor_spread: float = parameter(0.05, "1", "relative sd over copies: two sd are a 10 % part", ideal=0.0)
    capacitor_spread: float = parameter(0.025, "1", "relative sd over copies: two sd are a 5 % part", ideal=0.0)
    resistor_spread: float = parameter(0.005, "1", "relative sd over copies: two sd are a 1 % part", ideal=0.0)
    threshold_spread: float = parameter(0.1, "V", "sd over copies, chosen: parts of one batch, well inside 0.8 to 3 V of [3]", ideal=0.0)
    transconductance_spread: float = parameter(0.1, "1", "relative sd over copies, chosen: parts of one batch", ideal=0.0)
    diode_spread: float = parameter(0.2, "1", "relative sd of the saturation current, chosen: 5 mV of forward voltage", ideal=0.0, allowed=(0.0, 10.0))
    gain_error: float = parameter(1e-3, "1", "relative sd over copies, DAQ output and input each, chosen: a card without fresh calibration", ideal=0.0)
    offset_error: float = parameter(2e-3, "V", "sd over copies, DAQ output and input each, chosen as the gain error", ideal=0.0)
    converter_range: float = parameter(5.0, "V", "DAQ output and input span -5 to 5 V", allowed=(1e-3, 1e3))
    converter_bits: int = parameter(16, "bit", "resolution of both converters (recalled for such cards, unchecked): 0.15 mV", ideal=0, allowed=(0, 32))
    jitter: float = parameter(15e-9, "s", "sd of each sample's time; a 20 MHz time base leaves 50 ns / sqrt(12) between unlocked clocks", ideal=0.0)
    trigger_jitter: float = parameter(15e-9, "s", "sd of the delay from DAQ output to input, one value a pass, reason as for jitter", ideal=0.0)
    noise: float = parameter(0.2e-3, "V", "sd of converter and thermal noise, about one step (recalled for such cards, unchecked)", ideal=0.0)


class Circuit(PhysicalSystem):
    """A waveform of 196 voltages in, 196 voltages out; nothing else to control (theta has no columns).

    Parameters
    ----------
    seed : int
        Fixes this copy's component values and converter errors.
    noise_seed : int
        Seed of the noise generator.
    ideal : bool
        Switch every imperfection off.
    substeps : int
        Solver steps per sample, at least 1.
    **changes
        Values of `CircuitParameters` to change, by name.

    Raises
    ------
    TypeError
        If a change names a parameter that the table does not have, or a number, seeds included, is none.
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> device = Circuit(seed=0, ideal=True)
    >>> device(np.full((1, 196), 2.0), np.empty(0)).shape
    (1, 196)
    """

    input_dim = output_dim = 196
    param_dim = 0
    control_unit = output_unit = "V"
    pass_time = 196e-6 + 2e-3  # s: the waveform, then thirteen ring times at zero volts before the next

    def __init__(self, seed=0, noise_seed=0, ideal=False, substeps=2, **changes):
        super().__init__(noise_seed)
        self.parameters = p = make_parameters(CircuitParameters, ideal, **changes)
        self.input_range = (-p.drive_range, p.drive_range)
        self.substeps = substeps
        parts, converters = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
        self._copy = manufactured(p, parts)
        self._gain = 1 + p.gain_error * converters.standard_normal(2)  # output, input
        self._offset = p.offset_error * converters.standard_normal(2)

    def respond(self, x, theta):
        """Return the measured voltages, shape (n, 196); see `PhysicalSystem.__call__`."""
        p = self.parameters
        drive = self._convert(x.astype(np.float64)) * self._gain[0] + self._offset[0]
        delay = None
        if p.jitter or p.trigger_jitter:
            delay = p.jitter * self._noise.standard_normal(drive.shape)
            delay += p.trigger_jitter * self._noise.standard_normal((len(drive), 1))
        y = simulate(self._copy, drive, self.substeps, delay)
        y = y * self._gain[1] + self._offset[1]
        if p.noise:
            y += p.noise * self._noise.standard_normal(y.shape)
        return self._convert(y)

    def _convert(self, voltage):
        """Round to the converter's steps and clip to its range, if it has a resolution."""
        p = self.parameters
        if not p.converter_bits:
            return voltage
        step = 2 * p.converter_range / 2**p.converter_bits
        return np.clip(np.round(voltage / step) * step, -p.converter_range, p.converter_range - step)


def manufactured(p, rng):
    """Return the parameters of one copy: nominal values with this copy's component tolerances.

    Parameters
    ----------
    p : CircuitParameters
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If a spread is so large that this copy has a component outside the range allowed for it, such as a negative capacitance.
    """
    z = rng.standard_normal(7)
    copy = dataclasses.replace(
        p, resistance=p.resistance * (1 + p.resistor_spread * z[0]) + p.output_impedance,
        load_resistance=p.load_resistance * (1 + p.resistor_spread * z[1]),
        inductance=p.inductance * (1 + p.inductor_spread * z[2]),
        capacitance=p.capacitance * (1 + p.capacitor_spread * z[3]) + p.input_capacitance,
        threshold=p.threshold + p.threshold_spread * z[4],
        transconductance=p.transconductance * (1 + p.transconductance_spread * z[5]),
        diode_saturation_current=p.diode_saturation_current * math.exp(p.diode_spread * z[6]))
    for field in dataclasses.fields(copy):
        (low, high), value = field.metadata["allowed"], getattr(copy, field.name)
        if not low <= value <= high:
            raise ValueError(f"{field.name} = {value:g} of this copy is outside the allowed range [{low:g}, {high:g}]: a spread is too large")
    return copy
