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
# # Fig. 4a-d: an oscillating plate reads digits
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 4a-d): a small titanium
# plate on a loudspeaker's voice coil, driven by an image played as sound and heard by a
# microphone, becomes a neural network that reads handwritten digits (MNIST) with 87 % accuracy.
# The trainable numbers rescale the waveform, element by element, before each of several passes.
#
# **What stands here.** Plate, loudspeaker, amplifier, microphone and converter are a *simulated
# device*; no laboratory is attached. Training sees it only through `y = device(x, theta)`. The
# digits are real.
#
# **The equations.** The deflection $w=\sum_n q_n(t)\,\varphi_n(x,y)$ (m) of a plate with free
# edges and mass $m_p$ (kg), glued to a coil of mass $m_c$ along a ring, with the coil's excursion
# $x=\sum_n q_nr_n$ ($r_n$: mean of $\varphi_n$ over the ring), the suspension's stiffness $K(x)$
# (N/m), the motor's force factor $B(x)$ (N/A), resistance $R$ ($\Omega$), inductance $L$ (H) and
# the amplifier's voltage $u$ (V):
#
# $$m_p\ddot q_n+m_p\omega_n^2q_n+r_n\,\big(m_c\ddot x+K(x)\,x\big)=r_n\,B(x)\,i,\qquad
# L\,\dot{\imath}+R\,i=u-B(x)\,\dot x .$$
#
# Every mode of the assembled system is damped with its own $Q$. The microphone hears the pressure
# of the accelerating surface. The response is *nearly* linear: $B$ and $K$ change by per cents
# over the excursions that occur, and stretching couples the modes weakly.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
n_seeds = 2  # networks and validation splits, numbered from 0
n_train = 10000  # training images; full: all 60,000, validation images included
n_valid = 1000  # of these, held out
learning_rates = [0.03, 0.1]
extensions = 0  # how often the search may widen this grid; full: 3
search_epochs = 3
epochs = 5
n_pairs = 4000  # measured pairs for the digital model
n_test = 10000  # test images
scheduler = "processes"  # or "serial", or a Dask scheduler's address
jobs = 1  # processes, of 300 to 600 MB each; full: 2

# %%
import numpy as np
import torch
from IPython.display import Audio, Markdown, display
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.datasets.images import average_pool, load_images
from pnn_utils.experiment import results_file, search, sweep
from pnn_utils.methods import in_silico, pat
from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, folded_table, percent, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.plate.device import TABLE, Plate
from pnn_utils.systems.plate.equations import free_plate_modes
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.training import accuracy, accuracy_on_device
from pnn_utils.twin import fit_twin, judge_twin, random_controls, save_twin

# %%
NAME = "04_plate_mnist"
cost = Cost()
use_house_style()
torch.set_num_threads(1)  # the matrices are small; a second process uses the other core better


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
#                                                [=]   microphone -> converter -> y
#                                                )))   sound pressure
#                                   ===========================   titanium plate, deflection w
#                                          |           |          glued to the coil along a ring
#                                   [-zzzz-|           |-zzzz-]   suspension K
#     x -> converter -> amplifier -- u --> |ooo  i  ooo|          voice coil in the field B
#
# Five numbers that matter; all others, SI units, with their sources, are folded away below. The
# imperfections were fixed before any network was trained.

# %%
device = Plate(seed=0, noise_seed=1)
shown = ("side", "thickness", "mode_q", "sample_rate", "sound_noise")
display(Markdown(folded_table(parameter_table(TABLE), *shown)))

# %% [markdown]
# ### The plate's modes
#
# The shapes come from a Rayleigh-Ritz calculation with Legendre polynomials (degree 14, converged
# to $10^{-6}$); the numbers beside them are the frequencies of the free plate, without coil. The
# coil sits at the centre, so the symmetric shapes answer most; the others answer because no one
# glues exactly. Ten modes lie in the microphone's band.

# %%
p, none = device.parameters, np.zeros(0, np.float32)


