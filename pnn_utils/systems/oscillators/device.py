"""Simulated device: a network of coupled nonlinear oscillators (pendulums), released from rest.

Data set the initial angles q_i(0); couplings J_ij = J_ji and constant drives e_i are the parameters; the
angles after a fixed time are the output. With time in units of 1/omega_0 of one pendulum [1],

    q_i'' = -sin q_i + sum_j J_ij (sin q_j - sin q_i) + e_i,    q_i'(0) = 0.

A coupling of an oscillator with itself exerts no force, so that the parameters are the N (N - 1) / 2
couplings with i < j, row by row, and after them the N drives. The force is linear in sin q,

    q'' = A sin q + e,    A_ij = J_ij for i != j,    A_ii = -1 - sum of J_ij over j != i,

with a symmetric A that is formed once per pass. How it is integrated: `pnn_utils.systems.oscillators.solver`.

References
----------
.. [1] Example 2 of github.com/mcmahon-lab/Physics-Aware-Training (CC BY 4.0): equation and gap.
"""

import dataclasses

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters, parameter
from pnn_utils.systems.oscillators.solver import STOERMER_8, combine, force_matrix, march, n_couplings


@dataclasses.dataclass(frozen=True)
class OscillatorParameters:
    """Numbers of the oscillator device; imperfections have a value that switches them off."""

    duration: float = parameter(0.5, "1/omega_0", "time from release to reading [1]")
    time_unit: float = parameter(0.1, "s", "chosen: 1/omega_0 of a pendulum 0.1 m long; the equation [1] has no units")
    nonlinearity: float = parameter(0.1, "1", "the restoring and coupling forces follow sin((1 + 0.1) q) [1]", ideal=0.0)
    coupling_noise: float = parameter(0.2, "omega_0^2", "fixed errors of the couplings: R from 0.2 N(0, 1) [1], symmetrised "
                                      "like C to (R + R^T) / 2, hence 0.14 for each J_ij", ideal=0.0)
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
    TypeError
        If a change names a parameter that the table does not have, or a number, seeds included, is none.
    ValueError
        If `n_oscillators` < 2 or `n_read` is not between 1 and `n_oscillators`, or another number is out of its range.

    Notes
    -----
    One row of parameters for the whole batch is fast: hand theta over with shape (param_dim,). With a row of its own
    for each pass the force matrix is formed pass by pass. Readings repeat byte for byte with the same number of BLAS
    threads (OMP_NUM_THREADS); another number changes their rounding.

    Examples
    --------
    >>> device = Oscillators(ideal=True, n_oscillators=3)
    >>> device(np.zeros((1, 3)), np.array([0, 0, 0, 0, 0, 1.0])).round(3)  # J_12, J_13, J_23, e_1, e_2, e_3
    array([[0.   , 0.   , 0.122]])
    """

    input_range = (-20.0, 20.0)
    param_range = (-10.0, 10.0)
    control_unit = "rad for angles, omega_0^2 for couplings and drives"
    output_unit = "rad"

    def __init__(self, seed=0, noise_seed=0, ideal=False, n_oscillators=10, n_read=None, tableau=STOERMER_8, **changes):
        super().__init__(noise_seed)
        n_read = n_oscillators if n_read is None else n_read
        check_whole(-np.inf, n_oscillators=n_oscillators, n_read=n_read)
        if n_oscillators < 2 or not 1 <= n_read <= n_oscillators:
            raise ValueError(f"n_oscillators = {n_oscillators}, n_read = {n_read}; expected n_oscillators >= 2 and 1 <= n_read <= n_oscillators")
        self.parameters = p = make_parameters(OscillatorParameters, ideal, **changes)
        self.input_dim, self.output_dim, self.tableau = n_oscillators, n_read, tableau
        self.param_dim = n_couplings(n_oscillators) + n_oscillators
        self.pass_time = p.duration * p.time_unit
        fabrication = np.random.default_rng(np.random.SeedSequence(seed))
        # (R_ij + R_ji) / 2 has the sd of R_ij over sqrt(2).
        spread = fabrication.standard_normal(n_couplings(n_oscillators), np.float32)
        self.coupling_errors = np.float32(p.coupling_noise / np.sqrt(2)) * spread
        self._matrix = None  # memory for the force matrix, used again and again

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
        p, split, size = self.parameters, n_couplings(self.input_dim), self.input_dim
        couplings = theta[:split] + self.coupling_errors if p.coupling_noise else theta[:split]
        reuse = self._matrix is not None and self._matrix.dtype == couplings.dtype
        self._matrix = matrix = force_matrix(couplings, size, self._matrix if reuse else None)
        final, slope, step = np.empty((len(angles), self.output_dim), angles.dtype), 1 + p.nonlinearity, p.duration**2
        for first in range(0, len(angles), 512):  # bounds the memory of the stages
            start = angles[first:first + 512]
            # s q obeys the same equation with s times the force.
            forces = march(np, start * angles.dtype.type(slope), matrix, theta[split:], slope * step, self.tableau, self.output_dim)
            final[first:first + 512] = start[:, -self.output_dim:] + combine(np, step * self.tableau.b, forces[:, :, -self.output_dim:])
        return final
