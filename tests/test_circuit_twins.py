"""Models of the circuit: the compiled forward and backward passes, the fit, causality, files."""

import numpy as np
import pytest
import torch

from pnn_utils.networks.waveform import WaveformNetwork, waveform_like_controls
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.training import accuracy_on_device, train
from pnn_utils.twins.causal import CausalNetwork
from pnn_utils.twin import fit_twin, judge_twin, load_twin, random_controls, save_twin
from pnn_utils.systems.circuit.model import NAMES, Ringing, fit_ringing

GUESS = dict(zip(NAMES, (3.3, 0.033, 0.001, 3.3, 2.1, 0.3, 3.3, 0.7, 0.1, 1.0, 0.0, 1.0, 0.0), strict=True))


def plain(x, constants, substeps):
    """The model's equations in torch, one operation after another: the reference of value and gradient."""
    inductance, resistance, leak, g1, v1, s1, g2, v2, s2, gain_in, offset_in, gain_out, offset_out = constants
    generator = torch.tensor([[-resistance / inductance, -1 / inductance, 1 / inductance], [1.0, -leak, 0.0], [0.0, 0.0, 0.0]], dtype=x.dtype)
    step = torch.linalg.matrix_exp(generator / substeps)
    i = v = torch.zeros(len(x), dtype=x.dtype)
    read = []
    for u in (gain_in * x + offset_in).T:
        for _ in range(substeps):
            i, v = step[0, 0] * i + step[0, 1] * v + step[0, 2] * u, step[1, 0] * i + step[1, 1] * v + step[1, 2] * u
            z, y = v - v1, -v - v2
            p, q = torch.sqrt(z**2 + s1**2), torch.sqrt(y**2 + s2**2)
            pull, slope = (g1 * (z + p) - g2 * (y + q)) / 2, (g1 * (1 + z / p) + g2 * (1 + y / q)) / 2
            v = v - pull / substeps / (1 + slope / substeps / 2)
        read.append(gain_out * v + offset_out)
    return torch.stack(read, 1)


def guessed(samples, substeps, dtype=torch.float64):
    twin = Ringing(samples, 0, samples, substeps)
    twin.constants.copy_(torch.tensor([GUESS[name] for name in NAMES], dtype=dtype) * 1.01)
    return twin


@pytest.mark.parametrize("rows, substeps", [(1, 1), (5, 4), (16, 3), (37, 2)])
def test_compiled_passes_equal_the_plain_equations(rows, substeps):
    twin = guessed(30, substeps)
    x = 3 * torch.randn(rows, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (lambda x: twin(x, None), lambda x: plain(x, twin.constants.tolist(), substeps)):
        control = x.clone().requires_grad_()
        y = function(control)
        (gradient,) = torch.autograd.grad(y, control, torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape))
        results.append((y.detach(), gradient))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 1e-11 * expected.abs().max()


def test_gradcheck_and_single_precision():
    twin = guessed(12, 2)
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: twin(x, None), x)
    single = twin(x.detach().float(), None)
    assert single.dtype == torch.float32 and (single - twin(x.detach(), None)).abs().max() < 1e-5


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
    fresh = waveform_like_controls(device, np.random.default_rng(2).random((100, 196)), 3, np.random.default_rng(3))
    for controls in (random_controls(device, 300, np.random.default_rng(1)), fresh):
        judged = judge_twin(twin, device, *controls)
        assert np.median(1 - judged["r2"]) < 2e-3
    save_twin(tmp_path / "twin.safetensors", twin, {})
    again = load_twin(tmp_path / "twin.safetensors", device, Ringing)
    assert torch.equal(again(torch.tensor(x), None), twin(torch.tensor(x), None))


def test_bad_guess_and_pairs_are_refused(pairs):
    device, x, theta, y = pairs
    with pytest.raises(ValueError, match="start has the names"):
        fit_ringing(device, x, theta, y, {"inductance": 1.0})
    with pytest.raises(ValueError, match=r"x has shape \(400, 195\)"):
        fit_ringing(device, x[:, :-1], theta, y, GUESS)
    with pytest.raises(ValueError, match="at least 1 substep"):
        Ringing(4, 0, 4, 0)
    with pytest.raises(ValueError, match="as many samples out as in"):
        CausalNetwork(4, 0, 5)


def test_causal_network_is_causal_and_learns(pairs):
    device, x, theta, y = pairs
    network = CausalNetwork(196, 0, 196, generator=torch.Generator().manual_seed(0))
    twin, history = fit_twin(device, x, theta, y, twin=network, epochs=8, batch_size=32, learning_rate=5e-3)
    assert history[-1]["validation"] < 0.7 * history[0]["validation"]
    control = torch.tensor(x[:2], requires_grad=True)
    (gradient,) = torch.autograd.grad(twin(control, None)[:, 100].sum(), control)
    assert gradient[:, 101:].abs().max() == 0 and gradient[:, 60:101].abs().max() > 0


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_network_with_skip_and_random_order_learns_on_the_device(pairs, mode):
    device, x, theta, y = pairs
    twin = fit_ringing(device, x, theta, y, GUESS, rows=100)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(200, 196, generator=generator), torch.arange(200) % 2
    images[labels == 1, 80:120] += 0.6
    network = WaveformNetwork(device, twin, 2, 2, generator, shuffle=True, skip=True, mode="device")
    network.calibrate(images)
    train(network.set_mode(mode), images, labels, epochs=6, learning_rate=0.03, batch_size=25, device=device)
    assert accuracy_on_device(network, images, labels) > 0.9
    assert not torch.equal(network.order[0], network.order[1]) and network.skip.abs().max() > 0
    # The orders belong to the weights: another network takes them over.
    other = WaveformNetwork(device, twin, 2, 2, torch.Generator().manual_seed(9), shuffle=True, skip=True, mode="in_silico")
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(other(images), network.set_mode("in_silico")(images))
