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
# # A five-minute tour: physics-aware training at a glance (Fig. 1)
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 1): any controllable
# physical system can be a layer of a neural network. Data $x$ and trainable parameters $\theta$ go
# in through its controls, the measurement $y$ is its output. *Physics-aware training* (PAT) runs
# forward through the device $f_p$ and backward through a differentiable model $f_m$ of it.
# *In silico* training uses the model both ways and meets the device only when it is finished.

# %% jupyter={"source_hidden": true}
import io

import ipywidgets
import numpy as np
import PIL.Image
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from sklearn.datasets import make_moons

from pnn_utils.experiment import linear_classifier
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.pat import physics_aware
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, save_figure
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.shg.device import SHG, TABLE
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import accuracy_on_device, accuracy_on_model, train
from pnn_utils.twin import fit_twin, judge_twin, random_controls

# %% jupyter={"source_hidden": true}
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)
LABELS = {"pat": "PAT", "in_silico": "in silico"}

# %% jupyter={"source_hidden": true}
def draw_loop(axes, title, forward, colour, reading):
    """One turn of training: controls, forward, loss, backward, a step of the controls."""
    orange = COLOURS["model"]
    backward = "model, backward\n$(\\partial f_m/\\partial\\theta)^T\\,\\partial L/\\partial y$"
    for x, y, text, fill in ((0, 0.5, "controls\n$x,\\ \\theta$", "#555555"),
                             (2, 1, forward, colour), (2, 0, backward, orange),
                             (4, 0.5, f"loss $L$ of\n{reading} $y$", "#555555")):
        axes.text(x, y, text, color="white", ha="center", va="center", fontsize=15, weight="bold",
                  bbox={"boxstyle": "round,pad=0.45", "facecolor": fill, "edgecolor": "none"})
    for start, end, one in (((0.1, 0.85), (1.1, 1.05), colour), ((2.9, 1.05), (3.9, 0.85), colour),
                            ((3.9, 0.15), (3, -0.05), orange), ((1, -0.05), (0.1, 0.15), orange)):
        axes.annotate("", end, start, arrowprops={
            "arrowstyle": "-|>", "linewidth": 2.5, "color": one, "mutation_scale": 22,
            "connectionstyle": "arc3,rad=-0.2"})
    axes.set_title(title, fontsize=16)
    axes.set(xlim=(-0.6, 4.75), ylim=(-0.35, 1.35))
    axes.axis("off")


fig, axes = plt.subplots(1, 2, figsize=(12, 3))
draw_loop(axes[0], "Physics-aware training", "device, forward\n$y = f_p(x, \\theta)$",
          COLOURS["device"], "measured")
draw_loop(axes[1], "In silico training", "model, forward\n$y = f_m(x, \\theta)$",
          COLOURS["model"], "predicted")
save_figure(fig, "00_tour", "loop")

# %% [markdown]
# ## 1. Two balls on a landscape
#
# The device on this page is a *simulated* one: a laser pulse is shaped, doubled in frequency by a
# crystal, and its spectrum is read by a noisy spectrometer.
# [02_shg_vowels](02_shg_vowels.ipynb) has the physics.
#
#     laser       grating       shaper           grating     BBO crystal    spectrometer
#                             x0 t0 x1 ... t49                   ____
#     100 fs          /      +--+--+--+---+--+      \           |::::|       50 bins
#     780 nm  ====>  / ====> |  |##|. |...|##| ====> \  ====>   |::::| ---->  y0 ... y49
#                   /        +--+--+--+---+--+        \         |____|        390 nm
#
# Fifty data controls and fifty parameter controls, field amplitudes from 0 to 1, take turns over
# the colours. Here the data are a ripple, and the parameters are one, too: *two controls*, $a$ and
# $b$, say how strong it is and where. The task is to find them for a wanted spectrum. The loss is
# the squared distance to it, in units of the start's.

