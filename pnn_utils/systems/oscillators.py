"""Simulated device: a network of coupled nonlinear oscillators (pendulums), released from rest.

Data set the initial angles q_i(0); couplings J_ij = J_ji and constant drives e_i are the parameters; the
angles after a fixed time are the output. With time in units of 1/omega_0 of one pendulum [1],

    q_i'' = -sin q_i + sum_j J_ij (sin q_j - sin q_i) + e_i,    q_i'(0) = 0.

A coupling of an oscillator with itself exerts no force, so that the parameters are the N (N - 1) / 2
couplings with i < j, row by row, and after them the N drives. The force is linear in sin q,

    q'' = A sin q + e,    A_ij = J_ij for i != j,    A_ii = -1 - sum of J_ij over j != i,

with a symmetric A that is formed once per pass; each evaluation of the force is then one matrix product
for the whole batch.

The integrators use two facts: the force does not depend on the velocity, and the motion starts from rest, so
that q(t) is even in t. Each is an explicit method over the whole duration t,

    Q_i = q(0) + t^2 sum_{j<i} a_ij q''(Q_j),    q(t) = q(0) + t^2 sum_i b_i q''(Q_i),

with one matrix product per stage. `stoermer`, the default, marches in equal steps with one product per step:
the even continuation to t < 0 supplies the past that a multistep method needs, and fourth differences give order
five. `REST_4` takes one step; like a method for a first-order equation with t^2 for the time, it has to match one
condition per rooted tree, and its four stages match all trees with up to four vertices: an error of O(t^10). It is
the cheaper one while the couplings are small (t^2 times the largest eigenvalue of A below about 4).

References
----------
.. [1] Example 2 of github.com/mcmahon-lab/Physics-Aware-Training (CC BY 4.0): equation and gap.
.. [2] Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I (1993), section II.14: Nystroem
   methods and their order conditions (recalled, unchecked; the tests check the conditions themselves).
"""

import dataclasses

import numba
import numpy as np

from pnn_utils.systems.base import PhysicalSystem, make_parameters, parameter

TILE = 64  # two tiles of 64 x 64 float32 fit the first-level cache


class Tableau:
    """Coefficients of an explicit method for q'' = f(q) from rest, over a step of length 1.

    Parameters
    ----------
    a : sequence of sequences
        Row i has the i weights of the stages before it.
    b, v : sequence of float
        Weights of the final angles and of the final velocities.
    """

    def __init__(self, a, b, v):
        self.stages = len(b)
        self.a = np.zeros((self.stages, self.stages))
        for i, row in enumerate(a):
            self.a[i, : len(row)] = row
        self.b, self.v = np.array(b, float), np.array(v, float)


# The nodes c^2 = 0, 2/5 and 0, 1/12, 1/4, 9/13 fix everything else. They are round numbers near the smallest error of
# the next order; 9/13 is the only last node with which four stages can reach their order.
REST_2 = Tableau([[], [1 / 5]], [7 / 24, 5 / 24], [1 / 6, 5 / 6])
REST_4 = Tableau([[], [1 / 24], [5 / 88, 3 / 44], [3383 / 13182, -225 / 2197, 1265 / 6591]],
                 [5 / 28, 18 / 175, 418 / 2415, 2197 / 48300], [8 / 21, -12 / 175, 748 / 2415, 1521 / 4025])


