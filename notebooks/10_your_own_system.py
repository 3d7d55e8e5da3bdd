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
# # Your own system: from a function that returns numbers to a trained network
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): physics-aware training (PAT)
# works for *any* controllable physical system; nothing but measurements is needed.
#
# **What stands here.** Two devices that are no part of this project's modules: a circuit of 32
# transistors, computed by the program **ngspice** from the netlist
# [10_your_own_system.cir](10_your_own_system.cir), and a **plain Python function** of two lines.
# Both are stand-ins for an instrument (none is attached), and both could be yours: edit the
# netlist, or the function, and run the notebook. Each learns to read digits (1,797 of them, 8 x 8
# pixels, shipped with scikit-learn, averaged to 4 x 4).
#
# **The equations.** A device answers controls with readings, $y=f_p(x,\theta)$. PAT needs a
# differentiable model $f_m$ of it, fitted to measured pairs, and multiplies gradients by $J_m^T$
# where the device gives the values. It descends while the angle between the two gradients,
#
# $$\cos\alpha=\frac{\langle (J_p^{T}g)\cdot(J_m^{T}g)\rangle}
# {\sqrt{\langle|J_p^{T}g|^2\rangle\,\langle|J_m^{T}g|^2\rangle}}$$
#
# (mean over controls and over random $g$ at the outputs), is well below 90°. Section 3 measures it
# without knowing $J_p$.

# %% tags=["parameters"]
profile = "quick"
n_seeds = 2  # splits, starts and noise
n_train = 250  # images; 200 more choose the learning rate, 500 others are the test
n_layers = 2
epochs = 6
learning_rates = [0.05]
extensions = 0  # how often the search may widen this grid; full: 3
n_pairs = 1500  # measured pairs for the model
fewer_pairs = 150  # for a model that is worse on purpose
model_epochs = 30
n_judge = 300  # rows for the gradient's quality
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 2  # processes

# %%
import inspect
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from pnn_utils import experiment, files
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, percent
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.instrument import Faulty, Instrument, InstrumentError
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
NAME = "10_your_own_system"
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 1. A call that returns numbers
#
# *The program.* One call writes a netlist with a copy of the circuit for each row of controls,
# runs `ngspice`, and reads the operating points. The sixteen data voltages and the sixteen
# parameter voltages lie between 0 and 0.3 V. ngspice gives no noise; 1 mV (sd) is added, as a
# voltmeter would.

# %%
CIRCUIT = (files.SOURCES / "10_your_own_system.cir").read_text()


def spice(x, theta):
    deck = ["copies of one circuit", CIRCUIT, "Vcc vcc 0 5", "Vee vee 0 -5"]
    for row, voltages in enumerate(np.hstack([x, theta])):
        data, parameters, readings = ([f"{kind}{row}_{n}" for n in range(16)] for kind in "xty")
        deck += [f"V{node} {node} 0 {value:.9g}"
                 for node, value in zip(data + parameters, voltages, strict=True)]
        deck += [f"X{row} {' '.join(data)}", "+ " + " ".join(parameters + readings),
                 "+ vcc vee device"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "deck.cir").write_text("\n".join([*deck, ".op", ".end", ""]))
        done = subprocess.run(["ngspice", "-b", "-r", "out.raw", "deck.cir"], cwd=folder,
                              capture_output=True, text=True)
        if not Path(folder, "out.raw").exists():
            raise OSError(f"ngspice gave no result: {(done.stdout + done.stderr)[-500:]}")
        head, _, body = Path(folder, "out.raw").read_bytes().partition(b"Binary:\n")
    lines = head.decode().split("\nVariables:")[1].splitlines()
    names = [line.split()[1] for line in lines if line.strip()]
    voltage = dict(zip(names, np.frombuffer(body), strict=True))
    return np.array([[voltage[f"v(y{row}_{n})"] for n in range(16)] for row in range(len(x))])


# %% [markdown]
# *The function.* Thirty-two phases of data and thirty-two of parameters (in turns, between 0 and
# 0.5) go through a fixed random matrix, as light from a modulator through frosted glass, and a
# camera reads 32 intensities with a noise of 0.01.

# %%
parts = np.random.default_rng(10).standard_normal((2, 64, 32)) / np.sqrt(128)
GLASS = parts[0] + 1j * parts[1]


def speckle(x, theta, camera):
    field = np.exp(2j * np.pi * np.hstack([x, theta]))
    return np.abs(field @ GLASS) ** 2 + 0.01 * camera.standard_normal((len(x), 32))