# %%
ripple = 2 * np.pi * (np.arange(100) - 49.5) / 24  # one period is 24 channels
data = torch.tensor(0.5 + 0.4 * np.cos(ripple[0::2])).float()
waves = torch.tensor(np.stack([np.cos(ripple[1::2]), np.sin(ripple[1::2])])).float()
start, aim, border = torch.tensor([[-0.28, 0.0]]), torch.tensor([[0.1, 0.2]]), 0.35


def spectrum(forward, ab):
    return forward(data.expand(len(ab), -1), 0.5 + ab @ waves)


# %% [markdown]
# The model is the device's own equations, with one error: when it was made, a mirror stood a
# little differently, so that every colour fell some channels to the side. The two trainings differ
# in nothing but `forward`:

# %%
device = SHG(seed=0)
quiet = ExactSHG(device)  # the device without noise: the blue landscape, seen by no training
wanted = spectrum(quiet, aim)
unit = ((spectrum(quiet, start) - wanted) ** 2).sum()


def step(forward, ab, rate):  # PAT: forward = physics_aware(device, model); in silico: model
    ab = ab.detach().requires_grad_()
    loss = ((spectrum(forward, ab) - wanted) ** 2).sum() / unit
    slope, = torch.autograd.grad(loss, ab)
    return (ab - rate * slope).detach().clamp(-border, border)


# %% jupyter={"source_hidden": true}
errors = [n / 2 for n in range(13)]  # channels
noises = [0, 1, 3, 10]  # times what the device has
rates = [0.003, 0.006, 0.012, 0.025, 0.05, 0.1]
n_steps = 50
NOISE = ("shot_noise", "read_noise", "pulse_energy_noise")
models = {error: ExactSHG(SHG(seed=0, pointing=error)) for error in errors}
# The laser's slow drift is off: it would only shift a path this short.
devices = {noise: SHG(seed=0, noise_seed=1, power_drift=0.0, **{
    name: float(noise * getattr(device.parameters, name)) for name in NOISE}) for noise in noises}


def roll(forward):
    """Every step at every rate, shape (rates, n_steps + 1, 2), from one start."""
    path = [start.expand(len(rates), 2)]
    for _ in range(n_steps):
        path.append(step(forward, path[-1], torch.tensor(rates)[:, None]))
    return torch.stack(path, 1)


paths = {}
for error, model in models.items():
    paths["in_silico", error] = roll(model)
    for noise, one in devices.items():
        paths["pat", error, noise] = roll(physics_aware(one, model))

# %% jupyter={"source_hidden": true}
side = np.linspace(-border, border, 45)
plane = torch.tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)).float()


def height(forward, ab):
    """The loss of each row, without noise."""
    with torch.no_grad():
        return ((spectrum(forward, ab) - wanted) ** 2).sum(1) / unit


def grid(forward):
    """Root of the loss over the plane: contours of a bowl are then equally far apart."""
    return height(forward, plane).sqrt().reshape(len(side), -1)


blue, orange = grid(quiet), {error: grid(model) for error, model in models.items()}
LEVELS = np.linspace(0, 2, 13)


def draw_landscape(axes):
    axes.contourf(side, side, blue, LEVELS, cmap="Blues", alpha=0.45, extend="max")
    axes.contour(side, side, blue, LEVELS, colors=COLOURS["device"], linewidths=0.8)
    axes.plot(*aim[0], "*", color=COLOURS["device"], markersize=15)
    axes.set(xlabel="control $a$", ylabel="control $b$", aspect="equal",
             xlim=(-border, border), ylim=(-border, border))


def draw_model(axes, error):
    return axes.contour(side, side, orange[error], LEVELS, colors=COLOURS["model"],
                        linewidths=1.1)


