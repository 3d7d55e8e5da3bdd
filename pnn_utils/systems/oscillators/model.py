"""Differentiable model of the coupled oscillators in torch, without the device's imperfections.

The equation, the order of the couplings and the method are the device's. The arithmetic runs on
NumPy views of the tensors, on the CPU, and torch is handed its adjoint, `solver.adjoint`. NumPy's
matrix products obey OMP_NUM_THREADS, not torch.set_num_threads.
"""

import numpy as np
import torch

from pnn_utils.systems.oscillators.solver import (
    STOERMER_8,
    adjoint,
    combine,
    force_matrix,
    march,
    n_couplings,
    pack_gradient,
)


class OscillatorModel:
    """The call ``model(x, theta)`` that `PhysicalLayer` and `physics_aware` expect.

    Parameters
    ----------
    n_oscillators : int
    n_read : int, optional
        Return only this many final angles, those of the last oscillators. Default: all.
    duration : float
        Time from release to reading in units of 1/omega_0.

    Notes
    -----
    x has shape (n, n_oscillators). theta has shape (param_dim,), the couplings, row by row of the
    upper triangle, and the drives: one vector for the batch, so give the layer ``shared=True``.
    """

    tableau = STOERMER_8

    def __init__(self, n_oscillators, n_read=None, duration=0.5):
        self.n_oscillators, self.duration = n_oscillators, duration
        self.n_read = n_oscillators if n_read is None else n_read

    def __call__(self, x, theta):
        expected = n_couplings(self.n_oscillators) + self.n_oscillators
        if theta.shape != (expected,) or theta.dtype != x.dtype:  # compiled loops check no bounds
            raise ValueError(f"theta has shape {tuple(theta.shape)} and dtype {theta.dtype}; "
                             f"expected ({expected},), one vector for the batch, and {x.dtype}")
        return _Release.apply(x, theta, self)


class _Release(torch.autograd.Function):
    """The final angles; couplings and drives stay in one vector, which spares padded copies."""

    @staticmethod
    def forward(ctx, x, theta, model):
        size, n_read, tableau, step = (
            model.n_oscillators, model.n_read, model.tableau, model.duration**2)
        start, values = x.detach().numpy(), theta.detach().numpy()
        couplings, drives = values[:n_couplings(size)], values[n_couplings(size):]
        matrix, keep = force_matrix(couplings, size), any(ctx.needs_input_grad)
        marched = march(start, matrix, drives, step, tableau, n_read, keep)
        ctx.save_for_backward(x, theta)  # so that torch notices if they change before the backward
        ctx.kept = *marched, matrix, step, tableau
        read = slice(size - n_read, None)
        final = start[:, read] + combine(step * tableau.b, marched[0][1:, :, read])
        return torch.from_numpy(final)

    @staticmethod
    def backward(ctx, gradient):
        if torch.is_grad_enabled():  # somebody is going to differentiate this gradient again
            raise RuntimeError("the motion of the oscillators can be differentiated only once")
        x, theta = ctx.saved_tensors
        start, drives, product = adjoint(gradient.numpy(), *ctx.kept, ctx.needs_input_grad[0])
        by_theta = np.empty(theta.shape, product.dtype)
        split = n_couplings(x.shape[1])
        pack_gradient(product, by_theta[:split])
        by_theta[split:] = drives
        return None if start is None else torch.from_numpy(start), torch.from_numpy(by_theta), None


def pack(matrix):
    """Return the couplings (C_ij + C_ji) / 2 for i < j, row by row, of a square C; a tensor."""
    rows, columns = torch.triu_indices(*matrix.shape, 1)
    return (matrix[rows, columns] + matrix[columns, rows]) / 2


@torch.no_grad()
def motion(angles, couplings, drives, times, tableau=STOERMER_8):
    """Return angles and velocities at several times after a release from rest, without gradients.

    Parameters
    ----------
    angles : torch.Tensor, shape (n, N)
        Initial angles in rad.
    couplings : torch.Tensor, shape (N, N)
        A matrix C, of which the symmetric part acts: J = (C + C^T) / 2.
    drives : torch.Tensor, shape (N,)
    times : sequence of float, in 1/omega_0
    tableau : Tableau
        It makes one sequence of steps from 0 to each time.

    Returns
    -------
    angles, velocities : torch.Tensor, shape (len(times), n, N)
    """
    start, size = angles.numpy(), angles.shape[1]
    matrix, found = force_matrix(pack(couplings).numpy(), size), []
    for time in map(float, times):
        forces = march(start, matrix, drives.numpy(), time**2, tableau, size)[0][1:]
        final = start + combine(time**2 * tableau.b, forces)
        found.append((final, combine(time * tableau.v, forces)))
    return tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*found, strict=True))
