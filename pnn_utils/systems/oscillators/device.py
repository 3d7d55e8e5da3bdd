"""Simulated device: a network of coupled nonlinear oscillators (pendulums), released from rest.

      q_1   J_12   q_2   J_23   q_3          data: angles q_i(0) at the release
       o~~~~~~~~~~~~o~~~~~~~~~~~~o           parameters: couplings J_ij, drives e_i
       |            |            |           reading: angles q_i(t) after a fixed time
      e_1          e_2          e_3

With time in units of 1/omega_0 of one pendulum [1],

    q_i'' = -sin q_i + sum_j J_ij (sin q_j - sin q_i) + e_i,    q_i'(0) = 0,    J_ij = J_ji.

The force is linear in sin q,

    q'' = A sin q + e,    A_ij = J_ij for i != j,    A_ii = -1 - sum of J_ij over j != i,

with a symmetric A that is formed once per pass. A coupling of an oscillator with itself exerts no
force: theta holds the N (N - 1) / 2 couplings with i < j, row by row, and after them the N drives.

References
----------
.. [1] Example 2 of github.com/mcmahon-lab/Physics-Aware-Training (CC BY 4.0): equation and gap.
"""

from pathlib import Path

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters
from pnn_utils.systems.oscillators import solver

TABLE = Path(__file__).with_name("parameters.csv")


class Oscillators(PhysicalSystem):
    """N initial angles in, N final angles out (or those of the last few oscillators).

    seed, noise_seed : fix this copy's fabrication errors, and its noise
    ideal : switch every imperfection off
    n_oscillators, n_read : how many there are, at least 2; the last n_read are read, default all
    **changes : values of ``parameters.csv`` to change, by name

    Hand theta over with shape (param_dim,): with a row of its own for each pass the force matrix
    is formed pass by pass. Readings repeat byte for byte with the same number of BLAS threads.

    >>> device = Oscillators(ideal=True, n_oscillators=3)
    >>> device(np.zeros((1, 3)), np.array([0, 0, 0, 0, 0, 1.0])).round(3)  # J_12, ..., e_2, e_3
    array([[0.   , 0.   , 0.122]])
    """

    input_range = (-20.0, 20.0)
    param_range = (-10.0, 10.0)
    control_unit = "rad for angles, omega_0^2 for couplings and drives"
    output_unit = "rad"
    tableau = solver.STOERMER_8

    def __init__(self, seed=0, noise_seed=0, ideal=False, n_oscillators=10, n_read=None,
                 **changes):
        super().__init__(noise_seed)
        n_read = n_oscillators if n_read is None else n_read
        check_whole(2, n_oscillators=n_oscillators)
        check_whole(1, n_oscillators, n_read=n_read)
        self.parameters = p = make_parameters(TABLE, ideal, **changes)
        self.input_dim, self.output_dim = n_oscillators, n_read
        n_couplings = n_oscillators * (n_oscillators - 1) // 2
        self.param_dim = n_couplings + n_oscillators
        self.pass_time = p.duration * p.time_unit
        # (R_ij + R_ji) / 2 has the sd of R_ij over sqrt(2).
        spread = np.random.default_rng(seed).standard_normal(n_couplings, np.float32)
        self.coupling_errors = np.float32(p.coupling_noise / np.sqrt(2)) * spread

    def respond(self, x, theta):
        """Return the final angles, shape (n, n_read); see `PhysicalSystem.__call__`."""
        p, angles = self.parameters, x.astype(np.result_type(x, theta))  # a copy
        if noise := np.float32(p.input_noise):
            angles += noise * self._noise.standard_normal(x.shape, np.float32)
        shared = theta.strides[0] == 0 or (theta == theta[:1]).all()
        each = 512 if shared else 1  # rows at once: bounds the memory of the stages
        slope, step, read = 1 + p.nonlinearity, p.duration * p.duration, -self.output_dim
        for first in range(0, len(x), each):
            rows = angles[first:first + each]
            controls = theta[first].astype(angles.dtype, copy=False)
            couplings, drives = np.split(controls, [-self.input_dim])
            matrix = solver.force_matrix(couplings + self.coupling_errors, self.input_dim)
            # s q obeys the same equation with s times the force.
            values, *_ = solver.march(angles.dtype.type(slope) * rows, matrix, drives,
                                      slope * step, self.tableau, self.output_dim)
            rows[:, read:] += solver.combine(step * self.tableau.b, values[1:, :, read:])
        return angles[:, read:].copy()
