"""Vowel splits and image files."""

import struct

import numpy as np
import pytest

from pnn_utils.images import read_idx
from pnn_utils.vowels import CLASSES, Tokens, load_tokens, vowel_task


@pytest.fixture(scope="module")
def tokens():
    try:
        return load_tokens()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seed", range(3))
def test_stratified_split_has_the_papers_sizes(tokens, seed):
    task = vowel_task(seed, tokens=tokens)
    assert np.bincount(task.train_y).tolist() == [30] * 7 and np.bincount(task.test_y).tolist() == [7] * 7
    assert task.train_x.min() == 0 and task.train_x.max() == 1 and np.ptp(task.test_x) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_talker_disjoint_split_shares_no_talker(tokens, seed):
    task = vowel_task(seed, talker_disjoint=True, tokens=tokens)
    assert not set(task.train_talker) & set(task.test_talker)
    assert 49 <= len(task.test_y) <= 56 and len(task.train_y) + len(task.test_y) == 259
    assert set(task.test_y) == set(range(7))


def test_split_is_fixed_by_its_seed(tokens):
    a, b, c = (vowel_task(seed, tokens=tokens) for seed in (4, 4, 5))
    assert np.array_equal(a.train_x, b.train_x) and not np.array_equal(a.train_x, c.train_x)


def test_tokens_are_women_with_every_formant(tokens):
    if "fallback" in tokens.source["name"]:
        pytest.skip("the fallback table has other talkers")
    assert all(talker.startswith("w") for talker in tokens.talker)
    assert (tokens.formants > 0).all()
    assert np.bincount(tokens.label).min() == 37


def test_too_few_tokens_are_refused():
    few = Tokens(np.ones((70, 12)), np.repeat(np.arange(7), 10), np.array(["w01"] * 70), {})
    with pytest.raises(ValueError, match=f"{CLASSES[0]}.*37"):
        vowel_task(0, tokens=few)


def test_idx_reader(tmp_path):
    path = tmp_path / "images"
    good = b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(range(24))
    path.write_bytes(good)
    assert np.array_equal(read_idx(path), np.arange(24).reshape(2, 3, 4))
    for bad, words in ((good[:-1], "39 bytes; expected 40"), (b"\x1f\x8b" + good, "expected 000008"), (b"", "starts with"), (good[:7], "header")):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=words):
            read_idx(path)
