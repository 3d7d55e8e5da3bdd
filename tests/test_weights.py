"""Weights are whole and unaltered, or refused."""

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pnn_utils.files import ROOT, load_tensors, save_tensors
from pnn_utils.report.run import read_parameters

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1.5, -2.0]).half(),
           "c": torch.tensor(3), "empty": torch.zeros(0, 4)}
ABOUT = {"history": [{"epoch": 0, "loss": 0.1}], "name": "µ"}
LEFT = {"circuit": "05_circuit_mnist", "hybrid": "06_shg_hybrid_mnist",
        "mnist": "07_oscillators_mnist"}


def equal(tensors):
    return all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_tensors(path, TENSORS, ABOUT)
    return path


def test_round_trip(written):
    tensors, about = load_tensors(written)
    assert about == ABOUT and set(tensors) == set(TENSORS)
    assert equal(tensors)
    assert all(tensors[name].dtype == value.dtype for name, value in TENSORS.items())
    first = written.read_bytes()
    save_tensors(written, TENSORS, ABOUT)
    assert written.read_bytes() == first


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_single_flipped_bit_is_refused_or_changes_nothing(written, place, bit):
    content = bytearray(written.read_bytes())
    content[place % len(content)] ^= 1 << bit
    flipped = written.with_name("flipped.safetensors")
    flipped.write_bytes(content)
    try:
        tensors, about = load_tensors(flipped)
    except ValueError as error:
        assert "flipped.safetensors" in str(error)
    else:  # white space between parts of the header, say
        assert about == ABOUT and equal(tensors)


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0))
def test_a_truncated_file_is_refused(written, length):
    content = written.read_bytes()
    short = written.with_name("short.safetensors")
    short.write_bytes(content[: length % len(content)])
    with pytest.raises(ValueError, match="short.safetensors is not a readable"):
        load_tensors(short)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "none")
    safetensors.torch.save_file(TENSORS, tmp_path / "foreign")
    with pytest.raises(ValueError, match="foreign is not a readable"):
        load_tensors(tmp_path / "foreign")


@pytest.mark.parametrize("kind", LEFT)
def test_committed_weights_are_taken_at_the_full_setting(kind):
    """Of other settings they would be trained again, unnoticed."""
    paths = sorted((ROOT / "data" / "weights").glob(f"{kind}_*.safetensors"))
    full = read_parameters(LEFT[kind])
    assert paths
    for path in paths:
        tensors, about = load_tensors(path)
        shared = full.keys() & about["settings"].keys()
        assert {"epochs", "n_train"} & shared
        assert all(about["settings"][name] == full[name] for name in shared)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
        assert path.stat().st_size < 3e6
