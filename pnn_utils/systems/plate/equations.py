"""The plate device's linear part: modes of the free plate, then plate, coil and microphone.

A thin plate of sides a, b, thickness h, density rho, whose edges are all free (Kirchhoff, Love),
stores, with the flexural rigidity D = E h^3 / (12 (1 - nu^2)), the energies

    U = D/2 * integral of  w_xx^2 + w_yy^2 + 2 nu w_xx w_yy + 2 (1 - nu) w_xy^2,
    T = rho h / 2 * integral of  w_t^2.

Products of Legendre polynomials, w = sum c_mn P_m(2x/a) P_n(2y/b), make both quadratic forms in c;
free edges set no condition on w, so every polynomial is admissible (Rayleigh, Ritz). Eigenvalues
converge from above and exponentially in the degree.

The coil joins these forms (equations of motion: `device`). With K = K_0 and no current the whole
is diagonalised, and its lowest modes z_k are kept, each with a Q of its own. They are heard by
Rayleigh's integral, which takes the plate as part of a wide, rigid baffle: with the shape psi_k,
at distances r from the microphone, whose height is r_0, sound comes tau = (r - r_0) / c late,

    p(t) = sum_k rho_air / (2 pi) * integral of  psi_k z_k''(t - tau) / r  dA.

One delay line serves all modes, each of which enters it where its own shape says. Its states are
coefficients of Legendre polynomials in 2 tau / T - 1, T the longest delay: their first six make
the Pade approximation of every delay up to T [4].

References
----------
.. [1] A. W. Leissa, J. Sound Vib. 31, 257 (1973): frequency parameters of rectangular plates.
.. [2] W. Ritz, Ann. Phys. 333, 737 (1909): the method, invented for this very problem.
.. [3] H. Kuttruff, Acoustics: An Introduction (2007): Rayleigh's integral.
.. [4] A. Voelker, I. Kajic, C. Eliasmith, NeurIPS 32 (2019): Legendre memory units.
"""

from types import SimpleNamespace

import numpy as np
import scipy.linalg
from numpy.polynomial import legendre

AIR_DENSITY, SOUND_SPEED = 1.204, 343.2  # kg/m^3 and m/s at 20 degrees C, 1013 hPa
DEGREE = 20  # of the polynomials
DELAY_ORDER = 6  # of the delay's approximation


def polynomials(x, y, degree=DEGREE):
    """Return all products, of mean square 1 each, shape ((degree + 1)**2, *x.shape).

    x, y : half sides. Up to degree 14 they give ten modes to 1e-6 and sixteen to 1e-4.
    """
    norm = np.sqrt(2 * np.arange(degree + 1) + 1)
    along_x, along_y = (legendre.legvander(v, degree) * norm for v in (x, y))
    return np.einsum("...m,...n->mn...", along_x, along_y).reshape(-1, *np.shape(x))


