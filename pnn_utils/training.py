"""One training loop for every network: Adam, cosine schedule, history, a checkpoint beside it."""

import math
from pathlib import Path

import joblib
import torch
from tqdm import tqdm  # the plain bar heeds TQDM_DISABLE, which keeps bars out of outputs

from pnn_utils import files, parts, pat

WARMUP = 0.05  # share of the epochs


@torch.no_grad()
def accuracy(network, x, y, portion=None):
    """Return the share of rows of `x` whose largest logit is at the label in `y`.

    Network and models judge as they would be used, in torch's eval mode, `portion` rows at once
    (default: all). Afterwards all modes are as they were, here and in the next two functions.
    """
    with parts.evaluating(network, *(layer.parts[1] for layer in _physical(network))):
        logits = torch.cat([network(rows) for rows in x.split(portion or len(x))])
    return (logits.argmax(-1) == y).sum().item() / len(y)


def accuracy_on_device(network, x, y):
    """Return the accuracy with every physical layer on the device."""
    with parts.changed(_physical(network), "mode", "device"):
        return accuracy(network, x, y)


def accuracy_on_model(network, x, y):
    """Return the accuracy with every physical layer on its model."""
    with parts.changed(_physical(network), "mode", "in_silico"):
        return accuracy(network, x, y, 1000)  # 5,000 images at once take a gigabyte


@torch.no_grad()
def confidence_on_device(network, x, y):
    """Return the mean probability that a network gives to the right class on the device.

    It is the accuracy of one that draws its answers, in finer steps than that of the few rows that
    are held out for validation.
    """
    with parts.changed(_physical(network), "mode", "device"), parts.evaluating(network):
        return network(x).softmax(-1).gather(-1, y[:, None]).mean().item()


def train(network, x, y, *, epochs, learning_rate, batch_size=None, generator=None, validate=None,
          device=None, checkpoint=None, augment=None, late_augment=None, late_epochs=0,
          average_epochs=0, clip=math.inf):
    """Train a network with cross-entropy, Adam and a cosine schedule with linear warm-up.

    Returns the history, a dict an epoch: epoch, learning_rate, loss, passes, what `validate` gave.

    network : torch.nn.Module that maps (n, features) to logits (n, classes)
    x, y : tensors of shapes (n, features) and (n,), int64
    learning_rate : the highest, after a twentieth of the epochs; it falls to 0 along a cosine
    batch_size : default: all rows in one batch, in the same order
    generator : torch.Generator, source of the batch order
    validate : ``validate(network)`` -> dict of numbers, or tensors of one, after each epoch
    device : its passes (and events, if it counts any) go into the history, its noise generator
        into the checkpoint, so that a resumed run meets the same noise; or `Devices`
    checkpoint : path of the run's state, written after each epoch; the same call goes on from it.
        If training stops, network and generator are put back to where they started.
    augment, late_augment : ``augment(rows_of_x, generator)`` -> rows, for every batch; the second,
        or none, takes its place in the last `late_epochs` epochs
    average_epochs : the network ends with its weights' mean over the steps of these last epochs
    clip : largest norm of a step's gradient; a longer one is shortened to it

    Raises
    ------
    FloatingPointError
        If the loss stops being a finite number.
    ValueError
        If the checkpoint is damaged, or of a run with other data, labels, seed, start or settings.
    """
    generator = generator or torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    average = torch.optim.swa_utils.AveragedModel(network) if average_epochs else torch.nn.Module()
    kept = checkpoint and Checkpoint(
        checkpoint, network, average, optimizer, generator, device, x, y, epochs=epochs, clip=clip,
        learning_rate=learning_rate, batch_size=batch_size, late_epochs=late_epochs,
        average_epochs=average_epochs)
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
                if clip < math.inf:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
                optimizer.step()
                if epoch >= epochs - average_epochs:
                    average.update_parameters(network)
                total += loss.item() * len(rows)
            if average_epochs and epoch == epochs - 1:
                network.load_state_dict(average.module.state_dict())
            row = {"epoch": epoch, "learning_rate": rate, "loss": total / n}
            if device is not None:
                row |= {"passes": device.passes, **getattr(device, "events", {})}
            if validate:
                row |= {name: float(value) for name, value in validate(network).items()}
            history.append(row)
            if kept:
                kept.save(history)
    except BaseException as error:
        if kept:
            kept.put_back()
            error.add_note(f"Training stopped after {len(history)} whole epochs of {epochs}; "
                           f"the same call goes on from {checkpoint}.")
        raise
    return history


class Checkpoint:
    """The whole state of a run in one file, from which only the same run goes on.

    A run is the same if its settings are, and the digests of its data and labels, of its
    generator's state and of the trainable numbers that it starts from. Measured constants are no
    part of it: a real device never repeats them.
    """

    def __init__(self, path, network, average, optimizer, generator, device, x, y, **settings):
        self.path, self.optimizer, self.generator = Path(path), optimizer, generator
        # Beside it the average of its weights, or a module without any.
        self.both, self.device = torch.nn.ModuleDict({"now": network, "mean": average}), device
        self.weights = {name: value.clone() for name, value in self.both.state_dict().items()}
        self.seed = generator.get_state()
        told = {"data": [x], "labels": [y], "seed": [self.seed], "start": network.parameters()}
        self.settings = settings | {"mode": [layer.mode for layer in _physical(network)]} | {
            name: joblib.hash([tensor.numpy(force=True) for tensor in tensors])
            for name, tensors in told.items()}

    def save(self, history):
        """Write everything that the rest of the run depends on."""
        states = {"weights": self.both.state_dict(), **self.optimizer.state_dict()["state"],
                 "random": {"batches": self.generator.get_state(), "rest": torch.get_rng_state()}}
        # Cloned, for a file has no place for a tensor of two names: controls that layers share.
        tensors = {f"{part}:{name}": value.clone() for part, values in states.items()
                   for name, value in values.items()}
        device = self.device and self.device.state_dict()
        files.save_tensors(self.path, tensors, {
            "settings": self.settings, "history": history, "device": device})

    def resume(self):
        """Take over the state in the file and return its history; a new run writes one first."""
        if not self.path.exists():
            self.save([])  # from the first moment, for a device may stop in the first epoch
        try:
            tensors, run = files.load_tensors(self.path)
            other = [f"{name} {run['settings'].get(name)} (here {value})" for name, value
                     in self.settings.items() if run["settings"].get(name) != value]
            if other:
                raise ValueError(f"it belongs to a run with other {', '.join(other)}")
            self.both.load_state_dict(_part(tensors, "weights"))
            optimizer = self.optimizer.state_dict()
            moments = {n: _part(tensors, n) for n in optimizer["param_groups"][0]["params"]}
            self.optimizer.load_state_dict(optimizer | {"state": moments})
            self.generator.set_state(tensors["random:batches"])
            torch.set_rng_state(tensors["random:rest"])  # of dropout, for instance
            if self.device is not None:
                self.device.load_state_dict(run["device"])
            return list(run["history"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a readable checkpoint of this run ({error}); "
                             "remove it to start again") from error

    def put_back(self):
        """Return network and generator to their start, so that the same call is the same run."""
        self.both.load_state_dict(self.weights)
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


def _part(tensors, name):
    return {key.removeprefix(f"{name}:"): value for key, value in tensors.items()
            if key.startswith(f"{name}:")}


def _physical(network):
    return [part for part in network.modules() if isinstance(part, pat.Physical)]


def _schedule(progress):
    """Share of the highest learning rate at `progress` (0 to 1)."""
    if progress < WARMUP:
        return (progress + 1e-3) / (WARMUP + 1e-3)
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2
