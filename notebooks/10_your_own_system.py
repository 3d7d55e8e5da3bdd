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
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): physics-aware training (PAT) works for *any* controllable physical system; nothing but
# measurements is needed.
#
# **What stands here.** Two devices that are no part of this project's modules: a circuit of 32 transistors, computed by the program **ngspice** from the
# netlist [10_your_own_system.cir](10_your_own_system.cir), and a **plain Python function** of four lines. Both are stand-ins for an instrument (none is
# attached), and both could be yours: edit the netlist, or the function, and run the notebook. Each learns to read digits (1,797 of
# them, 8 x 8 pixels, shipped with scikit-learn, averaged to 4 x 4).
#
# **The equations.** A device answers controls with readings, $y=f_p(x,\theta)$. PAT needs a differentiable model $f_m$ of it, fitted to measured pairs, and
# multiplies gradients by $J_m^T$ where the device gives the values. It descends while the angle between the two gradients,
#
# $$\cos\alpha=\frac{\langle (J_p^{T}g)\cdot(J_m^{T}g)\rangle}{\sqrt{\langle|J_p^{T}g|^2\rangle\,\langle|J_m^{T}g|^2\rangle}}$$
#
# (mean over controls and over random $g$ at the outputs), is well below 90°. Section 3 measures it without knowing $J_p$.

# %% tags=["parameters"]
profile = "quick"
n_seeds = 2  # splits, starts and noise
n_train = 400  # images; 200 more choose the learning rate, 500 others are the test
n_layers = 2
epochs = 8
learning_rates = [0.05]
n_pairs = 1500  # measured pairs for the model
fewer_pairs = 150  # for a model that is worse on purpose
model_epochs = 30
n_judge = 300  # rows for the gradient's quality
jobs = 2  # processes

# %%
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from pnn_utils import paths
from pnn_utils.baselines import linear_classifier
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.networks.spectral import SpectralNetwork, signal_like_controls
from pnn_utils.report.figures import COLOURS, percent, plot_accuracies, save_figure, use_house_style
from pnn_utils.systems.faults import Faulty
from pnn_utils.systems.instrument import Instrument, InstrumentError
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twin import fit_twin, judge_twin, load_twin, random_controls, save_twin
from pnn_utils.twins.gradients import gradient_quality
from pnn_utils.weights import load_tensors, save_tensors

cost = Cost()
use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 1. A call that returns numbers
#
# *The program.* One call writes a netlist with a copy of the circuit for each row of controls, runs `ngspice`, and reads the operating points.
# The sixteen data voltages and the sixteen parameter voltages lie between 0 and 0.3 V. ngspice gives no noise; 1 mV (sd) is added, as a voltmeter would.

# %%
CIRCUIT = (paths.SOURCES / "10_your_own_system.cir").read_text()


def spice(x, theta):
    deck = ["copies of one circuit", CIRCUIT, "Vcc vcc 0 5", "Vee vee 0 -5"]
    for row, voltages in enumerate(np.hstack([x, theta])):
        data, parameters, readings = ([f"{kind}{row}_{n}" for n in range(16)] for kind in "xty")
        deck += [f"V{node} {node} 0 {value:.9g}" for node, value in zip(data + parameters, voltages, strict=True)]
        deck += [f"X{row} {' '.join(data)}", "+ " + " ".join(parameters + readings), "+ vcc vee device"]
        deck += [".save " + " ".join(f"v({node})" for node in readings)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "deck.cir").write_text("\n".join([*deck, ".op", ".end", ""]))
        done = subprocess.run(["ngspice", "-b", "-r", "out.raw", "deck.cir"], cwd=folder, capture_output=True, text=True)
        if not Path(folder, "out.raw").exists():
            raise OSError(f"ngspice gave no result: {(done.stdout + done.stderr)[-500:]}")
        head, _, body = Path(folder, "out.raw").read_bytes().partition(b"Binary:\n")
    names = [line.split()[1] for line in head.decode().split("\nVariables:")[1].splitlines() if line.strip()]
    voltage = dict(zip(names, np.frombuffer(body), strict=True))
    return np.array([[voltage[f"v(y{row}_{n})"] for n in range(16)] for row in range(len(x))])


