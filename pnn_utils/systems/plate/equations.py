"""Equations of motion of the plate device: plate, voice coil, suspension, amplifier and microphone.

With the free plate's modes phi_n (mean square 1; n = 0 is the plate moving as a whole) the deflection is w = sum_n q_n phi_n, r_n is the
mean of phi_n over the ring where the coil of mass m_c holds the plate of mass m_p, and x = sum_n r_n q_n is the coil's excursion:

    m_p q_n'' + m_p omega_n^2 q_n + r_n (m_c x'' + K(x) x) = r_n B(x) i - r_n k_4 d^3 [n > 0]     motion
    L i' + R i = u - B(x) x'                                                                     voice coil
    B(x) = B_0 (1 + b_1 x/X + b_2 x^2/X^2),   K(x) = K_0 (1 + k_1 x/X + k_2 x^2/X^2)              large excursion
    d = sum_{n > 0} r_n q_n                                                                      bending under the coil

The force k_4 d^3 stands for the plate's stretching under a central load, whose stiffness grows as 1 + c d^2 / h^2 with the thickness h. It couples
all modes weakly. The linear mechanical part, K = K_0 and no current, is diagonalised; each mode z_k of the assembled plate, coil and
suspension then has a Q of its own. The microphone hears the pressure of the accelerating surface on the plate's axis,

    p = sum_k G_k z_k'',   G_k = rho_air / (2 pi) Re integral of psi_k exp(-i w_k (r - r_0) / c) / r dA,

Rayleigh's integral at the mode's own frequency w_k (shape psi_k, distances r, and r_0 along the axis), through its own resonance and a high-pass filter.

References
----------
.. [1] H. Kuttruff, Acoustics: An Introduction (2007): Rayleigh's integral.
"""

import dataclasses

import numpy as np
import scipy.linalg

from pnn_utils.systems.plate.ritz import free_plate_modes

AIR_DENSITY, SOUND_SPEED = 1.204, 343.2  # kg/m^3 and m/s at 20 degrees C, 1013 hPa


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

    Raises
    ------
    TypeError
        If the seed is not a whole number.
    ValueError
        If it is negative, or with these parameters, such as a coil wider than the plate, no modes can be found.
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
