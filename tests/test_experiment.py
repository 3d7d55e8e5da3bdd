"""Experiments: the same numbers on every scheduler, nothing lost in a kill, a search off edges."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pnn_utils import files
from pnn_utils.experiment import (
    SweepError,
    grid,
    keep_search,
    left_or_trained,
    paired,
    results_file,
    search,
    search_file,
    sweep,
)

POINTS = grid(size=[40, 200], seed=range(4))


def experiment(size, seed):
    """A sum whose last digits depend on the order of additions, hence on the number of threads."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, size))
    return {"trace": float(np.trace(a @ a @ a)), "size": size}


def test_grid_varies_the_last_name_fastest():
    assert grid(a=[1, 2], b="xy") == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"},
                                      {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return sweep(experiment, POINTS, tmp_path_factory.mktemp("serial") / "results.jsonl")


def test_two_processes_give_the_same_numbers(serial, tmp_path):
    assert sweep(experiment, POINTS, tmp_path / "results.jsonl", "processes", jobs=2) == serial


def test_a_dask_cluster_gives_the_same_numbers(serial, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1,
                                  dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert sweep(experiment, POINTS, tmp_path / "results.jsonl", address) == serial
        # An equal point of another trial is not answered from the cluster's memory.
        assert sweep(lambda size, seed: seed, POINTS, tmp_path / "other.jsonl", address) == [
            point["seed"] for point in POINTS]


@pytest.mark.parametrize("scheduler", ["serial", "processes", "dask"])
def test_a_killed_sweep_resumes_and_ends_with_the_same_numbers(serial, tmp_path, scheduler):
    results, runs = tmp_path / "results.jsonl", tmp_path / "runs"
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys, time
sys.path[:0] = [{str(files.ROOT)!r}, {str(files.ROOT / "tests")!r}]
from pnn_utils.experiment import sweep
from test_experiment import POINTS, experiment
def slow(size, seed):
    time.sleep(0.15)
    with open({str(runs)!r}, "a") as file:
        file.write("x")
    return experiment(size, seed)
if __name__ == "__main__":
    address = {scheduler!r}
    if address == "dask":
        from distributed import LocalCluster
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                               processes=False)
        address = cluster.scheduler_address
    sweep(slow, POINTS, {str(results)!r}, address)
""")
    command, quiet = [sys.executable, str(program)], os.environ | {"TQDM_DISABLE": "1"}
    running = subprocess.Popen(command, start_new_session=True, env=quiet)
    limit = time.monotonic() + 60
    while not results.exists() or results.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < limit and running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = results.read_bytes().count(b"\n")
    assert 3 <= kept < len(POINTS)
    subprocess.run(command, check=True, env=quiet, timeout=60)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows) == len(POINTS)
    found = {json.dumps(row["point"], sort_keys=True): row["result"] for row in rows}
    assert [found[json.dumps(point, sort_keys=True)] for point in POINTS] == serial
    assert len(runs.read_text()) <= len(POINTS) + 4  # only what was under way at the kill again
    assert sweep(experiment, POINTS, results) == serial  # nothing left to do; the points' order


def test_results_file_belongs_to_code_and_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SOURCES", tmp_path)
    (tmp_path / "03_x.py").write_text("a = 1")
    first = results_file("03_x", epochs=3)
    assert first == results_file("03_x", epochs=3) and first.parent == files.SWEEPS
    assert results_file("03_x", epochs=4) != first
    (tmp_path / "03_x.py").write_text("a = 2")
    assert results_file("03_x", epochs=3) != first


def test_what_a_search_found_is_kept_and_found_again_until_its_settings_change(
        tmp_path, monkeypatch):
    for name in ("ROOT", "RESULTS", "SOURCES"):
        monkeypatch.setattr(files, name, tmp_path)
    monkeypatch.setattr(files, "SWEEPS", tmp_path / "sweeps")
    (tmp_path / "03_x.py").write_text("1")
    asked = []

    def trial(rate):
        asked.append(rate)
        return rate

    def searched(rates, again=False, epochs=3):
        path = search_file("03_x", again, epochs=epochs)
        found = sweep(trial, grid(rate=rates), path)
        keep_search(path)
        assert not path.exists()
        return found

    assert searched([0.1, 0.2]) == searched([0.1, 0.2]) == [0.1, 0.2] == asked
    (tmp_path / "03_x.py").write_text("2")  # other code, the same search
    assert searched([0.2, 0.4]) == [0.2, 0.4] and asked == [0.1, 0.2, 0.4]
    assert len(list((tmp_path / "data" / "searches").iterdir())) == 1
    searched([0.4], epochs=4)
    searched([0.4], again=True)
    assert asked == [0.1, 0.2, 0.4, 0.4, 0.4]

    stopped = search_file("03_x", epochs=4)  # a wider search, stopped after one new rate
    sweep(trial, grid(rate=[0.8]), stopped)
    assert searched([0.4, 0.8], epochs=4) == [0.4, 0.8] and asked[5:] == [0.8]
    sweep(trial, grid(rate=[0.4]), search_file("03_x", epochs=4))  # one that is under way
    searched([0.4], again=True, epochs=4)
    assert asked[6:] == [0.4]  # is nothing to a search from the start


def test_points_already_there_are_not_run_again(serial, tmp_path):
    path = tmp_path / "results.jsonl"
    sweep(experiment, POINTS[:5], path)

    def only_the_rest(size, seed):
        assert {"size": size, "seed": seed} not in POINTS[:5]
        return experiment(size, seed)

    assert sweep(only_the_rest, POINTS, path) == serial


@pytest.mark.parametrize("broken", [None, {"score": 0.0}])
def test_failures_are_reported_and_the_rest_is_kept(tmp_path, broken):
    path, tries = tmp_path / "results.jsonl", []

    def fails(seed):
        tries.append(seed)
        if seed == 2:
            raise ZeroDivisionError("always")
        return seed

    with pytest.raises(SweepError, match=r"^1 point\(s\) failed; all others are kept") as caught:
        sweep(fails, grid(seed=range(4)), path, broken=broken)
    assert tries == [0, 1, 2, 3]
    assert '\n{"seed": 2}\nTraceback' in str(caught.value)
    assert "ZeroDivisionError: always" in str(caught.value)
    assert sweep(lambda seed: seed, grid(seed=range(4)), path) == [0, 1, 2, 3]


def breaks_down(rate):
    if rate > 1:
        raise FloatingPointError("the loss became nan in epoch 3")
    return {"curve": [0.0, rate]}


@pytest.mark.parametrize("scheduler", ["serial", "processes"])
def test_a_search_goes_on_where_a_training_breaks_down(tmp_path, scheduler):
    path, asked = tmp_path / "results.jsonl", []

    def score(pairs):
        asked.append([rate for _, rate in pairs])
        points = [{"rate": rate} for _, rate in pairs]
        done = sweep(breaks_down, points, path, scheduler, broken={"curve": [0.0]})
        return [one["curve"][-1] for one in done]

    found = search(score, [0.25, 0.5, 1.0], ["case"], extensions=3)["case"]
    assert found == (1.0, {0.25: 0.25, 0.5: 0.5, 1.0: 1.0, 2.0: 0.0}, False)
    assert asked == [[0.25, 0.5, 1.0], [2.0]]
    kept = path.read_text()
    asked.clear()
    assert search(score, [0.25, 0.5, 1.0], ["case"], extensions=3)["case"] == found
    assert path.read_text() == kept


def test_a_training_that_breaks_down_outside_a_search_is_a_failure(tmp_path):
    with pytest.raises(SweepError, match="the loss became nan in epoch 3"):
        sweep(breaks_down, [{"rate": 2.0}], tmp_path / "results.jsonl")


def test_an_unknown_scheduler_is_named(tmp_path):
    with pytest.raises(ValueError, match="scheduler is 'cloud'"):
        sweep(experiment, POINTS, tmp_path / "results.jsonl", "cloud")


def test_a_foreign_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    sweep(experiment, POINTS[:2], path)
    for content in ("not a result\n", path.read_text()[:-9]):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"line [12] is not a result"):
            sweep(experiment, POINTS[:1], path)
        assert path.read_text() == content


def test_a_result_that_is_no_number_is_a_failure(tmp_path):
    with pytest.raises(SweepError, match="Out of range float values"):
        sweep(lambda a: float("nan"), [{"a": 1}], tmp_path / "results.jsonl")


def peak_at(best, asked=None):
    """A score that is highest at a rate, apart from the grid that is searched."""
    def score(pairs):
        if asked is not None:
            asked.append([rate for _, rate in pairs])
        return [-abs(np.log(rate / best[case])) for case, rate in pairs]

    return score


def test_a_search_widens_its_grid_until_no_winner_stands_on_an_edge():
    asked, best = [], {"low": 0.004, "middle": 0.1, "high": 0.8}
    found = search(peak_at(best, asked), [0.05, 0.1, 0.2], best, extensions=9)
    assert {case: choice.rate for case, choice in found.items()} == {
        "low": 0.00313, "middle": 0.1, "high": 0.8}
    assert not any(choice.at_edge for choice in found.values())
    assert list(found["middle"].scores) == [0.05, 0.1, 0.2]  # only the others go on
    assert asked[:3] == [3 * [0.05, 0.1, 0.2], [0.025, 0.4], [0.0125, 0.8]]
    for case, choice in found.items():
        assert choice.scores[choice.rate] == max(choice.scores.values())
        assert min(choice.scores) < choice.rate < max(choice.scores), case


def test_a_search_says_when_it_ends_on_an_edge():
    far = {"far": 100.0}
    assert search(peak_at(far), [0.1, 0.2], far, extensions=2)["far"][::2] == (0.8, True)
    assert search(peak_at(far), [0.1, 0.2], far)["far"][::2] == (0.2, True)
    assert search(peak_at(far), [0.1], far, extensions=3)["far"][::2] == (0.1, True)


def test_of_equal_scores_the_lowest_rate_counts():
    assert search(lambda pairs: [0.5] * len(pairs), [0.1, 0.2, 0.4], ["flat"])["flat"].rate == 0.1


def test_paired_differences_by_hand():
    found = paired([0.9, 0.8, 1.0, 0.7], [0.8, 0.8, 0.8, 0.6])
    assert found["n"] == 4 and found["difference"] == pytest.approx(0.1)
    assert found["standard_error"] == pytest.approx(np.std([0.1, 0, 0.2, 0.1], ddof=1) / 2)
    one = paired([0.9], [0.8])
    assert one["standard_error"] == 0 and one["n"] == 1 and not one["resolved"]


@pytest.mark.parametrize(("n", "errors", "resolved"), [
    (3, 4.2, False), (3, 4.4, True), (10, 2.2, False), (10, 2.3, True), (2, 12, False)])
def test_a_difference_is_resolved_beyond_students_interval(n, errors, resolved):
    """97.5 % quantiles from a printed table: 12.71, 4.303, 2.262 for 1, 2, 9 degrees."""
    values = np.arange(n) - (n - 1) / 2
    error = values.std(ddof=1) / n**0.5
    for sign in (1, -1):
        assert paired(values + sign * errors * error, np.zeros(n))["resolved"] == resolved


def test_the_factor_for_overlapping_splits_covers_what_the_plain_error_does_not():
    """Mean accuracies of random splits of one data set scatter more around the truth."""
    rng, inside = np.random.default_rng(0), {0.0: 0, 0.25: 0}
    for _ in range(400):
        rows = rng.standard_normal(50)  # a difference of two methods for every row; its truth is 0
        splits = [rng.permutation(50)[:10] for _ in range(30)]
        differences = [rows[split].mean() for split in splits]
        for overlap in inside:
            found = paired(differences, np.zeros(30), overlap)
            inside[overlap] += abs(found["difference"]) < 2 * found["standard_error"]
    assert inside[0.0] < 0.75 * 400 and inside[0.25] > 0.9 * 400


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    return tmp_path


def leaving(value, asked):
    """A training that gives a number, and notes that it was asked for."""
    import torch  # here: the processes that sweeps start import this file, and need none

    def training():
        asked.append(value)
        return {"w": torch.full((2,), float(value), dtype=torch.float16)}, {"loss": [value]}

    return training


def test_a_long_training_is_taken_from_its_weights_as_long_as_its_settings_are_the_same(project):
    asked, settings = [], {"rate": 0.1, "sizes": [196, 10]}
    left = [left_or_trained("x_0", settings, leaving(n, asked)) for n in range(2)]
    for weights, about in left:
        assert weights["w"].tolist() == [0, 0] and str(weights["w"].dtype) == "torch.float16"
        assert about == {"settings": settings, "loss": [0]}
    assert asked == [0]
    left_or_trained("x_1", settings, leaving(2, asked))  # another name
    weights, _ = left_or_trained("x_0", settings | {"rate": 0.2}, leaving(3, asked))
    assert weights["w"].tolist() == [3, 3]
    left_or_trained("x_0", settings | {"rate": 0.2}, leaving(4, asked), again=True)
    weights, about = left_or_trained("x_0", settings | {"rate": 0.2}, leaving(5, asked))
    assert weights["w"].tolist() == [4, 4] and about["loss"] == [4] and asked == [0, 2, 3, 4]


def test_weights_that_are_damaged_or_never_came_are_no_weights(project):
    path = project / "data" / "weights" / "x.safetensors"
    with pytest.raises(ZeroDivisionError):
        left_or_trained("x", {}, lambda: 1 / 0)
    assert not path.exists()
    left_or_trained("x", {}, leaving(1, []))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="x.safetensors is not a readable"):
        left_or_trained("x", {}, leaving(1, []))


def test_a_trial_run_takes_committed_weights_and_leaves_its_own_elsewhere(project, monkeypatch):
    asked, place = [], "data/weights/x.safetensors"
    left_or_trained("x", {"n": 1}, leaving(1, asked))
    committed = (project / place).read_bytes()
    monkeypatch.setattr(files, "RESULTS", project / "scratch")
    left_or_trained("x", {"n": 1}, leaving(2, asked))
    assert asked == [1] and not (project / "scratch").exists()
    left_or_trained("x", {"n": 3}, leaving(3, asked))
    assert asked == [1, 3] and (project / "scratch" / place).exists()
    assert (project / place).read_bytes() == committed