# %% [markdown]
# *The function.* Thirty-two phases of data and thirty-two of parameters (in turns, between 0 and 0.5) go through a fixed random matrix, as light from a
# modulator through frosted glass, and a camera reads 32 intensities with a noise of 0.01.

# %%
parts = np.random.default_rng(10).standard_normal((2, 64, 32)) / np.sqrt(128)
GLASS = parts[0] + 1j * parts[1]


def speckle(x, theta, camera):
    field = np.exp(2j * np.pi * np.hstack([x, theta]))
    return np.abs(field @ GLASS) ** 2 + 0.01 * camera.standard_normal((len(x), 32))


# %% [markdown]
# ## 2. The contract
#
# `Instrument` makes a device of such a call. This is all that a laboratory has to fill in:
#
# | setting | what it is for |
# |---|---|
# | `input_dim, param_dim, output_dim`, ranges, units | what may be sent; anything outside is refused before it reaches the instrument |
# | `rows_per_call` | batching: most rows the instrument takes at once (here 50: ngspice is fastest there) |
# | `interval` | rate limit: shortest time between two calls, s |
# | `warm_up` | calls whose readings are thrown away, at the start and after a reconnection |
# | `timeout`, `reconnect` | a call that takes longer counts as hung and is left behind, the connection is made anew |
# | `attempts`, `first_wait` | an error, a NaN, a wrong length, a clipped reading: ask again, wait twice as long each time, then stop and keep the checkpoint |
# | `limits` | readings at the ends of the converter's range are no readings |
# | `pass_time` | what a pass costs, s: laboratory time is reported from it |
#
# A real one may look like this (not run here; `scope` stands for your driver):
#
# ```python
# def measure(x, theta):
#     scope.send(np.hstack([x, theta]))          # blocks
#     return scope.read(timeout=5).reshape(len(x), 16)
#
# device = Instrument(measure, 16, 16, 16, rows_per_call=50, interval=0.2, warm_up=3, timeout=10, reconnect=scope.reopen, limits=(-5, 5), pass_time=0.02)
# ```


# %%
def make(name, seed=0):
    rng = np.random.default_rng(np.random.SeedSequence([10, seed]))
    if name == "circuit":
        return Instrument(lambda x, theta: spice(x, theta) + 0.001 * rng.standard_normal((len(x), 16)), 16, 16, 16, input_range=(0, 0.3), param_range=(0, 0.3),
                          control_unit="V", output_unit="V", rows_per_call=50, timeout=120, limits=(-5, 5.1), pass_time=1e-3)
    return Instrument(lambda x, theta: speckle(x, theta, rng), 32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5), control_unit="turns", pass_time=0.02)


SKIPPED = {} if shutil.which("ngspice") else {"circuit": "the program ngspice is not on PATH (Debian: apt-get install ngspice)"}
NAMES = {"circuit": "circuit (ngspice)", "function": "plain function"}
NAMES = {name: label for name, label in NAMES.items() if name not in SKIPPED}
for name, reason in SKIPPED.items():
    print(f"{name} left out: {reason}")
for name in NAMES:
    device = make(name)
    controls = random_controls(device, 1, np.random.default_rng(0))
    print(f"{NAMES[name]}: the same controls twice, first four readings:", *(np.round(device(*controls)[0, :4], 4) for _ in range(2)))

# %% [markdown]
# ## 3. Measure, fit, judge
#
# A quarter of the pairs is drawn uniformly, the rest as they occur inside a network. $R^2$ on controls the model never saw, beside the noise floor, says
# how well it predicts. **Is it good enough for PAT?** The cosine of the gradients answers, from four more readings of each of some hundreds of rows
# (`pnn_utils.twins.gradients`): projections of the device's gradient are differences of readings, those of the model come from automatic
# differentiation. The same for a model from much fewer pairs.


