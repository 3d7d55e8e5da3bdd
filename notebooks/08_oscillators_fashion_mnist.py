# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Coupled oscillators with a gap: the authors' Example 2
#
# **The claim** (the authors' public notebooks, github.com/mcmahon-lab/Physics-Aware-Training,
# Example 2): 1,610 coupled oscillators, whose simulation differs from the "device" in its
# nonlinearity and in every coupling, read Fashion-MNIST with 90.10 % accuracy at their best epoch
# and 89.76 % at their last (numbers from the stored logs), trained by physics-aware training
# (PAT). What training in silico gives was not published.
#
# **What stands here.** The same task, architecture and gap on a *simulated device*; PAT against in
# silico training, 20 epochs each, three seeds, each method at the best of three learning rates.
# These trainings take two hours on two cores and have a command of their own,
# `make reproduce-long`, which runs this notebook with `retrain = True`. Without it the notebook
# evaluates the weights that are committed, on the device, and trains a shortened version.
#
# **The equation.** As in [07_oscillators_mnist](07_oscillators_mnist.ipynb), angles in rad, time
# in units of $1/\omega_0$, for the model
#
# $$\ddot q_i=-\sin q_i+\sum_j J_{ij}\,(\sin q_j-\sin q_i)+e_i ,\qquad \dot q_i(0)=0,$$
#
# and for the device with $\sin(1.1\,q)$ for every sine, a fixed error on every coupling (standard
# deviation 0.14 $\omega_0^2$), and noise of 0.02 rad on every initial angle.

# %% tags=["parameters"]
profile = "quick"
n_seeds = 1  # of the long trainings, as many as there are weights for; full: 3
n_test = 500  # test images; full: all 10,000
short_epochs = 1  # of the shortened version
short_images = 5000
short_seeds = 1
baseline_images = 10000  # full: all 60,000
baseline_epochs = 5  # full: 12
extensions = 0  # how often a grid of rates may grow where its edge is best; full: 3
retrain = False  # True: train the long networks again, about two hours, and keep their weights
long_epochs = 20
long_images = 60000
long_rates = [0.004, 0.008, 0.016]
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes, of up to a gigabyte each; full: 2

# %%
import json
import math
import warnings

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix
from torch.nn.functional import cosine_similarity, cross_entropy

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.datasets.images import load_images
from pnn_utils.experiment import Choice, grid, results_file, search, sweep
from pnn_utils.networks import MLP, Oscillating, split
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, folded_table, percent, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.oscillators.device import TABLE, Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel, motion
from pnn_utils.training import Devices, accuracy, accuracy_on_device, accuracy_on_model, train

# %%
NAME = "08_oscillators_fashion_mnist"
METHODS = {"pat": "PAT", "in_silico": "in silico"}
CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
           "boot"]
cost = Cost()
use_house_style()
warnings.filterwarnings("ignore", message="A worker stopped")  # joblib replaces grown workers
torch.set_num_threads(1)

# %% [markdown]
# ## The device
#
#       q_1   J_12   q_2   J_23   q_3          data: angles q_i(0) at the release
#        o~~~~~~~~~~~~o~~~~~~~~~~~~o           parameters: couplings J_ij, drives e_i
#        |            |            |           reading: angles q_i(t) after a fixed time
#       e_1          e_2          e_3
#
# The model knows the duration, and none of the three imperfections.

# %%
shown = ("duration", "nonlinearity", "coupling_noise", "input_noise")
display(Markdown(folded_table(parameter_table(TABLE), *shown)))

# %% [markdown]
# ## The network
#
# Sixteen tiles of 7 x 7 pixels. Each tile's 49 pixels, and 51 zeros, are the initial angles of 100
# oscillators, one network shared by all tiles. The $16\times100$ final angles, and a zero for each
# class, are the initial angles of 1,610 oscillators; the final angles of the last ten, times one
# trainable factor, are the logits: 1,301,906 trained numbers (the authors' notebook stores full
# matrices, 2,603,811).

# %%
SIZES = (100, 100), (1610, 10)  # oscillators, and how many of them are read
BOUND, FACTOR = 0.8, 2.0  # of couplings and drives at the start; of the logits


def tiles(images):
    """The sixteen 7 x 7 tiles, row by row: (rows, 784) -> (rows, 16, 49)."""
    return images.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(len(images), 16, 49)


