"""Physics-aware training: run the device forward, differentiate its model backward.

    forward    y = physical(x, theta)                    what the apparatus measured
    backward   g_x, g_theta = J_model(x, theta)^T g_y    the model's Jacobian at the apparatus's inputs

`physics_aware` joins a black-box device and a differentiable model into one function that torch can train
through; `PhysicalLayer` is a layer made of it that can also run in silico or on the bare device.

References
----------
L. G. Wright, T. Onodera et al., Nature 601, 549 (2022), Methods and Supplement I.
"""

from functools import partial

import numpy as np
import torch

MODES = ("pat", "in_silico", "device")


def physics_aware(physical, model):
    """Join a device and its differentiable model into one trainable function.

    Parameters
    ----------
    physical : callable
        The device. It is called with the arguments of the returned function, every tensor replaced by a NumPy
        array of the same shape and dtype. The arrays are read-only views of the tensors' memory where that is
        possible, so a device that wants to write into its inputs must copy them. It returns one real
        floating-point array (or tensor, or number); a tuple or list is refused.
    model : callable
        The differentiable model. It is called with the same arguments, as tensors, only during the backward
        pass, and must return one tensor of the device's output shape. Its own parameters get no gradients.

    Returns
    -------
    callable
        ``f(*args, **kwargs)``. Its value is the device's output bit for bit, in the device's dtype, on the
        torch device of the first tensor argument. Its gradient is the vector-Jacobian product of `model` at
        the values that went into the device, in each input's own dtype. Arguments may be floating-point
        tensors (differentiable), integer or boolean tensors, and anything else (numbers, strings, None, NumPy
        arrays), which passes through unchanged; tensors inside a list, tuple, set or dict are refused.
        Inputs that need no gradient cause no gradient work, and if none needs one the model is never called.

    Raises
    ------
    TypeError
        By ``f``: for tensors inside containers, tensors NumPy cannot hold, and an output that is not one real
        floating-point array. In the backward pass: for a model that does not return a tensor.
    ValueError
        In the backward pass: if the model's output shape differs from the device's.
    RuntimeError
        In the backward pass: if the model's output depends on none of the inputs that need gradients; and
        when a second derivative is asked for, which this method does not define.

    Notes
    -----
    ``torch.func.grad``, ``vjp``, ``jacrev`` and ``vmap`` work; forward mode (``jvp``, ``jacfwd``) does not.
    Nothing is known about a black box's batch dimension, so ``vmap`` runs the device once per element.

    Examples
    --------
    >>> f = physics_aware(lambda x: 2 * x**1.1, lambda x: 2.01 * x**1.1)
    >>> x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> y = f(x)
    >>> y.backward()
    >>> y.item(), round(x.grad.item(), 6)
    (2.0, 2.211)
    """
    _require_callables(physical=physical, model=model)

    def f(*args, **kwargs):
        tensors, run = _take_tensors(args, kwargs)
        return _PhysicsAware.apply(partial(run, physical), partial(run, model), *tensors)

    return f


def check_rows(name, value, width, dtype=None):
    """Refuse anything but a floating-point tensor of shape (rows, width), and of this dtype, if one is given.

    Raises
    ------
    TypeError, ValueError
        They name the tensor and what it should be.
    """
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or dtype not in (None, value.dtype):
        raise TypeError(f"{name} has dtype {getattr(value, 'dtype', type(value).__name__)}; expected {dtype or 'floating-point numbers'}")
    if value.ndim != 2 or value.shape[1] != width:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected (rows, {width})")


