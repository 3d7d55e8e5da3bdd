"""Whatever goes in, a call returns what its docstring promises, finite and of the stated shape, or raises an error that the docstring names.

Every public function and class of the package has a line in `FUZZ` or in `EXEMPT`, and every line of `FUZZ` is called with arguments that are partly as they
should be and partly not: numbers of the wrong kind or size, NaN, infinities, wrong shapes and dtypes, empty arrays, damaged files. Which errors may come out is
read from the section Raises of the docstring, so that a new error needs a word there. Arrays are arrays throughout, of whatever shape and content: what comes
of a string in the place of a tensor is left to Python.
"""

import builtins
import dataclasses
import importlib
import inspect
import json
import math
import numbers
import pkgutil
import re
import struct
import tempfile
import warnings
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pnn_utils
from pnn_utils import paths
from pnn_utils.report.metrics import Cost, summary
from pnn_utils.networks.hybrid import HybridNetwork
from pnn_utils.networks.mlp import MLP
from pnn_utils.networks.oscillators import OscillatorNetwork
from pnn_utils.networks.spectral import SpectralNetwork
from pnn_utils.networks.waveform import WaveformNetwork
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.base import PhysicalSystem
from pnn_utils.systems.circuit.device import CircuitParameters
from pnn_utils.systems.oscillators.device import OscillatorParameters, Oscillators
from pnn_utils.systems.plate.device import PlateParameters
from pnn_utils.systems.shg.device import SHG, SHGParameters
from pnn_utils.twins.causal import CausalNetwork
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.twin import save_twin
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.twins.perceptron import Perceptron
from pnn_utils.systems.circuit.model import NAMES, Ringing
from pnn_utils.datasets.vowels import CLASSES, Tokens
from pnn_utils.weights import save_tensors

EXEMPT_MODULES = {
    "fashion": "the long training: needs the data set and hours, and puts together what is fuzzed by itself",
    "quick": "runs every notebook",
}
EXEMPT = {
    "data.main": "command line", "metrics.main": "command line", "readme.main": "command line", "run.main": "command line",
    "data.peterson_barney_table": "takes no argument",
    "baselines.linear_classifier": "takes no argument",
    "baselines.small_mlp": "hands its seed to scikit-learn, which looks at it when the classifier is fitted",
    "vowels.load_tokens": "takes no argument, reads the data set",
    "vowels.Tokens": "a record", "vowels.VowelTask": "a record",
    "run.run_notebook": "starts a kernel",
    "systems.imperfections.imperfection_table": "takes no argument",
    "sweeps.SweepError": "made by `sweep` alone", "systems.instrument.InstrumentError": "made by `Instrument` alone",
    "systems.plate_equations.StateSpace": "a record", "systems.free_plate.PlateModes": "a record, made by `free_plate_modes`, with which its method is called",
    **{f"plotting.{name}": "draws" for name in
       ("use_house_style", "save_figure", "plot_band", "plot_confusion", "draw_box", "draw_arrow", "plot_accuracies")},
    **{f"systems.oscillator_numerics.{name}": "inner loop of `Oscillators` and `OscillatorModel`, which check what they hand over" for name in
       ("unpack", "pack_gradient", "march", "combine", "adjoint")},
    **{f"systems.shg.{name}": "a step of the construction of `SHG`, which checks the numbers" for name in ("bin_weights", "detection_weights")},
    **{f"networks.{name}": "an elementwise step of a network, which hands it a device's range" for name in
       ("hybrid.Channel", "spectral.Within", "spectral.Rescale", "waveform.Clamp")},
    "twins.ringing.substep": "inner step of `Ringing` and `fit_ringing`",
    **{f"systems.transient.{name}": "inner loop of `simulate`" for name in ("propagator", "channel_current", "junction_charge")},
    **{f"systems.plate_solver.{name}": "inner loop of `Plate`, which checks what it hands over" for name in ("modal", "run")},
}


# What goes in.

JUNK = st.sampled_from([None, "3", "", True, 1j, 2.5, math.nan, math.inf, -math.inf, -1, 0, np.float32(2), [1]])


CALM = st.shared(st.booleans(), key="calm")  # one draw for all arguments: in half of the calls all are as they should be


def partly(good, other):
    return CALM.flatmap(lambda calm: good if calm else st.one_of(good, other))


def whole(low, high):
    """A whole number from low to high, or one a little beyond, or no whole number at all."""
    return partly(st.integers(low, high), st.one_of(st.sampled_from([low - 1, -7, np.int64(high)]), JUNK))


def real(low, high):
    """A number from low to high, or another one, or none at all."""
    inside = st.floats(low + (high - low) / 100, high - (high - low) / 100)
    return partly(inside, st.one_of(st.floats(low, high), st.sampled_from([low, high, -1e300, 1e300, 1e-300, 10**400]), JUNK))


def pairs(low, high):
    return partly(st.just((low, high)), st.one_of(st.tuples(real(low, high), real(low, high)), st.sampled_from([None, (), (1,), "ab", 3])))


def choices(*known):
    return partly(st.sampled_from(known), st.sampled_from(["", "nonsense", None, 3, ()]))


TWO = partly(st.just(2), whole(1, 3))


