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
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, and what came after): papers on
# training physical networks each compare with a rival of their own making. Physics-aware training
# (PAT) is shown against in silico training as deployed, newer methods against a PAT whose model
# was never fitted or that reads the last layer only; passes through the device are rarely counted.
#
# **What stands here.** Fourteen ways to train, on the *simulated devices* of this companion (no
# laboratory is attached): same networks, starts, splits and rates to search; a twin for each of
# five copies; passes counted. [PROTOCOL.md](benchmark_methods/PROTOCOL.md), committed before a
# test set was read, says how, and what counts as a tie. The trainings take hours and have a
# command of their own, `make reproduce-long`; without it this page reads their committed table
# and runs a part of it again.
#
# **The equation.** All methods but one take steps along an estimate $g$ of the gradient of the
# loss by the trainable numbers. How good an estimate is, says its cosine with the device's own,
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
# takes the gradient where the loss rises fastest; DAT corrects its model as it goes; SPSA and DFA
# need no model. References and definitions are in `pnn_utils/methods.py` and
# `notebooks/benchmark_methods/methods.py`.

# %%
lines = ["| method | model | hidden layers | passes |", "|---|---|---|---|"]
for method in METHODS.values():
    yes = ["yes" if needed else "" for needed in (method.model, method.hidden)]
    lines.append(f"| {method.label} | {yes[0]} | {yes[1]} | {method.passes} |")
display(Markdown("\n".join(lines)))
lines = ["| system | layers | training rows | epochs | pairs for the twin | pass (s) |",
         "|---|---|---|---|---|---|"]
for name in systems:
    s, device = find(name), find(name).device(0, 1)
    single = device[0] if isinstance(device, list) else device
    lines.append(f"| {name} | {s.layers} | {s.n_train:,} | {s.epochs} | {s.pairs or ''} "
                 f"| {single.pass_time:g} |")
display(Markdown("\n".join(lines)))

# %%
cases = plan.cases(systems)
some = [plan.point(case, 0.1, seed) for case in cases for seed in range(n_seeds)]
search_s = sum(plan.seconds(plan.point(case, 0.1, 100)) for case in cases) * 4.5 * n_search
finals_s = sum(map(plan.seconds, some))
guess = {(name, method): 0.1 for name, method, _ in plan.cases()}
varied_s = sum(map(plan.seconds, plan.all_varied(guess, n_varied)))
print(f"{len(cases)} cases to search, {len(some)} final trials, "
      f"{len(plan.all_varied(guess, n_varied))} of what is varied; about "
      f"{(search_s + finals_s + varied_s) / 7200:.1f} h on two idle cores, of which search "
      f"{search_s / 7200:.1f}, finals {finals_s / 7200:.1f}, varied {varied_s / 7200:.1f}")
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
renewed = {}  # case: whether constants renewed on the device did better in its search


def scores(pairs):
    points = [plan.point(case, rate, 100 + seed, final=False)
              for case, rate in pairs for seed in range(n_search)]
    found, each = run(points, broken=BROKEN), []
    for n, (case, rate) in enumerate(pairs):
        few = found[n * n_search:(n + 1) * n_search]
        kept = [np.mean([one.get(f"{what}{ending}", 0.0) for one in few
                         for what in ("accuracy", "confidence")]) for ending in ("", "_renewed")
                if any(f"accuracy{ending}" in one for one in few)]
        renewed[case, rate] = len(kept) == 2 and kept[1] >= kept[0]
        each.append(float(max(kept)))
    return each


best = {}
for name in systems:
    here = [case for case in cases if case[0] == name]
    best |= experiment.search(scores, find(name).rates, here, extensions)

# %%
def shown_rate(case):
    if case not in best:
        return ""
    return f"{best[case].rate:g}{' (edge)' if best[case].at_edge else ''}"


for when in ("epochs", "passes"):
    lines = [f"| rate, equal {when} | {' | '.join(systems)} |", "|---" * (1 + len(systems)) + "|"]
    for method in METHODS:
        cells = [shown_rate((name, method, when)) for name in systems]
        if any(cells):
            lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))
