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
# # A five-minute tour: what a physical neural network is (Fig. 1)
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 1): any controllable physical system can be a layer of a neural
# network. Data $x$ and trainable parameters $\theta$ go in through its controls, the measurement is its output,
# several in sequence make a deep network, and *physics-aware training* (PAT) trains it: forward through the device, backward through a
# differentiable digital model.
#
# $$\text{forward: } y = f_p(x,\theta)\qquad\qquad
# \text{backward: } \frac{\partial L}{\partial\theta}\approx\Big(\frac{\partial f_m}{\partial\theta}\Big|_{x,\theta}\Big)^{\!T}\frac{\partial L}{\partial y}$$
#
# $f_p$ is the device, $f_m$ its model, and the loss $L$ is computed from what the device really gave. Controls $x,\theta$ are field
# amplitudes between 0 and 1; $y$ is charge in units of a detector's full well.
#
# The device on this page is a *simulated* one: a laser pulse is shaped, doubled in frequency by a crystal, and its new spectrum is read by a
# noisy spectrometer. [02_shg_vowels](02_shg_vowels.ipynb) has the physics; here it is a black box.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
steps = 250
learning_rate = 0.1
n_pairs = 6000  # measured pairs for the digital model
n_seeds = 3

# %%
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.datasets import make_moons

from pnn_utils.baselines import linear_classifier
from pnn_utils.metrics import Cost, summary, write_metrics
from pnn_utils.networks.spectral import SpectralNetwork, signal_like_controls
from pnn_utils.plotting import COLOURS, plot_band, save_figure, use_house_style
from pnn_utils.systems.shg import SHG
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twins.fit import fit_twin, judge_twin, random_controls

cost = Cost()
use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 1. A device
#
# Fifty data controls, fifty parameter controls, fifty readings. No formula, no derivative; the same controls twice give two
# slightly different readings, because light is noisy.

# %%
device = SHG(seed=0, noise_seed=1)
x, theta = random_controls(device, 1, np.random.default_rng(0))
twice = np.concatenate([device(x, theta), device(x, theta)])
for reading in twice:
    print("five of the fifty bins, % of full well:", *(f"{100 * y:.2f}" for y in reading[20:25]))

# %% [markdown]
# ## 2. A digital model of it
#
# Measure the device at many controls and fit a small neural network to what it answered. The noise floor is what a perfect
# model would reach.

# %%
rng = np.random.default_rng(2)
uniform = random_controls(device, n_pairs // 4, rng)
alike = signal_like_controls(device, 3 * n_pairs // (4 * n_layers), n_layers, rng)
controls = [np.concatenate(pair) for pair in zip(uniform, alike, strict=True)]
twin, _ = fit_twin(device, *controls, device(*controls), epochs=15, generator=torch.Generator().manual_seed(3))
scores = judge_twin(twin, device, *signal_like_controls(device, 300, n_layers, rng))
print(f"median R^2 over bins {np.median(scores['r2']):.4f}, noise floor {np.median(scores['floor']):.4f}")

# %% [markdown]
# ## 3. Train it: with physics in the loop, and without
#
# Two interleaved half-moons, a toy that no straight line separates. Three passes through the device make the
# network. *PAT* trains with the device in the forward pass; *in silico* training uses the model alone and meets the device
# only when it is finished.


# %%
def points(n, seed):
    x, y = make_moons(n, noise=0.12, random_state=seed)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def one_run(mode, seed):
    device = SHG(seed=0, noise_seed=100 + seed)
    x, y = points(200, seed)
    watch_x, watch_y = points(200, 1000 + seed)
    network = SpectralNetwork(device, twin, 2, 2, n_layers, torch.Generator().manual_seed(seed))
    network.set_mode("device").calibrate(x)
    history = train(network.set_mode(mode), x, y, epochs=steps, learning_rate=learning_rate,
                    validate=lambda net: {"device": accuracy_on_device(net, watch_x, watch_y)})
    test_x, test_y = points(500, 2000 + seed)
    return {"history": [row["device"] for row in history], "network": network, "passes": device.passes,
            "device": accuracy_on_device(network, test_x, test_y), "model": accuracy(network.set_mode("in_silico"), test_x, test_y)}


runs = {mode: [one_run(mode, seed) for seed in range(n_seeds)] for mode in ("pat", "in_silico")}

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.9))
signal = 100 * device(np.repeat(x, 20, 0), theta[0])
frequency = (np.arange(50) - 24.5) * device.parameters.bin_width / 1e12
axes[0].plot(frequency, signal.T, color=COLOURS["device"], alpha=0.15)
with torch.no_grad():
    axes[0].plot(frequency, 100 * twin(torch.tensor(x), torch.tensor(theta))[0], color=COLOURS["model"], label="digital model")
