"""Vibrations of a thin rectangular plate whose edges are all free (Kirchhoff-Love theory, Rayleigh-Ritz).

A plate of sides a, b, thickness h, density rho and flexural rigidity D = E h^3 / (12 (1 - nu^2)) stores the energy

    U = D/2 * integral of  w_xx^2 + w_yy^2 + 2 nu w_xx w_yy + 2 (1 - nu) w_xy^2,
    T = rho h / 2 * integral of  w_t^2.

Products of Legendre polynomials, w = sum c_mn P_m(2x/a) P_n(2y/b), make both quadratic forms in c; free edges set no
condition on w, so every polynomial is admissible. The eigenvalues converge from above and exponentially in the degree.

References
----------
.. [1] A. W. Leissa, J. Sound Vib. 31, 257 (1973): frequency parameters of rectangular plates.
.. [2] W. Ritz, Ann. Phys. 333, 737 (1909): the method, invented for this very problem.
"""

import dataclasses

import numpy as np
import scipy.linalg
from numpy.polynomial import legendre

from pnn_utils.systems.base import check_number, check_whole


@dataclasses.dataclass(frozen=True)
class PlateModes:
    """Modes of a free plate, in ascending order, the three rigid ones (frequency 0) left out.

    Attributes
    ----------
    frequency_parameter : ndarray, shape (modes,)
        omega a^2 sqrt(rho h / D), without unit.
    coefficients : ndarray, shape (modes, degree + 1, degree + 1)
        Of the products of orthonormal Legendre polynomials; the mean of each shape's square over the plate is 1.
    """

    frequency_parameter: np.ndarray
    coefficients: np.ndarray

    def shapes(self, x, y):
        """Return the deflection of every mode, shape (modes, *x.shape), at x, y in half sides, -1 to 1."""
        degree = self.coefficients.shape[1] - 1
        norm = np.sqrt(2 * np.arange(degree + 1) + 1)
        along_x, along_y = (legendre.legvander(np.asarray(v, float), degree) * norm for v in (x, y))
        return np.einsum("kmn,...m,...n->k...", self.coefficients, along_x, along_y)


def free_plate_modes(n_modes, poisson, aspect=1.0, degree=14):
    """Solve for the lowest elastic modes of a free rectangular plate.

    Parameters
    ----------
    n_modes : int
        Modes wanted, the rigid ones not counted; at least 1.
    poisson : float
        Poisson's ratio, above -1 and below 0.5.
    aspect : float
        a / b, 1e-6 to 1e6.
    degree : int
        Highest degree of the polynomials in each direction, 2 to 40; 14 gives ten modes to 1e-6 and sixteen to 1e-4.

    Returns
    -------
    PlateModes

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If an argument is out of its range, or the basis has fewer modes than wanted.
    """
    check_number(-np.inf, poisson=poisson, aspect=aspect)
    check_whole(-np.inf, n_modes=n_modes, degree=degree)
    if not -1 < poisson < 0.5:
        raise ValueError(f"Poisson's ratio is {poisson}; expected above -1 and below 0.5")
    if not 1e-6 <= aspect <= 1e6:
        raise ValueError(f"aspect is {aspect}; expected a positive number, 1e-6 to 1e6")
    if not 2 <= degree <= 40:
        raise ValueError(f"degree is {degree}; expected 2 to 40")
    if not 1 <= n_modes <= (degree + 1) ** 2 - 3:
        raise ValueError(f"n_modes is {n_modes}; expected 1 to {(degree + 1) ** 2 - 3} at degree {degree}")
    size = degree + 1
    points, weights = legendre.leggauss(size + 1)  # exact up to degree 2 size + 1
    norm = np.sqrt(2 * np.arange(size) + 1)
    values, slopes, curvatures = (
        np.stack([legendre.legval(points, legendre.legder(np.eye(size)[m], order)) for m in range(size)]) * norm[:, None] * 2**order
        for order in range(3))  # derivatives with respect to x / a, which runs over a unit length
    mean = weights / 2
    unit = np.eye(size)
    bent, twisted, mixed = (f * mean @ g.T for f, g in ((curvatures, curvatures), (slopes, slopes), (curvatures, values)))
    r = aspect**2
    stiffness = (np.kron(bent, unit) + r**2 * np.kron(unit, bent) + poisson * r * (np.kron(mixed, mixed.T) + np.kron(mixed.T, mixed))
                 + 2 * (1 - poisson) * r * np.kron(twisted, twisted))
    squares, vectors = scipy.linalg.eigh(stiffness, subset_by_index=[3, 2 + n_modes])
    return PlateModes(np.sqrt(squares), vectors.T.reshape(n_modes, size, size))
