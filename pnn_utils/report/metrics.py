"""Numbers of a finished notebook: summed up, and written."""

import statistics
import sys
import time

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

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes, Linux: KiB
        peak /= 2**20 if sys.platform == "darwin" else 2**10
        return {"device_passes": int(device_passes), "peak_rss_mb": round(peak, 1),
                "wall_s": round(time.perf_counter() - self.start, 1)}


def write_metrics(notebook, profile, results, seeds=(), **fields):
    """Write ``data/metrics/<notebook>.json``; NaN and infinity are refused.

    notebook, profile : name without suffix; "quick" or "full"
    results : {method: {quantity: summary}}; an ``accuracy`` is a fraction of the test set
    **fields : ``baselines`` as results, ``paper`` {method: float}, ``cost`` from `Cost.read`,
        ``data`` {"name", "sha256"}, and more fields of plain JSON types
    """
    given = {"notebook": notebook, "profile": profile, "results": results, "seeds": [*seeds]}
    files.write_json(files.METRICS / f"{notebook}.json", FIELDS | fields | given)
