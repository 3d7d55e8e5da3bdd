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
# # Fig. 4e-h: a transistor circuit reads digits
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 4e-h): a resistor, an
# inductor, a capacitor and a transistor, driven and read by a data-acquisition card (DAQ) at
# 1 MS/s, read handwritten digits (MNIST) with 93 % accuracy. Its transients are strongly nonlinear
# and noisy.
#
# **What stands here.** Circuit and DAQ are a *simulated device*; no laboratory is attached.
# Training sees it only through `y = device(x, theta)`. The simulation agrees with ngspice to
# 0.36 % of the swing or better (tests), far below the noise. The digits are real.
#
# **The equations.** The DAQ holds a voltage $u$ (V) for each microsecond; $i$ (A) is the
# inductor's current, $v$ (V) the capacitor's voltage, which is read:
#
# $$L\,\dot{\imath}=u-R\,i-v,\qquad C\,\dot v=i-i_\text{load}(v),$$
#
# with $R$ ($\Omega$), $L$ (H), $C$ (F). The load is an n-channel MOSFET (BS170) behind a resistor,
# gate and drain tied: below its threshold of 1.8 V it carries nothing and the circuit rings at
# 88 kHz, above it conducts and damps, and below $-0.6$ V its body diode conducts.
# `pnn_utils.systems.circuit.device` has the full equations, with the junction's and the gate's
# charge.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
n_networks = 3  # averaged; full: 7
n_seeds = 2
n_train = 8000  # images of the training set in use; full: all 60,000
n_valid = 1000  # of these, held out
n_each = 2000  # images that each network sees, drawn from the rest
epochs = 4
learning_rates = [0.06]
extensions = 0  # how often the search may widen this grid; full: 3
n_pairs = 3000  # measured pairs for the digital models
model_epochs = 5
n_compare = 1  # seeds of the comparison of models
compare_each = 1000  # images that each of its networks sees
n_test = 2000  # test images; full: all 10,000
jitters_ns = [0, 15, 100]
n_jitter = 1  # seeds of the jitter sweep
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes, of 300 to 600 MB each; full: 2

# %%
import itertools
import time
import warnings

import numpy as np
import schemdraw
import schemdraw.elements as elm
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.neural_network import MLPClassifier

# %%
from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.datasets.images import average_pool, load_images
from pnn_utils.experiment import grid, results_file, search, sweep
from pnn_utils.methods import in_silico, pat
from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, folded_table, percent, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.circuit.device import TABLE, Circuit
from pnn_utils.systems.circuit.model import fit_ringing
from pnn_utils.training import accuracy, accuracy_on_device
from pnn_utils.twin import fit_twin, judge_twin, random_controls, save_twin

# %%
NAME = "05_circuit_mnist"
cost = Cost()
use_house_style()
# joblib replaces processes that have grown; no job is lost
warnings.filterwarnings("ignore", message="A worker stopped")
torch.set_num_threads(1)


def digits(train, n):
    """Return n images as rows of 14 x 14 averaged pixels from 0 to 1, and their labels."""
    pixels, numbers = load_images("mnist", train)
    return average_pool(pixels[:n], 2), numbers[:n]


images, labels = digits(True, n_train)
print(f"{len(images)} training images, 28 x 28 pixels averaged to 14 x 14 = {images.shape[1]}",
      "numbers between 0 and 1")

# %% [markdown]
# ## The device
#
# Below the circuit five numbers that matter; all others, SI units, with their sources, are folded
# away. The imperfections were fixed before any network was trained.

# %%
schemdraw.use("matplotlib")
fig, axes = plt.subplots(figsize=(7, 2.9))
drawing = schemdraw.Drawing(canvas=axes, show=False)
drawing.config(fontsize=10, unit=2.4)
source = drawing.add(elm.SourceSquare().up().label("DAQ out\n$u(t)$, 1 MS/s"))
drawing.add(elm.Resistor().right().label("$R$ = 33 Ω"))
drawing.add(elm.Inductor2(loops=3).right().label("$L$ = 3.3 mH"))
node = drawing.add(elm.Dot())
drawing.add(elm.Line().up(0.6).at(node.center))
drawing.add(elm.Dot(open=True).label("$v(t)$ to DAQ in", "right"))
drawing.add(elm.Capacitor().down().at(node.center).label("$C$ = 1 nF", "bottom"))
drawing.add(elm.Ground())
drawing.add(elm.Resistor().right().at(node.center).label("300 Ω", "bottom"))
drain = drawing.add(elm.Dot())
transistor = drawing.add(elm.NFet(diode=True).theta(0).anchor("drain").at(drain.center))
drawing.add(elm.Line().right().at(drain.center).tox(transistor.gate))
drawing.add(elm.Line().down().toy(transistor.gate).label("BS170", "right"))
drawing.add(elm.Line().down(0.7).at(transistor.source))
drawing.add(elm.Ground())
drawing.add(elm.Ground().at(source.start))
drawing.draw(show=False)
axes.axis("off")
axes.set_aspect("equal")
save_figure(fig, NAME, "schematic")

