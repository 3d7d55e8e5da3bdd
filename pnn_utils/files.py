"""Where things live, and files that are whole, unaltered, or absent.

Results (notebooks as executed, figures, metrics, twins) go to their committed places or, when the
environment variable ``PNN_SCRATCH`` names a folder (from the project's root, if relative), to the
same places below it, so that a trial run touches nothing that is committed. Raw data, sources and
the weights of long trainings always stay in the project.
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

RESULTS = (ROOT / os.environ.get("PNN_SCRATCH", "")).resolve()
NOTEBOOKS = RESULTS / "notebooks"
TWINS = RESULTS / "data" / "twins"
METRICS = RESULTS / "data" / "metrics"
SWEEPS = RESULTS / "data" / "sweeps"  # of sweeps under way; not committed
FIGURES = RESULTS / "figures"

# Optional programs, and the Debian package of each.
PROGRAMS = {"ngspice": "ngspice", "chromium": "chromium", "chromedriver": "chromium-driver",
            "pulseaudio": "pulseaudio", "parec": "pulseaudio-utils"}

KEY = "pnn_utils"  # one key: safetensors writes several in an order that changes from run to run


def missing(*names):
    """Say which of these optional programs are not installed, and how to get them; "" if none."""
    absent = {name: PROGRAMS[name] for name in names if shutil.which(name) is None}
    how = f"(Debian: apt-get install {' '.join(absent.values())})"
    return f"not installed: {', '.join(absent)} {how}" if absent else ""


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path` that takes its name only when the block succeeds.

    An older file is replaced in one step; if the block raises, the temporary one is removed.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; a note names `path`.
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
        error.add_note(f"{path} was not written")
        raise
    finally:
        temporary.unlink(missing_ok=True)  # it has its name, or was never made


def write_bytes(path, content):
    """Write `content` to `path`, whole or not at all; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)  # Python's own errors say what the system reported


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path, content):
    """Write `content` as indented JSON to `path`, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def sha256(path):
    """Return the SHA-256 of the file at `path` as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path, tensors, about):
    """Write named tensors and a dict about them (plain JSON types), with a checksum over both."""
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
