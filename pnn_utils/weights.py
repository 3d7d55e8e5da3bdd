"""Tensors in safetensors files that are whole, unaltered, or refused."""

import hashlib
import json

import safetensors
import safetensors.torch

from pnn_utils.files import atomic_path

KEY = "pnn_utils"  # one key: the library writes several in an order that changes from run to run


def save_tensors(path, tensors, about):
    """Write tensors and what is to be known about them, with a checksum over both.

    Parameters
    ----------
    path : str or pathlib.Path
        Ends in ``.safetensors`` by custom. An older file is replaced in one step.
    tensors : dict of str to torch.Tensor
    about : dict
        Plain JSON types.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If `about` is not of plain JSON types.
    ValueError
        If the path holds a null byte.
    """
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    text = json.dumps(about)
    content = safetensors.torch.save(tensors, metadata={KEY: json.dumps({"about": text, "sha256": _digest(tensors, text)})})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)  # Python's own errors say what the system reported


def load_tensors(path):
    """Read what `save_tensors` wrote.

    Returns
    -------
    tensors : dict of str to torch.Tensor
    about : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no whole safetensors file of `save_tensors`, or altered since.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise
    except Exception as error:  # what the reader raises for damaged bytes depends on where they are
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if KEY not in metadata:
        raise ValueError(f"{path} was not written by this project: its metadata names {sorted(metadata) or 'nothing'}; expected {KEY!r}")
    try:
        contents = json.loads(metadata[KEY])
        text, digest = contents["about"], contents["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its metadata cannot be read ({error!r})") from error
    if _digest(tensors, text) != digest:
        raise ValueError(f"{path} is damaged: its contents have another SHA-256 than the file says")
    return tensors, json.loads(text)


def _digest(tensors, text):
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
