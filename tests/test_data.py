"""Fetching: whole and right, or a clear error and nothing left behind."""

import errno
import gzip
import hashlib

import pytest

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.files import atomic_path

CONTENT = b"measured with care\n" * 100
NO_REGISTRY = "echo no registry >&2; exit 1"


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """One small data set, no network: only a local mirror can supply it."""
    monkeypatch.setattr(files, "RAW", tmp_path / "raw")
    digest = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setattr(fetch, "FILES", {"mnist": {"file.bin": digest}, "fashion_mnist": {},
                                         "vowels": {"vowdata.dat": "0" * 64}})
    monkeypatch.setattr(fetch, "SETS", {name: known | {"sources": ()}
                                        for name, known in fetch.SETS.items()})
    monkeypatch.setitem(fetch.SETS["mnist"], "sources", (NO_REGISTRY,))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("PNN_DATA_MIRROR", str(mirror))
    return mirror


def test_file_comes_from_the_mirror_plain_or_packed(sandbox):
    (sandbox / "file.bin.gz").write_bytes(gzip.compress(CONTENT))
    fetch.fetch("mnist")
    assert fetch.path("mnist", "file.bin").read_bytes() == CONTENT


def test_no_source_lists_what_was_tried_and_how_to_help(sandbox):
    with pytest.raises(RuntimeError) as error:
        fetch.fetch("mnist")
    for words in ("PNN_DATA_MIRROR", "exit status 1", "by hand", fetch.FILES["mnist"]["file.bin"]):
        assert words in str(error.value)


@pytest.mark.parametrize(("folder", "named"), [("", "(not set)"), ("/no/where", "/no/where")])
def test_a_mirror_that_is_no_folder_is_named(sandbox, monkeypatch, folder, named):
    monkeypatch.setenv("PNN_DATA_MIRROR", folder)
    with pytest.raises(RuntimeError) as error:
        fetch.fetch("mnist")
    assert f"{named} is not a folder" in str(error.value)


@pytest.mark.parametrize("broken", [CONTENT[:-1], b"altered", b"", gzip.compress(CONTENT)[:-9]],
                         ids=["short", "altered", "empty", "packed"])  # packed, it has a date
def test_partial_or_altered_file_is_never_used(sandbox, broken):
    (sandbox / "file.bin").write_bytes(broken)
    with pytest.raises(RuntimeError, match="no source"):
        fetch.fetch("mnist")
    assert list(files.RAW.rglob("*")) == []


