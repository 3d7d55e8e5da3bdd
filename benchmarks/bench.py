"""Timings that the project promises: ``make bench``. Exits with 1 if one is missed."""

import os
import statistics
import subprocess
import sys
import time

import numpy as np
import scipy
import scipy.fft
from threadpoolctl import threadpool_limits

from pnn_utils.systems.circuit import Circuit
from pnn_utils.systems.netlist import ngspice_version, run_ngspice
from pnn_utils.systems.plate import Plate
from pnn_utils.systems.shg import SHG
from pnn_utils.systems.transient import simulate

ROWS, REPEATS = 10_000, 7


def medians(functions, repeats=REPEATS):
    """Median seconds of each named function; interleaved, so that a busy machine slows all alike."""
    times = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warms up


def report(title, found, reference, limit):
    """Print a table of times over those of `reference`; return whether all the others keep within `limit` times it."""
    print(f"{title}, median of {REPEATS}, at most {limit:g} x {reference}:")
    for name, value in found.items():
        print(f"  {name:<28} {1e3 * value:8.1f} ms   {value / found[reference]:5.2f} x")
    return all(value <= limit * found[reference] for value in found.values())


def bench_shg():
    """SHG device against the FFTs it must do: one inverse and one forward, same sizes, one thread for both."""
    rng = np.random.default_rng(0)
    x, theta = (rng.random((ROWS, 50), np.float32) for _ in range(2))
    ideal, real = SHG(ideal=True), SHG()
    field = rng.random((ROWS, ideal.fft_length), np.float32).astype(np.complex64)

    def bare_ffts():
        scipy.fft.fft(scipy.fft.ifft(field, axis=1, workers=1), axis=1, overwrite_x=True, workers=1)

    # The device's matrix products would otherwise use every core, which the FFTs do not.
    with threadpool_limits(1):
        found = medians({"bare FFTs": bare_ffts, "SHG, ideal": lambda: ideal(x, theta), "SHG, all imperfections": lambda: real(x, theta)})
    return report(f"SHG, {ROWS} control vectors", found, "bare FFTs", 3)


def slope(title, sizes, run, repeats=5):
    """Print the times of `run(size)` and the slope of their logarithms; return whether the cost is linear or better."""
    found = medians({size: (lambda size=size: run(size)) for size in sizes}, repeats)
    order = np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]
    print(f"  {title}: " + ", ".join(f"{size}: {1e3 * seconds:.1f} ms" for size, seconds in found.items()) + f"; log-log slope {order:.2f}")
    return order <= 1.1


def bench_plate():
    """Plate device: at most 2 s for 10,000 waveforms of 196 samples, cost linear in waveforms and in modes."""
    rng = np.random.default_rng(0)
    x, none = rng.uniform(-1, 1, (ROWS, 196)), np.zeros(0)
    devices = {"ideal (linear)": Plate(ideal=True), "all imperfections": Plate()}
    found = medians({name: lambda device=device: device(x, none) for name, device in devices.items()}, 3)
    print(f"Plate, {ROWS} waveforms of 196 samples played twice, median of 3, at most 2 s:")
    for name, value in found.items():
        print(f"  {name:<28} {1e3 * value:8.1f} ms")
    by_modes = {n: Plate(n_modes=n) for n in (4, 8, 16, 32, 64)}
    linear = [slope("waveforms", (500, 1000, 2000, 4000, 8000), lambda n: devices["all imperfections"](x[:n], none)),
              slope("modes, 1000 waveforms", by_modes, lambda n: by_modes[n](x[:1000], none))]
    return max(found.values()) <= 2 and all(linear)


def bench_circuit():
    """Circuit device: at least 1,000 times ngspice's throughput at the tests' accuracy, cost linear in waveforms and in samples."""
    rng = np.random.default_rng(0)
    ideal, real, none = Circuit(ideal=True), Circuit(), np.zeros(0)
    x = rng.uniform(*ideal.input_range, (4000, 196))
    found = medians({name: lambda device=device: device(x, none) for name, device in {"ideal": ideal, "all imperfections": real}.items()}, 3)
    per_waveform = {name: seconds / len(x) for name, seconds in found.items()}
    print(f"Circuit, {len(x)} waveforms of 196 samples, median of 3:")
    for name, seconds in per_waveform.items():
        print(f"  {name:<28} {1e6 * seconds:8.1f} us a waveform")
    enough = True
    if ngspice_version() is None:
        print("  ngspice is not installed: the comparison with it was left out")
    else:
        start = time.perf_counter()
        expected = np.array([run_ngspice(ideal.parameters, drive) for drive in x[:20]])
        spice = (time.perf_counter() - start) / 20
        error = (np.sqrt(((ideal(x[:20], none) - expected) ** 2).mean(1)) / np.ptp(expected, axis=1)).max()
        print(f"  ngspice {ngspice_version():<20} {1e6 * spice:8.1f} us a waveform, {spice / per_waveform['ideal']:.0f} x the device's, which differs "
              f"by {100 * error:.2f} % RMS of the swing at most")
        enough = spice >= 1000 * per_waveform["ideal"] and error <= 0.005
    long = rng.uniform(-4, 4, (500, 1568))
    linear = [slope("waveforms", (250, 500, 1000, 2000, 4000), lambda n: ideal(x[:n], none)),
              slope("samples, 500 waveforms", (98, 196, 392, 784, 1568), lambda n: simulate(ideal.parameters, long[:, :n]))]
    return enough and all(linear)


def bench_import():
    """Time that importing the package adds to importing torch, in fresh processes; its modules for information."""
    def added(module):
        code = f"import time, torch; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
        return statistics.median(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
                                 for _ in range(5))

    added("pnn_utils")  # fills the file cache
    package = added("pnn_utils")
    print("import after torch, median of 5 processes, pnn_utils at most 0.3 s:")
    for name, value in {"pnn_utils": package, **{m: added(m) for m in ("pnn_utils.pat", "pnn_utils.twin", "pnn_utils.training")}}.items():
        print(f"  {name:<28} {value:8.3f} s")
    return package <= 0.3


BENCHMARKS = [bench_shg, bench_plate, bench_circuit, bench_import]

if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, NumPy {np.__version__}, SciPy {scipy.__version__}")
    sys.exit(0 if all([benchmark() for benchmark in BENCHMARKS]) else 1)
