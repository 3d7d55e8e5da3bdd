"""The authors' Example 2: a network of 1,610 oscillators on Fashion-MNIST, trained for hours, its weights kept.

    python -m pnn_utils.fashion        train all networks, resuming where a stopped run was (``make reproduce-long``)

Notebook 08 trains shortened versions with the same functions and evaluates the weights that the long training left in ``data/weights``.
"""

import argparse
import json
import sys
import time

import safetensors
import safetensors.torch
import torch
from joblib import Parallel, delayed

from pnn_utils import paths
from pnn_utils.augment import random_flip
from pnn_utils.files import atomic_path, write_json
from pnn_utils.images import load_images
from pnn_utils.networks.oscillators import OscillatorNetwork, tiles
from pnn_utils.sweeps import sweep
from pnn_utils.systems.oscillators import Oscillators
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twins.oscillators import OscillatorModel

SIZES = ((100, 100), (1610, 10))  # oscillators, and how many of them are read
MODES = ("pat", "in_silico")
N_VALID = 5000
BATCH_SIZE = 32
RATES_FILE = paths.WEIGHTS / "fashion_learning_rates.json"


def load(train, n=None):
    """Return the first `n` images, float32 from 0 to 1, shape (n, 784), and their labels."""
    images, labels = load_images("fashion_mnist", train=train)
    return torch.tensor(images[:n].reshape(-1, 784)).float() / 255, torch.tensor(labels[:n])


def training_and_validation(seed, n_train=60000):
    """Return (images, labels) to train on, and (images, labels) held out: the last 5,000 in an order drawn by `seed`."""
    images, labels = load(True, n_train)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return tuple((images[rows], labels[rows]) for rows in (order[:-N_VALID], order[-N_VALID:]))


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
    return OscillatorNetwork(devices, models, tiles, torch.Generator().manual_seed(seed), mode), devices


def train_network(seed, mode, epochs, learning_rate, n_train=60000, checkpoint=None):
    """Train one network; its last epoch counts.

    Parameters
    ----------
    seed : int
    mode : {"pat", "in_silico"}
    epochs : int
    learning_rate : float
    n_train : int
        Images of the training set in use, those held out included; see `training_and_validation`.
    checkpoint : path, optional
        Where each epoch is kept; if it exists, training goes on from it.

    Returns
    -------
    network : OscillatorNetwork
    history : list of dict
        Per epoch: loss, validation accuracy on the device and on the model, device passes.
    """
    torch.set_num_threads(1)
    kept, valid = training_and_validation(seed, n_train)
    network, devices = build(seed, mode)

    def validate(network):
        on_device = accuracy_on_device(network, *valid)
        row = {"device": on_device, "model": accuracy(network.set_mode("in_silico"), *valid)}
        network.set_mode(mode)
        return row

    history = train(network, *kept, epochs=epochs, learning_rate=learning_rate, batch_size=BATCH_SIZE, augment=random_flip,
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
        safetensors.torch.save_file(tensors, temporary, metadata={"about": json.dumps(about)})


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
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        network.load_state_dict(tensors)
    except (safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of this network: {error}") from error
    return about


def search(rates, epochs=4, n_train=60000, seed=100, jobs=2):
    """Train each method at each learning rate for a few epochs, and write what came out to `RATES_FILE`.

    The seed is none of those that are trained for long; networks are judged on the device, by their validation images, whatever the method.

    Returns
    -------
    dict of str to float
        The best learning rate of each method.
    """
    points = [{"mode": mode, "seed": seed, "learning_rate": rate, "epochs": epochs, "n_train": n_train} for mode in MODES for rate in rates]
    found = sweep(_searched, points, paths.SWEEPS / "fashion_rates.jsonl", "processes", jobs)
    scores = {mode: {str(point["learning_rate"]): score for point, score in zip(points, found, strict=True) if point["mode"] == mode} for mode in MODES}
    best = {mode: float(max(scores[mode], key=scores[mode].get)) for mode in MODES}
    write_json(RATES_FILE, {"epochs": epochs, "n_train": n_train, "seed": seed, "validation": scores, "best": best})
    return best


def _searched(mode, seed, learning_rate, epochs, n_train):
    return train_network(seed, mode, epochs, learning_rate, n_train)[1][-1]["device"]


def _train_and_save(mode, seed, epochs, learning_rate):
    path = weights_path(mode, seed)
    checkpoint = paths.SWEEPS / f"{path.stem}.checkpoint"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    network, history = train_network(seed, mode, epochs, learning_rate, checkpoint=checkpoint)
    save_weights(network, path, {"mode": mode, "seed": seed, "epochs": epochs, "learning_rate": learning_rate, "history": history})
    checkpoint.unlink()
    print(f"{mode}, seed {seed}: {100 * history[-1]['device']:.2f} % on the device, {100 * history[-1]['model']:.2f} % on the model (validation)", flush=True)


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.fashion", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.004, 0.008, 0.016], help="learning rates to choose from")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--again", action="store_true", help="forget the committed weights first")
    options = parser.parse_args(arguments)
    points = [(mode, seed) for seed in range(options.seeds) for mode in MODES]
    if options.again:
        for path in (RATES_FILE, *(weights_path(*point) for point in points)):
            path.unlink(missing_ok=True)
    start = time.perf_counter()
    best = json.loads(RATES_FILE.read_text())["best"] if RATES_FILE.exists() else search(options.rates, jobs=options.jobs)
    print("learning rates:", best, flush=True)
    waiting = [point for point in points if not weights_path(*point).exists()]
    Parallel(n_jobs=options.jobs)(delayed(_train_and_save)(mode, seed, options.epochs, best[mode]) for mode, seed in waiting)
    print(f"{len(points) - len(waiting)} of {len(points)} networks were there, {len(waiting)} trained in {(time.perf_counter() - start) / 60:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
