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
# # The Monday morning of a laboratory: your own system, and what to do when it has changed
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): physics-aware training (PAT)
# works for *any* controllable physical system; nothing but measurements is needed.
#
# **What stands here.** Two devices that are no part of this project's modules: a circuit of 32
# transistors, computed by the program **ngspice** from the netlist
# [10_your_own_system.cir](10_your_own_system.cir), and a **plain Python function** of two lines.
# Both stand in for an instrument (none is attached); both could be yours: edit the netlist or the
# function and run the page. On Friday their models were measured. On Monday the devices are no
# longer what they were. Which method still works, and what does it cost in device passes?
#
# **The equations.** A device answers controls with readings, $y=f_p(x,\theta)$. PAT takes values
# from it and multiplies gradients by $J_m^T$ of a model $f_m$, fitted to measured pairs. It
# descends while the angle between the two gradients is well below 90°:
#
# $$\cos\alpha=\frac{\langle (J_p^{T}g)\cdot(J_m^{T}g)\rangle}
# {\sqrt{\langle|J_p^{T}g|^2\rangle\,\langle|J_m^{T}g|^2\rangle}}$$
#
# (mean over controls and random $g$ at the outputs; measured without knowing $J_p$).

# %% tags=["parameters"]
profile = "quick"
n_seeds = 2  # of each: a copy of the device, its model, training images, start, noise
n_train = 300  # images; 297 more choose the rates, 500 others are the test
n_pairs = {"circuit": 2000, "function": 6000}  # measured pairs for the model
epochs = 12  # at rest
more_epochs = 4  # after the change; at least 3
steps = [0, 3]  # of the change
learning_rates = [0.05]  # at rest
more_rates = [0.03]  # after the change
extensions = 0  # how often a search may widen its grid; full: 3
search_again = False  # True: search even where what a search has found is committed
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes; full: 2

# %%
import copy
import inspect
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits, make_moons

from pnn_utils import experiment, files, methods
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, percent, told
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.instrument import Instrument
from pnn_utils.training import accuracy_on_device, accuracy_on_model, train
from pnn_utils.twin import (
    fit_twin,
    gradient_quality,
    judge_twin,
    load_twin,
    random_controls,
    save_twin,
)

# %%
NAME, LAYERS, BATCH = "10_your_own_system", 4, 100
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 1. Wrap it
#
# *The program.* ngspice gets the netlist once, and a voltage `row` that steps through the rows of
# controls, faster than a copy of the circuit for each row. `copy` draws the tolerances of
# resistors, 1 %. In three steps the circuit warms up from 27 to 60 °C, and its supply sags from 5
# to 4.7 V.

# %%
CIRCUIT = (files.SOURCES / f"{NAME}.cir").read_text("utf-8", "replace")  # edited anywhere
X, T, Y = ([f"{kind}{n}" for n in range(16)] for kind in "xty")


def deck(x, theta, copy, step):
    supply = 5 - 0.1 * step
    lines = ["row by row", CIRCUIT, f".option seed={copy + 1} reltol=1e-5",
             f".temp {27 + 11 * step}", f"Vcc vcc 0 {supply}", f"Vee vee 0 {-supply}",
             f"X0 {' '.join(X + T)}", f"+ {' '.join(Y)} vcc vee device", "Vrow row 0 0",
             f".dc Vrow 0 {len(x) - 1} 1", ".save " + " ".join(f"v({y})" for y in Y)]
    for node, volts in zip(X + T, np.hstack([x, theta]).T, strict=True):
        points = ", ".join(f"{row}, {value:.9g}" for row, value in enumerate(volts))
        lines.append(f"B{node} {node} 0 V = pwl(V(row), {points}, 1e9, 0)")
    return "\n".join([*lines, ".end", ""])


