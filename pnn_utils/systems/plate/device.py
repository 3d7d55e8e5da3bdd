"""Simulated device: a square titanium plate on a loudspeaker's voice coil, driven by sound and heard by a microphone.

The converter's voltage, amplified, drives the coil of a small loudspeaker without its cone; the plate is glued to the coil along a ring. The coil
moves plate, coil and suspension; the microphone hears the sound pressure of the accelerating plate on its axis. Nearly linear: the force factor and
the suspension change with the excursion, and bending stretches the plate. `plate_equations` has the equations of motion, `plate_solver` solves them.

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022), Fig. 4a-d and Methods.
.. [2] W. Klippel, J. Audio Eng. Soc. 54, 907 (2006): loudspeaker nonlinearities.
.. [3] S. Timoshenko, S. Woinowsky-Krieger, Theory of Plates and Shells, 2nd ed. (1959), chapter 13: large deflections.
.. [4] hsttitanium.tistory.com/352: modulus of titanium and its alloys.
.. [5] Goodfellow, titanium data sheet, goodfellow.com/usa/material/metals/titanium.
"""

import dataclasses

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters, parameter
from pnn_utils.systems.plate.equations import state_space
from pnn_utils.systems.plate.solver import modal, run


@dataclasses.dataclass(frozen=True)
class PlateParameters:
    """Numbers of the plate device in SI units; imperfections have a value that switches them off."""

    side: float = parameter(32e-3, "m", "3.2 cm [1]", allowed=(1e-3, 1.0))
    thickness: float = parameter(1e-3, "m", "recalled from the paper, unchecked", allowed=(1e-5, 1e-2))
    youngs_modulus: float = parameter(105e9, "Pa", "commercially pure titanium, 105 to 109 GPa [4]", allowed=(1e6, 1e12))
    density: float = parameter(4510.0, "kg/m^3", "titanium [5]", allowed=(1.0, 3e4))
    poisson: float = parameter(0.34, "1", "titanium [5]", allowed=(0.0, 0.49))
    n_modes: int = parameter(16, "modes", "chosen: elastic modes up to 35 kHz, twice the microphone's band", allowed=(1, 100))
    mode_q: float = parameter(100.0, "1", "chosen: bare metal has over 1000, glue and coil former take most of it", allowed=(1.0, 1e5))
    coil_radius: float = parameter(7e-3, "m", "14 mm voice coil, as 2 inch drivers have (recalled, unchecked)", allowed=(1e-4, 0.1))
    coil_mass: float = parameter(0.8e-3, "kg", "coil, former and glue of such a driver (estimated)", allowed=(0.0, 1.0))
    coil_resistance: float = parameter(6.8, "ohm", "8 ohm driver (typical, recalled, unchecked)", allowed=(0.1, 1e3))
    coil_inductance: float = parameter(0.12e-3, "H", "such a driver (typical, recalled, unchecked)", allowed=(1e-7, 1.0))
    force_factor: float = parameter(3.2, "N/A", "such a driver (typical, recalled, unchecked)", allowed=(1e-6, 1e3))
    suspension_stiffness: float = parameter(1.3e3, "N/m", "such a driver (typical, recalled, unchecked)", allowed=(1.0, 1e6))
    suspension_q: float = parameter(4.0, "1", "mechanical, without the coil's braking", allowed=(0.3, 1e3))
    excursion: float = parameter(2e-3, "m", "X, scale of the next four rows: linear range of such a driver (typical, recalled)", allowed=(1e-5, 1.0))
    force_factor_slope: float = parameter(-0.08, "1", "b_1: coil not centred in the gap [2]", ideal=0.0, allowed=(-1.0, 1.0))
    force_factor_curvature: float = parameter(-0.25, "1", "b_2: B falls to about 75 % at X [2]", ideal=0.0, allowed=(-1.0, 1.0))
    stiffness_slope: float = parameter(0.10, "1", "k_1: asymmetric suspension [2]", ideal=0.0, allowed=(-1.0, 1.0))
    stiffness_curvature: float = parameter(0.5, "1", "k_2: suspension hardens [2]", ideal=0.0, allowed=(0.0, 10.0))
    stretching: float = parameter(0.3, "1", "c in force = k d (1 + c d^2 / h^2): order of a centrally loaded plate with free edges [3]", ideal=0.0,
                                  allowed=(0.0, 10.0))
    amplifier_gain: float = parameter(4.0, "V/V", "chosen: 4 V at full scale, 2.4 W; 1 V that lasts moves the coil by 1.4 mm", allowed=(1e-3, 1e3))
    sample_rate: float = parameter(48e3, "Hz", "chosen; a usual rate of audio converters", allowed=(1e3, 1e6))
    microphone_distance: float = parameter(20e-3, "m", "chosen: close, on the axis", allowed=(1e-3, 10.0))
    microphone_resonance: float = parameter(18e3, "Hz", "upper end of a small capsule's band", allowed=(1e3, 1e6))
    microphone_q: float = parameter(0.8, "1", "capsule damped to be nearly flat", allowed=(0.3, 10.0))
    microphone_highpass: float = parameter(40.0, "Hz", "lower end of such a microphone's band", allowed=(0.1, 1e3))
    sensitivity: float = parameter(0.3, "V/Pa", "chosen with the preamplifier: the loudest moments reach half of full scale", allowed=(1e-6, 1e3))
    full_scale: float = parameter(2.0, "V", "converter's range, +-", allowed=(1e-3, 1e3))
    offset_of_coil: float = parameter(0.3e-3, "m", "sd over copies, each direction: glued by hand", ideal=0.0, allowed=(0.0, 5e-3))
    offset_of_microphone: float = parameter(1e-3, "m", "sd over copies, each direction", ideal=0.0, allowed=(0.0, 1e-2))
    size_tolerance: float = parameter(0.02, "1", "relative sd over copies of the thickness; of the sides a tenth of it", ideal=0.0, allowed=(0.0, 0.1))
    driver_tolerance: float = parameter(0.05, "1", "relative sd over copies of each number of the driver", ideal=0.0, allowed=(0.0, 0.1))
    q_spread: float = parameter(0.2, "1", "sd over copies and modes of log Q: glue", ideal=0.0, allowed=(0.0, 1.0))
    sound_noise: float = parameter(5e-3, "Pa", "rms of a quiet room, 48 dB, and the microphone's own", ideal=0.0, allowed=(0.0, 10.0))
    timing_jitter: float = parameter(0.2e-6, "s", "sd of the recording's start after alignment, one draw a waveform", ideal=0.0, allowed=(0.0, 1e-5))
    periods: int = parameter(2, "1", "chosen: the waveform is played this often, the last round is recorded", allowed=(1, 100))
    rest: float = parameter(0.1, "s", "chosen: silence before the next waveform, many times the longest decay", allowed=(0.0, 10.0))
    adc_bits: int = parameter(16, "bits", "audio converter", ideal=0, allowed=(0, 32))


