"""Kill it, fill its disk, damage its files: nothing is lost, the numbers are those of a quiet run.

    python tests/torture.py [--kills 12] [--seed 0]      (``make torture``)

Four jobs (fetching data, fitting a twin, training, a sweep) run in processes of their own and are
killed (SIGKILL, with all their children) at random moments after their imports; the fifth is the
pipeline, in a copy of this repository. Each is started again until it has been killed often enough
and then runs to its end. After every kill, each file that has its final name must be whole. The
other faults: a full disk, a folder that cannot be written, two pipelines at once, files with a
flipped bit or a lost end, and an instrument whose driver fails in the middle of a training. Prints
a table; exits 1 if anything was lost.
"""

import argparse
import contextlib
import errno
import functools
import gzip
import hashlib
import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import torch

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.experiment import sweep
from pnn_utils.files import ROOT, load_tensors, save_tensors, sha256
from pnn_utils.networks import spectral_chain
from pnn_utils.report import metrics
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.shg.device import SHG
from pnn_utils.training import Checkpoint, train
from pnn_utils.twin import Perceptron, fit_twin, load_twin, random_controls, save_twin

CONTENT = random.Random(0).randbytes(20_000_000)  # a data file


# What is tortured: each job works in a folder of its own, the same whether it starts or goes on.

def fetching(folder):
    mirror, files.RAW = folder / "mirror", folder / "raw"
    if not (mirror / "done").exists():
        mirror.mkdir(exist_ok=True)
        (mirror / "file.bin.gz").write_bytes(gzip.compress(CONTENT, 1))
        (mirror / "done").touch()
    fetch.FILES = {"mnist": {"file.bin": hashlib.sha256(CONTENT).hexdigest()}}
    fetch.SETS = {"mnist": {"sources": ()}}
    os.environ["PNN_DATA_MIRROR"] = str(mirror)
    fetch.fetch("mnist")
    left_over = list(files.RAW.rglob("*.part"))
    return {"file.bin": sha256(fetch.path("mnist", "file.bin")), "left over": len(left_over)}


def fitting(folder):
    device = SHG()
    x, theta = random_controls(device, 1500, np.random.default_rng(0))
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(32,), epochs=12,
                       generator=torch.Generator().manual_seed(0))
    save_twin(folder / "twin.safetensors", twin, {"pairs": 1500})
    return {name: sha256(folder / name) for name in ("twin.safetensors", "twin.json")}


def training(folder, epochs=25, device=None):
    device, generator = device or SHG(noise_seed=1), torch.Generator().manual_seed(1)
    model = Perceptron(50, 50, 50, (32,), torch.Generator().manual_seed(2))
    network = spectral_chain(device, model, 4, 2, 2, torch.Generator().manual_seed(3))
    x = torch.rand(100, 4, generator=torch.Generator().manual_seed(4))
    history = train(network, x, (x[:, 0] > x[:, 1]).long(), epochs=epochs, learning_rate=0.05,
                    batch_size=10, generator=generator, device=device,
                    checkpoint=folder / "run.checkpoint")
    save_tensors(folder / "network.safetensors", network.state_dict(), {"history": history})
    return {"network.safetensors": sha256(folder / "network.safetensors")}


def point(number):
    time.sleep(0.05)
    return {"value": float(np.random.default_rng(number).normal())}


def sweeping(folder):
    path = folder / "sweep.jsonl"
    found = sweep(point, [{"number": n} for n in range(40)], path, scheduler="processes", jobs=2)
    return {"results": found, "lines": len(path.read_text().splitlines())}


JOBS = {job.__name__: job for job in (fetching, fitting, training, sweeping)}


def check_files(name, folder):
    """Raise if a file that has its final name is not whole."""
    fetched = folder / "raw" / "mnist" / "file.bin"
    if name == "fetching" and fetched.exists():
        whole = hashlib.sha256(CONTENT).hexdigest()
        assert sha256(fetched) == whole, "a partial data file has its final name"
    if name == "fitting" and (folder / "twin.safetensors").exists():
        load_twin(folder / "twin.safetensors", SHG())
    for file in ("run.checkpoint", "network.safetensors"):
        if (folder / file).exists():
            load_tensors(folder / file)


# Kills.

