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
# # The toy example: how a small model error grows with depth
#
# The paper's Supplement (section I.A-B) explains physics-aware training (PAT) with a "physical
# system" that fits on one line. A model of it is wrong by only half a per cent. **The claim:**
# stack the system, and training on the model alone (*in silico*) suffers from an error that
# explodes with depth, because every layer starts from the model's wrong idea of where the previous
# layer ended. PAT measures where it ended, so its gradient error grows only by half a per cent a
# layer; and a toy training run reaches its target with PAT and misses it in silico.
#
# Everything here is a formula, so we can check every number against a closed form. The "device" is
# that formula too; the later notebooks put simulated physics in its place and change nothing else.

# %% [markdown]
# ## The system and its model
#
# One pass through the system, and what the model believes about it (all quantities are
# dimensionless):
#
# $$ f(x;\theta) = 2\,x^{\theta}, \qquad f_m(x;\theta) = 2.01\,x^{\theta}, \qquad \theta = 1.1 . $$
#
# A network of depth $n$ sends $x_0 = 1$ through it $n$ times, $x_{l+1} = f(x_l;\theta)$. The true
# output and the model's are
#
# $$ x_n = 2^{S}, \qquad x_n^{(m)} = 2.01^{S}, \qquad
# S = 1 + \theta + \dots + \theta^{n-1} = \frac{\theta^n - 1}{\theta - 1}, $$
#
# since the factor of the first layer is raised to the power $\theta$ by each of the $n-1$ layers
# after it, that of the second by $n-2$ layers, and so on. The three relative errors ("gaps") that
# we compare follow:
#
# | gap | what is compared with the truth | closed form |
# |---|---|---|
# | forward | the model's output | $1.005^{S} - 1$ |
# | in silico gradient | $dx_n/dx_0$ of the model, at the model's own states | $1.005^{S} - 1$ |
# | PAT gradient | the product of the model's slopes at the **measured** states | $1.005^{n} - 1$ |
#
# For PAT each layer contributes one factor $f_m'(x_l)/f'(x_l) = 2.01/2 = 1.005$ and nothing else:
# the states $x_l$ are right. In silico the states are wrong as well, and $S$ grows exponentially
# with $n$.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display

from pnn_utils.pat import PhysicalLayer, physics_aware
from pnn_utils.report.figures import COLOURS, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics

cost = Cost()
use_house_style()

# %% [markdown]
# The training lasts a second, so these defaults are also the full setting.

# %% tags=["parameters"]
profile = "quick"
depths = [1, 5, 10, 20]  # numbers of passes at which the gaps are reported
training_depth = 10  # passes in the trained network
target = 1e5  # what its output should become
learning_rate = 1e-15  # so small because the slope dx_n/dtheta is in the millions
steps = 150

# %% [markdown]
# ## Device and model
#
# The device takes and gives NumPy arrays: numbers in, numbers out, and no derivative to be had. We
# let it count how often it is used. The model is the same formula on torch tensors, with its wrong
# factor.

# %%
EXPONENT, TRUE_FACTOR, MODEL_FACTOR = 1.1, 2.0, 2.01


def device(x, theta):
    device.passes += 1
    return TRUE_FACTOR * x**theta


def model(x, theta):
    return MODEL_FACTOR * x**theta


device.passes = 0

# %% [markdown]
# ## Three ways through the same network
#
# `physics_aware(device, model)` returns a function whose value comes from its first argument and
# whose gradient comes from its second. That is all of PAT. Give it a *perfect* model and the
# gradient is the true one, which is how we get the reference here; in silico training is the model
# both ways, with no device at all.

# %%
ways = {
    "truth": physics_aware(device, lambda x, theta: TRUE_FACTOR * x**theta),
    "pat": physics_aware(device, model),
    "in_silico": model,
}


def output_and_slope(f, depth):
    """x_n and dx_n/dx_0 of `depth` passes from x_0 = 1."""
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(depth):
        y = f(y, EXPONENT)
    y.backward()
    return y.item(), x.grad.item()


# %%
def gaps_at(depth):
    """Forward, in silico and PAT gap, as fractions of the true value."""
    y, slope = {}, {}
    for name, f in ways.items():
        y[name], slope[name] = output_and_slope(f, depth)
    return (
        y["in_silico"] / y["truth"] - 1,
        slope["in_silico"] / slope["truth"] - 1,
        slope["pat"] / slope["truth"] - 1,
    )


# %% [markdown]
# The gaps, through automatic differentiation, must agree with the closed forms to rounding error.

# %%
def closed_form(depth):
    """The same three gaps, from the formulas above."""
    ratio = MODEL_FACTOR / TRUE_FACTOR
    drift = ratio ** ((EXPONENT**depth - 1) / (EXPONENT - 1)) - 1
    return drift, drift, ratio**depth - 1


rows = [gaps_at(depth) for depth in depths]
deviation = np.abs(np.array(rows) - [closed_form(depth) for depth in depths]).max()
assert deviation < 1e-12, f"gaps differ from the closed form by {deviation:.1e}"
gaps = dict(zip(["forward", "in_silico", "pat"], map(list, zip(*rows, strict=True)), strict=True))
print(f"largest deviation from the closed form: {deviation:.1e}")

# %%
every_depth = np.arange(1, max(depths) + 1)
curves = 100 * np.array([closed_form(depth) for depth in every_depth]).T

fig, ax = plt.subplots(figsize=(5.2, 3.4))
for row, method, label in ((1, "in_silico", "closed form, forward and in silico"),
                           (2, "pat", "closed form, PAT")):
    ax.plot(every_depth, curves[row], color=COLOURS[method], label=label)