# %% jupyter={"source_hidden": true}
def choose(error=2.0, noise=1, rate=0.006):
    """All that the picture shows of one setting, for each step."""
    at, model = rates.index(rate), models[error]
    path = {"in_silico": paths["in_silico", error][at], "pat": paths["pat", error, noise][at]}
    with torch.no_grad():
        y = {way: spectrum(quiet, ab) for way, ab in path.items()}
    view = {"path": path, "y": y, "believed": height(model, path["in_silico"]),
            "height": {way: height(quiet, ab) for way, ab in path.items()}}
    ab = path["pat"].clone().requires_grad_()
    pull = y["pat"] - wanted  # the loss's own slope, at what the device answers
    slopes = [torch.autograd.grad((spectrum(one, ab) * pull).sum(), ab)[0]
              for one in (quiet, model)]
    downhill = [-torch.nn.functional.normalize(slope) for slope in slopes]
    cosine = (downhill[0] * downhill[1]).sum(1).clamp(-1, 1)
    # Arrows shrink towards the bottom, where there is no slope left.
    length = 0.16 * view["height"]["pat"].sqrt().clamp(max=1)
    return view | {"angle": cosine.arccos().rad2deg(),
                   "arrows": [length[:, None] * one for one in downhill]}


# %% jupyter={"source_hidden": true}
def add_balls(axes):
    """Trails, balls and two arrows, to be moved by `move_balls`."""
    artists = {}
    for way in ("in_silico", "pat"):
        artists[way] = [axes.plot([], [], color=COLOURS[way], linewidth=2.5)[0],
                        axes.plot([], [], "o", color=COLOURS[way], markersize=12,
                                  markeredgecolor="white", clip_on=False)[0]]
    artists["arrows"] = [axes.quiver([0], [0], [0], [0], color=COLOURS[way], angles="xy",
                                     scale=1, scale_units="xy", width=0.013, zorder=3)
                         for way in ("device", "model")]
    return artists


def move_balls(artists, view, n):
    for way, path in view["path"].items():
        trail, ball = artists[way]
        trail.set_data(*path[: n + 1].T)
        ball.set_data(*path[n:n + 1].T)
    for arrow, tips in zip(artists["arrows"], view["arrows"], strict=True):
        arrow.set_offsets(view["path"]["pat"][n].numpy())
        arrow.set_UVC(*tips[n].numpy()[:, None])


# %% jupyter={"source_hidden": true}
usual, large = 2.0, 5.0  # model errors
frames = {"1  One start": (usual, 0), "2  Two ways": (usual, 9), "3  Two ends": (usual, n_steps),
          "4  Too wrong a model": (large, 14)}
orange_minimum = plane[orange[usual].argmin()]
notes = [(0, "device's\nminimum", aim[0], (0, -48), "device"),
         (0, "model's\nminimum", orange_minimum, (0, -62), "model"),
         (1, "downhill", (-0.09, 0.12), (0, 14), "device"),
         (1, "PAT's step", (0.1, -0.05), (0, -6), "model"),
         (2, "PAT", aim[0], (0, 12), "pat"), (2, "in silico", orange_minimum, (0, -34), "model")]

# %% jupyter={"source_hidden": true}
views = [choose(error) for error, _ in frames.values()]
fig, axes = plt.subplots(1, 4, figsize=(14, 4.5), sharey=True)
for panel, (title, (error, n)), view in zip(axes, frames.items(), views, strict=True):
    draw_landscape(panel)
    draw_model(panel, error)
    move_balls(add_balls(panel), view, n)
    pat, in_silico = view["height"]["pat"][n], view["height"]["in_silico"][n]
    panel.set_title(title, fontsize=18, loc="left")
    panel.set(xticks=[], yticks=[], ylabel="")
    panel.set_xlabel(f"loss on the device:\nPAT {pat:.2f}, in silico {in_silico:.2f}", fontsize=16)
    climbs = ", PAT climbs" * bool(view["angle"][n] > 90)
    panel.text(0.03, 0.97, f"angle {view['angle'][n]:.0f}°{climbs}", fontsize=17, va="top",
               transform=panel.transAxes, weight="bold",
               bbox={"facecolor": "white", "edgecolor": "none"})
for n, label, place, offset, colour in notes:
    axes[n].annotate(label, [*map(float, place)], offset, textcoords="offset points", fontsize=15,
                     color=COLOURS[colour], weight="bold", ha="center",
                     path_effects=[withStroke(linewidth=4, foreground="white")])
