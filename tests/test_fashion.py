"""Notebook 08: what happens to its long training when it is stopped, and the weights it left."""

import ast
import json

import jupytext
import pytest
import torch

from pnn_utils import files
from pnn_utils.experiment import SweepError

SOURCE = files.SOURCES / "08_oscillators_fashion_mnist.py"
METHODS = ["pat", "in_silico"]


def is_definition(node):
    """Imports, functions, classes, and constants with names in capitals."""
    if isinstance(node, ast.Assign):
        names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        return bool(names) and "".join(names).isupper()
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def definitions(**parameters):
    """What the notebook defines, with changed parameters, without a training or a data set."""
    space = {}
    for cell in jupytext.read(SOURCE).cells:
        if cell.cell_type == "code":
            given = "parameters" in cell.metadata.get("tags", [])
            kept = [node for node in ast.parse(cell.source).body if given or is_definition(node)]
            exec(compile(ast.Module(kept, []), SOURCE.name, "exec"), space)
        space |= parameters
    return space


def in_small(folder):
    """The same with few oscillators, made-up images, and every file in a folder of its own."""
    x = torch.rand(120, 784, generator=torch.Generator().manual_seed(0))
    return definitions(
        SIZES=((49, 2), (42, 10)), BATCH_SIZE=32, CHECKING=slice(-20, None), OTHERS=slice(-20),
        loaded=lambda train, chosen: (x[chosen], x[chosen, :10].argmax(1)), long_images=120,
        n_seeds=2, long_epochs=4, long_rates=[0.005, 0.01, 0.02], scheduler="serial",
        WEIGHTS=folder / "weights", RATES_FILE=folder / "weights" / "rates.json",
        LONG=folder / "sweeps" / "long.jsonl")


@pytest.fixture
def small(tmp_path):
    return in_small(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """After a whole training, never stopped."""
    space = in_small(tmp_path_factory.mktemp("done"))
    space["train_long"]()
    return space


def written(small):
    return {path.name: path.read_bytes() for path in small["WEIGHTS"].iterdir()}


def test_weights_come_back_rounded_to_float16_and_missing_ones_say_how_to_get_them(small):
    with pytest.raises(FileNotFoundError, match="fashion_pat_0.*make reproduce-long"):
        small["load_weights"](small["built"](0, "pat")[0], "pat", 0)
    history = small["long_trial"]("pat", 0, 0.01, hold_out=False)
    kept = files.load_tensors(small["beside"](".safetensors", "pat", 0))
    files.save_tensors(small["weights_path"]("pat", 0), *kept)
    network, _ = small["built"](1, "pat")
    about = small["load_weights"](network, "pat", 0)
    assert about["history"] == history and about["learning_rate"] == 0.01
    trained, _ = small["trained"]("pat", 0, 0.01, 4, 120, hold_out=False, watch=small["READERS"])
    for name, value in trained.state_dict().items():
        assert torch.equal(network.state_dict()[name], value.half().float())


def test_rates_are_searched_networks_trained_and_only_then_files_replaced(done):
    record = json.loads(done["RATES_FILE"].read_text())
    for mode in METHODS:
        scores = {one["learning_rate"]: one["validation"] for one in record["tried"][mode]}
        assert list(scores) == [0.005, 0.01, 0.02]
        assert scores[record["best"][mode]] == max(scores.values())
        for seed in range(2):
            about = done["load_weights"](done["built"](seed, mode)[0], mode, seed)
            assert about["learning_rate"] == record["best"][mode] and about["seed"] == seed
            assert len(about["history"]) == 4 and not about["hold_out"]
            assert {"device", "model", "passes"} <= set(about["history"][-1])
    assert not list(done["LONG"].parent.iterdir())


@pytest.mark.parametrize("last", [11, 130])  # batches: in the search, and after it
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(small, done, last):
    real, calls = small["random_flip"], []

    def flip_until_the_power_fails(images, generator):
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return real(images, generator)

    small["random_flip"] = flip_until_the_power_fails
    with pytest.raises(KeyboardInterrupt):
        small["train_long"]()
    assert not small["WEIGHTS"].exists()
    small["train_long"]()
    assert written(small) == written(done)


@pytest.mark.parametrize("hold_out", [True, False])
def test_a_damaged_checkpoint_is_an_error_and_no_training_that_broke_down(small, hold_out):
    checkpoint = small["beside"](".checkpoint", "pat", 0, 0.01, hold_out)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"half a checkpoint")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        small["long_trial"]("pat", 0, 0.01, hold_out)
    if hold_out:
        with pytest.raises(SweepError, match="is not a readable checkpoint"):
            small["train_long"]()
        assert not small["WEIGHTS"].exists()


def test_a_training_that_breaks_down_is_not_chosen_and_not_hidden(small):
    real = small["train"]

    def break_down(*rows, learning_rate, **settings):
        if learning_rate > 0.015:
            raise FloatingPointError("the loss became nan")
        return real(*rows, learning_rate=learning_rate, **settings)

    small["train"] = break_down
    record = small["search_rates"]()
    for mode in METHODS:
        broken = record["tried"][mode][-1]
        assert broken == {"learning_rate": 0.02, "validation": 0, "history": []}
        assert record["best"][mode] < 0.02
    with pytest.raises(FloatingPointError):  # a network that counts
        small["long_trial"]("pat", 0, 0.02, hold_out=False)


def test_images_that_check_are_held_out_only_when_asked(small):
    drawn = small["drawn"]
    checking = drawn(3, 100, small["CHECKING"])[0]
    for part, count, seen in ((small["OTHERS"], 80, False), (small["ALL"], 100, True)):
        rows = drawn(3, 100, part)[0]
        assert len(rows) == count and len(checking) == 20
        assert ((checking[:, None] == rows[None]).all(2).any(1) == seen).all()


@pytest.mark.parametrize("mode", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_committed_weights_are_small_and_come_from_the_long_training(mode, seed):
    space = definitions()
    assert space["weights_path"](mode, seed).stat().st_size < 3e6
    about = space["load_weights"](space["built"](seed, mode)[0], mode, seed)
    found = json.loads(space["RATES_FILE"].read_text())
    assert len(about["history"]) == about["epochs"] == found["epochs"] == 20
    assert about["learning_rate"] == found["best"][mode]
    assert about["mode"] == mode and about["seed"] == seed and not about["hold_out"]
    for one in found["tried"][mode]:
        assert one["validation"] == one["history"][-1]["device"] and len(one["history"]) == 20