def test_altered_file_in_place_is_reported_and_fetched_again(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    target = fetch.fetch("mnist") / "file.bin"
    target.write_bytes(b"altered")
    with pytest.raises(ValueError, match="expected"):
        fetch.path("mnist", "file.bin")
    fetch.fetch("mnist")
    assert target.read_bytes() == CONTENT


def test_whole_files_ask_no_source(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    target = fetch.fetch("mnist") / "file.bin"
    (sandbox / "file.bin").unlink()
    fetch.fetch("mnist")
    assert target.read_bytes() == CONTENT


def test_missing_file_names_the_command(sandbox):
    with pytest.raises(FileNotFoundError, match="pnn_utils.datasets.fetch mnist"):
        fetch.path("mnist", "file.bin")


def test_command_line_says_whether_a_set_was_had(sandbox, capfd):
    assert fetch.main(["mnist"]) == 1
    said = capfd.readouterr().err  # the command itself, and what it cost
    assert "no registry\nmnist: no source has file.bin" in said
    (sandbox / "file.bin").write_bytes(CONTENT)
    assert fetch.main(["mnist"]) == 0


def test_unknown_set_and_file_are_refused(sandbox):
    with pytest.raises(ValueError, match="data set is 'cifar'; expected one of 'mnist'"):
        fetch.fetch("cifar")
    with pytest.raises(ValueError, match="'mnist' is 'other.bin'; expected one of 'file.bin'"):
        fetch.path("mnist", "other.bin")


def test_vowels_fall_back_to_peterson_and_barney(sandbox, capsys):
    pytest.importorskip("parselmouth")  # not built for every machine
    from pnn_utils.datasets.vowels import load_tokens, vowel_task
    fetch.fetch("vowels")
    assert "FALLBACK" in capsys.readouterr().out
    assert fetch.path("vowels", fetch.FALLBACK).exists()
    task = vowel_task(0)
    assert "fallback" in load_tokens().source["name"]
    assert task.train_x.shape == (210, 12) and task.test_x.shape == (49, 12)


def test_image_sets_of_equal_file_names_are_told_apart_by_their_checksums(sandbox):
    for folder, content in (("fashion_mnist", b"clothes"), ("mnist", CONTENT), ("z", b"others")):
        (sandbox / folder).mkdir()
        (sandbox / folder / "file.bin").write_bytes(content)
    assert (fetch.fetch("mnist") / "file.bin").read_bytes() == CONTENT


def test_bad_copy_in_the_mirror_does_not_hide_a_good_one(sandbox):
    for folder, content in (("a", b"altered"), ("b", CONTENT)):
        (sandbox / folder).mkdir()
        (sandbox / folder / "file.bin").write_bytes(content)
    assert (fetch.fetch("mnist") / "file.bin").read_bytes() == CONTENT


def test_mirror_comes_before_the_others(sandbox, monkeypatch, tmp_path):
    monkeypatch.setitem(fetch.SETS["mnist"], "sources", (f"touch {tmp_path}/asked",))
    (sandbox / "file.bin").write_bytes(CONTENT)
    fetch.fetch("mnist")
    assert not (tmp_path / "asked").exists()


def test_a_registrys_command_leaves_the_files_in_its_folder(sandbox, monkeypatch, tmp_path):
    (tmp_path / "packed.gz").write_bytes(gzip.compress(CONTENT))
    command = f"mkdir -p package/data && cp {tmp_path}/packed.gz package/data/file.bin.gz"
    monkeypatch.setitem(fetch.SETS["mnist"], "sources", (NO_REGISTRY, command))
    assert (fetch.fetch("mnist") / "file.bin").read_bytes() == CONTENT


def test_addresses_are_tried_and_every_failure_is_listed(sandbox, monkeypatch):
    def refuse(self, url, target, pooch):
        raise ConnectionError(f"cannot reach {url}")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", refuse)
    addresses = ("https://one.invalid/{file}.gz", "https://two.invalid/{file}.gz", NO_REGISTRY)
    monkeypatch.setitem(fetch.SETS["mnist"], "sources", addresses)
    with pytest.raises(RuntimeError) as error:
        fetch.fetch("mnist")
    for words in ("one.invalid/file.bin.gz", "two.invalid/file.bin.gz", "exit status 1"):
        assert words in str(error.value)


def test_half_a_download_is_not_used(sandbox, monkeypatch):
    def break_off(self, url, target, pooch):
        with open(target, "wb") as file:
            file.write(gzip.compress(CONTENT)[:20])
        raise ConnectionError("lost")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", break_off)
    monkeypatch.setitem(fetch.SETS["mnist"], "sources", ("https://one.invalid/{file}.gz",))
    with pytest.raises(RuntimeError, match="lost"):
        fetch.fetch("mnist")
    assert not [p for p in files.RAW.rglob("*") if p.is_file()]


def test_leftover_of_a_killed_fetch_is_removed(sandbox):
    (sandbox / "file.bin").write_bytes(CONTENT)
    (files.RAW / "mnist").mkdir(parents=True)
    (files.RAW / "mnist" / ".file.bin.x1.part").write_bytes(CONTENT[:9])
    assert [p.name for p in fetch.fetch("mnist").iterdir()] == ["file.bin"]


def test_failing_fallback_is_named_and_stops_no_other_set(sandbox, monkeypatch, capsys):
    def broken():
        raise ImportError("no parselmouth here")

    monkeypatch.setattr(fetch, "peterson_barney_table", broken)
    (sandbox / "file.bin").write_bytes(CONTENT)
    assert fetch.main(["vowels", "mnist"]) == 1
    said = capsys.readouterr()
    assert "no source has vowdata.dat" in said.out and "no parselmouth here" in said.err
    assert [path.name for path in files.RAW.rglob("*") if path.is_file()] == ["file.bin"]


def test_real_table_replaces_the_fallback(sandbox, monkeypatch):
    pytest.importorskip("parselmouth")  # not built for every machine
    fetch.fetch("vowels")
    digest = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(fetch.FILES, "vowels", {"vowdata.dat": digest})
    (sandbox / "vowdata.dat").write_bytes(CONTENT)
    assert [p.name for p in fetch.fetch("vowels").iterdir()] == ["vowdata.dat"]


def test_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "kept.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_errors_name_the_file_that_was_not_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"), atomic_path(tmp_path / "file" / "new.json"):
        pass
    with pytest.raises(OSError, match="No space left") as full, atomic_path(tmp_path / "new.json"):
        # As a file's write does it, without a name.
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.__notes__ == [f"{tmp_path / 'new.json'} was not written"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_optional_programs_are_found_in_one_place_and_named_when_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert files.missing("ngspice") == "not installed: ngspice (Debian: apt-get install ngspice)"
    assert "chromium-driver" in files.missing("chromium", "chromedriver")
    (tmp_path / "ngspice").write_text("#!/bin/sh\n")
    (tmp_path / "ngspice").chmod(0o755)
    assert files.missing("ngspice") == ""
