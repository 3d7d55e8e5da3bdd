"""Timings that the project promises: ``make bench``. Exits with 1 if one is missed."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import scipy
import scipy.fft
import torch
from threadpoolctl import threadpool_limits

from pnn_utils.pat import PhysicalLayer
from pnn_utils.experiment import sweep
from pnn_utils.systems.circuit.device import Circuit
from tests.referees.netlist import ngspice_version, run_ngspice
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.circuit.solver import simulate
from pnn_utils.systems.oscillators.model import OscillatorModel

ROWS, REPEATS = 10_000, 7


def medians(functions, repeats=REPEATS, loops=1):
    """Median seconds of each named function, called `loops` times at once; interleaved, so that a busy machine slows all alike."""
    times = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(loops):
                function()
            times[name].append((time.perf_counter() - start) / loops)
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


OSCILLATOR_LAYERS = {196: (196, 5), 1610: (10, 3)}  # oscillators: (how many are read, how many times faster than the reference)
BATCH = 32


def oscillator_step(size, kind):
    """One forward and backward pass of a PAT layer as a function without arguments, with the device's gap.

    "ours" is `PhysicalLayer`. "reference" is the same layer as one would write it first: RK4 with five steps, couplings
    rebuilt at each stage, and torch.autograd.functional.vjp of the model for the backward pass. The layer of 196 is a
    network's first: its inputs are data and need no gradient.
    """
    n_read, _ = OSCILLATOR_LAYERS[size]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, size, generator=generator, requires_grad=size > 196)
    incoming = torch.randn(BATCH, n_read, generator=generator)
    device = Oscillators(n_oscillators=size, n_read=n_read)
    if kind == "ours":
        theta = torch.randn(device.param_dim, generator=generator) / size**0.5
        layer = PhysicalLayer(device, OscillatorModel(size, n_read), theta, shared=True)
        leaves = (x, layer.theta)
    else:
        leaves = x, torch.nn.Parameter(torch.randn(size, size, generator=generator) / size**0.5), torch.nn.Parameter(torch.zeros(size))
        errors = torch.zeros(size, size)
        errors[tuple(np.triu_indices(size, 1))] = torch.from_numpy(device.coupling_errors)
        errors = errors + errors.T

        def rk4(q, couplings, drives, slope=1.0, errors=None):
            def rates(q, v):
                symmetric = (couplings + couplings.T) / 2
                if errors is not None:
                    symmetric = symmetric + errors
                sines = torch.sin(slope * q)
                return v, -sines + sines @ symmetric - sines * symmetric.sum(0) + drives

            h, v = 0.1, torch.zeros_like(q)
            for _ in range(5):
                k1 = rates(q, v)
                k2 = rates(q + h / 2 * k1[0], v + h / 2 * k1[1])
                k3 = rates(q + h / 2 * k2[0], v + h / 2 * k2[1])
                k4 = rates(q + h * k3[0], v + h * k3[1])
                q, v = (y + h / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip((q, v), k1, k2, k3, k4, strict=True))
            return q[:, -n_read:]

        class Layer(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *inputs):
                ctx.save_for_backward(*inputs)
                q, couplings, drives = inputs
                return rk4(q + 0.02 * torch.randn_like(q), couplings, drives, 1.1, errors)

            @staticmethod
            def backward(ctx, gradient):
                return torch.autograd.functional.vjp(rk4, ctx.saved_tensors, gradient)[1]

        def layer(x):
            return Layer.apply(x, *leaves[1:])

    def step():
        for leaf in leaves:
            leaf.grad = None
        layer(x).backward(incoming)

    return step


def oscillator_products(size):
    """The matrix products that this step of ours cannot do without, alone, as a function without arguments."""
    n_read, _ = OSCILLATOR_LAYERS[size]
    stages = Oscillators().tableau.stages
    rng = np.random.default_rng(0)
    matrix, rows, sines, forces = (rng.standard_normal((k, size), np.float32) for k in (size, BATCH, stages * BATCH, stages * BATCH))
    read = matrix[-n_read:]
    full = stages if n_read == size else stages - 1

    def products():
        for stage in range(full):
            rows @ matrix  # device
            rows @ matrix  # model
            if stage or size > 196:
                rows @ matrix  # its adjoint
        sines[: full * BATCH].T @ forces[: full * BATCH]  # gradient of the couplings
        if full < stages:
            rows @ read.T
            rows @ read.T
            rows[:, :n_read] @ read
            sines[:BATCH].T @ rows[:, :n_read]

    return products


def peak_memory(size, kind):
    """MB by which one step of a layer raises the peak memory of a fresh process that has made a step before on a small one."""
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import bench, re, torch
from pathlib import Path
torch.set_num_threads(1)
status = lambda name: int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
bench.OSCILLATOR_LAYERS[4] = 4, 0
for kind in ("ours", "reference"):
    bench.oscillator_step(4, kind)()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
step = bench.oscillator_step({size}, {kind!r})
step()
step()
print((status("VmHWM") - before) / 1024)
"""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def bench_oscillators():
    """One PAT step of an oscillator layer against a plain reference, one thread for both: time and peak memory."""
    kept, threads = True, torch.get_num_threads()
    torch.set_num_threads(1)
    for size, (n_read, factor) in OSCILLATOR_LAYERS.items():
        functions = {"ours": oscillator_step(size, "ours"), "reference": oscillator_step(size, "reference"), "bare products": oscillator_products(size)}
        with threadpool_limits(1):
            found = medians(functions, loops=20 if size < 1000 else 1)  # a training repeats its steps: caches are warm
        memory = {kind: peak_memory(size, kind) for kind in ("ours", "reference")} if sys.platform == "linux" else {}
        faster = found["reference"] / found["ours"]
        print(f"oscillators, {size}, {n_read} of them read: one PAT step, batch {BATCH}, median of {REPEATS}, at least {factor} x faster than the reference:")
        for name, value in found.items():
            used = f"   {memory[name]:7.1f} MB" if name in memory else ""
            print(f"  {name:<28} {1e3 * value:8.2f} ms   {value / found['ours']:6.2f} x{used}")
        print(f"  {faster:.1f} x faster; {found['ours'] / found['bare products']:.2f} x the time of the bare products")
        kept &= faster >= factor and (not memory or memory["ours"] <= memory["reference"])
    torch.set_num_threads(threads)
    return kept


def one_second(number):
    """A point that works for one second."""
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        pass
    return number


def bench_sweep():
    """What a sweep adds to its points' own time: at most 5 % for points of 1 s, in this process and on two."""
    points = [{"number": i} for i in range(10)]
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        print(f"Sweep, {len(points)} points of 1 s, at most 5 % over their work:")
        for scheduler, jobs in (("serial", 1), ("processes", 2)):
            # A first, short sweep starts the worker processes, as it would be in the middle of a long one.
            sweep(one_second, points[:jobs], f"{folder}/{scheduler}-start.jsonl", scheduler=scheduler, jobs=jobs)
            start = time.perf_counter()
            sweep(one_second, points, f"{folder}/{scheduler}.jsonl", scheduler=scheduler, jobs=jobs)
            over = (time.perf_counter() - start) * jobs / len(points) - 1
            print(f"  {scheduler:<28} {100 * over:8.2f} %")
            kept &= over <= 0.05
    return kept


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


BENCHMARKS = [bench_shg, bench_plate, bench_circuit, bench_oscillators, bench_sweep, bench_import]

if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, NumPy {np.__version__}, SciPy {scipy.__version__}")
    sys.exit(0 if all([benchmark() for benchmark in BENCHMARKS]) else 1)
