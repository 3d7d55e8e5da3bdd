"""The digital model of a device ("twin"): measure the device, fit a model to it, judge the fit, keep it.

Everything here knows the device only through ``y = device(x, theta)``. A twin is judged by R^2 on controls
it never saw, beside the noise floor: the R^2 that the device's own noiseless response would reach against
one noisy reading, estimated from repeated readings.
"""


import numpy as np
import torch

from pnn_utils.files import write_json
from pnn_utils.systems.base import check_number, check_whole
from pnn_utils.twins.perceptron import Perceptron
from pnn_utils.weights import load_tensors, save_tensors


def random_controls(device, n, rng):
    """Draw controls uniformly over the device's ranges.

    Parameters
    ----------
    device : PhysicalSystem
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (n, input_dim), float32
    theta : ndarray, shape (n, param_dim), float32

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number of at least 0.
    """
    check_whole(0, n=n)
    x = rng.uniform(*device.input_range, (n, device.input_dim)).astype(np.float32)
    theta = rng.uniform(*device.param_range, (n, device.param_dim)).astype(np.float32)
    return x, theta


def noise_variance(device, x, theta, repeats):
    """Estimate the variance of one reading, per output, from repeated readings.

    Parameters
    ----------
    device : callable
    x, theta : ndarray, shapes (n, input_dim) and (n, param_dim)
    repeats : int
        Readings of each row, at least 2.

    Returns
    -------
    ndarray, shape (output_dim,)
        Mean over rows of the sample variance over repeats, in squared output units.

    Raises
    ------
    TypeError
        If repeats is not a whole number, or the device refuses the dtype of the controls.
    ValueError
        If repeats is below 2, there are no rows, or the device refuses the controls.
    """
    check_whole(-np.inf, repeats=repeats)
    if not len(x):
        raise ValueError("there are no rows; expected at least one")
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}; expected at least 2, a variance needs two readings")
    return np.var([device(x, theta) for _ in range(repeats)], axis=0, ddof=1).mean(0)


def r_squared(predicted, measured):
    """Return 1 - (mean squared error) / (variance of the measurement), per output, shape (output_dim,).

    Raises
    ------
    TypeError
        If they are not of numbers.
    ValueError
        If their shapes are not the same (n, output_dim), or the result is not finite: a measured output does not vary, or something is NaN.
    """
    if predicted.dtype.kind not in "fiu" or measured.dtype.kind not in "fiu":
        raise TypeError(f"predicted has dtype {predicted.dtype} and measured {measured.dtype}; expected numbers")
    if predicted.shape != measured.shape or measured.ndim != 2 or not len(measured):
        raise ValueError(f"predicted has shape {predicted.shape} and measured {measured.shape}; expected the same, (n, outputs)")
    found = 1 - ((predicted - measured) ** 2).mean(0) / measured.var(0)
    if not np.isfinite(found).all():
        raise ValueError(f"R^2 is {found}: a value is not finite or too large, or a measured output does not vary; expected finite values that vary")
    return found


