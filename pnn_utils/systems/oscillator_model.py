"""Differentiable model of the coupled oscillators in torch, without the device's imperfections.

The equation, the packing of the couplings and the integrators are those of `pnn_utils.systems.oscillators`.
The backward pass is the exact adjoint of the discrete integrator, written by hand. With mu_i = dL/dQ_i and
lambda_i = dL/d(force at stage i), for i from the last stage to the first,

    lambda_i = t^2 (b_i g + sum_{k>i} a_ki mu_k),    mu_i = cos Q_i * (lambda_i A),
    dL/dq(0) = g + sum_i mu_i,    dL/de = sum_i lambda_i,    dL/dA = sum_i (sin Q_i)^T lambda_i,

where g = dL/dq(t). That is one product per stage, the first one only if q(0) needs a gradient, and a single
product over all stages at once for dL/dA. Works on the CPU and on CUDA, in float32 and float64.
"""

import torch

from pnn_utils.systems.oscillators import STOERMER_8, n_couplings, pack_gradient, unpack

DURATION = 0.5  # in units of 1/omega_0, as in the device


class OscillatorModel:
    """The call ``model(x, theta)`` that `PhysicalLayer` and `physics_aware` expect.

    Parameters
    ----------
    n_oscillators : int
    n_read : int, optional
        Return only this many final angles, those of the last oscillators. Default: all.
    duration : float
    tableau : Tableau

    Notes
    -----
    x has shape (n, n_oscillators). theta has shape (param_dim,): the couplings, row by row of the upper triangle, and
    the drives. One vector for the whole batch: give the layer ``shared=True``.
    """

    def __init__(self, n_oscillators, n_read=None, duration=DURATION, tableau=STOERMER_8):
        self.n_oscillators, self.n_read, self.duration, self.tableau = n_oscillators, n_read, duration, tableau

    def __call__(self, x, theta):
        split = n_couplings(self.n_oscillators)
        if theta.shape != (split + self.n_oscillators,):
            raise ValueError(f"theta has shape {tuple(theta.shape)}; expected ({split + self.n_oscillators},): one vector for the batch")
        return release(x, theta[:split], theta[split:], self.duration, self.tableau, self.n_read)


