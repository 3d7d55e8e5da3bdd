"""Ways to train: what each uses of device and model, and what it spends."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pnn_utils import methods
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import accuracy_on_device
from pnn_utils.twin import fit_twin

ROWS, LAYERS, EPOCHS = 30, 2, 6
METHODS = {
    "pat": methods.pat, "in_silico": methods.in_silico, "refitted": methods.refitted,
    "noise_aware": partial(methods.noise_aware,
                           draw=lambda device, rng: signal_like_controls(device, 10, 2, rng)),
    "exact": partial(methods.exact, true=ExactSHG),
    "output_only": partial(methods.mixed, loss="device", states="model"),
    "loss_of_model": partial(methods.mixed, loss="model", states="device")}
# Calibration is one pass a layer and row, a step of PAT too; noise: 10 + 4 x 20 readings; a re-fit
# reads the network once, and as much as PAT would in all epochs.
CALIBRATION = ROWS * LAYERS
PASSES = {"pat": (1 + EPOCHS) * CALIBRATION, "exact": (1 + EPOCHS) * CALIBRATION,
          "in_silico": CALIBRATION, "noise_aware": CALIBRATION + 10 + 80,
          "output_only": (1 + EPOCHS) * CALIBRATION, "loss_of_model": (1 + EPOCHS) * CALIBRATION,
          "refitted": CALIBRATION + CALIBRATION + EPOCHS * CALIBRATION}


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, 4, generator=generator)
    return x, (x[:, 0] > x[:, 1]).long()


@pytest.fixture(scope="module")
def twin():
    device = SHG()
    x, theta = signal_like_controls(device, 300, 3, np.random.default_rng(0))
    return fit_twin(device, x, theta, device(x, theta), hidden=(32,), epochs=5)[0]


def trained(method, twin, device, seed=0, **schedule):
    """Return what a method does: network and history."""
    def start(model):
        generator = torch.Generator().manual_seed(5)
        network = spectral_chain(device, model, 4, 2, LAYERS, generator)
        network.set_mode("device").calibrate(data()[0])
        return network

    schedule = {"epochs": EPOCHS, "learning_rate": 0.1} | schedule
    return METHODS[method](start, twin, device, *data(), seed=seed, **schedule)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_spends_its_passes_leaves_the_twin_alone_and_repeats_itself(method, twin):
    weights = {name: value.clone() for name, value in twin.state_dict().items()}
    device, again = SHG(), SHG()
    network, history = trained(method, twin, device)
    assert device.passes == PASSES[method]
    assert [row["epoch"] for row in history] == list(range(EPOCHS))
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(torch.equal(value, weights[name]) for name, value in twin.state_dict().items())
    repeated, _ = trained(method, twin, again)
    assert all(torch.equal(a, b) for a, b in
               zip(network.parameters(), repeated.parameters(), strict=True))
    assert 0 <= accuracy_on_device(network, *data()) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_stopped_goes_on_as_if_it_had_not_been(method, twin, tmp_path):
    """A re-fitted model too: stopped in either half, the same call ends at the same numbers."""
    def run(checkpoint=None, stop_at=None):
        device, calls = SHG(noise_seed=3), []

        def validate(network):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return {"accuracy": accuracy_on_device(network, *data())}

        network, history = trained(method, twin, device, validate=validate, checkpoint=checkpoint)
        return network.state_dict(), history, device.passes

    whole = run()
    for stop_at in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", stop_at)
    for resumed in (run(tmp_path / "run"), run(tmp_path / "run")):  # the second one only reads
        assert all(torch.equal(value, resumed[0][name]) for name, value in whole[0].items())
        assert json.dumps(whole[1:]) == json.dumps(resumed[1:])


def test_all_methods_start_from_the_same_numbers(twin):
    starts = {}
    for method in ("pat", "in_silico", "exact"):
        network, _ = trained(method, twin, SHG(ideal=True), learning_rate=1e-30, epochs=1)
        starts[method] = [parameter.detach() for parameter in network.parameters()]
    for other in ("in_silico", "exact"):
        assert all(map(torch.allclose, starts["pat"], starts[other]))


def test_with_a_perfect_model_and_no_noise_pat_in_silico_and_exact_are_one():
    """In silico training fails by what the model gets wrong, and here that is nothing."""
    device = SHG(ideal=True)
    found = {method: trained(method, ExactSHG(device), device)[1][-1]["loss"]
             for method in ("pat", "in_silico", "exact")}
    assert found["pat"] == found["exact"]
    assert found["in_silico"] == pytest.approx(found["pat"], rel=1e-3)


def test_batches_and_noise_follow_the_seed(twin):
    for method in ("in_silico", "noise_aware"):
        losses = [trained(method, twin, SHG(), seed, batch_size=10)[1][-1]["loss"]
                  for seed in (1, 1, 2)]
        assert losses[0] == losses[1] != losses[2]


def test_noise_is_as_strong_as_measured(twin):
    rng = np.random.default_rng(1)
    device = Instrument(lambda x, theta: 0.02 * rng.standard_normal((len(x), 50)), 50, 50, 50)
    flat = partial(torch.zeros, 50)
    kept = []

    def start(model):
        kept.append(model)
        return spectral_chain(device, model, 4, 2, 1, torch.Generator().manual_seed(0))

    def draw(device, rng):
        return rng.uniform(size=(2, 500, 50)).astype(np.float32)

    methods.noise_aware(start, lambda x, theta: 0 * x + flat(), device, *data(), draw=draw, seed=0,
                        epochs=1, learning_rate=1e-9)
    noise = kept[0](torch.zeros(2000, 50), torch.zeros(2000, 50)).std(0)
    assert torch.allclose(noise, torch.full((50,), 0.02), rtol=0.1)


def test_a_refitted_model_is_better_where_the_network_is(twin):
    device = SHG(pointing=3.0)  # has moved since its model was fitted
    network, _ = trained("refitted", twin, device, epochs=150)
    x, theta = methods.controls_around(network, device, data()[0], 3, np.random.default_rng(2))
    assert x.dtype == theta.dtype == np.float32 and len(x) == 3 * ROWS * LAYERS == len(theta)
    inputs, y = (torch.tensor(x), torch.tensor(theta)), torch.tensor(device(x, theta))
    _, refitted = network.layers[0].parts
    error = [float((model(*inputs) - y).square().mean()) for model in (refitted, twin)]
    assert error[0] < 0.7 * error[1]


def test_restandardised_readings_have_the_mean_and_spread_of_the_device(twin):
    device = SHG(pointing=3.0)
    network, _ = trained("in_silico", twin, device)
    before = device.passes
    methods.restandardise(network, data()[0])
    assert device.passes - before == CALIBRATION
    first = network.standardise[1](network.states(data()[0])[0])
    assert first.mean().abs() < 0.1 and abs(first.std() - 1) < 0.1


@pytest.mark.parametrize("gain, offset", [(3.0, 2.0), (0.2, -1.0)])
def test_matched_constants_undo_what_became_of_the_devices_gain_and_offset(twin, gain, offset):
    network, _ = trained("in_silico", twin, SHG())
    x, bent = data()[0], SimpleNamespace(passes=0)

    def device(controls, theta):
        bent.passes += len(controls)
        return gain * twin(torch.tensor(controls), torch.tensor(theta)).detach().numpy() + offset

    known = methods.moments(network, x, "in_silico")
    expected = network.set_mode("in_silico")(x)
    for layer in network.layers:
        layer.parts = (device, twin)
    assert not torch.allclose(network.set_mode("device")(x), expected, atol=0.1)
    bent.passes = 0
    matched = methods.match(network, known, x).set_mode("device")
    assert bent.passes == CALIBRATION
    torch.testing.assert_close(matched(x), expected, rtol=1e-2, atol=1e-2)
    again = methods.match(network, methods.moments(network, x, "device"), x)(x)
    torch.testing.assert_close(again, expected, rtol=1e-2, atol=1e-2)  # nothing to mend


def around(low, high, share, rows=40, copies=50):
    """What `controls_around` makes of controls at a share of a range, low to high."""
    low, high = np.broadcast_arrays(np.float32(low), np.float32(high))
    there = torch.tensor(np.clip(low + (high - low) * np.float32(share), low, high))
    network = SimpleNamespace(set_mode=lambda mode: network, states=lambda x: [None],
                              layers=[SimpleNamespace(theta=there)],
                              controls=lambda n, reading, x: there.expand(rows, -1))
    device = SimpleNamespace(input_range=(low, high), param_range=(low, high))
    return methods.controls_around(network, device, torch.zeros(rows, 1), copies,
                                   np.random.default_rng(0))


@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e-30, 1e12])
def test_controls_are_moved_by_the_same_share_of_their_range_in_every_unit(unit):
    low, high = np.array([0.0, -2.0]), np.array([1.0, 3.0])
    pairs = zip(around(unit * low, unit * high, 0.3), around(low, high, 0.3), strict=True)
    for values, plain in pairs:
        assert np.allclose(values / np.float32(unit), plain, rtol=1e-3)
        assert (plain.std(0) > 0.03).all()


@pytest.mark.parametrize("low, high", [
    (0.0, 1.0), (0.1, 0.7), (300.0, 300.0002), (-0.3, -0.1), (1e6, 1e6 + 0.25), (0.9, 0.9000001),
    ([0.1, 0.5, -2.0], [0.7, 0.5, 3.0]), ([0.25] * 3, [0.25] * 3)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_moved_controls_stay_in_range_to_the_last_bit_and_fixed_ones_stay(low, high, share):
    low, high = np.atleast_1d(np.float32(low)), np.atleast_1d(np.float32(high))
    for values in around(low, high, share):
        assert np.isfinite(values).all()
        assert (low <= values).all() and (values <= high).all()
        assert (values[:, low == high] == low[low == high]).all()


def test_controls_are_moved_where_a_device_has_no_parameters():
    there = SimpleNamespace(theta=torch.zeros(0))
    network = SimpleNamespace(set_mode=lambda mode: network, states=lambda x: [None],
                              layers=[there], controls=lambda n, reading, x: x)
    device = SimpleNamespace(input_range=(0.0, 1.0), param_range=(0.0, 1.0))
    x, theta = methods.controls_around(network, device, torch.full((5, 3), 0.5), 4,
                                       np.random.default_rng(0))
    assert x.shape == (20, 3) and theta.shape == (20, 0)


@pytest.mark.parametrize(("side", "method"), [("device", "pat"), ("model", "in_silico")])
def test_mixed_with_both_on_one_side_is_that_sides_method(side, method, twin):
    """Physics-aware training taken apart and put together again is physics-aware training."""
    METHODS["both"] = partial(methods.mixed, loss=side, states=side)
    try:
        (one, _), (other, _) = (trained(name, twin, SHG(ideal=True)) for name in ("both", method))
    finally:
        del METHODS["both"]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_noise_of_noise_aware_training_is_as_correlated_as_the_devices(twin):
    """Pulse energy moves all bins of a reading together; so it must in training."""
    device = SHG(pulse_energy_noise=0.05, shot_noise=0, read_noise=0)
    seen = []

    def start(model):
        def noisy(x, theta):
            seen.append((model(x, theta) - twin(x, theta)).detach())
            return model(x, theta)

        return spectral_chain(device, noisy, 4, 2, 1, torch.Generator().manual_seed(5))

    methods.noise_aware(start, twin, device, *data(), seed=0, epochs=20, learning_rate=0.01,
                        draw=lambda device, rng: signal_like_controls(device, 20, 2, rng))
    noise = torch.cat(seen)[:, 15:35]  # the bright bins
    common = torch.corrcoef(noise.T)
    assert common.mean() > 0.9
