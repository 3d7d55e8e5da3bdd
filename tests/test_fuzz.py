"""Whatever comes to a door of the package, it answers with finite numbers or says what is wrong.

Input is checked at the `DOORS` and nowhere else; inside, functions trust their callers. In half
of the calls all is as it should be, and none of these may be refused. In the others it is partly
not: junk, NaN, wrong shapes and dtypes, spoilt files. Which errors may come out stands in the
docstring's section Raises; where there is none, they are TypeError and ValueError.
"""

import ast
import builtins
import hashlib
import importlib
import inspect
import json
import math
import numbers
import pydoc
import re
import struct
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_datasets import whole_talkers

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.datasets.vowels import CLASSES, Tokens
from pnn_utils.networks import MLP
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.training import train
from pnn_utils.twin import Perceptron, save_twin
from tests.fuzzing import (
    CALM,
    JSON,
    JUNK,
    PACKAGE,
    SEEDS,
    TABLES,
    Toy,
    arrays,
    at,
    changes,
    controls,
    forged,
    generator,
    one_of,
    pair,
    partly,
    real,
    spoilt,
    spoilt_json,
    spoilt_tables,
    toy_model,
    whole,
    written,
)

# --- How a door is called ------------------------------------------------------------------------

def call_toy(call, x, theta, answer):
    y = call(Toy(ranges=(x[0], theta[0]), answer=answer), x[1], theta[1])
    for (low, high), values in (x, theta):
        assert np.isfinite(values).all() and ((low <= values) & (values <= high)).all()
    assert y.shape == (len(x[1]), 4) and y.dtype == np.result_type(x[1], theta[1])
    return y


def make_and_call(make, x, theta, changes, **arguments):
    device = make(**arguments, **changes)
    y = device(x, theta)
    assert y.shape == (len(x), device.output_dim)
    return y


def hear(sound_card, x, **settings):
    """Play waveforms through a wire with a little noise."""
    card, noise = sound_card(**settings), np.random.default_rng(0)
    card.play = lambda sent: sent + 1e-5 * noise.standard_normal(len(sent))
    return card(x, np.zeros(0))


def measure(make, x, theta, outcome, **arguments):
    def answer(x, theta):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: None)
        return make(answer, 3, 2, 4, **arguments)(x, theta)


def fail_to_write(open_path, name, fails):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with open_path(Path(folder, name)) as temporary:
                temporary.write_bytes(b"whole")
                if fails:
                    raise OSError(28, "No space left on device")
            assert Path(folder, name).read_bytes() == b"whole"
        finally:
            assert not list(Path(folder).glob(".*.part"))


def load(load_tensors, content):
    tensors, about = at(content, load_tensors)
    assert torch.equal(tensors.pop("a"), torch.ones(3)) and (tensors, about) == ({}, [1])


def resume(call, content=None, x=1, **settings):
    """Train, going on from a checkpoint of this content, if it has any."""
    def go_on(path):
        return call(MLP([5, 3, 2], generator()), x * torch.ones(4, 5), torch.tensor([0, 1, 1, 0]),
                    **{"epochs": 1, "learning_rate": 0.1} | settings, device=Toy(),
                    checkpoint=path if content else None)
    return at(content or b"", go_on)


def compare(call, old, new):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("old", old), ("new", new)):
            Path(folder, name).mkdir()
            Path(folder, name, "00_tour.json").write_bytes(content)
        return [row[2:5] for row in call(Path(folder, "old"), Path(folder, "new"))]


def raw_data(call, contents, checksums=None, **arguments):
    """Call among these files, whose checksums are their own or those of other contents."""
    right = checksums or {Path(place).name: content for place, content in contents.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in right.items()}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for place, content in contents.items():
            Path(folder, place).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, place).write_bytes(content)
        patch.setattr(files, "RAW", Path(folder, "raw"))
        patch.setattr(fetch, "FILES", {"mnist": digests, "vowels": digests})
        patch.setattr(fetch, "SETS", {"mnist": {"sources": []}, "vowels": {"sources": []}})
        patch.setenv(fetch.MIRROR, str(Path(folder, "mirror")))
        answer = call(**arguments)
        for name, content in right.items():
            assert [path.read_bytes() for path in Path(folder).glob(f"raw/*/{name}")] == [content]
        return answer


