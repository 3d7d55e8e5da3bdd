"""Numbers of a finished notebook: written, and compared with older ones.

``python -m pnn_utils.report.metrics compare OLD_FOLDER`` exits with 1 if they disagree.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

from pnn_utils import files

FIELDS = {"notebook": "", "profile": "", "results": {}, "paper": {}, "baselines": {}, "cost": {},
          "seeds": [], "data": {}}  # each empty


def summary(values):
    """Return {"mean", "sd", "n", "values"} of numbers; sd has n - 1 below it, 0 for n = 1."""
    values = [float(v) for v in values]
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values), "values": values}


class Cost:
    """Stopwatch of a notebook: wall time and peak memory since it was made."""

    def __init__(self):
        self.start = time.perf_counter()

    def read(self, device_passes):
        """Return {"device_passes", "wall_s", "peak_rss_mb"}."""
        import resource  # Windows has none

        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes, Linux in KiB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        return {"device_passes": int(device_passes), "peak_rss_mb": round(peak, 1),
                "wall_s": round(time.perf_counter() - self.start, 1)}


def write_metrics(notebook, profile, results, seeds=(), **fields):
    """Write ``data/metrics/<notebook>.json``; NaN and infinity are refused.

    Parameters
    ----------
    notebook, profile : str
        Name without suffix; "quick" or "full".
    results : dict of {method: {quantity: summary}}
        An ``accuracy`` is a fraction of the test set.
    seeds : iterable of int
    **fields
        ``baselines`` as results, ``paper`` {method: float}, ``cost`` from `Cost.read`,
        ``data`` {"name", "sha256"}, and more fields of plain JSON types.
    """
    given = {"notebook": notebook, "profile": profile, "results": results, "seeds": [*seeds]}
    files.write_json(files.METRICS / f"{notebook}.json", FIELDS | fields | given)


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
        sum(content["paper"].values())
        content.get("skipped", {}).items()
        list(_quantities(content))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is damaged or no metrics file ({error!r}); "
                         "its notebook writes it anew") from error
    return content


def compare(old_folder, new_folder=files.METRICS):
    """Compare every older metrics file with its new counterpart.

    Tolerances come from the older numbers alone, so that a new run with a wide spread cannot
    excuse itself. The mean of a summary may move by two standard errors of a difference between
    two such means, 2 sd sqrt(2 / n); outside of results and baselines, where they are many, by
    three; an accuracy at least by 0.01: a single fit is no different, another processor's rounding
    moves it, too. Other numbers may move by 1e-12 of their size, quality numbers of a fit
    (``twin``) by 5 %; costs are not compared. What a notebook leaves out because a program is
    missing it names in ``skipped``, by the ending of its quantities' names, with the reason.

    Returns
    -------
    list of (notebook, quantity, old, new, tolerance, verdict)
        Verdicts: "reproduced", "DIFFERS", "MISSING", "OTHER PROFILE", "not compared: " and why.

    Raises
    ------
    FileNotFoundError
        If `old_folder` holds no metrics: comparing nothing is not agreement.
    ValueError
        If a file is damaged; see `read_metrics`.
    """
    rows = []
    for path in sorted(Path(old_folder).glob("*.json")):
        old, fresh = read_metrics(path), Path(new_folder) / path.name
        new = read_metrics(fresh) if fresh.exists() else FIELDS | {"data": old["data"]}
        found = dict(_quantities(new))
        for name, (value, allowed) in _quantities(old):
            mean = found.get(name, (None,))[0]
            verdict = _verdict(old, new, name, value, mean, allowed)
            rows.append((old["notebook"], name, value, mean, allowed, verdict))
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
    return "reproduced" if abs(found - value) <= max(allowed, 1e-12 * abs(value)) else "DIFFERS"


def _quantities(metrics):
    """Yield (name, (value, tolerance)) for each compared number of a metrics file."""
    for group in ("results", "baselines"):
        for method, quantities in metrics[group].items():
            for quantity, value in quantities.items():
                yield f"{group}.{method}.{quantity}", _band(value, quantity == "accuracy", 2)
    others = {name: value for name, value in metrics.items() if name not in FIELDS}
    for name, value in _summaries(others):
        yield name, _band(value, "accuracy" in name, 3)
    for i, n in enumerate(metrics.get("gaps", {}).get("n", [])):
        for method in ("forward", "in_silico", "pat"):
            yield f"gaps.{method}[n={n}]", (metrics["gaps"][method][i], 1e-12)
    for name, value in metrics.get("twin", {}).items():
        yield f"twin.{name}", (value, 0.05 * abs(value))


def _band(value, is_accuracy, errors):
    """Return the mean of a summary and how far another may lie from it."""
    allowed = errors * value["sd"] * math.sqrt(2 / value["n"])
    return value["mean"], max(0.01 if is_accuracy else 1e-12, allowed)


def _summaries(content, name=""):
    """Yield (dotted name, summary) of every summary inside dicts and lists."""
    if isinstance(content, dict) and set(content) == {"mean", "sd", "n", "values"}:
        yield name[1:], content
    elif isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _summaries(value, f"{name}.{key}")


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


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.report.metrics")
    parser.add_argument("command", choices=["compare"])
    parser.add_argument("folder", help="older metrics")
    try:
        return min(1, print_comparison(compare(parser.parse_args(arguments).folder)))
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