@st.composite
def arrays(draw, *shape, low=0.0, high=1.0, dtype=np.float32, tensor=False):
    """An array of this shape (None: 0 to 4), spoiled in up to two ways: by its shape, its dtype, a value."""
    spoilt = () if draw(CALM) else draw(st.sampled_from([(), (), ("shape",), ("dtype",), ("value",), ("shape", "value"), ("dtype", "value")]))
    shape = tuple(draw(st.integers(0, 4)) if size is None else size for size in shape)
    if "shape" in spoilt:
        shape = draw(st.one_of(st.lists(st.integers(0, 5), max_size=4).map(tuple), st.just(shape[:-1]), st.just((*shape, 2)), st.just((1, *shape)),
                               st.just(tuple(size + 1 for size in shape)), st.just(tuple(max(size - 1, 0) for size in shape))))
    values = low + (high - low) * np.random.default_rng(draw(st.integers(0, 99))).random(shape)
    values = values.astype(dtype)
    if "value" in spoilt and values.size and dtype not in (np.int64, np.uint8):
        extremes = [low, high, 2 * high + 1, -1e30, 1e30, 0.0, np.nan, np.inf, -np.inf]
        values = np.atleast_1d(values) if not shape else values
        values.reshape(-1)[draw(st.integers(0, values.size - 1))] = draw(st.sampled_from(extremes))
        if draw(st.booleans()):
            values[...] = draw(st.sampled_from(extremes))
    if "dtype" in spoilt:
        kinds = [np.float16, np.float32, np.float64, np.int64, np.int32, np.uint8, bool, np.complex64]
        with np.errstate(all="ignore"):
            values = values.astype(draw(st.sampled_from(kinds if tensor else [*kinds, object, "U3"])))
    return torch.from_numpy(np.ascontiguousarray(values).reshape(shape)) if tensor else values


def tensors(*shape, **settings):
    return arrays(*shape, tensor=True, **settings)


GENERATORS = st.integers(0, 99).map(lambda seed: torch.Generator().manual_seed(seed))
RNGS = st.integers(0, 99).map(np.random.default_rng)
SEEDS = partly(st.integers(0, 2**70), st.one_of(JUNK, st.just([1, 2])))
LABELS = tensors(6, high=2, dtype=np.int64)
TEXT = st.text(max_size=8)
NAMES_OF_FILES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=300).filter(lambda name: name not in (".", ".."))
JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), TEXT, st.just(b"bytes"), st.just(object())),
                    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=6)
PLAIN_JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), TEXT),
                          lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=6)
SUMMARIES = partly(st.lists(st.floats(0, 1), min_size=1, max_size=3).map(summary),
                   st.one_of(st.dictionaries(st.sampled_from(["mean", "sd", "n", "values"]), JSON), JSON))
RESULTS = st.dictionaries(st.sampled_from(["pat", "in_silico", "linear"]), st.dictionaries(st.sampled_from(["accuracy", "error"]), SUMMARIES, max_size=2),
                          max_size=2)


@st.composite
def spoilt_bytes(draw, good):
    """A file's content: good, cut, with a byte changed, or anything."""
    way = draw(st.sampled_from(["good", "cut", "changed", "other"]))
    at = draw(st.integers(0, len(good) - 1))
    return {"good": good, "cut": good[:at], "changed": good[:at] + bytes([draw(st.integers(0, 255))]) + good[at + 1:],
            "other": draw(st.binary(max_size=40))}[way]


@st.composite
def changes(draw, table):
    """One to three changed numbers of a device's parameter table, mostly within the allowed ranges, their ends included."""
    fields = draw(st.lists(st.sampled_from(dataclasses.fields(table)), max_size=0 if draw(CALM) else 3))
    found = {}
    for field in fields:
        low, high = field.metadata["allowed"]
        top = min(high, 1e6)
        top = max(top, low)
        inside = st.integers(int(low), min(int(top), 20)) if field.type in ("int", int) else st.one_of(st.floats(low, top),
                                                                                                       st.sampled_from([low, high, field.default]))
        found[field.name] = draw(st.one_of(inside, inside, inside, st.sampled_from([low - 1, math.nan, math.inf, "1", None, True, 1e300])))
    if not draw(CALM) and draw(st.integers(0, 9)) == 9:
        found["nonsense"] = 1.0
    return found


@st.composite
def parameters(draw, table):
    """A parameter table with numbers that `make_parameters` lets through."""
    given_changes = draw(changes(table))
    try:
        return importlib.import_module("pnn_utils.systems.base").make_parameters(table, draw(st.booleans()), **given_changes)
    except (TypeError, ValueError):
        return table()


# What may come out.

def numbers_in(thing):
    """Yield every number in a result, whatever it is wrapped in."""
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().numpy()
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "fc":
        yield from (complex(v) for v in (np.abs(thing).max(initial=0.0),))  # NaN wins
    elif isinstance(thing, torch.nn.Module):
        yield from numbers_in({**dict(thing.named_parameters()), **dict(thing.named_buffers())})
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from numbers_in(value)
    elif isinstance(thing, list | tuple | set):
        for value in thing:
            yield from numbers_in(value)
    elif isinstance(thing, numbers.Number) and not isinstance(thing, numbers.Integral):
        yield complex(thing)
    elif isinstance(thing, np.ndarray) and thing.dtype == object:
        yield from numbers_in(thing.ravel().tolist())
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield from numbers_in(list(vars(thing).values()))


def finite(thing):
    return all(map(np.isfinite, numbers_in(thing)))


def tame(thing):
    """Neither NaN nor infinite nor so large that a product of two overflows in float16."""
    return all(np.isfinite(v) and abs(v) < 200 for v in numbers_in(thing))


def documented(target):
    """Return the errors that the section Raises of a docstring names; a class's own section counts for its construction."""
    lines = inspect.cleandoc(target.__doc__ or "").splitlines()
    if "Raises" not in lines:
        return ()
    names = []
    for line in lines[lines.index("Raises") + 2:]:
        if line and not line.startswith(" "):
            if not re.fullmatch(r"\w+(, \w+)*", line):
                break
            names += line.split(", ")
    known = {**vars(builtins), **vars(importlib.import_module(inspect.unwrap(target).__module__))}
    return tuple(known[name] for name in names if name in known and isinstance(known[name], type))