def bending(poisson, aspect=1.0, degree=DEGREE):
    """Return the form U / (D b / 2 a^3) of the polynomials' coefficients, aspect = a / b.

    Its eigenvalues are the squares of the free plate's omega a^2 sqrt(rho h / D), the lowest three
    of them, of rigid motion, 0; its eigenvectors are the modes, of mean square 1.
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
    return (np.kron(bent, unit) + r**2 * np.kron(unit, bent)
            + poisson * r * (np.kron(mixed, mixed.T) + np.kron(mixed.T, mixed))
            + 2 * (1 - poisson) * r * np.kron(twisted, twisted))


def state_space(p, seed=0):
    """Assemble one copy's linear part, s' = A s + columns, with readings that are rows . s.

    The state s is (w_k z_k, z_k', i, microphone, its slope, high-pass, air); p holds the values of
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
    mass = p.density * thickness * side_x * side_y
    rigidity = p.youngs_modulus * thickness**3 / (12 * (1 - p.poisson**2))
    angle = 2 * np.pi * np.arange(64) / 64
    centre = p.offset_of_coil * glue.standard_normal(2)
    # The suspension lets the assembly move but not tilt: the polynomials y and x are left out.
    free = np.delete(np.arange((DEGREE + 1) ** 2), [1, DEGREE + 1])
    held = polynomials((centre[0] + p.coil_radius * np.cos(angle)) * 2 / side_x,
                       (centre[1] + p.coil_radius * np.sin(angle)) * 2 / side_y).mean(-1)[free]
    elastic = rigidity * side_y / side_x**3 * bending(
        p.poisson, side_x / side_y)[np.ix_(free, free)]
    squares, shapes = scipy.linalg.eigh(
        elastic + suspension * np.outer(held, held),
        mass * np.eye(len(held)) + coil_mass * np.outer(held, held),
        subset_by_index=[0, p.n_modes])
    natural = np.sqrt(squares)
    plate_q = p.mode_q * np.exp(p.q_spread * losses.standard_normal(p.n_modes))
    quality = np.concatenate([[p.suspension_q], plate_q])
    # The first polynomial is the plate as a whole, the others bend it.
    at_coil, at_bend = held @ shapes, held[1:] @ shapes[1:]
    microphone = *(p.offset_of_microphone * desk.standard_normal(2)), p.microphone_distance
    line, heard, ahead = _radiation(free, shapes, (side_x, side_y), microphone)

    n = len(natural)
    z, v = np.arange(n), np.arange(n, 2 * n)
    i, m, dm, hp = range(2 * n, 2 * n + 4)
    air = slice(2 * n + 4, None)
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    unit = np.eye(2 * n + 4 + len(line))
    matrix = np.zeros_like(unit)
    matrix[z, v], matrix[v, z], matrix[v, v] = natural, -natural, -natural / quality
    matrix[v, i], matrix[i, v] = at_coil * force_factor, -force_factor * at_coil / inductance
    matrix[i, i] = -resistance / inductance
    # The air hears accelerations. The capsule's displacement m follows the pressure, m = p when
    # all is slow; dm is m' / ear.
    matrix[air] = heard @ matrix[v]
    matrix[air, air], matrix[dm, air] = line, ear * ahead
    matrix[m, dm], matrix[dm, m], matrix[dm, dm] = ear, -ear, -ear / p.microphone_q
    matrix[hp, m], matrix[hp, hp] = high, -high

    def push(force_on_modes):
        return force_on_modes @ unit[v] + heard @ force_on_modes @ unit[air]

    sound = p.sensitivity * (unit[m] - unit[hp])
    static = 1 / (held[1:] @ np.linalg.solve(elastic[1:, 1:], held[1:]))  # N/m: ring against plate
    return SimpleNamespace(
        matrix=matrix, voltage=unit[i] / inductance, force=push(at_coil), stretch=push(at_bend),
        excursion=at_coil / natural @ unit[z], speed=at_coil @ unit[v], current=unit[i],
        deflection=at_bend / natural @ unit[z], sound=sound, sound_slope=sound @ matrix,
        force_factor=force_factor, suspension=suspension,
        stretch_stiffness=p.stretching * static / thickness**2, frequencies=natural / (2 * np.pi))


def _radiation(free, shapes, sides, microphone):
    """Return the delay line, A^T / T (1/s), what z_k'' adds to it, and what reads the pressure.

    The microphone is at (x, y, height), m.
    """
    nodes, weights = legendre.leggauss(24)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    (side_x, side_y), (away_x, away_y, height) = sides, microphone
    distance = np.sqrt(height**2 + (x * side_x / 2 - away_x) ** 2 + (y * side_y / 2 - away_y) ** 2)
    surface = np.einsum("nxy,nk->kxy", polynomials(x, y)[free], shapes)
    share = side_x * side_y * np.outer(weights, weights) / 4 / distance
    delay = (distance - height) / SOUND_SPEED
    longest, order = delay.max(), np.arange(DELAY_ORDER)
    along = legendre.legvander(2 * delay / longest - 1, DELAY_ORDER - 1)
    heard = AIR_DENSITY / (2 * np.pi) * np.einsum("kxy,xy,xyj->jk", surface, share, along)
    odd, later = 2 * order + 1, order[:, None] - order
    line = odd[:, None] * np.where(later < 0, -1, -(-1.0) ** later)
    return line.T / longest, heard, odd * (-1.0) ** order / longest
