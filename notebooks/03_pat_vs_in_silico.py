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
# # Fig. 3: when is physics-aware training worth it?
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 3): on the vowels of Fig. 2,
# physics-aware training (PAT) reaches 93 % with five layers of light, while training in silico, on
# a digital model, ends at about 40 % on the device (recalled, unchecked), and the difference grows
# with depth.
#
# **What stands here.** The same *simulated device* and plain chain as in
# [02_shg_vowels](02_shg_vowels.ipynb) (no laboratory is attached), on the authors' own 259 tokens
# with random 210/49 splits. Depth for depth: exact gradients as a reference that no laboratory
# has, PAT, and four fair rivals. Then PAT is taken apart, and the quality of the model, noise, and
# drift of the device before and after deployment are varied.
#
# **The equations.** A network of $N$ layers sends $x_{l+1}=f_p(x_l,\theta_l)$ through the device
# $f_p$; $f_m$ is its digital model, $L$ the loss. The backward pass multiplies
# $g_{l}=J_m(\cdot)^{T}g_{l+1}$, starting from $g_N=\partial L/\partial y$:
#
# $$\text{in silico: everything at the model's own states } x^m_{l+1}=f_m(x^m_l),\qquad
# \text{PAT: } \partial L/\partial y \text{ and all } J_m \text{ at the measured states } x_l .$$

# %% tags=["parameters"]
profile = "quick"
depths = [1, 5]  # layers; 5 has to be among them
n_seeds = 2  # at five layers: split, network and noise
n_depth = 1  # seeds at the other depths, and of what is varied
n_copies = 2  # copies of the device, each with its own twin; seed s uses copy s mod n_copies
n_search = 1  # seeds of the search for learning rates
learning_rates = [0.1]
extensions = 0  # times that the search may widen its grid, where the best rate stands on an edge
search_again = False  # True: search even where what a search has found is committed
epochs = 60
jitter = 0.03  # sd of what is added to training inputs at each step, which run from 0 to 1
n_pairs = 6000  # measured pairs for the digital model
twin_epochs = 15
fewer_pairs = [1000]  # other models, for the dependence on its quality
all_passes_epochs = 2  # to fit the model of "all passes"
shot_noise = [1, 3]  # multiples of Poisson's
pointing = [0.0, 0.5]  # drift: shift of the colours over the shaper, in channels
shorter = [20]  # epochs of shorter runs, each with its own schedule
n_average = 10  # readings over which gradients are averaged, to tell bias from noise
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes; full: 2

# %%
from functools import partial

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt

from pnn_utils import experiment, methods
from pnn_utils.datasets.vowels import load_tokens, vowel_task
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.report.figures import COLOURS, percent, save_figure, told, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import accuracy_on_device, accuracy_on_model, confidence_on_device
from pnn_utils.twin import fit_twin, judge_twin, load_twin, random_controls, save_twin

# %%
NAME = "03_pat_vs_in_silico"
cost = Cost()
use_house_style()
torch.set_num_threads(1)
tokens = load_tokens()
# The fallback's table lacks the authors' tokens; then other draws stand in.
MAIN = "authors" if tokens.source["name"] == "Hillenbrand 1995" else "draws"
LABELS = {"exact": "exact gradients", "pat": "PAT", "in_silico": "in silico, as deployed",
          "in_silico_restandardised": "in silico, re-standardised",
          "in_silico_noise_aware": "in silico, noise-aware",
          "in_silico_refitted": "in silico, re-fitted",
          "in_silico_all_passes": "in silico, all passes"}
depends = dict(epochs=epochs, jitter=jitter, n_pairs=n_pairs, n_copies=n_copies,
               twin_epochs=twin_epochs, all_passes_epochs=all_passes_epochs, n_average=n_average,
               main=MAIN, data=tokens.source["sha256"])
FILES = {name: experiment.results_file(NAME, trial=name, **depends)
         for name in ("fitted", "trial", "angles", "lived")}
FILES["search"] = experiment.search_file(NAME, search_again, trial="search", **depends)


def run(trial, points, file=None, scheduler=scheduler, **settings):
    return experiment.sweep(trial, points, FILES[file or trial.__name__], scheduler=scheduler,
                            jobs=jobs, **settings)


# %% [markdown]
# ## Devices and their models
#
# Five copies of the device, each with errors of its own and a twin of its own, fitted as in 02: a
# quarter of the pairs uniform, the rest as they occur inside networks. Other twins: from fewer
# pairs, with as many steps of fitting (so that pairs and steps are not mixed up); from as many
# pairs drawn with random signs, as they do *not* occur; and from as many pairs as PAT makes passes
# in all of its training ("all passes").

# %%
ALL_PASSES = n_pairs + epochs * 5 * 210
KINDS = {"main": n_pairs, "elsewhere": n_pairs, "all_passes": ALL_PASSES,
         **{f"{pairs}_pairs": pairs for pairs in fewer_pairs}}


def twin_file(copy, kind):
    return FILES["fitted"].with_suffix(f".{copy}.{kind}.safetensors")


def rows_inside(device, n, rng, blocks=True):
    return signal_like_controls(device, n, 5, rng, blocks=blocks)