save_figure(fig, "00_tour", "strip")

# %% jupyter={"source_hidden": true}
good, high = views[2], views[2]["height"]
first = next(error for error in errors if choose(error)["angle"][0] > 90)
display(Markdown(
    "Blue contours: the device's loss, its lowest point a star. Orange contours: the model's. "
    f"With a model that is {usual:g} channels off, *in silico* rolls to the orange minimum: its "
    f"loss is {good['believed'][-1]:.2f} on the model, {high['in_silico'][-1]:.2f} on the device. "
    "PAT takes the model's slope (orange arrow) at what the device has measured. That is not the "
    f"steepest way down the blue landscape (blue arrow; the angle is {good['angle'].min():.0f}° "
    f"to {good['angle'].max():.0f}°), but it is down, and ends at {high['pat'][-1]:.4f}: PAT "
    "needs a model whose slope points to the right side, not one that is right. From "
    f"{first:g} channels the angle at the start is above 90°, and PAT climbs; frame 4 shows "
    f"{large:g}. Arrows and angle leave out the noise, paths have it."))


# %% jupyter={"source_hidden": true}
def end(way, *setting):
    return choose(*setting)["height"][way][-10:].mean()  # of the last ten steps


display(Markdown(
    "**Turn the knobs** (in Jupyter or Binder, once all cells have run): the model's error in "
    "channels, the noise in units of the device's own, the learning rate. Play runs the steps. "
    "At error 0 the two landscapes are one: without noise PAT ends at a loss of "
    f"{end('pat', 0.0, 0):.0e}, in silico at {end('in_silico', 0.0, 0):.0e}. Ten times the "
    f"device's noise shakes PAT, which measures at every step, but at error {usual:g} it still "
    f"ends at {end('pat', usual, 10):.3f}, in silico at {end('in_silico', usual, 10):.2f}. A rate "
    f"of {rates[-1]:g} leaps out of the valley in either training: "
    f"{end('pat', usual, 1, rates[-1]):.1f} and {end('in_silico', usual, 1, rates[-1]):.1f}."))

# %% jupyter={"source_hidden": true}
fig = Figure(figsize=(9.6, 4.6), layout="none")  # shown by the sliders below, not by pyplot
fig.subplots_adjust(0.06, 0.1, 0.99, 0.94, hspace=0.5)
canvas = FigureCanvasAgg(fig)
axes = fig.subplot_mosaic([["map", "spectrum"], ["map", "loss"]], width_ratios=(1.1, 1))
draw_landscape(axes["map"])
moving = add_balls(axes["map"])
moving["text"] = [axes["map"].text(
    0.03, 0.97, "", transform=axes["map"].transAxes, va="top", weight="bold",
    bbox={"facecolor": "white", "edgecolor": "none"})]
axes["spectrum"].fill_between(range(50), 100 * wanted[0], color="#dddddd", label="wanted")
axes["map"].set_title("Loss: of the device (blue), of the model (orange)")
axes["spectrum"].set(title="Spectrum, without noise", xlabel="bin", ylim=(0, 15),
                     ylabel="charge (% of full well)")
axes["loss"].set(title="Loss on the device", xlabel="step", xlim=(-1, n_steps + 1),
                 ylim=(-0.1, 4))
for way, label in LABELS.items():
    moving[f"{way} now"] = [axes["spectrum"].plot([], [], color=COLOURS[way], label=label)[0],
                            axes["loss"].plot([], [], color=COLOURS[way], label=label)[0],
                            axes["loss"].plot([], [], "o", color=COLOURS[way])[0]]
moving["believed"] = axes["loss"].plot([], [], ":", color=COLOURS["model"],
                                       label="in silico, on its model")
for name in ("spectrum", "loss"):
    axes[name].legend(loc="upper right")

# %% jupyter={"source_hidden": true}
artists = [one for group in moving.values() for one in group]
for one in artists:
    one.set_animated(True)  # not part of the backgrounds
