"""The twin of a device: a model fitted to measured pairs, judged on others, kept in a file.

Everything here knows the device only through ``y = device(x, theta)``. R^2 stands beside the noise
floor, what the device's noiseless response would reach against one noisy reading. It does not tell
whether a twin can train: a model can predict every reading well and have slopes of noise.
"""

import numpy as np
import torch

from pnn_utils import files, parts

PATIENCE = 8  # epochs without a lower validation error before a fit stops
HELD_OUT = 0.1  # share of the pairs for that error
READINGS = 4  # of each row, for the noise floor


class Perceptron(parts.MLP):
    """The twin that assumes nothing: a multilayer perceptron, its layers `hidden` wide."""

    activation = staticmethod(torch.nn.functional.silu)

    def __init__(self, input_dim, param_dim, output_dim, hidden=(256, 256), generator=None):
        widths = (input_dim + param_dim, *hidden, output_dim)
        super().__init__(widths, generator)
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim,
                         "hidden": list(hidden)}
        self.controls, self.outputs = (parts.Standardise(widths[end]) for end in (0, -1))

    @property
    def output_sd(self):
        return self.outputs.sd

    def standardise(self, x, theta, y):
        """Set the constants that scale controls and outputs from pairs, shapes (n, ..._dim)."""
        self.controls.measure(torch.cat([x, theta], 1))
        self.outputs.measure(y)

    def forward(self, x, theta):
        """Return the predicted reading, shape (n, output_dim), in the device's output unit."""
        controls = self.controls(torch.cat([x, theta], dim=-1)).to(self.layers[0].weight)
        return super().forward(controls) * self.outputs.sd + self.outputs.mean


def random_controls(device, n, rng):
    """Draw controls uniformly over the device's ranges: x (n, input_dim), theta (n, param_dim)."""
    ranges = (device.input_range, device.input_dim), (device.param_range, device.param_dim)
    return tuple(parts.sent(rng.uniform(*allowed, (n, width)), allowed)
                 for allowed, width in ranges)


def noise_variance(device, x, theta, repeats):
    """Return the variance of one reading per output, from repeated readings; mean over rows."""
    readings = parts.precise(np.concatenate([device(x, theta) for _ in range(repeats)]))
    return readings.reshape(repeats, len(x), -1).var(0, ddof=1).mean(0)


def explained(error, measured):
    """Return 1 - (mean squared error) / (variance of the measurement) per output.

    In an output that is constant nothing is to be explained, as in one of noise only: 0.
    """
    varies = np.ptp(measured, 0) > 0
    return np.where(varies, 1 - error / np.where(varies, measured.var(0), 1), 0)


def precision(model):
    """Return the dtype of a model's weights; torch's default where it has none."""
    weights = model.parameters() if isinstance(model, torch.nn.Module) else ()
    return next((weight.dtype for weight in weights), torch.get_default_dtype())


