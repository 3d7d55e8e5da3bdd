"""Model fitting, networks and the training loop on a small device."""

import numpy as np
import pytest
import torch

from pnn_utils.networks.spectral import SpectralNetwork, signal_like_controls
from pnn_utils.systems.shg.device import SHG
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twin import fit_twin, judge_twin, load_twin, noise_variance, random_controls, save_twin
from pnn_utils.twins.perceptron import Perceptron
from pnn_utils.weights import save_tensors


class OnlyTheCall:
    """A device of which nothing is visible but its call and its public description."""

    PUBLIC = {"input_dim", "param_dim", "output_dim", "input_range", "param_range", "passes", "events", "state_dict", "load_state_dict"}

    def __init__(self, device):
        object.__setattr__(self, "hidden", device)

    def __getattribute__(self, name):
        if name in OnlyTheCall.PUBLIC:
            return getattr(object.__getattribute__(self, "hidden"), name)  # an AttributeError where the device has none
        raise AssertionError(f"training or model fitting looked at {name!r}")

    def __setattr__(self, name, value):
        raise AssertionError(f"training or model fitting set {name!r}")

    def __call__(self, x, theta):
        assert type(x) is np.ndarray and type(theta) is np.ndarray
        return object.__getattribute__(self, "hidden")(x, theta)


def data(n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 4, generator=generator)
    return x, (x[:, 0] > x[:, 1]).long()


def network(device, twin, mode="pat", seed=0):
    return SpectralNetwork(device, twin, 4, 2, 2, torch.Generator().manual_seed(seed), mode=mode)


@pytest.fixture(scope="module")
def twin():
    device = SHG()
    x, theta = random_controls(device, 1500, np.random.default_rng(0))
    return fit_twin(device, x, theta, device(x, theta), hidden=(32,), epochs=5)[0]


def test_fitting_and_training_see_the_device_only_through_its_call():
    device, rng = OnlyTheCall(SHG()), np.random.default_rng(0)
    x, theta = signal_like_controls(device, 60, 3, rng)
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(16,), epochs=2)
    judge_twin(twin, device, *random_controls(device, 20, rng))
    for mode in ("pat", "in_silico"):
        net = network(device, twin, mode)
        net.calibrate(data()[0])
        train(net, *data(), epochs=2, learning_rate=0.01, device=device)
        accuracy_on_device(net, *data())


def test_twin_explains_held_out_readings_and_stays_below_the_noise_floor():
    device, rng = SHG(), np.random.default_rng(1)
    x, theta = random_controls(device, 6000, rng)
    twin, history = fit_twin(device, x, theta, device(x, theta), hidden=(128,), epochs=15)
    scores = judge_twin(twin, device, *random_controls(device, 500, rng))
    assert np.median(scores["r2"]) > 0.85
    assert (scores["r2"] <= scores["floor"] + 0.1).all()
    assert history[-1]["validation"] < history[0]["validation"]


def test_refitting_goes_on_from_the_weights_and_follows_a_device_that_has_moved():
    device, moved, rng = SHG(), SHG(pointing=4.0), np.random.default_rng(1)
    x, theta = random_controls(device, 3000, rng)
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(64,), epochs=10)
    fresh = random_controls(moved, 500, rng)
    before, mean = np.median(judge_twin(twin, moved, *fresh)["r2"]), twin.control_mean.clone()
    again, history = fit_twin(moved, x[:1500], theta[:1500], moved(x[:1500], theta[:1500]), twin=twin, refit=True, epochs=3)
    assert again is twin and torch.equal(twin.control_mean, mean) and not any(p.requires_grad for p in twin.parameters())
    assert 1 - np.median(judge_twin(twin, moved, *fresh)["r2"]) < 0.7 * (1 - before)
    with pytest.raises(ValueError, match="refit is True but twin is None"):
        fit_twin(device, x, theta, device(x, theta), refit=True)


def test_same_seed_same_twin():
    device = SHG()
    x, theta = random_controls(device, 200, np.random.default_rng(0))
    y = device(x, theta)
    twins = [fit_twin(device, x, theta, y, hidden=(8,), epochs=2)[0] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(t.state_dict().values() for t in twins), strict=True))


def test_twin_file_round_trip_and_refusals(tmp_path, twin):
    device, path = SHG(), tmp_path / "twin.safetensors"
    save_twin(path, twin, {"pairs": 1500})
    x = torch.rand(3, 50)
    assert torch.equal(load_twin(path, device)(x, x), twin(x, x))
    assert '"pairs": 1500' in (tmp_path / "twin.json").read_text()

    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="not a readable safetensors"):
        load_twin(path, device)
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="holds no twin"):
        load_twin(path, device)
    save_twin(path, Perceptron(2, 3, 4), {})
    with pytest.raises(ValueError, match=r"\[2, 3, 4\]; the device has \[50, 50, 50\]"):
        load_twin(path, device)
    with pytest.raises(FileNotFoundError):
        load_twin(tmp_path / "none", device)