def stoermer(steps, differences=4):
    """Explicit Stoermer method from rest: q(t+h) = 2 q(t) - q(t-h) + h^2 (weighted sum of present and past forces).

    Parameters
    ----------
    steps : int
        At least 2. The first is made with `REST_2`, so that there are ``steps + 1`` stages.
    differences : int
        Degree of the polynomial through the present and past forces, 0 (Stoermer-Verlet) to 8. Forces at negative
        times mirror those at positive ones. The global error is O(h^5) for the default; the start limits it to that.

    Returns
    -------
    Tableau
    """
    if steps < 2 or not 0 <= differences <= 8:
        raise ValueError(f"steps = {steps}, differences = {differences}; expected steps >= 2 and 0 <= differences <= 8")
    h, size, start = 1 / steps, steps + 1, REST_2.stages
    a, before, now = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    a[:start, :start] = h**2 * REST_2.a
    now[:start] = h**2 * REST_2.b

    def weights(j, newest, moments):
        """Add up forces at t_j and before so that polynomials times a kernel with these moments are integrated exactly."""
        nodes = newest - np.arange(len(moments))  # in steps from where the kernel is centred
        row = np.zeros(size)
        solved = np.linalg.solve(nodes[None, :] ** np.arange(len(moments))[:, None], moments)
        for past, weight in enumerate(solved):
            k = abs(j - past)
            row[k + start - 1 if k else 0] += weight  # stage 0 is t = 0; the other stages of the start are no grid points
        return row

    for j in range(1, steps):
        a[j + start - 1] = now
        power = np.arange(min(differences, 2 * j) + 1.0)  # with the mirrored ones, 2 j + 1 forces are known
        hat = (1 + (-1) ** power) / ((power + 1) * (power + 2))  # moments of the kernel 1 - |s| on [-1, 1]
        before, now = now, 2 * now - before + h**2 * weights(j, 0.0, hat)
    ramp = (-1) ** power / ((power + 1) * (power + 2))  # moments of 1 + s on [-1, 0], whose end is the end of the motion
    return Tableau(a, now, (now - before) / h + h * weights(steps - 1, -1.0, ramp))


# Eight steps, nine products: on states of trained networks more accurate than the authors' five steps of RK4, twenty products.
STOERMER_8 = stoermer(8)


def n_couplings(n_oscillators):
    """Return the number of couplings among `n_oscillators`: N (N - 1) / 2."""
    return n_oscillators * (n_oscillators - 1) // 2


@numba.njit
def unpack(couplings, matrix):
    """Write couplings, row by row of the upper triangle, into both triangles of `matrix`; its diagonal becomes 0."""
    n = len(matrix)
    for top in range(0, n, TILE):
        for left in range(top, n, TILE):
            for i in range(top, min(top + TILE, n)):
                row = i * (2 * n - i - 1) // 2 - i - 1  # couplings[row + j] is J_ij
                for j in range(max(left, i + 1), min(left + TILE, n)):
                    matrix[i, j] = couplings[row + j]
            # The tile is in the cache now, so that reading it by columns is cheap.
            for j in range(left, min(left + TILE, n)):
                for i in range(top, min(top + TILE, j)):
                    matrix[j, i] = matrix[i, j]
    for i in range(n):
        matrix[i, i] = 0


@numba.njit
def pack_gradient(product, gradient):
    """Turn dL/dA, all entries of A taken as independent, into dL/dJ_ij for i < j.

    J_ij stands in A_ij and A_ji, and with a minus sign in A_ii and A_jj.
    """
    n = len(product)
    diagonal = np.diag(product).copy()
    for top in range(0, n, TILE):
        for left in range(top, n, TILE):
            for i in range(top, min(top + TILE, n)):
                row = i * (2 * n - i - 1) // 2 - i - 1
                for j in range(max(left, i + 1), min(left + TILE, n)):
                    gradient[row + j] = product[i, j] + product[j, i] - diagonal[i] - diagonal[j]


def force_matrix(couplings, n_oscillators):
    """Return the symmetric A of q'' = A sin q + e, shape (N, N), for couplings of shape (N (N - 1) / 2,)."""
    matrix = np.empty((n_oscillators, n_oscillators), couplings.dtype)
    unpack(couplings, matrix)
    np.fill_diagonal(matrix, -1 - matrix.sum(1))
    return matrix


@dataclasses.dataclass(frozen=True)
class OscillatorParameters:
    """Numbers of the oscillator device; imperfections have a value that switches them off."""

    duration: float = parameter(0.5, "1/omega_0", "time from release to reading [1]")
    time_unit: float = parameter(0.1, "s", "chosen: 1/omega_0 of a pendulum 0.1 m long; the equation [1] has no units")
    nonlinearity: float = parameter(0.1, "1", "the restoring and coupling forces follow sin((1 + 0.1) q) [1]", ideal=0.0)
    coupling_noise: float = parameter(0.2, "omega_0^2", "fixed errors of the couplings: (R + R^T) / 2 with entries of R drawn "
                                      "from 0.2 N(0, 1) [1], hence 0.14 for each J_ij", ideal=0.0)
    input_noise: float = parameter(0.02, "rad", "sd of each initial angle, drawn at every pass [1]", ideal=0.0)


