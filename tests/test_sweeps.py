"""Sweeps: the same numbers on every scheduler, nothing lost when one is killed, failures retried and reported."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pnn_utils import paths
from pnn_utils.experiment import SweepError, grid, results_file, sweep

POINTS = grid(size=[40, 200], seed=range(4))


def experiment(size, seed):
    """A sum whose last digits depend on the order of the additions, hence on the number of threads."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, size))
    return {"trace": float(np.trace(a @ a @ a)), "size": size}


def test_grid_varies_the_last_name_fastest():
    assert grid(a=[1, 2], b="xy") == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return sweep(experiment, POINTS, tmp_path_factory.mktemp("serial") / "results.jsonl")


def test_two_processes_give_the_same_numbers(serial, tmp_path):
    assert sweep(experiment, POINTS, tmp_path / "results.jsonl", "processes", jobs=2) == serial


def test_a_dask_cluster_gives_the_same_numbers(serial, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert sweep(experiment, POINTS, tmp_path / "results.jsonl", cluster.scheduler_address) == serial


@pytest.mark.parametrize("scheduler", ["serial", "processes", "dask"])
def test_a_killed_sweep_resumes_and_ends_with_the_same_numbers(serial, tmp_path, scheduler):
    results, runs = tmp_path / "results.jsonl", tmp_path / "runs"
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys, time
sys.path[:0] = [{str(paths.ROOT)!r}, {str(paths.ROOT / "tests")!r}]
from pnn_utils.experiment import sweep
from test_sweeps import POINTS, experiment
def slow(size, seed):
    time.sleep(0.3)
    with open({str(runs)!r}, "a") as file:
        file.write("x")
    return experiment(size, seed)
if __name__ == "__main__":
    address = {scheduler!r}
    if address == "dask":
        from distributed import LocalCluster
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        address = cluster.scheduler_address
    sweep(slow, POINTS, {str(results)!r}, address)
""")
    running = subprocess.Popen([sys.executable, str(program)], start_new_session=True, env=os.environ | {"TQDM_DISABLE": "1"})
    limit = time.monotonic() + 60
    while not results.exists() or results.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < limit and running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = results.read_bytes().count(b"\n")
    assert 3 <= kept < len(POINTS)
    with open(results, "ab") as file:  # what a kill in the middle of a write leaves
        file.write(b'{"point": {"size": 40, "se')
    subprocess.run([sys.executable, str(program)], check=True, env=os.environ | {"TQDM_DISABLE": "1"}, timeout=60)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows) == len(POINTS)
    assert [next(row["result"] for row in rows if row["point"] == point) for point in POINTS] == serial
    assert len(runs.read_text()) <= len(POINTS) + 2 * 2  # only what was under way at the kill ran twice
    assert sweep(experiment, POINTS, results) == serial  # nothing left to do, the order is that of the points


def test_results_file_belongs_to_code_and_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SOURCES", tmp_path)
    (tmp_path / "03_x.py").write_text("a = 1")
    first = results_file("03_x", epochs=3)
    assert first == results_file("03_x", epochs=3) and first.parent == paths.SWEEPS
    assert results_file("03_x", epochs=4) != first
    (tmp_path / "03_x.py").write_text("a = 2")
    assert results_file("03_x", epochs=3) != first


def test_points_already_there_are_not_run_again(serial, tmp_path):
    path = tmp_path / "results.jsonl"
    sweep(experiment, POINTS[:5], path)

    def only_the_rest(size, seed):
        assert {"size": size, "seed": seed} not in POINTS[:5]
        return experiment(size, seed)

    assert sweep(only_the_rest, POINTS, path) == serial


def test_failures_are_retried_then_reported_and_the_rest_is_kept(tmp_path):
    path, tries = tmp_path / "results.jsonl", []

    def fails(seed):
        tries.append(seed)
        if seed == 1 and tries.count(1) == 1:
            raise TimeoutError("once")
        if seed == 2:
            raise ZeroDivisionError("always")
        return seed

    with pytest.raises(SweepError, match=r"1 point\(s\) failed at every attempt.*\n.*") as caught:
        sweep(fails, grid(seed=range(4)), path, attempts=3)
    assert tries.count(0) == 1 and tries.count(1) == 2 and tries.count(2) == 3
    assert list(caught.value.failures) == ['{"seed": 2}'] and "ZeroDivisionError: always" in caught.value.failures['{"seed": 2}']
    assert sweep(lambda seed: seed, grid(seed=range(4)), path) == [0, 1, 2, 3]


@pytest.mark.parametrize("arguments, message", [
    (dict(points=[{"a": 1}, {"a": 1}]), "occurs twice"), (dict(points=[{"a": {1}}]), "not of plain JSON types"),
    (dict(points=[{"a": 1}], scheduler="cloud"), "scheduler is 'cloud'"), (dict(points=[{"a": 1}], attempts=0), "attempts is 0")])
def test_bad_calls_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep(lambda a: a, path=tmp_path / "results.jsonl", **arguments)


def test_a_foreign_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("not a result\n")
    with pytest.raises(ValueError, match=r"line 1 is not a result"):
        sweep(experiment, POINTS[:1], path)
    assert path.read_text() == "not a result\n"


def test_a_result_that_is_no_number_is_a_failure(tmp_path):
    with pytest.raises(SweepError, match="Out of range float values"):
        sweep(lambda a: float("nan"), [{"a": 1}], tmp_path / "results.jsonl", attempts=1)
