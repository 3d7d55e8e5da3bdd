"""One training loop for every network: Adam, cosine schedule, history, checkpoints that resume exactly."""

import csv
import io
import math
import os
from pathlib import Path

import torch
from tqdm.auto import tqdm

from pnn_utils.files import write_text
from pnn_utils.systems.base import check_number, check_whole
from pnn_utils.weights import load_tensors, save_tensors


def accuracy(network, x, y):
    """Return the share of rows of `x` whose largest logit is at the label in `y`, without gradients.

    Raises
    ------
    TypeError
        If the network refuses the kind of numbers in `x`.
    ValueError
        If it refuses the shape of `x` or its values, or there is not one label a row, or no row.
    """
    with torch.no_grad():
        found = network(x).argmax(-1)
    if found.shape != y.shape or not len(y):
        raise ValueError(f"y has shape {tuple(y.shape)} and the network answers with labels of shape {tuple(found.shape)}; expected as many, at least one")
    return (found == y).double().mean().item()


def accuracy_on_device(network, x, y):
    """Return the accuracy with every physical layer on the device, and leave the network's mode as it was.

    Parameters
    ----------
    network : torch.nn.Module
        Has ``layers`` with a ``mode`` and ``set_mode``.
    x : torch.Tensor, shape (n, features)
    y : torch.Tensor, shape (n,), integer labels

    Raises
    ------
    TypeError, ValueError
        See `accuracy`.
    """
    mode = network.layers[0].mode
    try:
        return accuracy(network.set_mode("device"), x, y)
    finally:
        network.set_mode(mode)


def train(network, x, y, *, epochs, learning_rate, batch_size=None, generator=None, validate=None,
          device=None, checkpoint=None, checkpoint_every=100, history_csv=None, warmup=0.05, augment=None,
          late_augment=None, late_epochs=0):
    """Train a network with cross-entropy, Adam and a cosine schedule with linear warm-up.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (n, features) to logits (n, classes).
    x : torch.Tensor, shape (n, features)
    y : torch.Tensor, shape (n,), int64
    epochs : int
    learning_rate : float
        Highest learning rate, reached after `warmup` x `epochs`; it falls to 0 along a cosine.
    batch_size : int, optional
        Default: all rows in one batch.
    generator : torch.Generator, optional
        Source of the batch order.
    validate : callable, optional
        ``validate(network)`` -> dict of numbers, called after each epoch and added to the history.
    device : PhysicalSystem, optional
        Its noise generator and pass count are kept in the checkpoint, so that a resumed run meets the same noise. If it counts
        ``events``, as `pnn_utils.systems.instrument.Instrument` does, they go into the history.
    checkpoint : path, optional
        File that holds the run's state; if it exists, the run continues from it.
    checkpoint_every : int
        Epochs between two checkpoints.
    history_csv : path, optional
        Where to write the history as CSV.
    warmup : float
        Share of the epochs, 0 to 1.
    augment : callable, optional
        ``augment(rows_of_x, generator)`` -> rows of the same shape, called on every batch.
    late_augment : callable, optional
        Takes the place of `augment` in the last `late_epochs` epochs; without it these see the rows as they are.
    late_epochs : int
        At least 0.

    Returns
    -------
    list of dict
        Per epoch: epoch, learning_rate, loss, passes and events (if `device` is given), and what `validate` returned.

    Raises
    ------
    TypeError
        If a number is none, the labels are not int64, or the network refuses the kind of numbers in `x`.
    IndexError
        If a label is negative or beyond the network's classes.
    ValueError
        If the settings are out of range, the shapes do not fit, or the checkpoint is damaged or belongs to another run.
    FloatingPointError
        If the loss stops being a finite number.

    Whatever is raised during training, by a device too, carries a note that says what is kept; the last checkpoint stays as it was.
    """
    check_whole(-math.inf, epochs=epochs)
    check_whole(0, late_epochs=late_epochs)
    check_whole(1, checkpoint_every=checkpoint_every, **({} if batch_size is None else {"batch_size": batch_size}))
    check_number(-math.inf, learning_rate=learning_rate, warmup=warmup)
    if epochs < 1 or not learning_rate > 0 or not 0 <= warmup < 1:
        raise ValueError(f"epochs={epochs}, learning_rate={learning_rate}, warmup={warmup}; expected epochs >= 1, learning_rate > 0 and 0 <= warmup < 1")
    if y.dtype != torch.int64:
        raise TypeError(f"y has dtype {y.dtype}; expected int64")
    if x.shape[:1] != y.shape or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected a label a row, at least one")
    generator = generator or torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    settings = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "warmup": warmup, "rows": len(x),
                "late_epochs": late_epochs}
    history = []
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(checkpoint, network, optimizer, generator, device, settings)

    batches = math.ceil(len(x) / (batch_size or len(x)))
    # tqdm's notebook bar does not heed TQDM_DISABLE by itself; the pipeline sets it to keep bars out of stored outputs.
    silent = bool(os.environ.get("TQDM_DISABLE"))
    if checkpoint is not None and not history:
        # From the first moment: what is called again after a stop in the first epoch may hold a half-trained network.
        _save(checkpoint, network, optimizer, generator, device, settings, history)
    try:
        for epoch in tqdm(range(len(history), epochs), initial=len(history), total=epochs, leave=False, disable=silent):
            order = torch.randperm(len(x), generator=generator) if batch_size else torch.arange(len(x))
            total = 0.0
            for batch, rows in enumerate(order.split(batch_size or len(x))):
                rate = learning_rate * _schedule((epoch * batches + batch) / (epochs * batches), warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                change = augment if epoch < epochs - late_epochs else late_augment
                batch_x = x[rows] if change is None else change(x[rows], generator)
                loss = torch.nn.functional.cross_entropy(network(batch_x), y[rows])
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss became {loss.item()} in epoch {epoch}, batch {batch}, learning rate {rate:.3g}; expected a finite number")
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            row = {"epoch": epoch, "learning_rate": rate, "loss": total / len(x)}
            if device is not None:
                row |= {"passes": device.passes, **getattr(device, "events", {})}
            if validate is not None:
                row |= validate(network)
            history.append(row)
            if checkpoint is not None and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs):
                _save(checkpoint, network, optimizer, generator, device, settings, history)
    except Exception as error:
        error.add_note(f"Training stopped after {len(history)} whole epochs of {epochs}. " + (
            f"The checkpoint {checkpoint} is kept: the same call goes on from it." if checkpoint else "No checkpoint was asked for."))
        raise
    if history_csv is not None:
        write_history(history_csv, history)
    return history


def write_history(path, history):
    """Write a list of dicts with equal keys as CSV.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the list is empty, a dict has other keys than the first, or the path a null byte.
    """
    if not history:
        raise ValueError("the history is empty; expected at least one row")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _schedule(progress, warmup):
    """Share of the highest learning rate at `progress` (0 to 1)."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def _save(path, network, optimizer, generator, device, settings, history):
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    tensors["generator"] = generator.get_state()
    run = {"settings": settings, "history": history, "device": None if device is None else device.state_dict()}
    save_tensors(path, tensors, run)


def _resume(path, network, optimizer, generator, device, settings):
    try:
        tensors, run = load_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}); remove it to start again") from error
    if run["settings"] != settings:
        raise ValueError(f"{path} belongs to a run with {run['settings']}; this one has {settings}. Remove it to start again")
    weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} belongs to another network: {error}") from error
    state = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    if device is not None:
        device.load_state_dict(run["device"])
    return run["history"]