# %% [markdown]
# ## 2. The contract
#
#     controls --> portions, not too often --> measure(x, theta) --> a whole, finite reading?
#                           ^                    raises, hangs             | yes --> readings
#                           |__ wait, twice as long each time, count it __/| no
#
# `Instrument` makes a device of such a call. This is all that a laboratory has to fill in:
#
# | setting | what it is for |
# |---|---|
# | `input_dim, param_dim, output_dim`, ranges, units | what may be sent; nothing else is |
# | `rows_per_call` | batching: most rows the instrument takes at once (here 50) |
# | `interval` | rate limit: shortest time between two calls, s |
# | `warm_up` | calls that are thrown away, at the start and after a reconnection |
# | `timeout`, `reconnect` | a longer call counts as hung; the connection is made anew |
# | `attempts`, `first_wait` | ask again, wait twice as long each time, then stop |
# | `limits` | readings at the ends of the converter's range are no readings |
# | `pass_time` | what a pass costs, s: laboratory time is reported from it |
#
# An error, a NaN, a wrong length or a clipped reading is asked for again; what is outside the
# ranges is refused before it reaches the instrument; a training that stops keeps its checkpoint. A
# real one may look like this (not run here; `scope` stands for your driver):
#
# ```python
# def measure(x, theta):
#     scope.send(np.hstack([x, theta]))          # blocks
#     return scope.read(timeout=5).reshape(len(x), 16)
#
# device = Instrument(measure, 16, 16, 16, rows_per_call=50, interval=0.2, warm_up=3,
#                     timeout=10, reconnect=scope.reopen, limits=(-5, 5), pass_time=0.02)
# ```

# %%
def make(name, seed=0):
    rng = np.random.default_rng(np.random.SeedSequence([10, seed]))

    def voltmeter(x, theta):
        return spice(x, theta) + 0.001 * rng.standard_normal((len(x), 16))

    if name == "circuit":
        return Instrument(voltmeter, 16, 16, 16, input_range=(0, 0.3), param_range=(0, 0.3),
                          control_unit="V", output_unit="V", rows_per_call=50, timeout=120,
                          limits=(-5, 5.1), pass_time=1e-3)
    return Instrument(lambda x, theta: speckle(x, theta, rng), 32, 32, 32, input_range=(0, 0.5),
                      param_range=(0, 0.5), control_unit="turns", pass_time=0.02)


NAMES = {"circuit": "circuit (ngspice)", "function": "plain function"}
reason = files.missing("ngspice")
SKIPPED = {"circuit": reason} if reason else {}
for name, reason in SKIPPED.items():
    print(f"{NAMES.pop(name)} left out: {reason}")
for name, label in NAMES.items():
    device = make(name)
    controls = random_controls(device, 1, np.random.default_rng(0))
    print(f"{label}: the same controls twice, first four readings:",
          *(np.round(device(*controls)[0, :4], 4) for _ in range(2)))

# %% [markdown]
# ## 3. Measure, fit, judge
#
# A quarter of the pairs is drawn uniformly, the rest as they occur inside a network. $R^2$ on
# controls the model never saw, beside the noise floor, says how well it predicts. **Is it good
# enough for PAT?** The cosine of the gradients answers, from four more readings of each of some
# hundreds of rows (`pnn_utils.twin.gradient_quality`): projections of the device's gradient are
# differences of readings, those of the model come from automatic differentiation. The same for a
# model from much fewer pairs.

# %%
kept_results = experiment.results_file(
    NAME, n_train=n_train, n_layers=n_layers, epochs=epochs, n_pairs=n_pairs, n_judge=n_judge,
    model_epochs=model_epochs, circuit=CIRCUIT,  # what trials depend on beside their points,
    devices=[inspect.getsource(part) for part in (spice, speckle, make)])  # as edited here, too


def run(trial, points):
    return experiment.sweep(trial, points, kept_results, scheduler=scheduler, jobs=jobs)


def twin_file(name, pairs):
    return kept_results.with_name(f"{kept_results.stem}-{name}-{pairs}.safetensors")