class PhysicalLayer(torch.nn.Module):
    """A layer of a physical neural network: one pass through a device with trainable controls.

    Parameters
    ----------
    device : callable
        ``device(x, theta)`` with arrays of shape (n, input_dim) and (n, param_dim), returns (n, output_dim).
    model : callable
        Its differentiable model, the same call on tensors.
    theta : torch.nn.Parameter or torch.Tensor, shape (param_dim,)
        The trainable controls. A Parameter is kept as it is, so layers can share one; a tensor becomes one.
    mode : {"pat", "in_silico", "device"}
        "pat": device forward, model backward. "in_silico": the model both ways. "device": the device only,
        without gradients. The attribute ``mode`` can be changed at any time.
    shared : bool
        Hand theta over as it is, shape (param_dim,), instead of one row per pass. It spares a device with a million
        controls the copies, and the backward pass a gradient for each of them; the model has to take it.

    Raises
    ------
    TypeError, ValueError
        For parts that cannot be called, a theta that is not a floating-point vector, an unknown mode.

    Notes
    -----
    Only theta is a parameter of the layer. Device and model stay outside torch's module registry, so an
    optimiser over a network's ``parameters()`` cannot change the model, ``state_dict()`` and ``to()`` never
    see it, and in no mode do the parameters of a model that is a Module receive gradients.
    """

    def __init__(self, device, model, theta, mode="pat", shared=False):
        super().__init__()
        _require_float_tensor("theta", theta, ("param_dim",))
        _require_callables(device=device, model=model)
        given = isinstance(theta, torch.nn.Parameter)
        self.theta = theta if given else torch.nn.Parameter(theta.detach().clone())
        # A tuple is not a Module, so torch registers neither of the two, even where they are Modules.
        self._parts = (device, model)
        self.mode, self.shared = mode, shared

    @property
    def mode(self):
        """One of "pat", "in_silico", "device"."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
        self._mode = mode

    def forward(self, x):
        """Send a batch through the layer.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, input_dim), floating point
            The data controls of the device, in the device's units.

        Returns
        -------
        torch.Tensor, shape (batch, output_dim)
            What was measured ("pat", "device") or predicted ("in_silico"), cast to the dtype of `x` so that a
            network has one dtype throughout.

        Raises
        ------
        TypeError, ValueError
            If `x` is not a two-dimensional floating-point tensor.
        """
        _require_float_tensor("x", x, ("batch", "input_dim"))
        theta = self.theta if self.shared else self.theta.expand(len(x), -1)
        device, model = self._parts
        if self.mode == "in_silico":
            return _call_frozen(model, x, theta).to(x.dtype)
        with torch.set_grad_enabled(self.mode == "pat" and torch.is_grad_enabled()):
            return physics_aware(device, model)(x, theta).to(x.dtype)

    def extra_repr(self):
        return f"param_dim={len(self.theta)}, mode={self.mode!r}"


def _require_callables(**parts):
    for name, part in parts.items():
        if not callable(part):
            raise TypeError(f"{name} must be callable, got {type(part).__name__}")


def _require_float_tensor(name, value, dims):
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if value.ndim != len(dims):
        raise ValueError(f"{name} must have shape ({', '.join(dims)}), got {tuple(value.shape)}")


def _call_frozen(model, x, theta):
    """Call a model such that gradients reach x and theta but never the model's own parameters."""
    if isinstance(model, torch.nn.Module) and any(p.requires_grad for p in model.parameters()):
        frozen = {name: parameter.detach() for name, parameter in model.named_parameters()}
        return torch.func.functional_call(model, frozen, (x, theta))
    return model(x, theta)


def _take_tensors(args, kwargs):
    """Return a call's tensors, which autograd must see, and `run`, which repeats it with others for them."""
    size, names = len(args), list(kwargs)
    slots = [*args, *kwargs.values()]
    tensors = {}
    for i, argument in enumerate(slots):
        if isinstance(argument, torch.Tensor):
            # `run` lives as long as the graph: a tensor left in `slots` would be kept alive by it.
            tensors[i], slots[i] = argument, None
        elif isinstance(argument, (list, tuple, set, dict)):
            inside = argument.values() if isinstance(argument, dict) else argument
            if any(isinstance(value, torch.Tensor) for value in inside):
                name = i if i < size else repr(names[i - size])
                raise TypeError(f"argument {name} is a {type(argument).__name__} that holds tensors, which "
                                "would get no gradient: pass every tensor as an argument of its own")
    places = list(tensors)

    def run(function, values):
        filled = list(slots)
        for i, value in zip(places, values, strict=True):
            filled[i] = value
        return function(*filled[:size], **dict(zip(names, filled[size:], strict=True)))

    return list(tensors.values()), run