def start(arguments, cwd=None):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
                                "TQDM_DISABLE": "1", "PYTHONPATH": str(cwd or ROOT)}
    return subprocess.Popen(arguments, cwd=cwd, env=environment, start_new_session=True, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill(process):
    """SIGKILL a process and all its children; True if it was still running."""
    running = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def whole(process):
    """Wait for an undisturbed process; return the time since its first line, and its last line."""
    process.stdout.readline()
    begin = time.perf_counter()
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise AssertionError(f"exit status {process.returncode}: {output[-2000:]}")
    return time.perf_counter() - begin, (output.strip().splitlines() or [""])[-1]


OTHER = "the numbers differ from those of a quiet run"


def kill_job(name, count, kills, rng):
    command = [sys.executable, __file__, "--job", name]
    resumes = name in ("training", "sweeping")
    with tempfile.TemporaryDirectory() as quiet, tempfile.TemporaryDirectory() as tortured:
        duration, expected = whole(start([*command, quiet]))
        while count["injected"] < kills:
            process = start([*command, tortured])
            process.stdout.readline()  # the imports are over
            time.sleep(rng.uniform(0, duration / 4 if resumes else duration))
            if kill(process):
                count["injected"] += 1
                check_files(name, Path(tortured))
            else:  # it came to its end before: once more from nothing
                assert whole(start([*command, tortured]))[1] == expected, OTHER
                for path in Path(tortured).iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert whole(start([*command, tortured]))[1] == expected, OTHER
        count["survived"] = count["injected"]


def copy_of_the_repository(folder):
    """Copy what git tracks or would track, as a repository of its own."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


STAGE = "notebook@01_toy"
PIPELINE = [str(Path(sys.executable).with_name("dvc")), "repro", "--force", STAGE]
NOTEBOOK, METRICS = "notebooks/01_toy.ipynb", "data/metrics/01_toy.json"


def numbers(folder):
    """Return the stage's products without what may differ between two runs, the cost."""
    found = json.loads((folder / METRICS).read_text())
    figures = sorted((folder / "figures" / "01_toy").glob("*.svg"))
    assert figures, "the stage drew no figure"
    return {METRICS: {name: value for name, value in found.items() if name != "cost"},
            **{str(path): path.read_text() for path in (folder / NOTEBOOK, *figures)}}


def pipeline(arguments, folder):
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return start(arguments, folder)


def kill_pipeline(count, kills, rng):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_of_the_repository(folder)
        duration, _ = whole(pipeline(PIPELINE, folder))
        expected = numbers(folder)
        while count["injected"] < kills:
            process = pipeline(PIPELINE, folder)
            process.stdout.readline()
            time.sleep(rng.uniform(0, duration))
            count["injected"] += kill(process)
            for name in (NOTEBOOK, METRICS):  # absent, or whole
                if (folder / name).exists():
                    json.loads((folder / name).read_text())
        whole(pipeline(PIPELINE, folder))
        assert numbers(folder) == expected, OTHER
        status = subprocess.run([PIPELINE[0], "status", STAGE], cwd=folder, capture_output=True,
                                text=True).stdout
        assert "up to date" in status, f"dvc status says: {status}"
        count["survived"] = count["injected"]


def two_pipelines(count, rounds):
    """Both at the same time: each ends well or says that the other is at work."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_of_the_repository(folder)
        whole(pipeline(PIPELINE, folder))
        expected = numbers(folder)
        for _ in range(rounds):
            both = [pipeline(PIPELINE, folder) for _ in range(2)]
            count["injected"] += 1
            outputs = [process.communicate(timeout=600)[0] for process in both]
            for process, output in zip(both, outputs, strict=True):
                clear = "lock" in output.lower() or "busy" in output.lower()
                assert process.returncode == 0 or clear, f"no clear error: {output[-2000:]}"
            assert any(p.returncode == 0 for p in both), f"neither came through: {outputs}"
            assert numbers(folder) == expected, OTHER
            count["survived"] += 1


# Disks.

@contextlib.contextmanager
def small_disk(folder):
    """A file system of 4 MB at `folder`, where this process may mount one; yields if it did."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mounted = shutil.which("mount") and not subprocess.run(command, capture_output=True).returncode
    try:
        yield bool(mounted)
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def full(folder, mounted):
    """No room for more than a few kB: a full disk, or, where none could be mounted, a limit."""
    if mounted:
        with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
        (folder / "filler").unlink()
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(folder, mounted):
    if mounted:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    else:
        for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            place.chmod(0o555)
        yield
        for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            place.chmod(0o755)


def writers(folder):
    """What writes files: name -> (call, expected result)."""
    def write_metrics():
        files.METRICS = folder
        results = {"pat": {"accuracy": metrics.summary([0.5] * 200)}}
        metrics.write_metrics("99_torture", "quick", results)
        return sha256(folder / "99_torture.json")

    def write_weights():
        save_tensors(folder / "w.safetensors", {"a": torch.arange(100_000.0)}, {})
        return sha256(folder / "w.safetensors")

    def run_sweep():
        found = sweep(lambda n: {"value": n, "rest": "x" * 3000}, [{"n": n} for n in range(3)],
                      folder / "s.jsonl")
        return [row["value"] for row in found]

    return {"metrics": write_metrics, "weights": write_weights, "sweep": run_sweep,
            "training": lambda: training(folder), "fitting": lambda: fitting(folder)}


def disks(count, fault, expected_errors):
    """A clear error from every writer, older files as they were; afterwards it goes through."""
    with tempfile.TemporaryDirectory() as scratch:
        quiet = Path(scratch, "quiet")
        quiet.mkdir()
        expected = {name: write() for name, write in writers(quiet).items()}
        folder = Path(scratch, "disk")
        with small_disk(folder) as mounted:
            if fault is read_only and not mounted and os.geteuid() == 0:
                print("not injected: a read-only folder (root may write anywhere, and no file "
                      "system could be mounted)")
                return
            # A training stopped half-way, whose checkpoint must stay.
            with contextlib.suppress(KeyboardInterrupt):
                stop_after(folder, 5)
            kept = {path.name: path.read_bytes() for path in folder.iterdir()}
            for name, write in writers(folder).items():
                count["injected"] += 1
                with fault(folder, mounted):
                    try:
                        write()
                    except OSError as error:
                        assert error.errno in expected_errors, f"{name}: {error!r}"
                    else:
                        raise AssertionError(f"{name}: no error")
                    for old, content in kept.items():
                        assert (folder / old).read_bytes() == content, f"{name}: {old} was changed"
                assert write() == expected[name], f"{name}: other numbers afterwards"
                count["survived"] += 1
                for path in folder.iterdir():  # room for the next one
                    if path.name not in kept:
                        path.unlink()
                for old, content in kept.items():
                    (folder / old).write_bytes(content)


def stop_after(folder, epochs):
    """Train for a few epochs of a training of 25, then stop as Ctrl-C does."""
    real = Checkpoint.save

    def save(checkpoint, history):
        real(checkpoint, history)
        if len(history) > epochs:
            raise KeyboardInterrupt

    Checkpoint.save = save
    try:
        training(folder)
    finally:
        Checkpoint.save = real


# Damage.

def damage(count, rounds, rng):
    """A flipped bit, a lost end: an error names the file, or the content is the same."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        training(folder, epochs=2)
        fitting(folder)
        points = [{"n": n} for n in range(20)]
        sweep(lambda n: {"value": n}, points, folder / "s.jsonl")
        files.METRICS = folder / "metrics"
        results = {"pat": {"accuracy": metrics.summary([0.5, 0.6])}}
        metrics.write_metrics("99_torture", "quick", results)
        compare = runpy.run_path(str(ROOT / ".ci" / "reproduced.py"))["compare"]
        files.RAW = folder / "raw"
        (files.RAW / "mnist").mkdir(parents=True)
        (files.RAW / "mnist" / "file.bin").write_bytes(CONTENT[:100_000])
        fetch.FILES = {"mnist": {"file.bin": sha256(files.RAW / "mnist" / "file.bin")}}
        readers = {
            "network.safetensors": lambda path: str(load_tensors(path)),
            "run.checkpoint": lambda path: training(path.parent, epochs=2),
            "twin.safetensors": lambda path: str(load_twin(path, SHG()).state_dict()),
            "metrics/99_torture.json": lambda path: compare(path.parent, path.parent),
            "raw/mnist/file.bin": lambda path: fetch.path("mnist", "file.bin").read_bytes(),
            "s.jsonl": lambda path: sweep(lambda n: {"value": n}, points, path)}
        for name, read in readers.items():
            path = folder / name
            content, expected = path.read_bytes(), read(path)
            for number in range(rounds):
                place = rng.randrange(len(content))
                bad = bytearray(content)
                bad[place] ^= 1 << rng.randrange(8)
                path.write_bytes(content[:place] if number % 2 else bytes(bad))
                count["injected"] += 1
                try:
                    found = read(path)
                except ValueError as error:
                    assert path.name in str(error), f"{name}: not named by the error: {error}"
                else:
                    # Metrics are text without a checksum: `compare` sees a digit that differs.
                    text = name.endswith((".json", ".jsonl"))
                    assert found == expected or text, f"{name}: damaged content was taken for good"
                path.write_bytes(content)
                count["survived"] += 1


# An instrument's driver.

class VisaIOError(Exception):
    """As pyvisa's, which is no OSError."""


class SerialException(OSError):
    """As pyserial's, which has no errno."""


class Driver:
    """It answers to the thread that opened it, until a fault closes it in the midst of a training.

    Controls are scaled to volts where they stand; more than 5 V would break it.
    """

    def __init__(self, fault=None, at_call=41, refusals=0, hang_s=0.0):
        self.fault, self.at_call, self.refusals, self.hang_s = fault, at_call, refusals, hang_s
        self.calls, self.owner, self.highest = 0, None, 0.0

    def reopen(self):
        if self.refusals:
            self.refusals -= 1
            raise VisaIOError("VI_ERROR_RSRC_BUSY")
        self.owner = threading.get_ident()

    def __call__(self, x, theta):
        self.calls += 1
        if self.calls == 1:
            self.owner = threading.get_ident()
        for volts in (x, theta):
            volts *= 5
            self.highest = max(self.highest, volts.max())
        if self.calls == self.at_call and self.fault:
            self.owner = None
            time.sleep(self.hang_s)
            raise self.fault
        if self.owner != threading.get_ident():
            raise OSError(errno.EIO, "not open, or opened by another thread")
        return np.tanh(np.cumsum(x * theta, 1) / 25)


GONE = OSError(errno.EIO, "Input/output error")
DRIVERS = {  # name: the driver's settings, and the events that they cost
    "VisaIOError": ({"fault": VisaIOError("VI_ERROR_CONN_LOST")}, {"lost_connections": 1}),
    "SerialException": ({"fault": SerialException("disconnected?")}, {"lost_connections": 1}),
    "TimeoutExpired": ({"fault": subprocess.TimeoutExpired("scpi", 1)}, {"timeouts": 1}),
    "errno 5": ({"fault": GONE}, {"lost_connections": 1}),
    "errno 19": ({"fault": OSError(errno.ENODEV, "No such device")}, {"lost_connections": 1}),
    "during warm-up": ({"fault": GONE, "at_call": 2}, {"lost_connections": 1}),
    "reconnect fails twice": ({"fault": GONE, "refusals": 2}, {"lost_connections": 3}),
    "a hang": ({"fault": GONE, "hang_s": 60}, {"timeouts": 1})}


def driver_faults(count):
    """After each of them, the weights of a training with a driver that never fails."""
    def weights(driver):
        device = Instrument(driver, 50, 50, 50, reconnect=driver.reopen, timeout=5, warm_up=3,
                            rows_per_call=5, first_wait=0.01, attempts=6)
        with tempfile.TemporaryDirectory() as folder:
            training(Path(folder), 2, device)
            return load_tensors(Path(folder, "network.safetensors"))[0], device

    expected, _ = weights(Driver())
    for name, (settings, events) in DRIVERS.items():
        count["injected"] += 1
        driver = Driver(**settings)
        found, device = weights(driver)
        assert all(torch.equal(found[key], expected[key]) for key in expected), f"{name}: {OTHER}"
        assert {kind: n for kind, n in device.events.items() if n} == events, f"{name}: {events}"
        assert driver.highest <= 5, f"{name}: {driver.highest} V were sent, where 5 V are allowed"
        count["survived"] += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12, help="of each job and of the pipeline")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"  # bars would tear the table
    if options.job:
        print("go", flush=True)
        print(json.dumps(JOBS[options.job[0]](Path(options.job[1]))))
        return 0
    rng = random.Random(options.seed)
    kills = {"kills": options.kills, "rng": rng}
    faults = {f"SIGKILL while {name}": functools.partial(kill_job, name, **kills) for name in JOBS}
    faults |= {
        "SIGKILL of the pipeline": functools.partial(kill_pipeline, **kills),
        "two pipelines at once": lambda count: two_pipelines(count, 3),
        "disk full": lambda count: disks(count, full, (errno.ENOSPC, errno.EFBIG)),
        "read-only folder": lambda count: disks(count, read_only, (errno.EROFS, errno.EACCES)),
        "damaged file": lambda count: damage(count, 20, rng),
        "an instrument's driver": driver_faults}
    print(f"{'fault':<28} {'injected':>8} {'survived':>8} {'seconds':>8}")
    total = {"injected": 0, "survived": 0, "kills": 0}
    for name, inject in faults.items():
        count, begin = {"injected": 0, "survived": 0}, time.perf_counter()
        try:
            inject(count)
        except Exception:  # a loss of any kind is shown, and the others are still tried
            count["injected"] += count["injected"] == count["survived"]
            traceback.print_exc()
        seconds = time.perf_counter() - begin
        print(f"{name:<28} {count['injected']:>8} {count['survived']:>8} {seconds:>8.0f}",
              flush=True)
        for key, value in count.items():
            total[key] += value
        total["kills"] += count["injected"] * name.startswith("SIGKILL")
    lost = total["injected"] - total["survived"]
    print(f"{total['injected']} faults, {total['kills']} of them SIGKILL; "
          f"{total['survived']} survived, {lost} lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
