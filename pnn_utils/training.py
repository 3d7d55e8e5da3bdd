"""One training loop for every network: Adam, cosine schedule, history, a checkpoint beside it."""

import math
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm import tqdm  # the plain bar heeds TQDM_DISABLE, which keeps bars out of outputs

from pnn_utils.files import load_tensors, save_tensors

WARMUP = 0.05  # share of the epochs


@torch.no_grad()
def accuracy(network, x, y):
    """Return the share of rows of `x` whose largest logit is at the label in `y`."""
    return (network(x).argmax(-1) == y).sum().item() / len(y)


def accuracy_on_device(network, x, y):
    """Return the accuracy with every physical layer on the device; the network's mode stays."""
    return _accuracy_in("device", network, x, y, len(y))


def accuracy_on_model(network, x, y):
    """Return the accuracy with every physical layer on its model; the network's mode stays."""
    return _accuracy_in("in_silico", network, x, y, 1000)  # 5,000 images at once take a gigabyte


def train(network, x, y, *, epochs, learning_rate, batch_size=None, generator=None, validate=None,
          device=None, checkpoint=None, checkpoint_every=1, augment=None, late_augment=None,
          late_epochs=0):
    """Train a network with cross-entropy, Adam and a cosine schedule with linear warm-up.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (n, features) to logits (n, classes).
    x, y : torch.Tensor, shapes (n, features) and (n,), int64
    learning_rate : float
        The highest, reached after a twentieth of the epochs; it falls to 0 along a cosine.
    batch_size : int, optional
        Default: all rows in one batch.
    generator : torch.Generator, optional
        Source of the batch order.
    validate : callable, optional
        ``validate(network)`` -> dict of numbers, added to the history after each epoch.
    device : PhysicalSystem or Devices, optional
        Its passes (and events, if it counts any) go into the history, its noise generator into the
        checkpoint, so that a resumed run meets the same noise.
    checkpoint : path, optional
        File of the run's state, written every `checkpoint_every` epochs; the same call goes on
        from it. If training stops, network and generator are put back to where they started.
    augment, late_augment : callable, optional
        ``augment(rows_of_x, generator)`` -> rows, for every batch; the second one, or none, takes
        its place in the last `late_epochs` epochs.

    Returns
    -------
    list of dict
        Per epoch: epoch, learning_rate, loss, passes, and what `validate` returned.

    Raises
    ------
    FloatingPointError
        If the loss stops being a finite number.
    ValueError
        If the checkpoint is damaged, or of a run with other data, labels, seed, start or settings.
    """
    generator = generator or torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    settings = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
                "late_epochs": late_epochs, "data": _digest(x), "labels": _digest(y)}
    kept = checkpoint and Checkpoint(checkpoint, network, optimizer, generator, device, settings)
    history = kept.resume() if kept else []
    n, size = len(x), batch_size or len(x)
    batches = math.ceil(n / size)
    try:
        for epoch in tqdm(range(len(history), epochs), leave=False):
            change = augment if epoch < epochs - late_epochs else late_augment
            order = torch.randperm(n, generator=generator) if batch_size else torch.arange(n)
            total = 0.0
            for batch, rows in enumerate(order.split(size)):
                rate = learning_rate * _schedule((epoch * batches + batch) / (epochs * batches))
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                inputs = change(x[rows], generator) if change else x[rows]
                loss = torch.nn.functional.cross_entropy(network(inputs), y[rows])
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch}, "
                                             f"batch {batch}, learning rate {rate:.3g}")
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            row = {"epoch": epoch, "learning_rate": rate, "loss": total / n}
            if device is not None:
                row |= {"passes": device.passes, **getattr(device, "events", {})}
            found = validate(network) if validate else {}
            history.append(row | {name: np.asarray(value).item() for name, value in found.items()})
            if kept and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs):
                kept.save(history)
    except BaseException as error:
        if kept:
            kept.put_back()
            error.add_note(f"Training stopped after {len(history)} whole epochs of {epochs}. "
                           f"The checkpoint {checkpoint} is kept: the same call goes on from it.")
        raise
    return history


class Checkpoint:
    """The whole state of a run in one file, from which only the same run goes on.

    A run is the same if its settings are, and the digests of its data and labels, of its
    generator's state and of the trainable numbers that it starts from. Measured constants are no
    part of it: a real device never repeats them.
    """

    def __init__(self, path, network, optimizer, generator, device, settings):
        self.path, self.network, self.optimizer = Path(path), network, optimizer
        self.generator, self.device = generator, device
        self.weights = {name: value.clone() for name, value in network.state_dict().items()}
        self.seed = generator.get_state()
        self.settings = settings | {"seed": _digest(self.seed),
                                    "start": _digest(*network.parameters())}

    def save(self, history):
        """Write everything that the rest of the run depends on."""
        parts = {"network": self.network.state_dict(), **self.optimizer.state_dict()["state"],
                 "generator": {"state": self.generator.get_state()}}
        tensors = {f"{part}:{name}": value for part, values in parts.items()
                   for name, value in values.items()}
        save_tensors(self.path, tensors, {"settings": self.settings, "history": history,
                                          "device": self.device and self.device.state_dict()})

    def resume(self):
        """Take over the state in the file and return its history; a new run writes one first."""
        if not self.path.exists():
            self.save([])  # from the first moment, for a device may stop in the first epoch
        try:
            tensors, run = load_tensors(self.path)
            kept = dict(run["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is not a readable checkpoint ({error}); "
                             "remove it to start again") from error
        other = [f"{name} {kept.get(name)} (here {value})" for name, value in self.settings.items()
                 if kept.get(name) != value]
        if other:
            raise ValueError(f"{self.path} belongs to a run with other {', '.join(other)}; "
                             "remove it to start again")
        try:
            return self._take_over(tensors, run)
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{self.path} does not hold a whole run ({error}); "
                             "remove it to start again") from error

    def _take_over(self, tensors, run):
        parts = {}
        for key, value in tensors.items():
            part, name = key.split(":", 1)
            parts.setdefault(part, {})[name] = value
        self.network.load_state_dict(parts.pop("network"))
        self.generator.set_state(parts.pop("generator")["state"])
        moments = {int(n): {name: values[name] for name in ("step", "exp_avg", "exp_avg_sq")}
                   for n, values in parts.items()}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        if self.device is not None:
            self.device.load_state_dict(run["device"])
        return list(run["history"])

    def put_back(self):
        """Return network and generator to their start, so that the same call is the same run."""
        self.network.load_state_dict(self.weights)
        self.generator.set_state(self.seed)


class Devices(list):
    """Several devices as the one whose state a checkpoint keeps."""

    @property
    def passes(self):
        return sum(device.passes for device in self)

    def state_dict(self):
        return [device.state_dict() for device in self]

    def load_state_dict(self, states):
        for device, state in zip(self, states, strict=True):
            device.load_state_dict(state)


def _accuracy_in(mode, network, x, y, portion):
    before = network.mode
    network.set_mode(mode)
    try:
        return accuracy(lambda x: torch.cat([network(rows) for rows in x.split(portion)]), x, y)
    finally:
        network.set_mode(before)


def _schedule(progress):
    """Share of the highest learning rate at `progress` (0 to 1)."""
    if progress < WARMUP:
        return (progress + 1e-3) / (WARMUP + 1e-3)
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2


def _digest(*tensors):
    """A text that tells shapes, kinds and contents apart."""
    return joblib.hash([tensor.numpy(force=True) for tensor in tensors])
