"""What comes to the doors of tests/test_fuzz.py: as it should be in half of the calls, or not."""

import json
import math
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

import pnn_utils
from pnn_utils import files
from pnn_utils.systems.base import PhysicalSystem, parameter_table

PACKAGE = Path(pnn_utils.__file__).parent
TABLES = {path.parent.name: path for path in PACKAGE.glob("systems/*/parameters.csv")}

CALM = st.shared(st.booleans(), key="calm")  # one draw a call: all is as it should be
JSON = st.sampled_from([None, True, -1, 0, 2, 1e300, "a", [], [1, "a"], {}, {"a": [1]}])
JUNK = JSON | st.sampled_from([1j, 2.5, math.nan, math.inf, b"", np.int64(2), object()])
SEEDS = st.integers(0, 2**70)


def partly(good, other):
    return CALM.flatmap(lambda calm: good if calm else good | other)


def whole(low, high):
    return partly(st.integers(low, high), st.sampled_from([low - 1, -7]) | JUNK)


def real(low, high):
    odd = st.sampled_from([low, high, -1e300, 1e-300, 10**400, -math.inf])
    return partly(st.floats((low + high) / 2, high), odd | JUNK)


def one_of(*known):
    return partly(st.sampled_from(known), JUNK)


def pair(low, high):
    return partly(st.just((low, high)), st.tuples(real(low, high), real(low, high)) | JUNK)


@st.composite
def arrays(draw, *shape, low=0.0, high=1.0, tensor=False, ways=("shape", "dtype", "value")):
    """Numbers from low to high, perhaps spoilt in their shape, dtype or values."""
    way = None if draw(CALM) else draw(st.sampled_from([None, *ways]))
    if way == "shape":
        shape = draw(st.sampled_from([
            (), shape[:-1], (*shape, 2), (1, *shape), (0, *shape[1:]), shape[::-1],
            tuple(n + 1 for n in shape), tuple(max(n - 1, 0) for n in shape)]))
    shares = np.random.default_rng(draw(st.integers(0, 99))).random(shape)
    values = np.asarray(low + (high - low) * shares, np.float32)
    if way == "value" and values.size:
        odd = [low, high, 2 * high + 1, -1e30, 1e30, np.nan, np.inf, -np.inf]
        values.flat[draw(st.integers(0, values.size - 1)):] = draw(st.sampled_from(odd))
    if way == "dtype":
        kinds = [np.float16, np.float64, np.int64, np.uint8, bool, np.complex64]
        kinds += [] if tensor else [object, "U3", "S3", np.longdouble, ">f4"]
        values = values.astype(draw(st.sampled_from(kinds)))
    return torch.from_numpy(values) if tensor else values


@st.composite
def controls(draw, width):
    """A range, one pair or a pair a control, some of width zero, and controls in it or not."""
    ends = st.sampled_from([(-2.0, 1.0), (0.5, 0.5), (0.0, 0.25), (-1.0, -1.0)])
    each = st.lists(ends, min_size=width, max_size=width).map(np.transpose).map(tuple)
    (low, high), shares = draw(ends | each), draw(arrays(3, width))
    if shares.shape[-1:] == (width,) and shares.dtype in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            shares = (low + np.subtract(high, low) * shares).astype(shares.dtype)
    return (low, high), shares


@st.composite
def changes(draw, system):
    """Some numbers of a device's table changed: mostly within what is allowed, ends included."""
    found = {}
    for row in draw(st.lists(st.sampled_from(parameter_table(TABLES[system])), max_size=3)):
        high = min(row.high, sys.float_info.max)
        inside = st.sampled_from([row.low, high, row.value, (row.low + min(high, 1e3)) / 2])
        if isinstance(row.value, int):
            inside = st.integers(int(row.low), int(min(high, 20)))
        odd = st.sampled_from([row.low - 1, 10**400, Fraction(1, 3)]) | JUNK
        found[row.name] = draw(inside | inside | odd)
    return {} if draw(CALM) else found | draw(st.sampled_from([{}, {}, {"nonsense": 1.0}]))


@st.composite
def spoilt(draw, good):
    """A file's content: good, or cut, or with a byte changed or added, or anything else."""
    at, byte = draw(st.integers(0, len(good) - 1)), draw(st.binary(min_size=1, max_size=1))
    damaged = [good[:at], good[:at] + byte + good[at + 1:], good[:at] + byte + good[at:]]
    return draw(partly(st.just(good), st.sampled_from(damaged) | st.binary(max_size=40)))


@st.composite
def spoilt_tables(draw, system):
    lines = [line.split(",", 6) for line in TABLES[system].read_text().splitlines()]
    if not draw(CALM):
        odd = ["", "x", "nan", "inf", "-1", "1e400", "1" + "0" * 400, "1" * 5000, "0x1", "\0",
               '"', "1_0", "-", "1e5", "7", "٣", "\n", ",", "\r", ".", lines[1][0]]
        draw(st.sampled_from(lines))[draw(st.integers(0, 6))] = draw(st.sampled_from(odd))
    return draw(spoilt("\n".join(map(",".join, lines)).encode()))


def altered(draw, thing):
    """A thing made of dicts with something in it left out or replaced."""
    if not isinstance(thing, dict) or not thing or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    name = draw(st.sampled_from(sorted(thing)))
    other = {} if draw(st.booleans()) else {name: altered(draw, thing[name])}
    return {key: value for key, value in thing.items() if key != name} | other


@st.composite
def spoilt_json(draw, good):
    return draw(spoilt(json.dumps(good if draw(CALM) else altered(draw, good)).encode()))


@st.composite
def forged(draw, good):
    """A file of tensors, spoilt, or whole but with other contents under a right checksum."""
    tensors, about = at(good, files.load_tensors)
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(tensors)))
        other = draw(st.sampled_from([{}, {name: torch.ones(2)}, {"more": torch.ones(())}]))
        tensors = {key: value for key, value in tensors.items() if key != name} | other
    else:
        about = altered(draw, about)
    other = written(lambda path: files.save_tensors(path, tensors, about))
    return draw(partly(st.just(good), st.just(other) | spoilt(good)))


def written(write):
    """Return what `write(path)` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def at(content, call):
    """Call with the path of a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(content)
        return call(Path(folder) / "file")


class Toy(PhysicalSystem):
    """A device of any dimensions and ranges; `answer` is what it returns instead, if given."""

    def __init__(self, sizes=(3, 2, 4), ranges=((0.0, 1.0), (0.0, 1.0)), answer=None):
        super().__init__()
        self.input_dim, self.param_dim, self.output_dim = sizes
        (self.input_range, self.param_range), self.answer = ranges, answer

    def respond(self, x, theta):
        total = np.concatenate([x, 2 * theta], 1).sum(1, keepdims=True)
        y = np.tanh(total * np.linspace(0.1, 1, self.output_dim, dtype=np.float32))
        return y if self.answer is None else self.answer


def toy_model(outputs):
    return lambda x, theta: torch.tanh(torch.cat([x, 2 * theta], 1).sum(1, keepdim=True)
                                       * torch.linspace(0.1, 1, outputs))


def generator():
    return torch.Generator().manual_seed(0)
