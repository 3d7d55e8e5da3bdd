"""Timings that the project promises: ``make bench``. Exits with 1 if one is missed.

What is promised relative to a reference is the median of ratios: in every round the reference and
the candidate are timed back to back, so that a busy machine slows both alike. Where both run in
one thread it is the processor's time that counts, in which other processes do not appear.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import scipy.fft
import torch
from threadpoolctl import threadpool_limits

from pnn_utils.experiment import sweep
from pnn_utils.files import missing
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.solver import simulate
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.shg.device import SHG

ROWS, ROUNDS = 10_000, 7
ROOT = str(Path(__file__).resolve().parents[1])


def alternate(functions, rounds=ROUNDS, loops=1, clock=time.perf_counter):
    """Seconds that each named function takes in each round, called `loops` times at once."""
    times = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = clock()
            for _ in range(loops):
                function()
            if number:  # the first round warms up
                times[name].append((clock() - start) / loops)
    return {name: np.array(values) for name, values in times.items()}


def ratio(times, name, reference):
    """Median over the rounds of what `name` took over what `reference` took beside it."""
    return np.median(times[name] / times[reference])


def line(name, seconds, rest=""):
    print(f"  {name:<28} {1e3 * np.median(seconds):8.2f} ms{rest}")


def bench_shg():
    """SHG device against the FFTs it must do: one inverse, one forward, same sizes, one thread."""
    rng = np.random.default_rng(0)
    x, theta = (rng.random((ROWS, 50), np.float32) for _ in range(2))
    ideal, real = SHG(ideal=True), SHG()
    field = rng.random((ROWS, ideal.fft_length), np.float32).astype(np.complex64)

    def bare_ffts():
        there = scipy.fft.ifft(field, axis=1, workers=1)
        scipy.fft.fft(there, axis=1, overwrite_x=True, workers=1)

    # The device's matrix products would otherwise use every core, which the FFTs do not.
    with threadpool_limits(1):
        times = alternate({"bare FFTs": bare_ffts, "ideal": lambda: ideal(x, theta),
                           "all imperfections": lambda: real(x, theta)},
                          clock=time.process_time)
    ratios = {name: ratio(times, name, "bare FFTs") for name in times}
    print(f"SHG, {ROWS} control vectors, {ROUNDS} rounds, at most 3 x the bare FFTs:")
    for name, seconds in times.items():
        line(name, seconds, f"   {ratios[name]:5.2f} x")
    return max(ratios.values()) <= 3


def linear(title, sizes, run, rounds=5):
    """Print the times of `run(size)`; return whether the cost is linear in the size or better.

    The slope of their logarithms is taken round by round; its median is at most 1.1. Processor
    time counts: one thread works, and how long others keep it waiting says nothing about the cost.
    """
    times = alternate({size: (lambda size=size: run(size)) for size in sizes}, rounds,
                      clock=time.process_time)
    logs = np.log(np.array(list(times.values())))
    order = np.median(np.polyfit(np.log(list(times)), logs, 1)[0])
    listed = ", ".join(f"{n}: {1e3 * np.median(seconds):.1f} ms" for n, seconds in times.items())
    print(f"  {title}: {listed}; log-log slope {order:.2f}")
    return order <= 1.1


def bench_plate():
    """Plate: at most 2 s for 10,000 waveforms of 196 samples, linear in waveforms and modes."""
    rng = np.random.default_rng(0)
    x, none = rng.uniform(-1, 1, (ROWS, 196)), np.zeros(0)
    ideal, real = Plate(ideal=True), Plate()
    times = alternate({"ideal (linear)": lambda: ideal(x, none),
                       "all imperfections": lambda: real(x, none)}, 3)
    print(f"Plate, {ROWS} waveforms of 196 samples played twice, median of 3, at most 2 s:")
    for name, seconds in times.items():
        line(name, seconds)
    by_modes = {n: Plate(n_modes=n) for n in (4, 8, 16, 32, 64)}
    kept = [linear("waveforms", (500, 1000, 2000, 4000, 8000), lambda n: real(x[:n], none)),
            linear("modes, 1000 waveforms", by_modes, lambda n: by_modes[n](x[:1000], none))]
    return all(np.median(seconds) <= 2 for seconds in times.values()) and all(kept)


def bench_circuit():
    """Circuit: 1,000 times ngspice's throughput at the tests' accuracy; linear cost."""
    rng = np.random.default_rng(0)
    ideal, real, none = Circuit(ideal=True), Circuit(), np.zeros(0)
    x = rng.uniform(*ideal.input_range, (4000, 196))
    functions = {"ideal": lambda: ideal(x, none), "all imperfections": lambda: real(x, none)}
    times = alternate(functions, 3)
    print(f"Circuit, {len(x)} waveforms of 196 samples, median of 3:")
    for name, seconds in times.items():
        print(f"  {name:<28} {1e6 * np.median(seconds) / len(x):8.1f} us a waveform")
    kept = [bench_ngspice(ideal, x)]
    long = rng.uniform(-4, 4, (500, 1568))
    kept += [linear("waveforms", (250, 500, 1000, 2000, 4000), lambda n: ideal(x[:n], none)),
             linear("samples, 500 waveforms", (98, 196, 392, 784, 1568),
                    lambda n: simulate(ideal.parameters, long[:, :n]))]
    return all(kept)


def bench_ngspice(device, x, waveforms=20):
    """At least 1,000 times ngspice's throughput, within 0.5 % RMS of its waveforms' swing."""
    if why := missing("ngspice"):
        print(f"  the comparison with ngspice was left out: {why}")
        return True
    sys.path.insert(0, ROOT)  # the referee stands with the tests
    from tests.referees.netlist import ngspice_version, run_ngspice

    drives, expected = iter(x), []
    functions = {"ngspice": lambda: expected.append(run_ngspice(device.parameters, next(drives))),
                 "device": lambda: device(x, np.zeros(0))}
    times = alternate(functions, waveforms - 1)
    faster = ratio(times, "ngspice", "device") * len(x)
    error = device(x[:waveforms], np.zeros(0)) - expected
    worst = (np.sqrt((error**2).mean(1)) / np.ptp(expected, axis=1)).max()
    print(f"  ngspice {ngspice_version()}: {1e6 * np.median(times['ngspice']):.0f} us a waveform, "
          f"{faster:.0f} x the device's (at least 1000), which differs by {100 * worst:.2f} % RMS "
          "of the swing at most (0.5)")
    return faster >= 1000 and worst <= 0.005


# Oscillators: (how many are read, how many times faster than the reference).
OSCILLATOR_LAYERS = {196: (196, 5), 1610: (10, 3)}
BATCH = 32


def oscillator_step(size, kind):
    """One forward and backward pass of a PAT layer as a function, with the device's gap.

    "ours" is `PhysicalLayer`. "reference" is the same layer as one would write it first: RK4 with
    five steps, couplings rebuilt at each stage, and torch.autograd.functional.vjp of the model for
    the backward pass. The layer of 196 is a network's first: its inputs are data and need no
    gradient.
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
        square = torch.randn(size, size, generator=generator) / size**0.5
        leaves = x, torch.nn.Parameter(square), torch.nn.Parameter(torch.zeros(size))
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
                q, v = (y + h / 6 * (a + 2 * b + 2 * c + d)
                        for y, a, b, c, d in zip((q, v), k1, k2, k3, k4, strict=True))
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
    """The matrix products that this step of ours cannot do without, alone, as a function."""
    n_read, _ = OSCILLATOR_LAYERS[size]
    stages = len(Oscillators.tableau.b)
    rng = np.random.default_rng(0)
    matrix, rows, sines, forces = (rng.standard_normal((k, size), np.float32)
                                   for k in (size, BATCH, stages * BATCH, stages * BATCH))
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
    """MB by which a layer's step raises the peak of a fresh process that has made a small one."""
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import bench, re, torch
from pathlib import Path
torch.set_num_threads(1)
def status(name):
    text = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+) kB", text).group(1))
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
    return float(python(code))


