"""Differentiable model of the coupled oscillators in torch, without the device's imperfections.

The equation, the order of the couplings and the method are the device's. The arithmetic runs on
NumPy views of the tensors, on the CPU, and torch is handed its adjoint, `solver.adjoint`. NumPy's
matrix products obey OMP_NUM_THREADS, not torch.set_num_threads.
"""

import numpy as np
import torch

from pnn_utils.systems.oscillators import solver


class OscillatorModel:
    """Final angles (n, n_read) for initial angles x (n, n_oscillators), after a time `duration`.

    theta has shape (param_dim,), the couplings, row by row of the upper triangle, and the drives:
    one vector for the batch, so give the layer ``shared=True``. The last `n_read` oscillators are
    read; default: all.
    """

    tableau = solver.STOERMER_8

    def __init__(self, n_oscillators, n_read=None, duration=0.5):
        self.n_oscillators, self.duration = n_oscillators, duration
        self.n_read = n_oscillators if n_read is None else n_read
        self.param_dim = n_oscillators * (n_oscillators - 1) // 2 + n_oscillators

    def __call__(self, x, theta):
        return _Release.apply(x, theta, self)

    def pullback(self, gradient, needed, x, theta):
        """J^T g for (x, theta): what PAT's backward pass asks for, without torch's graph."""
        return self._back(gradient, needed, *self._run(x, theta, True)[1:])

    def _run(self, x, theta, keep):
        # Here, because compiled loops check no bounds.
        if theta.shape != (self.param_dim,) or theta.dtype != x.dtype:
            raise ValueError(f"theta has shape {tuple(theta.shape)} and dtype {theta.dtype}; "
                             f"expected ({self.param_dim},), one for the batch, and {x.dtype}")
        start, controls = x.detach().numpy(), theta.detach().numpy()
        couplings, drives = np.split(controls, [-self.n_oscillators])
        matrix, step = solver.force_matrix(couplings, self.n_oscillators), self.duration**2
        marched = solver.march(start, matrix, drives, step, self.tableau, self.n_read, keep)
        forces = marched[0][1:, :, -self.n_read:]
        final = start[:, -self.n_read:] + solver.combine(step * self.tableau.b, forces)
        return torch.from_numpy(final), matrix, marched

    def _back(self, gradient, needed, matrix, marched):
        start, drives, product = solver.adjoint(gradient.numpy(), *marched, matrix,
                                                self.duration**2, self.tableau, needed[0])
        by_theta = np.empty(self.param_dim, product.dtype)
        solver.pack_gradient(product, by_theta[:-self.n_oscillators])
        by_theta[-self.n_oscillators:] = drives
        return None if start is None else torch.from_numpy(start), torch.from_numpy(by_theta)


class _Release(torch.autograd.Function):
    """The final angles; couplings and drives stay in one vector, which spares padded copies."""

    @staticmethod
    def forward(ctx, x, theta, model):
        final, *kept = model._run(x, theta, any(ctx.needs_input_grad))
        ctx.save_for_backward(x, theta)  # so that torch notices if they change before the backward
        ctx.model, ctx.kept = model, kept
        return final

    @staticmethod
    def backward(ctx, gradient):
        if torch.is_grad_enabled():  # somebody is going to differentiate this gradient again
            raise RuntimeError("the motion of the oscillators can be differentiated only once")
        _ = ctx.saved_tensors  # an error if one of them changed
        return *ctx.model._back(gradient, ctx.needs_input_grad, *ctx.kept), None


def pack(matrix):
    """Return the couplings (C_ij + C_ji) / 2 for i < j, row by row, of a square C; a tensor."""
    return ((matrix + matrix.T) / 2)[tuple(torch.triu_indices(*matrix.shape, 1))]


@torch.no_grad()
def motion(angles, couplings, drives, times, tableau=solver.STOERMER_8):
    """Return angles and velocities at several times after a release, shapes (times, n, N).

    Tensors of initial angles, shape (n, N), couplings C, shape (N, N), of which the symmetric part
    acts, J = (C + C^T) / 2, and drives, shape (N,). The tableau's steps lead from 0 to each time.
    """
    start, size = angles.numpy(), angles.shape[1]
    matrix, found = solver.force_matrix(pack(couplings).numpy(), size), []
    for time in map(float, times):
        forces = solver.march(start, matrix, drives.numpy(), time**2, tableau, size)[0][1:]
        final = start + solver.combine(time**2 * tableau.b, forces)
        found.append((final, solver.combine(time * tableau.v, forces)))
    return tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*found, strict=True))