@dataclasses.dataclass
class Case:
    """One line of the table.

    Attributes
    ----------
    arguments : dict of {str: strategy}
    check : callable, optional
        ``check(result, **arguments)``: what else must hold of a result.
    call : callable, optional
        ``call(target, folder, **arguments)``; default: ``target(**arguments)``.
    passes_on : bool
        Numbers that are not finite may come out where such or very large ones go in, as from torch's own functions.
    examples : int
    """

    arguments: dict
    check: object = None
    call: object = None
    passes_on: bool = False
    examples: int = 25
    always_refused: bool = False


def case(check=None, call=None, passes_on=False, examples=25, always_refused=False, **arguments):
    return Case(arguments, check, call, passes_on, examples, always_refused)


def unpacked(**outer):
    """Call with the argument `changes` spread out, as ``target(**changes)``."""
    def call(target, folder, changes, **arguments):
        return target(**{**arguments, **outer, **changes})
    return call


def in_folder(name, *fixed):
    """Call with a path in a fresh folder: argument `name`, from the file's name; `content` is written there first, if given."""
    def call(target, folder, content=None, **arguments):
        if content is not None:
            (folder / "file").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
            arguments[name] = folder / "file"
        else:
            arguments[name] = folder / arguments[name]
        return target(**arguments)
    return call


# Small devices and networks to call with.

class Toy(PhysicalSystem):
    """Three data controls, two parameters, four readings; or as many samples out as in, and no parameters."""

    def __init__(self, sizes=(3, 2, 4)):
        super().__init__()
        self.input_dim, self.param_dim, self.output_dim = sizes

    def respond(self, x, theta):
        both = np.concatenate([x, theta], 1)
        return np.tanh(np.stack([np.roll(both, k, 1)[:, 0] + k * both.sum(1) for k in range(self.output_dim)], 1)) + 1e-3 * self._noise.random((len(x), 1))


def toy_model(x, theta, outputs=4):
    both = torch.cat([x, theta.expand(len(x), -1)], 1)
    return torch.tanh(torch.stack([both.roll(k, 1)[:, 0] + k * both.sum(1) for k in range(outputs)], 1))


def generator():
    return torch.Generator().manual_seed(0)


def halves(images):
    if images.shape[1:] != (12,):
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (rows, 12)")
    return images.view(len(images), 2, 6)


WAVE = (12, 0, 12)
RINGING = dict(zip(NAMES, (1.0, 0.1, 0.01, 0.5, 1.0, 0.1, 0.5, 0.6, 0.1, 1.0, 0.0, 1.0, 0.0), strict=True))
MARKS = "<!-- {0}:start --><!-- {0}:end -->"
README = [MARKS.format("results"), MARKS.format("results") + MARKS.format("imperfections"), "<!-- results:end --><!-- results:start -->"]
IDX = b"\x00\x00\x08\x02" + struct.pack(">2I", 2, 3) + bytes(6)
NETWORKS = {
    "hybrid": lambda: HybridNetwork([Toy(), Toy()], [toy_model, toy_model], 5, 2, generator()),
    "mlp": lambda: MLP([5, 4, 2], generator()),
    "spectral": lambda: SpectralNetwork(Toy((6, 2, 6)), partial(toy_model, outputs=6), 5, 2, 2, generator()),
    "waveform": lambda: WaveformNetwork(Toy((5, 0, 5)), lambda x, theta: torch.tanh(x), 2, 2, generator()),
    "oscillators": lambda: OscillatorNetwork([Oscillators(n_oscillators=6), Oscillators(n_oscillators=14, n_read=2)],
                                             [OscillatorModel(6), OscillatorModel(14, 2)], halves, generator())}
DEVICES = st.sampled_from([(3, 2, 4), WAVE]).map(Toy)


def method(name, make):
    """Call the method of an object made for the purpose, whose own docstring counts."""
    def call(target, folder, **arguments):
        return getattr(make(), name)(**arguments)
    return call


def shaped(*names):
    """A result with as many rows as each of these arguments has."""
    def check(result, **arguments):
        for name in names:
            assert len(result) == len(arguments[name])
    return check


def same_shape(name):
    def check(result, **arguments):
        assert result.shape == arguments[name].shape
    return check


def make_and_read(target, folder, x, theta, changes, **settings):
    """Construct a device, then one call; both may raise what they document."""
    device = target(**settings, **changes)
    try:
        y = device(x, theta)
    except documented(PhysicalSystem.__call__):
        return
    assert y.shape == (len(x), device.output_dim) and finite(y)


@st.composite
def metrics_texts(draw):
    good = {"notebook": "00_tour", "profile": "full", "results": draw(RESULTS), "paper": {"pat": draw(st.one_of(st.floats(0, 1), JSON))},
            "baselines": draw(RESULTS),
            "cost": {}, "seeds": [0], "data": {"name": "half-moons", "sha256": ""}}
    if draw(CALM):
        return json.dumps({**good, "results": {"pat": {"accuracy": summary([0.5])}}, "baselines": {}, "paper": {}}).encode()
    spoilt = draw(st.sampled_from([None, None, *good, "skipped", "twin", "gaps", "extra"]))
    if spoilt:
        good[spoilt] = draw(JSON)
    return json.dumps(good, default=str).encode()[: None if draw(st.integers(0, 5)) else draw(st.integers(0, 200))]


def with_metrics(target, folder, old, new, **arguments):
    for name, content in (("old", old), ("new", new)):
        (folder / name).mkdir()
        if content is not None:
            (folder / name / "00_tour.json").write_bytes(content)
    return target(folder / "old", folder / "new")


