# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When a device fails: a training that a bad night in the laboratory cannot spoil
#
# Physics-aware training asks a device ten thousands of times. A real one blocks, is slow, loses
# its connection, and stops at three in the morning. **The claim:** none of it may change a
# result. A training on a flaky instrument, or one that was stopped and resumed, ends with the
# weights, to the last bit, of a training in which nothing happened.
#
# The device is the plain function of [10_your_own_system](10_your_own_system.ipynb): phases
# $\varphi=2\pi(x,\theta)$ through frosted glass $G$, intensities on a camera,
#
# $$ y = \left|e^{i\varphi}\,G\right|^2 + \text{noise (sd 0.01)}. $$
#
# The paper has no such figure; the numbers here are counts, differences of
# weights, and one accuracy.

# %%
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.datasets import make_moons

from pnn_utils import files
from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.instrument import Instrument, InstrumentError
from pnn_utils.training import accuracy_on_device, train
from pnn_utils.twin import fit_twin, load_twin, save_twin

cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)

# %% [markdown]
# It is short, so that these defaults are also the full setting.

# %% tags=["parameters"]
profile = "quick"
epochs = 30
n_pairs = 4000  # measured pairs for the model
failures = 0.05  # probability a call, of each of five kinds

# %% [markdown]
# ## The contract
#
#     controls --> portions, not too often --> measure(x, theta) --> a whole, finite reading?
#                           ^                    raises, hangs             | yes --> readings
#                           |__ wait, twice as long each time, count it __/| no
#
# `Instrument` makes a device of a call. This is all that a laboratory has to fill in:
#
# | setting | what it is for |
# |---|---|
# | `input_dim, param_dim, output_dim`, ranges, units | what may be sent; nothing else is |
# | `rows_per_call` | batching: most rows the instrument takes at once |
# | `interval` | rate limit: shortest time between two calls, s |
# | `warm_up` | calls that are thrown away, at the start and after a reconnection |
# | `timeout`, `reconnect` | a longer call counts as hung; the connection is made anew |
# | `attempts`, `first_wait` | ask again, wait twice as long each time, then stop |
# | `limits` | readings at the ends of the converter's range are no readings |
# | `pass_time` | what a pass costs, s: laboratory time is reported from it |
#
# With a real one (not run here; `scope` stands for your driver):
#
# ```python
# def measure(x, theta):
#     scope.send(np.hstack([x, theta]))          # blocks
#     return scope.read(timeout=5).reshape(len(x), 16)
#
# device = Instrument(measure, 16, 16, 16, rows_per_call=50, interval=0.2, warm_up=3,
#                     timeout=10, reconnect=scope.reopen, limits=(-5, 5), pass_time=0.02)
# ```

# %%
parts = np.random.default_rng(10).standard_normal((2, 64, 32)) / np.sqrt(128)
GLASS = parts[0] + 1j * parts[1]


