"""The circuit's model: compiled forward and backward passes, the fit, files, a network."""

import numpy as np
import pytest
import torch

from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.model import NAMES, Ringing, fit_ringing
from pnn_utils.training import accuracy_on_device, train
from pnn_utils.twin import judge_twin, load_twin, random_controls, save_twin

GUESS = dict(zip(NAMES, (3.3, 0.043, 3.3, 120, 2.1, 0.5, 0.1, 1.0, 0.0), strict=True))


def plain(x, constants, substeps):
    """The model's equations in torch, one operation after another: the reference."""
    inductance, resistance, g, k, threshold, voltage, width, gain, offset = constants
    generator = torch.tensor([[-resistance / inductance, -1 / inductance, 1 / inductance],
                              [1.0, 0.0, 0.0],
                              [0.0, 0.0, 0.0]], dtype=x.dtype)
    (a, b, e), (f, m, n), _ = torch.linalg.matrix_exp(generator / substeps / 2)
    i = v = torch.zeros(len(x), dtype=x.dtype)
    read = []
    for u in x.T:
        for _ in range(substeps):
            i, v = a * i + b * v + e * u, f * i + m * v + n * u
            # The root of I = k / 2 (z - I / g)^2, and its slope.
            root = torch.sqrt(1 + 2 * k / g * (v - threshold).clamp(min=0))
            pull, slope = k / 2 * ((root - 1) * g / k) ** 2, g * (1 - 1 / root)
            y = -v - voltage
            rounded = (y + width).clamp(0, 2 * width)
            pull = pull - g * (rounded**2 / (4 * width) + (y - width).clamp(min=0))
            slope = slope + g * rounded / (2 * width)
            v = v - pull / substeps / (1 + slope / substeps / 2)
            i, v = a * i + b * v + e * u, f * i + m * v + n * u
        read.append(gain * v + offset)
    return torch.stack(read, 1)


def guessed(samples, substeps):
    twin = Ringing(samples, 0, samples, substeps)
    twin.constants.copy_(torch.tensor([GUESS[name] for name in NAMES]) * 1.01)
    return twin


@pytest.mark.parametrize("rows, substeps", [(1, 1), (5, 4), (16, 3), (37, 2)])
def test_compiled_passes_equal_the_plain_equations(rows, substeps):
    twin = guessed(30, substeps)
    x = 3 * torch.randn(rows, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    along = torch.cos(torch.arange(x.numel(), dtype=x.dtype)).reshape(x.shape)
    constants, results = twin.constants.tolist(), []
    for function in (lambda x: twin(x, None), lambda x: plain(x, constants, substeps)):
        control = x.clone().requires_grad_()
        y = function(control)
        results.append((y.detach(), *torch.autograd.grad(y, control, along)))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 1e-11 * expected.abs().max()


def test_gradcheck_and_single_precision():
    twin = guessed(12, 2)
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: twin(x, None), x.clone().requires_grad_())
    single = twin(x.float(), None)
    assert single.dtype == torch.float32 and (single - twin(x, None)).abs().max() < 1e-5


def test_fit_recovers_its_own_constants():
    truth = guessed(60, 3)
    device = type("Known", (), {"input_dim": 60, "param_dim": 0, "output_dim": 60})
    x = np.random.default_rng(0).uniform(-4, 4, (60, 60))
    y = truth(torch.tensor(x), None).numpy()
    found = fit_ringing(device, x, np.zeros((60, 0)), y, GUESS, substeps=3)
    assert np.abs(found(torch.tensor(x), None).numpy() - y).max() < 1e-4 * y.std()


@pytest.fixture(scope="module")
def pairs():
    device, rng = Circuit(), np.random.default_rng(0)
    x, theta = random_controls(device, 400, rng)
    return device, x, theta, device(x, theta)


def test_fitted_model_explains_the_device_nearly_to_its_noise(pairs, tmp_path):
    device, x, theta, y = pairs
    twin = fit_ringing(device, x, theta, y, GUESS, rows=200)
    images = np.random.default_rng(2).random((100, 196))
    fresh = waveform_like_controls(device, images, 3, np.random.default_rng(3))
    for controls in (random_controls(device, 300, np.random.default_rng(1)), fresh):
        judged = judge_twin(twin, device, *controls)
        assert np.median(1 - judged["r2"]) < 2e-3
    save_twin(tmp_path / "twin.safetensors", twin, {})
    again = load_twin(tmp_path / "twin.safetensors", device, Ringing)
    assert torch.equal(again(torch.tensor(x), None), twin(torch.tensor(x), None))


def test_misnamed_guess_and_other_devices_are_refused(pairs):
    misnamed = {name.upper(): value for name, value in GUESS.items()}
    with pytest.raises(KeyError, match="inductance"):
        fit_ringing(*pairs, misnamed)
    for dimensions in ((4, 0, 5), (4, 1, 4)):
        with pytest.raises(ValueError, match="as many samples out as in"):
            Ringing(*dimensions)


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_network_with_skip_and_random_order_learns_on_the_device(pairs, mode):
    device, x, theta, y = pairs
    twin = fit_ringing(device, x, theta, y, GUESS, rows=100)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(200, 196, generator=generator), torch.arange(200) % 2
    images[labels == 1, 80:120] += 0.6
    kind = {"shuffle": True, "skip": True}
    network = waveform_chain(device, twin, 2, 2, generator, **kind, mode="device")
    network.calibrate(images)
    train(network.set_mode(mode), images, labels, epochs=6, learning_rate=0.03, batch_size=25,
          device=device)
    assert accuracy_on_device(network, images, labels) > 0.9
    assert not torch.equal(network.order[0], network.order[1]) and network.skip.abs().max() > 0
    # The orders belong to the weights: another network takes them over.
    another = torch.Generator().manual_seed(9)
    other = waveform_chain(device, twin, 2, 2, another, **kind, mode="in_silico")
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(other(images), network.set_mode("in_silico")(images))