edges = sum(choice.at_edge for choice in best.values())
print(f"{edges} of {len(best)} winners stand on an edge.")

# %% [markdown]
# ## Two tables

# %%
done = {}  # case: its final trials, by seed
points = [plan.final(case, best[case].rate, n_seeds) for case in cases]
flat = run([point for some in points for point in some])
for n, case in enumerate(cases):
    done[case] = flat[n * n_seeds:(n + 1) * n_seeds]


ROWS = [*METHODS]
ROWS.insert(1 + ROWS.index("in_silico"), "in_silico_restandardised")
LABELS |= {"in_silico": "in silico, as deployed",
           "in_silico_restandardised": "in silico, constants renewed"}
RANKED = [row for row in ROWS if row not in ("exact", "phyll")]


def trials(name, row, when="epochs"):
    """A row's final trials, None if it has none; equal passes may change nothing."""
    row = "in_silico" if row == "in_silico_restandardised" else row
    return done.get((name, row, when)) or done.get((name, row, "epochs"))


# %%
def ending(name, row, when="epochs"):
    """Whether constants were renewed: as was better in the search. In silico has two rows."""
    if row.startswith("in_silico"):
        return "_renewed" if row == "in_silico_restandardised" else ""
    case = (name, row, when if (name, row, when) in best else "epochs")
    return "_renewed" if renewed[case, best[case].rate] else ""


def values(name, row, when="epochs", what="accuracy"):
    """A quantity by seed; None where a method does not apply."""
    found = trials(name, row, when)
    which = f"{what}{ending(name, row, when)}" if found else what
    if found is None or (row == "in_silico_restandardised" and which not in found[0]):
        return None
    return [one[which] for one in found]


def compare(name, a, b, when="epochs"):
    """`plan.compared` of two rows of a system; None where one does not apply."""
    pair = values(name, a, when), values(name, b, when)
    return None if None in pair else plan.compared(*pair, name)


# %%
GATE = 0.9  # least training accuracy of exact gradients
opened = {name: np.mean(values(name, "exact", what="train")) >= GATE for name in systems}
leader = {(name, when): max((row for row in RANKED if values(name, row, when)),
                            key=lambda row: np.mean(values(name, row, when)))
          for name in systems for when in ("epochs", "passes")}


def cell(name, row, when):
    found = values(name, row, when)
    if found is None:
        return ""
    text = f"{100 * np.mean(found):.1f} ± {100 * np.std(found, ddof=min(1, len(found) - 1)):.1f}"
    if row not in RANKED or not opened[name]:
        return f"*{text}*"
    tied = not compare(name, leader[name, when], row, when)["ahead"]
    return f"**{text}**" if tied else text


for when in ("epochs", "passes"):
    lines = [f"| test accuracy (%), equal {when} | {' | '.join(systems)} |",
             "|---" * (1 + len(systems)) + "|"]
    lines += [f"| {LABELS[row]} | {' | '.join(cell(name, row, when) for name in systems)} |"
              for row in ROWS]
    display(Markdown("\n".join(lines)))
display(Markdown(
    f"Mean ± sd over {n_seeds} seeds on {COPIES} copies. **Bold**: the best, and what ties with "
    "it. *Italic*: not ranked (the ceiling; another network; systems that exact gradients do not "
    f"train to {100 * GATE:.0f} %: {', '.join(n for n in systems if not opened[n]) or 'none'})."))

# %% jupyter={"source_hidden": true}
GROUPS = {"exact": "#666666", "phyll": "#999999", "spsa": "#009E73", "dfa": "#009E73",
          "augmented_dfa": "#009E73", "output_only": "#CC79A7", "asyt": "#CC79A7"}
SHADES = {row: GROUPS.get(row, COLOURS["pat" if METHODS.get(row, METHODS["sat"]).hidden
                                       else "in_silico"]) for row in ROWS}
