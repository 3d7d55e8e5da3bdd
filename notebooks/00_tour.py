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
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 1): any controllable
# physical system can be a layer of a neural network. Data $x$ and trainable parameters $\theta$ go
# in through its controls, the measurement is its output, several in sequence make a deep network,
# and *physics-aware training* (PAT) trains it: forward through the device, backward through a
# differentiable digital model.
#
# $$\text{forward: } y = f_p(x,\theta)\qquad\qquad
# \text{backward: } \frac{\partial L}{\partial\theta}\approx
# \Big(\frac{\partial f_m}{\partial\theta}\Big|_{x,\theta}\Big)^{\!T}
# \frac{\partial L}{\partial y}$$
#
# $f_p$ is the device, $f_m$ its model, and the loss $L$ is computed from what the device really
# gave. Controls $x,\theta$ are field amplitudes between 0 and 1; $y$ is charge in units of a
# detector's full well.
#
# The device on this page is a *simulated* one: a laser pulse is shaped, doubled in frequency by a
# crystal, and its new spectrum is read by a noisy spectrometer.
# [02_shg_vowels](02_shg_vowels.ipynb) has the physics; here it is a black box.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
steps = 250
learning_rate = 0.1
n_pairs = 6000  # measured pairs for the digital model
n_seeds = 3

# %%
import copy
import io

import numpy as np
import torch
from IPython.display import Markdown, display
from ipywidgets import FloatSlider, Image, IntSlider, VBox
from matplotlib import pyplot as plt
from sklearn.datasets import make_moons

from pnn_utils.experiment import linear_classifier
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.report.figures import (
    COLOURS,
    folded_table,
    percent,
    plot_band,
    save_figure,
    use_house_style,
)
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.shg.device import SHG, TABLE
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import accuracy_on_device, accuracy_on_model, train
from pnn_utils.twin import fit_twin, judge_twin, random_controls

# %%
cost = Cost()
use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 1. A device
#
#     laser       grating       shaper           grating     BBO crystal    spectrometer
#                             x0 t0 x1 ... t49                   ____
#     100 fs          /      +--+--+--+---+--+      \           |::::|       50 bins
#     780 nm  ====>  / ====> |  |##|. |...|##| ====> \  ====>   |::::| ---->  y0 ... y49
#                   /        +--+--+--+---+--+        \         |____|        390 nm
#
# Fifty data controls, fifty parameter controls, fifty readings. No formula, no derivative; the
# same controls twice give two slightly different readings, because light is noisy.

# %%
device = SHG(seed=0, noise_seed=1)
x, theta = random_controls(device, 1, np.random.default_rng(0))
twice = np.concatenate([device(x, theta), device(x, theta)])
for reading in twice:
    print("five of the fifty bins, % of full well:", *(f"{100 * y:.2f}" for y in reading[20:25]))
display(Markdown(folded_table(parameter_table(TABLE), "wavelength", "duration",
                              "channel_spacing", "crystal_length", "full_well")))

# %% [markdown]
# ## 2. A digital model of it
#
# Measure the device at many controls and fit a small neural network to what it answered. The noise
# floor is what a perfect model would reach.

