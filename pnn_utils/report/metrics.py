"""Numbers of a finished notebook: written, and compared with the committed ones.

    python -m pnn_utils.report.metrics compare OLD_FOLDER     new metrics against older ones; exit 1 if they disagree
"""

import argparse
import json
import math
import numbers
import resource
import statistics
import sys
import time
from pathlib import Path

from pnn_utils import paths
from pnn_utils.files import write_json


def summary(values):
    """Return {"mean", "sd", "n", "values"} of a sequence of finite numbers; sd has n - 1 below it, 0 for n = 1.

    Raises
    ------
    ValueError
        If there is no value, or one is not a finite number, or too large to be squared.
    """
    try:
        values = [float(v) for v in values]
    except (TypeError, OverflowError) as error:
        raise ValueError(f"values are {values}; expected numbers ({error})") from error
    if not values or not all(abs(v) < 1e150 for v in values):
        raise ValueError(f"values are {values}; expected at least one, all finite and below 1e150")
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values), "values": values}


class Cost:
    """Stopwatch of a notebook: wall time and peak memory since it was made, device passes as told."""

    def __init__(self):
        self.start = time.perf_counter()

    def read(self, device_passes):
        """Return {"device_passes", "wall_s", "peak_rss_mb"}.

        Raises
        ------
        ValueError
            If `device_passes` is not a whole number of at least 0.
        """
        if not isinstance(device_passes, numbers.Integral) or device_passes < 0:
            raise ValueError(f"device_passes is {device_passes!r}; expected a whole number of at least 0")
        # Linux counts in KiB, macOS in bytes.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        return {"device_passes": int(device_passes), "wall_s": round(time.perf_counter() - self.start, 1),
                "peak_rss_mb": round(peak, 1)}


def write_metrics(notebook, profile, results, *, paper=None, baselines=None, cost=None, seeds=(), data=None, **extra):
    """Write ``data/metrics/<notebook>.json``.

    Parameters
    ----------
    notebook : str
        Name without suffix.
    profile : {"quick", "full"}
    results, baselines : dict of {method: {quantity: summary}}
        Summaries as `summary` makes them; an ``accuracy`` is a fraction of the test set.
    paper : dict of {method: float}
        The paper's numbers.
    cost : dict, from `Cost.read`
    seeds : sequence of int
    data : dict with "name" and "sha256"
    **extra
        More fields of plain JSON types.

    Raises
    ------
    TypeError
        If something is not of plain JSON types.
    OSError
        If the file cannot be written.
    ValueError
        If the profile is unknown, a summary is incomplete, an accuracy lies outside [0, 1], or a number is NaN or infinite.
    """
    if profile not in ("quick", "full"):
        raise ValueError(f"profile is {profile!r}; expected 'quick' or 'full'")
    for group in (results, baselines or {}):
        for method, quantities in group.items():
            for quantity, value in quantities.items():
                if not isinstance(value, dict) or set(value) != {"mean", "sd", "n", "values"}:
                    raise ValueError(f"{method}.{quantity} is {value!r}; expected the fields of summary()")
                if quantity == "accuracy" and not all(0 <= v <= 1 for v in value["values"]):
                    raise ValueError(f"{method}.accuracy has values {value['values']}; expected fractions in [0, 1]")
    content = {"notebook": notebook, "profile": profile, "results": results, "paper": paper or {},
               "baselines": baselines or {}, "cost": cost or {}, "seeds": list(seeds), "data": data or {}, **extra}
    write_json(paths.METRICS / f"{notebook}.json", content)