SHADES["refitted"] = "#E69F00"
fig, axes = plt.subplots(1, len(systems), figsize=(11, 4.2), sharey=True, squeeze=False)
for panel, name in zip(axes[0], systems, strict=True):
    for n, row in enumerate(ROWS):
        for when, shift, face in (("epochs", -0.15, SHADES[row]), ("passes", 0.15, "white")):
            found = values(name, row, when)
            if found is None or (when == "passes" and (name, row, when) not in done):
                continue
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
# Passes with the twin's; multiply-accumulates of the computer beside the device; laboratory time
# is passes times the device's pass time.

# %%
def mean(name, row, what):
    """Mean of what both tables' trials hold; None where a method has none."""
    found = [one[what] for one in trials(name, row) or () if what in one]
    return float(np.mean(found)) if found else None


for name in systems:
    lines = [f"| {name} | passes | laboratory (min) | digital (GMAC) | cosine of the twin "
             "| of the gradient, start | end | of Adam's step, start | end |", "|---" * 9 + "|"]
    for row in METHODS:
        if trials(name, row):
            numbers = [mean(name, row, what) for what in (
                "passes", "laboratory_s", "macs", "cosine", "gradient_start", "gradient_end",
                "adam_start", "adam_end")]
            scale, style = (1, 60, 1e9, *[1] * 5), (",.0f", ".1f", ",.1f", *[".2f"] * 5)
            cells = ["" if v is None else f"{v / one:{how}}"
                     for v, one, how in zip(numbers, scale, style, strict=True)]
            lines.append(f"| {LABELS[row].replace(', as deployed', '')} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What is varied
#
# At the rates found above. *Mismatch*: the device has changed since its twin was measured
# (vowels: colours moved by channels; glass turned by steps of 10°; oscillators: units of both
# gaps). *Noise*: units of the device's own. *Drift*: the glass goes on turning while PAT would
# train. *Share*: of the epochs, each with its own schedule. In silico training has its constants
# renewed here.

# %%
VARIED = [(name, knob, levels, some) for name, knob, levels, some in (
    *plan.VARIED, *((n, "depth", depths, plan.MAIN) for n, depths in plan.DEPTHS.items()))
    if name in systems]
CHANGED = LABELS | {"in_silico": LABELS["in_silico_restandardised"]}
changed = {}  # (system, knob, method): {value: accuracies}; with the plain setting's own
PLAIN = {"mismatch": 0.0, "noise": 1.0, "drift": 0.0, "kind": "main", "share": 1.0}
everything = []
for name, knob, levels, some in VARIED:
    for method in some:
        rate = best[name, method, "epochs"].rate
        points = [plan.varied(name, knob, value, method, rate, seed)
                  for value in levels for seed in range(n_varied)]
        found, which = run(points), f"accuracy{ending(name, method)}"
        if method == "in_silico" and f"{which}_renewed" in found[0]:
            which = "accuracy_renewed"
        start = 1.0 if (name, knob) == ("oscillators", "mismatch") else PLAIN.get(knob, name)
        cells = {start: trials(name, method)[:n_varied]}
        cells |= {value: found[n * n_varied:(n + 1) * n_varied] for n, value in enumerate(levels)}
        changed[name, knob, method] = {
            value: [one.get(which, one["accuracy"]) for one in some_trials]
            for value, some_trials in cells.items()}
        everything += [(name, knob, method, value, some_trials, which)
                       for value, some_trials in cells.items()]

# %% jupyter={"source_hidden": true}
STYLES = {"exact": ("#666666", "--"), "pat": (COLOURS["pat"], "-"), "dat": ("#56B4E9", "-"),
          "output_only": ("#CC79A7", "-"), "in_silico": (COLOURS["in_silico"], "-"),
          "noise_aware": (COLOURS["in_silico"], ":"), "refitted": ("#E69F00", "-"),
          "phyll": ("#999999", "-."), "spsa": ("#009E73", "-")}


def depth_of(name):
    return find(name).layers


def draw(panel, name, knob, title, x=lambda value, name, method: value):
    for method, (colour, line) in STYLES.items():
        if (name, knob, method) in changed:
            cells = sorted((x(value, name, method), found)
                           for value, found in changed[name, knob, method].items())
            at, found = zip(*cells, strict=True)
            error = [2 * np.std(f, ddof=min(1, len(f) - 1)) / len(f)**0.5 for f in found]
            panel.errorbar(at, [np.mean(f) for f in found], error, color=colour, linestyle=line,
                           marker=".", capsize=2, linewidth=1.1)
    panel.set(title=title, ylim=(0, 1.02))


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
fig, axes = plt.subplots(3, 3, figsize=(10, 8), sharey=True)
for panel, letter, (name, knob, title) in zip(axes.flat, "abcdefghi", PANELS, strict=False):
    depth = knob == "depth"
    draw(panel, name, knob, f"{letter}  {title}",
         (lambda value, *_: depth_of(value)) if depth else lambda value, *_: value)
    if knob == "noise":
        panel.set_xscale("log")
for panel in axes.flat[len(PANELS):]:
    panel.axis("off")
for panel in axes[:, 0]:
    panel.set_ylabel("test accuracy")
handles = [plt.Line2D([], [], color=c, linestyle=ls, label=CHANGED[m])
           for m, (c, ls) in STYLES.items() if m != "spsa"]
fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
save_figure(fig, NAME, "varied")

# %% jupyter={"source_hidden": true}
def passes_at(value, name, method):
    """Device passes of the trials at a share of the epochs."""
    some = next(found for *which, found, _ in everything
                if which == [name, "share", method, value])
    return np.mean([one["passes"] for one in some])


shown = [name for name in ("vowels_5", "function", "oscillators")
         if any(one[:2] == (name, "share") for one in changed)]
fig, axes = plt.subplots(1, len(shown) or 1, figsize=(10, 2.9), sharey=True, squeeze=False)
for panel, letter, name in zip(axes[0], "abc", shown, strict=False):
    draw(panel, name, "share", f"{letter}  {name}", passes_at)
    panel.set(xscale="log", xlabel="device passes, all counted")
axes[0, 0].set_ylabel("test accuracy")
used = {one[2] for one in changed if one[1] == "share"}
fig.legend(handles=[plt.Line2D([], [], color=c, linestyle=ls, label=CHANGED[m])
                    for m, (c, ls) in STYLES.items() if m in used],
           loc="outside lower center", ncols=6, fontsize=8)
save_figure(fig, NAME, "passes")

# %% [markdown]
# ## How good must a model be?
#
# Each point is one setting of one method that trains with a model: its accuracy relative to exact
# gradients in the same setting, against **a** the cosine of the twin, measured from readings alone
# before training, **b** the cosine of the gradient it follows where its training ends, **c** that
# of Adam's step, which divides each number's gradient by its root mean square. Only **a** can be
# measured in a laboratory, with four passes a row. If points of all systems fell on one curve, the
# cosine would say all; Spearman's rank correlation says how nearly they do.

# %%
collapse = []
for name in systems:
    for row in RANKED:
        if METHODS.get(row, METHODS["in_silico"]).model and trials(name, row):
            collapse.append((name, row, trials(name, row), f"accuracy{ending(name, row)}",
                             np.mean(values(name, "exact"))))
for name, knob, method, value, some, which in everything:
    plain = value in (PLAIN.get(knob), name)
    if knob in ("mismatch", "noise", "kind", "depth") and not plain and METHODS[method].model:
        ceiling = changed.get((name, knob, "exact"), {value: values(name, "exact")})[value]
        collapse.append((name, method, some, which, np.mean(ceiling)))
AXES = {"cosine": "cosine of the twin, measured", "gradient_end": "cosine of the gradient, end",
        "adam_end": "cosine of Adam's step, end"}
spots = []
for name, row, some, which, ceiling in collapse:
    if some := [one for one in some if all(what in one for what in AXES)]:  # noise may hide it
        accuracy = np.mean([one.get(which, one["accuracy"]) for one in some])
        spots.append({"system": name, "method": row, "relative": float(accuracy / ceiling), **{
            what: float(np.mean([one[what] for one in some])) for what in AXES}})

# %%
DEVICE_FORWARD = [m for m, method in METHODS.items() if method.model and not method.renewed]
ranks = {}
for group, chosen in (("device_forward", DEVICE_FORWARD),
                      ("others", [m for m in RANKED if m not in DEVICE_FORWARD])):
    these = [spot for spot in spots if spot["method"] in chosen]
    for what in AXES:
        found = scipy.stats.spearmanr([s[what] for s in these], [s["relative"] for s in these])
        ranks[f"{group}_{what}"] = {"spearman": float(found.statistic), "points": len(these)}
for what, label in AXES.items():
    one, other = ranks[f"device_forward_{what}"], ranks[f"others_{what}"]
    print(f"{label}: rank correlation {one['spearman']:.2f} over {one['points']} settings of PAT, "
          f"DAT and SAT with PAT, {other['spearman']:.2f} over {other['points']} of the others")

# %% jupyter={"source_hidden": true}
MARKS = dict(zip(systems, "osD^vX", strict=False))
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), sharey=True)
for panel, letter, (what, label) in zip(axes, "abc", AXES.items(), strict=True):
    for spot in spots:
        ours = spot["method"] in DEVICE_FORWARD
        panel.plot(spot[what], spot["relative"], MARKS[spot["system"]], markersize=4, alpha=0.7,
                   color=COLOURS["pat" if ours else "in_silico"],
                   markerfacecolor=COLOURS["pat"] if ours else "white")
    panel.set(title=f"{letter}  {label[0].upper()}{label[1:]}", xlabel="cosine", ylim=(0, 1.15))