# %%
def fitted(name, pairs):
    torch.set_num_threads(1)
    device, rng = make(name, seed=pairs), np.random.default_rng(1)
    uniform, alike = random_controls(device, pairs // 4, rng), signal_like_controls(device, (pairs - pairs // 4) // n_layers, n_layers, rng)
    x, theta = (np.concatenate(both) for both in zip(uniform, alike, strict=True))
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(128,), epochs=model_epochs, batch_size=32, generator=torch.Generator().manual_seed(2))
    rows = signal_like_controls(device, n_judge // n_layers, n_layers, rng)
    judged, quality = judge_twin(twin, device, *rows), gradient_quality(device, twin, *rows, rng)
    return twin, {"r2": float(np.median(judged["r2"])), "floor": float(np.median(judged["floor"])), **quality}, device.passes


wanted = [(name, pairs) for name in NAMES for pairs in (n_pairs, fewer_pairs)]
models = dict(zip(wanted, Parallel(n_jobs=jobs)(delayed(fitted)(*point) for point in wanted), strict=True))
lines = ["| device | pairs | R², median over readings | noise floor | cosine of the gradients | angle |", "|---|---|---|---|---|---|"]
for (name, pairs), (_, q, _) in models.items():
    lines.append(f"| {NAMES[name]} | {pairs:,} | {q['r2']:.4f} | {q['floor']:.4f} | {q['cosine']:.3f} ± {q['standard_error']:.3f} "
                 f"| {np.rad2deg(np.arccos(min(q['cosine'], 1.0))):.0f}° |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## 4. Train
#
# The chain of [02_shg_vowels](02_shg_vowels.ipynb) asks nothing of a device but as many readings as data controls. Per layer it trains the parameter
# controls and the way from readings to the next data controls; the last readings, summed in ten groups, are the classes. *Untrained*: the same network at its
# random start. Learning rates are chosen for each method, from the same list, in a split of its own (seed 100), on 200 images outside its training and
# test. The splits shuffle the same 1,797 images, so some of these are test images elsewhere: one rate of two is all that could leak.


# %%
def task(seed):
    images, labels = load_digits(return_X_y=True)
    features = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    order = np.random.default_rng(np.random.SeedSequence([20, seed])).permutation(len(labels))
    parts = order[:500], order[500:700], order[700:700 + n_train]  # test, to choose by, training
    return [(torch.tensor(features[part]).float(), torch.tensor(labels[part])) for part in parts]


def untrained(name, seed, pairs=n_pairs, mode="device"):
    device = make(name, seed=1000 + seed)
    network = SpectralNetwork(device, models[name, pairs][0], 16, 10, n_layers, torch.Generator().manual_seed(seed))
    network.set_mode("device").calibrate(task(seed)[2][0])
    return network.set_mode(mode), device


def trial(name, method, seed, learning_rate, pairs=n_pairs, final=True):
    torch.set_num_threads(1)
    (test_x, test_y), chosen_by, (x, y) = task(seed)
    network, device = untrained(name, seed, pairs, method)
    start = accuracy_on_device(network, test_x, test_y) if final else None
    history = train(network, x, y, epochs=epochs, learning_rate=learning_rate, batch_size=50, generator=torch.Generator().manual_seed(100 + seed),
                    device=device)
    if not final:
        return {"validation": accuracy_on_device(network, *chosen_by), "passes": device.passes}
    return {"untrained": start, "accuracy": accuracy_on_device(network, test_x, test_y), "passes": device.passes, "history": history,
            "on_model": accuracy(network.set_mode("in_silico"), test_x, test_y), "weights": network.state_dict()}


METHODS = {"pat": "PAT", "in_silico": "in silico"}
search = [(name, method, 100, rate, n_pairs, False) for name in NAMES for method in METHODS for rate in learning_rates]
found = Parallel(n_jobs=jobs)(delayed(trial)(*point) for point in search)
best = {}
for point, run in zip(search, found, strict=True):
    best.setdefault(point[:2], {})[point[3]] = run["validation"]
best = {key: max(scores, key=scores.get) for key, scores in best.items()}
final = [(name, method, seed, best[name, method], pairs) for name in NAMES for method in METHODS for pairs in (n_pairs, fewer_pairs) for seed in range(n_seeds)]
done = dict(zip(final, Parallel(n_jobs=jobs)(delayed(trial)(*point) for point in final), strict=True))


def scores(name, method, quantity, pairs=n_pairs):
    return summary(done[name, method, seed, best[name, method], pairs][quantity] for seed in range(n_seeds))


results, baselines = {}, {}
for name in NAMES:
    for method in METHODS:
        results[f"{method}_{name}"] = {"accuracy": scores(name, method, "accuracy")}
        results[f"{method}_{name}_fewer_pairs"] = {"accuracy": scores(name, method, "accuracy", fewer_pairs)}
    results[f"in_silico_on_model_{name}"] = {"accuracy": scores(name, "in_silico", "on_model")}
    baselines[f"untrained_{name}"] = {"accuracy": scores(name, "pat", "untrained")}


def digital(seed):
    (test_x, test_y), _, (x, y) = task(seed)
    most_frequent = torch.bincount(y).argmax()
    return linear_classifier().fit(x, y).score(test_x, test_y), float((test_y == most_frequent).double().mean())


linear, chance = zip(*(digital(seed) for seed in range(n_seeds)), strict=True)
for name in NAMES:
    baselines |= {f"linear_{name}": {"accuracy": summary(linear)}, f"chance_{name}": {"accuracy": summary(chance)}}

# %% [markdown]
# ## 5. Save, reload, resume
#
# Weights go into a safetensors file, the model beside it, nothing is pickled. Then the instrument fails for good in the middle of a training: the exception
# says what is kept, and the same call with a repaired instrument goes on from the last whole epoch, to the very numbers of a training that was never stopped.

# %%
name = list(NAMES)[-1]
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    trained = done[name, "pat", 0, best[name, "pat"], n_pairs]
    save_tensors(folder / "network.safetensors", trained["weights"], {"test accuracy": trained["accuracy"]})
    save_twin(folder / "model.safetensors", models[name, n_pairs][0], {"device": NAMES[name]})
    reloaded, device = untrained(name, seed=5)
    reloaded.load_state_dict(load_tensors(folder / "network.safetensors")[0])
    model_again = load_twin(folder / "model.safetensors", device)
    (test_x, test_y), _, (x, y) = task(0)
    print(f"reloaded: {100 * accuracy_on_device(reloaded, test_x, test_y):.1f} % of the test digits, before saving {100 * trained['accuracy']:.1f} %")

    class Readings:
        """The function with a noise generator that a checkpoint can keep, as `Instrument` hands it on."""

        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def __call__(self, x, theta):
            return speckle(x, theta, self.rng)

        def state_dict(self):
            return self.rng.bit_generator.state

        def load_state_dict(self, state):
            self.rng.bit_generator.state = state

    def run(rates, checkpoint=None, attempts=6):
        faulty = Faulty(Readings(3), 32, rates, seed=4, full_scale=100.0)
        device = Instrument(faulty, 32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5), attempts=attempts, first_wait=0, limits=(-1, 100),
                            reconnect=faulty.reconnect)
        network = SpectralNetwork(device, model_again if name == "function" else models["function", n_pairs][0], 16, 10, n_layers,
                                  torch.Generator().manual_seed(7))
        history = train(network, x, y, epochs=6, learning_rate=0.05, batch_size=50, generator=torch.Generator().manual_seed(8), device=device,
                        checkpoint=checkpoint, checkpoint_every=1)
        return network, history, device

    quiet, history, _ = run({})
    flaky, flaky_history, device = run({"error": 0.05, "lost_connection": 0.05, "wrong_shape": 0.05, "not_finite": 0.05, "clipped": 0.05})
    same = all(torch.equal(a, b) for a, b in zip(quiet.parameters(), flaky.parameters(), strict=True))
    print("a flaky instrument:", ", ".join(f"{kind} {count}" for kind, count in device.events.items() if count), f"| the same weights: {same}")
    try:
        run({"not_finite": 0.15}, folder / "run.checkpoint", attempts=2)
    except InstrumentError as error:
        print("a broken one:", str(error).split(";")[0], "|", error.__notes__[0].replace(f"{folder}/", ""))
    repaired, again, _ = run({}, folder / "run.checkpoint")
    resumed = all(torch.equal(a, b) for a, b in zip(quiet.parameters(), repaired.parameters(), strict=True))
    print(f"repaired and called again: {len(again)} epochs, the same weights as without a stop: {resumed}")
assert same and resumed

# %% [markdown]
# ## Results

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1.3, 1))
shown, colours = {}, []
for name, label in NAMES.items():
    for group, key, text, colour in ((baselines, "chance", "chance", "digital"), (baselines, "untrained", "untrained", "digital"),
                                     (results, "in_silico", "in silico", "in_silico"), (results, "pat", "PAT", "pat"),
                                     (baselines, "linear", "digital: linear", "digital")):
        shown[f"{label}: {text}"] = group[f"{key}_{name}"]
        colours.append(colour)