# %%
def spice(x, theta, copy, step):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "deck.cir").write_text(deck(x, theta, copy, step))
        done = subprocess.run(["ngspice", "-b", "-r", "out.raw", "deck.cir"], cwd=folder,
                              capture_output=True, text=True)
        if not Path(folder, "out.raw").exists():
            raise OSError(f"ngspice gave no result: {(done.stdout + done.stderr)[-500:]}")
        head, _, body = Path(folder, "out.raw").read_bytes().partition(b"Binary:\n")
    lines = head.decode().split("\nVariables:")[1].splitlines()
    names = [line.split()[1] for line in lines if line.strip()]
    column = dict(zip(names, np.frombuffer(body).reshape(len(x), -1).T, strict=True))
    return np.stack([column[f"v({y})"] for y in Y], 1)


# %% [markdown]
# *The function.* Thirty-two phases of data and thirty-two of parameters (in turns) go through
# frosted glass, a random matrix, and a camera reads 32 intensities. From step to step the glass is
# rotated by 10° towards another one, of equal norm and orthogonal to it.

# %%
def glass(copy, step):
    draw = np.random.default_rng([11, copy]).standard_normal((2, 64 * 32, 2))
    one, other = np.linalg.qr(draw[0] + 1j * draw[1])[0].T.reshape(2, 64, 32) * np.sqrt(32)
    angle = np.deg2rad(10 * step)
    return np.cos(angle) * one + np.sin(angle) * other


def speckle(x, theta, copy, step):
    field = np.exp(2j * np.pi * np.hstack([x, theta]))
    return np.abs(field @ glass(copy, step)) ** 2


# %% [markdown]
# Either call, and noise as a voltmeter (1 mV) and a camera (0.01) would add it, becomes a device
# in one line. What else `Instrument` can do for a real one, rate limits, time-outs, reconnecting,
# and what happens when that does not help, is in
# [12_when_a_device_fails](12_when_a_device_fails.ipynb).

# %%
def make(name, copy=0, step=0, noise=0):
    rng = np.random.default_rng([10, copy, step, noise])
    if name == "circuit":
        return Instrument(
            lambda x, theta: spice(x, theta, copy, step) + rng.normal(0, 1e-3, (len(x), 16)),
            16, 16, 16, input_range=(0, 0.3), param_range=(0, 0.3), control_unit="V",
            output_unit="V", rows_per_call=500, timeout=120, limits=(-5, 5.1), pass_time=1e-3)
    return Instrument(
        lambda x, theta: speckle(x, theta, copy, step) + rng.normal(0, 0.01, (len(x), 32)),
        32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5), control_unit="turns",
        pass_time=0.02)


# %%
NAMES = {"circuit": "circuit (ngspice)", "function": "plain function"}
reason = files.missing("ngspice")
SKIPPED = {"circuit": reason} if reason else {}
for name, reason in SKIPPED.items():
    print(f"{NAMES.pop(name)} left out: {reason}")
for name, label in NAMES.items():
    controls = random_controls(make(name), 1, np.random.default_rng(0))
    print(f"{label}, the first readings:", *(
        f"{when} {np.round(make(name, step=step, noise=noise)(*controls)[0, :3], 3)}"
        for when, step, noise in (("at rest", 0, 0), ("again", 0, 1), ("changed", max(steps), 0))))

# %% [markdown]
# ## 2. Measure it
#
# A quarter of the pairs is drawn uniformly, the rest as they occur inside a network. $R^2$ on
# controls the model never saw, beside the noise floor, says how well it predicts; the cosine,
# whether PAT can use it. The search has a copy of its own, number 100.

# %%
depends = dict(
    n_train=n_train, n_pairs=n_pairs, epochs=epochs, more_epochs=more_epochs,
    devices=[CIRCUIT, *(inspect.getsource(part) for part in (deck, spice, glass, speckle, make))])
kept_results = experiment.results_file(NAME, **depends)
searched = experiment.search_file(NAME, search_again, part="search", steps=steps,
                                  rates=[learning_rates, more_rates], **depends)
SEARCH = 100


def run(trial, points, file=kept_results):
    return experiment.sweep(trial, points, file, scheduler=scheduler, jobs=jobs)