axes[0].plot([], [], color=COLOURS["device"], label="simulated device, 20 readings")
axes[0].set(title="a  One set of controls", xlabel="second-harmonic detuning (THz)", ylabel="charge (% of full well)", ylim=(0, 1.35 * signal.max()))
axes[0].legend(fontsize=7, loc="upper left")
for mode, label in (("pat", "PAT"), ("in_silico", "in silico")):
    plot_band(axes[1], np.arange(1, steps + 1), [run["history"] for run in runs[mode]], label, COLOURS[mode])
axes[1].set(title=f"b  Accuracy on the device (n = {n_seeds}, 2 s.e.)", xlabel="training step", ylabel="accuracy", ylim=(0.4, 1.02))
axes[1].legend(loc="lower right")
network = runs["pat"][0]["network"].set_mode("device")
across, up = np.meshgrid(np.linspace(-1.6, 2.6, 60), np.linspace(-1.1, 1.6, 45))
with torch.no_grad():
    logits = network(torch.tensor(np.stack([across.ravel(), up.ravel()], 1), dtype=torch.float32))
axes[2].contourf(across, up, (logits[:, 1] - logits[:, 0]).sigmoid().reshape(across.shape), levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.7)
shown_x, shown_y = points(200, 0)
axes[2].scatter(*shown_x.T, c=shown_y, cmap="RdBu", s=8, edgecolors="black", linewidths=0.4)
axes[2].set(title="c  What the light decides (PAT)", xlabel="$x_1$", ylabel="$x_2$")
save_figure(fig, "00_tour")

# %% [markdown]
# The ragged border in panel c is noise: every pixel is a new measurement.

# %%
results = {"pat": {"accuracy": summary(run["device"] for run in runs["pat"])},
           "in_silico": {"accuracy": summary(run["device"] for run in runs["in_silico"])},
           "in_silico_on_model": {"accuracy": summary(run["model"] for run in runs["in_silico"])}}
linear = []
for seed in range(n_seeds):
    (train_x, train_y), (test_x, test_y) = points(200, seed), points(500, 2000 + seed)
    linear.append(linear_classifier().fit(train_x, train_y).score(test_x, test_y))
baselines = {"linear": {"accuracy": summary(linear)}}
write_metrics("00_tour", profile, results, baselines=baselines, seeds=range(n_seeds),
              cost=cost.read(device.passes + sum(run["passes"] for group in runs.values() for run in group)),
              data={"name": "half-moons, drawn by seed", "sha256": ""})
lines = ["| | paper | test accuracy here |", "|---|---|---|"]
for label, value in [("PAT, on the device", results["pat"]), ("in silico, on the device", results["in_silico"]),
                     ("in silico, on its own model", results["in_silico_on_model"]), ("digital: logistic regression", baselines["linear"])]:
    accuracy_here = value["accuracy"]
    lines.append(f"| {label} | not in the paper | {100 * accuracy_here['mean']:.1f} ± {100 * accuracy_here['sd']:.1f} % (n = {n_seeds}) |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## 4. Put your own device here
#
# Everything above needs one thing of the device: a call `y = device(x, theta)` with NumPy arrays of shape (rows, controls) in and
# (rows, readings) out. `pnn_utils.systems.base.PhysicalSystem` holds the contract; `pnn_utils.pat.physics_aware(device, model)` joins any such
# call with any torch model.
#
# Next: [01_toy](01_toy.ipynb), why PAT tolerates a wrong model; [02_shg_vowels](02_shg_vowels.ipynb), the paper's Fig. 2.