axes[0].set_ylabel("accuracy / that of exact gradients")
handles = [plt.Line2D([], [], color="black", linestyle="", marker=mark, label=name)
           for name, mark in MARKS.items()]
handles += [plt.Line2D([], [], color=COLOURS["pat"], marker="o", linestyle="",
                       label="all states measured (PAT, DAT, SAT with PAT)"),
            plt.Line2D([], [], color=COLOURS["in_silico"], marker="o", linestyle="",
                       markerfacecolor="white", label="states of the model")]
fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
save_figure(fig, NAME, "collapse")

# %% [markdown]
# ## Which method, for your apparatus?
#
# Every line is made from the numbers above; *ahead*, *behind* and *ties* by the protocol's rule
# (points of accuracy, mean paired difference ± its error).

# %%
asked = 0  # comparisons so far


def against(a, b, when="epochs"):
    """Compare two rows on every system where both apply and exact gradients train."""
    global asked
    parts = {"ahead": [], "ties": [], "behind": []}
    for name in systems:
        found = compare(name, a, b, when) if opened[name] else None
        if found:
            asked += 1
            word = {1: "ahead", 0: "ties", -1: "behind"}[found["ahead"]]
            parts[word].append(f"{name} ({100 * found['difference']:+.1f} ± "
                               f"{100 * found['standard_error']:.1f})")
    shown = [f"{word} on {', '.join(some)}" if word != "ties" else f"ties on {', '.join(some)}"
             for word, some in parts.items() if some]
    return f"**{LABELS[a]}** against {LABELS[b]}: " + "; ".join(shown or ["no system"]) + "."