def run(run_notebook, section):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.py").write_text("# %% tags=['parameters']\nn = 3\n")
        Path(folder, "params.yaml").write_text(json.dumps({"a": section}))
        return run_notebook(Path(folder, "a.py"), params=Path(folder, "params.yaml"))


def use(build, rows, **arguments):
    """Build a network; if that is not refused, it must answer and have gradients."""
    network = build(generator=generator(), **arguments)
    try:
        answers = [network.set_mode(mode)(rows()) for mode in ("in_silico", "pat")]
        answers[1].sum().backward()
    except Exception as error:
        raise AssertionError(f"it was built, but is of no use: {error!r}") from error
    return answers


def chain(build, sizes, **arguments):
    width = arguments.get("n_features", sizes[0])
    return use(build, lambda: torch.rand(3, width), device=Toy(sizes),
               model=toy_model(sizes[2]), **arguments)


def hybrid(build, sizes, n_models, **arguments):
    models = [toy_model(size[2]) for size in sizes][:n_models]
    return use(build, lambda: torch.rand(3, 4), devices=[Toy(size) for size in sizes],
               models=models, n_inputs=4, **arguments)


def oscillating(build, sizes, n_models, **arguments):
    devices = [Oscillators(n_oscillators=n, n_read=read) for n, read in sizes]
    models = [OscillatorModel(n, read) for n, read in sizes][:n_models]
    return use(build, lambda: torch.rand(3, 12), devices=devices, models=models,
               arrange=lambda x: x.view(len(x), 2, 6), n_pixels=12, **arguments)


def differentiate(join, x, measured, modelled):
    join(lambda x: measured, lambda x: modelled if modelled is None else x * modelled)(
        x.requires_grad_()).sum().backward()


# --- The doors -----------------------------------------------------------------------------------

class Door(NamedTuple):
    """A way to call it, the strategies of its arguments, errors that may come out as well."""

    call: object
    arguments: dict
    also: tuple = ()
    examples: int = 30
    always_refused: bool = False


def door(call, *also, examples=30, always_refused=False, **arguments):
    return Door(call, arguments, also, examples, always_refused)


MODES = one_of("pat", "in_silico", "device")
SIZES = st.tuples(*[st.integers(0, 5)] * 3)
COPY = {"seed": SEEDS, "ideal": st.booleans(), "examples": 60}
TWIN = written(lambda path: save_twin(path, Perceptron(3, 2, 4, (5,), generator()), {}))
RUN = written(lambda path: resume(
    lambda *rows, **settings: train(*rows, **settings | {"checkpoint": path})))
TENSORS = written(lambda path: files.save_tensors(path, {"a": torch.ones(3)}, [1]))
SUMMARY = {"mean": 0.5, "sd": 0.1, "n": 2, "values": [0.4, 0.6]}
METRICS = {
    "notebook": "00_tour", "profile": "full", "results": {"pat": {"accuracy": SUMMARY}},
    "paper": {"pat": 0.9}, "baselines": {}, "cost": {}, "seeds": [0], "data": {"name": "moons"},
    "skipped": {"a": "why"}, "twin": {"r2": 0.9}, "map": [SUMMARY],
    "gaps": {"n": [2], "forward": [0.1], "in_silico": [0.1], "pat": [0.1]}}
IMAGES = b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(1568)
LABELS = b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\1\2"
MNIST = [f"raw/mnist/train-{part}-ubyte" for part in ("images-idx3", "labels-idx1")]
VOWELS = b"\n".join(b"w%02d%s" % (k, vowel.encode()) + b" 250" * 15
                    for k in range(3) for vowel in CLASSES)