# %%
device, none = Circuit(seed=0, noise_seed=1), np.zeros(0, np.float32)
shown = ("inductance", "capacitance", "load_resistance", "threshold", "jitter")
display(Markdown(folded_table(parameter_table(TABLE), *shown)))

# %% [markdown]
# ### What it does to two digits; its nonlinearity and its memory
#
# Panel b: twice the drive is not twice the response. Panel c: one sample of the drive is changed
# by 1 V, at 60 us, on top of forty different random drives; what remains of the change later is
# memory (rms over the drives; fifty readings are averaged, their noise is the floor).


# %%
microseconds = np.arange(device.input_dim)


def draw_digits(axes):
    for row, digit in enumerate((0, 4)):
        drive = 6 * images[labels == digit][:1] - 3
        lines = axes.plot(microseconds, drive[0] - 9 * row, color="#999999", linewidth=0.8)
        lines += axes.plot(microseconds, device(drive, none)[0] - 9 * row,
                           color=COLOURS["device"], linewidth=0.9)
        axes.text(1, 3.6 - 9 * row, f'"{digit}"', fontsize=11)
    axes.set(title="a  Drive and response", xlabel="time (us)", ylim=(-13, 8), yticks=[])
    axes.legend(lines, ["drive (V)", "response (V)"], fontsize=7, ncol=2, loc="upper right")


def draw_nonlinearity(axes):
    tone = np.sin(2 * np.pi * 0.07 * microseconds)[None].astype(np.float32)
    for volts, colour in ((0.5, "#56B4E9"), (1.0, "#0072B2"), (2.0, "#009E73"), (4.0, "#D55E00")):
        response = device(volts * tone, none)[0] / volts
        axes.plot(microseconds[:80], response[:80], color=colour, linewidth=1,
                  label=f"{volts:g} V")
    axes.set(title="b  70 kHz tone", xlabel="time (us)", ylabel="response / amplitude")
    axes.legend(fontsize=7, title="amplitude", title_fontsize=7)


# %%
def draw_memory(axes, rng, readings=50):
    base = rng.uniform(-3, 3, (40, device.input_dim)).astype(np.float32)
    changed = base.copy()
    changed[:, 60] += 1
    change = sum(device(changed, none) - device(base, none) for _ in range(readings)) / readings
    axes.semilogy(microseconds, np.sqrt((change**2).mean(0)), color=COLOURS["device"])
    axes.set(title="c  What remains of a change", xlabel="time (us)", xlim=(40, 196),
             ylabel="rms change of response (V)")


rng = np.random.default_rng(np.random.SeedSequence(2))
fig, axes = plt.subplots(1, 3, figsize=(10, 2.9), width_ratios=(1.5, 1, 1))
draw_digits(axes[0])
draw_nonlinearity(axes[1])
draw_memory(axes[2], rng)
save_figure(fig, NAME, "device")

# %% [markdown]
# ## Three digital models on equal data
#
# - **perceptron**: assumes nothing;
# - **causal network**: dilated causal convolutions (the next two cells); knows that the future
#   does not act on the past and that every moment is alike;
# - **ringing circuit**: the two equations above with 13 constants, found by least squares from the
#   values printed on the parts; forward and backward passes compiled.
#
# All get the same measured pairs: half white noise over the full range, half as they occur inside
# a network. $R^2$ is judged on fresh drives of both kinds beside the noise floor, the $R^2$ of a
# perfect model. The *cosine* is that between the model's and the true vector-Jacobian product,
# $J^Tg$ for random $g$: PAT is fed with it, and only a simulator can show it (central differences
# on the noiseless device). Training never sees it.