def write_there(target, folder, **arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "METRICS", folder)
        return target(**arguments)


def enter(target, folder, path, fails):
    try:
        with target(folder / path) as temporary:
            if fails:
                raise OSError(28, "No space left on device")
            if temporary is not None:
                temporary.write_bytes(b"whole")
    except OSError as error:
        assert str(folder) in str(error) or error.filename is None
        raise
    assert not list(folder.glob(".*.part"))


def saved(target, folder, content, device=None, kind=None):
    """Load from a file of `save_tensors`, spoilt or not."""
    (folder / "file").write_bytes(content)
    return target(folder / "file", **({} if device is None else {"device": device, "kind": kind}))


def tensors_file(about):
    folder = Path(tempfile.mkdtemp())
    save_tensors(folder / "file", {"a": torch.ones(3)}, about)
    content = (folder / "file").read_bytes()
    (folder / "file").unlink()
    folder.rmdir()
    return content


def twin_file():
    folder = Path(tempfile.mkdtemp())
    save_twin(folder / "file.safetensors", Perceptron(3, 2, 4, (5,), generator()), {})
    content = (folder / "file.safetensors").read_bytes()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return content


def notebooks():
    source = st.one_of(st.sampled_from(["n = 3\nm: int = 4", "a, b = 1, 2", "n =", "x.y = 1", "", "%matplotlib inline", "\0", "é = 1"]), TEXT)
    cell = st.builds(lambda text, tags, code: (nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell)(text, metadata={"tags": tags}),
                     source, st.sampled_from([[], ["parameters"], ["other"]]), st.booleans())
    return st.lists(cell, max_size=3).map(lambda cells: nbformat.v4.new_notebook(cells=cells))


def read_yaml(target, folder, content, **arguments):
    (folder / "params.yaml").write_text(content, encoding="utf-8", errors="replace")
    return target(**arguments, params=folder / "params.yaml")


def run_sweep(target, folder, content, outcome, **arguments):
    if content is not None:
        (folder / "file").write_bytes(content)
    return target(lambda **point: outcome, path=folder / "file", **arguments)


def train_toy(target, folder, network, **arguments):
    return target(NETWORKS[network](), **arguments)


def dumps(about):
    try:
        return json.dumps(about)
    except (TypeError, ValueError):
        return None


def ringing():
    twin = Ringing(*WAVE, substeps=2)
    twin.constants.copy_(torch.tensor(list(RINGING.values()), dtype=torch.float64))
    return twin


def changed(good):
    """These numbers by name, with one changed, one left out or one added."""
    change = st.tuples(st.sampled_from([*good, "another"]), st.one_of(real(0, 1), st.none()))
    return partly(st.just(good), change.map(lambda change: {name: value for name, value in {**good, change[0]: change[1]}.items() if value is not None}))



def run_physics_aware(target, folder, x, outcome, modelled):
    x = x.requires_grad_() if x.is_floating_point() else x
    y = target(lambda x: outcome, lambda x: modelled)(x)
    if y.requires_grad:
        y.sum().backward()
    return None


def fail_at_random(target, folder, **arguments):
    faulty = target(lambda x, theta: x, **arguments)
    try:
        return faulty(np.ones((2, 3)), np.ones((2, 3)))
    except OSError as error:  # ConnectionError too
        assert "injected failure" in str(error)


def tokens_of(formants, labels, talkers):
    return Tokens(formants, labels, talkers, {"name": "random", "sha256": ""})


@st.composite
def tokens(draw):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    n = draw(st.sampled_from([0, 20, 280, 300]))
    formants = rng.uniform(200, 3000, (n, 12))
    if draw(st.booleans()) and n:
        formants[:, draw(st.integers(0, 11))] = draw(st.sampled_from([500.0, math.nan, math.inf, 0.0]))
    return tokens_of(formants, np.arange(n) % len(CLASSES), np.array([f"w{k:02d}" for k in rng.integers(0, draw(st.sampled_from([1, 40])), n)]))


def check_shapes(task):
    assert task.train_x.shape == (210, 12) and task.test_x.shape == (49, 12)


