"""Numerics of coupled oscillators released from rest, shared by the simulated device and its model.

The force is linear in sin q: q'' = A sin q + e with a symmetric A (see `pnn_utils.systems.oscillators.device`), so that each
evaluation is one matrix product for the whole batch. The integrators use two more facts: the force does not depend
on the velocity, and the motion starts from rest, so that q(t) is even in t. Each is an explicit method over the whole
duration t,

    Q_i = q(0) + t^2 sum_{j<i} a_ij q''(Q_j),    q(t) = q(0) + t^2 sum_i b_i q''(Q_i).

`stoermer` marches in equal steps with one product per step: the even continuation to t < 0 supplies the past
that a multistep method needs. `REST_4` takes one step; like a method for a first-order equation with t^2 for the
time it has to match one condition per rooted tree, and its four stages match all trees with up to four vertices: an
error of O(t^10). It is the cheaper one while couplings are small (t^2 times the largest eigenvalue of A below
about 4); training makes them ten times larger.

The adjoint is that of the discrete method. With mu_i = dL/dQ_i, lambda_i = dL/d(force at stage i) and g = dL/dq(t), from
the last stage to the first,

    lambda_i = t^2 (b_i g + sum_{k>i} a_ki mu_k),    mu_i = cos Q_i * (lambda_i A),
    dL/dq(0) = g + sum_i mu_i,    dL/de = sum_i lambda_i,    dL/dA = sum_i (sin Q_i)^T lambda_i:

one product per stage (the first only if q(0) needs a gradient) and one over all stages together for dL/dA.

References
----------
.. [1] Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I (1993), II.14 and III.10: Nystroem and Stoermer
   methods (recalled, unchecked; the tests check order conditions and orders themselves).
"""

import numba
import numpy as np

from pnn_utils.systems.base import check_whole

STRIP = 16  # rows at once: 16 float32 of a column of a matrix are one cache line


class Tableau:
    """Coefficients of an explicit method for q'' = f(q) from rest, over a step of length 1.

    Parameters
    ----------
    a : sequence of sequences
        Row i has the i weights of the stages before it.
    b, v : sequence of float
        Weights of the final angles and of the final velocities.

    Raises
    ------
    ValueError
        If there are not as many weights as stages, or a stage weighs one that comes later.
    """

    def __init__(self, a, b, v):
        self.stages = len(b)
        if not len(a) == len(b) == len(v) > 0 or any(len(row) > i and np.any(row[i:]) for i, row in enumerate(a)):
            raise ValueError(f"there are {len(a)} rows of a, {len(b)} of b and {len(v)} of v; expected as many, at least one, and row i with i weights")
        self.a = np.zeros((self.stages, self.stages))
        for i, row in enumerate(a):
            self.a[i, : len(row)] = row
        self.b, self.v = np.array(b, float), np.array(v, float)


# The nodes c^2 = 0, 1/12, 1/4, 9/13 fix everything else. They are round numbers near the smallest error of the next
# order; 9/13 is the only last node with which four stages can reach their order.
REST_4 = Tableau([[], [1 / 24], [5 / 88, 3 / 44], [3383 / 13182, -225 / 2197, 1265 / 6591]],
                 [5 / 28, 18 / 175, 418 / 2415, 2197 / 48300], [8 / 21, -12 / 175, 748 / 2415, 1521 / 4025])


