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
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 4a-d): a small titanium plate on a loudspeaker's voice coil, driven by an
# image played as sound and heard by a microphone, becomes a neural network that reads handwritten digits (MNIST) with 87 % accuracy. The trainable
# numbers rescale the waveform, element by element, before each of several passes.
#
# **What stands here.** Plate, loudspeaker, amplifier, microphone and converter are a *simulated device*; no laboratory is attached.
# Training sees it only through `y = device(x, theta)`. The digits are real.
#
# **The equations.** The deflection $w=\sum_n q_n(t)\,\varphi_n(x,y)$ (m) of a plate with free edges and mass $m_p$ (kg), glued to a coil of mass $m_c$
# along a ring, with the coil's excursion $x=\sum_n q_nr_n$ ($r_n$: mean of $\varphi_n$ over the ring), the suspension's stiffness $K(x)$ (N/m), the motor's
# force factor $B(x)$ (N/A), resistance $R$ ($\Omega$), inductance $L$ (H) and the amplifier's voltage $u$ (V):
#
# $$m_p\ddot q_n+m_p\omega_n^2q_n+r_n\,\big(m_c\ddot x+K(x)\,x\big)=r_n\,B(x)\,i,\qquad L\,\dot{\imath}+R\,i=u-B(x)\,\dot x .$$
#
# Every mode of the assembled system is damped with its own $Q$. The microphone hears the pressure of the accelerating surface. The response is *nearly*
# linear: $B$ and $K$ change by per cents over the excursions that occur, and stretching couples the modes weakly.

# %% tags=["parameters"]
profile = "quick"
n_layers = 3
n_seeds = 2  # networks and validation splits, numbered from 0
n_train = 10000  # training images; full: all 60,000, validation images included
n_valid = 1000  # of these, held out
learning_rates = [0.03, 0.1]
search_epochs = 3
epochs = 5
n_pairs = 4000  # measured pairs for the digital model
n_test = 10000  # test images
jobs = 1  # processes, of 300 to 600 MB each; full: 2

# %%
import numpy as np
import torch
from IPython.display import Audio, Markdown, display
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from pnn_utils import paths
from pnn_utils.datasets import fetch as data
from pnn_utils.datasets.images import average_pool, load_images
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.networks.waveform import WaveformNetwork, waveform_like_controls
from pnn_utils.report.figures import COLOURS, draw_arrow, draw_box, percent, plot_accuracies, plot_band, plot_confusion, save_figure, use_house_style
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.plate.ritz import free_plate_modes
from pnn_utils.systems.plate.device import Plate
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.twin import fit_twin, judge_twin, random_controls, save_twin

cost = Cost()
use_house_style()
torch.set_num_threads(1)  # the matrices are small; a second process uses the other core better
images, labels = load_images("mnist")
images, labels = torch.tensor(average_pool(images, 2)[:n_train]), torch.tensor(labels[:n_train])
print(f"{len(images)} training images, 28 x 28 pixels averaged to 14 x 14 = {images.shape[1]} numbers between 0 and 1")

# %% [markdown]
# ## The device
#
# All numbers, SI units, with their sources. The imperfections were fixed before any network was trained.

# %%
device = Plate(seed=0, noise_seed=1)
display(Markdown(parameter_table(device.parameters)))

# %% [markdown]
# ### The plate's modes
#
# The shapes come from a Rayleigh-Ritz calculation with Legendre polynomials (degree 14, converged to $10^{-6}$); the numbers beside them are this copy's
# frequencies on the coil. The coil sits at the centre, so the symmetric shapes answer most; the others answer because
# no one glues exactly. Ten modes lie in the microphone's band.