# %%
# Dilated causal convolutions with residual connections (a temporal convolutional network: Bai,
# Kolter, Koltun, arXiv 1803.01271), 276 samples of memory, plus one linear filter over all lags.
def convolution(inputs, outputs, kernel, dilation, generator):
    layer = torch.nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
    bound = (3 / (inputs * kernel)) ** 0.5
    torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    return layer


# %%
class CausalNetwork(torch.nn.Module):
    def __init__(self, samples, generator, channels=8, dilations=(1, 4, 16, 48)):
        super().__init__()
        widths = (1, *[channels] * len(dilations))
        self.convolutions = torch.nn.ModuleList(
            convolution(*ends, 5, d, generator)
            for ends, d in zip(itertools.pairwise(widths), dilations, strict=True))
        self.read = convolution(channels, 1, 1, 1, generator)
        self.kernel = torch.nn.Parameter(torch.zeros(samples))
        self.register_buffer("lag", torch.arange(samples) - torch.arange(samples)[:, None])

    def standardise(self, x, theta, y):
        self.input_sd, self.output_mean, self.output_sd = x.std(), y.mean(), y.std()

    def forward(self, x, theta):
        x = x / self.input_sd
        signal = x[:, None]
        for n, layer in enumerate(self.convolutions):
            padded = torch.nn.functional.pad(signal, (4 * layer.dilation[0], 0))
            new = torch.nn.functional.silu(layer(padded))
            signal = signal + new if n else new
        linear = x @ torch.where(self.lag >= 0, self.kernel[self.lag.clamp(min=0)], 0.0)
        return (self.read(signal)[:, 0] + linear) * self.output_sd + self.output_mean