def stoermer(steps, differences=5):
    """Explicit Stoermer method from rest: q(t+h) = 2 q(t) - q(t-h) + h^2 (weighted sum of present and past forces).

    Parameters
    ----------
    steps : int
        At least 2; one stage, and so one matrix product, per step.
    differences : int
        Degree of the polynomial through the present and past forces, 0 (Stoermer-Verlet) to 8. Forces at negative times
        mirror those at positive ones. The global error is O(h^(differences + 1)) for 2 to 4, and O(h^5) from there on,
        as the first step allows.

    Returns
    -------
    Tableau
        Stage j is the time j h. The force at h is evaluated at q(0) + h^2 q''(0) / 2, before q(h) is known better.

    Raises
    ------
    TypeError
        If an argument is not a whole number.
    ValueError
        If one is out of its range.
    """
    check_whole(-np.inf, steps=steps, differences=differences)
    if steps < 2 or not 0 <= differences <= 8:
        raise ValueError(f"steps = {steps}, differences = {differences}; expected steps >= 2 and 0 <= differences <= 8")
    h, a = 1 / steps, np.zeros((steps, steps))
    before, now = np.zeros((2, steps))
    a[1, 0] = h**2 / 2
    now[:2] = 5 * h**2 / 12, h**2 / 12  # exact if the force is a + b t^2

    def weights(j, newest, moments):
        """Weights of the forces at j h and before that integrate polynomials times a kernel with these moments exactly."""
        power = np.arange(len(moments))
        solved = np.linalg.solve((newest - power)[None, :] ** power[:, None].astype(float), moments)  # nodes 0, -1, ... from the newest
        return np.bincount(np.abs(j - power), solved, steps)  # a negative time stands for its mirror image

    for j in range(1, steps):
        a[j] = now if j > 1 else a[j]
        power = np.arange(min(differences, 2 * j) + 1.0)  # with the mirrored ones, 2 j + 1 forces are known
        hat = (1 + (-1) ** power) / ((power + 1) * (power + 2))  # moments of the kernel 1 - |s| on [-1, 1]
        before, now = now, 2 * now - before + h**2 * weights(j, 0, hat)
    ramp = (-1) ** power / ((power + 1) * (power + 2))  # moments of 1 + s on [-1, 0], whose end is the end of the motion
    return Tableau(a, now, (now - before) / h + h * weights(steps - 1, -1, ramp))


# Eight products, and nowhere less accurate than five steps of RK4 with twenty. At t = 0.5 the rms error of the final angles is at
# most 1/12 of what an input noise of 0.02 does to them: measured on Fashion-MNIST's 1,610 oscillators after 650 steps of PAT;
# 1/16 after in silico training, at most 1/80 in the smaller networks trained likewise, and 1e-6 before training.
STOERMER_8 = stoermer(8)


def n_couplings(n_oscillators):
    """Return the number of couplings among `n_oscillators`: N (N - 1) / 2.

    Raises
    ------
    TypeError, ValueError
        If `n_oscillators` is not a whole number of at least 0.
    """
    check_whole(0, n_oscillators=n_oscillators)
    return n_oscillators * (n_oscillators - 1) // 2


@numba.njit
def unpack(couplings, matrix):
    """Write couplings, row by row of the upper triangle, into both triangles of `matrix`; its diagonal becomes 0."""
    n = len(matrix)
    for top in range(0, n, STRIP):
        for left in range(top, n, 256):
            for i in range(top, min(top + STRIP, n)):
                row = i * (2 * n - i - 1) // 2 - i - 1  # couplings[row + j] is J_ij
                for j in range(max(left, i + 1), min(left + 256, n)):
                    value = couplings[row + j]
                    matrix[i, j] = value
                    matrix[j, i] = value
    for i in range(n):
        matrix[i, i] = 0


@numba.njit
def pack_gradient(product, gradient):
    """Turn dL/dA, all entries of A taken as independent, into dL/dJ_ij for i < j.

    J_ij stands in A_ij and A_ji, and with a minus sign in A_ii and A_jj.
    """
    n = len(product)
    diagonal = np.diag(product).copy()
    for top in range(0, n, STRIP):
        for left in range(top, n, 256):
            for i in range(top, min(top + STRIP, n)):
                row = i * (2 * n - i - 1) // 2 - i - 1
                for j in range(max(left, i + 1), min(left + 256, n)):
                    gradient[row + j] = product[i, j] + product[j, i] - diagonal[i] - diagonal[j]


def force_matrix(couplings, n_oscillators, out=None):
    """Return the symmetric A of q'' = A sin q + e, shape (N, N), for couplings of shape (N (N - 1) / 2,).

    Parameters
    ----------
    couplings : ndarray
    n_oscillators : int
    out : ndarray, shape (N, N), optional
        Where to write it; fresh memory of this size costs as much as the work itself.

    Raises
    ------
    TypeError
        If the couplings are not float32 or float64, or `n_oscillators` is not a whole number.
    ValueError
        If there are not N (N - 1) / 2 couplings.
    """
    # The compiled loop looks at no bounds.
    if couplings.dtype not in (np.float32, np.float64):
        raise TypeError(f"couplings have dtype {couplings.dtype}; expected float32 or float64")
    if couplings.shape != (n_couplings(n_oscillators),):
        raise ValueError(f"couplings have shape {couplings.shape}; expected ({n_couplings(n_oscillators)},) for {n_oscillators} oscillators")
    matrix = np.empty((n_oscillators, n_oscillators), couplings.dtype) if out is None else out
    unpack(couplings, matrix)
    np.fill_diagonal(matrix, -1 - matrix.sum(1))
    return matrix