def mark(name, row, when="epochs"):
    found = values(name, row, when)
    return "" if found is None else f"{name} {100 * np.mean(found):.0f} %"


def marks(row, when="epochs"):
    return ", ".join(filter(None, (mark(name, row, when) for name in systems)))


# %%
QUESTIONS = {
    "Every layer can be read in training": [
        ("pat", "in_silico_restandardised"), ("pat", "noise_aware"), ("pat", "refitted"),
        ("dat", "pat"), ("sat_pat", "pat"), ("pat", "exact")],
    "Only the last layer can be read": [
        ("noise_aware", "in_silico_restandardised"), ("output_only", "noise_aware"),
        ("asyt", "noise_aware"), ("asyt", "output_only")],
    "The device is met at the end": [
        ("in_silico_restandardised", "in_silico"), ("noise_aware", "sat"),
        ("sat", "in_silico_restandardised")]}
lines = []
for question, pairs in QUESTIONS.items():
    lines += [f"### {question}", "", *(f"- {against(*pair)}" for pair in pairs), ""]
lines += ["### As many passes as PAT and its twin make, spent otherwise", ""]
lines += [f"- {against('pat', other, 'passes')}" for other in (
    "in_silico_restandardised", "noise_aware", "refitted", "spsa", "dfa")]