def plain_model(device):
    """The equation without the device's imperfections."""
    return OscillatorModel(device.input_dim, device.output_dim)


def built(seed, mode, model=plain_model, bound=BOUND):
    """An untrained network and its devices, with errors and noise of their own for each seed."""
    devices = [Oscillators(seed=10 * seed + n, noise_seed=100 + 10 * seed + n,
                           n_oscillators=size, n_read=read)
               for n, (size, read) in enumerate(SIZES)]
    network = Oscillating(devices, [model(device) for device in devices], tiles,
                          torch.Generator().manual_seed(seed), mode=mode, bound=bound,
                          factor=FACTOR)
    return network, devices


# %% [markdown]
# ## Training
#
# Adam and a cosine schedule. Training images are mirrored at random, as the authors' are. Ours: in
# the first three quarters of the epochs they are also moved by up to one pixel, which keeps the
# network from learning single images by heart, and in the last quarter they are not, because the
# test images are not moved; batches of 128 instead of 32, because a product of more rows with the
# same matrix of couplings costs less a row.

# %%
N_VALID, BATCH_SIZE = 5000, 128
ALL, CHECKING, OTHERS = slice(None), slice(-N_VALID, None), slice(-N_VALID)


def loaded(train, chosen=ALL):
    """Images, from 0 to 1, shape (n, 784), and labels of those that an index chooses."""
    images, labels = load_images("fashion_mnist", train=train)
    images = torch.tensor(images.reshape(-1, 784)[chosen])
    return images.float().div_(255), torch.tensor(labels[chosen])


def drawn(seed, n, part):
    """A part of the first n training images, in an order drawn by `seed`."""
    return loaded(True, torch.randperm(n, generator=torch.Generator().manual_seed(seed))[part])


# %%
def random_flip(images, generator):
    """Mirror half of the images, chosen at random, left to right."""
    side = math.isqrt(images.shape[1])
    chosen = torch.rand(len(images), 1, generator=generator) < 0.5
    mirrored = images.reshape(-1, side, side).flip(2).reshape(images.shape)
    return torch.where(chosen, mirrored, images)


def random_shift(images, generator, pixels=1):
    """Move each image by whole pixels, up to `pixels` any way, zeros from outside."""
    rows, side = len(images), math.isqrt(images.shape[1])
    framed = torch.nn.functional.pad(images.reshape(-1, side, side), (pixels,) * 4)
    down, right = torch.randint(2 * pixels + 1, (2, rows, 1), generator=generator)
    places, row = torch.arange(side), torch.arange(rows)[:, None, None]
    moved = framed[row, (places + down)[:, :, None], (places + right)[:, None, :]]
    return moved.reshape(images.shape)


def flipped_and_moved(images, generator):
    return random_shift(random_flip(images, generator), generator)


# %%
READERS = {"device": accuracy_on_device, "model": accuracy_on_model}


def trained(mode, seed, learning_rate, epochs, n_images, *, hold_out=True, watch=("device",),
            checkpoint=None):
    """A trained network and its history, with the accuracy of 5,000 images after each epoch.

    With `hold_out` these images are kept out of the training, as settings have to be chosen.
    """
    network, devices = built(seed, mode)
    checking = drawn(seed, n_images, CHECKING)
    history = train(
        network, *drawn(seed, n_images, OTHERS if hold_out else ALL), epochs=epochs,
        learning_rate=learning_rate, batch_size=BATCH_SIZE, augment=flipped_and_moved,
        late_augment=random_flip, late_epochs=epochs // 4, device=Devices(devices),
        generator=torch.Generator().manual_seed(1000 + seed), checkpoint=checkpoint,
        validate=lambda network: {where: READERS[where](network, *checking) for where in watch})
    return network, history


# %% [markdown]
# ## Learning rate
#
# Every rate is tried in full, 20 epochs, with seed 0 and 5,000 training images held out, and
# judged by its last epoch on these images, read on the device, whatever the method. Shorter
# searches mislead here: what is best after four epochs can break down before the twentieth. With
# the rate chosen, the networks that count are trained from the start on all 60,000 images, as the
# authors' is.
#
# With `retrain = True` the next cells do that. A stopped run goes on from the last whole epoch of
# each training; trainings that are done are lines of a file in `data/sweeps`. Weights and the
# record of the search in `data/weights` are replaced when all are done.

