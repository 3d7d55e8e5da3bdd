"""Files that are either whole or absent."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path` that takes its name only when the block succeeds.

    Parameters
    ----------
    path : str or pathlib.Path
        Final place of the file; missing folders are made.

    Yields
    ------
    pathlib.Path
        An existing empty file in the same folder. After the block it is flushed to disk and renamed to
        `path`, which replaces an older file in one step; if the block raises, it is removed instead.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; it names `path`, whose older file stays as it was.
    ValueError
        If the path holds a null byte.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path):
    """Let an OSError that names no file, or a temporary one beside `path`, name `path`.

    Raises
    ------
    OSError
        That of the block.
    """
    try:
        yield
    except OSError as error:
        beside = str(Path(path).parent / f".{Path(path).name}.")
        if error.errno is None or not (error.filename is None or str(error.filename).startswith(beside)):
            raise
        raise type(error)(error.errno, f"{error.strerror}; it was not written", str(path)) from error


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, whole or not at all.

    Raises
    ------
    OSError
        See `atomic_path`.
    ValueError
        If the path holds a null byte, or UTF-8 has no way to write the text.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content):
    """Write `content` as indented JSON to `path`.

    Raises
    ------
    OSError
        See `atomic_path`.
    TypeError
        If the content is not of plain JSON types.
    ValueError
        If it holds NaN or infinity, or the path a null byte.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def sha256(path):
    """Return the SHA-256 of the file at `path` as 64 hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If the path holds a null byte.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
