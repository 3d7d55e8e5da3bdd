"""Map a trial over settings and seeds: in this process, on local ones, or on a Dask cluster.

Whatever the scheduler, a point gives the same result, for it takes all its randomness from its own
settings and runs with one thread of linear algebra. A file takes the results as they come, so that
a stopped sweep goes on where it was.
"""

import contextlib
import hashlib
import itertools
import json
import traceback
from collections import namedtuple
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed, parallel_config
from scipy import special
from threadpoolctl import threadpool_limits
from tqdm import tqdm  # the plain bar heeds TQDM_DISABLE, which keeps bars out of outputs

from pnn_utils import files


class SweepError(RuntimeError):
    """Some points failed."""


def grid(**settings):
    """Return all combinations of the given lists, as dicts, the last name varying fastest.

    >>> grid(depth=[1], seed=range(2))
    [{'depth': 1, 'seed': 0}, {'depth': 1, 'seed': 1}]
    """
    return [dict(zip(settings, values, strict=True))
            for values in itertools.product(*settings.values())]


def results_file(notebook, **settings):
    """Return the file of a notebook's results, one that no other code and no other settings share.

    `settings` are what trials depend on beside their points.
    """
    sources = files.SOURCES / f"{notebook}.py", *sorted((files.ROOT / "pnn_utils").rglob("*.py"))
    told = json.dumps(settings, sort_keys=True).encode(), b"".join(map(Path.read_bytes, sources))
    digests = [hashlib.sha256(part).hexdigest()[:8] for part in told]
    return files.SWEEPS / f"{'-'.join([notebook, *digests])}.jsonl"


def search_file(notebook, again=False, **settings):
    """Return the file of a search's results; it holds those that are committed for these settings.

    A search takes as long as the trainings that it is for, so that what it found is committed,
    under a name that depends on the settings and not on the code. `again` knows nothing of that.
    """
    path = results_file(notebook, **settings)
    if again:
        return path.with_suffix(".again.jsonl")
    if (kept := _place(files.ROOT, path)).exists() and not path.exists():  # else: goes on
        files.write_text(path, kept.read_text("utf-8"))
    return path


def keep_search(path):
    """Move the results of a whole search, the file `path`, to the place of what is committed."""
    files.write_text(_place(files.RESULTS, path), path.read_text("utf-8"))
    path.unlink()


def left_or_trained(name, settings, training, again=False):
    """Return a long training's weights, and what is told of it: as committed, or trained now.

    It leaves ``data/weights/<name>.safetensors``, which is committed. A run that finds its own
    `settings` there takes the weights, unless it is to train `again`; any other trains.

    settings : dict of plain JSON types: all that the training depends on, but the code
    training : ``training()`` returns a dict of tensors and a dict of plain JSON types
    """
    place = Path("data", "weights", f"{name}.safetensors")
    if (files.ROOT / place).exists() and not again:
        weights, about = files.load_tensors(files.ROOT / place)
        if about["settings"] == settings:
            return weights, about
    weights, told = training()
    files.save_tensors(files.RESULTS / place, weights, about := {"settings": settings, **told})
    return weights, about


def _place(root, path):
    return root / "data" / "searches" / f"{path.stem.rpartition('-')[0]}.jsonl"


def sweep(trial, points, path, scheduler="serial", jobs=2, broken=None):
    """Run a trial at every point and return the results in the order of the points.

    trial : ``trial(**point)`` returns plain JSON types
    points : dicts of plain JSON types
    path : file of one JSON object a line and trial; points that it holds are not run again
    scheduler : "serial", "processes" (as many as `jobs`), or the address of a running Dask
        scheduler ("tcp://host:port"), whose workers can import what the trial needs
    broken : the result of a trial in which numbers stop being finite (FloatingPointError), as a
        search over rates needs it; without it, such a trial is a failing point

    Raises
    ------
    SweepError
        If points failed, after all others have finished.
    ValueError
        If the scheduler is unknown, or the file is not one of results.
    """
    keys = [json.dumps(point, sort_keys=True) for point in points]
    done, failures = _read(Path(path)), {}
    waiting = {key: point for key, point in zip(keys, points, strict=True) if key not in done}
    with _workers(scheduler, jobs, trial):
        calls = (delayed(_attempt)(trial, key, point, broken) for key, point in waiting.items())
        results = Parallel(return_as="generator_unordered")(calls)
        for key, result, trace in tqdm(results, total=len(waiting), leave=False):
            if trace:
                failures[key] = trace
            else:
                done[key] = {"point": waiting[key], "result": result}
                # Written anew: whatever stops the sweep, the file is whole.
                files.write_text(path, "".join(json.dumps(row) + "\n" for row in done.values()))
    if failures:
        raise SweepError(f"{len(failures)} point(s) failed; all others are kept in {path}, and "
                         "the same call tries these again:\n"
                         + "\n".join(f"{key}\n{trace}" for key, trace in failures.items()))
    return [done[key]["result"] for key in keys]