plot_accuracies(axes[0], shown, colours)
axes[0].set(title=f"a  Digits, test (n = {n_seeds})", xlim=(0, 1))
for name, marker in zip(NAMES, "os", strict=False):
    for method, label in METHODS.items():
        values = [results[f"{method}_{name}{end}"]["accuracy"] for end in ("_fewer_pairs", "")]
        axes[1].errorbar([models[name, pairs][1]["cosine"] for pairs in (fewer_pairs, n_pairs)], [v["mean"] for v in values],
                         xerr=[2 * models[name, pairs][1]["standard_error"] for pairs in (fewer_pairs, n_pairs)],
                         yerr=[2 * v["sd"] / v["n"]**0.5 for v in values], color=COLOURS[method], marker=marker, capsize=2, linewidth=1,
                         label=f"{label}, {NAMES[name]}")
axes[1].set(title="b  Is the model good enough?", xlabel="cosine of model's and device's gradients", ylabel="test accuracy on the device", xlim=(0, 1.05))
axes[1].legend(fontsize=7)
save_figure(fig, "10_your_own_system")

# %%
spent = sum(passes for *_, passes in models.values()) + sum(run["passes"] for run in (*found, *done.values()))
write_metrics("10_your_own_system", profile, results, baselines=baselines, cost=cost.read(spent), seeds=range(n_seeds),
              data={"name": "digits of scikit-learn, 8 x 8", "sha256": ""}, skipped=SKIPPED,
              model_quality={f"{name}_{pairs}_pairs": quality for (name, pairs), (_, quality, _) in models.items()},
              learning_rates={f"{method}_{name}": rate for (name, method), rate in best.items()},
              device_passes_per_pat_trial={name: done[name, "pat", 0, best[name, "pat"], n_pairs]["passes"] for name in NAMES})
