"""The authors' Example 2: a network of 1,610 oscillators on Fashion-MNIST, trained for hours, its weights kept.

    python -m pnn_utils.fashion        train all networks, resuming where a stopped run was (``make reproduce-long``)

Notebook 08 evaluates the weights that this leaves in ``data/weights``, and trains shortened versions with the same functions.
"""

import argparse
import json
import sys
import time

import torch
from joblib import Parallel, delayed

from pnn_utils import paths
from pnn_utils.augment import random_flip, random_shift
from pnn_utils.files import write_json
from pnn_utils.datasets.images import load_images
from pnn_utils.networks.oscillators import OscillatorNetwork, tiles
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.weights import load_tensors, save_tensors

SIZES = ((100, 100), (1610, 10))  # oscillators, and how many of them are read
MODES = ("pat", "in_silico")
N_VALID = 5000
BATCH_SIZE = 128  # four times the authors': a step costs 40 % less an image
BOUND, FACTOR = 0.8, 2.0  # of the initial couplings, well above the device's errors of 0.14; of the output
RATES_FILE = paths.WEIGHTS / "fashion_rates.json"
LEARNING_RATES = (0.004, 0.008, 0.016)  # to choose from


def load(train, n=None):
    """Return the first `n` images, float32 from 0 to 1, shape (n, 784), and their labels."""
    images, labels = load_images("fashion_mnist", train=train)
    return torch.tensor(images[:n].reshape(-1, 784)).float().div_(255), torch.tensor(labels[:n])


def training_and_checking(seed, n_train=60000, hold_out=True):
    """Return (images, labels) to train on, and (images, labels) to check with: the last 5,000 in an order drawn by `seed`.

    With `hold_out` these 5,000 are not among the first, as settings have to be chosen; without it they are, and all images train.
    """
    images, labels = load(True, n_train)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return tuple((images[rows], labels[rows]) for rows in (order[:-N_VALID] if hold_out else order, order[-N_VALID:]))


def build(seed, mode):
    """Return an untrained network with the authors' gap between device and model, and its devices.

    Parameters
    ----------
    seed : int
        Of couplings, of the devices' fabrication errors and of their noise; one child seed each.
    mode : {"pat", "in_silico", "device"}
    """
    devices = [Oscillators(seed=10 * seed + n, noise_seed=100 + 10 * seed + n, n_oscillators=size, n_read=read) for n, (size, read) in enumerate(SIZES)]
    models = [OscillatorModel(size, read) for size, read in SIZES]
    return OscillatorNetwork(devices, models, tiles, torch.Generator().manual_seed(seed), mode, BOUND, FACTOR), devices


def augment(images, generator):
    """Mirror half of the images and move each by up to one pixel; shape (rows, 784)."""
    return random_shift(random_flip(images, generator), generator)


def accuracy_on_model(network, images, labels):
    """Return the accuracy, 0 to 1, with every layer on its model, and leave the network in that mode; images (n, 784), labels (n,)."""
    # In portions: 5,000 images at once take a gigabyte.
    network.set_mode("in_silico")
    return sum(accuracy(network, *part) * len(part[1]) for part in zip(images.split(1000), labels.split(1000), strict=True)) / len(labels)


def train_network(seed, mode, epochs, learning_rate, n_train=60000, hold_out=True, checkpoint=None):
    """Train one network; its last epoch counts.

    Parameters
    ----------
    seed : int
    mode : {"pat", "in_silico"}
    epochs : int
        In the last quarter of them images are mirrored, but not moved.
    learning_rate : float
    n_train : int
        Images of the training set in use, those held out included.
    hold_out : bool
        Whether the images that check each epoch are kept out of the training; see `training_and_checking`.
    checkpoint : path, optional
        Where each epoch is kept; if it exists, training goes on from it.

    Returns
    -------
    network : OscillatorNetwork
    history : list of dict
        Per epoch: loss, accuracy of the checking images on the device and on the model, device passes.
    """
    torch.set_num_threads(1)
    rows, checking = training_and_checking(seed, n_train, hold_out)
    network, devices = build(seed, mode)

    def validate(network):
        on_device = accuracy_on_device(network, *checking)
        row = {"device": on_device, "model": accuracy_on_model(network, *checking)}
        network.set_mode(mode)
        return row

    history = train(network, *rows, epochs=epochs, learning_rate=learning_rate, batch_size=BATCH_SIZE, augment=augment,
                    late_augment=random_flip, late_epochs=epochs // 4,
                    generator=torch.Generator().manual_seed(1000 + seed), validate=validate, device=_Devices(devices),
                    checkpoint=checkpoint, checkpoint_every=1)
    return network, history