@contextlib.contextmanager
def _workers(scheduler, jobs, trial):
    if scheduler in ("serial", "processes"):
        with parallel_config("loky", n_jobs=1 if scheduler == "serial" else jobs):
            yield
    elif "://" in scheduler:
        from distributed import Client

        # The trial goes to the workers once, whatever it carries with it.
        with Client(scheduler), parallel_config("dask", scatter=[trial]):
            yield
    else:
        raise ValueError(f"scheduler is {scheduler!r}; expected 'serial', 'processes' or an "
                         "address such as 'tcp://host:8786'")


def _attempt(trial, key, point, broken):
    """Run one point and return (key, result, None) or (key, None, traceback)."""
    try:
        # Sums depend on the number of threads, and a point must not depend on where it runs.
        with threadpool_limits(1):
            return key, json.loads(json.dumps(trial(**point), allow_nan=False)), None
    except Exception as error:  # whatever a trial raises is reported with its point
        if isinstance(error, FloatingPointError) and broken is not None:
            return key, broken, None
        return key, None, traceback.format_exc()


def _read(path):
    """Return the lines of a file, by point."""
    done = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            row = json.loads(line)
            point = json.dumps(row["point"], sort_keys=True)
            done[point] = {"point": row["point"], "result": row["result"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is not a result of a sweep ({error}); "
                             "remove or rename the file to start again") from error
    return done


# A rate, the score of each rate tried, and whether better ones may lie beyond those tried.
Choice = namedtuple("Choice", "rate scores at_edge")


def search(score, rates, cases, extensions=0):
    """Choose a rate for each case; where the best stands on an edge of the grid, widen the grid.

    score : ``score(pairs)`` -> one number a pair (case, rate), the larger the better (0 for a
        training that broke down); it gets a round's pairs at once, to run them side by side
    rates : a new one is as far from the edge, in factors, as the edge is from its neighbour
    cases : what is searched for: methods, depths, ...
    extensions : rounds of new rates at most; where they are too few, the choice says ``at_edge``
    """
    scores = {case: {} for case in cases}
    pairs = [(case, rate) for case in scores for rate in rates]
    for _ in range(1 + extensions):
        for (case, rate), value in zip(pairs, score(pairs), strict=True):
            scores[case][rate] = value
        choices = {case: _best(tried) for case, tried in scores.items()}
        pairs = [(case, _beyond(choice)) for case, choice in choices.items()
                 if choice.at_edge and len(rates) > 1]
        if not pairs:
            break
    return choices


def _best(tried):
    rate = max(sorted(tried), key=tried.get)
    return Choice(rate, tried, rate in (min(tried), max(tried)))


def _beyond(choice):
    """The rate to try next if the best of those tried stands on an edge."""
    edge, neighbour, *_ = sorted(choice.scores, key=lambda rate: abs(rate - choice.rate))
    return float(f"{edge * edge / neighbour:.3g}")


def paired(a, b, overlap=0.0):
    """Return the mean difference a - b over pairs, its standard error, n, and if it is resolved.

    It is resolved where its 95 % interval (Student's t, n - 1 degrees of freedom) excludes zero;
    of one pair nothing is, and the error is 0. Random splits share most of their rows, so that
    trials are not independent: the variance is taken (1/n + overlap) times, with overlap =
    n_test / n_train (Nadeau and Bengio, Machine Learning 52, 239, 2003); 0 where every pair has
    data of its own.
    """
    difference, n = np.subtract(a, b), len(a)
    error = difference.std(ddof=min(1, n - 1)) * np.sqrt(1 / n + overlap)
    resolved = abs(difference.mean()) > special.stdtrit(n - 1, 0.975) * error  # one pair: > nan
    return {"difference": float(difference.mean()), "n": n, "standard_error": float(error),
            "resolved": bool(resolved)}


def linear_classifier():
    """Multinomial logistic regression on standardised inputs; penalty by five-fold validation."""
    # Here: slow to import, and few of the processes of a sweep need it.
    from sklearn import linear_model, model_selection, pipeline, preprocessing

    logistic = linear_model.LogisticRegression(max_iter=2000)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), logistic)
    return model_selection.GridSearchCV(
        model, {"logisticregression__C": [0.1, 1.0, 10.0, 100.0]}, cv=5)
