"""Simulated device: a square titanium plate on a loudspeaker's voice coil, driven by sound and heard by a microphone.

The plate (deflection w, mass m_p, thin, edges free) is glued along the ring of the voice coil. With the free plate's modes phi_n (mean square 1;
n = 0 is the plate moving as a whole) w = sum_n q_n phi_n, and the coil's excursion is the mean over the ring, x = sum_n q_n phi_n(ring):

    m_p q_n'' + m_p omega_n^2 q_n + phi_n(ring) (m_c x'' + K(x) x) = phi_n(ring) B(x) i - kappa_n k_4 d^3     motion
    L i' + R i = u - B(x) x'                                                                                   voice coil
    B(x) = B_0 (1 + b_1 x/X + b_2 x^2/X^2),   K(x) = K_0 (1 + k_1 x/X + k_2 x^2/X^2)                            large excursion
    d = sum_{n > 0} kappa_n q_n,   kappa_n = phi_n(ring)                                                       stretching (see `stretch_stiffness`)

The linear mechanical part (B = K = 0 terms aside) is diagonalised, each mode of the assembled plate, coil and suspension has its own
Q, and the microphone hears the pressure of the accelerating surface on the plate's axis,

    p = sum_k G_k z_k'',   G_k = rho_air / (2 pi) Re integral of psi_k exp(-i w_k (r - r_0) / c) / r dA,

(Rayleigh's integral at the mode's own frequency) through its own resonance and a high-pass filter. u is the amplifier's voltage, constant during each
sample of the drive. Everything linear is solved exactly, as a sum of exponentials; what is nonlinear acts as kicks between half steps (Strang splitting).

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022), Fig. 4a-d and Methods.
.. [2] W. Klippel, J. Audio Eng. Soc. 54, 907 (2006): loudspeaker nonlinearities.
.. [3] S. Timoshenko, S. Woinowsky-Krieger, Theory of Plates and Shells, 2nd ed. (1959), chapter 13: large deflections.
.. [4] H. Kuttruff, Acoustics: An Introduction (2007): Rayleigh's integral.
.. [5] hsttitanium.tistory.com/352: modulus of titanium and its alloys.
.. [6] Goodfellow, titanium data sheet, goodfellow.com/usa/material/metals/titanium.
"""

import dataclasses

import numba
import numpy as np
import scipy.linalg

from pnn_utils.systems.base import PhysicalSystem, make_parameters, parameter
from pnn_utils.systems.free_plate import free_plate_modes

AIR_DENSITY, SOUND_SPEED = 1.204, 343.2  # kg/m^3 and m/s at 20 degrees C, 1013 hPa
LANES = 16  # waveforms that the inner loop advances together


@dataclasses.dataclass(frozen=True)
class PlateParameters:
    """Numbers of the plate device in SI units; imperfections have a value that switches them off."""

    side: float = parameter(32e-3, "m", "3.2 cm [1]", allowed=(1e-3, 1.0))
    thickness: float = parameter(1e-3, "m", "recalled from the paper, unchecked", allowed=(1e-5, 1e-2))
    youngs_modulus: float = parameter(105e9, "Pa", "commercially pure titanium, 105 to 109 GPa [5]", allowed=(1e6, 1e12))
    density: float = parameter(4510.0, "kg/m^3", "titanium [6]", allowed=(1.0, 3e4))
    poisson: float = parameter(0.34, "1", "titanium [6]", allowed=(0.0, 0.49))
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



@dataclasses.dataclass(frozen=True)
class StateSpace:
    """The device's linear part, s' = A s + columns, and the readings rows . s; s is (Omega_k z_k, z_k', i, microphone, high-pass).

    Attributes
    ----------
    matrix : ndarray, shape (states, states)
        1/s.
    voltage, force, stretch : ndarray, shape (states,)
        What one volt at the coil, one newton at the coil, and one newton along d add to s'.
    excursion, speed, current, deflection, sound, sound_slope : ndarray, shape (states,)
        Readings: x (m), x' (m/s), i (A), d (m), microphone with preamplifier (V), its derivative (V/s).
    force_factor, suspension : float
        B_0 in N/A and K_0 in N/m of this copy.
    stretch_stiffness : float
        k_4 in N/m^3: restoring force k_4 d^3.
    energy : ndarray, shape (states,)
        Weights of the squares in the stored energy, J.
    frequencies : ndarray, shape (modes,)
        Of plate, coil and suspension assembled, Hz, without electrical damping; the first is the suspension's.
    """

    matrix: np.ndarray
    voltage: np.ndarray
    force: np.ndarray
    stretch: np.ndarray
    excursion: np.ndarray
    speed: np.ndarray
    current: np.ndarray
    deflection: np.ndarray
    sound: np.ndarray
    sound_slope: np.ndarray
    force_factor: float
    suspension: float
    stretch_stiffness: float
    energy: np.ndarray
    frequencies: np.ndarray