def python(code):
    """Run code in a fresh process and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def bench_oscillators():
    """One PAT step of an oscillator layer against a plain reference: time and peak memory."""
    kept, threads = True, torch.get_num_threads()
    torch.set_num_threads(1)
    for size, (n_read, factor) in OSCILLATOR_LAYERS.items():
        functions = {"reference": oscillator_step(size, "reference"),
                     "ours": oscillator_step(size, "ours"),
                     "bare products": oscillator_products(size)}
        small = size < 1000
        with threadpool_limits(1):  # a training repeats its steps: caches are warm
            times = alternate(functions, 3 * ROUNDS if small else ROUNDS, 10 if small else 1,
                              time.process_time)
        memory = {}
        if sys.platform == "linux":
            memory = {kind: peak_memory(size, kind) for kind in ("ours", "reference")}
        faster = ratio(times, "reference", "ours")
        print(f"oscillators, {size}, {n_read} of them read: one PAT step, batch {BATCH}, "
              f"at least {factor} x faster than the reference:")
        for name, seconds in times.items():
            line(name, seconds, f"   {memory[name]:7.1f} MB" if name in memory else "")
        print(f"  {faster:.2f} x faster (median of {len(times['ours'])} rounds); "
              f"{ratio(times, 'ours', 'bare products'):.2f} x the time of the bare products")
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
    """What a sweep adds to its points of 1 s: at most 5 %, in this process and on two."""
    points = [{"number": i} for i in range(10)]
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        print(f"Sweep, {len(points)} points of 1 s, median of 3, at most 5 % over their work:")
        for scheduler, jobs in (("serial", 1), ("processes", 2)):
            # A first, short sweep starts the worker processes, as in the middle of a long one.
            sweep(one_second, points[:jobs], f"{folder}/{scheduler}-start.jsonl", scheduler, jobs)
            over = []
            for number in range(3):
                start = time.perf_counter()
                sweep(one_second, points, f"{folder}/{scheduler}{number}.jsonl", scheduler, jobs)
                over.append((time.perf_counter() - start) * jobs / len(points) - 1)
            print(f"  {scheduler:<28} {100 * np.median(over):8.2f} %")
            kept &= np.median(over) <= 0.05
    return kept


def bench_import():
    """Time that importing the package adds to importing torch; its modules for information."""
    def added(module):
        code = f"import time, torch; start = time.perf_counter(); import {module}"
        code += "; print(time.perf_counter() - start)"
        return statistics.median(float(python(code)) for _ in range(5))

    added("pnn_utils")  # fills the file cache
    print("import after torch, median of 5 processes, pnn_utils at most 0.3 s:")
    names = ("pnn_utils", "pnn_utils.pat", "pnn_utils.twin", "pnn_utils.training")
    found = {name: added(name) for name in names}
    for name, value in found.items():
        print(f"  {name:<28} {value:8.3f} s")
    return found["pnn_utils"] <= 0.3


BENCHMARKS = [bench_shg, bench_plate, bench_circuit, bench_oscillators, bench_sweep, bench_import]

if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
          f"SciPy {scipy.__version__}")
    sys.exit(0 if all([benchmark() for benchmark in BENCHMARKS]) else 1)