class Camera:
    """The function, with a noise generator that a checkpoint can keep."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, x, theta):
        field = np.exp(2j * np.pi * np.hstack([x, theta]))
        return np.abs(field @ GLASS) ** 2 + self.rng.normal(0, 0.01, (len(x), 32))

    def state_dict(self):
        return self.rng.bit_generator.state

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state


# %% [markdown]
# `Faulty` fails on purpose. `rates` is each kind's probability a call: `error` (an exception),
# `hang` (one after `hang_s` seconds), `lost_connection` (until `reconnect` is called),
# `wrong_shape` (a row is missing), `not_finite` (the readings are NaN), `clipped` (they are
# `full_scale`). A failing call never reaches the measurement: what does arrive is as without
# failures.

# %%
# Kinds of failure, and what is raised; the others return what cannot be a reading.
FAULTS = {"error": RuntimeError, "hang": RuntimeError, "lost_connection": ConnectionError,
          "wrong_shape": None, "not_finite": None, "clipped": None}


class Faulty:
    """Make ``measure(x, theta)``, readings of shape (n, output_dim), fail at random."""

    def __init__(self, measure, output_dim, rates, seed=0, hang_s=1.0, full_scale=1.0):
        self.measure, self.output_dim = measure, output_dim
        self.hang_s, self.full_scale = hang_s, full_scale
        self.connected, self._rng = True, np.random.default_rng(seed)
        self._rates = {**rates, None: 1 - sum(rates.values())}
        if hasattr(measure, "state_dict"):  # failures are not repeated on resuming
            self.state_dict, self.load_state_dict = measure.state_dict, measure.load_state_dict

    def reconnect(self):
        self.connected = True

    def __call__(self, x, theta):
        if not self.connected:
            raise ConnectionError("the connection is still lost")
        kind = self._rng.choice([*self._rates], p=[*self._rates.values()])
        if kind is None:
            return self.measure(x, theta)
        self.connected = kind != "lost_connection"
        time.sleep(self.hang_s if kind == "hang" else 0)
        if FAULTS[kind]:
            raise FAULTS[kind](f"injected failure: {kind}")
        y = np.full((len(x), self.output_dim), self.full_scale, np.float32)
        return {"wrong_shape": y[1:], "not_finite": y * np.nan, "clipped": y}[kind]


# %%
def make(rates, seed=3, **settings):
    faulty = Faulty(Camera(seed), 32, rates, seed=4, full_scale=100.0)
    return Instrument(faulty, 32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5),
                      control_unit="turns", limits=(-1, 100), reconnect=faulty.reconnect,
                      first_wait=0, pass_time=0.02, **settings)


device = make({})
try:
    device(np.full((1, 32), 0.6), np.full(32, 0.2))
except ValueError as error:
    print("refused before it reached the device:", error, f"| passes: {device.passes}")

# %%
folder = tempfile.TemporaryDirectory()
path = Path(folder.name)
controls = signal_like_controls(device, n_pairs // 3, 3, np.random.default_rng(1))
twin, _ = fit_twin(device, *controls, device(*controls), batch_size=75, learning_rate=4e-3,
                   generator=torch.Generator().manual_seed(2))
save_twin(path / "twin.safetensors", twin, {"pairs": n_pairs})
x, y = make_moons(200, noise=0.12, random_state=0)
x, y = torch.tensor(x).float(), torch.tensor(y)
passes = device.passes

# %% [markdown]
# ## A flaky instrument
#
# Errors, lost connections, missing rows, NaN, and readings at the end of the converter's range:
# each is asked for again. A call that failed never reached the camera, so that the noise of the
# next one is the noise it would have had.

# %%
def learn(rates, checkpoint=None, **settings):
    device = make(rates, **settings)
    network = spectral_chain(device, load_twin(path / "twin.safetensors", device), 2, 2, 3,
                             torch.Generator().manual_seed(7), mode="device")
    network.calibrate(x)
    history = train(network.set_mode("pat"), x, y, epochs=epochs, learning_rate=0.05,
                    batch_size=50, device=device, checkpoint=checkpoint,
                    generator=torch.Generator().manual_seed(8))
    return network, history, device


def difference(one, other):
    """Largest difference between the weights of two networks."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


KINDS = ["error", "lost_connection", "wrong_shape", "not_finite", "clipped"]
quiet, quiet_history, device = learn({})
calls = 3 + epochs * 4 * 3  # three layers, four batches
passes += device.passes
flaky, flaky_history, device = learn(dict.fromkeys(KINDS, failures), attempts=8)
passes += device.passes
counted = {kind: count for kind, count in device.events.items() if count}
print(f"{sum(counted.values())} failures beside {calls} good calls:", counted)
print("largest difference of a weight:", difference(quiet, flaky))

# %% [markdown]
# ## A call that hangs
#
# After `timeout` it is left behind in its thread, and the connection is made anew.

# %%
faulty = Faulty(Camera(5), 32, {"hang": 0.2}, seed=4, hang_s=2.0)
device = Instrument(faulty, 32, 32, 32, input_range=(0, 0.5), param_range=(0, 0.5), timeout=0.5,
                    rows_per_call=10, first_wait=0, reconnect=faulty.reconnect)
readings = device(*(part[:300] for part in controls))
hung = device.events["timeouts"]
passes += device.passes
print(f"{hung} of {30 + hung} calls hung; {len(readings)} readings, all finite: "
      f"{np.isfinite(readings).all()}")

# %% [markdown]
# ## A broken one
#
# Where asking again does not help, the exception says what is kept. The same call with a repaired
# instrument goes on from the last whole epoch, noise included.

# %%
try:
    learn({"not_finite": 0.15}, path / "run.checkpoint", attempts=2)
