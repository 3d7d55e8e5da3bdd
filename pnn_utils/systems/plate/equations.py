"""The plate device's linear part: modes of the free plate, then plate, coil and microphone.

A thin plate of sides a, b, thickness h, density rho, whose edges are all free (Kirchhoff, Love),
stores, with the flexural rigidity D = E h^3 / (12 (1 - nu^2)), the energies

    U = D/2 * integral of  w_xx^2 + w_yy^2 + 2 nu w_xx w_yy + 2 (1 - nu) w_xy^2,
    T = rho h / 2 * integral of  w_t^2.

Products of Legendre polynomials, w = sum c_mn P_m(2x/a) P_n(2y/b), make both quadratic forms in c;
free edges set no condition on w, so every polynomial is admissible (Rayleigh, Ritz). Eigenvalues
converge from above and exponentially in the degree.

The coil couples these modes (equations of motion: `device`). With K = K_0 and no current the whole
is diagonalised; each mode z_k of plate, coil and suspension then has a Q of its own, and is heard
by Rayleigh's integral at its own frequency w_k (shape psi_k, distances r, r_0 on the axis):

    p = sum_k G_k z_k'',
    G_k = rho_air / (2 pi) Re integral of psi_k exp(-i w_k (r - r_0) / c) / r dA.

References
----------
.. [1] A. W. Leissa, J. Sound Vib. 31, 257 (1973): frequency parameters of rectangular plates.
.. [2] W. Ritz, Ann. Phys. 333, 737 (1909): the method, invented for this very problem.
.. [3] H. Kuttruff, Acoustics: An Introduction (2007): Rayleigh's integral.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import scipy.linalg
from numpy.polynomial import legendre

AIR_DENSITY, SOUND_SPEED = 1.204, 343.2  # kg/m^3 and m/s at 20 degrees C, 1013 hPa


def free_plate_modes(n_modes, poisson, aspect=1.0, degree=14):
    """Return the lowest elastic modes of a free rectangular plate, as `PlateModes`.

    aspect is a / b; polynomials up to degree 14 give ten modes to 1e-6 and sixteen to 1e-4.
    """
    size = degree + 1
    points, weights = legendre.leggauss(size + 1)  # exact up to degree 2 size + 1
    norm = np.sqrt(2 * np.arange(size) + 1)
    unit = np.eye(size)

    # Derivatives with respect to x / a, which runs over a unit length.
    values, slopes, curvatures = (
        legendre.legval(points, legendre.legder(unit, order)) * norm[:, None] * 2**order
        for order in range(3))
    mean = weights / 2
    bent, twisted, mixed = (f * mean @ g.T for f, g in (
        (curvatures, curvatures), (slopes, slopes), (curvatures, values)))
    r = aspect**2
    stiffness = (np.kron(bent, unit) + r**2 * np.kron(unit, bent)
                 + poisson * r * (np.kron(mixed, mixed.T) + np.kron(mixed.T, mixed))
                 + 2 * (1 - poisson) * r * np.kron(twisted, twisted))
    squares, vectors = scipy.linalg.eigh(stiffness, subset_by_index=[3, 2 + n_modes])
    return PlateModes(np.sqrt(squares), vectors.T.reshape(n_modes, size, size))


def state_space(p, seed=0):
    """Assemble one copy's linear part, s' = A s + columns, with readings that are rows . s.

    The state s is (w_k z_k, z_k', i, microphone, its slope, high-pass); p holds the values of
    ``parameters.csv``; each error is drawn from its own generator in units of its spread. Returns

    matrix : A, shape (states, states), 1/s
    voltage, force, stretch : what 1 V at the coil, 1 N at the coil, 1 N along d add to s'
    excursion, speed, current, deflection : rows that read x (m), x' (m/s), i (A), d (m)
    sound, sound_slope : the microphone with its preamplifier (V), and its derivative (V/s)
    force_factor, suspension, stretch_stiffness : B_0 (N/A), K_0 (N/m), k_4 (N/m^3)
    frequencies : of the assembled modes, without the coil's braking, Hz, the suspension's first
    """
    glue, desk, sheet, driver, losses = np.random.default_rng(seed).spawn(5)
    thickness = p.thickness * (1 + p.size_tolerance * sheet.standard_normal())
    side_x, side_y = p.side * (1 + 0.1 * p.size_tolerance * sheet.standard_normal(2))
    bought = np.array([p.coil_resistance, p.coil_inductance, p.force_factor,
                       p.suspension_stiffness, p.coil_mass])
    resistance, inductance, force_factor, suspension, coil_mass = (
        bought * (1 + p.driver_tolerance * driver.standard_normal(5)))
    rigidity = p.youngs_modulus * thickness**3 / (12 * (1 - p.poisson**2))
    mass = p.density * thickness * side_x * side_y
    modes = free_plate_modes(p.n_modes, p.poisson, side_x / side_y)
    omega = np.concatenate([[0], modes.frequency_parameter]) * np.sqrt(
        rigidity / (p.density * thickness)) / side_x**2

    angle = 2 * np.pi * np.arange(64) / 64
    centre = p.offset_of_coil * glue.standard_normal(2)
    ring = modes.shapes((centre[0] + p.coil_radius * np.cos(angle)) * 2 / side_x,
                        (centre[1] + p.coil_radius * np.sin(angle)) * 2 / side_y).mean(-1)
    held, bent = np.insert(ring, 0, 1), np.insert(ring, 0, 0)  # the plate as a whole comes first
    inertia = mass * np.eye(len(held)) + coil_mass * np.outer(held, held)
    stiffness = np.diag(mass * omega**2) + suspension * np.outer(held, held)
    squares, shapes = scipy.linalg.eigh(stiffness, inertia)
    natural = np.sqrt(squares)
    plate_q = p.mode_q * np.exp(p.q_spread * losses.standard_normal(p.n_modes))
    quality = np.concatenate([[p.suspension_q], plate_q])
    at_coil, at_bend = held @ shapes, bent @ shapes
    microphone = *(p.offset_of_microphone * desk.standard_normal(2)), p.microphone_distance
    heard = _radiation(modes, shapes, natural, (side_x, side_y), microphone)

    n = len(natural)
    z, v = np.arange(n), np.arange(n, 2 * n)
    i, m, dm, hp = range(2 * n, 2 * n + 4)
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    unit = np.eye(2 * n + 4)
    matrix = np.zeros_like(unit)
    matrix[z, v], matrix[v, z], matrix[v, v] = natural, -natural, -natural / quality
    matrix[v, i], matrix[i, v] = at_coil * force_factor, -force_factor * at_coil / inductance
    matrix[i, i] = -resistance / inductance
    # The capsule's displacement m follows the pressure, m = p when all is slow; dm is m' / ear.
    matrix[m, dm], matrix[dm, m], matrix[dm, dm] = ear, -ear, -ear / p.microphone_q
    matrix[dm] += ear * heard @ matrix[v]
    matrix[hp, m], matrix[hp, hp] = high, -high

    def push(force_on_modes):  # the acceleration is heard at once
        return force_on_modes @ unit[v] + (ear * heard @ force_on_modes) * unit[dm]

    sound = p.sensitivity * (unit[m] - unit[hp])
    static = 1 / (ring**2 / (mass * omega[1:] ** 2)).sum()  # N/m: ring against plate's inertia
    return SimpleNamespace(
        matrix=matrix, voltage=unit[i] / inductance, force=push(at_coil), stretch=push(at_bend),
        excursion=at_coil / natural @ unit[z], speed=at_coil @ unit[v], current=unit[i],
        deflection=at_bend / natural @ unit[z], sound=sound, sound_slope=sound @ matrix,
        force_factor=force_factor, suspension=suspension,
        stretch_stiffness=p.stretching * static / thickness**2, frequencies=natural / (2 * np.pi))


def _radiation(modes, shapes, natural, sides, microphone):
    """Return G_k, Pa per (m/s^2) of z_k'', at the microphone's place (x, y, height), m."""
    nodes, weights = legendre.leggauss(24)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    (side_x, side_y), (away_x, away_y, height) = sides, microphone
    distance = np.sqrt(height**2 + (x * side_x / 2 - away_x) ** 2 + (y * side_y / 2 - away_y) ** 2)
    surface = np.einsum("n...,nk->k...", np.insert(modes.shapes(x, y), 0, 1, axis=0), shapes)
    delay = np.cos(natural[:, None, None] * (distance - height) / SOUND_SPEED)
    area = side_x * side_y * np.outer(weights, weights) / 4
    return AIR_DENSITY / (2 * np.pi) * (surface * delay / distance * area).sum((1, 2))


class PlateModes(namedtuple("PlateModes", "frequency_parameter coefficients")):
    """Modes of a free plate, in ascending order, the three rigid ones (frequency 0) left out.

    frequency_parameter : omega a^2 sqrt(rho h / D), shape (modes,)
    coefficients : of orthonormal polynomials, shape (modes, degree + 1, degree + 1)
    """

    def shapes(self, x, y):
        """Return deflections of mean square 1, shape (modes, *x.shape), at x, y in half sides."""
        degree = self.coefficients.shape[1] - 1
        norm = np.sqrt(2 * np.arange(degree + 1) + 1)
        along_x, along_y = (legendre.legvander(v, degree) * norm for v in (x, y))
        return np.einsum("kmn,...m,...n->k...", self.coefficients, along_x, along_y)
