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
# # Coupled oscillators read digits: the authors' Example 1
#
# **The claim** (the authors' public notebooks, github.com/mcmahon-lab/Physics-Aware-Training, Example 1): two networks of coupled nonlinear oscillators,
# simulated, read handwritten digits (MNIST) with 97.99 % accuracy at their best epoch, 97.94 % at their last (numbers from the stored logs; the best
# epoch was picked on the test set).
#
# **What stands here.** The same task, architecture and equation with an integrator and a backward pass of our own, three seeds, a validation split taken from
# the training images, and the test set used once. Device and model are the same equation here: there is no gap between simulation and reality, gradients are
# *exact*, and physics-aware training has nothing to correct. [08_oscillators_fashion_mnist](08_oscillators_fashion_mnist.ipynb) has the gap.
#
# **The equation.** Pixels are the initial angles $q_i(0)$ (rad) of pendulums, released from rest; trainable are the couplings $J_{ij}=J_{ji}$ and
# constant drives $e_i$. With time in units of $1/\omega_0$ of one pendulum,
#
# $$\ddot q_i=-\sin q_i+\sum_j J_{ij}\,(\sin q_j-\sin q_i)+e_i,\qquad \dot q_i(0)=0,$$
#
# and the angles at $t=0.5$ are the output.

# %% tags=["parameters"]
profile = "quick"
n_seeds = 1
n_train = 12000  # images of the training set in use; full: all 60,000
n_valid = 1000  # of these, held out
n_test = 2000  # full: all 10,000
epochs = 4
batch_size = 64
learning_rates = [0.003]
search_epochs = 2
hidden = [50]  # widths of the perceptron baseline; full: one with as many numbers
jobs = 2  # processes

# %%
import numpy as np
import torch
from IPython.display import Markdown, display
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

from pnn_utils.datasets import fetch as data
from pnn_utils.augment import random_affine
from pnn_utils.datasets.images import load_images
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.networks.mlp import MLP
from pnn_utils.networks.oscillators import OscillatorNetwork, every_second_pixel, split
from pnn_utils.report.figures import COLOURS, percent, plot_accuracies, plot_band, plot_confusion, save_figure, use_house_style
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.training import accuracy, train
from pnn_utils.systems.oscillators.model import OscillatorModel, motion

cost = Cost()
use_house_style()
torch.set_num_threads(1)


def loaded(train, n):
    images, labels = load_images("mnist", train=train)
    return torch.tensor(images[:n].reshape(-1, 784) / np.float32(255)), torch.tensor(labels[:n])


images, labels = loaded(True, n_train)
print(f"{len(images)} training images; the network sees every second pixel of both directions, 14 x 14")

# %% [markdown]
# ## The device
#
# All its imperfections are switched off here.

# %%
display(Markdown(parameter_table(Oscillators(ideal=True).parameters)))

# %% [markdown]
# ## The network
#
# The 196 pixels are the initial angles of 196 coupled oscillators. Their final angles, and a zero for each of ten more, are the initial angles of
# 206; the final angles of those ten, times one trainable factor, are the logits. A coupling of an oscillator with itself exerts no force and $J$ is
# symmetric, so that $196\cdot195/2+196+206\cdot205/2+206+1=40\,628$ numbers are trained (the authors' notebook stores full matrices, 81,255).
#
# Training images are turned by up to 15°, shifted vertically by up to 5 % and scaled by 0.9 to 1.1 at random, as in the authors' notebook.


# %%
def built(seed):
    sizes = (196, 196), (206, 10)
    devices = [Oscillators(ideal=True, n_oscillators=n, n_read=read) for n, read in sizes]
    models = [OscillatorModel(n, read) for n, read in sizes]
    return OscillatorNetwork(devices, models, every_second_pixel, torch.Generator().manual_seed(seed), mode="in_silico"), devices