backgrounds = {}
for error in errors:  # all that stands still, drawn once for each model
    contours = draw_model(axes["map"], error)
    canvas.draw()
    backgrounds[error] = canvas.copy_from_bbox(fig.bbox)
    contours.remove()


# %% jupyter={"source_hidden": true}
def draw(view, error, n):
    """The picture at step n, as PNG: only what moves is drawn."""
    move_balls(moving, view, n)
    angle = view["angle"][n]
    climbs = ", PAT climbs" * bool(angle > 90)
    moving["text"][0].set_text(f"step {n}, angle {angle:.0f}°{climbs}")
    moving["believed"][0].set_data(range(n_steps + 1), view["believed"])
    for way, height in view["height"].items():
        reading, line, dot = moving[f"{way} now"]
        reading.set_data(range(50), 100 * view["y"][way][n])
        line.set_data(range(n_steps + 1), height)
        dot.set_data([n], [height[n]])
    canvas.restore_region(backgrounds[error])
    for one in artists:
        one.axes.draw_artist(one)
    memory = io.BytesIO()
    PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(
        memory, "png", compress_level=1)
    return memory.getvalue()


# %% jupyter={"source_hidden": true}
def slider(name, options, value):
    return ipywidgets.SelectionSlider(description=name, options=options, value=value)


knobs = [slider("model error", errors, 2.0), slider("noise", noises, 1),
         slider("rate", rates, 0.006)]
at = ipywidgets.IntSlider(description="step", max=n_steps)
play = ipywidgets.Play(interval=100, max=n_steps)
screen, shown = ipywidgets.Image(format="png"), {}


def turn(change=None):
    """Answer a slider; a step of the same setting needs nothing new but the picture."""
    setting = tuple(knob.value for knob in knobs)
    if setting not in shown:
        shown.clear()
        shown[setting] = choose(*setting)
    screen.value = draw(shown[setting], setting[0], at.value)


for one in (*knobs, at):
    one.observe(turn, "value")
ipywidgets.jslink((play, "value"), (at, "value"))
turn()
display(ipywidgets.VBox([ipywidgets.HBox(knobs), ipywidgets.HBox([play, at]), screen]))

# %% [markdown]
# ## 2. All controls, three layers
#
# With hundreds of controls there is no map, but the same two ways. Two interleaved half-moons, a
# toy that no straight line separates; three passes through the device make the network. As in a
# laboratory the model is a small neural network, fitted to what the device answered.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
steps = 200
learning_rate = 0.1
n_pairs = 6000  # measured pairs for the model
n_seeds = 3