# %%
p = device.parameters
free = free_plate_modes(8, p.poisson)
rigidity = p.youngs_modulus * p.thickness**3 / (12 * (1 - p.poisson**2))
alone = free.frequency_parameter * np.sqrt(rigidity / (p.density * p.thickness)) / p.side**2 / (2 * np.pi)
across, up = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60))
fig = plt.figure(figsize=(10, 4.6))
above, below = fig.subfigures(2, 1, height_ratios=(1, 1.7))
above.suptitle("a  Modes of the free plate (dotted: coil; black: nodal lines)", fontweight="bold", fontsize=9)
for axes, shape, mode in zip(above.subplots(1, 8), free.shapes(across, up), alone, strict=True):
    axes.contourf(across, up, shape, levels=np.linspace(-1, 1, 13) * abs(shape).max(), cmap="RdBu")
    axes.contour(across, up, shape, levels=[0], colors="black", linewidths=0.8)
    axes.add_patch(plt.Circle((0, 0), 2 * p.coil_radius / p.side, fill=False, linestyle=":"))
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(f"{mode / 1e3:.2f} kHz", fontweight="normal")
spectrum, digits = below.subplots(1, 2, width_ratios=(1, 1.6))
click = np.zeros((1, 8 * device.input_dim), np.float32)
click[0, 0] = 1
answer = Plate(seed=0, samples=click.shape[1], periods=1, sound_noise=0.0)(click, np.zeros(0, np.float32))[0]
frequency = np.fft.rfftfreq(len(answer), 1 / p.sample_rate) / 1e3
level = 20 * np.log10(np.abs(np.fft.rfft(answer)).clip(1e-9))
spectrum.plot(frequency, level - level.max(), color=COLOURS["device"], linewidth=0.9)
for mode in device.space.frequencies[1:]:
    spectrum.axvline(mode / 1e3, color="#999999", linewidth=0.5, linestyle=":")
spectrum.set(title="b  Response to a click", xlabel="frequency (kHz)", ylabel="level (dB)", xlim=(0, 24), ylim=(-50, 3))
time = 1e3 * np.arange(device.input_dim) / p.sample_rate
played = {}
for row, digit in enumerate((0, 4)):
    image = images[labels == digit][:1].numpy()
    drive = (2 * image - 1) / 2
    played[digit] = drive[0], device(drive, np.zeros(0, np.float32))[0]
    digits.plot(time, drive[0] / 2 - 2.6 * row, color="#666666", linewidth=0.8, label="drive / 2 (V)" if row == 0 else None)
    digits.plot(time, 2 * played[digit][1] - 1.2 - 2.6 * row, color=COLOURS["device"], linewidth=0.9,
                label="microphone x 2 (full scales)" if row == 0 else None)
    digits.text(0.02, -2.6 * row + 0.15, f'"{digit}"', fontsize=12)
digits.set(title="c  Drive and response for two digits", xlabel="time in the recorded round (ms)", yticks=[], ylim=(-4.8, 1.3))
digits.legend(fontsize=7, ncol=2, loc="upper right")
save_figure(fig, "04_plate_mnist_device")

# %% [markdown]
# ### Listen
#
# The image "4" lasts 4 ms. Repeated for half a second it is a tone of 245 Hz, whose timbre is the image; first what is played, then what the microphone hears.

# %%
for waveform in played[4]:
    display(Audio(np.tile(waveform, 120), rate=int(p.sample_rate)))

# %% [markdown]
# ## Its digital model
#
# A device that is nearly linear and the same at every moment is a convolution; two more terms let a slow displacement modulate it
# ($y = h*x + g_1*(s\,r) + g_2*(s^2 r)$ with $s=e*x$, $r=f*x$). $h$ is solved for by least squares, the rest fitted by gradient descent, all on measured
# pairs: a quarter white noise, the rest images and measured waveforms, rescaled at random as a network may.