def march(xp, start, matrix, drives, step, tableau, n_read=None, kept=None):
    """Go through the stages and return their forces, shape (stages, n, N).

    Parameters
    ----------
    xp : module
        numpy or torch, whichever the arrays belong to.
    start : array, shape (n, N)
    matrix : array, shape (N, N)
        A; its symmetry is used.
    drives : array, shape (N,) or (n, N)
    step : float
        t^2, times s if the force is A sin(s q) + e and `start` is s q(0).
    tableau : Tableau
    n_read : int, optional
        Only the last `n_read` columns of the last force are computed; the others are undefined. Default: all.
    kept : list, optional
        Receives what `adjoint` needs: the angles of each stage, and last the sines of all stages as one array.
    """
    stages, (n, size) = tableau.stages, start.shape
    read = slice(0 if n_read is None else size - n_read, None)
    values = _empty(xp, (stages + 1, n, size), start)  # the start and then the forces: what every stage is a sum of
    values[0] = start
    sines = _empty(xp, (1 if kept is None else stages, n, size), start)
    weights = _like(xp, np.hstack([np.ones((stages, 1)), step * tableau.a]), start)
    flat, forces = values.reshape(stages + 1, n * size), values[1:]
    for i in range(stages):
        angles = (weights[i, :i + 1] @ flat[:i + 1]).reshape(n, size) if i else start
        sine = sines[i if kept is not None else 0]
        xp.sin(angles, out=sine)
        if i < stages - 1 or n_read is None:
            xp.matmul(sine, matrix, out=forces[i])
            forces[i] += drives
        else:
            forces[i][:, read] = sine @ matrix[read].T + drives[..., read]
        if kept is not None:
            kept.append(angles)
    if kept is not None:
        kept.append(sines)
    return forces


def combine(xp, weights, forces):
    """Return the sum of arrays, shape (stages, n, columns), with these weights."""
    return (_like(xp, weights, forces) @ forces.reshape(len(forces), -1)).reshape(forces.shape[1:])


def adjoint(xp, gradient, kept, matrix, step, tableau, wants_start=True, wants_couplings=True):
    """Carry dL/dq(t) back through `march`.

    Parameters
    ----------
    xp : module
    gradient : array, shape (n, n_read)
    kept : list
        As filled by `march`.
    matrix, step, tableau
        As given to `march`.
    wants_start, wants_couplings : bool

    Returns
    -------
    start : array, shape (n, N), or None
        dL/dq(0).
    forces : array, shape (stages, n, N)
        dL/d(force) at each stage; summed over stages, dL/de.
    product : array, shape (N, N), or None
        dL/dA, its entries taken as independent; see `pack_gradient`.
    """
    *angles, sines = kept
    (stages, n, size), n_read = sines.shape, gradient.shape[1]
    read, last = slice(size - n_read, None), stages - 1
    by_forces, by_angles = (_empty(xp, (stages + k, n, size), sines) for k in (0, 1))  # lambda; mu and after it g
    by_angles[stages] = 0
    by_angles[stages][:, read] = gradient
    flat_angles, flat_forces = by_angles.reshape(stages + 1, n * size), by_forces.reshape(stages, n * size)
    weights = _like(xp, step * np.vstack([tableau.a, tableau.b]).T.copy(), sines)
    for i in range(last, -1, -1):
        xp.matmul(weights[i, i + 1:], flat_angles[i + 1:], out=flat_forces[i])
        if i == last:  # only the oscillators that were read depend on the last force
            xp.matmul(by_forces[i][:, read], matrix[read], out=by_angles[i])
        elif i or wants_start:
            xp.matmul(by_forces[i], matrix, out=by_angles[i])
        if i or wants_start:
            by_angles[i] *= xp.cos(angles[i])
    start = by_angles.sum(0) if wants_start else None
    product = None
    if wants_couplings:
        full = stages if n_read == size else last
        product = sines[:full].reshape(full * n, size).T @ by_forces[:full].reshape(full * n, size)
        if full < stages:
            product[:, read] += sines[last].T @ by_forces[last][:, read]
    return start, by_forces, product


def _empty(xp, shape, like):
    return np.empty(shape, like.dtype) if xp is np else like.new_empty(shape)


def _like(xp, weights, array):
    return weights.astype(array.dtype) if xp is np else xp.as_tensor(weights, dtype=array.dtype, device=array.device)