class Plate(PhysicalSystem):
    """A waveform of voltages in, as many samples of the microphone out; there are no parameter controls.

    The converter plays the waveform `periods` times in a row and the last round is recorded, so with two periods the
    end of the waveform still rings when its beginning is heard.

    Parameters
    ----------
    seed : int
        Fixes this copy's fabrication errors.
    noise_seed : int
        Seed of the noise generator.
    ideal : bool
        Switch every imperfection off, the nonlinearities included.
    samples : int
        Length of a waveform.
    steps_per_sample : int
        Splitting steps for the nonlinear terms; the linear part is exact with any number.
    **changes
        Values of `PlateParameters` to change, by name.

    Raises
    ------
    TypeError
        If a change names a parameter that the table does not have, or a number, seeds included, is none.
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> device = Plate(seed=0, ideal=True)
    >>> device(np.full((1, 196), 0.5), np.zeros(0)).shape
    (1, 196)
    """

    param_dim = 0
    input_range = (-1.0, 1.0)
    control_unit = "V at the converter"
    output_unit = "full scales of the converter"

    def __init__(self, seed=0, noise_seed=0, ideal=False, samples=196, steps_per_sample=1, **changes):
        super().__init__(noise_seed)
        self.parameters = p = make_parameters(PlateParameters, ideal, **changes)
        check_whole(1, samples=samples, steps_per_sample=steps_per_sample)
        self.input_dim = self.output_dim = samples
        self.pass_time = p.periods * samples / p.sample_rate + p.rest
        self.steps_per_sample = steps_per_sample
        self.space = state_space(p, None if ideal else seed)
        self._modal = modal(self.space, p, steps_per_sample)

    def respond(self, x, theta):
        p = self.parameters
        heard = self.trajectory(x, np.stack([self.space.sound, self.space.sound_slope]))
        kind = heard.dtype.type
        jitter = kind(p.timing_jitter) * self._noise.standard_normal((len(x), 1), dtype=kind)
        noise = kind(p.sensitivity * p.sound_noise) * self._noise.standard_normal(x.shape, dtype=kind)
        y = (heard[..., 0] + jitter * heard[..., 1] + noise) / kind(p.full_scale)
        if p.adc_bits:
            y = np.round(np.clip(y, -1, 1) * 2 ** (p.adc_bits - 1)) / 2 ** (p.adc_bits - 1)
        return y

    def trajectory(self, x, rows):
        """Follow readings of the state, which no instrument would show, at the end of every recorded sample.

        Parameters
        ----------
        x : ndarray, shape (n, samples), float32 or float64
            Volts at the converter. The calculation keeps this precision; float32 is twice as fast and good to 1e-5 of the loudest reading.
        rows : ndarray, shape (outputs, states)
            What to read, as rows of a `StateSpace`.

        Returns
        -------
        ndarray, shape (n, samples, outputs)
        """
        p = self.parameters
        drive = np.tile(x * x.dtype.type(p.amplifier_gain), p.periods)
        return run(self._modal, drive, rows, self.steps_per_sample, skip=(p.periods - 1) * x.shape[1])
