"""Differentiable model of the coupled oscillators in torch, without the device's imperfections.

The equation, the packing of the couplings, the integrators and the hand-written adjoint are those of
`pnn_utils.systems.oscillators.device` and `pnn_utils.systems.oscillators.solver`. On the CPU they run on NumPy views of the
tensors, elsewhere (CUDA) on the tensors themselves; in float32 or float64. NumPy's matrix products obey OMP_NUM_THREADS, not
torch.set_num_threads.
"""

import numpy as np
import torch

from pnn_utils.systems.oscillators import solver as oscillator_numerics
from pnn_utils.systems.base import check_number, check_whole
from pnn_utils.systems.oscillators.solver import STOERMER_8, adjoint, combine, march, n_couplings, pack_gradient

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

    Raises
    ------
    TypeError, ValueError
        If a number is none or out of range. By the call, if the shapes are wrong, or the numbers neither all float32 nor all float64.

    Notes
    -----
    x has shape (n, n_oscillators). theta has shape (param_dim,): the couplings, row by row of the upper triangle, and
    the drives. One vector for the whole batch: give the layer ``shared=True``.
    """

    def __init__(self, n_oscillators, n_read=None, duration=DURATION, tableau=STOERMER_8):
        check_whole(2, n_oscillators=n_oscillators)
        check_whole(1, n_oscillators, n_read=n_oscillators if n_read is None else n_read)
        check_number(0, 1e6, duration=duration)
        self.n_oscillators, self.n_read, self.duration, self.tableau = n_oscillators, n_read, duration, tableau

    def __call__(self, x, theta):
        size = self.n_oscillators
        if theta.shape != (n_couplings(size) + size,):
            raise ValueError(f"theta has shape {tuple(theta.shape)}; expected ({n_couplings(size) + size},): one vector for the batch")
        _check_kinds(x, theta)
        if x.ndim != 2 or x.shape[1:] != (size,):
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, {size})")
        # In one piece: with theta[:k] and theta[k:] torch would build its gradient from two padded copies.
        return _Release.apply(x, theta, None, self.duration, self.tableau, self.n_read)


def _check_kinds(*values):
    kinds = {value.dtype for value in values}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(f"angles, couplings and drives have dtypes {', '.join(str(value.dtype) for value in values)}; expected all float32 or all float64")


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
    TypeError
        If the tensors are neither all float32 nor all float64, or a number is none.
    ValueError
        If the shapes do not belong together, or a number is out of range.
    """
    _check_kinds(angles, couplings, drives)
    check_number(0, 1e6, duration=duration)
    size = angles.shape[-1] if angles.ndim else 0
    check_whole(1, n_read=1 if n_read is None else n_read)
    if couplings.ndim == 2 and couplings.shape == (size, size):
        couplings = pack(couplings)
    if angles.ndim != 2 or (n_read or 1) > size or couplings.shape != (n_couplings(size),) or drives.shape not in ((size,), angles.shape):
        raise ValueError(f"angles {tuple(angles.shape)}, couplings {tuple(couplings.shape)} and drives {tuple(drives.shape)} do not belong together; "
                         "expected (n, N), (N (N - 1) / 2,) or (N, N), and (N,) or (n, N)")
    return _Release.apply(angles, couplings, drives, duration, tableau, n_read)