def state_space(p, seed=0):
    """Assemble plate, coil, suspension, amplifier and microphone of one copy of the device.

    Parameters
    ----------
    p : PlateParameters
    seed : int
        Draws this copy's errors, each from its own generator and in units of the spreads that `p` states.

    Returns
    -------
    StateSpace
    """
    glue, desk, sheet, driver, losses = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5))
    thickness = p.thickness * (1 + p.size_tolerance * sheet.standard_normal())
    side_x, side_y = p.side * (1 + 0.1 * p.size_tolerance * sheet.standard_normal(2))
    resistance, inductance, force_factor, suspension, coil_mass = np.array(
        [p.coil_resistance, p.coil_inductance, p.force_factor, p.suspension_stiffness, p.coil_mass]) * (1 + p.driver_tolerance * driver.standard_normal(5))
    rigidity = p.youngs_modulus * thickness**3 / (12 * (1 - p.poisson**2))
    mass = p.density * thickness * side_x * side_y
    modes = free_plate_modes(p.n_modes, p.poisson, side_x / side_y)
    omega = np.concatenate([[0], modes.frequency_parameter]) * np.sqrt(rigidity / (p.density * thickness)) / side_x**2

    angle = 2 * np.pi * np.arange(64) / 64
    centre = p.offset_of_coil * glue.standard_normal(2)
    ring = modes.shapes((centre[0] + p.coil_radius * np.cos(angle)) * 2 / side_x, (centre[1] + p.coil_radius * np.sin(angle)) * 2 / side_y).mean(-1)
    held = np.concatenate([[1], ring])  # phi_n at the coil; the plate as a whole first
    bent = np.concatenate([[0], ring])
    inertia = mass * np.eye(len(held)) + coil_mass * np.outer(held, held)
    stiffness = np.diag(mass * omega**2) + suspension * np.outer(held, held)
    squares, shapes = scipy.linalg.eigh(stiffness, inertia)
    natural = np.sqrt(squares)
    quality = np.concatenate([[p.suspension_q], p.mode_q * np.exp(p.q_spread * losses.standard_normal(p.n_modes))])
    at_coil, at_bend = held @ shapes, bent @ shapes

    nodes, weights = np.polynomial.legendre.leggauss(24)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    away = p.offset_of_microphone * desk.standard_normal(2)
    distance = np.sqrt(p.microphone_distance**2 + (x * side_x / 2 - away[0]) ** 2 + (y * side_y / 2 - away[1]) ** 2)
    surface = np.einsum("n...,nk->k...", np.concatenate([np.ones((1, *x.shape)), modes.shapes(x, y)]), shapes)
    delay = np.cos(natural[:, None, None] * (distance - p.microphone_distance) / SOUND_SPEED)
    area = side_x * side_y * np.outer(weights, weights) / 4
    heard = AIR_DENSITY / (2 * np.pi) * (surface * delay / distance * area).sum((1, 2))  # Pa per (m/s^2) of z_k''

    n = len(natural)
    z, v, i, m, dm, hp = np.arange(n), np.arange(n, 2 * n), 2 * n, 2 * n + 1, 2 * n + 2, 2 * n + 3
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    unit = np.eye(2 * n + 4)
    matrix = np.zeros_like(unit)
    matrix[z, v] = natural
    matrix[v, z], matrix[v, v], matrix[v, i] = -natural, -natural / quality, at_coil * force_factor
    matrix[i, v], matrix[i, i] = -force_factor * at_coil / inductance, -resistance / inductance
    # The capsule's displacement m follows the pressure, scaled so that m = p when all is slow; dm is m' / ear.
    matrix[m, dm], matrix[dm, m], matrix[dm, dm] = ear, -ear, -ear / p.microphone_q
    matrix[dm] += ear * heard @ matrix[v]
    matrix[hp, m], matrix[hp, hp] = high, -high

    def pushing(force_on_modes):
        column = np.zeros(2 * n + 4)
        column[v], column[dm] = force_on_modes, ear * heard @ force_on_modes
        return column

    excursion, speed, deflection = np.zeros((3, 2 * n + 4))
    excursion[z], speed[v], deflection[z] = at_coil / natural, at_coil, at_bend / natural
    sound = p.sensitivity * (unit[m] - unit[hp])
    static = 1 / (ring**2 / (mass * omega[1:] ** 2)).sum()  # N/m: the ring pushed against the plate's own inertia
    return StateSpace(matrix, unit[i] / inductance, pushing(at_coil), pushing(at_bend), excursion, speed, unit[i], deflection, sound,
                      sound @ matrix, force_factor, suspension, p.stretching * static / thickness**2,
                      np.concatenate([np.full(2 * n, 0.5), [inductance / 2, 0, 0, 0]]), natural / (2 * np.pi))


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


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _advance(drive, steps, flow, kicks, readings, weights, direct, numbers, skip, linear):
    """Run LANES waveforms at a time; returns the recorded readings, shape (waveforms, samples - skip, outputs).

    drive is in volts at the coil, shape (waveforms, samples), and the number of waveforms a multiple of LANES: every row
    then takes the same path through the vector units and gives the same bytes in any batch.
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
        flow, kicks, readings, records, numbers = self._modal
        real, pair = (np.float32, np.complex64) if x.dtype == np.float32 else (np.float64, np.complex128)
        drive = np.zeros((-(-len(x) // LANES) * LANES, p.periods * x.shape[1]), real)
        drive[: len(x)] = np.tile(p.amplifier_gain * x, p.periods)
        linear = not (numbers[2:7] != 0).any()
        weights, direct = records(rows)
        flow, kicks, readings, weights = (np.ascontiguousarray(values, dtype=pair) for values in (flow, kicks, readings, weights))
        recorded = _advance(drive, self.steps_per_sample, flow, kicks, readings, weights, direct.astype(real), numbers.astype(real),
                            (p.periods - 1) * x.shape[1], linear)
        return recorded[: len(x)]
