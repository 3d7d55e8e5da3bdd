"""Simulated device: a titanium plate on a loudspeaker's voice coil, heard by a microphone.

                                           [=]   microphone -> high-pass -> converter -> y
                                           )))   sound pressure p on the axis
                              ===========================  titanium plate, deflection w
                                     |           |         glued to the coil along a ring
                              [-zzzz-|           |-zzzz-]  suspension K, no cone
    x -> converter -> amplifier -u-> |ooo  i  ooo|         voice coil in the magnet's field B

With the free plate's modes phi_n (mean square 1; n = 0: the plate as a whole) w = sum_n q_n phi_n;
r_n is the mean of phi_n over the ring where the coil, mass m_c, holds the plate, mass m_p; and
x = sum_n r_n q_n is the coil's excursion, d = sum_{n>0} r_n q_n the bending under it:

    m_p (q_n'' + w_n^2 q_n) + r_n (m_c x'' + K(x) x) = r_n B(x) i - r_n k_4 d^3 [n > 0]    motion
    L i' + R i = u - B(x) x'                                                           voice coil
    B(x) = B_0 (1 + b_1 x/X + b_2 x^2/X^2),  K(x) = K_0 (1 + k_1 x/X + k_2 x^2/X^2)     excursion
    p(t) = rho_air / (2 pi) * integral of  w''(t - (r - r_0) / c) / r  dA               sound

The plate is taken to lie flush in a wide baffle, so that no sound from its back reaches the
microphone; without one it would be up to 10 dB quieter there, below its resonances
(`tests/test_plate_assembly.py`). The glue is soft across the ring: the coil follows its mean.

Nearly linear: the force factor B and the suspension K change with the excursion, and bending
stretches the plate, whose stiffness under a central load grows as 1 + c d^2 / h^2 (thickness h).

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022), Fig. 4a-d and Methods.
.. [2] W. Klippel, J. Audio Eng. Soc. 54, 907 (2006): loudspeaker nonlinearities.
.. [3] S. Timoshenko, S. Woinowsky-Krieger, Theory of Plates and Shells, 2nd ed. (1959),
       chapter 13: large deflections.
.. [4] hsttitanium.tistory.com/352: modulus of titanium and its alloys.
.. [5] Goodfellow, titanium data sheet, goodfellow.com/usa/material/metals/titanium.
"""

from pathlib import Path

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters
from pnn_utils.systems.plate.equations import state_space
from pnn_utils.systems.plate.solver import modal, run

TABLE = Path(__file__).with_name("parameters.csv")


class Plate(PhysicalSystem):
    """A waveform of voltages in, as many samples of the microphone out; no parameter controls.

    The converter plays it `periods` times in a row and the last round is recorded: with two, the
    waveform's end still rings when its beginning is heard.

    seed, noise_seed : fix this copy's fabrication errors, and its noise
    ideal : switch every imperfection off, the nonlinearities included
    samples : length of a waveform
    steps_per_sample : splits the nonlinear terms; the linear part is exact with any number
    **changes : values of ``parameters.csv`` to change, by name

    >>> device = Plate(seed=0, ideal=True)
    >>> device(np.full((1, 196), 0.5), np.zeros(0)).shape
    (1, 196)
    """

    param_dim = 0
    input_range = (-1.0, 1.0)
    control_unit = "V at the converter"
    output_unit = "full scales of the converter"

    def __init__(self, seed=0, noise_seed=0, ideal=False, samples=196, steps_per_sample=1,
                 **changes):
        super().__init__(noise_seed)
        self.parameters = p = make_parameters(TABLE, ideal, **changes)
        check_whole(1, samples=samples, steps_per_sample=steps_per_sample)
        self.input_dim = self.output_dim = samples
        self.pass_time = p.periods * samples / p.sample_rate + p.rest
        self.steps_per_sample = steps_per_sample
        self.space = state_space(p, seed)
        self._modal = modal(self.space, p, steps_per_sample)

    def respond(self, x, theta):
        p = self.parameters
        heard = self.trajectory(x, np.stack([self.space.sound, self.space.sound_slope]))
        kind = heard.dtype.type
        jitter = kind(p.timing_jitter) * self._noise.standard_normal((len(x), 1), dtype=kind)
        noise = kind(p.sensitivity * p.sound_noise) * self._noise.standard_normal(x.shape, kind)
        y = (heard[..., 0] + jitter * heard[..., 1] + noise) / kind(p.full_scale)
        if p.adc_bits:
            y = np.round(np.clip(y, -1, 1) * 2 ** (p.adc_bits - 1)) / 2 ** (p.adc_bits - 1)
        return y

    def trajectory(self, x, rows):
        """Follow readings of the state, which no instrument would show, in the recorded round.

        x, shape (n, samples), are volts at the converter, in single precision (good to 1e-5 of the
        loudest reading) or double; rows, shape (outputs, states), are what to read of the state at
        the end of every sample. Returns shape (n, samples, outputs).
        """
        p = self.parameters
        drive = np.tile(x * x.dtype.type(p.amplifier_gain), p.periods)
        return run(self._modal, drive, rows, self.steps_per_sample, (p.periods - 1) * x.shape[1])