lines += ["", "### No model can be had", "",
          f"- SPSA, equal epochs: {marks('spsa')}; DFA: {marks('dfa')}; augmented DFA: "
          f"{marks('augmented_dfa')}; PAT: {marks('pat')}.",
          f"- PhyLL, whose own network has digital layers: {marks('phyll')}."]
display(Markdown("\n".join(lines)))

# %%
def afforded(name, method):
    """What a method reads after how many passes."""
    cells = changed.get((name, "share", method), {})
    found = [(passes_at(value, name, method), np.mean(cells[value])) for value in sorted(cells)]
    return ", ".join(f"{100 * accuracy:.0f} % after {passes:,.0f}" for passes, accuracy in found)


lines = ["### So many passes can be afforded", "",
         "The twin's are counted; divide by your device's passes a second.", ""]
lines += [f"- {name}, {CHANGED[method]}: {afforded(name, method)}." for name in shown
          for method in STYLES if (name, "share", method) in changed]
display(Markdown("\n".join(lines)))


# %%
def moved(name, knob, a, b):
    """Two methods where one thing is varied most."""
    one, other = (changed.get((name, knob, method)) for method in (a, b))
    if not (one and other and opened[name]):
        return []
    global asked
    asked += 1
    value = list(one)[-1]
    found = plan.compared(one[value], other[value], name)
    word = {1: "is ahead of", 0: "ties with", -1: "is behind"}[found["ahead"]]
    return [f"- {name}, {knob} {value}: {CHANGED[a]} {word} {CHANGED[b]} "
            f"({100 * np.mean(one[value]):.0f} and {100 * np.mean(other[value]):.0f} %, "
            f"{100 * found['difference']:+.1f} ± {100 * found['standard_error']:.1f})."]


lines = ["### The device has changed since its model was measured, is noisy, or drifts", ""]
for name, knob in (("vowels_5", "mismatch"), ("function", "mismatch"), ("oscillators", "mismatch"),
                   ("vowels_5", "noise"), ("function", "noise"), ("function", "drift"),
                   ("vowels_5", "kind"), ("function", "kind"), ("circuit", "kind")):
    if name in systems:
        for a, b in (("pat", "in_silico"), ("dat", "pat"), ("pat", "refitted")):
            lines += moved(name, knob, a, b)
display(Markdown("\n".join(lines)))

# %%
after, lines = {}, ["### It drifts after deployment", ""]
for name, levels in plan.AFTER.items():
    for row in ("pat", "noise_aware") if name in systems else ():
        for level in levels:
            was, matched = zip(*(one["after"][str(level)] for one in trials(name, row)),
                               strict=True)
            after[f"{row}_{name}_{level}"] = {"as_it_was": summary(was),
                                              "constants_matched": summary(matched)}
            found = plan.compared(matched, was, name)
            asked += 1
            word = {1: "helps", 0: "changes nothing that is resolved", -1: "harms"}
            lines.append(f"- {LABELS[row]}, {name}, changed by {level:g}: "
                         f"{100 * np.mean(was):.0f} %; to match the constants, "
                         f"{100 * np.mean(matched):.0f} %, "
                         f"{word[found['ahead']]} ({100 * found['difference']:+.1f} ± "
                         f"{100 * found['standard_error']:.1f}).")