def test_bad_pairs_are_refused():
    device = SHG()
    x, theta = random_controls(device, 10, np.random.default_rng(0))
    y = device(x, theta)
    with pytest.raises(ValueError, match=r"y has shape \(9, 50\)"):
        fit_twin(device, x, theta, y[:9])
    y[2, 3] = np.nan
    with pytest.raises(ValueError, match="y holds 1 values that are not finite"):
        fit_twin(device, x, theta, y)
    with pytest.raises(ValueError, match="repeats is 1"):
        noise_variance(device, x, theta, 1)


def test_calibrated_spectra_have_unit_variance(twin):
    device = SHG(ideal=True)
    net, (x, _) = network(device, twin, "device"), data()
    net.calibrate(x)
    last = (net.spectra(x)[-1] - net.bin_mean[-1]) / net.bin_sd[-1]
    assert torch.allclose(last.mean(0), torch.zeros(50), atol=1e-3)
    assert torch.allclose(last.std(0), torch.ones(50), atol=1e-2)


def test_wrong_number_of_features_is_named(twin):
    with pytest.raises(ValueError, match=r"\(3, 5\); expected \(rows, 4\)"):
        network(SHG(), twin)(torch.rand(3, 5))


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_training_lowers_the_loss_and_controls_stay_in_range(twin, mode):
    device = SHG()
    net = network(device, twin, mode)
    net.calibrate(data()[0])
    history = train(net, *data(), epochs=60, learning_rate=0.3, device=device)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert all(0 <= layer.theta.min() and layer.theta.max() <= 1 for layer in net.layers)


@pytest.mark.parametrize("batch_size, augment", [(None, None), (16, None), (16, lambda x, generator: x + 0.1 * torch.randn(x.shape, generator=generator))])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, twin, batch_size, augment):
    class PowerCut(Exception):
        pass

    def run(checkpoint, stop_at=None):
        device, calls = SHG(noise_seed=3), []

        def validate(net):
            calls.append(1)
            if len(calls) == stop_at:
                raise PowerCut
            return {"accuracy": accuracy(net, *data())}

        net = network(device, twin)
        history = train(net, *data(), epochs=8, learning_rate=0.05, batch_size=batch_size, device=device, validate=validate,
                        augment=augment, checkpoint=checkpoint, checkpoint_every=3, history_csv=tmp_path / "history.csv",
                        generator=torch.Generator().manual_seed(1))
        return net.state_dict(), history, device.passes

    whole = run(tmp_path / "a")
    csv = (tmp_path / "history.csv").read_text()
    with pytest.raises(PowerCut):
        run(tmp_path / "b", stop_at=5)
    resumed = run(tmp_path / "b")
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0])
    assert whole[1:] == resumed[1:]
    assert csv == (tmp_path / "history.csv").read_text()


def test_wrong_and_damaged_checkpoints_are_refused(tmp_path, twin):
    path = tmp_path / "run"
    train(network(SHG(), twin), *data(), epochs=2, learning_rate=0.05, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to a run with"):
        train(network(SHG(), twin), *data(), epochs=3, learning_rate=0.05, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(network(SHG(), twin), *data(), epochs=2, learning_rate=0.05, checkpoint=path)


def test_nan_stops_training_and_keeps_the_checkpoint(tmp_path, twin):
    path, epochs = tmp_path / "run", []

    def poison(net):
        epochs.append(path.read_bytes())
        if len(epochs) == 2:
            with torch.no_grad():
                net.factor.fill_(float("nan"))
        return {}

    with pytest.raises(FloatingPointError, match="loss became nan in epoch 2") as stopped:
        train(network(SHG(), twin), *data(), epochs=5, learning_rate=0.05, checkpoint=path, checkpoint_every=4, validate=poison)
    assert stopped.value.__notes__ == [f"Training stopped after 2 whole epochs of 5. The checkpoint {path} is kept: the same call goes on from it."]
    assert path.read_bytes() == epochs[-1] and [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"warmup": 1.0}])
def test_settings_out_of_range_are_named(twin, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        train(network(SHG(), twin), *data(), **({"epochs": 1, "learning_rate": 0.1} | wrong))


def test_the_last_epochs_have_an_augmentation_of_their_own(twin):
    x, y = data()
    seen = []

    def noted(name):
        def change(rows, generator):
            seen.append(name)
            return rows
        return change

    network_ = network(SHG(), twin, "in_silico")
    train(network_, x, y, epochs=5, learning_rate=0.01, batch_size=20, augment=noted("early"), late_augment=noted("late"), late_epochs=2)
    assert seen == ["early"] * 6 + ["late"] * 4
    train(network_, x, y, epochs=3, learning_rate=0.01, batch_size=20, augment=noted("again"), late_epochs=1)
    assert seen[10:] == ["again"] * 4
