"""Where things live, and files that are whole, unaltered, or absent.

Results (notebooks as executed, figures, metrics, twins) go to their committed places or, when the
environment variable ``PNN_SCRATCH`` names a folder, to the same places below that folder, so that
a trial run touches nothing that is committed. A relative name counts from the project's root: it
means the same folder in a notebook, which runs elsewhere than what started it. Raw data, sources
and the weights of long trainings always stay in the project.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
RAW = ROOT / "data" / "raw"
WEIGHTS = ROOT / "data" / "weights"  # of long trainings; committed

RESULTS = (ROOT / os.environ.get("PNN_SCRATCH", "")).resolve()
NOTEBOOKS = RESULTS / "notebooks"
TWINS = RESULTS / "data" / "twins"
METRICS = RESULTS / "data" / "metrics"
SWEEPS = RESULTS / "data" / "sweeps"  # of sweeps under way; not committed
FIGURES = RESULTS / "figures"

# Optional programs, and the Debian package of each.
PROGRAMS = {"ngspice": "ngspice", "chromium": "chromium", "chromedriver": "chromium-driver"}

KEY = "pnn_utils"  # one key: safetensors writes several in an order that changes from run to run


program = shutil.which  # program(name): its path, or None where it is not installed


def missing(*names):
    """Say which of these optional programs are not installed, and how to get them; "" if none."""
    absent = {name: PROGRAMS[name] for name in names if program(name) is None}
    how = f"(Debian: apt-get install {' '.join(absent.values())})"
    return f"not installed: {', '.join(absent)} {how}" if absent else ""


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path` that takes its name only when the block succeeds.

    Missing folders are made. After the block the file is flushed to disk and renamed to `path`,
    which replaces an older file in one step; if the block raises, it is removed instead.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; it names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise  # it names another file
        why = f"{error.strerror}; it was not written"
        raise type(error)(error.errno, why, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it has its name, or was never made
            temporary.unlink()


def write_bytes(path, content):
    """Write `content` to `path`, whole or not at all; raises as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)  # Python's own errors say what the system reported


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, whole or not at all; raises as `atomic_path`."""
    write_bytes(path, text.encode())


def write_json(path, content):
    """Write `content` as indented JSON to `path`, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def sha256(path):
    """Return the SHA-256 of the file at `path` as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path, tensors, about):
    """Write named tensors and a dict about them (plain JSON types), with a checksum over both.

    The path ends in ``.safetensors`` by custom; raises as `atomic_path`.
    """
    import safetensors.torch  # here: torch is slow to import, and paths need none

    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    text = json.dumps(about)
    metadata = {KEY: json.dumps({"about": text, "sha256": _digest(tensors, text)})}
    write_bytes(path, safetensors.torch.save(tensors, metadata=metadata))


def load_tensors(path):
    """Read what `save_tensors` wrote: the dict of tensors, and the dict about them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no whole safetensors file of `save_tensors`, or altered since.
    """
    import safetensors

    os.stat(path)  # raises FileNotFoundError
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            contents = json.loads(file.metadata()[KEY])
        if _digest(tensors, contents["about"]) != contents["sha256"]:
            raise ValueError("its contents have another SHA-256 than it says")
        return tensors, json.loads(contents["about"])
    except Exception as error:  # what the reader raises depends on where the bytes are damaged
        raise ValueError(f"{path} is not a readable safetensors file of this project, or damaged: "
                         f"{error!r}") from error


def _digest(tensors, text):
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
