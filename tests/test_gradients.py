"""The estimate of gradient quality, against gradients that are known."""

import numpy as np
import pytest
import torch

from pnn_utils.networks import signal_like_controls
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.twin import fit_twin, gradient_quality, random_controls


def linear_device(matrix, noise=0.0, seed=0):
    rng, size = np.random.default_rng(seed), matrix.shape[1] // 2

    def measure(x, theta):
        y = np.hstack([x, np.broadcast_to(theta, x.shape)]) @ matrix.T
        return y + noise * rng.standard_normal(y.shape)

    return Instrument(measure, size, size, len(matrix))


def as_model(matrix):
    return lambda x, theta: torch.cat([x, theta], 1) @ torch.tensor(matrix, dtype=torch.float32).T


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("error", [0.0, 0.5, 2.0, 50.0])
def test_linear_devices_have_a_known_cosine(noise, error):
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((6, 16)) / 4
    wrong = matrix + error * rng.standard_normal(matrix.shape) / 4
    device = linear_device(matrix, noise)
    x, theta = random_controls(device, 3000, rng)
    found = gradient_quality(device, as_model(wrong), x, theta, rng, step=0.1)
    # With independent cotangents of unit variance per output's spread, the mean product of the
    # gradients is a trace.
    weight = 1 / np.std(device(x, theta), axis=0) ** 2

    def trace(a, b):
        return np.sum(weight[:, None] * a * b)

    known = trace(matrix, wrong) / np.sqrt(trace(matrix, matrix) * trace(wrong, wrong))
    assert found["standard_error"] < 0.06
    assert abs(found["cosine"] - known) < 3.5 * found["standard_error"] + 1e-6
    assert found["passes"] == 12000 == device.passes - 3000


def test_noise_does_not_lower_the_estimate():
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((6, 16)) / 4
    device = linear_device(matrix, noise=1.0)  # ten times what a step of the controls changes
    x, theta = random_controls(device, 20000, rng)
    found = gradient_quality(device, as_model(matrix), x, theta, rng, step=0.1)
    assert 0.01 < found["standard_error"] < 0.3
    assert abs(found["cosine"] - 1) < 3.5 * found["standard_error"]


def test_of_a_fitted_model_it_is_what_exact_gradients_tell():
    device, rng = SHG(seed=0, noise_seed=1), np.random.default_rng(3)
    pairs = signal_like_controls(device, 300, 3, rng)
    twin, _ = fit_twin(device, *pairs, device(*pairs), hidden=(64,), epochs=15)
    x, theta = signal_like_controls(device, 1000, 3, rng)
    found = gradient_quality(device, twin, x, theta, np.random.default_rng(4))
    exact = gradient_quality(device, ExactSHG(device), x, theta, np.random.default_rng(5))
    assert abs(exact["cosine"] - 1) < 3.5 * exact["standard_error"]
    assert exact["standard_error"] < 0.03

    inputs = [torch.tensor(np.clip(v, 0.05, 0.95), requires_grad=True) for v in (x, theta)]
    cotangent = torch.randn(len(x), 50, generator=torch.Generator().manual_seed(6))
    cotangent = cotangent / torch.tensor(np.std(device(x, theta), axis=0))
    of_device, of_model = (
        torch.cat(torch.autograd.grad(model(*inputs), inputs, cotangent), 1)
        for model in (ExactSHG(device), twin))
    known = float((of_device * of_model).sum() / of_device.norm() / of_model.norm())
    assert 0.3 < known < 0.98
    assert abs(found["cosine"] - known) < 3.5 * found["standard_error"]


def test_noise_alone_is_refused():
    rng = np.random.default_rng(7)
    device = Instrument(lambda x, theta: rng.standard_normal((len(x), 3)), 4, 4, 3)
    x, theta = random_controls(device, 200, rng)
    model = as_model(np.ones((3, 8)))
    found = gradient_quality(device, model, x, theta, rng)  # as luck will have it
    assert abs(found["cosine"]) < 3.5 * found["standard_error"]
    flat = Instrument(lambda x, theta: np.ones((len(x), 3)), 4, 4, 3)
    with pytest.raises(ValueError, match="do not stand out of the noise"):
        gradient_quality(flat, model, x, theta, rng)