def release(angles, couplings, drives, duration=DURATION, tableau=STOERMER_8, n_read=None):
    """Return the angles some time after a release from rest; differentiable once.

    Parameters
    ----------
    angles : torch.Tensor, shape (n, N)
        Initial angles in rad.
    couplings : torch.Tensor, shape (N (N - 1) / 2,) or (N, N)
        J_ij for i < j, row by row; or a square matrix C, of which J = (C + C^T) / 2 is used.
    drives : torch.Tensor, shape (N,) or (n, N)
    duration : float
    tableau : Tableau
    n_read : int, optional
        Return only this many angles, those of the last oscillators.

    Returns
    -------
    torch.Tensor, shape (n, N) or (n, n_read)

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    size = angles.shape[-1]
    if couplings.ndim == 2 and couplings.shape == (size, size):
        couplings = pack(couplings)
    if angles.ndim != 2 or couplings.shape != (n_couplings(size),) or drives.shape not in ((size,), angles.shape):
        raise ValueError(f"angles {tuple(angles.shape)}, couplings {tuple(couplings.shape)} and drives {tuple(drives.shape)} do not belong together; "
                         "expected (n, N), (N (N - 1) / 2,) or (N, N), and (N,) or (n, N)")
    return _Release.apply(angles, couplings, drives, duration, tableau, n_read or size)


def pack(matrix):
    """Return the couplings (C_ij + C_ji) / 2 for i < j, row by row, of a square matrix C; differentiable."""
    rows, columns = torch.triu_indices(*matrix.shape, 1, device=matrix.device)
    return (matrix[rows, columns] + matrix[columns, rows]) / 2


def force_matrix(couplings, size):
    """Return the symmetric A of q'' = A sin q + e, shape (N, N), without gradients."""
    matrix = couplings.new_empty(size, size)
    if couplings.is_cpu:
        unpack(couplings.detach().contiguous().numpy(), matrix.numpy())
    else:
        rows, columns = torch.triu_indices(size, size, 1, device=couplings.device)
        matrix.zero_()[rows, columns] = couplings
        matrix = matrix + matrix.T
    matrix.diagonal().copy_(-1 - matrix.sum(1))
    return matrix


def _coupling_gradient(product):
    size = len(product)
    if product.is_cpu:
        gradient = product.new_empty(n_couplings(size))
        pack_gradient(product.numpy(), gradient.numpy())
        return gradient
    rows, columns = torch.triu_indices(size, size, 1, device=product.device)
    diagonal = product.diagonal()
    return product[rows, columns] + product[columns, rows] - diagonal[rows] - diagonal[columns]


@torch.no_grad()
def motion(angles, couplings, drives, times, tableau=STOERMER_8):
    """Return angles and velocities at several times after a release from rest, without gradients.

    Parameters
    ----------
    angles, couplings, drives
        As in `release`.
    times : iterable of float
    tableau : Tableau
        It makes one step from 0 to each time.

    Returns
    -------
    angles, velocities : torch.Tensor, shape (len(times), n, N)
    """
    size = angles.shape[-1]
    matrix = force_matrix(pack(couplings) if couplings.ndim == 2 else couplings, size)
    found = []
    for time in times:
        forces = _stages(angles, matrix, drives, time, tableau)[2]
        found.append((angles + time**2 * _combine(tableau.b, forces), time * _combine(tableau.v, forces)))
    return tuple(map(torch.stack, zip(*found, strict=True)))


def _combine(weights, values):
    """Sum of the first len(weights) values, weighted."""
    weights = torch.as_tensor(weights, dtype=values.dtype, device=values.device)
    return torch.mv(values[: len(weights)].flatten(1).T, weights).view(values.shape[1:])


def _stages(start, matrix, drives, duration, tableau, n_last=None):
    """Angles, their sines and the forces of all stages, each of shape (stages, n, N).

    Of the last force only `n_last` columns are computed; the others are left undefined.
    """
    angles, sines, forces = start.new_empty(3, tableau.stages, *start.shape)
    for i in range(tableau.stages):
        if i:
            torch.add(start, _combine(duration**2 * tableau.a[i, :i], forces), out=angles[i])
        else:
            angles[0] = start
        torch.sin(angles[i], out=sines[i])
        part = slice(start.shape[1] - n_last, None) if n_last and i == tableau.stages - 1 else slice(None)
        # A is symmetric: rows serve as columns, and are contiguous.
        torch.addmm(drives[..., part], sines[i], matrix[part].T, out=forces[i][:, part])
    return angles, sines, forces


class _Release(torch.autograd.Function):
    @staticmethod
    def forward(ctx, start, couplings, drives, duration, tableau, n_read):
        size = start.shape[1]
        matrix = force_matrix(couplings, size)
        angles, sines, forces = _stages(start, matrix, drives, duration, tableau, n_read)
        ctx.save_for_backward(start, couplings, drives, angles, sines, matrix)
        ctx.settings = duration, tableau, n_read
        read = slice(size - n_read, None)
        return start[:, read] + duration**2 * _combine(tableau.b, forces[..., read])

    @staticmethod
    def backward(ctx, gradient):
        return (*_Adjoint.apply(ctx.settings, ctx.needs_input_grad[:3], gradient, *ctx.saved_tensors), None, None, None)


class _Adjoint(torch.autograd.Function):
    """The backward pass as a function of its own: torch's once_differentiable would miss a constant incoming gradient."""

    @staticmethod
    def forward(ctx, settings, wanted, gradient, _start, _couplings, drives, angles, sines, matrix):
        (duration, tableau, n_read), (stages, _, size) = settings, angles.shape
        wants_start, wants_couplings, wants_drives = wanted
        read, last = slice(size - n_read, None), stages - 1
        by_angles = torch.empty_like(angles)  # mu
        by_forces = torch.empty_like(angles)  # lambda; of the last stage only the oscillators that were read
        for i in range(last, -1, -1):
            if i == last:
                by_forces[i, :, :size - n_read] = 0
                by_forces[i, :, read] = duration**2 * tableau.b[i] * gradient
                torch.mm(by_forces[i][:, read], matrix[read], out=by_angles[i])
            else:
                by_forces[i] = _combine(duration**2 * tableau.a[i + 1:, i], by_angles[i + 1:])
                by_forces[i, :, read] += duration**2 * tableau.b[i] * gradient
                if i or wants_start:
                    torch.mm(by_forces[i], matrix, out=by_angles[i])
            if i or wants_start:
                by_angles[i] *= angles[i].cos()
        found = [None, None, None]
        if wants_start:
            found[0] = by_angles.sum(0)
            found[0][:, read] += gradient
        if wants_couplings:
            full = stages if n_read == size else last
            product = torch.mm(sines[:full].flatten(0, 1).T, by_forces[:full].flatten(0, 1))
            if full < stages:
                product[:, read].addmm_(sines[last].T, by_forces[last][:, read])
            found[1] = _coupling_gradient(product)
        if wants_drives:
            found[2] = by_forces.sum(0) if drives.ndim == 2 else by_forces.sum((0, 1))
        return tuple(found)

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError("the motion of the oscillators can be differentiated only once")
