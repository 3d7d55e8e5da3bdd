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
# # Which training method, when?
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): physics-aware training (PAT)
# trains networks of real devices where training on a model alone does not. Other methods came
# after it, each shown against rivals that its authors chose.
#
# **What stands here.** Fourteen ways to train, on the *simulated devices* of this companion (no
# laboratory is attached): same networks (but for PhyLL, which has its own), starts, splits and
# rates to search; a twin for each of five copies; passes of twin, constants and training counted.
# [PROTOCOL.md](benchmark_methods/PROTOCOL.md), committed before a test set was read, says how,
# what counts as a tie, and what was amended since. The trainings take hours and have a
# command of their own, `make reproduce-long`; without it this page reads their committed table
# and runs a part of it again.
#
# **The equation.** All methods but one take steps along an estimate $g$ of the gradient of the
# loss by the trainable numbers. One measure of an estimate is its cosine with the device's own,
#
# $$\cos\alpha=\frac{g\cdot\nabla L}{|g|\,|\nabla L|}\,,$$
#
# for a twin measured from readings alone (`twin.gradient_quality`), and for a whole network known
# because the devices are simulated.

# %% tags=["parameters"]
profile = "quick"
retrain = False  # True: run everything again, hours, and replace the table
n_seeds = 10  # of the main tables: split, network, noise; seed s uses copy s mod 5 of the device
n_varied = 5  # seeds of what is varied
n_search = 2  # seeds of the search for rates
extensions = 6  # times that the search may widen its grid
n_again = 3  # points of the table that are run again; full: a tenth of them
seed_again = 3  # whose points these are
systems = ["vowels_3", "vowels_5", "plate", "circuit", "oscillators", "function"]
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes; full: 2

# %%
import hashlib
import json
from functools import partial

import numpy as np
import scipy.stats
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from notebooks.benchmark_methods import plan
from notebooks.benchmark_methods.systems import COPIES, SYSTEMS
from notebooks.benchmark_methods.trial import METHODS, find, fitted, trial
from pnn_utils import experiment, files
from pnn_utils.datasets import fetch
from pnn_utils.report.figures import COLOURS, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics

# %%
NAME = "09_training_methods"
cost = Cost()
use_house_style()
torch.set_num_threads(1)
HERE = files.SOURCES / "benchmark_methods"
TABLE = (files.RESULTS if retrain else files.ROOT) / "data" / "benchmark" / "methods.jsonl"
# Where results gather; another protocol, or other methods, have another file.
protocol = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
WORK = files.SWEEPS / f"{NAME}-{hashlib.sha256(protocol).hexdigest()[:12]}.jsonl"
TWINS = WORK.with_suffix("")
LABELS = {name: method.label for name, method in METHODS.items()}


def key(point):
    return json.dumps(point, sort_keys=True)


# %%
table = {}
if not retrain:
    if not TABLE.exists():
        raise FileNotFoundError(f"{TABLE} does not exist; `make reproduce-long` writes it")
    table = {key(row["point"]): row["result"]
             for row in map(json.loads, TABLE.read_text().splitlines())}
BROKEN = {"accuracy": 0.0, "confidence": 0.0, "passes": 0}
LEVELS = {str(level) for levels in plan.AFTER.values() for level in levels}
BROKEN_FINAL = {"broken": True, "after": {level: [0.0, 0.0] for level in sorted(LEVELS)},
                "accuracy": 0.0, "train": 0.0, "accuracy_renewed": 0.0, "train_renewed": 0.0}


def run(points, **settings):
    """Results from the table; with `retrain` they are computed, and put there."""
    waiting = list({key(point): point for point in points}.values())
    if retrain:
        found = experiment.sweep(partial(trial, TWINS), waiting, WORK, scheduler=scheduler,
                                 jobs=jobs, **settings)
        table.update(zip(map(key, waiting), found, strict=True))
    if missing := [point for point in waiting if key(point) not in table]:
        raise LookupError(f"{TABLE} lacks {len(missing)} points, as {missing[0]}: it was made "
                          "with other parameters or by another protocol")
    return [table[key(point)] for point in points]


# %% [markdown]
# ## The methods
#
# Passes are those a layer, training row and step. *Model*: a twin of the device is needed.
# *Hidden layers*: their readings are needed in training. PAT takes the loss and all Jacobians at
# measured states, output-only PAT the loss alone; AsyT is half of that and half in silico; SAT
# takes its gradient a small step up from where the network is, where the loss rises fastest; DAT
# corrects its model as it goes; SPSA and DFA need no model. References and definitions are in
# `pnn_utils/methods.py` and `notebooks/benchmark_methods/methods.py`.

# %%
lines = ["| method | model | hidden layers | passes |", "|---|---|---|---|"]
for method in METHODS.values():
    yes = ["yes" if needed else "" for needed in (method.model, method.hidden)]
    lines.append(f"| {method.label} | {yes[0]} | {yes[1]} | {method.passes} |")
display(Markdown("\n".join(lines)))
lines = ["| system | layers | training rows | epochs | pairs for the twin | pass (s) |",
         "|---|---|---|---|---|---|"]