def fitted(copy, kind):
    device, rng = SHG(seed=copy, noise_seed=1), np.random.default_rng(np.random.SeedSequence(2))
    pairs = KINDS[kind]
    both = (random_controls(device, pairs // 4, rng),
            rows_inside(device, 3 * pairs // 20, rng, blocks=kind != "elsewhere"))
    x, theta = (np.concatenate(parts) for parts in zip(*both, strict=True))
    steps = dict(epochs=twin_epochs * n_pairs // pairs) if kind != "all_passes" else dict(
        epochs=all_passes_epochs, batch_size=512)
    twin, history = fit_twin(device, x, theta, device(x, theta), hidden=(128,),
                             generator=torch.Generator().manual_seed(3), **steps)
    save_twin(twin_file(copy, kind), twin, {"device": f"SHG(seed={copy})", "pairs": pairs})
    rows = rows_inside(device, 200, np.random.default_rng(4))
    judged = judge_twin(twin, device, *rows)
    return {"passes": pairs, "epochs": len(history),
            "macs": 3 * len(history) * pairs * weights_of(twin),
            "cosine": true_cosine(device, twin, *rows),
            **{name: float(np.median(values)) for name, values in judged.items()}}


# %%
def weights_of(model):
    """Multiply-accumulates of one forward pass of a twin."""
    return sum(p.numel() for name, p in model.named_parameters() if name.endswith("weight"))


def true_cosine(device, model, x, theta):
    """Cosine of a model's and the device's gradients, over rows and random directions."""
    g = torch.randn(len(x), device.output_dim, generator=torch.Generator().manual_seed(5))
    found = []
    for one in (ExactSHG(device), model):
        inputs = [torch.tensor(values, requires_grad=True) for values in (x, theta)]
        found.append(torch.cat(torch.autograd.grad(one(*inputs), inputs, g), 1).flatten())
    return float(torch.cosine_similarity(*found, dim=0))


points = experiment.grid(kind=KINDS, copy=range(n_copies))
fits = run(fitted, points, scheduler="processes")  # on this machine, where the twins' files are
twins = {(point["copy"], point["kind"]): load_twin(twin_file(**point), SHG()) for point in points}
models = {kind: {name: summary(fit[name] for fit, point in zip(fits, points, strict=True)
                               if point["kind"] == kind) for name in ("r2", "floor", "cosine")}
          | {"pairs": KINDS[kind]} for kind in KINDS}
lines = ["| twin | pairs | R², median over bins | noise floor | cosine of gradients |",
         "|---|---|---|---|---|"]
for kind, model in models.items():
    cells = " | ".join(f"{model[name]['mean']:.4f}" for name in ("r2", "floor", "cosine"))
    lines.append(f"| {kind} | {model['pairs']:,} | {cells} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## The ways to train
#
# All are functions of `pnn_utils.methods` and share the network, its start, the split, Adam, the
# number of epochs, clipping, jitter of the training inputs, and a search for the learning rate of
# their own.
#
# - **exact**: device forward, true Jacobian of the simulated device backward: the reference, which
#   no laboratory has.
# - **pat**: device forward, twin backward.
# - **in silico**: the twin both ways. *As deployed*: with the standardising constants of its own
#   training; *re-standardised*: these measured anew on the device, one pass a layer and training
#   row. The three that follow are re-standardised, too.
# - **noise-aware**: noise as measured by repeated readings is added to the twin's outputs.
# - **re-fitted**: half of the epochs in silico; then as many device passes as PAT makes in all of
#   its training around the controls that the network sends; the twin re-fitted, and trained on.
# - **all passes**: as many passes as PAT's spent on the twin beforehand.

# %%
TRAIN = {"pat": methods.pat, "in_silico": methods.in_silico,
         "in_silico_noise_aware": partial(methods.noise_aware,
                                          draw=lambda device, rng: rows_inside(device, 40, rng)),
         "in_silico_refitted": methods.refitted, "in_silico_all_passes": methods.in_silico,
         "exact": partial(methods.exact, true=ExactSHG),
         "device_loss_model_states": partial(methods.mixed, loss="device", states="model"),
         "model_loss_device_states": partial(methods.mixed, loss="model", states="device")}
HELD_OUT, READINGS = 42, 4  # tokens for validation, and readings of the score


def jittered(x, generator):
    return (x + jitter * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def vowels(seed, split):
    """Training inputs and labels, test inputs and labels."""
    return map(torch.tensor, vowel_task(seed, split, tokens)[:4])


def chain(device, model, depth, seed):
    generator = torch.Generator().manual_seed(seed)
    return spectral_chain(device, model, 12, 7, depth, generator, skip=False, blocks=True,
                          live=True, mode="device")


def trained(method, twin, device, depth, seed, x, y, learning_rate, epochs=epochs):
    def start(model):
        network = chain(device, model, depth, seed)
        network.calibrate(x)
        return network

    return TRAIN[method](start, twin, device, x, y, seed=seed, epochs=epochs,
                         learning_rate=learning_rate, clip=0.1, augment=jittered)


# %%
def trial(method, depth, seed, learning_rate, split=MAIN, kind="main", run_epochs=epochs,
          final=True, **knobs):
    copy, rows, learnt = seed % n_copies, [], slice(0 if final else HELD_OUT, None)
    device = SHG(seed=copy, noise_seed=1000 + seed, **knobs)
    x, y, test_x, test_y = vowels(seed, split)
    twin = load_twin(twin_file(copy, "all_passes" if "all_passes" in method else kind), device)
    twin.register_forward_hook(lambda _, args, y: rows.append(len(y)))
    x_learnt, y_learnt = x[learnt], y[learnt]
    network, history = trained(method, twin, device, depth, seed, x_learnt, y_learnt,
                               learning_rate, run_epochs)
    result = {"passes": device.passes, "loss": history[-1]["loss"],
              "macs": 2 * sum(rows) * weights_of(twin)}  # forward, and back to the controls
    own = method in ("pat", "exact")  # their constants are the device's
    if not final:
        judged = network if own else methods.restandardise(network, x_learnt)
        return result | {"confidence": np.mean([
            confidence_on_device(judged, x[:HELD_OUT], y[:HELD_OUT]) for _ in range(READINGS)])}
    result |= {"deployed": accuracy_on_device(network, test_x, test_y),
               "train_deployed": accuracy_on_device(network, x, y),
               "on_model": accuracy_on_model(network, test_x, test_y)}
    if own:
        return result | {"accuracy": result["deployed"], "train": result["train_deployed"]}
    methods.restandardise(network, x)
    return result | {"accuracy": accuracy_on_device(network, test_x, test_y),
                     "train": accuracy_on_device(network, x, y)}


# %% [markdown]
# ### Learning rates
#
# Every method is searched at every depth where it is shown, at the full schedule, on seeds of its
# own (from 100 on) and 42 validation tokens of the training set, by the mean probability that the
# network gives to the right class on the device (accuracy has too few steps on 42 tokens); where
# the best rate stands on an edge of the grid, the grid is widened. In silico training is judged
# after re-standardising, which favours it.

# %%
AT_FIVE = ["in_silico_all_passes", "device_loss_model_states", "model_loss_device_states"]
EVERYWHERE = [method for method in TRAIN if method not in AT_FIVE]
search_runs = []


def validation(pairs):
    points = [dict(method=method, depth=depth, learning_rate=rate, seed=100 + seed, final=False)
              for (method, depth), rate in pairs for seed in range(n_search)]
    found = run(trial, points, "search", broken={"confidence": 0.0, "passes": 0})
    search_runs.extend(found)
    return np.reshape([one["confidence"] for one in found], (-1, n_search)).mean(1).tolist()


cases = [*((method, depth) for method in EVERYWHERE for depth in depths),
         *((method, 5) for method in AT_FIVE)]
best = experiment.search(validation, learning_rates, cases, extensions)
lines = [f"| rate (score) | {' | '.join(f'{depth} layers' for depth in depths)} |",
         "|---" * (len(depths) + 1) + "|"]
for method in TRAIN:
    cells = [f"{best[method, depth].rate:g} ({max(best[method, depth].scores.values()):.2f}"
             f"{', edge' if best[method, depth].at_edge else ''})" if (method, depth) in best
             else "" for depth in depths]
    lines.append(f"| {method} | {' | '.join(cells)} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Final trials
#
# All 210 training tokens. At five layers each seed once on the authors' tokens and once on other
# draws.

# %%
def points_of(method, depth=5, seeds=n_depth, **changes):
    return [dict(method=method, depth=depth, seed=seed, learning_rate=best[method, depth].rate,
                 **changes) for seed in range(seeds)]


BOTH, REFITTED = ("pat", "in_silico"), "in_silico_refitted"
VARIED = [("kind", [kind for kind in KINDS if kind not in ("main", "all_passes")], BOTH),
          ("shot_noise", [level for level in shot_noise if level != 1], BOTH),
          ("pointing", [shift for shift in pointing if shift], (*BOTH, REFITTED)),
          ("run_epochs", shorter, ("pat", REFITTED))]
groups = [*(points_of(method, depth, n_seeds if depth == 5 else n_depth)
            for method, depth in best),
          *(points_of(method, seeds=n_seeds, split="draws") for method in ("exact", *BOTH)),
          *(points_of(method, **{knob: value}) for knob, values, some in VARIED
            for value in values for method in some)]
final_runs = run(trial, [point for group in groups for point in group])  # no process waits


# %%
def final(*which, **changes):
    """The trials of a group, read from what has run."""
    return run(trial, points_of(*which, **changes))


def of(trials, quantity="accuracy"):
    return summary(one[quantity] for one in trials)


plain = {(method, depth): final(method, depth, n_seeds if depth == 5 else n_depth)
         for method, depth in best}
other_draws = {method: final(method, 5, n_seeds, split="draws")
               for method in ("exact", "pat", "in_silico")}

# %%
SHOWN = {label: ("in_silico", "deployed") if label == "in_silico" else
         ("in_silico", "accuracy") if label == "in_silico_restandardised" else (label, "accuracy")
         for label in LABELS}  # the method that ran, and which of its readings counts
results = {label: {"accuracy": of(plain[method, 5], quantity)}
           for label, (method, quantity) in SHOWN.items()}
results["in_silico_on_model"] = {"accuracy": of(plain["in_silico", 5], "on_model")}
for method, trials in other_draws.items():
    results[f"{method}_other_draws"] = {
        "accuracy": of(trials, "deployed" if method == "in_silico" else "accuracy")}
results["in_silico_restandardised_other_draws"] = {"accuracy": of(other_draws["in_silico"])}
by_depth = {label: {str(depth): {
    "accuracy": of(plain[method, depth], quantity),
    "train_accuracy": of(plain[method, depth], "train" if quantity == "accuracy"
                         else "train_deployed"),
    **{name: float(np.mean([one[name] for one in plain[method, depth]]))
       for name in ("loss", "passes", "macs")}, "learning_rate": best[method, depth].rate}
    for depth in depths if (method, depth) in plain}
    for label, (method, quantity) in SHOWN.items()}
OVERLAP = 49 / 210
paired = {label: experiment.paired(results["pat"]["accuracy"]["values"],
                                   results[label]["accuracy"]["values"], OVERLAP)
          for label in LABELS if label != "pat"}
GATE = 0.95  # least training accuracy of exact gradients at which a depth says something
open_gate = {depth: by_depth["exact"][str(depth)]["train_accuracy"]["mean"] >= GATE
             for depth in depths}

# %% [markdown]
# ## PAT taken apart
#
# A step needs a loss and Jacobians. Either can be read on the device or on the twin: the loss at
# the measured or the predicted logits, the Jacobians of the twin at the measured or at its own
# states. Both measured is PAT, both predicted is in silico training; loss measured and states
# predicted is what several papers call PAT, where only the last layer's output can be read.

# %%
MECHANISM = {("device", "device"): "pat", ("device", "model"): "device_loss_model_states",
             ("model", "device"): "model_loss_device_states", ("model", "model"): "in_silico"}
mechanism = {f"{loss}_loss_{states}_states": {
    "as_deployed": of(plain[method, 5], "deployed"), "restandardised": of(plain[method, 5]),
    "train_accuracy": of(plain[method, 5], "train")}
    for (loss, states), method in MECHANISM.items()}
lines = ["| loss read on | Jacobians at states of | as deployed | re-standardised | training |",
         "|---|---|---|---|---|"]
for (loss, states), cell in zip(MECHANISM, mechanism.values(), strict=True):
    cells = " | ".join(percent(value) for value in cell.values())
    lines.append(f"| {loss} | {states} | {cells} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## By what angle does the gradient miss, and why?
#
# The simulator knows the true gradient: forward and backward through its own equations without
# noise. The angle is taken over all numbers that act through the device, $a$, $b$ and $\theta$ of
# all layers, on the training tokens, after twenty epochs of PAT. One reading of the device holds
# noise; averaging the gradients of many readings leaves what is systematic: the twin's error. Adam
# divides each number's gradient by its root mean square (here over the readings), which weighs
# directions anew: its step has another angle.

# %%
def gradient(network, mode, x, y):
    network.zero_grad()
    torch.nn.functional.cross_entropy(network.set_mode(mode)(x), y).backward()
    return torch.cat([p.grad.flatten() for name, p in network.named_parameters()
                      if name != "readout.factor"]).double()  # digital, and exact in any case


def degrees(a, b):
    cosine = torch.cosine_similarity(a, b, dim=0).clamp(-1, 1)
    return float(torch.rad2deg(torch.arccos(cosine)))


# %%
def angles(depth, seed, learning_rate):
    copy = seed % n_copies
    device, twin = SHG(seed=copy, noise_seed=2000 + seed), twins[copy, "main"]
    x, y, *_ = vowels(seed, MAIN)
    network, _ = trained("pat", twin, device, depth, seed, x, y, learning_rate, epochs=20)
    exact = chain(device, ExactSHG(device), depth, seed)
    exact.load_state_dict(network.state_dict())
    true = gradient(exact, "in_silico", x, y)
    found = {"in_silico": degrees(gradient(network, "in_silico", x, y), true)}
    for name, one in (("pat", network), ("exact", exact)):
        many = torch.stack([gradient(one, "pat", x, y) for _ in range(n_average)])
        size = many.square().mean(0).sqrt() + 1e-8  # as Adam has it
        found |= {name: degrees(many[0], true), f"{name}_averaged": degrees(many.mean(0), true),
                  f"{name}_adam_step": degrees(many.mean(0) / size, true / size)}
    return found


# %%
points = [dict(depth=depth, seed=seed, learning_rate=best["pat", depth].rate)
          for depth in depths for seed in range(n_depth)]
measured = run(angles, points)
angles_deg = {str(depth): {name: summary(one[name] for one, point in
                                         zip(measured, points, strict=True)
                                         if point["depth"] == depth) for name in measured[0]}
              for depth in depths}

# %% [markdown]
# ## What is varied: the model, noise, drift, passes
#
# Five layers, authors' tokens, the rates found above. *Model*: other twins. *Noise*: multiples of
# Poisson's, in training and test, the twin measured at 1. *Drift before training*: after the twin
# was measured, the colours have moved over the shaper's channels. *Passes*: shorter runs, each
# with a whole schedule of its own.

# %%
varied = {"model": {}, "noise": {}, "drift_before": {}, "passes": {}}
for kind in KINDS:
    if kind != "all_passes":
        varied["model"][kind] = {method: of(final(method, kind=kind) if kind != "main" else
                                            plain[method, 5][:n_depth])
                                 for method in ("pat", "in_silico")}
for level in shot_noise:
    knobs = {} if level == 1 else {"shot_noise": level}
    varied["noise"][str(level)] = {method: of(final(method, **knobs))
                                   for method in ("pat", "in_silico")}
for shift in pointing:
    knobs = {"pointing": shift} if shift else {}
    varied["drift_before"][str(shift)] = {
        method: of(final(method, **knobs))
        for method in ("pat", "in_silico", "in_silico_refitted")}

# %%
for run_epochs in (*shorter, epochs):
    knobs = {} if run_epochs == epochs else {"run_epochs": run_epochs}
    for method in ("pat", "in_silico_refitted"):
        trials = final(method, **knobs)
        varied["passes"].setdefault(method, []).append(
            {"epochs": run_epochs, "passes": n_pairs + trials[0]["passes"],
             "accuracy": of(trials)})
for kind in [f"{pairs}_pairs" for pairs in fewer_pairs] + ["main"]:
    varied["passes"].setdefault("in_silico", []).append(
        {"passes": KINDS[kind] + 5 * 210, "accuracy": varied["model"][kind]["in_silico"]})
varied["passes"]["in_silico"].append({"passes": ALL_PASSES + 5 * 210, "accuracy": of(
    plain["in_silico_all_passes", 5][:n_depth])})

# %% [markdown]
# ### Drift after deployment
#
# Networks trained at rest meet a device whose colours move. Three answers: nothing, re-standardise
# (1,050 passes, 10 s of laboratory time), and a minute of further training by PAT (5,250 passes).

# %%
MINUTE = 5  # epochs of 1,050 passes, 10.5 s each


def lived(method, seed, learning_rate):
    copy = seed % n_copies
    device, twin = SHG(seed=copy, noise_seed=1000 + seed), twins[copy, "main"]
    x, y, test_x, test_y = vowels(seed, MAIN)
    at_rest, _ = trained(method, twin, device, 5, seed, x, y, learning_rate)
    weights, found = methods.restandardise(at_rest, x).state_dict(), []
    for shift in pointing:
        moved = SHG(seed=copy, noise_seed=4000 + seed, pointing=shift)
        network = chain(moved, twin, 5, seed)
        network.load_state_dict(weights)
        one = {"as_it_was": accuracy_on_device(network, test_x, test_y)}
        methods.restandardise(network, x)
        one["restandardised"] = accuracy_on_device(network, test_x, test_y)
        methods.pat(lambda model, network=network: network, twin, moved, x, y, seed=seed,
                    epochs=MINUTE, learning_rate=learning_rate / 10, clip=0.1,
                    augment=jittered)
        found.append(one | {"a_minute_of_pat": accuracy_on_device(network, test_x, test_y)})
    return found


# %%
drift_after = {}
for method in ("pat", "in_silico"):
    lives = run(lived, [dict(method=method, seed=seed, learning_rate=best[method, 5].rate)
                        for seed in range(n_depth)])
    drift_after[method] = {str(shift): {name: summary(life[i][name] for life in lives)
                                        for name in lives[0][i]}
                           for i, shift in enumerate(pointing)}

# %% [markdown]
# ## Figures

# %% jupyter={"source_hidden": true}
SHADES = {"exact": "#666666", "pat": COLOURS["pat"], "in_silico": COLOURS["in_silico"],
          "in_silico_restandardised": "#E69F00", "in_silico_noise_aware": "#CC79A7",
          "in_silico_refitted": "#009E73", "in_silico_all_passes": "#56B4E9"}


def line(panel, x, values, label, colour, style="-"):
    """Means with two standard errors, and a dot a seed."""
    x = np.asarray(x, float)
    for one, value in zip(x, values, strict=True):
        panel.plot([one] * value["n"], value["values"], ".", markersize=3, alpha=0.4, color=colour)
    panel.errorbar(x, [v["mean"] for v in values],
                   yerr=[2 * v["sd"] / v["n"]**0.5 for v in values], color=colour, capsize=2,
                   linestyle=style, label=label)


def reference(panel, value, label="exact gradients"):
    error = 2 * value["sd"] / value["n"]**0.5
    panel.axhspan(value["mean"] - error, value["mean"] + error, color="#bbbbbb", alpha=0.5,
                  linewidth=0, label=label)


def shade(panel):
    for depth in depths:
        if not open_gate[depth]:
            panel.axvspan(depth - 0.4, depth + 0.4, color="#eeeeee", zorder=0)


# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
GROUPS = (("a  PAT and in silico", ("exact", "pat", "in_silico", "in_silico_restandardised")),
          ("b  PAT and fairer rivals", ("pat", "in_silico_noise_aware", "in_silico_refitted")))
for panel, (title, labels) in zip(axes, GROUPS, strict=False):
    for label in labels:
        cells = by_depth[label]
        line(panel, depths, [cells[str(depth)]["accuracy"] for depth in depths], LABELS[label],
             SHADES[label], "--" if label == "exact" else "-")
    shade(panel)
    panel.axhline(1 / 7, color="#999999", linewidth=0.8, linestyle=":")
    panel.set(title=title, xlabel="layers", xticks=depths, ylim=(0, 1.4),
              yticks=np.linspace(0, 1, 6))
    panel.legend(fontsize=7, loc="upper left", ncol=2)
axes[0].set_ylabel("test accuracy on the device")
for i, label in enumerate(LABELS):
    value = results[label]["accuracy"]
    axes[2].plot([i] * value["n"], value["values"], ".", color=SHADES[label], alpha=0.5)
    axes[2].errorbar(i, value["mean"], yerr=2 * value["sd"] / value["n"]**0.5, fmt="_",
                     markersize=14, capsize=3, color=SHADES[label])
axes[2].set(title=f"c  Five layers (n = {n_seeds}, 2 s.e.)", xticks=range(len(LABELS)))
axes[2].set_xticklabels([label.replace("in silico, ", "") for label in LABELS.values()],
                        rotation=40, ha="right", fontsize=7)
save_figure(fig, NAME, "depth")

# %% jupyter={"source_hidden": true}
names = ["device, device\n(PAT)", "device, model\n(output only)", "model, device",
         "model, model\n(in silico)"]
PANELS = (
    ("b  One reading", (("in_silico", "in silico", SHADES["in_silico"]),
                        ("pat", "PAT", SHADES["pat"]),
                        ("exact", "exact Jacobians", SHADES["exact"]))),
    (f"c  Mean of {n_average} readings",
     (("pat_averaged", "PAT", SHADES["pat"]), ("exact_averaged", "exact", SHADES["exact"]),
      ("pat_adam_step", "PAT, Adam's step", SHADES["in_silico_all_passes"]))))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.1))
for i, cell in enumerate(mechanism.values()):
    for j, (name, colour) in enumerate((("as_deployed", COLOURS["in_silico"]),
                                        ("restandardised", COLOURS["pat"]))):
        value, x = cell[name], i + 0.22 * (j - 0.5)
        axes[0].plot([x] * value["n"], value["values"], ".", color=colour, alpha=0.4)
        axes[0].errorbar(x, value["mean"], yerr=2 * value["sd"] / value["n"]**0.5, fmt="_",
                         markersize=12, capsize=3, color=colour,
                         label=name.replace("_", " ") if i == 0 else None)
axes[0].set(title="a  Loss on, Jacobians at states of", xticks=range(4), ylim=(0, 1.25),
            yticks=np.linspace(0, 1, 6), ylabel="test accuracy")
axes[0].set_xticklabels(names, fontsize=6)
axes[0].legend(fontsize=7, loc="upper left", ncol=2)
for panel, (title, shown) in zip(axes[1:], PANELS, strict=True):
    for name, label, colour in shown:
        line(panel, depths, [angles_deg[str(depth)][name] for depth in depths], label, colour)
    panel.axhline(90, color="#999999", linewidth=0.8)
    panel.set(title=title, xlabel="layers", xticks=depths, ylim=(0, 115))
    panel.legend(fontsize=7, loc="upper left")
axes[1].set_ylabel("angle to the true gradient (degrees)")
save_figure(fig, NAME, "why")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(2, 3, figsize=(9.5, 5.6), sharey=True)
axes, legend = axes.flat[:5], axes.flat[5]
kinds = sorted(varied["model"], key=lambda kind: models[kind]["cosine"]["mean"])
DRAWN = {"exact": "exact gradients", "pat": "PAT", "in_silico": "in silico, re-standardised",
         "in_silico_refitted": "in silico, re-fitted"}
for method in DRAWN:
    colour = SHADES[method if method != "in_silico" else "in_silico_restandardised"]
    legend.plot([], [], color=colour, label=DRAWN[method])
    for panel, x, cells in ((axes[1], shot_noise, varied["noise"]),
                            (axes[2], pointing, varied["drift_before"])):
        if method in next(iter(cells.values())):
            line(panel, x, [cell[method] for cell in cells.values()], None, colour)
    if method in ("pat", "in_silico"):
        line(axes[0], [models[kind]["cosine"]["mean"] for kind in kinds],
             [varied["model"][kind][method] for kind in kinds], None, colour)
        for answer, style in (("as_it_was", ":"), ("restandardised", "--"),
                              ("a_minute_of_pat", "-")):
            line(axes[3], pointing, [cells[answer] for cells in drift_after[method].values()],
                 None, colour, style)
    if cells := varied["passes"].get(method):
        line(axes[4], [one["passes"] for one in cells], [one["accuracy"] for one in cells], None,
             colour)
reference(axes[0], by_depth["exact"]["5"]["accuracy"], None)

# %% jupyter={"source_hidden": true}
for answer, style in (("d: as it was", ":"), ("d: re-standardised", "--"),
                      ("d: a minute of PAT", "-")):
    legend.plot([], [], color="black", linestyle=style, label=answer)
legend.legend(loc="center", fontsize=8)
legend.axis("off")
for panel, title, label in zip(
        axes, ("a  Model", "b  Noise", "c  Drift before training", "d  Drift after deployment",
               "e  Device passes, all counted"),
        ("cosine of the twin's gradients", "shot noise (x Poisson)", "shift (channels)",
         "shift (channels)", "device passes"), strict=True):
    panel.set(title=title, xlabel=label, ylim=(0, 1.02))
axes[4].set_xscale("log")
for panel in (axes[0], axes[3]):
    panel.set_ylabel("test accuracy")
save_figure(fig, NAME, "varied")

# %% [markdown]
# ## Results at five layers

# %%
def minus(a, b):
    """The paired difference of two summaries, over the seeds that both have."""
    n = min(a["n"], b["n"])
    return experiment.paired(a["values"][:n], b["values"][:n], OVERLAP)


NOISE_AWARE = {"restandardised": "re-standardised alone", "refitted": "re-fitted",
               "all_passes": "all passes"}  # what noise-aware training is compared with
paired |= {f"noise_aware_minus_{rival}": minus(results["in_silico_noise_aware"]["accuracy"],
                                               results[f"in_silico_{rival}"]["accuracy"])
           for rival in NOISE_AWARE}


# %%
def linear_score(seed, split):
    x, y, test_x, test_y = vowels(seed, split)
    return experiment.linear_classifier().fit(x, y).score(test_x, test_y)


baselines = {name: {"accuracy": summary(linear_score(seed, split) for seed in range(n_seeds))}
             for name, split in (("linear", MAIN), ("linear_other_draws", "draws"))}
spent = sum(one["passes"] for one in [*fits, *search_runs, *final_runs])
write_metrics(NAME, profile, results, paper={"pat": 0.93, "in_silico": 0.40},
              baselines=baselines, cost=cost.read(spent), seeds=range(n_seeds),
              data=tokens.source, by_depth=by_depth, paired=paired, mechanism=mechanism,
              angles=angles_deg, models=models, drift={"before_training": varied["drift_before"],
                                                       "after_deployment": drift_after},
              passes=varied["passes"], model_quality=varied["model"], noise=varied["noise"],
              searches={f"{method}_{depth}": choice._asdict()
                        for (method, depth), choice in best.items()}, n_copies=n_copies,
              split=MAIN)
if profile == "full":
    experiment.keep_search(FILES.pop("search"))
for results_file in FILES.values():
    for path in results_file.parent.glob(f"{results_file.stem}.*"):
        path.unlink()  # the next run computes anew

# %%
lines = ["| five layers | paper | test accuracy, authors' tokens | training | PAT is ahead by "
         "| passes | laboratory |", "|---|---|---|---|---|---|---|"]
for label, name in LABELS.items():
    cell, paper = by_depth[label]["5"] if "5" in by_depth[label] else None, ""
    paper = {"pat": "93 %", "in_silico": "about 40 %"}.get(label, "")
    ahead = "" if label == "pat" else (f"{100 * paired[label]['difference']:.1f} ± "
                                       f"{100 * paired[label]['standard_error']:.1f}")
    extra = {"exact": 0, "in_silico_all_passes": ALL_PASSES}.get(label, n_pairs)
    used = cell["passes"] + extra
    lines.append(f"| {name} | {paper} | {percent(cell['accuracy'])} "
                 f"| {percent(cell['train_accuracy'])} | {ahead} | {used:,.0f} "
                 f"| {used * SHG.pass_time / 60:.0f} min |")
for name, cell in (("in silico, on its own twin", results["in_silico_on_model"]),
                   ("digital: logistic regression", baselines["linear"])):
    lines.append(f"| {name} | | {percent(cell['accuracy'])} | | | | |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# Written from the numbers of this run. Accuracies are means over seeds; differences are paired by
# seed, ± one standard error with the factor for overlapping splits, and called resolved where
# Student's 95 % interval excludes zero.


# %% jupyter={"source_hidden": true}
def read(*values):
    """Means of accuracies, as "a, b and c %"."""
    *some, last = [f"{100 * value['mean']:.1f}" for value in values]
    return (f"{', '.join(some)} and " if some else "") + f"{last} %"


def span(values):
    means = [100 * value["mean"] for value in values]
    return f"{min(means):.1f} to {max(means):.1f} %"


def ahead(one):
    """1 or -1 where a difference is resolved, otherwise 0."""
    return int(np.sign(one["difference"])) * one["resolved"]


# %% jupyter={"source_hidden": true}
def verdict(one):
    return told(one, "resolved", "resolved", "not resolved")


def tell(lines):
    display(Markdown("\n".join(f"- {line}" for line in lines)))


def listed(cells):
    return "; ".join(f"{label} {value}" for label, value in cells.items())


at = {label: [cell["accuracy"] for cell in by_depth[label].values()] for label in LABELS}
five = {label: results[label]["accuracy"] for label in results}
deepening = {LABELS[label]: minus(at[label][-1], at[label][0])
             for label in ("exact", "pat", "in_silico_restandardised")}
limit = min(ahead(deepening[LABELS[label]]) for label in ("exact", "pat")) < 0
lead = {depth: minus(*pair) for depth, *pair in zip(depths, at["pat"], at["exact"], strict=True)}
closed = ", ".join(str(depth) for depth in depths if not open_gate[depth])

# %% jupyter={"source_hidden": true}
tell([
    f"**{'Depth costs' if limit else 'No cost of depth is resolved'}** from {depths[0]} to "
    f"{depths[-1]} layers. "
    f"Exact gradients read {span(at['exact'])} on the device, and fit "
    f"{span([cell['train_accuracy'] for cell in by_depth['exact'].values()])} of the training "
    f"set. Depths at which they fit less than {100 * GATE:.0f} % (grey): {closed or 'none'}. "
    f"{depths[-1]} layers minus {depths[0]}, by method: "
    f"{listed({f'*{name}*': verdict(one) for name, one in deepening.items()})}.",
    f"**PAT with {', '.join(map(str, depths))} layers** reads {read(*at['pat'])}. PAT minus "
    f"exact gradients, by layers: "
    f"{listed({f'*{depth}*': verdict(one) for depth, one in lead.items()})}."])

# %% jupyter={"source_hidden": true}
fails = all(ahead(paired[f"in_silico{ending}"]) > 0 for ending in ("", "_restandardised"))
passes = {rival: by_depth[f"in_silico_{rival}"]["5"]["passes"]
          + (ALL_PASSES if rival == "all_passes" else n_pairs)
          for rival in ("noise_aware", "refitted", "all_passes")}
behind = [rival for rival in NOISE_AWARE if ahead(paired[f"noise_aware_minus_{rival}"]) < 0]
advise = (min(passes, key=passes.get) == "noise_aware" and not behind
          and ahead(paired["noise_aware_minus_restandardised"]) > 0)
tell([
    f"**In silico training {'fails on' if fails else 'and'} the device.** At five layers its "
    f"networks read {read(five['in_silico_on_model'])} on their twins, on the device "
    f"{read(five['in_silico'])} as deployed and {read(five['in_silico_restandardised'])} "
    f"re-standardised (paper: about 40 %). PAT minus these two: {verdict(paired['in_silico'])}; "
    f"{verdict(paired['in_silico_restandardised'])}.",
    "**The fairer rivals at five layers**, with PAT minus each: " + "; ".join(
        f"*{NOISE_AWARE.get(rival, 'noise-aware')}* {read(five[f'in_silico_{rival}'])} with "
        f"{used:,.0f} passes, {verdict(paired[f'in_silico_{rival}'])}"
        for rival, used in passes.items()) + ".",
    "**Noise-aware training** minus the others: " + listed({
        f"*{name}*": verdict(paired[f"noise_aware_minus_{rival}"])
        for rival, name in NOISE_AWARE.items()}) + "." + (
        " It costs least of the three: who cannot have the device in the loop should train with "
        "its noise, and re-standardise." if advise else "")])

# %% jupyter={"source_hidden": true}
mixtures = {name: mechanism[name] for name in ("device_loss_model_states",
                                               "model_loss_device_states")}
against = [minus(five["pat"], cell["restandardised"]) for cell in mixtures.values()]
both = min(map(ahead, against)) > 0
outer, inner = ([read(cell[how]) for how in ("restandardised", "as_deployed", "train_accuracy")]
                for cell in mixtures.values())
tell([
    f"**PAT {'needs both of' if both else 'and'} its ingredients.** Accuracy, re-standardised and "
    f"as deployed: loss measured and states predicted, what is left where only the last layer "
    f"can be read, {outer[0]} and {outer[1]}; PAT minus the first: {verdict(against[0])}. States "
    f"measured and loss predicted, {inner[0]} and {inner[1]}; {verdict(against[1])}. Both "
    f"predicted, {read(five['in_silico_restandardised'])} and {read(five['in_silico'])}. Both "
    f"measured, {read(five['pat'])}. Of the training set the mixtures fit {outer[2]} and "
    f"{inner[2]}, PAT {read(by_depth['pat']['5']['train_accuracy'])}."])

# %% jupyter={"source_hidden": true}
turn = {name: f"{value['mean']:.0f}°" for name, value in angles_deg["5"].items()}
steps = [minus(angles_deg["5"][f"{name}_adam_step"], angles_deg["5"][f"{name}_averaged"])
         for name in ("pat", "exact")]
off = [told(step, "farther off", "nearer", "not resolved", scale=1, unit="°") for step in steps]
tell([
    f"**How the gradient misses.** After twenty epochs at five layers PAT's gradient makes "
    f"{turn['pat']} with the true one and {turn['pat_averaged']} when averaged over {n_average} "
    f"readings, exact Jacobians {turn['exact']} and {turn['exact_averaged']}, in silico training "
    f"{turn['in_silico']}. Adam's step, in which small derivatives weigh as much as large ones, "
    f"makes {turn['pat_adam_step']}, {off[0]}, with exact Jacobians {turn['exact_adam_step']}, "
    f"{off[1]}. One reading, PAT and exact Jacobians, by layers: " + listed({
        f"*{depth}*": f"{cell['pat']['mean']:.0f} and {cell['exact']['mean']:.0f}°"
        for depth, cell in angles_deg.items()}) + "."])

# %% jupyter={"source_hidden": true}
quality = varied["model"]
twins_of = [*sorted((f"{pairs}_pairs" for pairs in fewer_pairs), key=KINDS.get), "main"]
fewer = {f"*{KINDS[kind]:,}*": verdict(minus(quality[kind]["pat"], quality["main"]["pat"]))
         for kind in twins_of[:-1]}
tell([
    "**How good a model PAT needs.** PAT reads " + "; ".join(
        f"{read(quality[kind]['pat'])} with {KINDS[kind]:,} pairs (cosine "
        f"{models[kind]['cosine']['mean']:.2f})" for kind in twins_of)
    + f". Fewer pairs minus {n_pairs:,}: {listed(fewer)}. In silico training, re-standardised, "
    f"reads {span([cell['in_silico'] for cell in quality.values()])} with any twin of this "
    f"paragraph. Pairs drawn with random signs, where no network goes, give PAT "
    f"{read(quality['elsewhere']['pat'])}; minus the main ones "
    f"{verdict(minus(quality['elsewhere']['pat'], quality['main']['pat']))}."])

# %% jupyter={"source_hidden": true}
level, shift, rest = max(shot_noise), max(pointing), str(min(pointing))
noisy, moved = varied["noise"][str(level)], varied["drift_before"][str(shift)]["pat"]
fresh, after = varied["drift_before"][rest]["pat"], drift_after["pat"]
start, late = after[rest]["as_it_was"], after[str(shift)]
tell([
    f"**Noise.** At {level} times Poisson's shot noise PAT reads {read(noisy['pat'])}, in silico "
    f"training, re-standardised, {read(noisy['in_silico'])}; the difference is "
    f"{verdict(minus(noisy['pat'], noisy['in_silico']))}.",
    f"**Drift before training.** A twin measured before the colours moved by {shift:g} "
    f"channel{'s' if shift > 1 else ''} gives PAT {read(moved)}, a fresh one {read(fresh)}; the "
    f"difference is {verdict(minus(moved, fresh))}.",
    f"**Drift after deployment.** A network that PAT trained at rest reads {read(start)} there, "
    f"and {read(late['as_it_was'])} after that drift, {verdict(minus(late['as_it_was'], start))}"
    f". Re-standardising gives {read(late['restandardised'])} and minus doing nothing is "
    f"{verdict(minus(late['restandardised'], late['as_it_was']))}; with a minute of further PAT "
    f"it gives {read(late['a_minute_of_pat'])}, which minus re-standardising alone is "
    f"{verdict(minus(late['a_minute_of_pat'], late['restandardised']))}."])

# %% jupyter={"source_hidden": true}
paid, cheap = varied["passes"]["pat"], varied["passes"]["in_silico"]
counts = [one["passes"] for one in cheap]
tell([
    "**PAT pays in passes.** Counting those for its twin it reads " + ", ".join(
        f"{read(one['accuracy'])} after {one['passes']:,}" for one in paid)
    + f". In silico training, re-standardised, reads {span([one['accuracy'] for one in cheap])} "
    f"with {min(counts):,} to {max(counts):,}.",
    f"**Read with care.** Validation trials of {HELD_OUT} tokens for each rate: {n_search}. Seeds "
    f"at five layers: {n_seeds}; elsewhere, and for what is varied: {n_depth}; copies of the "
    f"device: {n_copies}. The bars in the figures are two standard errors of the mean, without "
    f"the factor for overlap. PAT's worst seed at five layers ends at "
    f"{100 * min(five['pat']['values']):.1f} %. Epochs: {epochs}; 02 has 300."])

# %% [markdown]
# - **The test tokens were read before**: in an earlier run (no jitter, gradients clipped at 1,
#   rates chosen by validation accuracy) PAT read 92.7 and exact gradients 94.3 % at five layers.
#   The recipe changed after that as told in 02.
# - **Differences from the paper.** A simulated device; depths, rivals and everything varied here
#   are ours. The paper's in silico result of about 40 % is recalled, unchecked.