def draw_modes(figure):
    free = free_plate_modes(8, p.poisson)
    rigidity = p.youngs_modulus * p.thickness**3 / (12 * (1 - p.poisson**2))
    alone = free.frequency_parameter * np.sqrt(rigidity / (p.density * p.thickness)) / p.side**2
    across, up = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60))
    figure.suptitle("a  Modes of the free plate (dotted: coil; black: nodal lines)",
                    fontweight="bold", fontsize=9)
    for axes, shape, mode in zip(figure.subplots(1, 8), free.shapes(across, up), alone,
                                 strict=True):
        levels = np.linspace(-1, 1, 13) * abs(shape).max()
        axes.contourf(across, up, shape, levels=levels, cmap="RdBu")
        axes.contour(across, up, shape, levels=[0], colors="black", linewidths=0.8)
        axes.add_patch(plt.Circle((0, 0), 2 * p.coil_radius / p.side, fill=False, linestyle=":"))
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"{mode / (2 * np.pi) / 1e3:.2f} kHz", fontweight="normal")


# %%
def draw_response(axes):
    click = np.zeros((1, 8 * device.input_dim), np.float32)
    click[0, 0] = 1
    answer = Plate(seed=0, samples=click.shape[1], periods=1, sound_noise=0.0)(click, none)[0]
    frequency = np.fft.rfftfreq(len(answer), 1 / p.sample_rate) / 1e3
    level = 20 * np.log10(np.abs(np.fft.rfft(answer)).clip(1e-9))
    axes.plot(frequency, level - level.max(), color=COLOURS["device"], linewidth=0.9)
    for mode in device.space.frequencies[1:]:
        axes.axvline(mode / 1e3, color="#999999", linewidth=0.5, linestyle=":")
    axes.set(title="b  Response to a click", xlabel="frequency (kHz)", ylabel="level (dB)",
             xlim=(0, 24), ylim=(-50, 3))


def draw_played(axes):
    time = 1e3 * np.arange(device.input_dim) / p.sample_rate
    for row, (digit, (drive, heard)) in enumerate(played.items()):
        lines = axes.plot(time, drive / 2 - 2.6 * row, color="#666666", linewidth=0.8)
        lines += axes.plot(time, 2 * heard - 1.2 - 2.6 * row, color=COLOURS["device"],
                           linewidth=0.9)
        axes.text(0.02, -2.6 * row + 0.15, f'"{digit}"', fontsize=12)
    axes.set(title="c  Drive and response for two digits", yticks=[], ylim=(-4.8, 1.3),
             xlabel="time in the recorded round (ms)")
    axes.legend(lines, ["drive / 2 (V)", "microphone x 2 (full scales)"], fontsize=7, ncol=2,
                loc="upper right")


# %%
played = {}
for digit in (0, 4):
    drive = (2 * images[labels == digit][:1] - 1) / 2
    played[digit] = drive[0], device(drive, none)[0]
fig = plt.figure(figsize=(10, 4.6))
above, below = fig.subfigures(2, 1, height_ratios=(1, 1.7))
left, right = below.subplots(1, 2, width_ratios=(1, 1.6))
draw_modes(above)
draw_response(left)
draw_played(right)
save_figure(fig, NAME, "device")

# %% [markdown]
# ### Listen
#
# The image "4" lasts 4 ms. Repeated for half a second it is a tone of 245 Hz, whose timbre is the
# image; first what is played, then what the microphone hears.

# %%
for waveform in played[4]:
    display(Audio(np.tile(waveform, 120), rate=int(p.sample_rate)))

# %% [markdown]
# ## Its twin, a digital model
#
# A device that is nearly linear and the same at every moment is a convolution; two more terms let
# a slow displacement modulate it ($y = h*x + g_1*(s\,r) + g_2*(s^2 r)$ with $s=e*x$, $r=f*x$). $h$
# is solved for by least squares, the rest fitted by gradient descent, all on measured pairs: a
# quarter white noise, the rest images and measured waveforms, rescaled at random as a network may.