class _PhysicsAware(torch.autograd.Function):
    @staticmethod
    def forward(measure, predict, *tensors):
        y = _to_tensor(measure([_to_numpy(tensor) for tensor in tensors]))
        return y.to(tensors[0].device) if tensors else y

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.predict, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_y):
        gradients = [None] * len(ctx.needs_input_grad)  # of all inputs, the two functions included
        needed = [i for i, needs in enumerate(ctx.needs_input_grad) if needs]
        products = _ModelVJP.apply(ctx.predict, [i - 2 for i in needed], grad_y, *ctx.saved_tensors)
        for i, product in zip(needed, products, strict=True):
            gradients[i] = product
        return tuple(gradients)

    @staticmethod
    def vmap(info, in_dims, measure, predict, *tensors):
        elements = _elements(info.batch_size, in_dims[2:], tensors)
        return torch.stack([_PhysicsAware.apply(measure, predict, *element) for element in elements]), 0


class _ModelVJP(torch.autograd.Function):
    """The backward pass as a function of its own, so that differentiating it again ends in a clear error.

    torch's once_differentiable would miss the case in which the incoming gradient is a constant, and then
    a second derivative would silently be zero.
    """

    @staticmethod
    def forward(predict, needed, grad_y, *tensors):
        leaves = [tensor.detach() for tensor in tensors]
        for i in needed:
            leaves[i].requires_grad_()
        with torch.enable_grad():
            y = predict(leaves)
        if not isinstance(y, torch.Tensor):
            raise TypeError(f"the model must return one tensor, got {type(y).__name__}")
        if y.shape != grad_y.shape:
            raise ValueError(f"the model's output has shape {tuple(y.shape)}, "
                             f"the device's output has shape {tuple(grad_y.shape)}; they must be equal")
        gradients = [None]
        if y.requires_grad:
            gradients = torch.autograd.grad(y, [leaves[i] for i in needed], grad_y.to(y), allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise RuntimeError("the model's output depends on none of the inputs that need gradients: "
                               "is every step of the model differentiable?")
        return tuple(torch.zeros_like(leaves[i]) if gradient is None else gradient
                     for i, gradient in zip(needed, gradients, strict=True))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("physics-aware functions can be differentiated only once: the model stands in for "
                           "the device's first derivative, and nothing stands in for its second")

    @staticmethod
    def vmap(info, in_dims, predict, needed, grad_y, *tensors):
        elements = _elements(info.batch_size, in_dims[2:], (grad_y, *tensors))
        passes = [_ModelVJP.apply(predict, needed, *element) for element in elements]
        return tuple(map(torch.stack, zip(*passes, strict=True))), (0,) * len(needed)


def _elements(size, dims, tensors):
    """Cut every tensor along its mapped dimension, if it has one, into `size` elements."""
    for i in range(size):
        yield [t if dim is None else t.select(dim, i) for t, dim in zip(tensors, dims, strict=True)]


def _to_numpy(tensor):
    array = tensor.detach().cpu().numpy()
    array.flags.writeable = False  # the memory may be the tensor's own, saved for the backward pass
    return array


def _to_tensor(measured):
    """Copy what the device returned, because a device may use its output buffer again."""
    if isinstance(measured, torch.Tensor):
        measured = _to_numpy(measured)
    if not isinstance(measured, (np.ndarray, np.generic, float)):
        raise TypeError(f"the device must return one array, got {type(measured).__name__}")
    array = np.array(measured, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"the device must return float16, float32 or float64 values, got {array.dtype}")
    return torch.from_numpy(array)