# %%
def measured_controls(device, n, rng):
    white = random_controls(device, n // 4, rng)
    rows = rng.choice(len(images) - n_valid, n // 4)
    return [np.concatenate(pair) for pair in zip(white, waveform_like_controls(device, images[n_valid:][rows].numpy(), n_layers, rng), strict=True)]


def measure_and_fit(device, seed):
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    x, theta = measured_controls(device, n_pairs, rng)
    twin, _ = fit_twin(device, x, theta, device(x, theta), twin=Convolution(device.input_dim, 0, device.output_dim), epochs=40, learning_rate=3e-3,
                       generator=torch.Generator().manual_seed(seed))
    return twin, rng


twin, rng = measure_and_fit(device, 2)
drives = {"white noise": random_controls(device, 1000, rng),
          "network-like": waveform_like_controls(device, images[:min(n_valid, 500)].numpy(), n_layers, rng),
          "bare images": (images[:n_valid].numpy(), np.zeros((n_valid, 0), np.float32))}
judged = {kind: {"model": judge_twin(twin, device, *controls), "linear": judge_twin(twin.linear_part, device, *controls)} for kind, controls in drives.items()}
twin_quality, lines = {}, ["| drive | $1-R^2$, linear part | $1-R^2$, model | noise floor |", "|---|---|---|---|"]
for kind, scores in judged.items():
    linear, model, floor = (float(np.median(scores[which][name])) for which, name in (("linear", "r2"), ("model", "r2"), ("model", "floor")))
    twin_quality |= {f"{kind}.linear_r2_median": linear, f"{kind}.r2_median": model, f"{kind}.floor_median": floor}
    lines.append(f"| {kind} | {1 - linear:.5f} | {1 - model:.5f} | {1 - floor:.5f} |")
display(Markdown("\n".join(lines)))
save_twin(paths.TWINS / "plate.safetensors", twin, {"device": "Plate(seed=0)", "pairs": n_pairs, **twin_quality})
twin_passes = device.passes

# %% [markdown]
# The response is linear to two or three parts in a thousand of its power. Where networks drive it, the model explains about two thirds of the rest.
#
# ## The network
#
# Three passes. Before each, every sample is rescaled, $u_i=\mathrm{clamp}(a_is_i+b_i)$ onto the converter's range of $\pm1$ V, where $s$ is the image or the
# waveform just measured (standardised by two constants measured once). The last waveform is cut into ten equal windows of time; their averages,
# standardised by constants, are the logits up to one factor. Trainable: $3\times2\times196+1=1177$ numbers.
#
# *Choices of this companion.* The waveform is played twice without a pause and the second round is recorded: a plate answers only what it has heard
# already, so in a single round the first window would know nothing of the image but its top row. The order of the pixels is the plain one, row by row.
# Sample rate and rounds were chosen with a linear filter on training images, before the device was trained.

# %%
fig, axes = plt.subplots(figsize=(9, 1.9))
draw_box(axes, 0, 1, 1.0, 0.9, "image\n14 x 14", "#eeeeee")
for n in range(n_layers):
    left = 1.4 + 2.75 * n
    draw_arrow(axes, (left - 0.4, 1.45), (left, 1.45))
    draw_box(axes, left, 1, 1.15, 0.9, f"$a_{n + 1}s+b_{n + 1}$\nclamp", "#ffffff")
    draw_arrow(axes, (left + 1.15, 1.45), (left + 1.35, 1.45))
    draw_box(axes, left + 1.35, 1, 1.0, 0.9, "plate", "#cfe3f5")
    axes.text(left + 1.85, 0.72, "196 samples, played twice", ha="center", fontsize=7)
end = 1.4 + 2.75 * n_layers
draw_arrow(axes, (end - 0.4, 1.45), (end, 1.45))
draw_box(axes, end, 1, 1.5, 0.9, "average of\nten windows", "#eeeeee")
draw_arrow(axes, (end + 1.5, 1.45), (end + 1.8, 1.45))
axes.text(end + 1.85, 1.45, "digit", va="center", fontsize=8)
axes.set(xlim=(-0.1, end + 2.4), ylim=(0.5, 2.1))
axes.axis("off")
save_figure(fig, "04_plate_mnist_network")

# %% [markdown]
# ## Training
#
# One trial: hold out validation images by seed, start a network by seed, measure the standardisation constants on the device, train with Adam (batches of
# 128, cosine schedule). The stand-ins for the plate are trained by the very same function, as the "model" of an in silico run: no plate at all (identity),
# the linear part of the plate's own model, and a random linear map. The test set enters only where `final` is true.

# %%
random_map = torch.randn(196, 196, generator=torch.Generator().manual_seed(7)) / 14
stand_ins = {"identity": lambda x, theta: x, "linear_convolution": twin.linear_part, "random_linear_map": lambda x, theta: x @ random_map}


def trial(seed, mode, learning_rate, epochs, stand_in=None, periods=2, readout="mean", final=False):
    torch.set_num_threads(1)
    device = Plate(seed=0, noise_seed=1000 + seed, periods=periods)
    model = stand_ins[stand_in] if stand_in else twins[periods]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    valid, kept = order[:n_valid], order[n_valid:]
    network = WaveformNetwork(device, model, 10, n_layers, torch.Generator().manual_seed(seed), readout=readout)
    network.set_mode("in_silico" if stand_in else "device").calibrate(images[kept[:2000]])

    def validate(network):
        on_model = accuracy(network, images[valid], labels[valid])
        on_device = on_model if stand_in or mode == "pat" else accuracy_on_device(network, images[valid], labels[valid])
        return {"device": on_device, "model": on_model}

    history = train(network.set_mode(mode), images[kept], labels[kept], epochs=epochs, learning_rate=learning_rate, batch_size=128,
                    generator=torch.Generator().manual_seed(1000 + seed), device=device, validate=validate)
    result = {"history": history, "passes": device.passes}
    if final:
        test_x, test_y = test_set()
        if not stand_in:
            with torch.no_grad():
                result["predicted"] = network.set_mode("device")(test_x).argmax(1).numpy()
            result["accuracy"] = float((result["predicted"] == test_y.numpy()).mean())
        result["on_model"] = accuracy(network.set_mode("in_silico"), test_x, test_y)
        result["weights"] = network.state_dict()
    return result


def test_set():
    test_images, test_labels = load_images("mnist", train=False)
    return torch.tensor(average_pool(test_images, 2)[:n_test]), torch.tensor(test_labels[:n_test])


def trials(settings):
    return Parallel(n_jobs=jobs)(delayed(trial)(**setting) for setting in settings)


# %% [markdown]
# ### Learning rate, on validation images
#
# Every method and every stand-in gets the same search (one seed, a shorter schedule). In silico training is judged by its accuracy on the *device*, which
# favours it.

# %%
once = Plate(seed=0, noise_seed=1, periods=1)
twins = {2: twin, 1: measure_and_fit(once, 2)[0]}
methods = {"pat": dict(mode="pat"), "in_silico": dict(mode="in_silico"), "pat_power_readout": dict(mode="pat", readout="power"),
           "in_silico_played_once": dict(mode="in_silico", periods=1)}
methods |= {name: dict(mode="in_silico", stand_in=name) for name in stand_ins}
search = [method | dict(learning_rate=rate, seed=0, epochs=search_epochs) for method in methods.values() for rate in learning_rates]
found = trials(search)
best, lines = {}, ["| method | " + " | ".join(f"rate {rate}" for rate in learning_rates) + " |", "|---" * (len(learning_rates) + 1) + "|"]
for i, name in enumerate(methods):
    scores = [found[i * len(learning_rates) + k]["history"][-1]["device"] for k in range(len(learning_rates))]
    best[name] = learning_rates[int(np.argmax(scores))]
    lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(f"{100 * score:.1f} %" for score in scores) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Final trials

# %%
settings = [method | dict(learning_rate=best[name], seed=seed, epochs=epochs, final=True) for name, method in methods.items() for seed in range(n_seeds)]
done = trials(settings)
final = {name: done[i * n_seeds:(i + 1) * n_seeds] for i, name in enumerate(methods)}
results = {name: {"accuracy": summary(run["accuracy"] for run in final[name])} for name in methods if name not in stand_ins}
results["in_silico_on_model"] = {"accuracy": summary(run["on_model"] for run in final["in_silico"])}
baselines = {name: {"accuracy": summary(run["on_model"] for run in final[name])} for name in stand_ins}

# %% [markdown]
# ### A linear classifier on the same numbers
#
# Logistic regression, its penalty chosen on the first seed's validation images. Nothing in it is random, hence n = 1.

# %%
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
valid, kept = order[:n_valid], order[n_valid:]


def logistic(strength):
    model = LogisticRegression(C=strength, max_iter=300).fit(images[kept], labels[kept])
    return model.score(images[valid], labels[valid]), model


(_, linear), strength = max(((scored, strength) for strength, scored in zip(
    (0.1, 1.0, 10.0), Parallel(n_jobs=jobs)(delayed(logistic)(s) for s in (0.1, 1.0, 10.0)), strict=True)), key=lambda pair: pair[0][0])
test_x, test_y = test_set()
baselines["linear"] = {"accuracy": summary([linear.score(test_x, test_y)])}
print(f"C = {strength}, {linear.coef_.size + linear.intercept_.size} trained numbers")

# %% [markdown]
# ## Results

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), width_ratios=(1.1, 1.1, 1.15))
epoch = np.arange(1, epochs + 1)
for name, side, label, colour, style in (("pat", "device", "PAT, on the device", "pat", "-"),
                                         ("in_silico", "device", "in silico, on the device", "in_silico", "-"),
                                         ("in_silico", "model", "in silico, on its own model", "in_silico_on_model", "--"),
                                         ("identity", "device", "no plate (identity)", "digital", ":")):
    plot_band(axes[0], epoch, [[row[side] for row in run["history"]] for run in final[name]], label, COLOURS[colour], linestyle=style)
