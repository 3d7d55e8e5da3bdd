"""Map an experiment over a grid of settings and seeds: in this process, on local processes, or on a Dask cluster.

Whatever the scheduler, every point gives the same result, because it takes all its randomness from its own settings and runs with one
thread of linear algebra. Results are appended to a file as they finish, so that a stopped sweep resumes where it was.
"""

import errno
import hashlib
import itertools
import json
import os
import traceback
from pathlib import Path

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from pnn_utils import paths
from pnn_utils.files import naming
from pnn_utils.systems.base import check_whole


class SweepError(RuntimeError):
    """Some points failed at every attempt; the others' results are in the file. ``failures`` maps points to tracebacks."""

    def __init__(self, failures, path):
        self.failures = failures
        first_point, first_trace = next(iter(failures.items()))
        super().__init__(f"{len(failures)} point(s) failed at every attempt; the results of all others are kept in {path}, and the same call "
                         f"tries these again. First: {first_point}\n{first_trace}")


def grid(**settings):
    """Return all combinations of the given lists, as dicts, the last name varying fastest.

    Raises
    ------
    TypeError
        If a value is not a list or another iterable.

    Examples
    --------
    >>> grid(depth=[1, 5], seed=range(2))
    [{'depth': 1, 'seed': 0}, {'depth': 1, 'seed': 1}, {'depth': 5, 'seed': 0}, {'depth': 5, 'seed': 1}]
    """
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def results_file(notebook, **settings):
    """Return the path of a notebook's sweep results, one that no other code and no other settings share.

    Parameters
    ----------
    notebook : str
        Name without suffix.
    **settings
        What the experiment depends on beside its points, of plain JSON types.

    Returns
    -------
    pathlib.Path
        ``data/sweeps/<notebook>-<digest>.jsonl``, the digest taken over the settings, the notebook's source and the package's
        modules, so that a stopped notebook resumes its sweep and an edited one starts a new one.

    Raises
    ------
    OSError
        If there is no such notebook.
    TypeError, ValueError
        If a setting is not of plain JSON types, or the name holds a null byte.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for source in [paths.SOURCES / f"{notebook}.py", *sorted((paths.ROOT / "pnn_utils").rglob("*.py"))]:
        digest.update(source.read_bytes())
    return paths.SWEEPS / f"{notebook}-{digest.hexdigest()[:12]}.jsonl"


def sweep(experiment, points, path, scheduler="serial", jobs=2, attempts=2):
    """Run an experiment at every point and return the results in the order of the points.

    Parameters
    ----------
    experiment : callable
        ``experiment(**point)`` returns plain JSON types. Its randomness has to come from the point alone.
    points : sequence of dict
        Settings of plain JSON types, each point once.
    path : str or pathlib.Path
        File of the results, one JSON object a line. Points that it holds already are not run again; it belongs to one experiment.
    scheduler : str
        "serial", "processes", or the address of a running Dask scheduler ("tcp://host:port"), whose workers can import what the experiment needs.
    jobs : int
        Processes, if they are local.
    attempts : int
        How often a failing point is run before it is reported, at least 1.

    Returns
    -------
    list of dict

    Raises
    ------
    SweepError
        If points failed at every attempt, after all others have finished.
    OSError
        If a result cannot be written; those written before stay.
    TypeError
        If `attempts` is not a whole number.
    ValueError
        If the scheduler is unknown, a point occurs twice or is no JSON, `attempts` is below 1, or the file is not one of results.
    """
    check_whole(1, attempts=attempts)
    keys = [_key(point) for point in points]
    if len(set(keys)) != len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the point {twice} occurs twice; expected each point once")
    path = Path(path)
    done = _read(path)
    waiting = [(key, point) for key, point in zip(keys, points, strict=True) if key not in done]
    failures = {}
    silent = bool(os.environ.get("TQDM_DISABLE"))
    finished = _finished(experiment, waiting, scheduler, jobs, attempts)
    with tqdm(total=len(points), initial=len(points) - len(waiting), disable=silent, leave=False) as bar:
        for key, result, trace in finished:
            if trace:
                failures[key] = trace
            else:
                _append(path, key, result)
                done[key] = result
            bar.update()
    if failures:
        raise SweepError(failures, path)
    return [done[key] for key in keys]


def _finished(experiment, waiting, scheduler, jobs, attempts):
    """Yield (key, result, traceback) of the points as they finish, in any order."""
    if scheduler == "serial":
        return (_attempt(experiment, key, point, attempts) for key, point in waiting)
    if scheduler == "processes":
        calls = (delayed(_attempt)(experiment, key, point, attempts) for key, point in waiting)
        return Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
    if "://" in str(scheduler):
        return _on_dask(experiment, waiting, scheduler, attempts)
    raise ValueError(f"scheduler is {scheduler!r}; expected 'serial', 'processes' or an address such as 'tcp://host:8786'")


def _on_dask(experiment, waiting, address, attempts):
    from distributed import Client, as_completed

    with Client(address) as client:
        # Not pure: an equal call in another sweep must not be answered from the cluster's memory.
        # The experiment goes to the workers once, whatever it carries with it.
        shared = client.scatter(experiment, broadcast=True, hash=False)
        futures = [client.submit(_attempt, shared, key, point, attempts, pure=False) for key, point in waiting]
        for _, outcome in as_completed(futures, with_results=True):
            yield outcome


def _attempt(experiment, key, point, attempts):
    """Run one point, again if it fails; (key, result, None) or (key, None, the last traceback)."""
    for _ in range(attempts):
        try:
            # Sums depend on the number of threads, and a point must not depend on where it runs.
            with threadpool_limits(1):
                result = json.loads(json.dumps(experiment(**point), allow_nan=False))
            return key, result, None
        except Exception:  # whatever an experiment raises is reported with its point
            trace = traceback.format_exc()
    return key, None, trace


def _key(point):
    try:
        return json.dumps(point, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the point {point!r} is not of plain JSON types: {error}") from error


def _read(path):
    """Return the results in a file, and cut off a last line that a killed sweep left unfinished."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    done = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            done[_key(row["point"])] = row["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is not a result of a sweep ({error}); remove or rename the file to start again") from error
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return done


def _append(path, key, result):
    """Add one result as one line, in one write that is on the disk when this returns."""
    line = (json.dumps({"point": json.loads(key), "result": result}) + "\n").encode()
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            if file.write(line) < len(line):  # a disk that is almost full takes a part and says so only when asked again
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
