"""Vowel splits and image files."""

import struct

import numpy as np
import pytest
import torch
from cells import defined

from pnn_utils.datasets.images import average_pool, load_images, random_affine, read_idx
from pnn_utils.datasets.vowels import Tokens, load_tokens, vowel_task

random_flip, random_shift = defined("08_oscillators_fashion_mnist", "random_flip", "random_shift")
whole_talkers, published = defined("02_shg_vowels", "whole_talkers", "published")
SPLITS = {"draws": ("draws", None), "talkers": ("draws", whole_talkers),
          "authors": ("authors", None), "published": ("authors", published)}


def split_by(name, seed, tokens):
    which, divide = SPLITS[name]
    return vowel_task(seed, which, tokens, divide)


@pytest.fixture(scope="module")
def tokens():
    try:
        return load_tokens()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seed", range(3))
def test_stratified_split_has_the_papers_sizes(tokens, seed):
    task = vowel_task(seed, tokens=tokens)
    assert np.bincount(task.train_y).tolist() == [30] * 7
    assert np.bincount(task.test_y).tolist() == [7] * 7
    assert task.train_x.min() == 0 and task.train_x.max() == 1 and np.ptp(task.test_x) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_talker_disjoint_split_shares_no_talker(tokens, seed):
    task = split_by("talkers", seed, tokens)
    assert not {*tokens.talker[task.train_index]} & {*tokens.talker[task.test_index]}
    assert (len(task.train_y), len(task.test_y)) == (210, 49)
    assert set(task.test_y) == set(task.train_y) == set(range(7))


def test_the_authors_tokens_are_259_and_their_split_is_210_to_49(tokens):
    if "fallback" in tokens.source["name"]:
        pytest.skip("the fallback table lacks the authors' tokens")
    theirs, one, other = (split_by(split, seed, tokens) for seed, split in
                             ((0, "published"), (0, "authors"), (1, "authors")))
    rows = [{*task.train_index, *task.test_index} for task in (theirs, one, other)]
    assert rows[0] == rows[1] == rows[2] and len(rows[0]) == 259
    assert len(theirs.train_y) == 210 and len(theirs.test_y) == 49
    assert {*one.test_index} != {*other.test_index}
    assert np.bincount(tokens.label[[*rows[0]]]).tolist() == [37] * 7


def test_tokens_that_nobody_chose_are_refused(tokens):
    with pytest.raises(ValueError, match="which is 'author'; expected one of 'draws', 'authors'"):
        vowel_task(0, "author", tokens)


def test_authors_tokens_are_refused_where_the_table_lacks_them():
    formants = np.random.default_rng(0).uniform(1, 2, (259, 12))
    others = Tokens(formants, np.repeat(np.arange(7), 37), np.array(["w99"] * 259), {"name": "z"})
    with pytest.raises(ValueError, match="authors' tokens are not among those of z"):
        vowel_task(0, "authors", others)


def test_split_is_fixed_by_its_seed(tokens):
    a, b, c = (vowel_task(seed, tokens=tokens) for seed in (4, 4, 5))
    assert np.array_equal(a.train_x, b.train_x) and not np.array_equal(a.train_x, c.train_x)


def test_tokens_are_women_with_every_formant(tokens):
    if "fallback" in tokens.source["name"]:
        pytest.skip("the fallback table has other talkers")
    assert all(talker.startswith("w") for talker in tokens.talker)
    assert (tokens.formants > 0).all()
    assert np.bincount(tokens.label).min() == 37


def test_idx_reader(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(range(24)))
    assert np.array_equal(read_idx(path), np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_the_tokens_they_say_scaled_by_training_alone(tokens, split):
    if "fallback" in tokens.source["name"] and split in ("authors", "published"):
        pytest.skip("the fallback table lacks the authors' tokens")
    task = split_by(split, 3, tokens)
    index = np.concatenate([task.train_index, task.test_index])
    assert len(np.unique(index)) == 259
    assert np.array_equal(tokens.label[index], np.concatenate([task.train_y, task.test_y]))
    low, high = tokens.formants[task.train_index].min(0), tokens.formants[task.train_index].max(0)
    for x, rows in ((task.train_x, task.train_index), (task.test_x, task.test_index)):
        assert x.dtype == np.float32 and np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1
        inside = ((tokens.formants[rows] >= low) & (tokens.formants[rows] <= high))
        back = low + x * (high - low)
        assert np.abs(back - tokens.formants[rows])[inside].max() < 0.01  # Hz


def test_one_talker_cannot_stand_on_both_sides():
    formants = np.random.default_rng(0).uniform(1, 2, (259, 12))
    alone = Tokens(formants, np.repeat(np.arange(7), 37), np.array(["w01"] * 259), {})
    with pytest.raises(ValueError, match="1 talkers"):
        split_by("talkers", 0, alone)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize(("train", "count"), [(True, 60_000), (False, 10_000)])
def test_image_set_is_whole_and_balanced_as_published(name, train, count):
    try:
        images, labels = load_images(name, train)
    except FileNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    assert images.shape == (count, 28, 28) and images.dtype == np.uint8 and images.flags.writeable
    assert labels.shape == (count,) and labels.dtype == np.int64
    if name == "fashion_mnist":
        assert np.bincount(labels).tolist() == [count // 10] * 10
    else:  # counts of the ten digits in the published sets
        assert np.bincount(labels)[[0, 1]].tolist() == ([5923, 6742] if train else [980, 1135])


def test_unknown_image_set_is_refused():
    with pytest.raises(ValueError, match="data set is 'cifar'; expected one of .*'fashion_mnist'"):
        load_images("cifar")
    with pytest.raises(ValueError, match="file of data set 'vowels' is 'train-images"):
        load_images("vowels")


def test_pooling_averages_blocks():
    images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert np.allclose(255 * average_pool(images, 2), [[2.5, 4.5, 10.5, 12.5]])


@pytest.fixture
def square():
    images = torch.zeros(200, 8, 8)
    images[:, 3, 1] = 1  # one bright pixel, left of the middle
    return images.reshape(200, -1)


def test_half_of_the_images_are_mirrored(square):
    flipped = random_flip(square, torch.Generator().manual_seed(0)).view(-1, 8, 8)
    assert set(torch.nonzero(flipped)[:, 2].tolist()) == {1, 6}
    assert 60 < flipped[:, 3, 6].sum() < 140


def test_shifts_are_whole_pixels_either_way(square):
    moved = random_shift(square, torch.Generator().manual_seed(0)).view(-1, 8, 8)
    assert {tuple(place) for place in torch.nonzero(moved)[:, 1:].tolist()} == {
        (row, column) for row in (2, 3, 4) for column in (0, 1, 2)}


def test_affine_change_of_nothing_changes_nothing(square):
    generator = torch.Generator().manual_seed(0)
    same = random_affine(square, generator, degrees=0.0, shift=0.0, scale=(1.0, 1.0))
    assert torch.allclose(same, square, atol=1e-5)
    assert not torch.allclose(random_affine(square, generator), square, atol=0.1)