PASS_TIME = {}
for name in systems:
    s, device = find(name), find(name).device(0, 1)
    PASS_TIME[name] = (device[0] if isinstance(device, list) else device).pass_time
    lines.append(f"| {name} | {s.layers} | {s.n_train:,} | {s.epochs} | {s.pairs or ''} "
                 f"| {PASS_TIME[name]:g} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# In silico training has two rows: as deployed, and with the constants that standardise renewed on
# the device. Each has a search and final trials of its own; other methods that train on the model
# have the constants that did better in their search.

# %%
RENEWED = "in_silico_restandardised"
cases = plan.cases(systems)
cases += [(name, RENEWED, when) for name, method, when in cases
          if method == "in_silico" and find(name).pairs]  # the oscillators have no constants


def of_method(case):
    """The case as trials know it, to which both rows of in silico training are one method."""
    return case[0], "in_silico" if case[1] == RENEWED else case[1], case[2]


guess = {(name, method): 0.1 for name, method, _ in plan.cases()}
shares = {"search": [plan.point(of_method(case), 0.1, 100) for case in cases] * 9,
          "finals": [plan.point(of_method(case), 0.1, 0) for case in cases] * n_seeds,
          "varied": plan.all_varied(guess, n_varied)}
hours = {part: sum(map(plan.seconds, points)) / 7200 for part, points in shares.items()}
print(f"{len(cases)} cases, about {sum(hours.values()):.1f} h on two idle cores:",
      ", ".join(f"{part} {value:.1f}" for part, value in hours.items()))
if retrain:
    kinds = [("main", *SYSTEMS[name].kinds, "all_passes") for name in systems]
    points = [dict(system=name, copy=copy, kind=kind) for name, some in zip(
        systems, kinds, strict=True) for kind in some for copy in range(COPIES)]
    experiment.sweep(partial(fitted, TWINS), points, WORK.with_suffix(".twins"),
                     scheduler=scheduler, jobs=jobs)

# %% [markdown]
# ## Learning rates
#
# Every method has the same three rates to start from, at the full schedule, on held-out training
# rows; where the best stands on an edge, the grid grows. *(edge)*: it stands there still.

# %%
ENDINGS = {"in_silico": ("",), RENEWED: ("_renewed",)}
better = {}  # (case, rate): the ending of the constants that did better in its search


def scores(pairs):
    points = [plan.point(of_method(case), rate, 100 + seed, final=False)
              for case, rate in pairs for seed in range(n_search)]
    found, each = run(points, broken=BROKEN), []
    for n, (case, rate) in enumerate(pairs):
        few = found[n * n_search:(n + 1) * n_search]
        mean = {ending: float(np.mean([one.get(f"{what}{ending}", 0.0) for one in few
                                       for what in ("accuracy", "confidence")]))
                for ending in ENDINGS.get(case[1], ("", "_renewed"))}
        better[case, rate] = max(mean, key=mean.get)
        each.append(max(mean.values()))
    return each


best = {}
for name in systems:
    here = [case for case in cases if case[0] == name]
    best |= experiment.search(scores, find(name).rates, here, extensions)

# %%
ROWS = [*METHODS]
ROWS.insert(1 + ROWS.index("in_silico"), RENEWED)
LABELS |= {"in_silico": "in silico, as deployed", RENEWED: "in silico, constants renewed"}
RANKED = [row for row in ROWS if row not in ("exact", "phyll")]


def needs(row):
    """What a row's method needs, and how it is made."""
    return METHODS["in_silico" if row == RENEWED else row]


def shown_rate(case):
    if case not in best:
        return ""
    return f"{best[case].rate:g}{' (edge)' if best[case].at_edge else ''}"


for when in ("epochs", "passes"):
    lines = [f"| rate, equal {when} | {' | '.join(systems)} |", "|---" * (1 + len(systems)) + "|"]
    for row in ROWS:
        cells = [shown_rate((name, row, when)) for name in systems]
        if any(cells):
            lines.append(f"| {LABELS[row]} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))
edges = sum(choice.at_edge for choice in best.values())
print(f"{edges} of {len(best)} winners stand on an edge.")

# %% [markdown]
# ## Two tables

# %%
done = {}  # case: its final trials, by seed
points = [plan.final(of_method(case), best[case].rate, n_seeds) for case in cases]
flat = run([point for some in points for point in some], broken=BROKEN_FINAL)
for n, case in enumerate(cases):
    done[case] = flat[n * n_seeds:(n + 1) * n_seeds]


def trials(name, row, when="epochs"):
    """A row's final trials, None if it has none; equal passes may change nothing."""
    return done.get((name, row, when)) or done.get((name, row, "epochs"))


def ending(name, row, when="epochs"):
    case = (name, row, when if (name, row, when) in best else "epochs")
    return better[case, best[case].rate]


def values(name, row, when="epochs", what="accuracy"):
    """A quantity by seed; None where a method does not apply."""
    found = trials(name, row, when)
    return found and [one[f"{what}{ending(name, row, when)}"] for one in found]


def renewing(name, row, when="epochs"):
    """Passes for renewed constants."""
    return find(name).n_train * find(name).layers if ending(name, row, when) else 0


def passes_of(name, row, when="epochs"):
    """Passes of its trials, those for renewed constants too."""
    return [one["passes"] + renewing(name, row, when) for one in trials(name, row, when)
            if "passes" in one]


# %%
GATE = 0.9  # least training accuracy of exact gradients
opened = {name: bool(np.mean(values(name, "exact", what="train")) >= GATE) for name in systems}
asked = []  # every comparison: what, of which rows, with its result


def compare(name, a, b, when="epochs"):
    """`plan.compared` of two rows of a system; None where one does not apply."""
    pair = values(name, a, when), values(name, b, when)
    if None in pair:
        return None
    found = plan.compared(*pair, name)
    asked.append({"system": name, "a": a, "b": b, "equal": when, **found})
    return found


def leading(name, rows, when="epochs"):
    """The best of some rows, by its mean, and those that tie with it; None if none applies."""
    rows = [row for row in rows if values(name, row, when)]
    if not rows:
        return None
    first = max(rows, key=lambda row: np.mean(values(name, row, when)))
    return first, [row for row in rows if row != first
                   and not compare(name, first, row, when)["ahead"]]


best_of = {(name, when): leading(name, RANKED, when)
           for name in systems for when in ("epochs", "passes")}


# %%
def cell(name, row, when):
    found = values(name, row, when)
    if found is None:
        return ""
    text = f"{100 * np.mean(found):.1f} ± {100 * np.std(found, ddof=min(1, len(found) - 1)):.1f}"
    if row not in RANKED or not opened[name]:
        return f"*{text}*"
    first, tied = best_of[name, when]
    return f"**{text}**" if row in (first, *tied) else text


for when in ("epochs", "passes"):
    lines = [f"| test accuracy (%), equal {when} | {' | '.join(systems)} |",
             "|---" * (1 + len(systems)) + "|"]
    lines += [f"| {LABELS[row]} | {' | '.join(cell(name, row, when) for name in systems)} |"
              for row in ROWS]
    display(Markdown("\n".join(lines)))
closed = ", ".join(name for name in systems if not opened[name]) or "none"
display(Markdown(
    f"Mean ± sd over {n_seeds} seeds on {COPIES} copies. **Bold**: the best, and what ties with "
    "it. *Italic*: not ranked (the ceiling; another network; systems that exact gradients do not "
    f"train to {100 * GATE:.0f} %: {closed}). Trials are paired: of two means the lower can tie "
    "with the best and the higher not. Where equal passes change nothing in a method's setting, "
    "its cell repeats that of equal epochs."))

# %%
QUANTILE = scipy.stats.t.ppf(0.975, max(1, min(COPIES, n_seeds) - 1))
unseen = {name: 100 * QUANTILE * float(np.median(errors)) for name in systems if (errors := [
    one["standard_error"] for one in asked if one["system"] == name and one["equal"] == "epochs"])}
broke = [json.loads(point) for point, one in table.items() if "broken" in one]
broke_in = sorted({f"{LABELS[one['method']]} on {one['system']}" + "".join(
    f", {what} {one[what]:g}" for what in ("noise", "mismatch", "drift", "share") if what in one)
    for one in broke})
limits = ", ".join(f"{name} {least:.1f}" for name, least in unseen.items())
display(Markdown(
    "**What a tie means.** Not resolved. A lead below about so many points would not have been "
    f"seen (median over the comparisons with the best): {limits}. "
    f"Of all trainings on this page {len(broke)} broke down and count as 0"
    f"{': ' if broke else ''}{'; '.join(broke_in)}."))

# %% [markdown]
# What no error here knows of: the test rows of MNIST and of the function are the same for every
# seed; each rate was chosen once, by two seeds, and serves all ten; what is varied keeps the rate
# of the plain setting. Vowels are 259 tokens in all: those that judged the rates stand in test
# sets of other splits.

# %% jupyter={"source_hidden": true}
GROUPS = {"exact": "#666666", "phyll": "#999999", "spsa": "#009E73", "dfa": "#009E73",
          "augmented_dfa": "#009E73", "output_only": "#CC79A7", "asyt": "#CC79A7",
          "refitted": "#E69F00"}
SHADES = {row: GROUPS.get(row, COLOURS["pat" if needs(row).hidden else "in_silico"])
          for row in ROWS}
fig, axes = plt.subplots(1, len(systems), figsize=(11, 4.2), sharey=True, squeeze=False)
for panel, name in zip(axes[0], systems, strict=True):
    for n, row in enumerate(ROWS):
        for when, shift, face in (("epochs", -0.15, SHADES[row]), ("passes", 0.15, "white")):
            if (name, row, when) not in done:
                continue
            found = values(name, row, when)
            panel.plot(found, np.full(len(found), n + shift), ".", color=SHADES[row], alpha=0.3,
                       markersize=3)
            panel.plot(np.mean(found), n + shift, "o", color=SHADES[row], markerfacecolor=face,
                       markersize=4)
    panel.set(title=name, xlim=(0, 1.02), xticks=(0, 0.5, 1), yticks=range(len(ROWS)),
              yticklabels=[LABELS[row] for row in ROWS])
    panel.grid(axis="y", linewidth=0.3)
axes[0, 0].invert_yaxis()
fig.supxlabel("test accuracy on the device (filled: equal epochs; open: equal passes)", fontsize=9)
save_figure(fig, NAME, "methods")

# %% [markdown]
# ## The ledger
#
# Passes of twin, constants and training; those of the search are not in it. Multiply-accumulates
# of the computer beside the device, without the re-fit between the halves of *re-fitted* and
# without the ceiling's. Laboratory time is passes times the device's pass time. The true gradient
# of a whole network is the simulated device's own without noise; on the plate it is the Jacobian
# at rest, on the circuit its own equations fitted to readings. Adam's step is taken here as the
# mean over eight batches divided by their root mean square, number by number; on vowels, where all
# rows are one batch, the truth is the sign. DAT's twin is meant without its correction. At the end
# even the ceiling's own cosine, taken at noisy states, can be low: read the others against it.

# %%
QUANTITIES = ("cosine", "gradient_start", "gradient_end", "adam_start", "adam_end")


def quantity(name, row, what, when="epochs"):
    """A quantity of the ledger, by trial; [] where a row has none."""
    if what in ("passes", "laboratory_s"):
        scale = PASS_TIME[name] if what == "laboratory_s" else 1
        return [scale * passes for passes in passes_of(name, row, when)]
    if (row, what) == ("exact", "macs"):
        return []
    return [one[what] for one in trials(name, row, when) if what in one]


SHOWN = {"passes": (1, ",.0f"), "laboratory_s": (60, ".1f"), "macs": (1e9, ",.1f"),
         **{what: (1, ".2f") for what in QUANTITIES}}
for name in systems:
    lines = [f"| {name} | passes | laboratory (min) | digital (GMAC) | cosine of the twin "
             "| of the gradient, start | end | of Adam's step, start | end |", "|---" * 9 + "|"]
    for row in (row for row in ROWS if trials(name, row)):
        cells = [f"{np.mean(found) / scale:{style}}" if (found := quantity(name, row, what))
                 else "" for what, (scale, style) in SHOWN.items()]
        lines.append(f"| {LABELS[row]} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))

# %% [markdown]
# ### What did not train
#
# A method that learns with the device's own states and fits less than half of the training rows,
# on a system that exact gradients train, has not been tested there: it failed to learn this
# network, with this many steps. Beside its share of the training rows: the cosine of the gradient
# that it followed at the end. (Here trainable numbers scale and shift controls one by one, and set
# others; all mixing is the device's.)

# %%
def failed(name, row, when="epochs"):
    """Its share of the training rows, and cosine, if a row did not train; otherwise None."""
    found = opened[name] and values(name, row, when, "train")
    fitted = np.mean(found) if found else 1.0
    if fitted >= 0.5:
        return None
    found = quantity(name, row, "gradient_end", when)
    return f"{name} ({100 * fitted:.0f} %{f', {np.mean(found):.2f}' if found else ''})"


untrained = {row: list(filter(None, (failed(name, row) for name in systems)))
             for row in RANKED if not needs(row).renewed}
display(Markdown("\n".join(
    f"- {LABELS[row]}: {', '.join(some)}." for row, some in untrained.items() if some)
    or "All methods trained everywhere."))

# %% [markdown]
# ## What is varied
#
# At the rates found above. *Mismatch*: the device has changed since its twin was measured
# (vowels: colours moved by channels; glass turned by steps of 10°; oscillators: units of both
# gaps). *Noise*: units of the device's own. *Drift*: the glass goes on turning while PAT would
# train. *Share*: of the epochs, each with its own schedule. *Kind*: of twin. Constants are renewed
# where the plain setting has them renewed; in silico training has them renewed here. Exact
# gradients have no drift (g). Bars, here and below: two standard errors over the seeds; what is a
# tie, the decisions at the end say, by the protocol's error.

# %%
VARIED = [(name, knob, levels, some) for name, knob, levels, some in (
    *plan.VARIED, *((n, "depth", depths, plan.MAIN) for n, depths in plan.DEPTHS.items()))
    if name in systems]
PLAIN = {"mismatch": 0.0, "noise": 1.0, "drift": 0.0, "kind": "main", "share": 1.0}


def plain_value(name, knob):
    return 1.0 if (name, knob) == ("oscillators", "mismatch") else PLAIN.get(knob, name)


def row_of(name, method):
    """The row of the tables that has a varied method's rate and plain setting."""
    return RENEWED if method == "in_silico" and (name, RENEWED, "epochs") in best else method


def read(name, method, found):
    """Accuracies of some trials, with the constants that the plain setting has."""
    which = f"accuracy{ending(name, row_of(name, method))}"
    return [one[which] for one in found]


# %%
settings = {}  # (system, knob, method): {value: trials by seed}, the plain setting's among them
for name, knob, levels, some in VARIED:
    for method in some:
        rate = best[name, row_of(name, method), "epochs"].rate
        points = [plan.varied(name, knob, value, method, rate, seed)
                  for value in levels for seed in range(n_varied)]
        found = run(points, broken=BROKEN_FINAL)
        cells = {plain_value(name, knob): trials(name, row_of(name, method))[:n_varied]}
        cells |= {value: found[n * n_varied:(n + 1) * n_varied] for n, value in enumerate(levels)}
        settings[name, knob, method] = cells
changed = {(name, knob, method): {value: read(name, method, found)
                                  for value, found in cells.items()}
           for (name, knob, method), cells in settings.items()}

# %% jupyter={"source_hidden": true}
STYLES = {"exact": ("#666666", "--"), "pat": (COLOURS["pat"], "-"), "dat": ("#56B4E9", "-"),
          "output_only": ("#CC79A7", "-"), "in_silico": (COLOURS["in_silico"], "-"),
          "noise_aware": ("#7A3B00", ":"), "refitted": ("#E69F00", "-"),
          "phyll": ("#999999", "-."), "spsa": ("#009E73", "-")}
CHANGED = LABELS | {"in_silico": "in silico"}


def draw(panel, title, curves, **line):
    """Curves of {method: {x: accuracies}}, with bars of two standard errors."""
    for method, (colour, style) in STYLES.items():
        if method in curves:
            at, found = zip(*sorted(curves[method].items()), strict=True)
            error = [2 * np.std(f, ddof=min(1, len(f) - 1)) / len(f)**0.5 for f in found]
            panel.errorbar(at, [np.mean(f) for f in found], error, color=colour, marker=".",
                           capsize=2, linewidth=2.5 if method == "pat" else 1.1,
                           **{"linestyle": style} | line)
    panel.set(title=title, ylim=(0, 1.02))


def legend(fig, methods, ncols, *more, **line):
    fig.legend(handles=[*(plt.Line2D([], [], color=c, label=CHANGED[m], **{"linestyle": ls} | line)
                          for m, (c, ls) in STYLES.items() if m in methods), *more],
               loc="outside lower center", ncols=ncols, fontsize=8)


# %% jupyter={"source_hidden": true}
PANELS = [("vowels_5", "mismatch", "vowels_5: shift (channels)"),
          ("function", "mismatch", "function: glass turned (10°)"),
          ("oscillators", "mismatch", "oscillators: gap"),
          ("vowels_5", "noise", "vowels_5: noise (x Poisson)"),
          ("function", "noise", "function: noise (x 0.01)"),
          ("oscillators", "noise", "oscillators: noise (x 0.02 rad)"),
          ("function", "drift", "function: drift in training (10°)"),
          ("vowels_5", "depth", "vowels: layers"), ("function", "depth", "function: layers")]
PANELS = [one for one in PANELS if one[0] in systems]

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(3, 3, figsize=(10, 8), sharey=True)
for panel, letter, (name, knob, title) in zip(axes.flat, "abcdefghi", PANELS, strict=False):
    curves = {method: {find(value).layers if knob == "depth" else value: found
                       for value, found in changed[name, knob, method].items()}
              for method in STYLES if (name, knob, method) in changed}
    draw(panel, f"{letter}  {title}", curves)
    if knob == "noise":
        panel.set_xscale("log")
    levels = sorted({at for cells in curves.values() for at in cells})
    panel.set_xticks(levels, [f"{level:g}" for level in levels])
    panel.xaxis.set_minor_locator(NullLocator())
for panel in axes.flat[len(PANELS):]:
    panel.axis("off")
for panel in axes[:, 0]:
    panel.set_ylabel("test accuracy")
legend(fig, [method for method in STYLES if method != "spsa"], 4)
save_figure(fig, NAME, "varied")

# %% [markdown]
# ### Accuracy against passes
#
# Methods that train on the device have shorter and longer trainings; in silico training, which
# makes its passes beforehand, has twins of fewer and of more pairs (oscillators: none, its model
# is the plain equation, and the line is dotted across). Passes of twin, constants and training
# are counted.

# %%
def afforded(name):
    """{method: {passes: accuracies}}, over trainings with their own schedules, or over twins."""
    curves = {}
    for (system, knob, method), cells in settings.items():
        if system == name and knob == ("share" if METHODS[method].passes else "kind") and (
                METHODS[method].passes or method == "in_silico"):
            more = renewing(name, row_of(name, method))
            curves[method] = {
                more + float(np.mean([one["passes"] for one in found if "passes" in one])):
                read(name, method, found) for found in cells.values()}
    if "in_silico" in curves:
        at = float(np.mean(passes_of(name, RENEWED, "passes")))
        curves["in_silico"][at] = values(name, RENEWED, "passes")[:n_varied]
    return curves


# %%
shown = {name: afforded(name) for name in ("vowels_5", "function", "oscillators")
         if name in systems}
fig, axes = plt.subplots(1, len(shown) or 1, figsize=(10, 2.9), sharey=True, squeeze=False)
for panel, letter, (name, curves) in zip(axes[0], "abc", shown.items(), strict=False):
    draw(panel, f"{letter}  {name}", curves)
    if "in_silico" not in curves:
        panel.axhline(np.mean(values(name, "in_silico")), color=COLOURS["in_silico"],
                      linestyle=":")
    panel.set(xscale="log", xlabel="passes of twin, constants and training")
    panel.xaxis.set_minor_formatter(NullFormatter())
    if panel.get_xlim()[1] < 50 * panel.get_xlim()[0]:  # too few powers of ten
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
axes[0, 0].set_ylabel("test accuracy")
plain = plt.Line2D([], [], color=COLOURS["in_silico"], linestyle=":",
                   label="in silico, no twin to be measured")
legend(fig, {method for curves in shown.values() for method in curves}, 6, plain)
save_figure(fig, NAME, "passes")

# %% [markdown]
# ### The device changes after deployment
#
# Networks trained at rest meet a device that has changed: as they are (solid), and with their
# constants matched to it (dotted; a pass a layer and training row). Methods whose constants are
# the model's had them renewed before the change, output-only PAT on the function too, which
# therefore starts lower than in the tables. Points of one change stand side by side.

# %%
AFTER = {name: levels for name, levels in plan.AFTER.items() if name in systems}


def renewed(found):
    """Accuracies just before the change: constants that can be renewed are."""
    return [one.get("accuracy_renewed", one["accuracy"]) for one in found]


def lived(name, row, n):
    """{change: accuracies}, of networks as they were (n = 0), or with constants matched (1)."""
    return {0.0: renewed(trials(name, row))} | {
        level: [one["after"][str(level)][n] for one in trials(name, row)] for level in AFTER[name]}


fig, axes = plt.subplots(1, len(AFTER) or 1, figsize=(10, 2.9), sharey=True, squeeze=False)
METERS = ("pat", "dat", "output_only", "noise_aware", "refitted")
for panel, letter, name in zip(axes[0], "abc", AFTER, strict=False):
    step = 0.02 * max(AFTER[name])
    for n, style in enumerate("-:"):
        draw(panel, f"{letter}  {name}", {
            row: {at + step * (k - 2): found for at, found in lived(name, row, n).items()}
            for k, row in enumerate(METERS)}, linestyle=style)
    panel.set_xticks([0, *AFTER[name]], [f"{level:g}" for level in (0, *AFTER[name])])
    panel.set_xlabel("change (10°)" if name == "function" else "shift (channels)")
axes[0, 0].set_ylabel("test accuracy")
matched = plt.Line2D([], [], color="black", linestyle=":", label="constants matched")
legend(fig, METERS, 6, matched, linestyle="-")
save_figure(fig, NAME, "after")

# %% [markdown]
# ## How good must a model be?
#
# Each point is one setting of one method that trains with a model: its accuracy relative to exact
# gradients, seed by seed in the same setting, against **a** the cosine of the twin, measured from
# readings alone before training, **b** the cosine of the gradient it follows where its training
# ends, **c** that of Adam's step. Only **a** can be measured in a laboratory, with four passes a
# row; it is corrected for noise, and so can pass 1. Settings in which exact gradients do not train
# are left out, and DAT and re-fitted from b and c: their model of the end is not kept. If points
# of all systems fell on one curve, the cosine would say all; Spearman's rank correlation says how
# nearly they do, its range is that of leaving one system out. PAT, DAT and SAT with PAT share a
# twin, so their points are no independent ones.

# %%
def spot(name, method, found, accuracies, ceilings):
    """One point of the figure, over the seeds that have all of it; None if exact fails there."""
    kept = [(one, accuracy, ceiling["accuracy"]) for one, accuracy, ceiling in zip(
        found, accuracies, ceilings, strict=True) if "cosine" in one]  # noise may hide it
    if not kept or np.mean([ceiling["train"] for ceiling in ceilings]) < GATE:
        return None
    ones, accuracy, ceiling = zip(*kept, strict=True)
    return {"system": name, "method": method, "relative": float(np.sum(accuracy) / sum(ceiling)),
            **{what: float(np.mean([one[what] for one in ones])) for what in AXES
               if what in ones[0]}}


AXES = {"cosine": "cosine of the twin, measured", "gradient_end": "cosine of the gradient, end",
        "adam_end": "cosine of Adam's step, end"}
spots = [spot(name, row, trials(name, row), values(name, row), trials(name, "exact"))
         for name in systems for row in RANKED if needs(row).model and trials(name, row)]
for (name, knob, method), cells in settings.items():
    if knob in ("mismatch", "noise", "kind", "depth") and METHODS[method].model:
        exact = settings.get((name, knob, "exact"), {})  # with another twin: as with the main one
        plain = trials(name, "exact")[:n_varied]
        spots += [spot(name, method, found, read(name, method, found), exact.get(value, plain))
                  for value, found in cells.items() if value != plain_value(name, knob)]
spots = [one for one in spots if one]

# %%
DEVICE_FORWARD = [m for m, method in METHODS.items() if method.model and not method.renewed]


def rank_correlation(some, what):
    """Spearman's, or None where there is none."""
    pairs = [(one[what], one["relative"]) for one in some if what in one]
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    return float(scipy.stats.spearmanr(*zip(*pairs, strict=True)).statistic)


ranks = {}
for group in ("all states measured", "states of the model"):
    these = [one for one in spots if (one["method"] in DEVICE_FORWARD) == group.startswith("all")]
    for what in AXES:
        left = [rank_correlation([one for one in these if one["system"] != name], what)
                for name in systems]
        left = [value for value in left if value is not None]
        ranks[f"{group}, {what}"] = {
            "spearman": rank_correlation(these, what), "settings": sum(what in s for s in these),
            "range": [min(left), max(left)] if left else []}


def shown_rank(which):
    one = ranks[which]
    if one["spearman"] is None or not one["range"]:
        return "none"
    low, high = one["range"]
    return (f"{one['spearman']:.2f} ({low:.2f} to {high:.2f} with one system left out; "
            f"{one['settings']} settings)")


# %%
for which in ranks:
    print(f"rank correlation, {which}: {shown_rank(which)}")

# %% jupyter={"source_hidden": true}
MARKS = dict(zip(systems, "osD^vX", strict=False))
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), sharey=True)
for panel, letter, (what, label) in zip(axes, "abc", AXES.items(), strict=True):
    for one in (one for one in spots if what in one):
        ours = one["method"] in DEVICE_FORWARD
        panel.plot(one[what], one["relative"], MARKS[one["system"]], markersize=4, alpha=0.7,
                   color=COLOURS["pat" if ours else "in_silico"],
                   markerfacecolor=COLOURS["pat"] if ours else "white")
    panel.set(title=f"{letter}  {label[0].upper()}{label[1:]}", xlabel="cosine", ylim=(0, 1.15))
axes[0].set_ylabel("accuracy / that of exact gradients")
handles = [plt.Line2D([], [], color="black", linestyle="", marker=mark, label=name)
           for name, mark in MARKS.items()]
handles += [plt.Line2D([], [], color=COLOURS["pat"], marker="o", linestyle="",
                       label="all states measured (PAT, SAT with PAT; a: DAT)"),
            plt.Line2D([], [], color=COLOURS["in_silico"], marker="o", linestyle="",
                       markerfacecolor="white", label="states of the model")]
fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
save_figure(fig, NAME, "collapse")

# %% [markdown]
# ## Which method, for your apparatus?
#
# Every line is made from the numbers above; *ahead*, *behind* and *ties* by the protocol's rule
# (points of accuracy, mean paired difference ± its standard error), on the systems that exact
# gradients train. *Take*: the best of the methods that the question leaves and that fit half of
# the training rows there, by its mean, and what ties with it.

# %%
def take(rows, when="epochs"):
    """What does best on each system, of some rows."""
    parts = []
    for name in (name for name in systems if opened[name]):
        able = [row for row in rows if not failed(name, row, when)]
        if found := leading(name, able, when):
            first, tied = found
            mean = 100 * np.mean(values(name, first, when))
            parts.append(f"{name}: {LABELS[first]}, {mean:.1f} %" + (
                f" (ties: {', '.join(LABELS[row] for row in tied)})" if tied else ""))
    return f"**Take**: {'; '.join(parts) or 'none of these has trained anything here'}."


def against(a, b, when="epochs"):
    """Compare two rows on every system where both apply and exact gradients train."""
    parts = {"ahead": [], "ties": [], "behind": []}
    for name in (name for name in systems if opened[name]):
        if found := compare(name, a, b, when):
            word = {1: "ahead", 0: "ties", -1: "behind"}[found["ahead"]]
            parts[word].append(f"{name} ({100 * found['difference']:+.1f} ± "
                               f"{100 * found['standard_error']:.1f})")
    shown = [f"{word} on {', '.join(some)}" for word, some in parts.items() if some]
    return f"**{LABELS[a]}** against {LABELS[b]}: {'; '.join(shown or ['no system'])}."


# %%
tabled = len(asked)  # comparisons that make the tables' bold
NO_MODEL = [row for row in RANKED if not needs(row).model]
LAST_ONLY = [row for row in RANKED if needs(row).model and not needs(row).hidden]
AT_THE_END = [row for row in LAST_ONLY if not needs(row).passes]
QUESTIONS = {
    "Every layer can be read in training": (RANKED, "epochs", [
        ("pat", RENEWED), ("pat", "noise_aware"), ("pat", "refitted"), ("dat", "pat"),
        ("sat_pat", "pat"), ("pat", "exact")]),
    "The gradient has no hidden reading": ([*LAST_ONLY, "spsa"], "epochs", [
        ("noise_aware", RENEWED), ("output_only", "noise_aware"), ("asyt", "noise_aware"),
        ("asyt", "output_only")]),
    "No pass during training (those of the twin come before)": (AT_THE_END, "epochs", [
        (RENEWED, "in_silico"), ("noise_aware", "sat"), ("sat", RENEWED)]),
    "As many passes as PAT and its twin make, spent as each method likes": (RANKED, "passes", [
        ("pat", RENEWED), ("pat", "noise_aware"), ("pat", "sat"), ("pat", "refitted"),
        ("pat", "spsa"), ("pat", "dfa")]),
    "No model can be had": (NO_MODEL, "epochs", [
        ("pat", "spsa"), ("pat", "dfa"), ("pat", "augmented_dfa"), ("augmented_dfa", "dfa"),
        ("pat", "phyll")])}

# %%
def as_deployed(row):
    """What a row reads without the constants that were renewed, on all layers, at deployment."""
    found = [f"{name} {100 * np.mean([one['accuracy'] for one in trials(name, row)]):.1f}"
             for name in systems if trials(name, row) and ending(name, row)]
    return f"{LABELS[row]}: {', '.join(found)}" if found and row != RENEWED else ""


lines = []
for question, (rows, when, pairs) in QUESTIONS.items():
    lines += [f"### {question}", "", f"- {take(rows, when)}",
              *(f"- {against(*pair, when)}" for pair in pairs), ""]
    if rows[:-1] == LAST_ONLY:
        lines += ["To renew constants is to read every layer. Where that cannot be done, these "
                  "read, as deployed (%): " + "; ".join(filter(None, map(as_deployed, rows)))
                  + ".", ""]
lines.append("PhyLL trains a network of its own, with digital layers: no part of a ranking.")
display(Markdown("\n".join(lines)))

# %%
def curve(cells):
    """What a method reads after how many passes, ± one standard error."""
    error = {at: np.std(f, ddof=min(1, len(f) - 1)) / len(f)**0.5 for at, f in cells.items()}
    return ", ".join(f"{100 * np.mean(f):.0f} ± {100 * error[at]:.0f} % after {at:,.0f}"
                     for at, f in sorted(cells.items()))


lines = ["### So many passes can be afforded", "",
         "Passes of twin, constants and training: divided by your device's passes a second, they "
         "are seconds. Mean ± one standard error.", ""]
lines += [f"- {name}, {CHANGED[method]}: {curve(curves[method])}."
          for name, curves in shown.items() for method in STYLES if method in curves]
display(Markdown("\n".join(lines)))


# %%
KINDS = {"thirtieth": "with a thirtieth of the pairs", "tenth": "with a tenth of the pairs",
         "perceptron": "with a perceptron for a twin", "all_passes": "with a twin of all passes",
         "own": "with its own equations, fitted, for a twin"}


def at_level(knob, value):
    if knob == "depth":
        return f"with {find(value).layers} layers"
    return KINDS[value] if knob == "kind" else f"at {value:g}"


def ceilings(name, knob):
    """By level, the share of training rows that exact gradients fit; 1 if they were not run."""
    levels = next(levels for n, k, levels, _ in VARIED if (n, k) == (name, knob))
    exact = settings.get((name, knob, "exact"), {})
    return {level: float(np.mean([one["train"] for one in exact[level]])) if level in exact
            else 1.0 for level in levels if level != plain_value(name, knob)}


# %%
def moved(name, knob, a, b):
    """Compare two methods at every level at which exact gradients train."""
    one, other = changed.get((name, knob, a)), changed.get((name, knob, b))
    parts = {"ahead": [], "ties": [], "behind": []}
    for level in ceilings(name, knob) if one and other and opened[name] else ():
        if ceilings(name, knob)[level] < GATE:
            continue
        found = plan.compared(one[level], other[level], name)
        asked.append({"system": name, "a": a, "b": b, knob: level, **found})
        parts[{1: "ahead", 0: "ties", -1: "behind"}[found["ahead"]]].append(
            f"{at_level(knob, level)} ({100 * np.mean(one[level]):.0f} and "
            f"{100 * np.mean(other[level]):.0f} %, {100 * found['difference']:+.1f} ± "
            f"{100 * found['standard_error']:.1f})")
    shown = [f"{word} {', '.join(some)}" for word, some in parts.items() if some]
    return [f"- {name}, **{CHANGED[a]}** against {CHANGED[b]}: {'; '.join(shown)}."] * bool(shown)


def not_judged(name, knob):
    """A line on levels at which exact gradients do not train."""
    some = [f"{at_level(knob, level)} ({100 * share:.0f} %)"
            for level, share in ceilings(name, knob).items() if opened[name] and share < GATE]
    return [f"- {name}, not judged, since exact gradients fit under {100 * GATE:.0f} % of the "
            f"training rows: {', '.join(some)}."] * bool(some)


# %%
HEADINGS = {
    "The device has changed since its twin was measured": [
        (name, "mismatch") for name in ("vowels_5", "function", "oscillators")],
    "It is noisy": [(name, "noise") for name in ("vowels_5", "function", "oscillators")],
    "It drifts while it is trained": [("function", "drift")],
    "The twin is a poorer or a better one": [
        (name, "kind") for name in ("vowels_5", "function", "circuit", "plate")],
    "Many layers": [(name, "depth") for name in ("vowels_5", "function")]}
lines = []
for heading, some in HEADINGS.items():
    lines += ["", f"### {heading}", ""]
    for name, knob in some:
        for pair in (("pat", "in_silico"), ("pat", "noise_aware"), ("dat", "pat"),
                     ("pat", "refitted")):
            lines += moved(name, knob, *pair)
        lines += not_judged(name, knob)
display(Markdown("\n".join(lines)))

# %%
after, lines = {}, ["### It changes after deployment", ""]
for name in (name for name in AFTER if opened[name]):
    for row in ("pat", "noise_aware"):
        was, matched = lived(name, row, 0), lived(name, row, 1)
        for level in AFTER[name]:
            found = plan.compared(matched[level], was[level], name)
            asked.append({"system": name, "a": f"{row}, matched", "b": row, "after": level,
                          **found})
            after[f"{row}_{name}_{level}"] = {"as_it_was": summary(was[level]),
                                              "constants_matched": summary(matched[level])}
            word = {1: "helps", 0: "changes nothing that is resolved", -1: "harms"}
            lines.append(
                f"- {LABELS[row]}, {name}, changed by {level:g}: {100 * np.mean(was[0.0]):.0f} % "
                f"before, {100 * np.mean(was[level]):.0f} % after; to match the constants, "
                f"{100 * np.mean(matched[level]):.0f} %, {word[found['ahead']]} "
                f"({100 * found['difference']:+.1f} ± {100 * found['standard_error']:.1f}).")
display(Markdown("\n".join(lines)))

# %%
distinct = {(one["system"], frozenset((one["a"], one["b"])), f"{abs(one['difference']):.9f}")
            for one in asked}
lines = ["### How good must the model be?", "",
          "- A threshold would need points on one curve. Rank correlation of the measured cosine "
          "with accuracy relative to exact gradients: "
          f"{shown_rank('all states measured, cosine')} where all states are measured, "
          f"{shown_rank('states of the model, cosine')} where the model's are used.", "",
          f"{len(asked)} comparisons ({len(distinct)} that differ) make this section and, "
          f"{tabled} of them, the tables' bold, against a best that its own test accuracy chose. "
          "Of twenty true ties one may be called a lead."]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A part of it again
#
# A tenth of the final trials and of what is varied, drawn from those of one seed (that is, of one
# copy), is run again here and now with a freshly fitted twin, and compared with the table. On the
# same machine all numbers are the same; on another one rounding can grow over a training.

# %%
ours = {name.partition("_")[0] for name in systems}
candidates = [point for point in map(json.loads, table) if point["seed"] == seed_again
              and point["system"].partition("_")[0] in ours]
order = np.random.default_rng(seed_again).permutation(len(candidates))
chosen = sorted((candidates[n] for n in order), key=plan.seconds if n_again < 10 else lambda p: 0)
chosen = chosen[:3 if retrain else n_again]
AGAIN = experiment.results_file(NAME, protocol=WORK.stem[-12:], chosen=chosen)
again = experiment.sweep(partial(trial, AGAIN.with_suffix("")), chosen, AGAIN, broken=BROKEN_FINAL,
                         scheduler=scheduler, jobs=jobs)
gaps = np.array([new["accuracy"] - table[key(point)]["accuracy"]
                 for new, point in zip(again, chosen, strict=True)] or [0.0])
same = sum(new == table[key(point)] for new, point in zip(again, chosen, strict=True))
rerun = {"points": len(chosen), "identical": same, "mean_gap": float(gaps.mean()),
         "mean_size": float(abs(gaps).mean()), "largest_gap": float(abs(gaps).max())}
print(f"{len(chosen)} of {len(table)} points run again: {same} identical in every number; "
      f"accuracy differs by {100 * gaps.mean():+.2f} points on average, in size by "
      f"{100 * abs(gaps).mean():.2f}, {100 * abs(gaps).max():.2f} at most")
assert abs(gaps).mean() < 0.03, "the table is not what this code computes"
for path in (AGAIN, *AGAIN.with_suffix("").glob("*")):
    path.unlink(missing_ok=True)

# %%
results, pairs = {}, {}
for name, row, when in cases:
    suffix = "" if when == "epochs" else "_equal_passes"
    label = "in_silico_all_passes" if suffix and row == RENEWED else f"{row}{suffix}"
    results[f"{label}_{name}"] = {
        "accuracy": summary(values(name, row, when)),
        "train_accuracy": summary(values(name, row, when, "train")),
        **{shown: summary(found) for what, shown in (
            ("passes", "passes"), ("laboratory_s", "laboratory_s"), ("macs", "digital_macs"),
            *zip(QUANTITIES, QUANTITIES, strict=True))
           if (found := quantity(name, row, what, when))}}
    if row != "pat":
        pairs[f"pat_minus_{label}_{name}"] = plan.compared(
            values(name, "pat", when), values(name, row, when), name)
curves = {f"{name}_{knob}_{method}": [{"value": value, "accuracy": summary(found)}
                                      for value, found in cells.items()]
          for (name, knob, method), cells in changed.items()}

# %%
spent = sum(one.get("passes", 0) for one in table.values())
write_metrics(NAME, profile, results, cost=cost.read(spent), seeds=range(n_seeds), data={
    "name": "vowels, MNIST, digits of scikit-learn",
    "sha256": fetch.FILES["mnist"]["train-images-idx3-ubyte"]}, paired=pairs, varied=curves,
    comparisons=asked, after_deployment=after, collapse={"ranks": ranks, "settings": spots},
    rerun=rerun, searches={"_".join(case): choice._asdict() for case, choice in best.items()},
    gate=opened, unseen_points=unseen, broken=len(broke), n_copies=COPIES)
if retrain:  # all is done: the table takes the place of an older one
    files.write_text(TABLE, "".join(json.dumps({"point": json.loads(one), "result": result}) + "\n"
                                    for one, result in table.items()))
    for path in (WORK, WORK.with_suffix(".twins"), *TWINS.glob("*")):
        path.unlink()
