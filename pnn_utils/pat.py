"""Physics-aware training (PAT): run the device forward, differentiate its model backward.

    forward     y = device(x, theta)                 what the apparatus measured
    backward    g_x, g_theta = J(x, theta)^T g_y     J: the model's Jacobian at the device's inputs

L. G. Wright, T. Onodera et al., Nature 601, 549 (2022), Methods and Supplement I.
"""

from functools import partial

import numpy as np
import torch


def physics_aware(device, model):
    """Return f(*args, **kwargs): its value is the device's, its gradient the model's.

    The device gets every tensor as a read-only NumPy array and returns one array of floats. The
    model gets tensors, in the backward pass only, and returns one of the device's output shape.

    >>> x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> physics_aware(lambda x: 2 * x**1.1, lambda x: 2.01 * x**1.1)(x).backward()
    >>> x.grad
    tensor(2.2110, dtype=torch.float64)
    """
    return partial(_ask, (device, model))


@torch.compiler.disable  # torch.compile would trace the device instead of asking it
def _ask(parts, /, *args, **kwargs):
    tensors, call = _take_tensors(args, kwargs)
    return _PhysicsAware.apply(call, parts, *tensors)


class _PhysicsAware(torch.autograd.Function):
    @staticmethod
    def forward(call, parts, *tensors):
        y = _to_tensor(call(parts[0], [_to_numpy(tensor) for tensor in tensors]))
        return y.to(tensors[0].device) if tensors else y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call, (_, ctx.model), *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_y):
        needed = ctx.needs_input_grad[2:]
        gradient = _ModelGradient.apply if torch.is_grad_enabled() else _ModelGradient.forward
        found = iter(gradient(ctx.call, ctx.model, needed, grad_y, *ctx.saved_tensors))
        return None, None, *(next(found) if need else None for need in needed)


class _ModelGradient(torch.autograd.Function):
    """J^T g_y, for those inputs that need it; an error where it is differentiated again."""

    @staticmethod
    def forward(call, model, needed, grad_y, *tensors):
        inputs = [x.detach().requires_grad_(need) for x, need in zip(tensors, needed, strict=True)]
        leaves = [x for x in inputs if x.requires_grad]
        if own := getattr(model, "pullback", None):  # a model with an adjoint of its own
            found = call(own, tensors, grad_y, needed)
            found = [g for g, need in zip(found, needed, strict=True) if need]
        else:
            with torch.enable_grad():
                y = _usable(call(model, inputs), grad_y)
            found = torch.autograd.grad(y, leaves, grad_y.to(y), allow_unused=True)
        if all(g is None for g in found):
            raise RuntimeError("the model's output depends on none of the inputs that need "
                               "gradients: is every step of the model differentiable?")
        pairs = zip(found, leaves, strict=True)
        return tuple(torch.zeros_like(x) if g is None else g for g, x in pairs)

    setup_context = staticmethod(lambda ctx, inputs, output: None)

    @staticmethod
    def backward(ctx, *grads):  # torch's once_differentiable can give a silent zero
        raise RuntimeError("physics-aware functions can be differentiated only once: nothing "
                           "stands in for the device's second derivative")


# --- Layers --------------------------------------------------------------------------------------

MODES = ("pat", "in_silico", "device")


class _Parts(tuple):
    """Device and model. No Module: no optimiser, state_dict() or to() ever meets the model."""

    def __deepcopy__(self, memo):
        return self  # the copy of a network, or an average of its weights, has the same device


class Physical(torch.nn.Module):
    """One pass through a device, all of whose controls come from outside.

    device : ``device(x, theta)`` on arrays, one row a pass, returns (rows, output_dim)
    model : its differentiable model, the same call on tensors
    mode : "pat": device forward, model backward; "in_silico": the model both ways; "device": the
        device only, without gradients. The attribute can be changed at any time.
    """

    def __init__(self, device, model, mode="pat"):
        super().__init__()
        self.parts, self.mode = _Parts((device, model)), mode

    @property
    def mode(self):
        return self._mode

    @mode.setter
    def mode(self, mode):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
        self._mode = mode

    def forward(self, x, theta):
        """Return what was measured or predicted, in the dtype of `x`."""
        _require_floats("x", x, "batch", "input_dim")
        # Autocast makes half precision: no device takes it, and float32 holds the same numbers.
        controls = [c.float() if c.dtype.itemsize < 4 else c for c in (x, theta)]
        if self.mode == "in_silico":
            return self.parts[1](*controls).to(x.dtype)
        with torch.set_grad_enabled(self.mode == "pat" and torch.is_grad_enabled()):
            return physics_aware(*self.parts)(*controls).to(x.dtype)