def trial(seed, learning_rate, epochs, final=False):
    torch.set_num_threads(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    valid, kept = order[:n_valid], order[n_valid:]
    network, devices = built(seed)
    history = train(network, images[kept], labels[kept], epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, augment=random_affine,
                    generator=torch.Generator().manual_seed(1000 + seed), validate=lambda n: {"valid": accuracy(n, images[valid], labels[valid])})
    result = {"history": history, "weights": network.state_dict(), "passes": 0}
    if final:
        test_x, test_y = loaded(False, n_test)
        with torch.no_grad():
            result["predicted"] = network.set_mode("device")(test_x).argmax(1)
        result["passes"] = sum(device.passes for device in devices)
        result["accuracy"] = float((result["predicted"] == test_y).double().mean())
    return result


def trials(settings):
    return Parallel(n_jobs=jobs)(delayed(trial)(**setting) for setting in settings)


# %% [markdown]
# ### Learning rate on validation images, then final trials
#
# The weights of the last epoch count, whatever the epochs before: the cosine schedule ends at zero.

# %%
found = trials([dict(seed=100, learning_rate=rate, epochs=search_epochs) for rate in learning_rates])
scores = [run["history"][-1]["valid"] for run in found]
best = learning_rates[int(np.argmax(scores))]
print(f"validation after {search_epochs} epochs:", ", ".join(f"rate {rate} {100 * score:.2f} %" for rate, score in zip(learning_rates, scores, strict=True)))
done = trials([dict(seed=seed, learning_rate=best, epochs=epochs, final=True) for seed in range(n_seeds)])
results = {"exact": {"accuracy": summary(run["accuracy"] for run in done)}}

# %% [markdown]
# ### Digital baselines
#
# A linear classifier and a perceptron with about as many trained numbers, on the same pixels, by the same loop with the same augmentation.


# %%
def perceptron(widths, seed):
    return MLP([196, *widths, 10], torch.Generator().manual_seed(seed), every_second_pixel)


def digital(widths, seed, augmented=True):
    torch.set_num_threads(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    network = perceptron(widths, seed)
    train(network, images[order[n_valid:]], labels[order[n_valid:]], epochs=epochs, learning_rate=0.003, batch_size=batch_size,
          augment=random_affine if augmented else None, generator=torch.Generator().manual_seed(1000 + seed))
    return accuracy(network, *loaded(False, n_test))


points = [(widths, seed, augmented) for widths, augmented in (((), False), (tuple(hidden), True)) for seed in range(n_seeds)]
scored = Parallel(n_jobs=jobs)(delayed(digital)(*point) for point in points)
baselines = {"linear": {"accuracy": summary(scored[:n_seeds])}, "mlp": {"accuracy": summary(scored[n_seeds:])}}
mlp_numbers = sum(p.numel() for p in perceptron(hidden, 0).parameters())
print(f"perceptron: {mlp_numbers} trained numbers; the linear classifier is trained without augmentation, which lowers its accuracy")

# %% [markdown]
# ## What the trained oscillators do
#
# Couplings and drives of seed 0 (a to d); phase portraits of twelve oscillators of the second network while one test image is read (e); the class
# oscillators' angles for two images: the largest at the end wins (f, g).

# %%
network, _ = built(0)
network.load_state_dict(done[0]["weights"])
test_x, test_y = loaded(False, n_test)
times = torch.linspace(0, 0.5, 26)
fig, axes = plt.subplots(2, 4, figsize=(11, 5.2))
layers = [split(network.layers[n].theta, network.sizes[n]) for n in range(2)]
for n, (couplings, drives) in enumerate(layers):
    limit = float(couplings.abs().quantile(0.99))
    image = axes[0, 2 * n].imshow(couplings, cmap="RdBu", vmin=-limit, vmax=limit)
    fig.colorbar(image, ax=axes[0, 2 * n], shrink=0.8)
    axes[0, 2 * n].set(title=f"{'ac'[n]}  $J_{{ij}}$ of network {n + 1} ($\\omega_0^2$)", xlabel="oscillator", ylabel="oscillator")
    axes[0, 2 * n + 1].plot(drives, linewidth=0.8, color=COLOURS["device"])
    axes[0, 2 * n + 1].set(title=f"{'bd'[n]}  drives of network {n + 1} ($\\omega_0^2$)", xlabel="oscillator")
shown = [int(torch.nonzero(test_y == digit)[0]) for digit in (3, 7)]
for panel, index, letter in ((axes[1, 1], shown[0], "f"), (axes[1, 2], shown[1], "g")):
    with torch.no_grad():
        angles, velocities = motion(network.hidden(test_x[index:index + 1]), *layers[1], times)
    for digit in range(10):
        right = digit == test_y[index]
        panel.plot(times, angles[:, 0, 196 + digit], color=COLOURS["pat"] if right else "#bbbbbb", linewidth=2 if right else 1, zorder=3 if right else 1)
    panel.set(title=f'{letter}  class oscillators, a "{int(test_y[index])}"', xlabel="time ($1/\\omega_0$)", ylabel="angle (rad)")
    if letter == "f":
        for oscillator in range(0, 196, 17):
            axes[1, 0].plot(angles[:, 0, oscillator], velocities[:, 0, oscillator], linewidth=1)
axes[1, 0].set(title="e  phase portraits, network 2", xlabel="angle (rad)", ylabel="velocity (rad $\\omega_0$)")
axes[1, 3].axis("off")
axes[1, 3].imshow(test_x[shown].view(2, 28, 28).permute(1, 0, 2).reshape(28, 56), cmap="gray_r")
save_figure(fig, "07_oscillators_mnist_network")

# %% [markdown]
# ## Results

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), width_ratios=(1.1, 1.1, 1.15))
plot_band(axes[0], np.arange(1, epochs + 1), [[row["valid"] for row in run["history"]] for run in done], "exact gradients", COLOURS["pat"])
axes[0].axhline(0.9799, color="#999999", linewidth=0.8, linestyle=":")
axes[0].set(title=f"a  Validation (n = {n_seeds}; dotted: the authors' best)", xlabel="epoch", ylabel="accuracy", ylim=(0.85, 1))
plot_accuracies(axes[1], {"linear classifier": baselines["linear"], f"MLP, {mlp_numbers} numbers": baselines["mlp"], "oscillators": results["exact"]},
                ["digital", "digital", "pat"])