# %%
rng = np.random.default_rng(2)
uniform = random_controls(device, n_pairs // 4, rng)
alike = signal_like_controls(device, 3 * n_pairs // (4 * n_layers), n_layers, rng)
controls = [np.concatenate(pair) for pair in zip(uniform, alike, strict=True)]
twin, _ = fit_twin(device, *controls, device(*controls), epochs=15,
                   generator=torch.Generator().manual_seed(3))
scores = judge_twin(twin, device, *signal_like_controls(device, 300, n_layers, rng))
print(f"median R^2 over bins {np.median(scores['r2']):.4f}, "
      f"noise floor {np.median(scores['floor']):.4f}")

# %% [markdown]
# ## 3. Train it: with physics in the loop, and without
#
# Two interleaved half-moons, a toy that no straight line separates. Three passes through the
# device make the network. *PAT* trains with the device in the forward pass; *in silico* training
# uses the model alone and meets the device only when it is finished.

# %%
def points(n, seed):
    x, y = make_moons(n, noise=0.12, random_state=seed)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def one_run(mode, seed):
    device = SHG(seed=0, noise_seed=100 + seed)
    x, y = points(200, seed)
    watch_x, watch_y = points(200, 1000 + seed)
    network = spectral_chain(device, twin, 2, 2, n_layers, torch.Generator().manual_seed(seed))
    network.set_mode("device").calibrate(x)
    history = train(
        network.set_mode(mode), x, y, epochs=steps, learning_rate=learning_rate,
        validate=lambda net: {"device": accuracy_on_device(net, watch_x, watch_y)})
    test_x, test_y = points(500, 2000 + seed)
    return {"history": [row["device"] for row in history], "network": network,
            "passes": device.passes, "device": accuracy_on_device(network, test_x, test_y),
            "model": accuracy_on_model(network, test_x, test_y),
            "train": accuracy_on_device(network, x, y)}


LABELS = {"pat": "PAT", "in_silico": "in silico"}
runs = {mode: [one_run(mode, seed) for seed in range(n_seeds)] for mode in LABELS}

# %%
signal = 100 * device(np.repeat(x, 20, 0), theta[0])
network = runs["pat"][0]["network"].set_mode("device")
across, up = np.meshgrid(np.linspace(-1.6, 2.6, 60), np.linspace(-1.1, 1.6, 45))
plane = torch.tensor(np.stack([across.ravel(), up.ravel()], 1), dtype=torch.float32)
with torch.no_grad():
    predicted = 100 * twin(torch.tensor(x), torch.tensor(theta))[0]
    logits = network(plane)
decided = (logits[:, 1] - logits[:, 0]).sigmoid().reshape(across.shape)
frequency = (np.arange(50) - 24.5) * device.parameters.bin_width / 1e12

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.9))
axes[0].plot(frequency, signal.T, color=COLOURS["device"], alpha=0.15)
axes[0].plot(frequency, predicted, color=COLOURS["model"], label="digital model")
axes[0].plot([], [], color=COLOURS["device"], label="simulated device, 20 readings")
axes[0].set(title="a  One set of controls", xlabel="second-harmonic detuning (THz)",
            ylabel="charge (% of full well)", ylim=(0, 1.35 * signal.max()))
axes[0].legend(fontsize=7, loc="upper left")
for mode, label in LABELS.items():
    plot_band(axes[1], np.arange(1, steps + 1), [run["history"] for run in runs[mode]], label,
              COLOURS[mode])
axes[1].set(title=f"b  Accuracy on the device (n = {n_seeds}, 2 s.e.)", xlabel="training step",
            ylabel="accuracy", ylim=(0.4, 1.02))
axes[1].legend(loc="lower right")
axes[2].contourf(across, up, decided, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.7)
shown_x, shown_y = points(200, 0)
axes[2].scatter(*shown_x.T, c=shown_y, cmap="RdBu", s=8, edgecolors="black", linewidths=0.4)
axes[2].set(title="c  What the light decides (PAT)", xlabel="$x_1$", ylabel="$x_2$")
save_figure(fig, "00_tour", "training")

# %% [markdown]
# The ragged border in panel c is noise: every pixel is a new measurement.

# %%
def scored(mode, quantity):
    return {"accuracy": summary(run[quantity] for run in runs[mode])}


results = {mode: scored(mode, "device") for mode in runs}
results["in_silico_on_model"] = scored("in_silico", "model")
linear = []
for seed in range(n_seeds):
    (train_x, train_y), (test_x, test_y) = points(200, seed), points(500, 2000 + seed)
    linear.append(linear_classifier().fit(train_x, train_y).score(test_x, test_y))
baselines = {"linear": {"accuracy": summary(linear)}}
spent = device.passes + sum(run["passes"] for group in runs.values() for run in group)
write_metrics("00_tour", profile, results, baselines=baselines, seeds=range(n_seeds),
              train_accuracy={mode: scored(mode, "train")["accuracy"] for mode in runs},
              cost=cost.read(spent), data={"name": "half-moons, drawn by seed", "sha256": ""})