for gap, style, size, fill, colour, label in (
        ("forward", "o", 9, "none", "0.3", "forward gap"),
        ("in_silico", "o", 4, None, COLOURS["in_silico"], "gradient gap, in silico"),
        ("pat", "s", 4, None, COLOURS["pat"], "gradient gap, PAT")):
    ax.plot(depths, 100 * np.array(gaps[gap]), style, ms=size, mfc=fill, color=colour, label=label)
ax.set_xticks(range(0, max(depths) + 1, 5))
ax.set_xlabel("depth n (passes through the system)")
ax.set_ylabel("gap to the true value (%)")
ax.set_title("A half-per-cent model error, n layers later")
ax.legend()
save_figure(fig, "01_toy", "gaps")
plt.show()

# %% [markdown]
# Markers: computed by automatic differentiation. Lines: the closed forms. The forward gap and the
# in silico gradient gap are the same number. It grows exponentially with depth, PAT's about
# linearly.

# %% [markdown]
# ## Toy training
#
# Now train the exponent $\theta$, shared by all layers of a network of depth 10, so that the input
# 1 gives the output $10^5$. As in the authors' example: loss $L = (x_n - 10^5)^2$, plain gradient
# descent from $\theta = 1.1$.
#
# `PhysicalLayer` is one pass through the device with trainable controls. Its `mode` says what the
# forward pass is; setting it to `"device"` shows what a network really does, whatever it was
# trained on.

# %%
def train(mode):
    """Train theta; return the device's and the model's output before each step and at the end."""
    theta = torch.nn.Parameter(torch.tensor([EXPONENT], dtype=torch.float64))
    layers = [PhysicalLayer(device, model, theta) for _ in range(training_depth)]
    network = torch.nn.Sequential(*layers)
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate)
    x = torch.ones(1, 1, dtype=torch.float64)

    def run(mode):
        for layer in layers:
            layer.mode = mode
        return network(x)

    history = {"device": [], "in_silico": []}
    for step in range(steps + 1):
        for watched, outputs in history.items():
            with torch.no_grad():
                outputs.append(run(watched).item())
        if step < steps:
            optimiser.zero_grad()
            (run(mode) - target).square().sum().backward()
            optimiser.step()
    return history, theta.item()


# %%
trained = {mode: train(mode) for mode in ("pat", "in_silico")}


def relative_error(mode, watched):
    history, _ = trained[mode]
    return abs(history[watched][-1] / target - 1)


results = {
    "pat": {"relative_error": summary([relative_error("pat", "device")])},
    "in_silico": {"relative_error": summary([relative_error("in_silico", "device")])},
    "in_silico_on_model": {"relative_error": summary([relative_error("in_silico", "in_silico")])},
}
for mode, (history, theta) in trained.items():
    print(f"{mode:9}  theta = {theta:.6f}   output on the device = {history['device'][-1]:.1f}"
          f"   model's belief = {history['in_silico'][-1]:.1f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4))
for mode, label in (("pat", "PAT"), ("in_silico", "in silico")):
    colour = COLOURS[mode]
    on_device = np.array(trained[mode][0]["device"])
    left.plot(on_device / 1e5, color=colour, label=f"{label}, on the device")
    right.plot(100 * np.abs(on_device / target - 1), color=colour, label=f"{label}, on the device")
believed = np.array(trained["in_silico"][0]["in_silico"])
left.plot(believed / 1e5, "--", color=COLOURS["in_silico"], lw=1,
          label="in silico, as the model believes")
left.axhline(target / 1e5, color="0.3", ls=":", label="target")
left.set_ylabel("output $x_n$ ($10^5$)")
left.legend()
right.set_yscale("log")
right.set_ylabel("distance from the target (%)")
right.legend()
for ax in (left, right):
    ax.set_xlabel("training step")
fig.suptitle("Toy training: one exponent, ten layers")
save_figure(fig, "01_toy", "training")
plt.show()

# %% [markdown]
# In silico training does its own task perfectly: the *model's* output reaches the target. The
# device, driven with the same exponent, stays below it by the forward gap, $1 - 1.005^{-S}$ at the
# final $\theta$, and no number of steps can help. PAT's gradient is a few per cent too large,
# which is a slightly larger learning rate and no more: its loss is computed from the measured
# output, so it vanishes where the true loss does. What is left of its distance after the last step
# is unfinished descent, still shrinking by the same factor at every step. That is the heart of the
# method: a gradient may be approximate, as long as the error that it corrects is the real one.

# %%
write_metrics("01_toy", profile, results, cost=cost.read(device.passes),
              data={"name": "none: one number and its target", "sha256": ""},
              gaps={"n": list(depths), **gaps})

# %% [markdown]
# ## The paper and this notebook
#
# Gaps in per cent, as forward / in silico gradient / PAT gradient. "Paper" is what the authors'
# two functions give. Their training curve is a figure without numbers, so its rows say what it
# shows. Nothing here is random: there are no seeds, and a digital baseline has no meaning for a
# single number.

# %%
PAPER = {1: "0.50 / 0.50 / 0.50", 5: "3.09 / 3.09 / 2.53",
         10: "8.27 / 8.27 / 5.11", 20: "33.06 / 33.06 / 10.49"}
table = ["| | paper | here |", "|---|---|---|"]
for depth, row in zip(depths, rows, strict=True):
    here = " / ".join(f"{100 * gap:.2f}" for gap in row)
    table.append(f"| gaps at n = {depth} (%) | {PAPER.get(depth, 'not given')} | {here} |")
for mode, label, paper in (("pat", "PAT", "reaches it"),
                           ("in_silico", "in silico", "settles off it")):
    table.append(f"| distance from the target on the device after {steps} steps, {label} "
                 f"| {paper} | {100 * relative_error(mode, 'device'):.2g} % |")
display(Markdown("\n".join(table)))