class Oscillators(PhysicalSystem):
    """N initial angles in, N final angles out (or those of the last few oscillators).

    Parameters
    ----------
    seed : int
        Fixes this copy's fabrication errors.
    noise_seed : int
        Seed of the noise generator.
    ideal : bool
        Switch every imperfection off.
    n_oscillators : int
    n_read : int, optional
        Read only this many oscillators, the last ones. Default: all.
    tableau : Tableau
        Integrator.
    **changes
        Values of `OscillatorParameters` to change, by name.

    Raises
    ------
    ValueError
        If `n_oscillators` < 2 or `n_read` is not between 1 and `n_oscillators`.

    Notes
    -----
    One row of parameters for the whole batch is fast: hand theta over with shape (param_dim,). With a row of its own
    for each pass the force matrix is formed pass by pass.

    Examples
    --------
    >>> device = Oscillators(ideal=True, n_oscillators=3)
    >>> device(np.zeros((1, 3)), np.array([0, 0, 0, 0, 0, 1.0])).round(3)  # J_12, J_13, J_23, e_1, e_2, e_3
    array([[0.   , 0.   , 0.122]])
    """

    input_range = (-100.0, 100.0)
    param_range = (-10.0, 10.0)
    control_unit = "rad for angles, omega_0^2 for couplings and drives"
    output_unit = "rad"

    def __init__(self, seed=0, noise_seed=0, ideal=False, n_oscillators=10, n_read=None, tableau=STOERMER_8, **changes):
        super().__init__(noise_seed)
        n_read = n_oscillators if n_read is None else n_read
        if n_oscillators < 2 or not 1 <= n_read <= n_oscillators:
            raise ValueError(f"n_oscillators = {n_oscillators}, n_read = {n_read}; expected n_oscillators >= 2 and 1 <= n_read <= n_oscillators")
        self.parameters = p = make_parameters(OscillatorParameters, ideal, **changes)
        self.input_dim, self.output_dim, self.tableau = n_oscillators, n_read, tableau
        self.param_dim = n_couplings(n_oscillators) + n_oscillators
        self.pass_time = p.duration * p.time_unit
        fabrication = np.random.default_rng(np.random.SeedSequence(seed))
        # (R_ij + R_ji) / 2 has the sd of R_ij over sqrt(2).
        spread = fabrication.standard_normal(n_couplings(n_oscillators), np.float32)
        self._coupling_errors = np.float32(p.coupling_noise / np.sqrt(2)) * spread

    def respond(self, x, theta):
        """Return the final angles, shape (n, n_read); see `PhysicalSystem.__call__`."""
        angles = x.astype(np.result_type(x, theta))  # a copy
        if self.parameters.input_noise:
            angles += np.float32(self.parameters.input_noise) * self._noise.standard_normal(x.shape, np.float32)
        if len(x) and (theta.strides[0] == 0 or (theta == theta[0]).all()):
            return self._release(angles, theta[0].astype(angles.dtype, copy=False))
        rows = [self._release(angles[i:i + 1], theta[i].astype(angles.dtype, copy=False)) for i in range(len(x))]
        return np.concatenate(rows) if rows else np.empty((0, self.output_dim), angles.dtype)

    def _release(self, angles, theta):
        p, split = self.parameters, n_couplings(self.input_dim)
        couplings = theta[:split] + self._coupling_errors if p.coupling_noise else theta[:split]
        matrix = force_matrix(couplings, self.input_dim)
        final = np.empty((len(angles), self.output_dim), angles.dtype)
        for start in range(0, len(angles), 512):  # bounds the memory of the stages
            rows = slice(start, start + 512)
            final[rows] = self._integrate(angles[rows], matrix, theta[split:])
        return final

    def _integrate(self, start, matrix, drives):
        dtype, read = start.dtype.type, slice(self.input_dim - self.output_dim, None)
        step, slope = self.parameters.duration**2, dtype(1 + self.parameters.nonlinearity)
        forces, last = [], self.tableau.stages - 1
        for i in range(last + 1):
            angles = start.copy()
            for weight, force in zip(self.tableau.a[i], forces, strict=False):
                angles += dtype(step * weight) * force
            angles *= slope
            # Of the last force only the oscillators that are read matter; A is symmetric, so its rows serve as columns.
            columns = read if i == last else slice(None)
            forces.append(np.sin(angles) @ matrix[columns].T + drives[columns])
        angles = start[:, read].copy()
        for weight, force in zip(self.tableau.b, forces, strict=True):
            angles += dtype(step * weight) * force[:, -self.output_dim:]
        return angles