def fitted(name, pairs):
    device, rng = make(name, seed=pairs), np.random.default_rng(1)
    uniform = random_controls(device, pairs // 4, rng)
    alike = signal_like_controls(device, (pairs - pairs // 4) // n_layers, n_layers, rng)
    x, theta = (np.concatenate(both) for both in zip(uniform, alike, strict=True))
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(128,), epochs=model_epochs,
                       batch_size=32, generator=torch.Generator().manual_seed(2))
    save_twin(twin_file(name, pairs), twin, {"device": name, "pairs": pairs})
    rows = signal_like_controls(device, n_judge // n_layers, n_layers, rng)
    judged, quality = judge_twin(twin, device, *rows), gradient_quality(device, twin, *rows, rng)
    medians = {key: float(np.median(judged[key])) for key in ("r2", "floor")}
    return {"quality": medians | quality, "passes": device.passes}


# %%
points = experiment.grid(name=NAMES, pairs=[n_pairs, fewer_pairs])
models = {(point["name"], point["pairs"]): model
          for point, model in zip(points, run(fitted, points), strict=True)}
lines = ["| device | pairs | R², median over readings | noise floor | cosine of the gradients "
         "| angle |", "|---|---|---|---|---|---|"]
for (name, pairs), model in models.items():
    q = model["quality"]
    angle = np.rad2deg(np.arccos(min(q["cosine"], 1.0)))
    lines.append(f"| {NAMES[name]} | {pairs:,} | {q['r2']:.4f} | {q['floor']:.4f} "
                 f"| {q['cosine']:.3f} ± {q['standard_error']:.3f} | {angle:.0f}° |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## 4. Train
#
# The chain of [02_shg_vowels](02_shg_vowels.ipynb) asks nothing of a device but as many readings
# as data controls. Per layer it trains the parameter controls and the way from readings to the
# next data controls; the last readings, summed in ten groups, are the classes. *Untrained*: the
# same network at its random start. Learning rates are chosen for each method, by the same search,
# in a split of its own (seed 100), on 200 images outside its training and test; where the best
# rate stands on an edge of the grid, the grid is widened. The splits shuffle the same 1,797
# images, so some of these are test images elsewhere: one rate of a few is all that could leak.

# %%
def task(seed):
    """Rows for the test, to choose by, and for training, each (images, labels)."""
    images, labels = load_digits(return_X_y=True)
    features = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    order = np.random.default_rng(np.random.SeedSequence([20, seed])).permutation(len(labels))
    parts = order[:500], order[500:700], order[700:700 + n_train]
    return [(torch.tensor(features[part]).float(), torch.tensor(labels[part])) for part in parts]


def untrained(name, seed, pairs=n_pairs):
    device = make(name, seed=1000 + seed)
    twin = load_twin(twin_file(name, pairs), device)
    generator = torch.Generator().manual_seed(seed)
    network = spectral_chain(device, twin, 16, 10, n_layers, generator, mode="device")
    network.calibrate(task(seed)[2][0])
    return network, device


def train_here(network, device, method, seed, learning_rate):
    train(network.set_mode(method), *task(seed)[2], epochs=epochs, learning_rate=learning_rate,
          batch_size=50, generator=torch.Generator().manual_seed(100 + seed), device=device)


# %%
METHODS = {"pat": "PAT", "in_silico": "in silico"}


def trial(name, method, seed, learning_rate, pairs=n_pairs, final=True):
    test, chosen_by, training = task(seed)
    network, device = untrained(name, seed, pairs)
    start = accuracy_on_device(network, *test) if final else None
    train_here(network, device, method, seed, learning_rate)
    if not final:
        return {"validation": accuracy_on_device(network, *chosen_by), "passes": device.passes}
    return {"untrained": start, "accuracy": accuracy_on_device(network, *test),
            "passes": device.passes, "on_model": accuracy_on_model(network, *test),
            "train": accuracy_on_device(network, *training)}


searched = []


def score(pairs):
    found = run(trial, [dict(name=name, method=method, seed=100, learning_rate=rate, final=False)
                        for (name, method), rate in pairs])
    searched.extend(found)
    return [one["validation"] for one in found]


cases = [(name, method) for name in NAMES for method in METHODS]
best = experiment.search(score, learning_rates, cases, extensions)
for (name, method), choice in best.items():
    print(f"{NAMES[name]}, {METHODS[method]}: validation", ", ".join(
        f"{100 * value:.1f} % at rate {rate:g}" for rate, value in sorted(choice.scores.items())))

# %%
groups = experiment.grid(name=NAMES, method=METHODS, pairs=[n_pairs, fewer_pairs])
found = run(trial, [group | dict(learning_rate=best[group["name"], group["method"]].rate,
                                 seed=seed) for group in groups for seed in range(n_seeds)])
done = {tuple(group.values()): found[i * n_seeds:(i + 1) * n_seeds]
        for i, group in enumerate(groups)}


def scores(name, method, quantity, pairs=n_pairs):
    return {"accuracy": summary(one[quantity] for one in done[name, method, pairs])}


def digital(seed):
    (test_x, test_y), _, (x, y) = task(seed)
    most_frequent = float((test_y == torch.bincount(y).argmax()).double().mean())
    return experiment.linear_classifier().fit(x, y).score(test_x, test_y), most_frequent


# %%
results, baselines, train_accuracy = {}, {}, {}
linear, chance = zip(*(digital(seed) for seed in range(n_seeds)), strict=True)
for name in NAMES:
    for method in METHODS:
        for end, pairs in (("", n_pairs), ("_fewer_pairs", fewer_pairs)):
            key = f"{method}_{name}{end}"
            results[key] = scores(name, method, "accuracy", pairs)
            train_accuracy[key] = scores(name, method, "train", pairs)["accuracy"]
    results[f"in_silico_on_model_{name}"] = scores(name, "in_silico", "on_model")
    baselines[f"untrained_{name}"] = scores(name, "pat", "untrained")
    baselines[f"linear_{name}"] = {"accuracy": summary(linear)}
    baselines[f"chance_{name}"] = {"accuracy": summary(chance)}

# %% [markdown]
# ## 5. Save, reload, resume
#
# Weights go into a safetensors file, the model beside it, nothing is pickled. (The network is that
# of the function's first final trial, trained once more; these passes are not counted again.)

# %%
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
test, _, (x, y) = task(0)
network, device = untrained("function", seed=0)
train_here(network, device, "pat", 0, best["function", "pat"].rate)
before = accuracy_on_device(network, *test)
files.save_tensors(folder / "network.safetensors", network.state_dict(), {"accuracy": before})

reloaded, device = untrained("function", seed=5)
weights, about = files.load_tensors(folder / "network.safetensors")
reloaded.load_state_dict(weights)
print(f"reloaded: {100 * accuracy_on_device(reloaded, *test):.1f} % of the test digits, "
      f"before saving {100 * about['accuracy']:.1f} %")

# %% [markdown]
# Then the instrument fails for good in the middle of a training: the exception says what is kept,
# and the same call with a repaired instrument goes on from the last whole epoch, to the very
# numbers of a training that was never stopped.

# %%
class Readings:
    """The function with a noise generator that a checkpoint can keep, as `Instrument` does."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, x, theta):
        return speckle(x, theta, self.rng)

    def state_dict(self):
        return self.rng.bit_generator.state

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state


def learn(rates, checkpoint=None, attempts=6):
    faulty = Faulty(Readings(3), 32, rates, seed=4, full_scale=100.0)
    device = Instrument(faulty, 32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5),
                        attempts=attempts, first_wait=0, limits=(-1, 100),
                        reconnect=faulty.reconnect)
    twin = load_twin(twin_file("function", n_pairs), device)
    generator = torch.Generator().manual_seed(7)
    network = spectral_chain(device, twin, 16, 10, n_layers, generator)
    history = train(network, x, y, epochs=6, learning_rate=0.05, batch_size=50, device=device,
                    generator=torch.Generator().manual_seed(8), checkpoint=checkpoint)
    return network, history, device


# %%
def equal(one, other):
    return all(map(torch.equal, one.parameters(), other.parameters()))


quiet, *_ = learn({})
flaky, _, device = learn({"error": 0.05, "lost_connection": 0.05, "wrong_shape": 0.05,
                          "not_finite": 0.05, "clipped": 0.05})
counted = ", ".join(f"{kind} {count}" for kind, count in device.events.items() if count)
print(f"a flaky instrument: {counted} | the same weights: {equal(quiet, flaky)}")
try:
    learn({"not_finite": 0.15}, folder / "run.checkpoint", attempts=2)
except InstrumentError as error:
    said = error.__notes__[0].replace(f"{folder}/", "")
    print("a broken one:", str(error).split(";")[0], "|", said)
repaired, history, _ = learn({}, folder / "run.checkpoint")
print(f"repaired and called again: {len(history)} epochs, the same weights as without a stop: "
      f"{equal(quiet, repaired)}")
assert equal(quiet, flaky) and equal(quiet, repaired)
temporary.cleanup()

# %% [markdown]
# ## Results

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1.3, 1))
rows = (("chance", "chance", "digital"), ("untrained", "untrained", "digital"),
        ("in_silico", "in silico", "in_silico"), ("pat", "PAT", "pat"),
        ("linear", "digital: linear", "digital"))
both = results | baselines
shown = {f"{label}: {text}": both[f"{key}_{name}"]
         for name, label in NAMES.items() for key, text, _ in rows}
figures.plot_accuracies(axes[0], shown, [colour for *_, colour in rows] * len(NAMES))
axes[0].set(title=f"a  Digits, test (n = {n_seeds})", xlim=(0, 1))
for name, marker in zip(NAMES, "os", strict=False):
    gradients = [models[name, pairs]["quality"] for pairs in (fewer_pairs, n_pairs)]
    for method, label in METHODS.items():
        values = [results[f"{method}_{name}{end}"]["accuracy"] for end in ("_fewer_pairs", "")]
        axes[1].errorbar([q["cosine"] for q in gradients], [v["mean"] for v in values],
                         xerr=[2 * q["standard_error"] for q in gradients],
                         yerr=[2 * v["sd"] / v["n"]**0.5 for v in values],
                         color=COLOURS[method], marker=marker, capsize=2, linewidth=1,
                         label=f"{label}, {NAMES[name]}")
axes[1].set(title="b  Is the model good enough?", xlim=(0, 1.05),
            xlabel="cosine of model's and device's gradients",
            ylabel="test accuracy on the device")
axes[1].legend(fontsize=7)
figures.save_figure(fig, NAME, "results")

# %%
spent = sum(one["passes"] for one in [*models.values(), *searched, *found])
write_metrics(
    NAME, profile, results, baselines=baselines, cost=cost.read(spent), seeds=range(n_seeds),
    data={"name": "digits of scikit-learn, 8 x 8", "sha256": ""}, skipped=SKIPPED,
    train_accuracy=train_accuracy,
    model_quality={f"{name}_{pairs}_pairs": model["quality"]
                   for (name, pairs), model in models.items()},
    learning_rates={f"{method}_{name}": choice.rate for (name, method), choice in best.items()},
    searches={f"{method}_{name}": choice._asdict() for (name, method), choice in best.items()},
    device_passes_per_pat_trial={name: done[name, "pat", n_pairs][0]["passes"] for name in NAMES})
for path in kept_results.parent.glob(f"{kept_results.stem}*"):
    path.unlink()  # the next run computes anew

# %%
lines = [f"| test accuracy, mean ± sd | paper | {' | '.join(NAMES.values())} |",
         "|---" * (2 + len(NAMES)) + "|"]
for label, key in (
        (f"PAT, {n_pairs:,} pairs", "pat_{}"),
        (f"PAT, {fewer_pairs:,} pairs", "pat_{}_fewer_pairs"),
        (f"in silico, {n_pairs:,} pairs", "in_silico_{}"),
        (f"in silico, {fewer_pairs:,} pairs", "in_silico_{}_fewer_pairs"),
        ("in silico, on its own model", "in_silico_on_model_{}"),
        ("the device untrained", "untrained_{}"),
        ("digital: logistic regression", "linear_{}"),
        ("chance: the most frequent digit", "chance_{}")):
    here = " | ".join(percent(both[key.format(name)]["accuracy"]) for name in NAMES)
    lines.append(f"| {label} | not in the paper | {here} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **Nothing of the device was needed but its readings.** Both devices learn, far above chance and
# above their untrained selves: 46 % of the digits with the transistors, 68 % with the function.
# Neither is a good classifier: logistic regression on the same sixteen numbers reads 89 %. The
# page shows that a device which nobody designed for digits can be *trained*, in 34,200 passes, not
# that it beats a linear map.
#
# **The model decides how far PAT gets, and the cosine says so beforehand.** The function's model
# from 300 pairs has a gradient at 70° to the device's, and PAT gets to 27 %; from 6,000 pairs it
# is 44° and 68 %. What you can do about a low cosine: more pairs, pairs from where the network's
# signals live, a model with the device's structure (notebook 05 shows what that is worth).
#
# **The cosine is not the whole story.** The circuit's model has the better gradient (34°) and its
# network the lower accuracy. The angle is that of one pass, and says nothing of how much of a
# digit survives three passes; on its own model the same network reads 72 %.
#
# **PAT against in silico.** With the function PAT is 26 points ahead. With the circuit and 6,000
# pairs the two are within a standard error of each other, with 300 pairs PAT is nine points ahead,
# about two standard errors. In silico networks look best on their own models (72 and 83 %) and
# lose much of it on the device.