def fit_twin(device, x, theta, y, *, twin=None, hidden=(256, 256), epochs=30, batch_size=128,
             learning_rate=2e-3, generator=None, refit=False):
    """Fit a twin to measured pairs: Adam, cosine schedule, early stop on held-out pairs.

    Returns the twin, with the weights of the best epoch, no longer trainable and in eval mode, and
    the history, errors in units of each output's variance. Of the device only dimensions are read.

    x, theta, y : arrays of shapes (n, input_dim), (n, param_dim), (n, output_dim)
    twin : torch.nn.Module, fitted in place; has ``standardise(x, theta, y)``, which sets its
        constants from pairs, and ``output_sd``, which weighs the errors (0: without weight).
        Default: a `Perceptron` of `hidden` units. It becomes float64 where float32 loses the
        spread of a column.
    generator : torch.Generator, source of initial weights, split and batch order
    refit : go on from the weights and constants that `twin` has from an earlier fit
    """
    generator = generator or torch.Generator().manual_seed(0)
    dimensions = device.input_dim, device.param_dim, device.output_dim
    twin = twin or Perceptron(*dimensions, hidden, generator)
    if any(map(parts.beyond_float32, (x, theta, y))):
        twin.double()
    x, theta, y = (torch.tensor(values, dtype=precision(twin)) for values in (x, theta, y))
    order = torch.randperm(len(x), generator=generator)
    valid, train = order.tensor_split([max(1, int(len(order) * HELD_OUT))])
    if not refit:
        twin.standardise(x[train], theta[train], y[train])
    twin.requires_grad_(True).train()
    scale = parts.divisor(torch.as_tensor(twin.output_sd))

    def error(rows):
        return (((twin(x[rows], theta[rows]) - y[rows]) / scale) ** 2).mean()

    optimizer = torch.optim.Adam(twin.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    history, best, best_epoch, best_weights = [], np.inf, 0, None
    for epoch in range(epochs):
        total = 0.0
        for rows in train[torch.randperm(len(train), generator=generator)].split(batch_size):
            optimizer.zero_grad()
            loss = error(rows)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        schedule.step()
        with torch.no_grad(), parts.evaluating(twin):
            validation = error(valid).item()
        history.append({"epoch": epoch, "train": total / len(train), "validation": validation})
        if validation < best:
            best, best_epoch = validation, epoch
            best_weights = {name: value.clone() for name, value in twin.state_dict().items()}
        elif epoch - best_epoch >= PATIENCE:
            break
    if best_weights is None:
        raise FloatingPointError("no fit error was finite; are all controls and readings finite?")
    twin.load_state_dict(best_weights)
    return twin.requires_grad_(False).eval(), history


def judge_twin(twin, device, x, theta):
    """Return ``r2`` against one reading and its noise ``floor``, per output; 5 readings a row.

    Outputs that never varied have 0 for both, and are named under ``constant``, if there are any.
    """
    y, kind = parts.precise(device(x, theta)), precision(twin)
    noise = noise_variance(device, x, theta, READINGS)
    with torch.no_grad(), parts.evaluating(twin):
        predicted = twin(torch.tensor(x, dtype=kind), torch.tensor(theta, dtype=kind)).numpy()
    error = ((predicted - y) ** 2).mean(0)
    dead = {"constant": found.tolist()} if len(found := np.flatnonzero(np.ptp(y, 0) == 0)) else {}
    return {"r2": explained(error, y), "floor": explained(noise, y)} | dead


def gradient_quality(device, model, x, theta, rng, step=0.05):
    """Estimate the cosine between the gradients of a model and of a device, from readings alone.

    Per row, with controls u = (x, theta) in units of their ranges, a random direction v of entries
    +-1 and a random cotangent g in units of each output's spread, the two gradients J^T g have the
    projections

        p = g . [y(u + step v) - y(u - step v)] / (2 step)        measured twice, p and p'
        m = v . J_m(u)^T g                                         by automatic differentiation

    and cosine = <(p + p') m / 2> / sqrt(<m m> <p p'>): <p p'> is free of the noise that <p p> has.
    Physics-aware training descends where it is above 0. It may exceed 1 by its error.

    x (n, input_dim) and theta (n, param_dim) are controls as they occur in training, n of some
    hundreds; `step` is a share of their ranges. Returned are cosine, standard_error (jackknife
    over rows) and passes, 4 a row. Readings that do not stand out of the noise are a ValueError.
    """
    controls = (x, device.input_range), (theta, device.param_range)
    centres, moves, up, down = zip(*(_moved(*part, step, rng) for part in controls), strict=True)
    readings = [(device(*up), device(*down)) for _ in range(2)]
    size = parts.spread(readings[0][0])
    cotangent = rng.standard_normal((len(size), len(x))).T / size
    first, second = (((up - down) * cotangent).sum(1) / (2 * step) for up, down in readings)

    inputs = [torch.tensor(u, dtype=precision(model), requires_grad=True) for u in centres]
    with parts.evaluating(model):
        y = model(*inputs)
        gradients = torch.autograd.grad(y, inputs, torch.tensor(cotangent).to(y),
                                        materialize_grads=True)
    of_model = sum((gradient.double().numpy() * move / step).sum(1)
                   for gradient, move in zip(gradients, moves, strict=True))

    products = np.stack([of_model * (first + second) / 2, of_model * of_model, first * second])
    total = products.sum(1, keepdims=True)
    without = total - products  # each row left out once
    if not (without[1:] > 0).all():
        raise ValueError(f"differences over a step of {step} do not stand out of the noise of "
                         f"{len(x)} rows; take a larger step or more rows")
    cosine, left_out = (mp / np.sqrt(mm * pp) for mp, mm, pp in (total, without))
    error = np.sqrt((len(x) - 1) / len(x) * ((left_out - left_out.mean()) ** 2).sum())
    return {"cosine": cosine.item(), "standard_error": float(error), "passes": 4 * len(x)}


def _moved(values, allowed, step, rng):
    """Return controls, moves of a step of their range each way, and where these lead, in range."""
    low, high = (np.asarray(end, np.float64) for end in allowed)
    size = step * (high - low)
    centre = np.clip(values, low + size, high - size, dtype=values.dtype).astype(np.float64)
    move = size * rng.choice([-1.0, 1.0], values.shape)
    return centre, move, *(np.clip(centre + way, low, high) for way in (move, -move))


def save_twin(path, twin, made):
    """Write a twin as ``.safetensors``, beside it as JSON its ``settings`` and what `made` it."""
    described = {"kind": type(twin).__name__, "settings": twin.settings}
    files.save_tensors(path, twin.state_dict(), {"twin": described})
    files.write_json(str(path).removesuffix(".safetensors") + ".json", {**described, **made})


def load_twin(path, device, kind=Perceptron):
    """Read a twin of the given class that `save_twin` wrote for this device.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file; if it is damaged, or holds no twin of this kind and shape.
    """
    weights, about = files.load_tensors(path)
    dimensions = {name: getattr(device, name) for name in ("input_dim", "param_dim", "output_dim")}
    try:
        held = about["twin"]
        fitting = {"kind": kind.__name__, "settings": held["settings"] | dimensions}
        if held != fitting:
            raise ValueError(f"it holds {held}; expected {fitting}")
        twin = kind(**held["settings"])
        twin.load_state_dict(weights, assign=True)  # in the precision that it was fitted in
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no twin of this device: {error!r}") from error
    return twin.requires_grad_(False).eval()