# %%
def measured_controls(device, n, rng):
    white = random_controls(device, n // 4, rng)
    rows = rng.choice(len(images) - n_valid, n // 4)
    alike = waveform_like_controls(device, images[n_valid:][rows], n_layers, rng)
    return [np.concatenate(both) for both in zip(white, alike, strict=True)]


def measure_and_fit(device):
    rng = np.random.default_rng(np.random.SeedSequence(2))
    x, theta = measured_controls(device, n_pairs, rng)
    start = Convolution(device.input_dim, 0, device.output_dim)
    twin, _ = fit_twin(device, x, theta, device(x, theta), twin=start, epochs=40,
                       learning_rate=3e-3, generator=torch.Generator().manual_seed(2))
    return twin, rng


once = Plate(seed=0, noise_seed=1, periods=1)  # for networks whose waveforms are played once
(twin, rng), (twin_once, _) = measure_and_fit(device), measure_and_fit(once)

# %%
held_out = images[:n_valid]
drives = {"white noise": random_controls(device, 1000, rng),
          "network-like": waveform_like_controls(device, held_out[:500], n_layers, rng),
          "bare images": (held_out, np.zeros((n_valid, 0), np.float32))}
twin_quality = {}
lines = ["| drive | $1-R^2$, linear part | $1-R^2$, twin | noise floor |", "|---|---|---|---|"]
for kind, controls in drives.items():
    whole = judge_twin(twin, device, *controls)
    linear = judge_twin(twin.linear_part, device, *controls)
    medians = {"linear_r2": linear["r2"], "r2": whole["r2"], "floor": whole["floor"]}
    medians = {name: float(np.median(values)) for name, values in medians.items()}
    twin_quality |= {f"{kind}.{name}_median": value for name, value in medians.items()}
    lines.append(f"| {kind} | " + " | ".join(f"{1 - v:.5f}" for v in medians.values()) + " |")
display(Markdown("\n".join(lines)))
made = {"device": "Plate(seed=0)", "pairs": n_pairs, **twin_quality}
save_twin(files.TWINS / "plate.safetensors", twin, made)

# %% [markdown]
# The response is linear to two or three parts in a thousand of its power. Where networks drive it,
# the twin explains about two thirds of the rest.
#
# ## The network
#
# Three passes. Before each, every sample is rescaled, $u_i=\mathrm{clamp}(a_is_i+b_i)$ onto the
# converter's range of $\pm1$ V, where $s$ is the image or the waveform just measured (standardised
# by two constants measured once). The last waveform is cut into ten equal windows of time; their
# averages, standardised by constants, are the logits up to one factor. Trainable:
# $3\times2\times196+1=1177$ numbers.
#
# *Choices of this companion.* The waveform is played twice without a pause and the second round is
# recorded: a plate answers only what it has heard already, so in a single round the first window
# would know nothing of the image but its top row. The order of the pixels is the plain one, row by
# row. Sample rate and rounds were chosen with a linear filter on training images, before the
# device was trained.

# %%
box, arrow = figures.draw_box, figures.draw_arrow
fig, axes = plt.subplots(figsize=(9, 1.9))
box(axes, 0, 1, 1.0, 0.9, "image\n14 x 14", "#eeeeee")
for n in range(n_layers):
    left = 1.4 + 2.75 * n
    arrow(axes, (left - 0.4, 1.45), (left, 1.45))
    box(axes, left, 1, 1.15, 0.9, f"$a_{n + 1}s+b_{n + 1}$\nclamp", "#ffffff")
    arrow(axes, (left + 1.15, 1.45), (left + 1.35, 1.45))
    box(axes, left + 1.35, 1, 1.0, 0.9, "plate", "#cfe3f5")
    axes.text(left + 1.85, 0.72, "196 samples, played twice", ha="center", fontsize=7)
end = 1.4 + 2.75 * n_layers
arrow(axes, (end - 0.4, 1.45), (end, 1.45))
box(axes, end, 1, 1.5, 0.9, "average of\nten windows", "#eeeeee")
arrow(axes, (end + 1.5, 1.45), (end + 1.8, 1.45))
axes.text(end + 1.85, 1.45, "digit", va="center", fontsize=8)
axes.set(xlim=(-0.1, end + 2.4), ylim=(0.5, 2.1))
axes.axis("off")
save_figure(fig, NAME, "network")

# %% [markdown]
# ## Training
#
# One trial: hold out validation images by seed, start a network by seed, measure the
# standardisation constants on the device, train with Adam (batches of 128, cosine schedule). The
# stand-ins for the plate are trained by the very same function, as the "model" of an in silico
# run: no plate at all (identity), the linear part of the plate's own twin, and a random linear
# map. The test set enters only where `test` is true.

# %%
random_map = torch.randn(196, 196, generator=torch.Generator().manual_seed(7)) / 14
METHODS = {  # how to train, on which model, how often the waveform is played, what is read out
    "pat": (pat, twin, 2, "mean"),
    "in_silico": (in_silico, twin, 2, "mean"),
    "pat_power_readout": (pat, twin, 2, "power"),
    "in_silico_played_once": (in_silico, twin_once, 1, "mean"),
    "identity": (in_silico, lambda x, theta: x, 2, "mean"),
    "linear_convolution": (in_silico, twin.linear_part, 2, "mean"),
    "random_linear_map": (in_silico, lambda x, theta: x @ random_map, 2, "mean")}
STAND_INS = ("identity", "linear_convolution", "random_linear_map")


def split(seed):
    """Return validation and training images with their labels, as tensors."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).numpy()
    return [(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]))
            for rows in (order[:n_valid], order[n_valid:])]


# %%
def trial(method, rate, seed, epochs, test=False):
    train_by, model, periods, readout = METHODS[method]
    device, stand_in = Plate(seed=0, noise_seed=1000 + seed, periods=periods), method in STAND_INS
    valid, kept = split(seed)

    def start(model):
        network = waveform_chain(device, model, 10, n_layers, torch.Generator().manual_seed(seed),
                                 readout=readout, mode="in_silico" if stand_in else "device")
        network.calibrate(kept[0][:2000])
        return network

    def validate(network):
        found = accuracy(network, *valid)  # in the mode of training
        on_device = found if stand_in or network.mode == "pat" else accuracy_on_device(
            network, *valid)
        return {"device": on_device, "model": found}

    network, history = train_by(start, model, device, *kept, seed=1000 + seed, epochs=epochs,
                                learning_rate=rate, batch_size=128, validate=validate)
    result = {"history": history, "passes": device.passes}
    return result | (tested(network, kept, stand_in) if test else {})


# %%
def tested(network, kept, stand_in):
    """Accuracies on the test images and as many training images; passes are not counted."""
    x, y = map(torch.from_numpy, digits(False, n_test))
    kept = [part[:n_test] for part in kept]
    found = {}
    if not stand_in:
        with torch.no_grad():
            predicted = network.set_mode("device")(x).argmax(1)
        found["confusion"] = confusion_matrix(y, predicted, labels=range(10)).tolist()
        found["accuracy"] = (predicted == y).double().mean().item()
        found["train_accuracy"] = accuracy(network, *kept)
    network.set_mode("in_silico")
    return found | {"on_model": accuracy(network, x, y),
                    "train_on_model": accuracy(network, *kept)}


kept_results = results_file(NAME, n_layers=n_layers, n_train=n_train, n_valid=n_valid,
                            n_test=n_test, n_pairs=n_pairs)
passes = []


def trials(points):
    done = sweep(trial, points, kept_results, scheduler, jobs)
    passes.extend(run["passes"] for run in done)
    return done


# %% [markdown]
# ### Learning rate, on validation images
#
# Every method and every stand-in gets the same search (one seed, a shorter schedule), which goes
# on where the best rate stands on the edge of those tried. In silico training is judged by its
# accuracy on the *device*, which favours it.


# %%
def score(pairs):
    found = trials([dict(method=method, rate=rate, seed=0, epochs=search_epochs)
                    for method, rate in pairs])
    return [run["history"][-1]["device"] for run in found]


choices = search(score, learning_rates, METHODS, extensions)
lines = ["| method | chosen rate | accuracy with each rate |", "|---|---|---|"]
for name, choice in choices.items():
    each = ", ".join(f"{r:g}: {100 * value:.1f} %" for r, value in sorted(choice.scores.items()))
    lines.append(f"| {name.replace('_', ' ')} | {choice.rate:g} | {each} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Final trials

# %%
points = [dict(method=name, rate=choices[name].rate, seed=seed, epochs=epochs, test=True)
          for name in METHODS for seed in range(n_seeds)]
final = {name: [] for name in METHODS}
for point, run in zip(points, trials(points), strict=True):
    final[point["method"]].append(run)


def results_of(name, test="accuracy", train="train_accuracy"):
    return {"accuracy": summary(run[test] for run in final[name]),
            "train_accuracy": summary(run[train] for run in final[name])}


results = {name: results_of(name) for name in METHODS if name not in STAND_INS}
results["in_silico_on_model"] = results_of("in_silico", "on_model", "train_on_model")
baselines = {name: results_of(name, "on_model", "train_on_model") for name in STAND_INS}

# %% [markdown]
# ### A linear classifier on the same numbers
#
# Logistic regression, its penalty chosen on the first seed's validation images. Nothing in it is
# random, hence n = 1.


# %%
def logistic(strength):
    valid, kept = split(0)
    model = LogisticRegression(C=strength, max_iter=300).fit(*kept)
    parts = {"valid": valid, "test": digits(False, n_test), "train": kept}
    return {name: model.score(*part) for name, part in parts.items()}


strengths = [dict(strength=strength) for strength in (0.1, 1.0, 10.0)]
linear = sweep(logistic, strengths, kept_results, scheduler, jobs)
best = max(linear, key=lambda scores: scores["valid"])
baselines["linear"] = {"accuracy": summary([best["test"]]),
                       "train_accuracy": summary([best["train"]])}
print(f"C = {strengths[linear.index(best)]['strength']}, {10 * (196 + 1)} trained numbers")

# %% [markdown]
# ## Results


# %%
def draw_training(axes):
    for name, side, label, colour, style in (
            ("pat", "device", "PAT, on the device", "pat", "-"),
            ("in_silico", "device", "in silico, on the device", "in_silico", "-"),
            ("in_silico", "model", "in silico, on its own twin", "in_silico_on_model", "--"),
            ("identity", "device", "no plate (identity)", "digital", ":")):
        curves = [[row[side] for row in run["history"]] for run in final[name]]
        figures.plot_band(axes, np.arange(1, epochs + 1), curves, label, COLOURS[colour],
                          linestyle=style)
    axes.axhline(baselines["linear"]["accuracy"]["mean"], color="#666666", linewidth=0.8,
                 linestyle="-.", label="logistic regression (test)")
    axes.set(title=f"a  Validation (n = {n_seeds}, band: 2 s.e.)", xlabel="epoch",
             ylabel="accuracy", ylim=(0, 1), xlim=(0.5, epochs + 0.5))
    axes.legend(loc="lower right", fontsize=7, bbox_to_anchor=(1, 0.35))


# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), width_ratios=(1.1, 1.1, 1.15))
draw_training(axes[0])
shown = {"logistic regression": baselines["linear"], "PAT": results["pat"],
         "in silico": results["in_silico"],
         "in silico, on its twin": results["in_silico_on_model"],
         "PAT, power in windows": results["pat_power_readout"],
         "in silico, played once": results["in_silico_played_once"],
         "linear convolution": baselines["linear_convolution"],
         "random linear map": baselines["random_linear_map"],
         "no plate": baselines["identity"]}
colours = ["digital", "pat", "in_silico", "in_silico", "pat", "in_silico", *3 * ["digital"]]
figures.plot_accuracies(axes[1], shown, colours)
axes[1].axvline(0.87, color="#999999", linewidth=0.8, linestyle=":")
axes[1].set(title=f"b  Test (n = {n_seeds}; dotted: paper)")
confusion = np.sum([run["confusion"] for run in final["pat"]], axis=0)
figures.plot_confusion(axes[2], confusion, [str(n) for n in range(10)])
axes[2].set_title(f"c  PAT, all {confusion.sum() // n_seeds} test images (%)")
save_figure(fig, NAME, "results")

# %%
rates = {name: choice.rate for name, choice in choices.items()}
write_metrics(
    NAME, profile, results, paper={"pat": 0.87}, baselines=baselines,
    cost=cost.read(device.passes + once.passes + sum(passes)), seeds=range(n_seeds),
    data={"name": "MNIST, 14 x 14", "sha256": fetch.FILES["mnist"]["train-images-idx3-ubyte"]},
    twin=twin_quality, learning_rates=rates,
    searches={name: choice._asdict() for name, choice in choices.items()},
    device_passes_per_pat_trial=final["pat"][0]["passes"], trainable_numbers=3 * 2 * 196 + 1)
kept_results.unlink()  # the next run computes anew

# %%
lines = ["| accuracy, mean ± sd | paper, test | here, test | here, training |",
         "|---|---|---|---|"]
for value, label, paper in (
        (results["pat"], "PAT, on the device", "87 %"),
        (results["in_silico"], "in silico, on the device", ""),
        (results["in_silico_on_model"], "in silico, on its own twin", ""),
        (results["pat_power_readout"],
         "PAT, on the device, power instead of average in the windows", ""),
        (results["in_silico_played_once"],
         "in silico, on the device, waveform played once", ""),
        (baselines["linear_convolution"], "digital: same network, the plate's linear part", ""),
        (baselines["random_linear_map"], "digital: same network, a random linear map", ""),
        (baselines["identity"], "digital: same network, no plate", ""),
        (baselines["linear"], "digital: logistic regression on 14 x 14", "")):
    both = " | ".join(percent(value[name]) for name in ("accuracy", "train_accuracy"))
    lines.append(f"| {label} | {paper} | {both} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **What the plate contributes is memory.** Without it (identity) the same 1177 numbers reach
# barely more than a third: a window's average then knows 20 pixels and nothing of the others. With
# the plate every window hears every pixel, through the ringing of the modes and of the round
# before. Played once, where the first windows have heard only the top of the image, the network
# loses about 15 points.
#
# **What it does not contribute is nonlinearity.** The plate's own linear part, as a digital
# convolution, does as well as the plate within the spread over seeds. The converter's clipping is
# the only nonlinearity that matters here, and alone it does little (no plate).
#
# **A plate is not the best linear mixer.** A random linear map in its place does better by about
# three points: a convolution is the same at every moment, and its few resonances leave part of the
# signal space almost untouched. Logistic regression on the same 196 numbers, with 1970 trained
# numbers instead of 1177, does better too. The figure shows that a plate can be *trained*, not
# that it is a good classifier of digits.
#
# **PAT and in silico training tie.** The twin of this nearly linear device leaves a few parts in
# ten thousand unexplained, so a network trained on it works on the device as well as on the twin.
# PAT needs the device for every step and gains nothing. Where models are worse, it does: notebooks
# 02 and 05.
#
# **The readout matters a little.** The power in each window instead of the average is better by
# about a point.
#
# **Differences from the paper.** A simulated device; 14 x 14 pixels, three passes, ten window
# averages and the element-wise rescaling follow the paper as we recall it; sample rate, playing
# twice, the converter's range, optimiser and epochs are ours, because the paper's were not found.
# Exploration on training images with a linear filter preceded the device: 48 kS/s did better than
# 24, 96 or 192, and two rounds as well as three. The loudspeaker's data are typical values, not
# one product's.
