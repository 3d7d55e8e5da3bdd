"""Fetch the data sets: ``python -m pnn_utils.datasets.fetch [mnist] [vowels] ...``.

A data set is a folder ``data/raw/<name>`` of files. ``sources.toml`` says where they can be had,
after the local folder that the environment variable ``PNN_DATA_MIRROR`` names, and what their
checksums are: no other file takes its place there.
"""

import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from pnn_utils import files
from pnn_utils.systems.base import check_choice

SETS = tomllib.loads(Path(__file__).with_name("sources.toml").read_text(encoding="utf-8"))
FILES = {name: known["files"] for name, known in SETS.items()}  # name: SHA-256
MIRROR = "PNN_DATA_MIRROR"
FALLBACK = "peterson_barney1952.tsv"  # made here where no source has Hillenbrand's vowels


def fetch(name):
    """Bring one data set into its folder and return that; whole files there are left alone.

    Raises
    ------
    ValueError, RuntimeError
        If the name is unknown; if no source has the files: lists what was tried, and what to do.
    """
    check_choice("data set", name, *FILES)
    folder, tried = files.RAW / name, []
    for leftover in folder.glob(".*.part"):  # of a killed fetch
        leftover.unlink(missing_ok=True)
    for source in (MIRROR, *SETS[name]["sources"]):
        if missing := _missing(name):
            tried.append(f"  - {source.strip()}: {_take(source, name, missing)}")
    if not (missing := _missing(name)):
        (folder / FALLBACK).unlink(missing_ok=True)
        print(f"{name}: all files in place, checksums right")
        return folder
    message = "\n".join([
        f"{name}: no source has {', '.join(missing)}. Tried:", *tried,
        f"To supply the files by hand, put them (or .gz of them) into a folder, set {MIRROR} to "
        f"it and run: python -m pnn_utils.datasets.fetch {name}. Expected:",
        *(f"  {file}  sha256 {FILES[name][file]}" for file in missing)])
    if name != "vowels":
        raise RuntimeError(message)
    print(f"{message}\nFALLBACK: Peterson & Barney (1952) instead of Hillenbrand (1995)")
    files.write_text(folder / FALLBACK, peterson_barney_table())
    return folder


def path(name, file):
    """Return the path of a data set's file after checking it.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not there; if the data set has no such file, or its checksum is wrong.
    """
    check_choice("data set", name, *FILES)
    digests = FILES[name] | SETS[name].get("fallback", {})
    check_choice(f"file of data set {name!r}", file, *digests)
    target, command = files.RAW / name / file, f"python -m pnn_utils.datasets.fetch {name}"
    if not target.exists():
        raise FileNotFoundError(f"{target} is missing; run: {command}")
    if (found := files.sha256(target)) != digests[file]:
        raise ValueError(f"{target} has SHA-256 {found}; expected {digests[file]}. Run: {command}")
    return target


def peterson_barney_table():
    """Return the Peterson & Barney (1952) vowel table of praat-parselmouth as text with tabs."""
    from parselmouth.praat import call

    return call(call("Create formant table (Peterson & Barney 1952)"), "List", False)


def _missing(name):
    """Return the files of a data set that are not there, whole and unaltered."""
    return [file for file, digest in FILES[name].items()
            if not (place := files.RAW / name / file).exists() or files.sha256(place) != digest]


def _take(source, name, wanted):
    """Put into place what a source has of the wanted files; return why that was not all."""
    try:
        with tempfile.TemporaryDirectory(prefix="pnn-data-") as scratch:
            for file, candidate in _candidates(source, wanted, Path(scratch)):
                content = candidate.read_bytes()
                if content.startswith(b"\x1f\x8b"):
                    content = gzip.decompress(content)
                if hashlib.sha256(content).hexdigest() == FILES[name][file]:
                    files.write_bytes(files.RAW / name / file, content)
    except Exception as error:  # a source may fail in any way, the next is tried
        return str(error)[-250:]  # the cause is its end
    return "not all of them are there with the right checksum"


def _candidates(source, wanted, scratch):
    """Yield (file, path of what may be it), plain or gzipped, unchecked; may raise anything."""
    if "{file}" in source:
        import pooch

        # At most 5 s to connect, 60 s to read: without internet the next source's turn comes soon.
        download = pooch.HTTPDownloader(sys.stderr.isatty(), timeout=(5, 60))
        for file in wanted:
            download(source.format(file=file), str(scratch / file), None)
            yield file, scratch / file
        return
    folder = Path(os.environ.get(source) or "(not set)") if source == MIRROR else scratch
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    if source != MIRROR:  # what the command says of a failure stands on the screen
        subprocess.run(source, shell=True, cwd=scratch, stdout=subprocess.DEVNULL, check=True,
                       timeout=600)
    for file in wanted:  # both image sets use the same file names: checksums tell them apart
        for candidate in [*folder.rglob(file), *folder.rglob(f"{file}.gz")]:
            yield file, candidate


def main(names):
    """Fetch the named data sets, or all; returns the exit status, 1 if one could not be had."""
    status = 0
    for name in names or FILES:
        try:
            fetch(name)
        except Exception as error:  # the others can be had all the same
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
