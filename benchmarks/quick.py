"""Every notebook at its defaults, each on one core and within what Binder gives (``make quick``).

As many notebooks run at once as there are cores. Results go to a scratch folder, so that nothing
committed is touched. Exits with 1 if a notebook fails or needs more than `SECONDS` or `MEGABYTES`.
"""

import os
import queue
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
from ruamel.yaml import YAML

from pnn_utils import files

SECONDS, MEGABYTES = 180, 1500


def cores():
    """Return the cores that this process may use; one None where the system cannot pin (macOS)."""
    process = psutil.Process()
    return process.cpu_affinity() if hasattr(process, "cpu_affinity") else [None]


def memory(process):
    """Return a process's memory with all its children's, MB; shared pages count once (Linux)."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            info = one.memory_full_info()
            total += getattr(info, "pss", info.uss)
        except psutil.Error:  # it has just ended
            continue
    return total / 1e6


def lacking(source):
    """Return the data folders that a notebook reads, by dvc.yaml, and that are not there."""
    stages = YAML(typ="safe").load(files.ROOT / "dvc.yaml")["stages"]
    read = stages["notebook"]["foreach"][source.stem].values()
    return [path for path in read if path.startswith("data/raw/")
            and not any((files.ROOT / path).glob("*"))]


def run_pinned(source, core, scratch):
    """Run a notebook on one core; return exit status, seconds, highest memory in MB, output."""
    start, peak = time.perf_counter(), 0.0
    command = [sys.executable, "-m", "pnn_utils.report.run", "--quick", str(source)]
    with tempfile.TemporaryFile("w+") as log:
        process = psutil.Popen(command, env={**os.environ, "PNN_SCRATCH": scratch}, stdout=log,
                               stderr=subprocess.STDOUT, cwd=files.ROOT)
        if core is not None:
            process.cpu_affinity([core])
        while process.poll() is None:
            try:
                peak = max(peak, memory(process))
            except psutil.Error:
                break
            time.sleep(0.5)
        status, seconds = process.wait(), time.perf_counter() - start
        log.seek(0)
        return status, seconds, peak, log.read()


def main():
    """Run all notebooks, print what each needed; returns the exit status."""
    free, failed = queue.SimpleQueue(), []
    sources = []
    for source in sorted(files.SOURCES.glob("[0-9]*.py")):
        if missing := lacking(source):
            print(f"{source.stem} is left out: without {', '.join(missing)} (make data)")
        else:
            sources.append(source)
    for core in cores():
        free.put(core)

    def one(source):
        core = free.get()
        try:
            return run_pinned(source, core, scratch)
        finally:
            free.put(core)

    print(f"each on one core, at most {SECONDS} s and {MEGABYTES} MB", flush=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(cores())) as pool:
        for source, found in zip(sources, pool.map(one, sources), strict=True):
            status, seconds, peak, printed = found
            good = status == 0 and seconds <= SECONDS and peak <= MEGABYTES
            verdict = "" if good else "FAILED" if status else "TOO MUCH"
            print(f"{source.stem:<30} {seconds:4.0f} s {peak:6.0f} MB  {verdict}", flush=True)
            if not good:
                failed.append(source.stem)
                print(printed, flush=True)
    print(f"{len(sources) - len(failed)} of {len(sources)} notebooks ran"
          + (f"; not: {', '.join(failed)}" if failed else ""))
    return min(1, len(failed))


if __name__ == "__main__":
    sys.exit(main())