# %%
both = results | baselines
lines = ["| | paper | test accuracy here |", "|---|---|---|"]
for name, label in (("pat", "PAT, on the device"), ("in_silico", "in silico, on the device"),
                    ("in_silico_on_model", "in silico, on its own model"),
                    ("linear", "digital: logistic regression")):
    lines.append(f"| {label} | not in the paper | {percent(both[name]['accuracy'])} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## 4. Turn the knobs: how wrong may the model be?
#
# The device is simulated, so its true gradient can be had: from its own equations, without noise,
# opened for this comparison and for nothing else. For a network as it starts, the picture shows
# the angle between the true gradient and the one that either training would follow, layer by layer
# (a). A step goes downhill as long as the angle is below 90°. In (b), the last layer's reading,
# standardised as the network does it, and what the model's own chain makes of the same point.
#
# Below the figure stand three sliders, if this page is running (Jupyter, Binder): the light's
# noise as a multiple of shot noise, an error of every weight of the model (relative, standard
# deviation), and the number of layers. With depth the model's own chain drifts away from the
# device, and its gradient with it; PAT starts each layer from what was measured. Noise disturbs
# PAT's single gradient, too, but differently at every step, so that it averages out; an error of
# the model does not. This is one network at one random start: the layers scatter, and PAT's angle
# is not the smaller one at each of them. [03_pat_vs_in_silico](03_pat_vs_in_silico.ipynb) has the
# averages.

# %%
error_draws = [torch.randn(p.shape, generator=torch.Generator().manual_seed(n))
               for n, p in enumerate(twin.parameters())]


def started(noise, model_error, layers):
    """One start as three networks, with the true gradient, PAT's and in silico training's."""
    model = copy.deepcopy(twin)
    with torch.no_grad():
        for parameter, draw in zip(model.parameters(), error_draws, strict=True):
            parameter *= 1 + model_error * draw
    device, (x, y) = SHG(seed=0, noise_seed=5, shot_noise=noise), points(100, 7)

    def network(model, mode):
        generator = torch.Generator().manual_seed(4)
        return spectral_chain(device, model, 2, 2, layers, generator, mode=mode)

    networks = {"true": network(ExactSHG(device), "in_silico"), "pat": network(model, "pat"),
                "in_silico": network(model, "in_silico")}
    networks["pat"].calibrate(x)
    for one in networks.values():
        one.load_state_dict(networks["pat"].state_dict())  # the same calibration for all
        torch.nn.functional.cross_entropy(one(x), y).backward()
    return networks, x[:1]


def gradient(network, n):
    """What belongs to layer n, in one row."""
    parts = [network.scale.grad[n], network.offset.grad[n],
             network.layers[n].parametrizations.theta.original.grad]
    return torch.cat(parts + ([network.skip.grad[n - 1]] if n else []))


# %%
def picture(noise=1.0, model_error=0.1, layers=8):
    networks, point = started(noise, model_error, layers)
    fig, axes = plt.subplots(1, 2, figsize=(8, 2.8))
    for mode, label in LABELS.items():
        cosines = [torch.nn.functional.cosine_similarity(
            gradient(networks[mode], n), gradient(networks["true"], n), 0) for n in range(layers)]
        axes[0].plot(range(1, layers + 1), np.rad2deg(np.arccos(cosines)), "o-",
                     color=COLOURS[mode], label=label)
    axes[0].axhline(90, color="#999999", linewidth=0.8, linestyle=":")
    axes[0].set(title="a  Angle to the true gradient", xlabel="layer", ylabel="angle (degrees)",
                ylim=(0, 180), yticks=range(0, 181, 45))
    for mode, label, colour in (("pat", "simulated device", "device"),
                                ("in_silico", "the model's own chain", "model")):
        with torch.no_grad():
            reading = networks[mode].standardise[-1](networks[mode].states(point)[-1])[0]
        axes[1].plot(frequency, reading, color=COLOURS[colour], label=label)
    axes[1].set(title=f"b  Reading after {layers} layers, standardised",
                xlabel="second-harmonic detuning (THz)", ylabel="standard deviations")
    for panel in axes:
        panel.legend(fontsize=7)
    return fig


save_figure(picture(), "00_tour", "sliders")

# %%
sliders = [FloatSlider(1.0, min=0, max=10, description="noise"),
           FloatSlider(0.1, min=0, max=1, step=0.05, description="model error"),
           IntSlider(8, min=1, max=10, description="layers")]
screen = Image(format="png")


def turn(_=None):
    fig, memory = picture(*(slider.value for slider in sliders)), io.BytesIO()
    fig.savefig(memory, dpi=100, bbox_inches="tight")
    plt.close(fig)
    screen.value = memory.getvalue()


for slider in sliders:
    slider.continuous_update = False  # a new figure when the slider is let go
    slider.observe(turn, "value")
turn()
display(VBox([*sliders, screen]))

# %% [markdown]
# ## 5. Put your own device here
#
# Everything above needs one thing of the device: a call `y = device(x, theta)` with NumPy arrays
# of shape (rows, controls) in and (rows, readings) out. `pnn_utils.systems.base.PhysicalSystem`
# holds the contract; `pnn_utils.pat.physics_aware(device, model)` joins any such call with any
# torch model.
#
# Next: [01_toy](01_toy.ipynb), why PAT tolerates a wrong model;
# [02_shg_vowels](02_shg_vowels.ipynb), the paper's Fig. 2.