FUZZ = {
    "augment.random_affine": case(same_shape("images"), images=tensors(None, 16), generator=GENERATORS, degrees=real(0, 90), shift=real(0, 1),
                                  scale=pairs(0.5, 2)),
    "augment.random_flip": case(same_shape("images"), images=tensors(None, 16), generator=GENERATORS, passes_on=True),
    "augment.random_shift": case(same_shape("images"), images=tensors(None, 16), generator=GENERATORS, pixels=whole(0, 3), passes_on=True),
    "data.fetch": case(always_refused=True, name=st.one_of(TEXT, JUNK)),
    "data.path": case(always_refused=True, name=st.one_of(TEXT, JUNK, st.just("vowels")), file=st.one_of(TEXT, JUNK)),
    "files.atomic_path": case(call=enter, path=NAMES_OF_FILES, fails=st.booleans()),
    "files.naming": case(call=enter, path=NAMES_OF_FILES, fails=st.just(True), always_refused=True),
    "files.write_text": case(call=in_folder("path"), path=NAMES_OF_FILES, text=st.text(st.characters(exclude_categories=[]))),
    "files.write_json": case(call=lambda target, folder, path, content: target(folder / path, content), path=NAMES_OF_FILES, content=JSON),
    "files.sha256": case(call=in_folder("path"), path=NAMES_OF_FILES, content=st.one_of(st.none(), st.binary())),
    "images.read_idx": case(call=in_folder("path"), content=st.one_of(spoilt_bytes(IDX), st.binary(max_size=40).map(lambda b: b"\0\0\x08" + b),
                                                                       st.integers(0, 255).map(lambda n: b"\0\0\x08" + bytes([n]) + b"\0\0\0\1" * n + b"\0"))),
    "images.load_images": case(always_refused=True, name=st.one_of(TEXT, JUNK), train=st.booleans()),
    "images.average_pool": case(images=arrays(None, 4, 6, high=255, dtype=np.uint8), factor=whole(1, 6)),
    "metrics.summary": case(values=st.lists(real(-1, 1), max_size=4)),
    "metrics.Cost": case(examples=1),
    "metrics.Cost.read": case(call=method("read", Cost), device_passes=whole(0, 99)),
    "metrics.write_metrics": case(call=write_there, notebook=NAMES_OF_FILES.filter(len), profile=choices("quick", "full"), results=RESULTS,
                                  paper=st.one_of(st.none(), JSON), extra=JSON),
    "metrics.read_metrics": case(call=in_folder("path"), content=metrics_texts()),
    "metrics.compare": case(call=with_metrics, old=st.one_of(st.none(), metrics_texts()), new=st.one_of(st.none(), metrics_texts())),
    "metrics.print_comparison": case(rows=st.lists(st.tuples(TEXT, TEXT, st.floats(), st.one_of(st.none(), st.floats()), st.floats(),
                                                             st.sampled_from(["reproduced", "DIFFERS", "not compared: no"])), max_size=3)),
    "readme.results_table": case(call=lambda target, folder, content: (folder / "a.json").write_bytes(content) and target(folder), content=metrics_texts()),
    "readme.update_readme": case(call=in_folder("readme"), check=None, content=st.one_of(TEXT, st.sampled_from(README)), examples=8),
    "plotting.percent": case(value=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(summary), digits=whole(0, 5)),
    "run.declared_parameters": case(notebook=notebooks()),
    "run.normalise": case(notebook=notebooks()),
    "run.read_parameters": case(call=read_yaml, name=st.one_of(st.just("a"), TEXT), declared=st.just(["n", "m"]), content=st.one_of(
        TEXT, st.sampled_from(["a:\n  n: 1", "a: 3", "a: [1]", "- a", "a: {o: 1}", "a: {1: 2}", "a:", "a: {", "3", "a: &x [*x]", "{a: {n: 1}, a: 2}"]))),
    "sources.sources": case(name=choices("mnist", "fashion_mnist", "vowels"), files=st.lists(TEXT, max_size=2)),
    "sweeps.grid": case(call=unpacked(), changes=st.dictionaries(st.sampled_from("abc"), st.one_of(st.lists(st.integers(0, 9), max_size=2), JUNK))),
    "sweeps.results_file": case(call=unpacked(), notebook=st.one_of(st.just("00_tour"), NAMES_OF_FILES), changes=st.dictionaries(st.sampled_from("abc"), JSON)),
    "sweeps.sweep": case(call=run_sweep, points=st.lists(st.dictionaries(st.sampled_from("ab"), JSON), max_size=3), scheduler=choices("serial"),
                         attempts=whole(1, 2), outcome=JSON, content=st.one_of(st.none(), spoilt_bytes(b'{"point": {"a": 1}, "result": {"b": 2}}\n'),
                                                                               PLAIN_JSON.map(lambda row: json.dumps(row).encode() + b"\n"))),
    "weights.save_tensors": case(call=in_folder("path"), path=NAMES_OF_FILES, tensors=st.dictionaries(TEXT, tensors(None, 2), max_size=2), about=JSON),
    "weights.load_tensors": case(call=saved, content=spoilt_bytes(tensors_file({"a": 1}))),
    "vowels.vowel_task": case(lambda task, **arguments: arguments["talker_disjoint"] or check_shapes(task), seed=SEEDS, talker_disjoint=st.booleans(),
                              tokens=tokens(),
                              examples=25),
    "training.accuracy": case(call=train_toy, network=st.just("mlp"), x=tensors(4, 5), y=tensors(4, high=3, dtype=np.int64)),
    "training.accuracy_on_device": case(call=train_toy, network=st.sampled_from(["spectral", "hybrid"]), x=tensors(4, 5), y=tensors(4, high=3, dtype=np.int64)),
    "training.train": case(call=train_toy, network=st.just("mlp"), x=tensors(6, 5), y=partly(LABELS, tensors(6, high=3, dtype=np.int64)), epochs=whole(1, 3),
                           learning_rate=real(0, 1),
                           batch_size=whole(1, 6), checkpoint_every=whole(1, 2), warmup=real(0, 1), late_epochs=whole(0, 2)),
    "training.write_history": case(call=in_folder("path"), path=NAMES_OF_FILES, history=st.lists(st.dictionaries(st.sampled_from("ab"), JSON, max_size=2),
                                                                                                 max_size=3)),
    # The contract of the devices, then each device with changed numbers.
    "systems.base.PhysicalSystem": case(call=lambda target, folder, noise_seed: target(noise_seed), noise_seed=SEEDS),
    "systems.base.PhysicalSystem.__call__": case(shaped("x"), call=method("__call__", Toy),
                                                 x=arrays(3, 3), theta=st.one_of(arrays(2), arrays(3, 2))),
    "systems.base.check_whole": case(low=st.integers(0, 3), high=st.integers(3, 5), name=whole(0, 6)),
    "systems.base.check_number": case(low=st.integers(0, 3), high=st.integers(3, 5), name=real(0, 6)),
    "systems.base.parameter": case(default=real(0, 1), unit=TEXT, source=TEXT, ideal=real(0, 1), allowed=st.just((0, 1))),
    "systems.base.make_parameters": case(call=unpacked(), table=st.just(SHGParameters), ideal=st.booleans(), changes=changes(SHGParameters)),
    "systems.base.parameter_table": case(parameters=st.one_of(*map(parameters, (SHGParameters, PlateParameters, CircuitParameters, OscillatorParameters)))),
    "systems.circuit.CircuitParameters": case(call=unpacked(), changes=st.just({})),
    "systems.circuit.Circuit": case(call=make_and_read, seed=SEEDS, noise_seed=SEEDS, ideal=st.booleans(), substeps=whole(1, 3),
                                    changes=changes(CircuitParameters),
                                    x=arrays(2, 196, low=-4, high=4), theta=arrays(0)),
    "systems.circuit.manufactured": case(p=parameters(CircuitParameters), rng=RNGS),
    "systems.faults.Faulty": case(call=fail_at_random,
                                  output_dim=whole(1, 3), seed=SEEDS, hang_s=real(0, 0.001), full_scale=real(0, 1), rates=st.dictionaries(
                                      st.one_of(st.sampled_from(["hang", "error", "clipped", "wrong_shape"]), TEXT), real(0, 0.5), max_size=3)),
    "systems.free_plate.free_plate_modes": case(lambda modes, **arguments: modes.shapes(0.5, np.zeros(3)), n_modes=whole(1, 10), poisson=real(-1, 0.5),
                                                aspect=real(0.01, 10), degree=whole(2, 8)),
    "systems.instrument.Instrument": case(
        call=lambda target, folder, x, theta, **settings: target(lambda x, theta: x * theta, **settings)(x, theta), input_dim=TWO,
        param_dim=TWO, output_dim=TWO, input_range=pairs(0, 1), param_range=pairs(0, 1), pass_time=real(0, 1), rows_per_call=whole(1, 3),
        interval=real(0, 0.001), warm_up=whole(0, 2), attempts=whole(1, 3), timeout=real(0.5, 1), first_wait=real(0, 0.001), limits=pairs(-9, 9),
        x=arrays(2, 2), theta=arrays(2, 2)),
    "systems.netlist.netlist": case(p=parameters(CircuitParameters), drive=arrays(None, low=-4, high=4), reltol=real(1e-9, 1e-2), results=st.just("a.txt")),
    "systems.netlist.run_ngspice": case(p=parameters(CircuitParameters), drive=arrays(3, low=-4, high=4), reltol=real(1e-9, 1e-2), examples=5),
    "systems.netlist.ngspice_version": case(examples=1),
    "systems.oscillator_numerics.Tableau": case(a=partly(st.just([[], [0.5]]), st.lists(st.lists(st.floats(-1, 1), max_size=4), max_size=3)),
                                                b=partly(st.just([0.2, 0.3]), st.lists(st.floats(-1, 1), max_size=3)),
                                                v=partly(st.just([0.5, 0.5]), st.lists(st.floats(-1, 1), max_size=3))),
    "systems.oscillator_numerics.stoermer": case(steps=whole(2, 9), differences=whole(0, 8)),
    "systems.oscillator_numerics.n_couplings": case(n_oscillators=whole(0, 9)),
    "systems.oscillator_numerics.force_matrix": case(couplings=arrays(6), n_oscillators=whole(4, 4), passes_on=True),
    "systems.oscillators.OscillatorParameters": case(call=unpacked(), changes=st.just({})),
    "systems.oscillators.Oscillators": case(call=make_and_read, seed=SEEDS, noise_seed=SEEDS, ideal=st.booleans(), n_oscillators=whole(2, 4),
                                            n_read=whole(1, 4),
                                            changes=changes(OscillatorParameters), x=arrays(2, 3, low=-20, high=20),
                                            theta=st.one_of(arrays(6, low=-10, high=10), arrays(2, 6, low=-10, high=10))),
    "systems.plate.PlateParameters": case(call=unpacked(), changes=st.just({})),
    "systems.plate.Plate": case(call=make_and_read, seed=SEEDS, noise_seed=SEEDS, ideal=st.booleans(), samples=whole(5, 5), steps_per_sample=whole(1, 3),
                                changes=changes(PlateParameters), x=arrays(2, 5, low=-1), theta=arrays(0)),
    "systems.plate_equations.state_space": case(p=parameters(PlateParameters), seed=SEEDS, examples=25),
    "systems.shg.SHGParameters": case(call=unpacked(), changes=st.just({})),
    "systems.shg.SHG": case(call=make_and_read, seed=SEEDS, noise_seed=SEEDS, ideal=st.booleans(), points_per_channel=whole(1, 3),
                            changes=changes(SHGParameters),
                            x=arrays(2, 50), theta=st.one_of(arrays(50), arrays(2, 50))),
    "systems.shg.laser_field": case(same_shape("frequency"), frequency=arrays(None, low=-1e13, high=1e13, dtype=np.float64), duration=real(1e-14, 1e-12),
                                    passes_on=True),
    "systems.shg.crosstalk_matrix": case(n_channels=whole(1, 9), spot=real(0, 10)),
    "systems.shg.refractive_indices": case(wavelength=st.one_of(st.floats(), arrays(None, low=3e-7, high=2e-6, dtype=np.float64))),
    "systems.shg.phase_matching_angle": case(wavelength=real(4e-7, 1.2e-6)),
    "systems.shg.wave_vectors": case(call=lambda target, folder, wavelength, omega: [k(omega) for k in target(wavelength)], wavelength=real(4e-7, 1.2e-6),
                                     omega=st.floats(2e15, 3e15)),
    "systems.shg.phase_matching": case(frequency=arrays(None, low=-1e13, high=1e13, dtype=np.float64), wavelength=real(4e-7, 1.2e-6),
                                       crystal_length=real(1e-6, 1e-2), passes_on=True),
    "systems.transient.simulate": case(same_shape("drive"), p=parameters(CircuitParameters), drive=arrays(3, 5, low=-4, high=4), substeps=whole(1, 3),
                                       delay=st.one_of(st.none(), arrays(3, 5, low=-1e-6, high=1e-6)), passes_on=True),
    # Models of devices.
    "twins.causal.CausalNetwork": case(input_dim=whole(1, 12), param_dim=whole(0, 1), output_dim=whole(1, 12), channels=whole(1, 3),
                                       dilations=st.lists(whole(1, 3), max_size=2), generator=GENERATORS),
    "twins.causal.CausalNetwork.forward": case(same_shape("x"), method("forward", lambda: CausalNetwork(*WAVE, 2, (1, 2), generator())),
                                               x=tensors(None, 12), theta=tensors(4, 0), passes_on=True),
    "twins.convolution.Convolution": case(input_dim=whole(1, 12), param_dim=whole(0, 1), output_dim=whole(1, 12)),
    "twins.convolution.Convolution.forward": case(same_shape("x"), method("forward", lambda: Convolution(*WAVE)), x=tensors(None, 12), theta=tensors(4, 0),
                                                  passes_on=True),
    "twins.fit.random_controls": case(device=DEVICES, n=whole(0, 4), rng=RNGS),
    "twins.fit.noise_variance": case(device=DEVICES, x=arrays(4, 3), theta=arrays(4, 2), repeats=whole(2, 3)),
    "twins.fit.r_squared": case(predicted=arrays(4, 3), measured=arrays(4, 3)),
    "twins.fit.fit_twin": case(device=DEVICES, x=arrays(9, 3), theta=arrays(9, 2), y=arrays(9, 4), hidden=st.lists(whole(1, 3), max_size=2), epochs=whole(1, 3),
                               batch_size=whole(1, 9), learning_rate=real(0, 0.1), patience=whole(1, 3), validation_fraction=real(0, 1),
                               generator=st.one_of(st.none(), GENERATORS), refit=st.booleans()),
    "twins.fit.judge_twin": case(device=st.just(Toy()), twin=st.just(Perceptron(3, 2, 4, (5,), generator())), x=arrays(4, 3), theta=arrays(4, 2),
                                 repeats=whole(2, 3)),
    "twins.fit.save_twin": case(call=in_folder("path"), path=NAMES_OF_FILES, twin=st.just(Perceptron(3, 2, 4, (5,), generator())), made=JSON),
    "twins.fit.load_twin": case(call=saved, content=st.one_of(spoilt_bytes(twin_file()), JSON.filter(dumps).map(tensors_file)), device=DEVICES,
                                kind=st.sampled_from([Perceptron, Convolution])),
    "twins.gradients.gradient_quality": case(device=st.just(Toy()), model=st.just(toy_model), x=arrays(12, 3), theta=arrays(12, 2), rng=RNGS,
                                             step=real(0, 0.5)),
    "twins.oscillators.OscillatorModel": case(
        call=lambda target, folder, x, theta, **settings: target(**settings)(x, theta), n_oscillators=whole(3, 3), n_read=st.one_of(st.none(), whole(1, 3)),
        duration=real(0, 1), x=tensors(None, 3), theta=tensors(6), passes_on=True),
    "twins.oscillators.release": case(angles=tensors(2, 3), couplings=st.one_of(tensors(3), tensors(3, 3)), drives=st.one_of(tensors(3), tensors(2, 3)),
                                      duration=real(0, 1), n_read=st.one_of(st.none(), whole(1, 3)), passes_on=True),
    "twins.oscillators.pack": case(matrix=tensors(3, 3), passes_on=True),
    "twins.oscillators.motion": case(angles=tensors(2, 3), couplings=st.one_of(tensors(3), tensors(3, 3)), drives=st.one_of(tensors(3), tensors(2, 3)),
                                     times=st.lists(real(0, 1), max_size=3), passes_on=True),
    "twins.oscillators.force_matrix": case(couplings=tensors(6), size=whole(4, 4), passes_on=True),
    "twins.perceptron.Perceptron": case(input_dim=whole(1, 3), param_dim=whole(0, 3), output_dim=whole(1, 3), hidden=st.lists(whole(1, 3), max_size=2),
                                        generator=GENERATORS),
    "twins.perceptron.Perceptron.forward": case(shaped("x"), method("forward", lambda: Perceptron(3, 2, 4, (5,), generator())), x=tensors(4, 3),
                                                theta=tensors(4, 2),
                                                passes_on=True),
    "twins.ringing.Ringing": case(input_dim=whole(1, 12), param_dim=whole(0, 1), output_dim=whole(1, 12), substeps=whole(1, 3)),
    "twins.ringing.Ringing.forward": case(same_shape("x"), method("forward", ringing), x=tensors(None, 12), theta=st.none(), passes_on=True),
    "twins.ringing.fit_ringing": case(device=st.just(Toy(WAVE)), x=arrays(4, 12), theta=arrays(4, 0), y=arrays(4, 12), substeps=whole(1, 2), rows=whole(1, 4),
                                      start=changed(RINGING), examples=8),
    "twins.spectral_exact.ExactSHG": case(call=lambda target, folder, x, theta: target(SHG())(x, theta), x=tensors(2, 50),
                                          theta=st.one_of(tensors(50), tensors(2, 50)),
                                          passes_on=True, examples=25),
    # Networks and what they are made of.
    "pat.physics_aware": case(call=run_physics_aware, x=tensors(None, 3), outcome=st.one_of(arrays(None, 3), JSON), modelled=st.one_of(tensors(None, 3), JSON)),
    "pat.check_rows": case(name=TEXT, value=tensors(2, 3), width=st.just(3), dtype=st.sampled_from([None, torch.float32]), passes_on=True),
    "pat.PhysicalLayer": case(theta=tensors(2), mode=choices("pat", "in_silico", "device"), shared=st.booleans(), device=st.one_of(st.just(Toy()), JUNK),
                              model=st.one_of(st.just(toy_model), JUNK), passes_on=True),
    "pat.PhysicalLayer.forward": case(shaped("x"), method("forward", lambda: PhysicalLayer(Toy(), toy_model, torch.full((2,), 0.5))), x=tensors(None, 3)),
    "networks.mlp.MLP": case(sizes=st.lists(whole(1, 4), max_size=3), generator=GENERATORS),
    "networks.mlp.MLP.forward": case(shaped("x"), method("forward", NETWORKS["mlp"]), x=tensors(None, 5), passes_on=True),
    "networks.hybrid.HybridNetwork": case(
        devices=partly(st.just([Toy()]), st.lists(st.just(Toy()), max_size=2)),
        twins=partly(st.just([toy_model]), st.lists(st.just(toy_model), max_size=2)), n_inputs=whole(1, 4), n_classes=whole(1, 4),
        generator=GENERATORS,
        bound=choices("clip", "largest", "sigmoid"), readout=choices("linear", "parts"), mode=choices("pat", "in_silico", "device")),
    "networks.hybrid.HybridNetwork.forward": case(shaped("images"), method("forward", NETWORKS["hybrid"]), images=tensors(None, 5)),
    "networks.oscillators.every_second_pixel": case(shaped("images"), images=tensors(2, 784), passes_on=True),
    "networks.oscillators.tiles": case(shaped("images"), images=tensors(2, 784), passes_on=True),
    "networks.oscillators.OscillatorNetwork": case(
        devices=partly(st.just([Oscillators(n_oscillators=3)] * 2), st.lists(st.just(Oscillators(n_oscillators=5)), max_size=3)),
        models=partly(st.just([OscillatorModel(3)] * 2), st.lists(st.just(OscillatorModel(3)), max_size=3)), arrange=st.just(halves),
        generator=GENERATORS, mode=choices("pat", "in_silico", "device"), bound=real(0, 1), factor=real(0, 2)),
    "networks.oscillators.OscillatorNetwork.forward": case(shaped("images"), method("forward", NETWORKS["oscillators"]), images=tensors(None, 12)),
    "networks.oscillators.split": case(theta=tensors(6), size=whole(3, 3), passes_on=True),
    "networks.spectral.SpectralNetwork": case(device=st.just(Toy((4, 2, 4))), twin=st.just(toy_model), n_features=whole(1, 4), n_classes=whole(1, 4),
                                              n_layers=whole(1, 2), generator=GENERATORS, skip=st.booleans(), mode=choices("pat", "in_silico", "device")),
    "networks.spectral.SpectralNetwork.forward": case(shaped("features"), method("forward", NETWORKS["spectral"]), features=tensors(None, 5)),
    "networks.spectral.signal_like_controls": case(device=st.just(Toy((4, 2, 4))), n=whole(1, 4), depth=whole(1, 3), rng=RNGS),
    "networks.waveform.WaveformNetwork": case(device=st.just(Toy((5, 0, 5))), twin=st.just(toy_model), n_classes=whole(1, 5), n_layers=whole(1, 2),
                                              generator=GENERATORS, readout=choices("mean", "power"), shuffle=st.booleans(), skip=st.booleans(),
                                              mode=choices("pat", "in_silico", "device")),
    "networks.waveform.WaveformNetwork.forward": case(shaped("images"), method("forward", NETWORKS["waveform"]), images=tensors(None, 5)),
    "networks.waveform.waveform_like_controls": case(device=st.just(Toy((5, 0, 5))), images=arrays(3, 5), depth=whole(1, 3), rng=RNGS),
}


