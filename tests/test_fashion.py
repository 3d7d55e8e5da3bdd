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
RUNS = ["pat_20_epochs", "in_silico", "pat", "in_silico_fitted", "pat_plain_model"]


def is_definition(node):
    """Imports, functions, classes, and constants with names in capitals."""
    if isinstance(node, ast.Assign):
        names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        return bool(names) and "".join(names).isupper()
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def definitions(until=None, **parameters):
    """What the notebook defines, with changed parameters, without a training or a data set."""
    space = {}
    for cell in jupytext.read(SOURCE).cells:
        if until and cell.source.startswith(until):
            break
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
        until="if retrain",  # what a training uses has to be defined before it
        SIZES=((49, 2), (42, 10)), BATCH_SIZE=32, CHECKING=slice(-20, None), OTHERS=slice(-20),
        loaded=lambda train, chosen: (x[chosen], x[chosen, :10].argmax(1)), long_images=120,
        n_seeds=2, retrain=True, long_runs=RUNS, long_epochs=4, long_rates=[0.005, 0.01, 0.02],
        scheduler="serial", fit_images=40, WEIGHTS=folder / "weights", COMMITTED=folder / "none",
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


def rate_of(record, name, mode):
    """The rate that was found, or half of it in the second cycle with a fitted model."""
    return record["best"][mode] / (2 if name in ("pat", "in_silico_fitted") else 1)


def written(small):
    return {path.name: path.read_bytes() for path in small["WEIGHTS"].iterdir()}


def network(space, name, seed):
    return space["built"](space["two_devices"](seed), seed, space["RUNS"][name].mode)


def test_weights_come_back_rounded_to_float16_and_missing_ones_say_how_to_get_them(small):
    with pytest.raises(FileNotFoundError, match="fashion_pat_0.*make reproduce-long"):
        small["load_weights"](network(small, "pat", 0), "pat", 0)
    name = "pat_20_epochs"
    history = small["long_trial"](name, 0, 0.01, hold_out=False)
    found = network(small, name, 1)
    about = small["load_weights"](found, name, 0)
    assert about["history"] == history and about["learning_rate"] == 0.01
    trained, _ = small["trained"](name, 0, 0.01, 4, 120, hold_out=False, watch=small["READERS"])
    for name, value in trained.state_dict().items():
        assert torch.equal(found.state_dict()[name], value.half().float())


def test_rates_are_searched_networks_trained_and_only_then_files_replaced(done):
    record = json.loads((done["WEIGHTS"] / done["RATES_FILE"]).read_text())
    for mode in METHODS:
        scores = {one["learning_rate"]: one["validation"] for one in record["tried"][mode]}
        assert list(scores) == [0.005, 0.01, 0.02]
        assert scores[record["best"][mode]] == max(scores.values())
    for name in RUNS:
        for seed in range(2):
            about = done["load_weights"](network(done, name, seed), name, seed)
            assert about["learning_rate"] == rate_of(record, name, about["mode"])
            assert about["name"] == name and about["seed"] == seed and not about["hold_out"]
            assert len(about["history"]) == 4
            assert {"device", "model", "passes"} <= set(about["history"][-1])
            assert ("cosine_first" in about["history"][-1]) == (name in RUNS[2:])
    assert not list(done["LONG"].parent.iterdir())


def test_the_fitted_model_knows_the_small_device_and_the_rows_that_are_read():
    space = definitions(SIZES=((49, 2), (42, 10)), fit_images=1000)
    devices = space["two_devices"](3)
    found = space["built"](devices, 3, "in_silico")
    x = torch.rand(1000, 784, generator=torch.Generator().manual_seed(0))
    small, large = space["fitted_models"](found, x, 3)
    assert abs(small.slope - 1.1) < 0.04 and large.slope == small.slope
    for model, device in zip((small, large), devices, strict=True):
        free = space["class_rows"](device).bool()
        assert (model.errors[~free] == 0).all() and free.sum() > 0
    true = space["true_motion"](devices[0]).errors
    free = space["class_rows"](devices[0]).bool()
    assert torch.corrcoef(torch.stack([small.errors, true])[:, free])[0, 1] > 0.9
    with torch.no_grad():  # images that the fit has not seen
        hidden = found.set_mode("device").hidden(x.flip(1)[:200])
        theta, read = found.layers[1].theta, found.layers[1](hidden)
        missed = [float((model(hidden, theta) - read).square().mean())
                  for model in (large, found.layers[1].parts[1])]
    assert missed[0] < 0.5 * missed[1]


def test_the_true_motion_is_the_devices_without_noise():
    space = definitions(SIZES=((49, 2), (42, 10)))
    device = space["Oscillators"](seed=3, n_oscillators=42, n_read=10, input_noise=0.0)
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(5, device.input_dim, generator=generator) - 1
    theta = 0.3 * torch.randn(device.param_dim, generator=generator)
    found = space["true_motion"](device)(x, theta)
    torch.testing.assert_close(found, torch.tensor(device(x, theta)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("last", [11, 130, 200])  # in the search, the first runs, the others
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
    checkpoint = small["beside"](".checkpoint", "pat_20_epochs", 0, 0.01, hold_out)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"half a checkpoint")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        small["long_trial"]("pat_20_epochs", 0, 0.01, hold_out)
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
        small["long_trial"]("pat_20_epochs", 0, 0.02, hold_out=False)


def test_images_that_check_are_held_out_only_when_asked(small):
    drawn = small["drawn"]
    checking = drawn(3, 100, small["CHECKING"])[0]
    for part, count, seen in ((small["OTHERS"], 80, False), (small["ALL"], 100, True)):
        rows = drawn(3, 100, part)[0]
        assert len(rows) == count and len(checking) == 20
        assert ((checking[:, None] == rows[None]).all(2).any(1) == seen).all()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("seed", range(3))
def test_committed_weights_are_small_and_come_from_the_long_training(name, seed):
    space = definitions()
    assert space["weights_path"](name, seed).stat().st_size < 3e6
    about = space["load_weights"](network(space, name, seed), name, seed)
    found = space["kept_search"]()
    mode = space["RUNS"][name].mode
    assert len(about["history"]) == about["epochs"] == found["epochs"] == 20
    assert about["learning_rate"] == rate_of(found, name, mode)
    assert about["mode"] == mode and about["seed"] == seed and not about["hold_out"]
    for one in found["tried"][mode]:
        assert one["validation"] == one["history"][-1]["device"] and len(one["history"]) == 20
