"""The long training: weights that are kept, and what happens when it is stopped."""

import json

import pytest
import torch

from pnn_utils import fashion, paths
from pnn_utils.files import write_json


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The same network with few oscillators, a made-up image set, and every file in a folder of the test's own."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(120, 784, generator=generator)
    monkeypatch.setattr(fashion, "load", lambda train, n=None: (x[:n], x[:n, :10].argmax(1)))
    monkeypatch.setattr(fashion, "SIZES", ((49, 2), (42, 10)))
    monkeypatch.setattr(fashion, "N_VALID", 20)
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
    with pytest.raises(ValueError, match="does not hold the weights"):
        fashion.load_weights(network, path)
    path.write_bytes(whole)
    monkeypatch.setattr(fashion, "SIZES", ((49, 2), (43, 10)))
    with pytest.raises(ValueError, match="does not hold the weights"):
        fashion.load_weights(fashion.build(0, "pat")[0], path)


@pytest.mark.parametrize("mode", fashion.MODES)
def test_a_stopped_training_goes_on_as_if_nothing_had_happened(small, mode, monkeypatch):
    whole, history = fashion.train_network(0, mode, 4, 0.01)
    assert len(history) == 4 and {"device", "model", "passes"} <= set(history[-1])

    real, calls = fashion.random_flip, []

    def flip_until_the_power_fails(images, generator):
        calls.append(1)
        if len(calls) == 11:  # in the third epoch
            raise KeyboardInterrupt
        return real(images, generator)

    monkeypatch.setattr(fashion, "random_flip", flip_until_the_power_fails)
    with pytest.raises(KeyboardInterrupt):
        fashion.train_network(0, mode, 4, 0.01, checkpoint=small / "c")
    monkeypatch.setattr(fashion, "random_flip", real)
    resumed, again = fashion.train_network(0, mode, 4, 0.01, checkpoint=small / "c")
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_command_trains_what_is_missing_and_keeps_what_is_there(small, capsys):
    write_json(fashion.RATES_FILE, {"best": {"pat": 0.01, "in_silico": 0.02}})
    arguments = ["--epochs", "2", "--seeds", "1", "--jobs", "1"]
    assert fashion.main(arguments) == 0 and "0 of 2 networks were there, 2 trained" in capsys.readouterr().out
    written = {path.name: path.read_bytes() for path in paths.WEIGHTS.iterdir()}
    assert {"fashion_pat_0.safetensors", "fashion_in_silico_0.safetensors"} <= set(written)
    assert fashion.load_weights(fashion.build(0, "in_silico")[0], fashion.weights_path("in_silico", 0))["learning_rate"] == 0.02
    fashion.weights_path("pat", 0).unlink()
    assert fashion.main(arguments) == 0 and "1 of 2 networks were there, 1 trained" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in paths.WEIGHTS.iterdir()} == written  # the same seed, the same bytes


def test_learning_rates_are_chosen_on_the_device(small, monkeypatch):
    monkeypatch.setattr(fashion, "sweep", lambda experiment, points, *_: [-abs(p["learning_rate"] - (0.004 if p["mode"] == "pat" else 0.001)) for p in points])
    assert fashion.search([0.001, 0.004, 0.016]) == {"pat": 0.004, "in_silico": 0.001}
    kept = json.loads(fashion.RATES_FILE.read_text())
    assert kept["best"] == {"pat": 0.004, "in_silico": 0.001} and list(kept["validation"]["pat"]) == ["0.001", "0.004", "0.016"]


def test_committed_weights_are_small():
    files = sorted(paths.WEIGHTS.glob("fashion_*.safetensors"))
    assert all(file.stat().st_size < 3e6 for file in files)