axes[0].axhline(baselines["linear"]["accuracy"]["mean"], color="#666666", linewidth=0.8, linestyle="-.", label="logistic regression (test)")
axes[0].set(title=f"a  Validation (n = {n_seeds}, band: 2 s.e.)", xlabel="epoch", ylabel="accuracy", ylim=(0, 1), xlim=(0.5, epochs + 0.5))
axes[0].legend(loc="lower right", fontsize=7, bbox_to_anchor=(1, 0.35))
shown = {"logistic regression": baselines["linear"], "PAT": results["pat"], "in silico": results["in_silico"],
         "in silico, on model": results["in_silico_on_model"], "PAT, power in windows": results["pat_power_readout"],
         "in silico, played once": results["in_silico_played_once"],
         "linear convolution": baselines["linear_convolution"], "random linear map": baselines["random_linear_map"], "no plate": baselines["identity"]}
plot_accuracies(axes[1], shown, ["digital", "pat", "in_silico", "in_silico", "pat", "in_silico", *3 * ["digital"]])
axes[1].axvline(0.87, color="#999999", linewidth=0.8, linestyle=":")
axes[1].set(title=f"b  Test (n = {n_seeds}; dotted: paper)")
predicted = np.concatenate([run["predicted"] for run in final["pat"]])
plot_confusion(axes[2], confusion_matrix(np.tile(test_y.numpy(), n_seeds), predicted, labels=range(10)), [str(n) for n in range(10)])
axes[2].set_title(f"c  PAT, all {len(test_y)} test images (%)")
save_figure(fig, "04_plate_mnist_results")

