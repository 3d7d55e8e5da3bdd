"""A Dask cluster started by hand trains as processes do, bit for bit, also when a worker dies."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from notebooks.benchmark_methods.trial import trial
from pnn_utils import files
from pnn_utils.experiment import grid, sweep

# Short trainings that need no file: glass, and digits that scikit-learn brings.
POINTS = grid(system=["function"], method=["exact", "spsa"], seed=[100, 101, 102, 103],
              rate=[0.05], share=[0.1], final=[False])


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler and its two workers, started with the dask commands."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    address, running = tmp_path / "scheduler.json", []
    where = os.pathsep.join(map(str, (files.ROOT, files.ROOT / "tests")))  # of what workers import
    surroundings = os.environ | {"PYTHONPATH": where, "OMP_NUM_THREADS": "1"}

    def start(*command):
        with open(tmp_path / f"log-{len(running)}", "w") as log:
            running.append(subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--scheduler-file", str(address)],
                env=surroundings, stdout=log, stderr=log, start_new_session=True))

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    for _ in range(2):
        start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard",
              "--local-directory", str(tmp_path))
    limit = time.monotonic() + 60
    while not address.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    from distributed import Client

    found = json.loads(address.read_text())["address"]
    with Client(found) as client:
        client.wait_for_workers(2, timeout=60)
    yield found, running[1:]
    for one in running:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()


def started(folder, log, **point):
    """The notebook's trial, which says when it starts and where."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return trial(folder, **point)


def test_a_cluster_started_by_hand_gives_the_numbers_of_processes_though_a_worker_dies(
        cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(files.ROOT))
    address, workers = cluster
    expected = sweep(partial(trial, tmp_path), POINTS, tmp_path / "processes.jsonl", "processes")
    results, log = tmp_path / "cluster.jsonl", tmp_path / "started"
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys
sys.path[:0] = [{str(files.ROOT)!r}, {str(files.ROOT / "tests")!r}]
from functools import partial
from pathlib import Path
from test_cluster import POINTS, started
from pnn_utils.experiment import sweep
if __name__ == "__main__":
    sweep(partial(started, Path({str(tmp_path)!r}), {str(log)!r}), POINTS, {str(results)!r},
          {address!r})
""")
    running = subprocess.Popen([sys.executable, str(program)],
                               env=os.environ | {"TQDM_DISABLE": "1"})
    limit = time.monotonic() + 300
    while not results.exists() or results.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < limit and running.poll() is None
        time.sleep(0.02)
    os.killpg(workers[0].pid, signal.SIGKILL)
    assert results.read_bytes().count(b"\n") < len(POINTS)
    assert running.wait(300) == 0
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    found = {json.dumps(row["point"], sort_keys=True): row["result"] for row in rows}
    assert [found[json.dumps(point, sort_keys=True)] for point in POINTS] == expected
    by = log.read_text().split()
    assert len(set(by)) == 2 and str(workers[0].pid) in by  # both took part, one of them died
    assert len(by) >= len(POINTS)