# %%
def drawn(n, rng):
    white = random_controls(device, n // 2, rng)
    rows = rng.choice(len(images) - n_valid, n // (2 * n_layers))
    alike = waveform_like_controls(device, images[n_valid:][rows], n_layers, rng)
    return [np.concatenate(both) for both in zip(white, alike, strict=True)]


x, theta = drawn(n_pairs, rng)
y = device(x, theta)
# First guess in the model's units (microseconds, capacitance 1): nominal values of the parts,
# typical threshold, unit gains.
guess = {"inductance": 3.3, "resistance": 0.033, "leak": 0.001, "g1": 3.3, "v1": 2.1, "s1": 0.3,
         "g2": 3.3, "v2": 0.7, "s2": 0.1,
         "gain_in": 1.0, "offset_in": 0.0, "gain_out": 1.0, "offset_out": 0.0}


# %%
def fitted(kind):
    generator = torch.Generator().manual_seed(3)
    if kind == "ringing circuit":
        mixed = np.random.default_rng(4).permutation(len(x))
        return fit_ringing(device, x[mixed], theta[mixed], y[mixed], guess)
    start, rate = None, 2e-3
    if kind == "causal network":
        start, rate = CausalNetwork(device.input_dim, generator), 3e-3
    return fit_twin(device, x, theta, y, twin=start, epochs=model_epochs, learning_rate=rate,
                    generator=generator)[0]


twins, models = {}, {}
for kind in ("perceptron", "causal network", "ringing circuit"):
    start = time.perf_counter()
    twins[kind] = twin = fitted(kind)
    models[kind] = {"fit_s": time.perf_counter() - start,
                    "numbers": sum(v.numel() for v in twin.parameters()) or len(twin.constants)}
made = {"device": "Circuit(seed=0)", "pairs": n_pairs}
save_twin(files.TWINS / "circuit.safetensors", twins["ringing circuit"], made)

# %%
# Noiseless, for the cosine only.
exact = Circuit(seed=0, jitter=0.0, trigger_jitter=0.0, noise=0.0, converter_bits=0)


def true_product(drive, gradient, step=1e-3):
    """J^T g of the noiseless device by central differences, one drive at a time."""
    nudges = step * np.eye(len(drive))
    low, high = device.input_range
    bounded = np.clip(drive, low + step, high - step)
    up, down = (exact(bounded + sign * nudges, np.zeros(0)) for sign in (1, -1))
    return (up - down) @ gradient / (2 * step)


def cosines(twin, drives, seed=5):
    found, gradients = [], np.random.default_rng(seed).standard_normal(drives.shape)
    for drive, gradient in zip(drives, gradients, strict=True):
        control = torch.tensor(drive[None], requires_grad=True)
        (product,) = torch.autograd.grad(twin(control, torch.zeros(1, 0)), control,
                                         torch.tensor(gradient[None], dtype=torch.float32))
        true, product = true_product(drive.astype(np.float64), gradient), product[0].numpy()
        found.append(product @ true / np.linalg.norm(product) / np.linalg.norm(true))
    return found

# %%
def milliseconds(twin, drives):
    """Time for both ways through a model, the best of three."""
    batch, empty = torch.tensor(drives, requires_grad=True), torch.zeros(len(drives), 0)
    timed = []
    for _ in range(3):
        start = time.perf_counter()
        twin(batch, empty).sum().backward()
        timed.append(time.perf_counter() - start)
    return 1e3 * min(timed)


fresh = {"white": random_controls(device, 1000, rng),
         "network": waveform_like_controls(device, images[:300], n_layers, rng)}
for kind, twin in twins.items():
    for name, controls in fresh.items():
        judged = judge_twin(twin, device, *controls)
        values = {"r2": judged["r2"], "floor": judged["floor"],
                  "cosine": cosines(twin, controls[0][-20:])}
        models[kind] |= {f"{key}_{name}": float(np.median(v)) for key, v in values.items()}
    models[kind]["ms_per_1000"] = milliseconds(twin, fresh["white"][0])
measured_passes = device.passes

# %% [markdown]
# ## The network
#
# Three passes through the circuit. Before each, every sample is rescaled,
# $u_j=\mathrm{clamp}(a_js_{\pi(j)}+b_j+c_jf_j)$, onto the range of $\pm4$ V: $s$ is the image or
# the waveform just measured, $f$ the image (the skip connection, from the second pass on), and
# $\pi$ a fixed random order of the samples. The averages of the last waveform over ten windows of
# time are the logits up to one factor. Several such networks are trained one by one, each on
# images of its own, and their probabilities are averaged.
#
# *A choice of this companion* is the random order $\pi$, one for each pass and network, drawn
# once: wiring, no arithmetic. In the plain order (raster), a circuit that forgets within some tens
# of samples mixes neighbours only; the result without $\pi$ stands in the table.

# %%
box, arrow = figures.draw_box, figures.draw_arrow
fig, axes = plt.subplots(figsize=(9.5, 2.2))
box(axes, 0, 1, 1.0, 0.9, "image\n14 x 14", "#eeeeee")
for n in range(n_layers):
    left, rescaled = 1.4 + 2.75 * n, f"$a_{n + 1}s+b_{n + 1}" + (f"+c_{n + 1}f$" if n else "$")
    arrow(axes, (left - 0.4, 1.45), (left, 1.45))
    box(axes, left, 1, 1.25, 0.9, f"reorder\n{rescaled}\nclamp", "#ffffff")
    arrow(axes, (left + 1.25, 1.45), (left + 1.45, 1.45))
    box(axes, left + 1.45, 1, 0.9, 0.9, "circuit", "#cfe3f5")
    if n:
        arrow(axes, (left + 0.6, 0.6), (left + 0.6, 1.0))
branch = [0.5, 0.5, 2.0 + 2.75 * (n_layers - 1)]
axes.plot(branch, [1.0, 0.6, 0.6], color="black", linewidth=0.9)
axes.text(4.6, 0.38, "skip connections", ha="center", fontsize=8)
end = 1.4 + 2.75 * n_layers
arrow(axes, (end - 0.4, 1.45), (end, 1.45))
box(axes, end, 1, 1.3, 0.9, "average of\nten windows", "#eeeeee")
arrow(axes, (end + 1.3, 1.45), (end + 1.6, 1.45))
axes.text(end + 1.65, 1.45, f"average over\n{n_networks} networks:\ndigit", va="center",
          fontsize=8)
axes.set(xlim=(-0.1, end + 3.3), ylim=(0.2, 2.1))
axes.axis("off")
save_figure(fig, NAME, "network")

# %% [markdown]
# ## Training
#
# One network: validation images by seed, a network and images of its own number, calibration on
# the device, Adam (batches of 64, cosine schedule). One trial: one network, or several whose
# probabilities are averaged. The test set enters only where `test` is true. The stand-ins for the
# circuit, identity and tanh, are trained by the same function.

# %%
MODELS = twins | {"identity": lambda x, theta: x, "tanh": lambda x, theta: torch.tanh(x)}
STAND_INS = ("identity", "tanh")
METHODS = {  # how to train, on which model, whether samples are sent in a random order
    "pat": (pat, "ringing circuit", True),
    "in_silico": (in_silico, "ringing circuit", True),
    "identity": (in_silico, "identity", True),
    "tanh": (in_silico, "tanh", True),
    "pat_raster": (pat, "ringing circuit", False)}


def split(seed):
    """Return the rows of validation images, and of all others."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return order[:n_valid], order[n_valid:]


def chosen(rows):
    """Return the images and labels of these rows of the training set as tensors."""
    return torch.from_numpy(images[rows.numpy()]), torch.from_numpy(labels[rows.numpy()])


def probabilities(network, x):
    with torch.no_grad():
        return torch.cat([network(rows).softmax(1) for rows in x.split(2000)])


# %%
def train_network(method, rate, seed, number, model=None, n_images=n_each, **changes):
    """Train one network; return it with its history, its device and its training images."""
    train_by, usual_model, shuffle = METHODS[method]
    stand_in = method in STAND_INS
    device = Circuit(seed=0, noise_seed=1000 * seed + number, **changes)
    valid, rest = split(seed)
    generator = torch.Generator().manual_seed(1000 * seed + number)
    kept = chosen(rest[torch.randperm(len(rest), generator=generator)[:n_images]])
    valid = chosen(valid)

    def start(model):
        network = waveform_chain(device, model, 10, n_layers, generator, shuffle=shuffle,
                                 skip=True, mode="in_silico" if stand_in else "device")
        network.calibrate(kept[0][:1000])
        return network

    def validate(network):
        found = accuracy(network, *valid)  # in the mode of training
        same = stand_in or network.mode == "pat"
        on_device = found if same else accuracy_on_device(network, *valid)
        return {"device": on_device, "model": found}

    network, history = train_by(start, MODELS[model or usual_model], device, *kept, seed=number,
                                epochs=epochs, learning_rate=rate, batch_size=64,
                                validate=validate)
    return network, history, device, kept


# %%
def trial(method, rate, seed, numbers=(0,), test=False, **changes):
    runs = [train_network(method, rate, seed, number, **changes) for number in numbers]
    networks, histories, devices, kept = zip(*runs, strict=True)
    result = {"histories": histories, "passes": sum(device.passes for device in devices)}
    if test:
        result["on_model"] = tested("in_silico", networks, kept)
        if method not in STAND_INS:
            result["on_device"] = tested("device", networks, kept)
    if test and method == "pat":
        weights = networks[0].state_dict()
        result["weights"] = {name: value.tolist() for name, value in weights.items()}
    return result


def tested(mode, networks, kept):
    """Accuracy of all networks together and of the first, on test images; passes not counted."""
    x, y = map(torch.from_numpy, digits(False, n_test))
    each = torch.stack([probabilities(network.set_mode(mode), x) for network in networks])
    predicted, first = each.mean(0).argmax(1), each[0].argmax(1)
    on_own = [accuracy(network, *(part[:2000] for part in own))
              for network, own in zip(networks, kept, strict=True)]
    return {"accuracy": (predicted == y).double().mean().item(), "train_single": np.mean(on_own),
            "single": (first == y).double().mean().item(),
            "confusion": confusion_matrix(y, predicted, labels=range(10)).tolist()}

# %% [markdown]
# ### Learning rate, on validation images
#
# The same search for all, one network; it goes on where the best rate stands on the edge of those
# tried. In silico training is judged by its accuracy on the device, which favours it.

# %%
kept_results = results_file(
    NAME, n_layers=n_layers, n_train=n_train, n_valid=n_valid, n_each=n_each, epochs=epochs,
    n_pairs=n_pairs, model_epochs=model_epochs, n_test=n_test)
passes = []


def run(trial, points):
    done = sweep(trial, points, kept_results, scheduler, jobs)
    passes.extend(result.get("passes", 0) for result in done)
    return done


def score(pairs):
    found = run(trial, [dict(method=method, rate=rate, seed=0) for method, rate in pairs])
    return [result["histories"][0][-1]["device"] for result in found]


choices = search(score, learning_rates, [*METHODS][:4], extensions)
best = {name: choice.rate for name, choice in choices.items()}
best["pat_raster"] = best["pat"]
lines = ["| method | chosen rate | accuracy with each rate |", "|---|---|---|"]
for name, choice in choices.items():
    each = ", ".join(f"{r:g}: {100 * value:.1f} %" for r, value in sorted(choice.scores.items()))
    lines.append(f"| {name.replace('_', ' ')} | {choice.rate:g} | {each} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Which model? Accuracy decides
#
# One network per seed and model, on fewer images than below, both methods, at the rates found with
# the ringing circuit.

# %%
points = [dict(method=method, model=kind, rate=best[method], seed=100 + seed,
               n_images=compare_each, test=True)
          for kind in twins for method in ("pat", "in_silico") for seed in range(n_compare)]
compared = {(kind, method): [] for kind in twins for method in ("pat", "in_silico")}
for point, result in zip(points, run(trial, points), strict=True):
    compared[point["model"], point["method"]].append(result)


def accuracies(runs, where="on_device", which="accuracy"):
    return summary(result[where][which] for result in runs)


for kind, row in models.items():
    row["pat_accuracy"] = accuracies(compared[kind, "pat"])
    row["in_silico_accuracy"] = accuracies(compared[kind, "in_silico"])
    row["in_silico_on_model_accuracy"] = accuracies(compared[kind, "in_silico"], "on_model")

# %%
lines = ["| model | numbers | $1-R^2$ white (floor) | $1-R^2$ network-like (floor) | cosine white "
         "| cosine network-like | ms / 1000, both ways | PAT | in silico "
         "| in silico, own model |", "|---" * 10 + "|"]
for kind, row in models.items():
    shown = " | ".join(percent(row[f"{name}_accuracy"])
                       for name in ("pat", "in_silico", "in_silico_on_model"))
    fits = " | ".join(f"{1 - row[f'r2_{name}']:.5f} ({1 - row[f'floor_{name}']:.5f})"
                      for name in fresh)
    lines.append(f"| {kind} | {row['numbers']} | {fits} | {row['cosine_white']:.3f} "
                 f"| {row['cosine_network']:.3f} | {row['ms_per_1000']:.0f} | {shown} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Final trials

# %%
points = [dict(method=name, rate=best[name], seed=seed, test=True,
               numbers=[*range(1 if name == "pat_raster" else n_networks)])
          for name in METHODS for seed in range(n_seeds)]
final = {name: [] for name in METHODS}
for point, result in zip(points, run(trial, points), strict=True):
    final[point["method"]].append(result)


def results_of(name, where="on_device"):
    return {"accuracy": accuracies(final[name], where),
            "train_accuracy_single": accuracies(final[name], where, "train_single")}


results = {name: results_of(name) for name in ("pat", "in_silico", "pat_raster")}
results["in_silico_on_model"] = results_of("in_silico", "on_model")
results["pat_single_network"] = {"accuracy": accuracies(final["pat"], "on_device", "single")}
baselines = {name: results_of(name, "on_model") for name in STAND_INS}
per_network = final["pat"][0]["passes"] // n_networks

# %% [markdown]
# ### Digital baselines on the same numbers
#
# Logistic regression (penalty chosen on validation images; nothing random, n = 1), and a
# multilayer perceptron with as many trained numbers as all the networks together.


# %%
one_network = waveform_chain(device, twins["ringing circuit"], 10, n_layers, torch.Generator(),
                             skip=True)
trained_numbers = n_networks * sum(p.numel() for p in one_network.parameters())
hidden = round((trained_numbers - 10) / (196 + 1 + 10))


def scored(model, seed):
    valid, kept = map(chosen, split(seed))
    # Thirty epochs are where early stopping may end or not.
    warnings.simplefilter("ignore", ConvergenceWarning)
    model.fit(*kept)
    parts = {"valid": valid, "test": digits(False, n_test), "train": kept}
    return {name: model.score(*part) for name, part in parts.items()}


def logistic(strength):
    return scored(LogisticRegression(C=strength, max_iter=300), 0)


def perceptron(seed):
    return scored(MLPClassifier((hidden,), learning_rate_init=3e-3, batch_size=128, max_iter=30,
                                early_stopping=True, random_state=seed), seed)

# %%
linear = run(logistic, [dict(strength=strength) for strength in (0.1, 1.0, 10.0)])
digital = {"linear": [max(linear, key=lambda scores: scores["valid"])],
           "mlp": run(perceptron, grid(seed=range(n_seeds)))}
for name, runs in digital.items():
    baselines[name] = {"accuracy": summary(scores["test"] for scores in runs),
                       "train_accuracy": summary(scores["train"] for scores in runs)}
print(f"{trained_numbers} trained numbers in {n_networks} networks;",
      f"the perceptron has {hidden} hidden units, {hidden * 207 + 10} numbers")

# %% [markdown]
# ### Accuracy against timing jitter
#
# Jitter between DAQ output and input turns the slope of the response into noise; the paper met up
# to 20 % noise per output element (recalled, unchecked). Two questions: what becomes of networks
# trained at the default jitter when it grows, and does PAT at that jitter help? One network per
# seed, on validation images.


# %%
drive = fresh["network"][0][:200]
weights = [{name: torch.tensor(value) for name, value in result["weights"].items()}
           for result in final["pat"]]


def at_jitter(seed, nanoseconds):
    valid = chosen(split(seed)[0])
    noisy = Circuit(seed=0, noise_seed=5000 + seed, jitter=1e-9 * nanoseconds)
    network = waveform_chain(noisy, MODELS["ringing circuit"], 10, n_layers,
                             torch.Generator().manual_seed(0), shuffle=True, skip=True,
                             mode="device")
    network.load_state_dict(weights[seed])
    kept = accuracy(network, *valid)
    retrained = {"histories": [[{"device": kept}]], "passes": 0}
    if noisy.parameters != device.parameters:  # else the network is the one trained at it
        retrained = trial("pat", best["pat"], seed, jitter=1e-9 * nanoseconds)
    spread = np.std([noisy(drive, none) for _ in range(20)], axis=0)
    share = np.sqrt((spread**2).mean()) / noisy(drive, none).std()
    return {"trained_at_default": kept, "noise_share": float(share),
            "trained_at_this_jitter": retrained["histories"][0][-1]["device"],
            "passes": noisy.passes + retrained["passes"]}

# %%
points = grid(nanoseconds=jitters_ns, seed=range(n_jitter))
answers, jitter_results = run(at_jitter, points), {"jitter_ns": list(jitters_ns)}
for name in ("trained_at_default", "trained_at_this_jitter", "noise_share"):
    jitter_results[name] = [
        summary(answer[name] for point, answer in zip(points, answers, strict=True)
                if point["nanoseconds"] == wanted) for wanted in jitters_ns]

# %% [markdown]
# ## Results


# %%
def draw_training(axes):
    for name, side, label, colour, style in (
            ("pat", "device", "PAT, on the device", "pat", "-"),
            ("in_silico", "device", "in silico, on the device", "in_silico", "-"),
            ("in_silico", "model", "in silico, on its own model", "in_silico_on_model", "--"),
            ("identity", "device", "no circuit (identity)", "digital", ":"),
            ("tanh", "device", "tanh", "digital", "--")):
        curves = [np.mean([[row[side] for row in each] for each in result["histories"]], axis=0)
                  for result in final[name]]
        figures.plot_band(axes, np.arange(1, epochs + 1), curves, label, COLOURS[colour],
                          linestyle=style)
    axes.set(title=f"a  One network, validation (n = {n_seeds}, 2 s.e.)", xlabel="epoch",
             ylabel="accuracy", ylim=(0, 1), xlim=(0.5, epochs + 0.5))
    axes.legend(loc="lower right", fontsize=7)


# %%
def draw_jitter(axes):
    share = [100 * value["mean"] for value in jitter_results["noise_share"]]
    for name, label, style, alpha in (
            ("trained_at_default", "trained at 15 ns", "o-", 1),
            ("trained_at_this_jitter", "trained at this jitter", "s--", 0.6)):
        values = jitter_results[name]
        axes.errorbar(share, [v["mean"] for v in values],
                      yerr=[2 * v["sd"] / v["n"] ** 0.5 for v in values], fmt=style, markersize=4,
                      color=COLOURS["pat"], capsize=2, label=label, alpha=alpha)
    for x_at, value, jitter in zip(share, jitter_results["trained_at_default"], jitters_ns,
                                   strict=True):
        axes.annotate(f"{jitter} ns", (x_at, value["mean"]), (2, -10),
                      textcoords="offset points", fontsize=6)
    axes.set(title=f"d  One network, against jitter (n = {n_jitter})",
             xlabel="noise, % of the response's sd", ylabel="validation accuracy")
    axes.legend(fontsize=7)

# %%
fig, axes = plt.subplots(2, 2, figsize=(9.5, 7.2))
axes = axes.ravel()
draw_training(axes[0])
shown = {"logistic regression": baselines["linear"], "MLP, as many numbers": baselines["mlp"],
         f"PAT, {n_networks} networks": results["pat"],
         "PAT, one network": results["pat_single_network"],
         "PAT, one, raster": results["pat_raster"], "in silico": results["in_silico"],
         "in silico, on model": results["in_silico_on_model"],
         "tanh": baselines["tanh"], "no circuit": baselines["identity"]}
colours = [*2 * ["digital"], *3 * ["pat"], *2 * ["in_silico"], *2 * ["digital"]]
figures.plot_accuracies(axes[1], shown, colours)
axes[1].axvline(0.93, color="#999999", linewidth=0.8, linestyle=":")
axes[1].set(title=f"b  Test (n = {n_seeds}; dotted: paper)")
confusion = np.sum([result["on_device"]["confusion"] for result in final["pat"]], axis=0)
figures.plot_confusion(axes[2], confusion, [str(n) for n in range(10)])
axes[2].set_title(f"c  PAT, all {confusion.sum() // n_seeds} test images (%)")
draw_jitter(axes[3])
save_figure(fig, NAME, "results")

# %%
write_metrics(
    NAME, profile, results, paper={"pat": 0.93}, baselines=baselines,
    cost=cost.read(measured_passes + sum(passes)), seeds=range(n_seeds),
    data={"name": "MNIST, 14 x 14", "sha256": fetch.FILES["mnist"]["train-images-idx3-ubyte"]},
    models=models, learning_rates=best, jitter=jitter_results, n_networks=n_networks,
    searches={name: choice._asdict() for name, choice in choices.items()},
    trained_numbers=trained_numbers, device_passes_per_pat_network=per_network)
kept_results.unlink()  # the next run computes anew

# %%
lines = ["| test accuracy, mean ± sd | paper | here |", "|---|---|---|"]
for value, label, paper in (
        (results["pat"], f"PAT, {n_networks} networks averaged, on the device", "93 %"),
        (results["pat_single_network"], "PAT, one network, on the device", ""),
        (results["pat_raster"], "PAT, one network, pixels in plain order", ""),
        (results["in_silico"], f"in silico, {n_networks} networks, on the device", ""),
        (results["in_silico_on_model"],
         f"in silico, {n_networks} networks, on their own model", ""),
        (baselines["tanh"], f"digital: the same {n_networks} networks, tanh for the circuit", ""),
        (baselines["identity"], f"digital: the same {n_networks} networks, no circuit", ""),
        (baselines["mlp"], "digital: multilayer perceptron with as many trained numbers", ""),
        (baselines["linear"], "digital: logistic regression on 14 x 14", "")):
    lines.append(f"| {label} | {paper} | {percent(value['accuracy'])} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **The model decides.** With the circuit's own equations, 13 constants, both methods work, and in
# silico training meets no surprise on the device. The perceptron and the causal network explain
# less and point elsewhere (the cosine columns). PAT then loses a few points, because its gradient
# is off although its loss is right; in silico training loses more, 26 points with the perceptron:
# on its own model it looks better than anything the device ever does, because the network has
# learnt to use the model's errors.
#
# **With the best model PAT and in silico training tie.** What PAT buys is tolerance to a poor
# model, not accuracy beyond a good one. Refreshing the model with readings taken during training
# was not built: where the network's signals live the 13 constants leave three parts in ten
# thousand unexplained.
#
# **What the circuit contributes.** The same seven networks without a circuit, or with tanh for it,
# stay about six points below: skip connections and random orders alone already mix some pixels.
# Without the random orders one network falls from 90 to 68 %, because the circuit's memory of some
# forty samples is short beside an image of 196.
#
# **Digital hardware does better with less.** A perceptron with as many trained numbers as the
# seven networks reads 97 to 98 % of the digits, logistic regression nearly what the seven networks
# reach. The figure shows that a transistor circuit can be trained, not that it should replace a
# multiplier.
#
# **Jitter.** Up to 7 % noise per element costs less than two points. At 15 %, near the paper's
# level, networks trained quietly lose seven points; trained at that noise, half of it comes back.
#
# **Where it stops.** Seven networks reach the paper's 93 %; our aim of 95 % is not reached. In
# exploration on validation images more images for each network gave about a quarter of a point, a
# fourth layer one point on a single network; neither fits the time that this notebook has.
#
# **Differences from the paper.** A simulated device; part values, drive range and topology around
# the transistor are ours; three layers, skip connections, element-wise rescaling and the average
# of seven networks follow the paper as we recall it; random orders, the readout, optimiser and
# epochs are ours.