# %%
spent = twin_passes + once.passes + sum(run["passes"] for run in found + done)
write_metrics("04_plate_mnist", profile, results, paper={"pat": 0.87}, baselines=baselines, cost=cost.read(spent), seeds=range(n_seeds),
              data={"name": "MNIST, 14 x 14", "sha256": data.FILES["mnist"]["train-images-idx3-ubyte"]}, twin=twin_quality, learning_rates=best,
              device_passes_per_pat_trial=int(final["pat"][0]["passes"]), trainable_numbers=3 * 2 * 196 + 1)

lines = ["| test accuracy, mean ± sd | paper | here |", "|---|---|---|"]
for value, label, paper in ((results["pat"], "PAT, on the device", "87 %"), (results["in_silico"], "in silico, on the device", ""),
                            (results["in_silico_on_model"], "in silico, on its own model", ""),
                            (results["pat_power_readout"], "PAT, on the device, power instead of average in the windows", ""),
                            (results["in_silico_played_once"], "in silico, on the device, waveform played once", ""),
                            (baselines["linear_convolution"], "digital: same network, the plate's linear part", ""),
                            (baselines["random_linear_map"], "digital: same network, a random linear map", ""),
                            (baselines["identity"], "digital: same network, no plate", ""),
                            (baselines["linear"], "digital: logistic regression on 14 x 14", "")):
    lines.append(f"| {label} | {paper} | {percent(value['accuracy'])} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **What the plate contributes is memory.** Without it (identity) the same 1177 numbers reach barely more than a third: a window's average then
# knows 20 pixels and nothing of the others. With the plate every window hears every pixel, through the ringing of the modes and of the round
# before. Played once, where the first windows have heard only the top of the image, the network loses about 15 points.
#
# **What it does not contribute is nonlinearity.** The plate's own linear part, as a digital convolution, does as well as the plate within
# the spread over seeds. The converter's clipping is the only nonlinearity that matters here, and alone it does little (no plate).
#
# **A plate is not the best linear mixer.** A random linear map in its place does better by about three points: a convolution is the same at every
# moment, and its few resonances leave part of the signal space almost untouched. Logistic regression on the same 196 numbers, with 1970 trained
# numbers instead of 1177, does better too. The figure shows that a plate can be *trained*, not that it is a good classifier of digits.
#
# **PAT and in silico training tie.** The model of this nearly linear device leaves a few parts in ten thousand unexplained, so a network
# trained on it works on the device as well as on the model. PAT needs the device for every step and gains nothing. Where models are worse,
# it does: notebooks 02 and 05.
#
# **The readout matters a little.** The power in each window instead of the average is better by about a point.
#
# **Differences from the paper.** A simulated device; 14 x 14 pixels, three passes, ten window averages and the element-wise rescaling follow the paper as we
# recall it; sample rate, playing twice, the converter's range, optimiser and epochs are ours, because the paper's were not found. Exploration on training
# images with a linear filter preceded the device: 48 kS/s did better than 24, 96 or 192, and two rounds as well as three. The loudspeaker's
# data are typical values, not one product's.