# %%
WEIGHTS = (files.RESULTS if retrain else files.ROOT) / "data" / "weights"
RATES_FILE = WEIGHTS / "fashion_rates.json"
LONG = results_file(NAME, epochs=long_epochs, images=long_images)


def weights_path(mode, seed):
    return WEIGHTS / f"fashion_{mode}_{seed}.safetensors"


def beside(suffix, *names):
    """A file of the long trainings under way."""
    return LONG.with_name("-".join([LONG.stem, *map(str, names)]) + suffix)


# %%
def long_trial(mode, seed, learning_rate, hold_out):
    """Train for long; the history, empty if numbers that are not finite ended the search's."""
    checkpoint = beside(".checkpoint", mode, seed, learning_rate, hold_out)
    try:
        network, history = trained(mode, seed, learning_rate, long_epochs, long_images,
                                   hold_out=hold_out, watch=READERS, checkpoint=checkpoint)
    except FloatingPointError:
        if not hold_out:
            raise
        return []
    if not hold_out:
        about = dict(mode=mode, seed=seed, epochs=long_epochs, learning_rate=learning_rate,
                     hold_out=hold_out, history=history)
        half = {name: value.half() for name, value in network.state_dict().items()}
        files.save_tensors(beside(".safetensors", mode, seed), half, about)
    return history


# %%
def histories(points):
    return sweep(long_trial, points, LONG, scheduler=scheduler, jobs=jobs)


def search_rates():
    """Try all rates in full; what is kept of the search."""
    tried = {mode: {} for mode in METHODS}

    def score(pairs):
        points = [dict(mode=mode, seed=0, learning_rate=rate, hold_out=True)
                  for mode, rate in pairs]
        for (mode, rate), history in zip(pairs, histories(points), strict=True):
            curve = [{where: row[where] for where in READERS} for row in history]
            tried[mode][rate] = {"learning_rate": rate, "history": curve,
                                 "validation": curve[-1]["device"] if curve else 0.0}
        return [tried[mode][rate]["validation"] for mode, rate in pairs]

    choices = search(score, long_rates, METHODS, extensions)
    return {"epochs": long_epochs, "seed": 0,
            "tried": {mode: [tried[mode][rate] for rate in sorted(tried[mode])] for mode in tried},
            "best": {mode: choice.rate for mode, choice in choices.items()}}


# %%
def train_long():
    """Choose the rates, train all networks, and only then replace the files that are kept."""
    record = search_rates()
    points = [dict(point, learning_rate=record["best"][point["mode"]], hold_out=False)
              for point in grid(seed=range(n_seeds), mode=list(METHODS))]
    histories(points)
    for point in points:
        mode, seed = point["mode"], point["seed"]
        kept = files.load_tensors(beside(".safetensors", mode, seed))
        files.save_tensors(weights_path(mode, seed), *kept)
    files.write_json(RATES_FILE, record)
    for path in (LONG, *LONG.parent.glob(f"{LONG.stem}-*")):
        path.unlink()


# %%
if retrain:
    train_long()
found = json.loads(RATES_FILE.read_text())
tried = {mode: {one["learning_rate"]: one for one in found["tried"][mode]} for mode in METHODS}


def validation(mode, rate):
    if rate not in tried[mode]:
        return ""
    value = tried[mode][rate]["validation"]
    return f"{100 * value:.2f} %" if value else "broke down"


lines = [f"| learning rate | {' | '.join(f'{name}, validation' for name in METHODS.values())} |",
         "|---" * (1 + len(METHODS)) + "|"]