def fit_twin(device, x, theta, y, *, twin=None, hidden=(256, 256), epochs=30, batch_size=128, learning_rate=2e-3,
             patience=8, validation_fraction=0.1, generator=None, refit=False):
    """Fit a twin to measured pairs: Adam, cosine schedule, early stop on held-out pairs.

    Parameters
    ----------
    device : PhysicalSystem
        Only its dimensions are read; it is not called.
    x, theta, y : ndarray, shapes (n, input_dim), (n, param_dim), (n, output_dim)
        Measured pairs.
    twin : torch.nn.Module, optional
        The model to fit, as its constructor made it: ``twin(x, theta)`` predicts y, ``twin.standardise(x, theta, y)``
        sets its fixed constants from pairs, ``twin.output_sd`` weighs the errors. Default: a `Perceptron`.
        It is fitted in place.
    hidden : sequence of int
        Widths of the default model's hidden layers.
    epochs, batch_size, patience : int
        Training stops after `patience` epochs without a lower validation error.
    learning_rate, validation_fraction : float
    generator : torch.Generator, optional
        Source of initial weights, split and batch order.
    refit : bool
        `twin` has been fitted before: go on from its weights and fixed constants.

    Returns
    -------
    twin : torch.nn.Module
        The weights of the best epoch, not trainable, in float32.
    history : list of dict
        Epoch, training and validation error (mean squared, in units of each output's variance).

    Raises
    ------
    TypeError
        If the arrays are not of numbers, or a number is none.
    ValueError
        If the arrays' shapes do not match the device, there are less than two rows for training, a value is not finite, a number is out of range,
        or there is no twin to refit.
    FloatingPointError
        If the validation error was never finite.
    """
    if refit and twin is None:
        raise ValueError("refit is True but twin is None; expected a twin that was fitted before")
    check_whole(1, epochs=epochs, batch_size=batch_size, patience=patience)
    check_number(0, learning_rate=learning_rate)
    check_number(0, 1, validation_fraction=validation_fraction)
    for name, values, width in (("x", x, device.input_dim), ("theta", theta, device.param_dim), ("y", y, device.output_dim)):
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{name} has dtype {values.dtype}; expected numbers")
        if not x.ndim or values.shape != (len(x), width):
            raise ValueError(f"{name} has shape {values.shape}; expected ({len(x)}, {width})")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    generator = generator or torch.Generator().manual_seed(0)
    twin = twin or Perceptron(device.input_dim, device.param_dim, device.output_dim, hidden, generator)
    x, theta, y = (torch.tensor(values).float() for values in (x, theta, y))
    order = torch.randperm(len(x), generator=generator)
    held = max(1, int(len(order) * validation_fraction))
    if len(order) - held < 2:
        raise ValueError(f"{len(order)} rows with {held} of them held out leave {len(order) - held} to train on; expected at least 2")
    valid, train = order[:held], order[held:]
    if not refit:
        twin.standardise(x[train], theta[train], y[train])
    twin.requires_grad_(True)

    def error(rows):
        return (((twin(x[rows], theta[rows]) - y[rows]) / twin.output_sd) ** 2).mean()

    optimizer = torch.optim.Adam(twin.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    history, best, best_weights = [], np.inf, None
    for epoch in range(epochs):
        total = 0.0
        for rows in train[torch.randperm(len(train), generator=generator)].split(batch_size):
            optimizer.zero_grad()
            loss = error(rows)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        schedule.step()
        with torch.no_grad():
            validation = error(valid).item()
        history.append({"epoch": epoch, "train": total / len(train), "validation": validation})
        if validation < best:
            best, since = validation, 0
            best_weights = {name: value.clone() for name, value in twin.state_dict().items()}
        else:
            since += 1
            if since >= patience:
                break
    if best_weights is None:
        raise FloatingPointError(f"the model's validation error was never finite (last: {validation})")
    twin.load_state_dict(best_weights)
    return twin.requires_grad_(False), history


def judge_twin(twin, device, x, theta, repeats=4):
    """Compare a twin with the device on held-out controls.

    Parameters
    ----------
    twin : torch.nn.Module
    device : callable
        Called 1 + `repeats` times on the controls.
    x, theta : ndarray, shapes (n, input_dim) and (n, param_dim)
        Controls that the fit never saw.
    repeats : int
        Readings per row for the noise floor.

    Returns
    -------
    dict
        ``r2`` and ``floor``, arrays of shape (output_dim,): R^2 against one reading, and the most that noise allows.

    Raises
    ------
    TypeError, ValueError
        If the device, the twin, `noise_variance` or `r_squared` refuse what they are given.
    """
    y = device(x, theta)
    noise = noise_variance(device, x, theta, repeats)
    with torch.no_grad():
        predicted = twin(torch.tensor(x).float(), torch.tensor(theta).float()).numpy()
    return {"r2": r_squared(predicted, y), "floor": 1 - noise / y.var(0)}


def save_twin(path, twin, made):
    """Write a twin as safetensors, and beside it a JSON file that tells how it was made.

    Parameters
    ----------
    path : str or pathlib.Path
        Ends in ``.safetensors``.
    twin : torch.nn.Module
        Has ``settings``, the arguments that its constructor needs, of plain JSON types.
    made : dict
        Plain JSON types: device, seeds, numbers of pairs, settings, R^2.

    Raises
    ------
    OSError
        If a file cannot be written.
    TypeError, ValueError
        If `made` is not a dict of plain JSON types, or the path holds a null byte.
    """
    described = {"kind": type(twin).__name__, "settings": twin.settings}
    save_tensors(path, twin.state_dict(), {"twin": described})
    write_json(str(path).removesuffix(".safetensors") + ".json", {**described, **made})


def load_twin(path, device, kind=Perceptron):
    """Read a twin of the given kind that `save_twin` wrote for this device.

    Parameters
    ----------
    path : str or pathlib.Path
    device : PhysicalSystem
        Only its dimensions are read.
    kind : type
        Class of the twin.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, holds something else than a twin, or a twin of another kind or shape.
    """
    weights, about = load_tensors(path)
    described = about.get("twin") if isinstance(about, dict) else None
    if not isinstance(described, dict) or not {"kind", "settings"} <= set(described):
        raise ValueError(f"{path} holds no twin; what is told about it is {about!r:.200}")
    if described["kind"] != kind.__name__:
        raise ValueError(f"{path} holds a {described['kind']}; expected a {kind.__name__}")
    settings = described["settings"]
    names = ("input_dim", "param_dim", "output_dim")
    found, expected = [settings[name] for name in names], [getattr(device, name) for name in names]
    if found != expected:
        raise ValueError(f"{path} holds a twin with dimensions {found}; the device has {expected}")
    twin = kind(**settings)
    twin.load_state_dict(weights)
    return twin.requires_grad_(False)