except InstrumentError as error:
    said = error.__notes__[0].replace(f"{path}/", "")
    print(str(error).split(";")[0], "|", said)
_, kept = files.load_tensors(path / "run.checkpoint")
repaired, history, device = learn({}, path / "run.checkpoint")
passes += device.passes
print(f"repaired: {len(kept['history'])} epochs were kept, {len(history)} in the end; "
      f"largest difference of a weight: {difference(quiet, repaired)}")

# %% [markdown]
# ## Save and reload
#
# Weights go into a safetensors file with a checksum, the model beside it; nothing is pickled. A
# file that was damaged is refused.

# %%
test_x, test_y = make_moons(500, noise=0.12, random_state=1)
test = torch.tensor(test_x).float(), torch.tensor(test_y)
files.save_tensors(path / "network.safetensors", quiet.state_dict(), {"trained": "quiet"})

device = make({}, seed=6)
reloaded = spectral_chain(device, load_twin(path / "twin.safetensors", device), 2, 2, 3,
                          torch.Generator().manual_seed(0))
weights, _ = files.load_tensors(path / "network.safetensors")
reloaded.load_state_dict(weights)
accuracy = accuracy_on_device(reloaded, *test)
passes += device.passes
print(f"reloaded: {100 * accuracy:.1f} % of 500 new points; "
      f"largest difference of a weight: {difference(quiet, reloaded)}")

# %%
content = bytearray((path / "network.safetensors").read_bytes())
content[-1] ^= 1
(path / "damaged.safetensors").write_bytes(content)
with contextlib.suppress(ValueError):
    files.load_tensors(path / "damaged.safetensors")
    raise AssertionError("a damaged file was read")
folder.cleanup()

# %% [markdown]
# ## Results

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3))
steps, stop = np.arange(1, epochs + 1), len(kept["history"])
left.plot(steps, [row["loss"] for row in quiet_history], color="0.7", linewidth=5,
          label="nothing happened")
left.plot(steps[:stop], [row["loss"] for row in kept["history"]], "o", markersize=4,
          color=COLOURS["in_silico"], label="until it broke")
left.plot(steps[stop:], [row["loss"] for row in history[stop:]], ".", color=COLOURS["pat"],
          label="resumed")
left.set(title="a  Stopped and resumed", xlabel="epoch", ylabel="loss", yscale="log")
left.legend()
for kind in counted:
    right.plot(steps, [row[kind] for row in flaky_history], label=kind.replace("_", " "))
right.set(title="b  Failures of the flaky instrument", xlabel="epoch", ylabel="counted so far")
right.legend(fontsize=7)
figures.save_figure(fig, "12_when_a_device_fails", "results")

# %%
def one(value):
    return summary([value])


results = {
    "flaky": {"failures": one(sum(counted.values())),
              "largest_weight_difference": one(difference(quiet, flaky))},
    "hung": {"timeouts": one(hung)},
    "resumed": {"largest_weight_difference": one(difference(quiet, repaired))},
    "reloaded": {"largest_weight_difference": one(difference(quiet, reloaded))}}
write_metrics("12_when_a_device_fails", profile, results, cost=cost.read(passes), seeds=[7],
              data={"name": "half-moons, drawn by seed", "sha256": ""}, failures=counted,
              epochs_kept=len(kept["history"]), accuracy_reloaded=accuracy)
assert not any(row["largest_weight_difference"]["mean"] for row in results.values()
               if "largest_weight_difference" in row)

# %%
lines = ["| | here |", "|---|---|",
         f"| failures of the flaky instrument, beside {calls} good calls "
         f"| {sum(counted.values())} |", f"| calls that hung, beside 30 good ones | {hung} |",
         f"| epochs kept when it broke, of {epochs} | {len(kept['history'])} |"]
lines += [f"| largest difference of a weight to the quiet training, {name} | "
          f"{row['largest_weight_difference']['mean']:g} |"
          for name, row in results.items() if "largest_weight_difference" in row]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# Every failure that a reading shows is asked for again, counted, and leaves no trace in the
# weights: the differences are 0, not small. What a reading does not show, one that is whole,
# finite, within the limits and wrong, is taken for a measurement. And the camera's noise can be
# continued here because it is simulated: a training on a real device goes on from the same
# weights, batches and moments of the optimiser, with noise of its own.