class _Devices:
    """Several devices as the one whose state a checkpoint keeps."""

    def __init__(self, devices):
        self.devices = devices

    @property
    def passes(self):
        return sum(device.passes for device in self.devices)

    def state_dict(self):
        return [device.state_dict() for device in self.devices]

    def load_state_dict(self, state):
        for device, one in zip(self.devices, state, strict=True):
            device.load_state_dict(one)


def weights_path(mode, seed):
    """Return where the weights of a long training are."""
    return paths.WEIGHTS / f"fashion_{mode}_{seed}.safetensors"


def save_weights(network, path, about):
    """Write a network's parameters in float16: half of each symmetric matrix of couplings, the drives, the factor.

    Parameters
    ----------
    network : OscillatorNetwork
    path : pathlib.Path
        Ends in ``.safetensors``.
    about : dict
        Plain JSON types, kept inside.
    """
    save_tensors(path, {name: value.half() for name, value in network.state_dict().items()}, about)


def load_weights(network, path):
    """Fill a network from a file that `save_weights` wrote, and return what it says about itself.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds the weights of another network.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `make reproduce-long` trains the networks and writes it")
    tensors, about = load_tensors(path)
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of this network: {error}") from error
    return about


def candidate_path(mode, learning_rate):
    """Return where the search for a learning rate leaves its weights."""
    return paths.SWEEPS / f"fashion_{mode}_{learning_rate:g}.safetensors"


def train_long(path, mode, seed, learning_rate, epochs, hold_out):
    """Train one network, resuming where a stopped run was, unless `path` holds its weights; return its history.

    A training that breaks down with numbers that are not finite has none.
    """
    paths.SWEEPS.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = paths.SWEEPS / f"{path.stem}.checkpoint"
    title = f"{mode}, seed {seed}, learning rate {learning_rate:g}, {'held-out' if hold_out else 'training'} images"
    if not path.exists():
        try:
            network, history = train_network(seed, mode, epochs, learning_rate, hold_out=hold_out, checkpoint=checkpoint)
        except (FloatingPointError, ValueError) as error:
            print(f"{title}: broke down, {error}", flush=True)
            return []
        save_weights(network, path, {"mode": mode, "seed": seed, "epochs": epochs, "learning_rate": learning_rate, "hold_out": hold_out, "history": history})
        checkpoint.unlink()
    history = load_tensors(path)[1]["history"]
    print(f"{title}: {100 * history[-1]['device']:.2f} % on the device, {100 * history[-1]['model']:.2f} % on the model", flush=True)
    return history


def choose_rates(epochs, jobs):
    """Train seed 0 of each method for long at every rate, with images held out, and write all histories to `RATES_FILE`.

    Shorter searches mislead here: the couplings' random walk grows with learning rate times the root of the steps, and the rate
    that is best after four epochs breaks down before the twentieth. All are judged on the device, by held-out images, at the last
    epoch, whatever the method; a training without end counts as 0.

    Returns
    -------
    dict of str to float
        The best learning rate of each method.
    """
    points = [(mode, rate) for rate in LEARNING_RATES for mode in MODES]
    found = Parallel(n_jobs=jobs)(delayed(train_long)(candidate_path(mode, rate), mode, 0, rate, epochs, True) for mode, rate in points)
    tried = {mode: [{"learning_rate": rate, "validation": history[-1]["device"] if history else 0.0,
                     "history": [{where: row[where] for where in ("device", "model")} for row in history]}
                    for (tried_mode, rate), history in zip(points, found, strict=True) if tried_mode == mode] for mode in MODES}
    best = {mode: max(tried[mode], key=lambda candidate: candidate["validation"])["learning_rate"] for mode in MODES}
    write_json(RATES_FILE, {"epochs": epochs, "seed": 0, "tried": tried, "best": best})
    return best


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.fashion", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--again", action="store_true", help="forget all weights first")
    options = parser.parse_args(arguments)
    points = [(mode, seed) for seed in range(options.seeds) for mode in MODES]
    if options.again:
        for path in (RATES_FILE, *(weights_path(*point) for point in points), *paths.SWEEPS.glob("fashion_*")):
            path.unlink(missing_ok=True)
    start = time.perf_counter()
    best = json.loads(RATES_FILE.read_text())["best"] if RATES_FILE.exists() else choose_rates(options.epochs, options.jobs)
    print("learning rates:", best, flush=True)
    # The settings are chosen: no image needs to be held out any more.
    Parallel(n_jobs=options.jobs)(delayed(train_long)(weights_path(mode, seed), mode, seed, best[mode], options.epochs, False) for mode, seed in points)
    missing = [weights_path(*point).name for point in points if not weights_path(*point).exists()]
    print(f"{len(points) - len(missing)} of {len(points)} networks are there after {(time.perf_counter() - start) / 60:.0f} min"
          + (f"; missing: {', '.join(missing)}" if missing else ""))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