one, other = ranks["device_forward_cosine"], ranks["others_cosine"]
lines += ["", "### How good must the model be?", "",
          f"- Rank correlation of the measured cosine with accuracy relative to exact gradients: "
          f"{one['spearman']:.2f} over {one['points']} settings where all states are measured, "
          f"{other['spearman']:.2f} over {other['points']} where the model's are used.", "",
          f"{asked} comparisons stand on this page; of twenty true ties one may be called a lead."]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A part of it again
#
# Points of one seed are run again, here and now, twins included, and compared with the table.

# %%
candidates = [point for point in map(json.loads, table) if point["seed"] == seed_again
              and point["system"] in systems]
order = np.random.default_rng(seed_again).permutation(len(candidates))
chosen = sorted((candidates[n] for n in order), key=plan.seconds if n_again < 10 else lambda p: 0)
chosen = chosen[:min(3 if retrain else n_again, len(table) // 10)]
again_file = files.SWEEPS / f"{NAME}-again-{WORK.stem[-12:]}.jsonl"
again = experiment.sweep(partial(trial, TWINS), chosen, again_file, scheduler=scheduler, jobs=jobs)
gaps = np.array([new["accuracy"] - table[key(point)]["accuracy"]
                 for new, point in zip(again, chosen, strict=True)])
same = sum(new == table[key(point)] for new, point in zip(again, chosen, strict=True))
rerun = {"points": len(chosen), "identical": same, "mean_gap": float(gaps.mean()),
         "largest_gap": float(abs(gaps).max())}
print(f"{len(chosen)} of {len(table)} points run again: {same} identical in every number; "
      f"accuracy differs by {100 * gaps.mean():+.2f} points on average, "
      f"{100 * abs(gaps).max():.2f} at most")
assert abs(gaps.mean()) < 0.05, "the table is not what this code computes"
again_file.unlink()

# %%
results, pairs = {}, {}
for name in systems:
    for row in ROWS:
        for when, suffix in (("epochs", ""), ("passes", "_equal_passes")):
            found = values(name, row, when)
            if found is None or (suffix and (name, row.replace("_restandardised", ""), when)
                                 not in done):
                continue
            some = trials(name, row, when)
            results[f"{row}{suffix}_{name}"] = {
                "accuracy": summary(found), "train_accuracy": summary(
                    values(name, row, when, "train")),
                "passes": summary(one["passes"] for one in some),
                "laboratory_s": summary(one["laboratory_s"] for one in some),
                "digital_macs": summary(one.get("macs", 0) for one in some),
                **{what: summary(one[what] for one in some) for what in (
                    "cosine", "gradient_start", "gradient_end", "adam_start", "adam_end")
                   if all(what in one for one in some)}}
            if row not in ("pat", "exact"):
                pairs[f"pat_minus_{row}{suffix}_{name}"] = compare(name, "pat", row, when)

# %%
for name in systems:
    if (equal := f"in_silico_restandardised_equal_passes_{name}") in results:
        results[f"in_silico_all_passes_{name}"] = results.pop(equal)
curves = {f"{name}_{knob}_{method}": [{"value": value, "accuracy": summary(found)}
                                      for value, found in cells.items()]
          for (name, knob, method), cells in changed.items()}
spent = sum(one["passes"] for one in table.values())
write_metrics(NAME, profile, results, cost=cost.read(spent), seeds=range(n_seeds), data={
    "name": "vowels, MNIST, digits of scikit-learn",
    "sha256": fetch.FILES["mnist"]["train-images-idx3-ubyte"]}, paired=pairs, varied=curves,
    after_deployment=after, collapse={"ranks": ranks, "settings": spots}, rerun=rerun,
    searches={"_".join(case): choice._asdict() for case, choice in best.items()},
    gate={name: bool(value) for name, value in opened.items()}, n_copies=COPIES)
if retrain:  # all is done: the table takes the place of an older one
    files.write_text(TABLE, "".join(json.dumps({"point": json.loads(one), "result": result}) + "\n"
                                    for one, result in table.items()))
    for path in (WORK, WORK.with_suffix(".twins"), *TWINS.glob("*")):
        path.unlink()