for rate in sorted({rate for mode in METHODS for rate in tried[mode]}):
    lines.append(f"| {rate:g} | {' | '.join(validation(mode, rate) for mode in METHODS)} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Where the couplings start, and what it does to the gradient
#
# The first network learns through the second: an angle $q_i$ moves the class oscillator $c$ by
# about $\tfrac12t^2J_{ci}\cos q_i$. The device has $J_{ci}+R_{ci}$ there, with errors $R$ of 0.14
# $\omega_0^2$; the model knows nothing of $R$. If the couplings start within $1/\sqrt N$, for
# 1,610 oscillators with a standard deviation of 0.01 $\omega_0^2$, the model's gradient for the
# first network has nothing to do with the device's. Here all couplings and drives start within
# ±0.8 $\omega_0^2$ (standard deviation 0.33 for couplings, 0.46 for drives), and the output factor
# at 2.
#
# The device is simulated, so its true gradient is known, though no training sees it: with $s=1.1$,
# $Q=sq$ obeys the model's equation in the time $\sqrt s\,t$. The table gives cosines between it
# and the gradients that PAT and in silico training follow (256 training images).


# %%
class TrueMotion:
    """The device's own motion without its noise, differentiable."""

    def __init__(self, device):
        self.slope = 1 + device.parameters.nonlinearity
        duration = device.parameters.duration * self.slope**0.5
        self.model = OscillatorModel(device.input_dim, device.output_dim, duration=duration)
        errors = torch.from_numpy(device.coupling_errors)
        self.errors = torch.cat([errors, torch.zeros(device.input_dim)])

    def __call__(self, x, theta):
        return self.model(self.slope * x, theta + self.errors) / self.slope


def load_weights(network, mode, seed):
    """Fill a network with the weights of a long training; what they say about themselves."""
    path = weights_path(mode, seed)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `make reproduce-long` writes it")
    tensors, about = files.load_tensors(path)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return about


# %%
def gradients(mode, model, bound, trained_by):
    network, _ = built(0, mode, model, bound)
    if trained_by:
        load_weights(network, trained_by, 0)
    cross_entropy(network(images), labels).backward()
    return [layer.theta.grad for layer in network.layers]


def cosines(bound, trained_by):
    true = gradients("in_silico", TrueMotion, bound, trained_by)
    return {mode: [float(cosine_similarity(mine, one, 0)) for mine, one in
                   zip(gradients(mode, plain_model, bound, trained_by), true, strict=True)]
            for mode in METHODS}


images, labels = drawn(0, long_images, slice(256))
states = {"start, within 1/√N": (None, None), "start, within ±0.8": (BOUND, None),
          "after PAT": (BOUND, "pat"), "after in silico training": (BOUND, "in_silico")}
gradient_cosines = {name: cosines(*state) for name, state in states.items()}
lines = ["| cosine with the true gradient | PAT, first network | PAT, second "
         "| in silico, first | in silico, second |", "|---|---|---|---|---|"]
for name, of in gradient_cosines.items():
    values = [f"{value:.2f}" for mode in METHODS for value in of[mode]]
    lines.append(f"| {name} | {' | '.join(values)} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## The long trainings, evaluated
#
# Committed weights are in float16, half of each symmetric matrix. What the rounding costs is
# measured on the model, which has no noise: the accuracy of 5,000 training images with the
# committed weights against that of the last epoch, noted by the training when the weights were in
# float32.


# %%
def read(network):
    """Read all test images on the device, then on the model."""
    images, labels = loaded(False, slice(n_test))
    with torch.no_grad():
        device, model = (torch.cat([network.set_mode(mode)(part).argmax(1)
                                    for part in images.split(1000)])
                         for mode in ("device", "in_silico"))
    return {"accuracy": share(device == labels), "on_model": share(model == labels),
            "label_agreement": share(device == model), "predicted": device.tolist()}


def share(right):
    return float(right.double().mean())


def evaluated(mode, seed):
    network, devices = built(seed, mode)
    about = load_weights(network, mode, seed)
    result = read(network) | {"passes": Devices(devices).passes, "last": about["history"][-1]}
    rounded = accuracy_on_model(network, *drawn(seed, long_images, CHECKING))
    result["rounding"] = rounded - about["history"][-1]["model"]
    return result | {"about": {key: about[key] for key in ("epochs", "learning_rate", "hold_out")}}


# %% [markdown]
# ## A shortened version, trained here
#
# The same functions and learning rates, fewer images and epochs. Its numbers carry the ending
# `_short`, so that nobody takes them for the long ones.


# %%
def shortened(mode, seed):
    network, history = trained(mode, seed, found["best"][mode], short_epochs,
                               short_images + N_VALID)
    return read(network) | {"passes": history[-1]["passes"]}


# %% [markdown]
# ## Digital baselines
#
# A linear classifier and a perceptron with about as many trained numbers as the oscillators have,
# on the same pixels, by the same loop, with mirrored images. Two learning rates, each with and
# without moving the images in the first three quarters of the epochs; the best of the four, judged
# by seed 0 in full on 5,000 images held out, is used for all seeds, which train on all images, as
# the oscillators do.

# %%
WIDTHS = {"linear": [], "mlp": [800, 800]}


def perceptron(kind, seed):
    return MLP([784, *WIDTHS[kind], 10], torch.Generator().manual_seed(seed))


def digital(kind, moves, learning_rate, seed, hold_out):
    network = perceptron(kind, seed)
    train(network, *drawn(seed, baseline_images, OTHERS if hold_out else ALL),
          epochs=baseline_epochs, learning_rate=learning_rate, batch_size=BATCH_SIZE,
          augment=flipped_and_moved if moves else random_flip, late_augment=random_flip,
          late_epochs=baseline_epochs // 4, generator=torch.Generator().manual_seed(1000 + seed))
    result = {"checking": accuracy(network, *drawn(seed, baseline_images, CHECKING))}
    if not hold_out:
        result["accuracy"] = accuracy(network, *loaded(False, slice(n_test)))
    return result


# %% [markdown]
# ## All of it
#
# The search for the baselines' settings, then every evaluation and training above.

# %%
TRIALS = {"evaluated": evaluated, "shortened": shortened, "digital": digital}


def trial(part, **point):
    return TRIALS[part](**point)


kept_results = results_file(
    NAME, rates=found["best"], n_test=n_test, short=[short_epochs, short_images],
    long=long_images, baselines=[baseline_epochs, baseline_images],
    weights=[files.sha256(path) for path in sorted(WEIGHTS.glob("fashion_*"))])


def run(points):
    return sweep(trial, points, kept_results, scheduler=scheduler, jobs=jobs)


def score(pairs):
    return [result["checking"] for result in run([
        dict(part="digital", kind=kind, moves=moves, learning_rate=rate, seed=0, hold_out=True)
        for (kind, moves), rate in pairs])]


choices = search(score, [0.001, 0.004], [(kind, moves) for kind in WIDTHS
                                         for moves in (True, False)], extensions)

# %%
chosen = {}
for kind in WIDTHS:
    moves = max((True, False), key=lambda moves: max(choices[kind, moves].scores.values()))
    chosen[kind] = {"learning_rate": choices[kind, moves].rate, "moves": moves}
points = grid(part=["shortened"], mode=list(METHODS), seed=range(short_seeds))
points += [dict(part="digital", kind=kind, seed=seed, hold_out=False, **chosen[kind])
           for kind in ("mlp", "linear") for seed in range(n_seeds)]
points += grid(part=["evaluated"], mode=list(METHODS), seed=range(n_seeds))
runs = {}
for point, result in zip(points, run(points), strict=True):
    runs.setdefault((point["part"], point.get("mode", point.get("kind"))), []).append(result)


def collected(part, name, quantity):
    return summary(one[quantity] for one in runs[part, name])


# %%
results = {}
for mode in METHODS:
    results[mode] = {quantity: collected("evaluated", mode, quantity)
                     for quantity in ("accuracy", "label_agreement")}
    results[f"{mode}_on_model"] = {"accuracy": collected("evaluated", mode, "on_model")}
    results[f"{mode}_short"] = {"accuracy": collected("shortened", mode, "accuracy")}
    results[f"{mode}_on_model_short"] = {"accuracy": collected("shortened", mode, "on_model")}
baselines = {kind: {"accuracy": collected("digital", kind, "accuracy")} for kind in WIDTHS}
training = {kind: collected("digital", kind, "checking") for kind in WIDTHS}
for mode in METHODS:
    training[mode] = summary(one["last"]["device"] for one in runs["evaluated", mode])
rounding = max((one["rounding"] for mode in METHODS for one in runs["evaluated", mode]), key=abs)
mlp_numbers = sum(p.numel() for p in perceptron("mlp", 0).parameters())
print(f"float16 changes the accuracy of training images on the model by at most "
      f"{100 * rounding:+.2f} points")
print(f"perceptron: {mlp_numbers:,} trained numbers; chosen: {chosen}")
print("accuracy of 5,000 training images:",
      ", ".join(f"{name} {percent(value, 2)}" for name, value in training.items()))

# %% [markdown]
# ## What the trained oscillators do
#
# The large network of PAT's seed 0: couplings and drives (a, b), phase portraits of twelve
# oscillators while one test image is read (c), and the class oscillators' angles (d), on the
# model.

# %%
network, _ = built(0, "in_silico")
load_weights(network, "pat", 0)
couplings, drives = split(network.layers[1].theta, 1610)
test_x, test_y = loaded(False, slice(n_test))
times = torch.linspace(0, 0.5, 26)
with torch.no_grad():
    angles, velocities = motion(network.hidden(test_x[:1]), couplings, drives, times)

fig, axes = plt.subplots(1, 4, figsize=(11, 2.8))
limit = float(couplings[:400, :400].abs().quantile(0.99))
axes[0].imshow(couplings[::4, ::4], cmap="RdBu", vmin=-limit, vmax=limit,
               extent=(0, 1610, 1610, 0))
axes[0].set(title="a  couplings (every fourth)", xlabel="oscillator", ylabel="oscillator")
axes[1].plot(drives, linewidth=0.5, color=COLOURS["device"])
axes[1].set(title="b  drives ($\\omega_0^2$)", xlabel="oscillator")
axes[2].plot(angles[:, 0, :1600:134], velocities[:, 0, :1600:134], linewidth=1)
axes[2].set(title="c  phase portraits", xlabel="angle (rad)", ylabel="velocity (rad $\\omega_0$)")
axes[3].plot(times, angles[:, 0, 1600:], color="#bbbbbb", linewidth=1)
axes[3].plot(times, angles[:, 0, 1600 + test_y[0]], color=COLOURS["pat"], linewidth=2)
axes[3].set(title=f"d  class oscillators, {CLASSES[test_y[0]]}", xlabel="time ($1/\\omega_0$)",
            ylabel="angle (rad)")
save_figure(fig, NAME, "network")

# %% [markdown]
# ## Results

# %%
def draw_curves(axes):
    styles = [("pat", "device", "PAT, on the device", "pat", "-"),
              ("pat", "model", "PAT, on the model", "pat", ":"),
              ("in_silico", "device", "in silico, on the device", "in_silico", "-"),
              ("in_silico", "model", "in silico, on its own model", "in_silico_on_model", "--")]
    for mode, where, label, colour, style in styles:
        curve = [row[where] for row in tried[mode][found["best"][mode]]["history"]]
        axes.plot(np.arange(1, len(curve) + 1), curve, label=label, color=COLOURS[colour],
                  linestyle=style)
    axes.set(title="a  Held-out images, best rate (one seed)", xlabel="epoch", ylabel="accuracy",
             ylim=(0.75, 0.95))
    axes.legend(fontsize=7, loc="lower right")


def draw_accuracies(axes):
    rows = {"linear classifier": (baselines["linear"], "digital"),
            "MLP, as many numbers": (baselines["mlp"], "digital"),
            "PAT": (results["pat"], "pat"), "in silico": (results["in_silico"], "in_silico"),
            "in silico, on its model": (results["in_silico_on_model"], "in_silico_on_model"),
            "PAT, shortened": (results["pat_short"], "pat"),
            "in silico, shortened": (results["in_silico_short"], "in_silico")}
    shown, colours = zip(*rows.values(), strict=True)
    figures.plot_accuracies(axes, dict(zip(rows, shown, strict=True)), colours)
    axes.axvline(0.8976, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(title="b  Test (dotted: the authors' last epoch)")


# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3.7), width_ratios=(1.1, 1.1, 1.2))
draw_curves(axes[0])
draw_accuracies(axes[1])
predicted = [label for one in runs["evaluated", "pat"] for label in one["predicted"]]
matrix = confusion_matrix(test_y.repeat(n_seeds), predicted, labels=range(10))
figures.plot_confusion(axes[2], matrix, CLASSES)
axes[2].tick_params(axis="x", rotation=90)
axes[2].set_title("c  PAT, test images (%)")
save_figure(fig, NAME, "results")

# %%
WHICH = {"trained by make reproduce-long, weights committed, evaluated here":
         ["pat", "in_silico", "pat_on_model", "in_silico_on_model"],
         "trained here, shortened":
         ["pat_short", "in_silico_short", "in_silico_on_model_short"]}
searches = {f"{kind}, {'moved' if moves else 'not moved'}": choice._asdict()
            for (kind, moves), choice in choices.items()}
for mode, rate in found["best"].items():
    scores = {tested: one["validation"] for tested, one in tried[mode].items()}
    searches[mode] = Choice(rate, scores, rate in (min(scores), max(scores)))._asdict()
passes = sum(one["passes"] for of in METHODS for part in ("evaluated", "shortened")
             for one in runs[part, of])
write_metrics(NAME, profile, results, paper={"pat": 0.8976}, baselines=baselines,
              cost=cost.read(passes), seeds=range(n_seeds), data={
                  "name": "Fashion-MNIST",
                  "sha256": fetch.FILES["fashion_mnist"]["train-images-idx3-ubyte"]},
              batch_size=BATCH_SIZE, which=WHICH, float16_effect=rounding,
              long_training={f"{mode}_{seed}": one["about"] for mode in METHODS
                             for seed, one in enumerate(runs["evaluated", mode])},
              baselines_chosen=chosen, gradient_cosines=gradient_cosines, searches=searches,
              training_accuracy=training)
kept_results.unlink()  # the next run computes anew

# %%
lines = ["| test accuracy, mean ± sd | authors | on the device | on the model | same label |",
         "|---|---|---|---|---|"]
authors = {"pat": "89.76 % (last), 90.10 % (best)", "in_silico": ""}
for mode, name in METHODS.items():
    epochs = runs["evaluated", mode][0]["about"]["epochs"]
    values = (results[mode]["accuracy"], results[f"{mode}_on_model"]["accuracy"],
              results[mode]["label_agreement"])
    lines.append(f"| {name}, {epochs} epochs | {authors[mode]} "
                 f"| {' | '.join(percent(value, 2) for value in values)} |")
for mode, name in METHODS.items():
    value = results[f"{mode}_short"]["accuracy"]
    lines.append(f"| {name}, shortened, trained here | | {percent(value, 2)} | | |")
for kind, name in {"mlp": f"perceptron, {mlp_numbers:,} trained numbers",
                   "linear": "linear classifier"}.items():
    value = baselines[kind]["accuracy"]
    lines.append(f"| digital: {name} | | {percent(value, 2)} | | |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# - **On the device PAT reads 89.88 ± 0.13 % (n = 3); the authors' last epoch reads 89.76 %.** The
#   difference is less than one seed's spread, and the 10,000 test images alone leave 0.3 points of
#   doubt: the two agree. No checkpoint was chosen here; the authors' best epoch, 90.10 %, was
#   chosen on the test set.
# - **In silico training reads 88.30 ± 0.20 % on the device and 90.66 ± 0.17 % on its own model.**
#   The gap between model and device costs it 2.4 points, and PAT is 1.6 points above it, with
#   every seed. PAT's networks are worse on the model (89.62 ± 0.22 %) than on the device: they
#   have learnt the device's errors along with the task.
# - **In silico training is not helpless here.** A larger learning rate helps it more than PAT:
#   from 0.004 to 0.008 its accuracy on held-out images gains 1.6 points, PAT's 0.6 (one seed). A
#   likely reason, not tested: couplings that move farther drown the errors of 0.14 $\omega_0^2$.
#   At 0.016 both break down. How much PAT wins depends on how well the other is tuned.
# - **PAT's gradient is far from the true one at the end**: the cosine is 0.51 for the first
#   network and 0.83 for the second. How much of that is the model's error and how much the
#   device's noise, and what a better model would win, is not measured here.
# - **Digital references:** a perceptron with about as many trained numbers reads 89.79 ± 0.18 %, a
#   tie with PAT, and does better without the moves than with them; a linear classifier reads 82.53
#   ± 0.09 %.
# - **What the test set was used for.** It was read for an earlier set of these networks too,
#   trained on 55,000 images with 5,000 held out: PAT 89.76 ± 0.06, in silico 88.18 ± 0.11,
#   perceptron 89.65 ± 0.10, linear 82.47 ± 0.02 %. After that reading one thing was changed, for
#   all four alike: with the settings chosen, the held-out images train as well. The digital
#   references had been read once before that, 89.08 and 80.66 %, without the choice to leave the
#   moves away; it was added then. No setting of the oscillators came from test images.
# - **Outside of the pipeline**, with seed 0, on held-out images: moving the images was settled for
#   both methods alike. Label smoothing and a rate of 0.011 (PAT, in full), batches of 64 and
#   larger couplings to the class oscillators (PAT, half way) were not visibly better; none was
#   adopted.
# - The float16 of the committed weights leaves the accuracy of 5,000 images as it was, for each of
#   the six networks. The device is simulated, its errors are the authors' numbers, and 1.3 million
#   couplings, each set at will, are not a machine that anybody has built.
