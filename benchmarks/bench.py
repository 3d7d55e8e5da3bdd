"""Timings that the project promises: ``make bench``. Exits with 1 if one is missed."""

import os
import statistics
import subprocess
import sys
import time

import numpy as np
import scipy.fft

from pnn_utils.systems.shg import SHG

ROWS, REPEATS = 10_000, 7


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def bench_shg():
    """SHG device against the FFTs it must do: one inverse, one forward, same sizes, one thread."""
    rng = np.random.default_rng(0)
    x, theta = (rng.random((ROWS, 50), np.float32) for _ in range(2))
    devices = {"with imperfections": SHG(), "ideal": SHG(ideal=True)}
    field = rng.random((ROWS, devices["ideal"].fft_length), np.float32).astype(np.complex64)
    times = {name: [] for name in ("bare FFTs", *devices)}
    for _ in range(REPEATS):  # interleaved, so that a busy machine slows all alike
        times["bare FFTs"].append(seconds(lambda: scipy.fft.fft(scipy.fft.ifft(field, axis=1), axis=1)))
        for name, device in devices.items():
            times[name].append(seconds(lambda device=device: device(x, theta)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"SHG, {ROWS} control vectors, median of {REPEATS}:")
    for name, value in medians.items():
        print(f"  {name:<20} {1e3 * value:7.1f} ms   {value / medians['bare FFTs']:.2f} x bare FFTs")
    return all(medians[name] <= 3 * medians["bare FFTs"] for name in devices)


def bench_import():
    """Time that importing the package adds to importing torch, in fresh processes."""
    code = ("import time, torch; start = time.perf_counter(); import pnn_utils; package = time.perf_counter() - start; "
            "import pnn_utils.pat; print(package, time.perf_counter() - start)")
    found = [tuple(map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()))
             for _ in range(3)]
    package, with_pat = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"import after torch: pnn_utils {package:.3f} s, with pnn_utils.pat {with_pat:.3f} s (at most 0.3 s)")
    return package <= 0.3


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, NumPy {np.__version__}")
    sys.exit(0 if all([bench_shg(), bench_import()]) else 1)