def pack(matrix):
    """Return the couplings (C_ij + C_ji) / 2 for i < j, row by row, of a square matrix C; differentiable.

    Raises
    ------
    ValueError
        If the matrix is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the matrix has shape {tuple(matrix.shape)}; expected a square one")
    rows, columns = torch.triu_indices(*matrix.shape, 1, device=matrix.device)
    return (matrix[rows, columns] + matrix[columns, rows]) / 2


@torch.no_grad()
def motion(angles, couplings, drives, times, tableau=STOERMER_8):
    """Return angles and velocities at several times after a release from rest, without gradients.

    Parameters
    ----------
    angles, couplings, drives
        As in `release`.
    times : iterable of float
    tableau : Tableau
        It makes one step, or one sequence of steps, from 0 to each time.

    Returns
    -------
    angles, velocities : torch.Tensor, shape (len(times), n, N)

    Raises
    ------
    TypeError, ValueError
        As by `release`, or if there are no times.
    """
    _check_kinds(angles, couplings, drives)
    times = list(times)
    if not times or angles.ndim != 2 or drives.shape not in (angles.shape[1:], angles.shape):
        raise ValueError(f"{len(times)} times, angles {tuple(angles.shape)} and drives {tuple(drives.shape)}; expected some, (n, N), and (N,) or (n, N)")
    times = [time.item() if isinstance(time, torch.Tensor) else time for time in times]
    for time in times:
        check_number(0, 1e6, time=time)
    matrix = force_matrix(pack(couplings) if couplings.ndim == 2 else couplings, angles.shape[-1])
    found = []
    for time in times:
        forces = march(torch, angles, matrix, drives, time**2, tableau)
        found.append((angles + combine(torch, time**2 * tableau.b, forces), combine(torch, time * tableau.v, forces)))
    return tuple(map(torch.stack, zip(*found, strict=True)))


def force_matrix(couplings, size):
    """Return the symmetric A of q'' = A sin q + e, shape (N, N), without gradients.

    Raises
    ------
    TypeError, ValueError
        See `pnn_utils.systems.oscillators.solver.force_matrix`.
    """
    if couplings.is_cpu:
        return torch.from_numpy(oscillator_numerics.force_matrix(couplings.detach().contiguous().numpy(), size))
    rows, columns = torch.triu_indices(size, size, 1, device=couplings.device)
    matrix = couplings.new_zeros(size, size)
    matrix[rows, columns] = couplings.detach()
    matrix = matrix + matrix.T
    matrix.diagonal().copy_(-1 - matrix.sum(1))
    return matrix


def _pack_gradient(product, gradient):
    """As `oscillator_numerics.pack_gradient`, for tensors."""
    rows, columns = torch.triu_indices(*product.shape, 1, device=product.device)
    diagonal = product.diagonal()
    gradient.copy_(product[rows, columns] + product[columns, rows] - diagonal[rows] - diagonal[columns])


def _arrays(*tensors):
    """The module to compute with, and the tensors as its arrays."""
    if tensors[0].is_cpu:
        return np, *(tensor.detach().numpy() for tensor in tensors)
    return torch, *(tensor.detach() for tensor in tensors)


def _tensor(array):
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


class _Release(torch.autograd.Function):
    """`parameters` are couplings; if `drives` is None, couplings and after them the drives."""

    @staticmethod
    def forward(ctx, angles, parameters, drives, duration, tableau, n_read):
        size = angles.shape[1]
        constant = parameters[n_couplings(size):] if drives is None else drives
        xp, start, matrix, constant = _arrays(angles, force_matrix(parameters[:n_couplings(size)], size), constant)
        kept = [] if any(ctx.needs_input_grad) else None
        forces = march(xp, start, matrix, constant, duration**2, tableau, n_read, kept)
        ctx.save_for_backward(angles, parameters, drives)  # so that torch notices if they change before the backward pass
        ctx.rest = kept, matrix, duration**2, tableau
        read = slice(size - (n_read or size), None)
        return _tensor(start[:, read] + combine(xp, duration**2 * tableau.b, forces[:, :, read]))

    @staticmethod
    def backward(ctx, gradient):
        return (*_Adjoint.apply(ctx.rest, ctx.needs_input_grad[:3], gradient, *ctx.saved_tensors), None, None, None)


class _Adjoint(torch.autograd.Function):
    """The backward pass as a function of its own: torch's once_differentiable would miss a constant incoming gradient."""

    @staticmethod
    def forward(ctx, rest, wanted, gradient, _angles, parameters, drives):
        xp, incoming = _arrays(gradient)
        start, forces, product = adjoint(xp, incoming, *rest, *wanted[:2])
        by_parameters = by_drives = None
        if wanted[1]:
            by_parameters = torch.empty_like(parameters)
            split = n_couplings(len(product))
            _, packed = _arrays(by_parameters)
            (pack_gradient if xp is np else _pack_gradient)(product, packed[:split])
            if drives is None:
                packed[split:] = forces.sum((0, 1))
        if wanted[2]:
            by_drives = _tensor(forces.sum(0) if drives.ndim == 2 else forces.sum((0, 1)))
        return None if start is None else _tensor(start), by_parameters, by_drives

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError("the motion of the oscillators can be differentiated only once")