lines = ["| test accuracy, mean ± sd | paper | " + " | ".join(NAMES.values()) + " |", "|---" * (2 + len(NAMES)) + "|"]
for label, group, key in [*((f"{label}, {pairs:,} pairs", results, f"{method}_{{}}{end}") for method, label in METHODS.items()
                            for pairs, end in ((n_pairs, ""), (fewer_pairs, "_fewer_pairs"))),
                          ("in silico, on its own model", results, "in_silico_on_model_{}"), ("the device untrained", baselines, "untrained_{}"),
                          ("digital: logistic regression", baselines, "linear_{}"), ("chance: the most frequent digit", baselines, "chance_{}")]:
    lines.append(f"| {label} | not in the paper | " + " | ".join(percent(group[key.format(name)]["accuracy"]) for name in NAMES) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **Nothing of the device was needed but its readings.** Both devices learn, far above chance and above their untrained selves: 46 % of the digits with the
# transistors, 68 % with the function. Neither is a good classifier: logistic regression on the same sixteen numbers reads 89 %. The page shows that
# a device which nobody designed for digits can be *trained*, in 34,200 passes, not that it beats a linear map.
#
# **The model decides how far PAT gets, and the cosine says so beforehand.** The function's model from 300 pairs has a gradient at 70° to the device's, and
# PAT gets to 27 %; from 6,000 pairs it is 44° and 68 %. What you can do about a low cosine: more pairs, pairs from where the network's signals
# live, a model with the device's structure (notebook 05 shows what that is worth).
#
# **The cosine is not the whole story.** The circuit's model has the better gradient (34°) and its network the lower accuracy. The angle is that of one pass,
# and says nothing of how much of a digit survives three passes; on its own model the same network reads 72 %.
#
# **PAT against in silico.** With the function PAT is 26 points ahead. With the circuit and 6,000 pairs the two are within a standard error of each other, with
# 300 pairs PAT is nine points ahead, about two standard errors. In silico networks look best on their own models (72 and 83 %) and lose much
# of it on the device.