ODD_YAML = [b"a: {", b"a: 3", b"- a", b"a: {1: 2}", b"a: &x [*x]", b"a: {n: 1, n: 2}", b"a: ab",
            b"a: [[n, 1]]", b"a: 2001-99-99", b"a: !!python/name:os", b"%Y", b"\0", b"a:\t- \xff"]

DOORS = {
    # A device's call; a device with changed numbers.
    "systems.base.PhysicalSystem.__call__": door(
        call_toy, examples=200, x=controls(3), theta=controls(2),
        answer=partly(st.none(), arrays(3, 4) | JUNK)),
    "systems.base.check_numbers": door(lambda check, n: check(3, 6, n=n), n=real(3, 6)),
    "systems.base.check_whole": door(lambda check, n: check(3, 6, n=n), n=whole(3, 6)),
    "systems.shg.device.SHG": door(
        make_and_call, FloatingPointError, **COPY, points_per_channel=whole(1, 3),
        changes=changes("shg"), x=arrays(2, 50), theta=arrays(50) | arrays(2, 50)),
    "systems.plate.device.Plate": door(
        make_and_call, FloatingPointError, **COPY, samples=whole(5, 5), theta=arrays(0),
        steps_per_sample=whole(1, 3), changes=changes("plate"), x=arrays(2, 5, low=-1)),
    "systems.circuit.device.Circuit": door(
        make_and_call, FloatingPointError, **COPY, substeps=whole(1, 3), theta=arrays(0),
        changes=changes("circuit"), x=arrays(2, 196, low=-4, high=4)),
    "systems.oscillators.device.Oscillators": door(
        make_and_call, FloatingPointError, **COPY, n_oscillators=whole(3, 3), n_read=whole(1, 3),
        changes=changes("oscillators"), x=arrays(2, 3, low=-20, high=20),
        theta=arrays(6, low=-10, high=10) | arrays(2, 6, low=-10, high=10)),
    # A parameter table.
    **{f"systems.base.parameter_table {name}": door(
        lambda read, content: [row.value for row in at(content, read)], examples=60,
        content=spoilt_tables(name)) for name in TABLES},
    **{f"systems.base.make_parameters {name}": door(
        lambda make, content, ideal, changes: at(
            content, lambda path: vars(make(path, ideal, **changes))),
        content=spoilt_tables(name), changes=changes(name), ideal=st.booleans(), examples=60)
       for name in TABLES},
    # An instrument's reading.
    "systems.sound_card.SoundCard": door(
        hear, x=arrays(2, 8, low=-1), samples=whole(8, 8), level=real(0.05, 0.4),
        limit=real(0.5, 0.9), hold=whole(1, 3), budget=real(100, 900), examples=60),
    "systems.instrument.Instrument": door(
        measure, examples=200, input_range=pair(0, 1), param_range=pair(0, 1), x=arrays(3, 3),
        theta=arrays(2) | arrays(3, 2), pass_time=real(0, 1), rows_per_call=whole(3, 4),
        interval=real(0, 1), warm_up=whole(0, 2), attempts=whole(1, 3), timeout=real(0.5, 1),
        first_wait=real(0, 1), limits=pair(-9, 9), outcome=partly(
            arrays(3, 4), JUNK | st.sampled_from([
                OSError("busy"), TimeoutError(), ConnectionError(), KeyError(), StopIteration(),
                MemoryError(), [[1.0], [1.0, 2.0]], [[10**400] * 4] * 3, torch.ones(3, 4)]))),
    # A file from disk or network.
    "files.atomic_path": door(
        fail_to_write, name=partly(st.just("a"), st.sampled_from(["é\n", ".", "a" * 300])),
        fails=partly(st.just(False), st.booleans())),
    "files.load_tensors": door(load, examples=150, content=spoilt(TENSORS)),
    "twin.load_twin": door(
        lambda load, content, sizes: at(content, lambda path: load(path, Toy(sizes))).state_dict(),
        examples=150, content=forged(TWIN), sizes=partly(st.just((3, 2, 4)), SIZES)),
    "reproduced.read_metrics": door(
        lambda read, content: at(content, read), examples=100, content=spoilt_json(METRICS)),
    "reproduced.compare": door(
        compare, examples=100, old=spoilt_json(METRICS), new=spoilt_json(METRICS)),
    "experiment.sweep": door(
        lambda sweep, content, outcome, scheduler: at(content, lambda path: sweep(
            lambda **point: outcome, [{"a": 1}, {"a": 2}], path, scheduler)),
        scheduler=one_of("serial"), outcome=partly(st.just({"b": 1}), JUNK),
        content=st.just(b"") | spoilt_json({"point": {"a": 1}, "result": {"b": 2}}).map(
            lambda line: line + b"\n")),
    "datasets.images.load_images": door(
        lambda load, images, labels, name: raw_data(
            load, dict(zip(MNIST, (images, labels), strict=True)),
            {Path(MNIST[0]).name: IMAGES, Path(MNIST[1]).name: LABELS}, name=name),
        images=spoilt(IMAGES), labels=spoilt(LABELS), name=one_of("mnist")),
    "datasets.vowels.load_tokens": door(
        lambda load, content: raw_data(
            load, {"raw/vowels/vowdata.dat": content}, {"vowdata.dat": VOWELS}),
        content=spoilt(VOWELS)),
    "datasets.vowels.vowel_task": door(
        lambda task, n, talkers, **arguments: task(tokens=Tokens(
            np.random.default_rng(0).random((n, 12)), np.arange(n) % 7,
            np.char.add("w", (np.arange(n) // 7 % talkers).astype(str)), {"name": "drawn"}),
            **arguments),
        n=partly(st.integers(259, 300), st.sampled_from([0, 1, 200])), seed=SEEDS,
        talkers=partly(st.just(40), st.integers(1, 40)),
        which=one_of("draws"), divide=st.sampled_from([None, whole_talkers])),
    "datasets.fetch.path": door(
        lambda path, content, **arguments: raw_data(
            path, {"raw/mnist/a": content}, {"a": b"whole"}, **arguments),
        content=spoilt(b"whole"), name=one_of("mnist"), file=one_of("a")),
    "datasets.fetch.fetch": door(
        lambda fetch, content, name: raw_data(
            fetch, {"mirror/a": content}, {"a": b"whole"}, name=name),
        content=spoilt(b"whole"), name=one_of("mnist")),
    # A notebook's section of params.yaml.
    "report.run.read_parameters": door(
        lambda read, content, name: dict(at(content, lambda path: read(name, path))) and None,
        examples=100, name=one_of("a"), content=partly(
            st.just(b"a: {n: 1}"), st.sampled_from(ODD_YAML) | spoilt(b"a:\n  n: [1, x]"))),
    "report.run.run_notebook": door(
        run, examples=5, always_refused=True, section=JSON.filter(lambda section: section)),
    # A network's construction from a device's dimensions, and a model's.
    "networks.chain.spectral_chain": door(
        chain, examples=100, sizes=partly(st.just((4, 2, 4)), SIZES), n_features=whole(1, 4),
        n_classes=whole(1, 4), n_layers=whole(1, 2), skip=st.booleans(), mode=MODES),
    "networks.chain.waveform_chain": door(
        chain, examples=100, sizes=partly(st.just((5, 0, 5)), SIZES), n_classes=whole(1, 5),
        n_layers=whole(1, 2), readout=one_of("mean", "power"), shuffle=st.booleans(),
        skip=st.booleans(), mode=MODES),
    "test_hybrid.Hybrid": door(  # of notebook 06
        hybrid, examples=100, sizes=partly(st.just([(2, 1, 3)] * 2), st.lists(SIZES, max_size=2)),
        n_models=partly(st.just(2), st.integers(0, 2)), n_classes=whole(1, 3), mode=MODES,
        bound=one_of("clip", "linear", "sigmoid"), readout=one_of("linear", "parts")),
    "networks.oscillating.Oscillating": door(
        oscillating, n_models=partly(st.just(2), st.integers(0, 2)), mode=MODES,
        sizes=partly(st.just([(6, 6), (14, 2)]), st.lists(
            st.sampled_from([(6, 6), (14, 2), (3, 3)]), max_size=3))),
    **{name: door(lambda make, **sizes: make(**sizes), input_dim=whole(4, 4),
                  param_dim=whole(0, 0), output_dim=whole(4, 4))
       for name in ("systems.circuit.model.Ringing", "systems.plate.model.Convolution")},
    # What PAT's two parts return; a loss or reading that is not finite; another run's checkpoint.
    "pat.physics_aware": door(
        differentiate, RuntimeError, examples=100, measured=partly(arrays(3), JUNK),
        x=arrays(3, tensor=True, ways=()), modelled=partly(
            arrays(3, tensor=True, ways=("shape", "dtype")), st.none())),
    "pat.PhysicalLayer": door(
        lambda make, x, **arguments: make(**arguments)(x), x=arrays(3, 3, tensor=True),
        theta=arrays(2, tensor=True), mode=MODES, device=partly(st.just(Toy()), JUNK),
        model=partly(st.just(toy_model(4)), JUNK)),
    "training.train": door(resume, examples=150, content=st.none() | forged(RUN)),
    "training.train loss": door(
        resume, x=arrays(4, 5, tensor=True, ways=("value",)), epochs=st.integers(1, 3),
        learning_rate=partly(st.just(0.1), st.sampled_from([1e30, math.nan, math.inf, -1.0]))),
    "twin.fit_twin": door(
        lambda fit, y: fit(Toy(), np.ones((9, 3)), np.ones((9, 2)), y, epochs=2)[1],
        FloatingPointError, y=arrays(9, 4, ways=("value",))),
}
EXEMPT = {}  # name: why what it raises is no door's word


def documented(target):
    """Return the errors that the section Raises of a docstring names."""
    lines = inspect.cleandoc(target.__doc__ or "").partition("Raises\n------\n")[2].splitlines()
    known = {**vars(builtins), **vars(importlib.import_module(target.__module__))}
    names = [name for line in lines if re.fullmatch(r"\w+(, \w+)*", line)
             for name in line.split(", ")]
    return tuple(known[name] for name in names if name in known) or (TypeError, ValueError)


def finite(thing):
    if isinstance(thing, dict | list | tuple):
        return all(map(finite, thing.values() if isinstance(thing, dict) else thing))
    if isinstance(thing, numbers.Real):
        return math.isfinite(thing)  # or an OverflowError
    values = np.asarray(thing.detach() if isinstance(thing, torch.Tensor) else thing)
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())


def with_raises(node, name):
    """Names of the functions, classes and methods in a syntax tree that document their errors."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            inner = f"{name}.{child.name}"
            yield from [inner] if "Raises\n---" in (ast.get_docstring(child) or "") else []
            yield from with_raises(child, inner)


def test_who_documents_errors_is_a_door_and_fuzzed():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found |= set(with_raises(ast.parse(path.read_text(encoding="utf-8")), module))
    fuzzed = {name.split()[0] for name in DOORS}
    assert sorted(found - fuzzed - set(EXEMPT)) == []  # new: a line in DOORS, or no Raises
    assert set(EXEMPT) <= found - fuzzed


@pytest.mark.parametrize("name", DOORS)
def test_a_door_answers_with_finite_numbers_or_says_what_is_wrong(name):
    door, path = DOORS[name], name.split()[0]
    target = pydoc.locate(f"pnn_utils.{path}") or pydoc.locate(path)
    allowed, answers = (*documented(target), *door.also), []

    @settings(max_examples=door.examples, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(CALM, st.fixed_dictionaries(door.arguments))
    def fuzz(calm, arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of overflow: what counts is what comes out
            try:
                answers.append(door.call(target, **arguments))
            except allowed as error:
                assert str(error), f"{type(error).__name__} without a word"
                assert not calm or door.always_refused, error
            else:
                assert finite(answers[-1])

    fuzz()
    assert bool(answers) != door.always_refused