axes[1].axvline(0.9799, color="#999999", linewidth=0.8, linestyle=":")
axes[1].set(title=f"b  Test (n = {n_seeds})")
predicted = torch.cat([run["predicted"] for run in done])
plot_confusion(axes[2], confusion_matrix(test_y.repeat(n_seeds), predicted, labels=range(10)), [str(n) for n in range(10)])
axes[2].set_title(f"c  All {len(test_y)} test images (%)")
save_figure(fig, "07_oscillators_mnist_results")

# %%
write_metrics("07_oscillators_mnist", profile, results, paper={"exact": 0.9799}, baselines=baselines, cost=cost.read(sum(run["passes"] for run in done)),
              seeds=range(n_seeds), data={"name": "MNIST, every second pixel", "sha256": data.FILES["mnist"]["train-images-idx3-ubyte"]},
              learning_rate=best, trained_numbers=sum(p.numel() for p in network.parameters()))

lines = ["| test accuracy, mean ± sd | authors | here |", "|---|---|---|",
         f"| two networks of oscillators, exact gradients | 97.99 % (best epoch), 97.94 % (last) | {percent(results['exact']['accuracy'], 2)} |",
         f"| digital: perceptron, {mlp_numbers} trained numbers | | {percent(baselines['mlp']['accuracy'], 2)} |",
         f"| digital: linear classifier | | {percent(baselines['linear']['accuracy'], 2)} |"]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **The authors' number stands under stricter rules.** Three seeds, weights of the last epoch, the test set read once: 98.28 ± 0.07 %, after 50 epochs. The
# authors' single run of 20 epochs has 97.94 % at its last epoch and 97.99 % at the best, picked on the test set. Half of the numbers are trained, because a
# symmetric matrix has only so many.
#
# **It is fast.** An epoch of 55,000 images takes three to four seconds on one core: couplings formed once a pass, an integrator made for second-order equations
# that start from rest, and a backward pass without wasted products (`make bench` compares it with a plain implementation).
#
# **A perceptron does better with as many numbers.** 98.5 % with 196 rectified units, trained by the same loop on the same augmented images. Pendulums, too,
# show that physics can be trained, not that it is the better classifier.
#
# **No gap, no PAT.** Here the model is the device, training in silico is exact training, and nothing is lost on deployment. Everything that
# physics-aware training is for begins with a device that differs from its model.