class PhysicalLayer(Physical):
    """A layer of a physical neural network: one pass through a device with trainable controls.

    device, model, mode : see `Physical`
    theta : the controls, shape (param_dim,); a Parameter is kept, so that layers can share one, a
        tensor is copied
    shared : hand theta over once instead of once a row: it spares a device with a million
        controls the copies, and the backward pass a gradient for each of them
    """

    def __init__(self, device, model, theta, mode="pat", shared=False):
        super().__init__(device, model, mode)
        _require_floats("theta", theta, "param_dim")
        given = isinstance(theta, torch.nn.Parameter)
        self.theta = theta if given else torch.nn.Parameter(theta.detach().clone())
        self.shared = shared

    def forward(self, x):
        """Return (batch, output_dim) for data controls of shape (batch, input_dim)."""
        return super().forward(x, self.theta if self.shared else self.theta.expand(len(x), -1))


def _require_floats(name, value, *dims):
    if not torch.is_tensor(value) or not value.is_floating_point():
        kind = value.dtype if torch.is_tensor(value) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if value.ndim != len(dims):
        raise ValueError(f"{name} must have shape ({', '.join(dims)}), got {tuple(value.shape)}")


# --- What the two parts return -------------------------------------------------------------------

def _to_numpy(tensor):
    wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor  # NumPy has no bfloat16
    array = wide.detach().cpu().numpy()
    array.flags.writeable = False  # the memory may be the tensor's own, kept for the backward pass
    return array


def _to_tensor(measured):
    """Copy what the device returned, because a device may use its output buffer again."""
    if isinstance(measured, torch.Tensor):
        measured = _to_numpy(measured)
    kind = measured.dtype.type if hasattr(measured, "dtype") else type(measured)
    if kind not in (float, np.float16, np.float32, np.float64):
        raise TypeError(f"a device must return an array of float16, 32 or 64, got {kind.__name__}")
    return torch.from_numpy(np.array(measured, kind, order="C"))  # in the machine's byte order


def _usable(y, grad_y):
    """Refuse a prediction that cannot stand for the measurement, whose gradient is grad_y."""
    found = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
    if found != tuple(grad_y.shape):
        raise ValueError("the model must return one tensor of the shape of the device's output, "
                         f"{tuple(grad_y.shape)}, got {found}")
    return y if y.requires_grad else y.detach().requires_grad_()


# --- vmap ----------------------------------------------------------------------------------------

def _one_by_one(function, info, in_dims, *inputs):
    """Nothing is known about a black box's batch dimension, so it runs once per element."""
    columns = [x.unbind(dim) if isinstance(dim, int) else [x] * info.batch_size
               for x, dim in zip(inputs, in_dims, strict=True)]
    found = [function.apply(*element) for element in zip(*columns, strict=True)]
    if function is _PhysicsAware:
        return torch.stack(found), 0
    return tuple(map(torch.stack, zip(*found, strict=True))), (0,) * len(found[0])


_PhysicsAware.vmap = _ModelGradient.vmap = classmethod(_one_by_one)


# --- Arguments and keywords ----------------------------------------------------------------------

def _take_tensors(args, kwargs):
    """Return a call's tensors, which autograd must see, and `call`, to repeat it with others."""
    others, size = dict(enumerate(args)) | kwargs, len(args)
    names = [name for name, value in others.items() if torch.is_tensor(value)]
    # `call` lives as long as the graph does, so it must not keep the tensors themselves.
    tensors = [others.pop(name) for name in names]
    for name, value in others.items():
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(value, (list, tuple, set, dict)) and any(map(torch.is_tensor, inside)):
            raise TypeError(f"argument {name!r} is a {type(value).__name__} that holds tensors, "
                            "which would get no gradient: pass each as an argument of its own")

    def call(function, values, *first):
        filled = others | dict(zip(names, values, strict=True))
        return function(*first, *[filled.pop(i) for i in range(size)], **filled)

    return tensors, call
