"""Twins, and the training loop with its checkpoint, on a small device."""

import numpy as np
import pytest
import torch

from pnn_utils.files import load_tensors, save_tensors
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.shg.device import SHG
from pnn_utils.training import Devices, accuracy, accuracy_on_device, accuracy_on_model, train
from pnn_utils.twin import Perceptron, fit_twin, judge_twin, load_twin, random_controls, save_twin


class OnlyTheCall:
    """A device of which nothing is visible but its call and its public description."""

    PUBLIC = {"input_dim", "param_dim", "output_dim", "input_range", "param_range", "passes",
              "events", "state_dict", "load_state_dict"}

    def __init__(self, device):
        object.__setattr__(self, "hidden", device)

    def __getattribute__(self, name):
        if name in OnlyTheCall.PUBLIC:
            return getattr(object.__getattribute__(self, "hidden"), name)
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
    generator = torch.Generator().manual_seed(seed)
    return spectral_chain(device, twin, 4, 2, 2, generator, mode=mode)


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
    before, mean = np.median(judge_twin(twin, moved, *fresh)["r2"]), twin.controls.mean.clone()
    few = x[:1500], theta[:1500]
    again, _ = fit_twin(moved, *few, moved(*few), twin=twin, refit=True, epochs=3)
    assert again is twin and torch.equal(twin.controls.mean, mean)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert 1 - np.median(judge_twin(twin, moved, *fresh)["r2"]) < 0.7 * (1 - before)


def test_same_seed_same_twin():
    device = SHG()
    x, theta = random_controls(device, 200, np.random.default_rng(0))
    y = device(x, theta)
    twins = [fit_twin(device, x, theta, y, hidden=(8,), epochs=2)[0] for _ in range(2)]
    first, second = (twin.state_dict() for twin in twins)
    assert all(torch.equal(first[name], second[name]) for name in first)


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
    with pytest.raises(ValueError, match="'output_dim': 4.*; expected .*'output_dim': 50"):
        load_twin(path, device)
    with pytest.raises(FileNotFoundError):
        load_twin(tmp_path / "none", device)


def test_a_reading_that_is_not_finite_stops_the_fit():
    device = SHG()
    x, theta = random_controls(device, 50, np.random.default_rng(0))
    y = device(x, theta)
    y[2, 3] = np.nan
    with pytest.raises(FloatingPointError, match="are all controls and readings finite"):
        fit_twin(device, x, theta, y, epochs=2)


def test_calibrated_readings_have_unit_variance(twin):
    net, (x, _) = network(SHG(ideal=True), twin, "device"), data()
    net.calibrate(x)
    first = net.standardise[1](net.states(x)[0])
    assert torch.allclose(first.mean(0), torch.zeros(50), atol=1e-3)
    assert torch.allclose(first.std(0), torch.ones(50), atol=1e-2)
    assert torch.allclose(net(x).std(0), torch.ones(2), atol=1e-2)


def test_accuracy_by_hand_in_portions_and_with_the_mode_kept(twin):
    net, (x, y) = network(SHG(ideal=True), twin), data(2500)
    net.calibrate(x[:40])
    for mode, measure in (("device", accuracy_on_device), ("in_silico", accuracy_on_model)):
        with torch.no_grad():
            right = (net.set_mode(mode)(x).argmax(1) == y).double().mean().item()
        assert accuracy(net, x, y) == right == measure(net.set_mode("pat"), x, y)
        assert [layer.mode for layer in net.layers] == len(net.layers) * ["pat"]


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_training_lowers_the_loss_and_controls_stay_in_range(twin, mode):
    device = SHG()
    net = network(device, twin, mode)
    net.calibrate(data()[0])
    history = train(net, *data(), epochs=60, learning_rate=0.3, device=device)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert all(0 <= layer.theta.min() and layer.theta.max() <= 1 for layer in net.layers)


def shaken(rows, generator):
    return rows + 0.1 * torch.randn(rows.shape, generator=generator)