def public_names():
    """Every function and class that a module of the package defines, its name without a leading underscore."""
    for module in pkgutil.walk_packages(pnn_utils.__path__, "pnn_utils."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            where = module.name.removeprefix("pnn_utils.")
            if callable(thing) and not name.startswith("_") and getattr(thing, "__module__", None) == module.name and where not in EXEMPT_MODULES:
                yield f"{where}.{name}"


def found(name):
    """Return the function, class or method of this name."""
    module, _, rest = name.rpartition(".")
    try:
        return getattr(importlib.import_module(f"pnn_utils.{module}"), rest)
    except ModuleNotFoundError:  # a method
        return getattr(found(module), rest)


def test_every_public_function_and_class_is_fuzzed_or_exempt():
    names = set(public_names())
    assert sorted(names - set(FUZZ) - set(EXEMPT)) == []  # new: give it a line in FUZZ, or in EXEMPT with a reason
    assert sorted(set(EXEMPT) - names) == [] and sorted(set(EXEMPT) & set(FUZZ)) == []  # gone, or fuzzed after all
    for name in FUZZ:
        assert callable(found(name))


@pytest.mark.parametrize("name", FUZZ)
def test_only_documented_errors_come_out(name):
    line, target = FUZZ[name], found(name)
    allowed, answers = documented(target), []

    @settings(max_examples=line.examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries(line.arguments))
    def fuzz(arguments):
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of overflow: what counts is what comes out
            try:
                result = line.call(target, Path(folder), **arguments) if line.call else target(**arguments)
            except allowed as error:
                assert str(error), f"{type(error).__name__} without a word"
                return
            answers.append(result is not None)
            assert finite(result) or line.passes_on and not tame(list(arguments.values()))
            if line.check and result is not None:
                line.check(result, **arguments)

    fuzz()
    assert answers or line.always_refused, "every call was refused: that tests little"