def kept(name, seed, what):
    return kept_results.with_name(f"{kept_results.stem}-{name}-{seed}-{what}.safetensors")


# %%
def measured(name, seed):
    device, rng, n = make(name, seed), np.random.default_rng(seed), n_pairs[name]
    uniform = random_controls(device, n // 4, rng)
    alike = signal_like_controls(device, (n - n // 4) // LAYERS, LAYERS, rng)
    x, theta = (np.concatenate(both) for both in zip(uniform, alike, strict=True))
    twin, _ = fit_twin(device, x, theta, device(x, theta), epochs=30, batch_size=n // 80,
                       learning_rate=4e-3, generator=torch.Generator().manual_seed(seed))
    save_twin(kept(name, seed, "twin"), twin, {"device": name, "pairs": n})
    spent = device.passes
    rows = signal_like_controls(device, 75, LAYERS, rng)
    judged, quality = judge_twin(twin, device, *rows), gradient_quality(device, twin, *rows, rng)
    medians = {key: float(np.median(judged[key])) for key in ("r2", "floor")}
    return {"quality": medians | quality, "to_fit": spent, "passes": device.passes}


# %%
points = experiment.grid(name=NAMES, seed=[*range(n_seeds), SEARCH])
models = {tuple(point.values()): model
          for point, model in zip(points, run(measured, points), strict=True)}
lines = ["| device, copy 0 | passes | R², median over readings | noise floor "
         "| cosine of the gradients | angle |", "|---|---|---|---|---|---|"]
for name, label in NAMES.items():
    model = models[name, 0]
    q = model["quality"]
    lines.append(f"| {label} | {model['to_fit']:,} | {q['r2']:.4f} | {q['floor']:.4f} "
                 f"| {q['cosine']:.3f} ± {q['standard_error']:.3f} "
                 f"| {np.rad2deg(np.arccos(min(q['cosine'], 1))):.0f}° |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## 3. Train it, and look
#
# First a task that one can see: two half-moons, two numbers in, two classes out. The chain of
# [02_shg_vowels](02_shg_vowels.ipynb) asks nothing of a device but as many readings as data
# controls; here four passes, trained by PAT with 200 points.

# %%
def moons(n, seed):
    x, y = make_moons(n, noise=0.12, random_state=seed)
    return torch.tensor(x).float(), torch.tensor(y)


def moons_network(name):
    device = make(name, noise=3)
    network = spectral_chain(device, load_twin(kept(name, 0, "twin"), device), 2, 2, LAYERS,
                             torch.Generator().manual_seed(0), mode="device")
    network.calibrate(moons(200, 0)[0])
    return network, device


@torch.no_grad()
def draw_decision(axes, network):
    across, up = np.meshgrid(np.linspace(-1.6, 2.6, 50), np.linspace(-1.1, 1.6, 40))
    logits = network.set_mode("device")(torch.tensor(np.c_[across.ravel(), up.ravel()]).float())
    share = logits.softmax(1)[:, 1].reshape(across.shape)
    axes.contourf(across, up, share, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.7)
    x, y = moons(200, 0)
    axes.scatter(*x.T, c=y, cmap="RdBu", s=8, edgecolors="black", linewidths=0.4)


# %%
fig, axes = plt.subplots(1, 2 * len(NAMES), figsize=(4.6 * len(NAMES), 2.2), sharey=True,
                         squeeze=False)
seen_task, moons_passes = {}, 0
for (name, label), (left, right) in zip(NAMES.items(), axes.reshape(-1, 2), strict=True):
    network, device = moons_network(name)
    for when, panel in (("before", left), ("after", right)):
        if when == "after":
            train(network.set_mode("pat"), *moons(200, 0), epochs=40, learning_rate=0.05,
                  batch_size=50, generator=torch.Generator().manual_seed(0))
        seen_task[f"{when}_{name}"] = accuracy_on_device(network, *moons(500, 1))
        draw_decision(panel, network)
        panel.set_title(f"{label}\n{when}: {100 * seen_task[f'{when}_{name}']:.0f} % of the test")
    moons_passes += device.passes
figures.save_figure(fig, NAME, "moons")

# %% [markdown]
# ## 4. Digits, the device at rest
#
# 1,797 digits of 8 x 8 pixels, shipped with scikit-learn, averaged to 4 x 4. The test images are
# drawn once and read at the end alone. Rates are chosen for each method, by the same search, with
# other images than training and test; where the best rate stands on an edge, the grid is widened.

# %%
images, labels = load_digits(return_X_y=True)
features = torch.tensor(images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16).float()
labels = torch.tensor(labels)
order = np.random.default_rng(20).permutation(len(labels))


def task(seed, final):
    """Images to score with, and to train with: a draw of its own for each seed."""
    rows = np.random.default_rng([21, seed]).permutation(order[500:])
    scored = order[:500] if final else rows[:297]
    return [(features[part], labels[part]) for part in (scored, rows[297:297 + n_train])]


def network_on(device, twin, seed, weights):
    generator = torch.Generator().manual_seed(seed)
    network = spectral_chain(device, twin, 16, 10, LAYERS, generator, mode="device")
    network.load_state_dict(network.state_dict() | weights)
    return network


# %% [markdown]
# A network standardises readings with constants. In silico training has them from the start; on
# the device they are *matched* afterwards, here and after every change: moved so that each layer
# sees the mean and spread that it was trained with (`methods.match`). That costs one pass a layer
# and row.

# %%
METHODS = {"pat": methods.pat, "in_silico": methods.in_silico}
LABELS = {"pat": "PAT", "in_silico": "in silico"}


def at_rest(name, method, seed, rate, final):
    scored, (x, y) = task(seed, final)
    device = make(name, seed, noise=1)
    twin = load_twin(kept(name, seed, "twin"), device)
    network = network_on(device, twin, seed, {})
    network.calibrate(x)
    found = {"untrained": accuracy_on_device(network, *scored), "to_train": -device.passes}
    METHODS[method](lambda model: network, twin, device, x, y, seed=seed, epochs=epochs,
                    learning_rate=rate, batch_size=BATCH)
    found["to_train"] += device.passes
    files.save_tensors(kept(name, seed, f"{method}-{rate}"), network.state_dict(), {})
    found |= {"accuracy": accuracy_on_device(network, *scored),
              "train": accuracy_on_device(network, x, y),
              "on_model": accuracy_on_model(network, *scored)}
    if method == "in_silico":
        methods.match(network, methods.moments(network, x, "in_silico"), x)
        found["matched"] = accuracy_on_device(network, *scored)
    return found | {"passes": device.passes}


# %%
spent = []


def search(trial, rates, score, **settings):
    def scores(pairs):
        found = run(trial, [dict(name=name, method=method, seed=SEARCH, rate=rate, final=False,
                                 **settings) for (name, method), rate in pairs], searched)
        spent.extend(one["passes"] for one in found)
        return [score(one) for one in found]

    cases = [(name, method) for name in NAMES for method in METHODS]
    best = experiment.search(scores, rates, cases, extensions)
    for (name, method), choice in best.items():
        print(f"{NAMES[name]}, {LABELS[method]}: validation", ", ".join(
            f"{100 * value:.1f} % at {rate:g}" for rate, value in sorted(choice.scores.items())))
        assert profile == "quick" or not choice.at_edge, "the grid needs more extensions"
    return best


best = search(at_rest, learning_rates, lambda one: one.get("matched", one["accuracy"]))

# %%
groups = experiment.grid(name=NAMES, method=METHODS)
found = run(at_rest, [group | dict(rate=best[tuple(group.values())].rate, seed=seed, final=True)
                      for group in groups for seed in range(n_seeds)])
spent += [one["passes"] for one in found]
rest = {tuple(group.values()): found[i * n_seeds:(i + 1) * n_seeds]
        for i, group in enumerate(groups)}

# %% [markdown]
# ## 5. Monday: the device has changed
#
# Each method goes on from its own network at rest, on each changed device:
#
# - **nothing is done**, or the **constants** alone are renewed: *matched* as above, or *measured
#   anew* (`methods.restandardise`), as a network does before its training;
# - **PAT goes on** with Friday's model, constants matched first;
# - **re-fit**: new pairs around the network's controls, the old model fitted on to them, in silico
#   training goes on, constants matched again. As many epochs as PAT, and as many device passes.

# %%
def refitted(twin, network, device, x, seed):
    twin, rng = copy.deepcopy(twin), np.random.default_rng(seed)
    controls = methods.controls_around(network, device, x, more_epochs - 2, rng)
    fit_twin(device, *controls, device(*controls), twin=twin, refit=True, epochs=10,
             batch_size=128, learning_rate=3e-3, generator=torch.Generator().manual_seed(seed))
    return twin


def carried_over(name, method, seed, device, twin, x):
    """Weights as trained at rest, and their network on the changed device, constants matched."""
    weights, _ = files.load_tensors(kept(name, seed, f"{method}-{best[name, method].rate}"))
    friday = network_on(make(name, seed, noise=2), twin, seed, weights)
    trained_with = methods.moments(friday, x, "device" if method == "pat" else "in_silico")
    return weights, methods.match(network_on(device, twin, seed, weights), trained_with, x)


# %%
def compared(device, twin, seed, weights, matched, scored, x):
    """What else is asked of a final trial; none of it trains."""
    rows = signal_like_controls(device, 75, LAYERS, np.random.default_rng(seed))
    quality = gradient_quality(device, twin, *rows, np.random.default_rng(seed))
    nothing, constants = (network_on(device, twin, seed, each) for each in (weights, matched))
    found = {"cosine": quality["cosine"], "nothing": accuracy_on_device(nothing, *scored),
             "matched": accuracy_on_device(constants, *scored)}
    return found | {"anew": accuracy_on_device(methods.restandardise(nothing, x), *scored)}


# %%
def changed(name, method, seed, rate, final, step):
    scored, (x, y) = task(seed, final)
    device = make(name, seed, step, noise=4 + list(METHODS).index(method))
    twin = load_twin(kept(name, seed, "twin"), device)
    weights, network = carried_over(name, method, seed, device, twin, x)
    matched = copy.deepcopy(network.state_dict())
    if method == "in_silico":
        twin = refitted(twin, network, device, x, seed)
    network, _ = METHODS[method](
        lambda model: network_on(device, model, seed, matched), twin, device, x, y, seed=seed,
        epochs=more_epochs, learning_rate=rate, batch_size=BATCH)
    if method == "in_silico":
        methods.match(network, methods.moments(network, x, "in_silico"), x)
    found = {"to_train": device.passes, "trained": accuracy_on_device(network, *scored)}
    if final:
        found |= compared(device, twin, seed, weights, matched, scored, x)
    return found | {"passes": device.passes}


# %%
best_on = search(changed, more_rates, lambda one: one["trained"], step=max(steps))

# %%
cases = experiment.grid(name=NAMES, method=METHODS, step=steps)
found = run(changed, [case | dict(rate=best_on[case["name"], case["method"]].rate, seed=seed,
                                  final=True) for case in cases for seed in range(n_seeds)])
spent += [one["passes"] for one in found]
after = {tuple(case.values()): found[i * n_seeds:(i + 1) * n_seeds]
         for i, case in enumerate(cases)}

# %%
# What is compared: a method's network, and what was done to it on the changed device.
CURVES = {"pat": ("pat", "trained", "PAT goes on, old model"),
          "pat_matched": ("pat", "matched", "PAT's network, constants matched"),
          "refitted": ("in_silico", "trained", "in silico, model re-fitted"),
          "in_silico_matched": ("in_silico", "matched", "in silico, constants matched"),
          "in_silico_restandardised": ("in_silico", "anew", "in silico, constants anew"),
          "in_silico": ("in_silico", "nothing", "in silico, nothing done")}
once = LAYERS * n_train  # a pass a layer and row
PASSES = dict.fromkeys(CURVES, once) | {"in_silico": 0} | {
    key: after[next(iter(NAMES)), CURVES[key][0], steps[0]][0]["to_train"]
    for key in ("pat", "refitted")}


def values(key, name, step):
    method, what, _ = CURVES[key]
    return [one[what] for one in after[name, method, step]]


change = {f"{key}_{name}": [{"step": step, "passes": PASSES[key],
                             "accuracy": summary(values(key, name, step))} for step in steps]
          for key in CURVES for name in NAMES}
differences = {f"pat_minus_{key}_{name}": [
    experiment.paired(values("pat", name, step), values(key, name, step)) for step in steps]
    for key in CURVES if key != "pat" for name in NAMES}
for name in NAMES:
    for key in ("pat", "refitted"):  # what its model is worth on the changed device
        for row in change[f"{key}_{name}"]:
            row["cosine"] = summary(
                one["cosine"] for one in after[name, CURVES[key][0], row["step"]])

# %% [markdown]
# ## 6. Look

# %%
STYLES = {"pat": (COLOURS["pat"], "o-"), "pat_matched": (COLOURS["pat"], "o:"),
          "refitted": ("#009E73", "s-"), "in_silico_matched": (COLOURS["in_silico"], "^-"),
          "in_silico_restandardised": (COLOURS["in_silico"], "v--"),
          "in_silico": (COLOURS["in_silico"], "x:")}
SCALES = {"circuit": "(11 °C and 0.1 V each)", "function": "(10° each)"}


def bars(panel, curve, colour, style, label):
    error = [2 * one["sd"] / one["n"] ** 0.5 for one in curve]
    panel.errorbar(steps, [one["mean"] for one in curve], error, color=colour, fmt=style,
                   capsize=2, markersize=4, label=label)


# %%
fig, axes = plt.subplots(1, 1 + len(NAMES), figsize=(10, 3.8))
for panel, (name, label), letter in zip(axes, NAMES.items(), "ab", strict=False):
    for key, (colour, style) in STYLES.items():
        bars(panel, [row["accuracy"] for row in change[f"{key}_{name}"]], colour, style,
             CURVES[key][2])
    panel.set(title=f"{letter}  {label} (n = {n_seeds}, 2 s.e.)", ylim=(0, 1), xticks=steps,
              xlabel=f"steps of the change {SCALES[name]}", ylabel="test accuracy on the device")
fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
for name, line in zip(NAMES, ("-", "--"), strict=False):
    for method, key, label in (("pat", "pat", "old"), ("in_silico", "refitted", "re-fitted")):
        found = [summary(one["cosine"] for one in after[name, method, step]) for step in steps]
        bars(axes[-1], found, STYLES[key][0], STYLES[key][1][0] + line, f"{label}, {name}")
axes[-1].set(title=f"{'abc'[len(NAMES)]}  Is the model good enough?", ylim=(0, 1.05), xticks=steps,
             xlabel="steps of the change", ylabel="cosine to the device's gradient")
axes[-1].legend(fontsize=7, handlelength=4)
figures.save_figure(fig, NAME, "results")

# %%
def digital(seed):
    (test_x, test_y), (x, y) = task(seed, final=True)
    most_frequent = float((test_y == torch.bincount(y).argmax()).double().mean())
    return experiment.linear_classifier().fit(x, y).score(test_x, test_y), most_frequent


def scores(name, method, what):
    return {"accuracy": summary(one[what] for one in rest[name, method])}


results, baselines, train_accuracy = {}, {}, {}
linear, chance = zip(*(digital(seed) for seed in range(n_seeds)), strict=True)
for name in NAMES:
    for method in METHODS:
        results[f"{method}_{name}"] = scores(name, method, "accuracy")
        train_accuracy[f"{method}_{name}"] = scores(name, method, "train")["accuracy"]
    results[f"in_silico_matched_{name}"] = scores(name, "in_silico", "matched")
    results[f"in_silico_on_model_{name}"] = scores(name, "in_silico", "on_model")
    if 0 in steps:
        for key in ("in_silico_restandardised", "refitted"):
            results[f"{key}_{name}"] = {"accuracy": summary(values(key, name, 0))}
    baselines |= {f"untrained_{name}": scores(name, "pat", "untrained"),
                  f"linear_{name}": {"accuracy": summary(linear)},
                  f"chance_{name}": {"accuracy": summary(chance)}}

# %%
spent += [moons_passes, *(model["passes"] for model in models.values())]
write_metrics(
    NAME, profile, results, baselines=baselines, cost=cost.read(sum(spent)), seeds=range(n_seeds),
    data={"name": "digits of scikit-learn, 8 x 8", "sha256": ""}, skipped=SKIPPED,
    train_accuracy=train_accuracy, change=change, differences=differences, moons=seen_task,
    model_quality={f"{name}_copy_{seed}": model["quality"]
                   for (name, seed), model in models.items()},
    searches={f"{method}_{name}{when}": choice._asdict()
              for when, choices in (("", best), ("_changed", best_on))
              for (name, method), choice in choices.items()})
if profile == "full":
    experiment.keep_search(searched)
for path in (searched, *kept_results.parent.glob(f"{kept_results.stem}*")):
    path.unlink(missing_ok=True)  # the next run computes anew

# %%
lines = [f"| test accuracy at rest, mean ± sd | passes | {' | '.join(NAMES.values())} |",
         "|---" * (2 + len(NAMES)) + "|"]
both = results | baselines
of_pat, of_model = (", ".join(dict.fromkeys(f"{one:,}" for one in found)) for found in (
    [rest[name, "pat"][0]["to_train"] for name in NAMES],
    [models[name, 0]["to_fit"] for name in NAMES]))
for label, passes, key in (
        ("PAT", of_pat, "pat"), ("in silico, constants matched", f"{once:,}", "in_silico_matched"),
        ("in silico, as deployed", "0", "in_silico"),
        ("in silico, on its own model", "0", "in_silico_on_model"),
        ("the device untrained", "0", "untrained"), ("digital: logistic regression", "", "linear"),
        ("chance: the most frequent digit", "", "chance")):
    here = " | ".join(percent(both[f"{key}_{name}"]["accuracy"]) for name in NAMES)
    lines.append(f"| {label} | {passes} | {here} |")
display(Markdown("\n".join([*lines, "", f"Each model took {of_model} passes before."])))

# %%
lines = [f"| step {steps[-1]} of the change | passes | "
         + " | ".join(f"{label} | PAT ahead by" for label in NAMES.values()) + " |",
         "|---" * (2 + 2 * len(NAMES)) + "|"]
for key, (_, _, label) in CURVES.items():
    cells = []
    for name in NAMES:
        gap = differences.get(f"pat_minus_{key}_{name}", [None])[-1]
        cells += [percent(change[f"{key}_{name}"][-1]["accuracy"]),
                  f"{100 * gap['difference']:.1f} ± {100 * gap['standard_error']:.1f}"
                  if gap else ""]
    lines.append(f"| {label} | {PASSES[key]:,} | {' | '.join(cells)} |")
display(Markdown("\n".join([*lines, "", "*Ahead by*: points, mean of the paired difference ± its "
                            "standard error over copies."])))

# %% [markdown]
# ## What this shows, and what not
#
# Written from the numbers of this run: means over copies; differences are paired by copy, in
# points, with their standard error, and called resolved where Student's 95 % interval excludes
# zero.


# %% jupyter={"source_hidden": true}
AHEAD = "PAT is ahead", "PAT is behind"


def each(text, between="; "):
    return between.join(f"{text(name)} with the {name}" for name in NAMES)


def of(key, name, at=-1, quantity="accuracy"):
    mean = change[f"{key}_{name}"][at][quantity]["mean"]
    return f"{100 * mean:.1f} %" if quantity == "accuracy" else f"{mean:.2f}"


def ahead_of(key):
    return each(lambda name: told(differences[f"pat_minus_{key}_{name}"][-1], *AHEAD))


# %% jupyter={"source_hidden": true}
CHANGED = {"circuit": "warmer and at a lower supply", "function": "its glass rotated"}


def beside_linear(name):
    return told(experiment.paired(results[f"pat_{name}"]["accuracy"]["values"], linear), *AHEAD)


def what_helps(name):
    kept_up = told(differences[f"pat_minus_pat_matched_{name}"][-1], "it gains", "it loses")
    return (
        f"**The {name}, {CHANGED[name]}.** From step {steps[0]} to {steps[-1]} an in silico "
        f"network left alone goes from {of('in_silico', name, 0)} to {of('in_silico', name)}. "
        f"With matched constants ({once:,} passes) it goes from "
        f"{of('in_silico_matched', name, 0)} to {of('in_silico_matched', name)}, PAT's "
        f"network from {of('pat_matched', name, 0)} to {of('pat_matched', name)}. The cosine of "
        f"the old model's gradient goes from {of('pat', name, 0, 'cosine')} to "
        f"{of('pat', name, -1, 'cosine')} (panel {'abc'[len(NAMES)]}). Training on with that "
        f"model PAT reads {of('pat', name)}: against its network with matched constants "
        f"{kept_up}.")


# %% jupyter={"source_hidden": true}
moons_read, trained, untrained = (each(text, " and ") for text in (
    lambda name: f"{100 * seen_task[f'after_{name}']:.1f} %",
    lambda name: f"{100 * results[f'pat_{name}']['accuracy']['mean']:.1f} %",
    lambda name: f"{100 * baselines[f'untrained_{name}']['accuracy']['mean']:.1f} %"))
shown = [
    "**Nothing of the devices was needed but their readings.** Of 500 new points of the "
    f"half-moons PAT tells apart {moons_read} (one training each). Of the digits it reads "
    f"{trained}; untrained networks read {untrained}. Logistic regression on the same sixteen "
    f"numbers reads {100 * np.mean(linear):.1f} %; against it {each(beside_linear)}. The question "
    "was whether a device that nobody designed for digits can be *trained*.",
    *map(what_helps, NAMES)]
display(Markdown("\n".join(f"- {line}" for line in shown)))


# %% jupyter={"source_hidden": true}
def anew(name):
    gaps = [experiment.paired(*(values(f"in_silico_{key}", name, step)
                                for key in ("restandardised", "matched")))
            for step in (steps[0], steps[-1])]
    read = [of(f"in_silico_{key}", name, 0) for key in ("restandardised", "matched")]
    first, last = (told(one, "anew is ahead", "anew is behind") for one in gaps)
    return (f"with the {name} {read[0]} against {read[1]} at step {steps[0]}, {first}; at step "
            f"{steps[-1]}, {last}")


shown = [
    f"**PAT's lead, and over whom**, at step {steps[-1]}. Against the matched in silico network: "
    f"{ahead_of('in_silico_matched')}. Against constants measured anew: "
    f"{ahead_of('in_silico_restandardised')}.",
    "**Constants measured anew or matched**, in silico. A network that was trained with other "
    "constants can lose by new ones even where nothing has changed: "
    f"{'; '.join(map(anew, NAMES))}.",
    f"**A fresh model.** Re-fitting takes {PASSES['refitted']:,} passes, PAT {PASSES['pat']:,}. "
    f"At step {steps[-1]} it reads {each(lambda name: of('refitted', name), ' and ')}. Against "
    f"it, PAT with Friday's model: {ahead_of('refitted')}. What both would do together, a "
    "re-fitted model in PAT, was not tried here."]
display(Markdown("\n".join(f"- {line}" for line in shown)))