@pytest.mark.parametrize("batch_size, augment, average_epochs",
                         [(None, None, 0), (16, None, 0), (16, shaken, 0), (16, shaken, 5)])
@pytest.mark.parametrize("same_objects", [False, True])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, twin, batch_size, augment,
                                                  average_epochs, same_objects):
    """A new process builds everything anew; a notebook's cell that is run again may not."""
    def build():
        device = SHG(noise_seed=3)
        return device, network(device, twin), torch.Generator().manual_seed(1)

    def run(checkpoint, built, stop_at=None):
        device, net, generator = built
        calls = []

        def validate(net):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return {"accuracy": accuracy(net, *data())}

        history = train(net, *data(), epochs=8, learning_rate=0.05, batch_size=batch_size,
                        device=Devices([device]), validate=validate, augment=augment,
                        average_epochs=average_epochs, checkpoint=checkpoint, generator=generator)
        return net.state_dict(), history, device.passes

    whole, built = run(tmp_path / "a", build()), build()
    for stop_at in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", built, stop_at)
    resumed = run(tmp_path / "b", built if same_objects else build())
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0])
    assert whole[1:] == resumed[1:]
    assert run(tmp_path / "b", build())[1] == whole[1]  # a finished run is read, not repeated


@pytest.mark.parametrize("other", ["epochs", "batch_size", "mode", "data", "labels", "seed",
                                   "start"])
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, twin, other):
    path = tmp_path / "run"

    def run(epochs=2, batch_size=20, mode="pat", seed=5, start=0, x=0, y=0):
        device = SHG()
        net, (rows, labels) = network(device, twin, mode, start), data()
        rows[3, 2] += x
        labels[3] ^= y
        net.calibrate(rows[:20])
        return train(net, rows, labels, epochs=epochs, learning_rate=0.05, batch_size=batch_size,
                     generator=torch.Generator().manual_seed(seed), checkpoint=path)

    run()
    kept = path.read_bytes()
    change = {"epochs": {"epochs": 3}, "batch_size": {"batch_size": 10},
              "mode": {"mode": "in_silico"}, "data": {"x": 1e-6}, "labels": {"y": 1},
              "seed": {"seed": 6}, "start": {"start": 1}}[other]
    with pytest.raises(ValueError, match=f"belongs to a run with other {other}"):
        run(**change)
    assert path.read_bytes() == kept and len(run()) == 2


def test_constants_measured_anew_do_not_make_another_run(tmp_path, twin):
    """A real device never repeats its readings, so that a network built again has other ones."""
    trained = []
    for noise_seed in range(2):
        net = network(SHG(noise_seed=noise_seed), twin)
        net.calibrate(data()[0])
        train(net, *data(), epochs=2, learning_rate=0.05, checkpoint=tmp_path / "run")
        trained.append(net.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, twin):
    path = tmp_path / "run"
    train(network(SHG(), twin), *data(), epochs=2, learning_rate=0.05, checkpoint=str(path))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(network(SHG(), twin), *data(), epochs=2, learning_rate=0.05, checkpoint=path)
    save_twin(path, twin, {})
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(network(SHG(), twin), *data(), epochs=2, learning_rate=0.05, checkpoint=path)


def test_what_validate_returns_becomes_plain_numbers(tmp_path, twin):
    found = {"tensor": torch.tensor(0.5), "array": np.float32(0.25), "whole": np.int64(3),
             "plain": 1, "third": 1 / 3, "loss": torch.tensor(0.75),
             "half": torch.tensor([1.5], dtype=torch.bfloat16), "count": torch.tensor(7)}
    history = train(network(SHG(), twin, "in_silico"), *data(), epochs=1, learning_rate=0.05,
                    validate=lambda net: found, checkpoint=tmp_path / "run")
    told = {name: history[0][name] for name in found}
    assert told == {"tensor": 0.5, "array": 0.25, "whole": 3, "plain": 1, "third": 1 / 3,
                    "loss": 0.75, "half": 1.5, "count": 7}
    assert all(type(value) in (int, float) for value in told.values())