def read_metrics(path):
    """Read what `write_metrics` wrote.

    Raises
    ------
    ValueError
        If the file is no JSON, or lacks one of the fixed fields or a part of a summary; names it.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        missing = {"notebook", "profile", "results", "paper", "baselines", "cost", "seeds", "data"} - set(content)
        if missing:
            raise KeyError(sorted(missing)[0])
        if not isinstance(content["notebook"], str) or not all(isinstance(content[name], dict) for name in ("paper", "data")):
            raise TypeError("notebook, paper or data is of another type")
        if not all(isinstance(value, int | float) for value in content["paper"].values()) or not isinstance(content.get("skipped", {}), dict):
            raise TypeError("paper or skipped is of another type")
        list(_quantities(content))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is damaged or no metrics file ({type(error).__name__}: {error}); its notebook writes it anew") from error
    return content


def compare(old_folder, new_folder=None):
    """Compare every committed metrics file with its new counterpart.

    Tolerances come from the committed numbers alone, so that a new run with a wide spread cannot excuse itself. A
    summary's mean may move by two standard errors of a difference between two such means, 2 sd sqrt(2 / n), an accuracy at
    least by 0.01: a single fit is no different, another processor's rounding moves it too. What is no accuracy and has no
    spread (sd 0 or n 1) may move by 1e-12. Gaps may move by 1e-12,
    quality numbers of a fit (``twin``) by 5 %. Summaries outside of results and baselines (maps, comparisons of models) are many:
    theirs may move by three standard errors. Costs stand in the files and are not compared. What a notebook leaves out because a program is
    missing it names in ``skipped``, by the ending of its quantities' names, with the reason; that is no disagreement.

    Parameters
    ----------
    old_folder, new_folder : path
        New defaults to `paths.METRICS`.

    Returns
    -------
    list of (notebook, quantity, old, new, tolerance, verdict)
        Verdicts: "reproduced", "DIFFERS", "MISSING", "OTHER PROFILE", "other data, not compared", "not compared: " and a reason.

    Raises
    ------
    FileNotFoundError
        If `old_folder` holds no metrics: comparing nothing is not agreement.
    ValueError
        If a file is damaged; see `read_metrics`.
    """
    old_paths, rows = sorted(Path(old_folder).glob("*.json")), []
    if not old_paths:
        raise FileNotFoundError(f"{old_folder} holds no metrics to compare with; expected NN_name.json files")
    new_folder = Path(new_folder or paths.METRICS)
    for old_path in old_paths:
        old, new_path = read_metrics(old_path), new_folder / old_path.name
        new = read_metrics(new_path) if new_path.exists() else {}
        other = bool(new) and old["data"].get("name") != new["data"].get("name")
        new_values = dict(_quantities(new))
        for name, (value, allowed) in _quantities(old):
            found = new_values.get(name, (None, 0.0))[0]
            if other:  # first: other data may well lack a quantity
                verdict = "other data, not compared"
            elif found is None:
                reasons = [reason for ending, reason in new.get("skipped", {}).items() if f"_{ending}" in name]
                verdict = f"not compared: {reasons[0]}" if reasons else "MISSING"
            elif old["profile"] != new["profile"]:
                verdict = "OTHER PROFILE"
            else:
                close = abs(found - value) <= max(allowed, 1e-12 * abs(value))
                verdict = "reproduced" if close else "DIFFERS"
            rows.append((old["notebook"], name, value, found, allowed, verdict))
    return rows


def _quantities(metrics):
    """Yield (name, (value, tolerance)) for each compared number of a metrics file."""
    for group in ("results", "baselines"):
        for method, quantities in metrics.get(group, {}).items():
            for quantity, value in quantities.items():
                yield f"{group}.{method}.{quantity}", (value["mean"], _tolerance(value, quantity == "accuracy", 2))
    others = {name: value for name, value in metrics.items() if name not in ("results", "baselines", "paper", "cost")}
    for name, value in _summaries(others, ""):
        yield name, (value["mean"], _tolerance(value, "accuracy" in name, 3))
    for i, n in enumerate(metrics.get("gaps", {}).get("n", [])):
        for method in ("forward", "in_silico", "pat"):
            yield f"gaps.{method}[n={n}]", (metrics["gaps"][method][i], 1e-12)
    for name, value in metrics.get("twin", {}).items():
        yield f"twin.{name}", (value, 0.05 * abs(value))


def _tolerance(value, is_accuracy, errors):
    allowed = errors * value["sd"] * math.sqrt(2 / value["n"])
    return max(0.01 if is_accuracy else 1e-12, allowed)


def _summaries(content, name):
    """Yield (dotted name, summary) of every summary inside dicts and lists."""
    if isinstance(content, dict) and set(content) == {"mean", "sd", "n", "values"}:
        yield name, content
    elif isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _summaries(value, f"{name}.{key}" if name else str(key))


def print_comparison(rows):
    """Print the comparison as a table; return the number of rows that disagree."""
    print(f"{'notebook':<16} {'metric':<55} {'committed':>12} {'new':>12} {'tolerance':>10}  verdict")
    for notebook, name, old, new, tolerance, verdict in rows:
        shown = "-" if new is None else f"{new:.6g}"
        print(f"{notebook:<16} {name:<55} {old:>12.6g} {shown:>12} {tolerance:>10.2g}  {verdict}")
    bad = sum(row[-1] in ("DIFFERS", "MISSING", "OTHER PROFILE") for row in rows)
    skipped = sum("not compared" in row[-1] for row in rows)
    print(f"{len(rows) - bad - skipped} of {len(rows)} metrics reproduced" + (f", {skipped} not compared" if skipped else "")
          + (f", {bad} DO NOT AGREE" if bad else ""))
    return bad


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.report.metrics")
    parser.add_argument("command", choices=["compare"])
    parser.add_argument("old", type=Path)
    options = parser.parse_args(arguments)
    try:
        return 1 if print_comparison(compare(options.old)) else 0
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
