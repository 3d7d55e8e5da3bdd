"""Is a model good enough for physics-aware training? Its gradient against the device's, from measurements alone.

Physics-aware training descends as long as the model's gradient makes an angle below 90 degrees with the device's, and R^2 does not tell that angle: a
model can predict every reading well and have slopes of noise. Nobody can read a device's gradient, but its projection onto any direction is a difference of
two readings.
"""

import numpy as np
import torch

from pnn_utils.systems.base import check_number


def gradient_quality(device, model, x, theta, rng, step=0.05):
    """Estimate the cosine between the gradients of a model and of the device.

    Per row, with controls u = (x, theta) in units of their ranges, a random direction v of entries +-1 and a random cotangent g in units of each
    output's spread, the device's projection p and the model's m are

        p = g . [y(u + step v) - y(u - step v)] / (2 step)        measured twice, p and p'
        m = v . J_m(u)^T g                                         by automatic differentiation

    As the directions are isotropic, the means of p m, of m m and of p p' estimate the products of the two gradients J^T g, and

        cosine = <(p + p') m / 2> / sqrt(<m m> <p p'>).

    The noise of two readings is independent, so that it does not enter <p p'>, as it would <p p>.

    Parameters
    ----------
    device : PhysicalSystem
        Makes 4 passes a row.
    model : callable
        ``model(x, theta)`` on tensors, differentiable.
    x, theta : ndarray, shapes (n, input_dim) and (n, param_dim)
        Where to judge; controls as they occur in training, n of some hundreds. What lies within a step of a range's end is moved inside.
    rng : numpy.random.Generator
    step : float
        Share of the ranges, above 0 and below 0.5. Smaller is nearer to the derivative, larger is further above the noise.

    Returns
    -------
    dict
        cosine; standard_error (jackknife over rows); passes made.

    Raises
    ------
    TypeError
        If the step is not a number, or the device refuses the dtype of the controls.
    ValueError
        If the step or the number of rows is out of range, or the readings' differences do not stand out of the noise.

    Notes
    -----
    Estimates of the cosine may exceed 1 by their error. The mean is over rows, so that rows with large gradients count for more, as they do in training.
    """
    check_number(-np.inf, step=step)
    if not 0 < step < 0.5:
        raise ValueError(f"step is {step}; expected a share of the ranges above 0 and below 0.5")
    if len(x) < 10 or len(x) != len(theta):
        raise ValueError(f"x has {len(x)} rows and theta {len(theta)}; expected equal numbers, at least 10")
    ranges = (device.input_range, device.param_range)
    centres, moves = [], []
    for values, (low, high) in zip((x, theta), ranges, strict=True):
        width = high - low
        centres.append(np.clip(values, low + step * width, high - step * width).astype(np.float64))
        moves.append(step * width * rng.choice([-1.0, 1.0], np.shape(values)))
    ends = [[np.clip(c + sign * d, *allowed) for c, d, allowed in zip(centres, moves, ranges, strict=True)] for sign in (1, -1)]
    readings = [[np.asarray(device(*end), np.float64) for end in ends] for _ in range(2)]
    spread = np.std(readings[0][0], axis=0)
    cotangent = rng.standard_normal(spread.shape + (len(x),)).T / np.where(spread > 0, spread, np.inf)
    first, second = (((up - down) * cotangent).sum(1) / (2 * step) for up, down in readings)

    inputs = [torch.tensor(c, dtype=torch.float32, requires_grad=True) for c in centres]
    gradients = torch.autograd.grad(model(*inputs), inputs, torch.tensor(cotangent, dtype=torch.float32))
    of_model = sum((g.double().numpy() * d / step).sum(1) for g, d in zip(gradients, moves, strict=True))

    products = np.stack([of_model * (first + second) / 2, of_model * of_model, first * second])
    total = products.sum(1, keepdims=True)
    if not (total[1:] > 0).all():
        raise ValueError(f"differences over a step of {step} do not stand out of the noise (mean product of two readings {total[2, 0] / len(x):.3g}, mean "
                         f"square of the model's {total[1, 0] / len(x):.3g}); expected both above 0: take a larger step or more than {len(x)} rows")
    without = total - products  # each row left out once
    if not (without[2] > 0).all():
        raise ValueError(f"one row of {len(x)} decides whether the differences stand out of the noise; take a larger step or more rows")
    left_out = without[0] / np.sqrt(without[1] * without[2])
    error = np.sqrt((len(x) - 1) / len(x) * ((left_out - left_out.mean()) ** 2).sum())
    cosine = (total[0] / np.sqrt(total[1] * total[2])).item()
    return {"cosine": cosine, "standard_error": float(error), "passes": 4 * len(x)}
