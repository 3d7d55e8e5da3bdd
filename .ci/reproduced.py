"""Are the numbers reproduced? ``python .ci/reproduced.py OLD_FOLDER`` (``make reproduce``).

Compares the notebooks' metrics with older ones; exits with 1 if they disagree.
"""

import json
import math
import sys
from pathlib import Path

from scipy import stats

from pnn_utils import files
from pnn_utils.report.metrics import FIELDS

SHARES = {"gaps": 1e-12, "twin": 0.05}  # of its size that a single number of these may move


def read_metrics(path):
    """Read what `write_metrics` wrote.

    Raises
    ------
    ValueError
        If the file is no JSON, or one of the fixed fields or a part of a summary is missing or of
        another type; names it.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        for name, empty in FIELDS.items():
            if not isinstance(content[name], type(empty)):
                raise TypeError(f"{name} is not a {type(empty).__name__}")
        content.get("skipped", {}).items()
        list(_quantities(content))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is damaged or no metrics file: {error!r}") from error
    return content


def compare(old_folder, new_folder=files.METRICS):
    """Compare every older metrics file with its new counterpart; see `_quantities` for how far.

    Tolerances come from the older numbers alone: a new run's wide spread does not excuse it. What
    a notebook leaves out because a program is missing it names in ``skipped``, by the ending of
    its quantities' names, with the reason. Returns (notebook, quantity, old, new, tolerance,
    verdict) for each.

    Raises
    ------
    FileNotFoundError, ValueError
        If `old_folder` holds no metrics: comparing nothing is not agreement; if a file is damaged.
    """
    rows = []
    for path in sorted(Path(old_folder).glob("*.json")):
        old, fresh = read_metrics(path), Path(new_folder) / path.name
        new = read_metrics(fresh) if fresh.exists() else FIELDS | {"data": old["data"]}
        found = {name: value for name, value, _ in _quantities(new)}
        for name, value, allowed in _quantities(old):
            verdict = _verdict(old, new, name, value, found.get(name), allowed)
            rows.append((old["notebook"], name, value, found.get(name), allowed, verdict))
    if not rows:
        raise FileNotFoundError(f"{old_folder} holds no metrics (NN_name.json) to compare with")
    return rows


def _verdict(old, new, name, value, found, allowed):
    if old["data"].get("name") != new["data"].get("name"):
        return "not compared: other data"  # which may well lack a quantity
    if found is None:
        skipped = new.get("skipped", {}).items()
        reasons = [reason for ending, reason in skipped if f"_{ending}" in name]
        return f"not compared: {reasons[0]}" if reasons else "MISSING"
    if old["profile"] != new["profile"]:
        return "OTHER PROFILE"
    return "reproduced" if abs(found - value) <= allowed else "DIFFERS"


def _quantities(content, name=""):
    """Yield (dotted name, number, how far another may lie from it) of all that is compared.

    The mean of a summary may move by t sd sqrt(2 / n), t being Student's 95 % factor for the
    difference of two such means (2.78 at n = 3, 2.10 at 10); outside of results and baselines,
    where they are many, by half as much again; an accuracy, which another processor's rounding
    moves, at least by 0.01. Of single numbers `SHARES` are compared, costs not.
    """
    group = name.partition(".")[0]
    if isinstance(content, list):
        content = dict(enumerate(content))
    if isinstance(content, dict) and {"mean", "sd"}.isdisjoint(content):
        for key, value in content.items():
            yield from _quantities(value, f"{name}.{key}" if name else key)
    elif isinstance(content, dict):
        factor = 1 if group in ("results", "baselines") else 1.5
        errors = factor * stats.t.ppf(0.975, max(1, 2 * content["n"] - 2))
        spread = errors * content["sd"] * math.sqrt(2 / content["n"])
        least = 0.01 if "accuracy" in name else 1e-12 * max(1.0, abs(content["mean"]))
        yield name, content["mean"], max(spread, least)
    elif group in SHARES:
        yield name, content, max(1e-12, SHARES[group] * abs(content))


def print_comparison(rows):
    """Print the comparison as a table; return the number of rows that disagree."""
    print(f"{'notebook':<16} {'metric':<55} {'committed':>12} {'new':>12} {'tolerance':>10}")
    for notebook, name, old, new, allowed, verdict in rows:
        shown = "-" if new is None else f"{new:.6g}"
        print(f"{notebook:<16} {name:<55} {old:>12.6g} {shown:>12} {allowed:>10.2g}  {verdict}")
    good, skipped = (sum(row[-1].startswith(v) for row in rows) for v in ("repr", "not compared"))
    bad = len(rows) - good - skipped
    print(f"{good} of {len(rows)} metrics reproduced, {skipped} not compared, {bad} DO NOT AGREE")
    return bad


if __name__ == "__main__":
    sys.exit(min(1, print_comparison(compare(sys.argv[1]))))
