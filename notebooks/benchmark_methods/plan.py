"""What notebook 09 runs: searches, final trials and what is varied, as points of `trial`."""

import numpy as np
import scipy.stats

from notebooks.benchmark_methods.systems import COPIES, SYSTEMS
from notebooks.benchmark_methods.trial import METHODS, applies, find
from pnn_utils import experiment

# n_test / n_train where the splits of different seeds share rows; elsewhere the rows are drawn
# from many more.
OVERLAP = {"vowels": 49 / 210, "function": 500 / 1000}
LEAST = 0.005  # differences below half a point are ties whatever their error
AFTER = {"vowels_3": [0.5, 1.0], "vowels_5": [0.5, 1.0], "function": [1.0, 3.0]}
# Seconds of processor time of a training, exact or PAT, at full schedule, and what others take.
SECONDS = {"vowels": 0.6, "plate": 4.0, "circuit": 9.0, "oscillators": 6.0, "function": 1.0}
SHARES = {"dat": 2.5, "sat_pat": 1.8, "sat": 1.3, "in_silico": 0.6, "noise_aware": 0.7,
          "refitted": 1.5, "spsa": 1.4, "phyll": 1.8}


def setting(name, method, table):
    """Return how a method is run so that all methods have equal "epochs", or equal "passes".

    Equal passes are those of PAT with its twin's. Who has no twin trains longer; who needs two
    passes a step, shorter; who trains without the device has the twin fitted to all of them.
    """
    system, spent = find(name), METHODS[method].passes
    in_training = system.n_train * system.layers * system.epochs
    if table == "epochs" or method == "exact":
        return {}
    if spent == 0:
        return {"kind": "all_passes"} if system.pairs else {}
    left = in_training + (0 if METHODS[method].model else system.pairs)
    share = round(left / in_training / spent, 3)
    return {"share": share} if share != 1 else {}


def cases(systems=SYSTEMS, methods=METHODS):
    """Return the (system, method, table) that a rate is searched for, each setting once."""
    return [(name, method, table) for name in systems for method in methods
            for table in ("epochs", "passes") if applies(name, method)
            and (table == "epochs" or setting(name, method, table))]


def point(case, rate, seed, **changes):
    name, method, table = case
    return dict(system=name, method=method, seed=seed, rate=rate,
                **setting(name, method, table) | changes)


def final(case, rate, seeds):
    """Return the final trials of a case: a change after deployment is met by the same network."""
    after = {"after": AFTER[case[0]]} if case[0] in AFTER and case[1] != "phyll" else {}
    return [point(case, rate, seed, **after) for seed in range(seeds)]


# What is varied: system, name of the knob, its values, methods.
MAIN = ("exact", "pat", "dat", "output_only", "in_silico", "noise_aware")
VARIED = [
    ("vowels_5", "mismatch", [0.25, 0.5, 1.0], (*MAIN, "refitted")),
    ("function", "mismatch", [1.0, 3.0, 5.0], (*MAIN, "refitted")),
    ("oscillators", "mismatch", [0.0, 2.0], MAIN),
    ("vowels_5", "noise", [3.0, 10.0], MAIN),
    ("function", "noise", [5.0, 20.0], MAIN),
    ("oscillators", "noise", [5.0, 10.0], MAIN),
    ("function", "drift", [1.0, 5.0], ("pat", "dat", "in_silico", "refitted", "phyll")),
    ("vowels_5", "kind", ["tenth", "thirtieth"], ("pat", "dat", "in_silico")),
    ("function", "kind", ["tenth", "thirtieth"], ("pat", "dat", "in_silico")),
    ("circuit", "kind", ["own", "tenth"], ("pat", "dat", "in_silico")),
    ("plate", "kind", ["perceptron"], ("pat", "dat", "in_silico")),
    ("vowels_5", "share", [0.1, 0.25, 0.5, 2.0], ("pat", "dat", "noise_aware", "phyll")),
    ("function", "share", [0.1, 0.25, 0.5, 2.0], ("pat", "dat", "in_silico", "phyll")),
    ("oscillators", "share", [0.2, 0.5, 2.0], ("pat", "dat", "in_silico", "phyll")),
    ("vowels_5", "share", [4.0, 16.0], ("spsa",)),
    ("function", "share", [4.0, 16.0], ("spsa",))]
DEPTHS = {"vowels_5": ["vowels_2", "vowels_8"], "function": ["function_2", "function_8"]}


def varied(system, knob, value, method, rate, seed):
    """Return a point with one thing varied, at the rate found for the plain one."""
    changes = {"depth": {"system": value}}.get(knob, {knob: value})
    if knob == "drift":
        changes |= {"passes": passes_of(system), "cosines": False}
    return point((system, method, "epochs"), rate, seed) | changes


def passes_of(name):
    """Return the passes in which a drift is completed: those of PAT's training."""
    system = find(name)
    return system.n_train * system.layers * system.epochs


def all_varied(rates, seeds):
    """Return the points of everything that is varied; rates by (system, method)."""
    rows = [*VARIED, *((name, "depth", depths, MAIN) for name, depths in DEPTHS.items())]
    return [varied(name, knob, value, method, rates[name, method], seed)
            for name, knob, values, methods in rows for value in values for method in methods
            for seed in range(seeds)]


def seconds(one):
    """Return about how much processor time a point takes."""
    system = find(one["system"])
    base, _, _ = one["system"].partition("_")
    layers = system.layers if base in ("vowels", "function") else 1
    return 0.5 + (SECONDS[base] * layers * SHARES.get(one["method"], 1.0) * one.get("share", 1.0))


def compared(a, b, name):
    """Compare two methods' accuracies, by seed: experiment.paired, and who is ahead, if anyone.

    The error is the larger of two: over seeds, with the factor for overlapping splits, and over
    copies of the device, of which there are few. "ahead" is 1, -1 or 0, a tie: a difference below
    `LEAST`, or within the error times Student's 97.5 % quantile for so many copies.
    """
    found = experiment.paired(a, b, OVERLAP.get(name.partition("_")[0], 0.0))
    by_copy = [np.mean(np.subtract(a, b)[copy::COPIES]) for copy in range(min(COPIES, len(a)))]
    few = len(by_copy)
    if few > 1:
        over_copies = float(np.std(by_copy, ddof=1) / few**0.5)
        found["standard_error"] = max(found["standard_error"], over_copies)
        least = scipy.stats.t.ppf(0.975, few - 1) * found["standard_error"]
    else:
        least = np.inf
    difference = found["difference"]
    found["ahead"] = int(np.sign(difference)) if abs(difference) > max(LEAST, least) else 0
    return found