@pytest.mark.parametrize("odd", [[1, 2], torch.ones(2), np.ones((2, 1)), 1j, "good", None, {}])
def test_what_is_not_a_number_is_refused_in_the_first_epoch(tmp_path, twin, odd):
    epochs = []
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        train(network(SHG(), twin, "in_silico"), *data(), epochs=9, learning_rate=0.05,
              validate=lambda net: epochs.append(1) or {"odd": odd}, checkpoint=tmp_path / "run")
    assert len(epochs) == 1


def test_a_score_that_is_nan_is_kept_and_ends_no_training(tmp_path, twin):
    def run():
        return train(network(SHG(), twin, "in_silico"), *data(), epochs=4, learning_rate=0.05,
                     validate=lambda net: {"score": torch.tensor(float("nan"))},
                     checkpoint=tmp_path / "run")

    first, read = run(), run()
    for history in (first, read):
        assert len(history) == 4 and all(np.isnan(row["score"]) for row in history)


def test_nan_stops_training_and_the_last_whole_epoch_is_kept(tmp_path, twin):
    path, epochs = tmp_path / "run", []

    def poison(net):
        epochs.append(1)
        if len(epochs) == 2:
            with torch.no_grad():
                net.readout.factor.fill_(float("nan"))
        return {}

    with pytest.raises(FloatingPointError, match="loss became nan in epoch 2") as stopped:
        train(network(SHG(), twin), *data(), epochs=5, learning_rate=0.05, checkpoint=path,
              validate=poison)
    assert stopped.value.__notes__ == [
        f"Training stopped after 2 whole epochs of 5; the same call goes on from {path}."]
    assert len(load_tensors(path)[1]["history"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_the_note_after_a_second_stop_counts_from_the_first(tmp_path, twin):
    def run(stop_at):
        def validate(net):
            if len(stops) == stop_at:
                raise KeyboardInterrupt
            stops.append(1)
            return {}

        stops = []
        train(network(SHG(), twin), *data(), epochs=9, learning_rate=0.05, validate=validate,
              checkpoint=tmp_path / "run")

    for stop_at, whole in ((5, 5), (1, 6), (0, 6), (2, 8)):
        with pytest.raises(KeyboardInterrupt) as stopped:
            run(stop_at)
        assert f"after {whole} whole epochs of 9" in stopped.value.__notes__[0]


def test_the_last_epochs_have_an_augmentation_of_their_own(twin):
    x, y = data()
    seen = []

    def noted(name):
        def change(rows, generator):
            seen.append(name)
            return rows
        return change

    network_ = network(SHG(), twin, "in_silico")
    settings = dict(learning_rate=0.01, batch_size=20, augment=noted("early"))
    train(network_, x, y, epochs=5, late_augment=noted("late"), late_epochs=2, **settings)
    assert seen == ["early"] * 6 + ["late"] * 4
    settings["augment"] = noted("again")
    train(network_, x, y, epochs=3, late_epochs=1, **settings)
    assert seen[10:] == ["again"] * 4


def test_averaged_weights_are_the_mean_over_the_steps_of_the_last_epochs(twin):
    """One step an epoch, so that validate sees the weights after each but the last."""
    def run(average_epochs, seen):
        net = network(SHG(), twin, "in_silico")
        train(net, *data(), epochs=6, learning_rate=0.05, average_epochs=average_epochs,
              validate=lambda net: seen.append(net.scale.detach().clone()) or {})
        return net.scale.detach()

    plain, seen = [], []
    last = run(0, plain)
    averaged = run(3, seen)
    torch.testing.assert_close(averaged, torch.stack([*plain[3:5], last]).mean(0))
    assert not torch.allclose(averaged, last, atol=1e-4)
    assert torch.equal(seen[-1], averaged), "the last row of the history is of what is returned"


# --- Networks as users of torch build them ---


class Tilted:
    """A device of any width, with noise and a pass counter that a checkpoint keeps."""

    def __init__(self):
        self.passes, self.rng = 0, np.random.default_rng(0)

    def __call__(self, x, theta):
        self.passes += len(x)
        return np.sin(x + theta) + 0.01 * self.rng.standard_normal(x.shape)

    def state_dict(self):
        return {"passes": self.passes, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.passes, self.rng.bit_generator.state = state["passes"], state["rng"]


def tilted_model(x, theta):
    return torch.sin(x + 1.1 * theta)


class Restless(torch.nn.Module):
    """A model that is another one in train mode: dropout, and statistics of the last batches."""

    def __init__(self):
        super().__init__()
        self.changing = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))

    def forward(self, x, theta):
        return self.changing(tilted_model(x, theta))


def shared_controls(device):
    theta = torch.nn.Parameter(torch.zeros(4))
    layers = [PhysicalLayer(device, tilted_model, theta) for _ in range(2)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 2))