# %%
rng = np.random.default_rng(2)
uniform = random_controls(device, n_pairs // 4, rng)
alike = signal_like_controls(device, 3 * n_pairs // (4 * n_layers), n_layers, rng)
controls = [np.concatenate(pair) for pair in zip(uniform, alike, strict=True)]
twin, _ = fit_twin(device, *controls, device(*controls), epochs=15,
                   generator=torch.Generator().manual_seed(3))
scores = judge_twin(twin, device, *signal_like_controls(device, 300, n_layers, rng))
print(f"model: median R^2 over bins {np.median(scores['r2']):.4f}, "
      f"a perfect one's {np.median(scores['floor']):.4f}")


# %% jupyter={"source_hidden": true}
def points(n, seed):
    x, y = make_moons(n, noise=0.12, random_state=seed)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def one_run(mode, seed):
    device = SHG(seed=0, noise_seed=100 + seed)
    x, y = points(200, seed)
    network = spectral_chain(device, twin, 2, 2, n_layers, torch.Generator().manual_seed(seed))
    network.set_mode("device").calibrate(x)
    train(network.set_mode(mode), x, y, epochs=steps, learning_rate=learning_rate)
    test_x, test_y = points(500, 2000 + seed)
    return {"network": network, "device": accuracy_on_device(network, test_x, test_y),
            "model": accuracy_on_model(network, test_x, test_y),
            "train": accuracy_on_device(network, x, y), "passes": device.passes}


runs = {mode: [one_run(mode, seed) for seed in range(n_seeds)] for mode in LABELS}

# %% jupyter={"source_hidden": true}
seed = int(np.argmin([run["device"] for run in runs["in_silico"]]))
across, up = np.meshgrid(np.linspace(-1.6, 2.6, 60), np.linspace(-1.1, 1.6, 45))
places = torch.tensor(np.stack([across.ravel(), up.ravel()], 1)).float()
(x, y), (test_x, test_y) = points(200, seed), points(500, 2000 + seed)
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
for panel, (way, mode, title) in zip(axes, (
        ("in_silico", "in_silico", "a  in silico, on its model"),
        ("in_silico", "device", "b  in silico, on the device"),
        ("pat", "device", "c  PAT, on the device")), strict=True):
    network = runs[way][seed]["network"].set_mode(mode)
    with torch.no_grad():
        logits = network(places)
    decided = (logits[:, 1] - logits[:, 0]).sigmoid().reshape(across.shape)
    panel.contourf(across, up, decided, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.7)
    panel.scatter(*x.T, c=y, cmap="RdBu", s=14, edgecolors="black", linewidths=0.5)
    right = runs[way][seed]["device" if mode == "device" else "model"]
    panel.set_title(f"{title}: {100 * right:.1f} %", fontsize=13)
    panel.set_xlabel("$x_1$", fontsize=14)
axes[0].set_ylabel("$x_2$", fontsize=14)
save_figure(fig, "00_tour", "training")
display(Markdown(f"Test accuracy of seed {seed}, the worst of {n_seeds} for in silico training. "
                 "The borders in b and c are ragged by noise: every pixel is a new measurement."))

# %% jupyter={"source_hidden": true}
def scored(mode, quantity):
    return {"accuracy": summary(run[quantity] for run in runs[mode])}


results = {mode: scored(mode, "device") for mode in runs}
results["in_silico_on_model"] = scored("in_silico", "model")
linear = []
for seed in range(n_seeds):
    (train_x, train_y), (test_x, test_y) = points(200, seed), points(500, 2000 + seed)
    linear.append(linear_classifier().fit(train_x, train_y).score(test_x, test_y))
baselines = {"linear": {"accuracy": summary(linear)}}
used = [device, *devices.values()]
spent = sum(one.passes for one in used) + sum(run["passes"] for mode in runs for run in runs[mode])
write_metrics("00_tour", profile, results, baselines=baselines, seeds=range(n_seeds),
              train_accuracy={mode: scored(mode, "train")["accuracy"] for mode in runs},
              cost=cost.read(spent), data={"name": "half-moons, drawn by seed", "sha256": ""})

# %% jupyter={"source_hidden": true}
both = results | baselines
lines = ["| | paper | test accuracy here |", "|---|---|---|"]
for name, label in (("pat", "PAT, on the device"), ("in_silico", "in silico, on the device"),
                    ("in_silico_on_model", "in silico, on its own model"),
                    ("linear", "digital: logistic regression")):
    accuracy = figures.percent(both[name]["accuracy"])
    lines.append(f"| {label} | not in the paper | {accuracy} |")
display(Markdown("\n".join(lines)))
display(Markdown("The device's numbers:\n\n" + figures.folded_table(
    parameter_table(TABLE), "wavelength", "duration", "channel_spacing", "crystal_length",
    "full_well")))

# %% [markdown]
# ## 3. Put your own device here
#
# Everything above needs one thing of the device: a call `y = device(x, theta)` with NumPy arrays
# of shape (rows, controls) in and (rows, readings) out. `pnn_utils.systems.base.PhysicalSystem`
# holds the contract; `pnn_utils.pat.physics_aware(device, model)` joins any such call with any
# torch model.
#
# Next: [01_toy](01_toy.ipynb), why PAT tolerates a wrong model;
# [02_shg_vowels](02_shg_vowels.ipynb), the paper's Fig. 2.
