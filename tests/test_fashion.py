"""The long training: weights that are kept, and what happens when it is stopped."""

import json

import pytest
import torch

from pnn_utils import fashion, paths
from pnn_utils.files import write_json
from pnn_utils.weights import load_tensors


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The same network with few oscillators, a made-up image set, and every file in a folder of the test's own."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(120, 784, generator=generator)
    monkeypatch.setattr(fashion, "load", lambda train, n=None: (x[:n], x[:n, :10].argmax(1)))
    monkeypatch.setattr(fashion, "SIZES", ((49, 2), (42, 10)))
    monkeypatch.setattr(fashion, "N_VALID", 20)
    monkeypatch.setattr(fashion, "LEARNING_RATES", (0.01, 0.02))
    monkeypatch.setattr(fashion, "BATCH_SIZE", 32)  # four batches an epoch
    monkeypatch.setattr(fashion, "RATES_FILE", tmp_path / "weights" / "rates.json")
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(paths, "SWEEPS", tmp_path / "sweeps")
    return tmp_path


def test_weights_come_back_rounded_to_float16(small):
    network, _ = fashion.build(0, "pat")
    path = small / "a.safetensors"
    fashion.save_weights(network, path, {"epochs": 3})
    other, _ = fashion.build(1, "pat")
    assert fashion.load_weights(other, path) == {"epochs": 3}
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value.half().float())


def test_missing_damaged_and_foreign_weights_are_refused(small, monkeypatch):
    network, _ = fashion.build(0, "pat")
    path = small / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="make reproduce-long"):
        fashion.load_weights(network, path)
    fashion.save_weights(network, path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        fashion.load_weights(network, path)
    path.write_bytes(whole)
    monkeypatch.setattr(fashion, "SIZES", ((49, 2), (43, 10)))
    with pytest.raises(ValueError, match="does not hold the weights"):
        fashion.load_weights(fashion.build(0, "pat")[0], path)


@pytest.mark.parametrize("mode", fashion.MODES)
def test_a_stopped_training_goes_on_as_if_nothing_had_happened(small, mode, monkeypatch):
    whole, history = fashion.train_network(0, mode, 4, 0.01)
    assert len(history) == 4 and {"device", "model", "passes"} <= set(history[-1])

    real, calls = fashion.augment, []

    def augment_until_the_power_fails(images, generator):
        calls.append(1)
        if len(calls) == 11:  # in the third epoch
            raise KeyboardInterrupt
        return real(images, generator)

    monkeypatch.setattr(fashion, "augment", augment_until_the_power_fails)
    with pytest.raises(KeyboardInterrupt):
        fashion.train_network(0, mode, 4, 0.01, checkpoint=small / "c")
    monkeypatch.setattr(fashion, "augment", real)
    resumed, again = fashion.train_network(0, mode, 4, 0.01, checkpoint=small / "c")
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_command_chooses_rates_trains_what_is_missing_and_keeps_what_is_there(small, capsys):
    arguments = ["--epochs", "2", "--seeds", "2", "--jobs", "1"]
    assert fashion.main(arguments) == 0 and "4 of 4 networks are there" in capsys.readouterr().out
    found = json.loads(fashion.RATES_FILE.read_text())
    for mode in fashion.MODES:
        scores = {one["learning_rate"]: one["validation"] for one in found["tried"][mode]}
        assert list(scores) == [0.01, 0.02] and scores[found["best"][mode]] == max(scores.values())
        for seed in range(2):
            about = fashion.load_weights(fashion.build(seed, mode)[0], fashion.weights_path(mode, seed))
            assert about["learning_rate"] == found["best"][mode] and about["seed"] == seed and len(about["history"]) == 2
            assert not about["hold_out"] and load_tensors(fashion.candidate_path(mode, 0.01))[1]["hold_out"]
    written = {path.name: path.read_bytes() for path in paths.WEIGHTS.iterdir()}
    fashion.weights_path("pat", 1).unlink()
    assert fashion.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in paths.WEIGHTS.iterdir()} == written  # the same seed, the same bytes
    assert not list(paths.SWEEPS.glob("*.checkpoint"))


@pytest.mark.parametrize("hold_out", [True, False])
def test_images_that_check_are_the_same_and_held_out_only_when_asked(small, hold_out):
    rows, checking = fashion.training_and_checking(3, 100, hold_out)
    assert len(rows[0]) == 100 - 20 * hold_out and len(checking[0]) == 20
    assert torch.equal(checking[0], fashion.training_and_checking(3, 100)[1][0])
    seen = (checking[0][:, None] == rows[0][None]).all(2).any(1)
    assert seen.all() if not hold_out else not seen.any()


def test_a_training_that_breaks_down_is_not_chosen_and_not_hidden(small, capsys, monkeypatch):
    real = fashion.train

    def break_down(*arguments, learning_rate, **settings):
        if learning_rate > 0.05:
            raise FloatingPointError("the loss became nan")
        return real(*arguments, learning_rate=learning_rate, **settings)

    monkeypatch.setattr(fashion, "train", break_down)
    monkeypatch.setattr(fashion, "LEARNING_RATES", (0.01, 0.1))
    assert fashion.main(["--epochs", "1", "--seeds", "1", "--jobs", "1"]) == 0
    assert "learning rate 0.1, held-out images: broke down, the loss became nan" in capsys.readouterr().out
    broken = json.loads(fashion.RATES_FILE.read_text())["tried"]["pat"][1]
    assert broken == {"learning_rate": 0.1, "validation": 0, "history": []}
    write_json(fashion.RATES_FILE, {"best": {"pat": 0.1, "in_silico": 0.01}})
    assert fashion.main(["--epochs", "1", "--seeds", "2", "--jobs", "1"]) == 1
    assert "missing: fashion_pat_1.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("mode", fashion.MODES)
@pytest.mark.parametrize("seed", range(3))
def test_committed_weights_are_small_and_come_from_the_long_training(mode, seed):
    path = fashion.weights_path(mode, seed)
    assert path.stat().st_size < 3e6
    about = fashion.load_weights(fashion.build(seed, mode)[0], path)
    found = json.loads(fashion.RATES_FILE.read_text())
    assert len(about["history"]) == about["epochs"] == found["epochs"] == 20
    assert about["learning_rate"] == found["best"][mode] and about["mode"] == mode and about["seed"] == seed and not about["hold_out"]
    for one in found["tried"][mode]:
        assert one["validation"] == one["history"][-1]["device"] and len(one["history"]) == 20