def with_dropout(device):
    return torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5),
        PhysicalLayer(device, tilted_model, torch.zeros(4)), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("build", [shared_controls, with_dropout])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_of_any_modules_resumes_exactly(tmp_path, build, dtype):
    """Controls that layers share have two names; dropout draws from torch's own generator."""
    x, y = data()

    def run(path, stop_at=None):
        torch.manual_seed(0)
        device, calls = Tilted(), []
        net = build(device)

        def validate(net):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return {"accuracy": accuracy_on_device(net, x.to(dtype), y)}

        history = train(net, x.to(dtype), y, epochs=6, learning_rate=0.1, batch_size=16,
                        device=device, validate=validate, checkpoint=path)
        return net.state_dict(), history, device.passes

    torch.set_default_dtype(dtype)
    try:
        whole = run(tmp_path / "a")
        for stop_at in (2, 3):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "b", stop_at)
        torch.rand(3)
        resumed = run(tmp_path / "b")
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(value, resumed[0][name]) for name, value in whole[0].items())
    assert whole[1:] == resumed[1:]
    assert all(value.dtype in (dtype, torch.int64) for value in whole[0].values())


def test_judging_uses_eval_mode_and_leaves_modes_and_statistics_as_they_were():
    x, y = data()
    device, model = Tilted(), Restless()
    first, second = (PhysicalLayer(device, model, torch.zeros(4)) for _ in range(2))
    second.mode = "in_silico"
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(4), first, torch.nn.Dropout(0.5), second,
                              torch.nn.Linear(4, 2))
    net[0].eval()  # statistics frozen, as when fine-tuning
    model.changing[1].eval()

    def state():
        parts = [*net.modules(), *model.modules()]
        values = {**net.state_dict(prefix="network."), **model.state_dict()}
        return ([part.training for part in parts], [first.mode, second.mode],
                {name: value.tolist() for name, value in values.items()})

    before, random = state(), torch.get_rng_state()
    judges = (accuracy, accuracy_on_device, accuracy_on_model)
    found = [[judge(net, x, y) for judge in judges] for _ in range(2)]
    assert found[0][2] == found[1][2]  # the model has no noise
    assert state() == before and torch.equal(torch.get_rng_state(), random)
    passes = device.passes
    accuracy_on_device(net, x, y)
    assert device.passes == passes + 2 * len(x)  # both layers, whatever their mode
    accuracy_on_model(net, x, y)
    assert device.passes == passes + 2 * len(x)


def test_a_judge_that_is_stopped_leaves_modes_as_they_were():
    def broken(x, theta):
        raise OSError("no lamp")

    net = torch.nn.Sequential(PhysicalLayer(broken, Restless(), torch.zeros(4)))
    net[0].mode = "in_silico"
    with pytest.raises(OSError):
        accuracy_on_device(net, *data())
    assert net.training and net[0].mode == "in_silico" and net[0].parts[1].changing.training


def test_a_network_is_trained_under_autocast():
    net, (x, y) = with_dropout(Tilted()), data()

    class Autocast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.net(x)

    history = train(Autocast(), x, y, epochs=30, learning_rate=0.05)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
