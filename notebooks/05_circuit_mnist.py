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
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 4e-h): a resistor, an inductor, a capacitor and a transistor, driven and read by a
# data-acquisition card (DAQ) at 1 MS/s, read handwritten digits (MNIST) with 93 % accuracy. Its transients are strongly nonlinear and noisy.
#
# **What stands here.** Circuit and DAQ are a *simulated device*; no laboratory is attached. Training sees it only through
# `y = device(x, theta)`. The simulation agrees with ngspice to 0.36 % of the swing or better (tests), far below the noise. The digits are real.
#
# **The equations.** The DAQ holds a voltage $u$ (V) for each microsecond; $i$ (A) is the inductor's current, $v$ (V) the capacitor's voltage, which is read:
#
# $$L\,\dot{\imath}=u-R\,i-v,\qquad C\,\dot v=i-i_\text{load}(v),$$
#
# with $R$ ($\Omega$), $L$ (H), $C$ (F). The load is an n-channel MOSFET (BS170) behind a resistor, gate and drain tied: below its threshold of 1.8 V it
# carries nothing and the circuit rings at 88 kHz, above it conducts and damps, and below $-0.6$ V its body diode conducts.
# `pnn_utils.systems.circuit.device` has the full equations, with the junction's and the gate's charge.

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
n_pairs = 3000  # measured pairs for the digital models
model_epochs = 5
n_compare = 1  # seeds of the comparison of models
compare_each = 1000  # images that each of its networks sees
n_test = 2000  # test images; full: all 10,000
jitters_ns = [0, 15, 100]
n_jitter = 1  # seeds of the jitter sweep
jobs = 1  # processes, of 300 to 600 MB each; full: 2

# %%
import time
import warnings

import numpy as np
import schemdraw
import schemdraw.elements as elm
import torch
from IPython.display import Markdown, display
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.neural_network import MLPClassifier

from pnn_utils import paths
from pnn_utils.datasets import fetch as data
from pnn_utils.datasets.images import average_pool, load_images
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.networks.waveform import WaveformNetwork, waveform_like_controls
from pnn_utils.report.figures import COLOURS, draw_arrow, draw_box, percent, plot_accuracies, plot_band, plot_confusion, save_figure, use_house_style
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twins.causal import CausalNetwork
from pnn_utils.twin import fit_twin, judge_twin, random_controls, save_twin
from pnn_utils.systems.circuit.model import fit_ringing

cost = Cost()
use_house_style()
warnings.filterwarnings("ignore", message="A worker stopped")  # joblib replaces processes that have grown; no job is lost
torch.set_num_threads(1)
images, labels = load_images("mnist")
images, labels = torch.tensor(average_pool(images, 2)[:n_train]), torch.tensor(labels[:n_train])
print(f"{len(images)} training images, 28 x 28 pixels averaged to 14 x 14 = {images.shape[1]} numbers between 0 and 1")

# %% [markdown]
# ## The device
#
# All numbers, SI units, with their sources. The imperfections were fixed before any network was trained.

# %%
device = Circuit(seed=0, noise_seed=1)
display(Markdown(parameter_table(device.parameters)))

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
save_figure(fig, "05_circuit_mnist_schematic")

# %% [markdown]
# ### What it does to two digits; its nonlinearity and its memory
#
# Panel b: twice the drive is not twice the response. Panel c: one sample of the drive is changed by 1 V, at 60 us, on top of forty different random
# drives; what remains of the change later is memory (rms over the drives; fifty readings are averaged, their noise is the floor).

# %%
rng = np.random.default_rng(np.random.SeedSequence(2))
none = np.zeros(0, np.float32)
microseconds = np.arange(device.input_dim)
fig, axes = plt.subplots(1, 3, figsize=(10, 2.9), width_ratios=(1.5, 1, 1))
for row, digit in enumerate((0, 4)):
    drive = 6 * images[labels == digit][:1].numpy() - 3
    axes[0].plot(microseconds, drive[0] - 9 * row, color="#999999", linewidth=0.8, label="drive (V)" if row == 0 else None)
    axes[0].plot(microseconds, device(drive, none)[0] - 9 * row, color=COLOURS["device"], linewidth=0.9, label="response (V)" if row == 0 else None)
    axes[0].text(1, 3.6 - 9 * row, f'"{digit}"', fontsize=11)
axes[0].set(title="a  Drive and response", xlabel="time (us)", ylim=(-13, 8), yticks=[])
axes[0].legend(fontsize=7, ncol=2, loc="upper right")
tone = np.sin(2 * np.pi * 0.07 * microseconds)[None].astype(np.float32)
for volts, colour in ((0.5, "#56B4E9"), (1.0, "#0072B2"), (2.0, "#009E73"), (4.0, "#D55E00")):
    axes[1].plot(microseconds[:80], device(volts * tone, none)[0][:80] / volts, color=colour, linewidth=1, label=f"{volts:g} V")
axes[1].set(title="b  70 kHz tone", xlabel="time (us)", ylabel="response / amplitude")
axes[1].legend(fontsize=7, title="amplitude", title_fontsize=7)
base = rng.uniform(-3, 3, (40, device.input_dim)).astype(np.float32)
changed = base.copy()
changed[:, 60] += 1
repeats = 50
change = sum(device(changed, none) - device(base, none) for _ in range(repeats)) / repeats
axes[2].semilogy(microseconds, np.sqrt((change**2).mean(0)), color=COLOURS["device"])
axes[2].set(title="c  What remains of a change", xlabel="time (us)", ylabel="rms change of response (V)", xlim=(40, 196))
save_figure(fig, "05_circuit_mnist_device")

# %% [markdown]
# ## Three digital models on equal data
#
# - **perceptron**: assumes nothing;
# - **causal network**: dilated causal convolutions; knows that the future does not act on the past and that every moment is alike;
# - **ringing circuit**: the two equations above with 13 constants, found by least squares from the values printed on the parts; forward and
#   backward passes compiled.
#
# All get the same measured pairs: half white noise over the full range, half as they occur inside a network. $R^2$ is judged on fresh drives of both kinds
# beside the noise floor, the $R^2$ of a perfect model. The *cosine* is that between the model's and the true vector-Jacobian product, $J^Tg$ for random
# $g$: PAT is fed with it, and only a simulator can show it (central differences on the noiseless device). Training never sees it.

# %%
def drawn(n, rng):
    white = random_controls(device, n // 2, rng)
    rows = rng.choice(len(images) - n_valid, n // (2 * n_layers))
    return [np.concatenate(pair) for pair in zip(white, waveform_like_controls(device, images[n_valid:][rows].numpy(), n_layers, rng), strict=True)]


x, theta = drawn(n_pairs, rng)
y = device(x, theta)
# First guess in the model's units (microseconds, capacitance 1): nominal values of the parts, typical threshold, unit gains.
guess = {"inductance": 3.3, "resistance": 0.033, "leak": 0.001, "g1": 3.3, "v1": 2.1, "s1": 0.3, "g2": 3.3, "v2": 0.7, "s2": 0.1,
         "gain_in": 1.0, "offset_in": 0.0, "gain_out": 1.0, "offset_out": 0.0}
dims = (device.input_dim, device.param_dim, device.output_dim)


def fitted(kind):
    torch.set_num_threads(1)
    start, generator = time.perf_counter(), torch.Generator().manual_seed(3)
    if kind == "ringing circuit":
        mixed = np.random.default_rng(4).permutation(len(x))
        twin = fit_ringing(device, x[mixed], theta[mixed], y[mixed], guess)
    else:
        network = CausalNetwork(*dims, generator=generator) if kind == "causal network" else None
        twin, _ = fit_twin(device, x, theta, y, twin=network, epochs=model_epochs, learning_rate=3e-3 if network else 2e-3, generator=generator)
    return twin, time.perf_counter() - start


kinds = ("perceptron", "causal network", "ringing circuit")
twins, fit_seconds = {}, {}
for kind, (twin, seconds) in zip(kinds, Parallel(n_jobs=jobs)(delayed(fitted)(kind) for kind in kinds), strict=True):
    twins[kind], fit_seconds[kind] = twin, seconds
save_twin(paths.TWINS / "circuit.safetensors", twins["ringing circuit"], {"device": "Circuit(seed=0)", "pairs": n_pairs})

# %%
fresh = {"white": random_controls(device, 1000, rng), "network": waveform_like_controls(device, images[:300].numpy(), n_layers, rng)}
exact = Circuit(seed=0, jitter=0.0, trigger_jitter=0.0, noise=0.0, converter_bits=0)  # for the cosine only


def true_product(drive, gradient, step=1e-3):
    """J^T g of the noiseless device by central differences, one drive at a time."""
    nudges = step * np.eye(len(drive))
    bounded = np.clip(drive, device.input_range[0] + step, device.input_range[1] - step)
    return (exact(bounded + nudges, np.zeros(0)) - exact(bounded - nudges, np.zeros(0))) @ gradient / (2 * step)


def cosines(twin, drives, seed=5):
    found = []
    for drive, gradient in zip(drives, np.random.default_rng(seed).standard_normal(drives.shape), strict=True):
        control = torch.tensor(drive[None], requires_grad=True)
        (product,) = torch.autograd.grad(twin(control, None if twin is not twins["perceptron"] else torch.zeros(1, 0)), control,
                                         torch.tensor(gradient[None], dtype=torch.float32))
        true = true_product(drive.astype(np.float64), gradient)
        found.append(float(product[0].numpy() @ true / np.linalg.norm(product) / np.linalg.norm(true)))
    return found


models = {}
for kind, twin in twins.items():
    row = {"fit_s": fit_seconds[kind], "numbers": sum(v.numel() for v in twin.parameters()) or len(twin.constants)}
    for name, controls in fresh.items():
        judged = judge_twin(twin, device, *controls)
        row |= {f"r2_{name}": float(np.median(judged["r2"])), f"floor_{name}": float(np.median(judged["floor"])),
                f"cosine_{name}": float(np.median(cosines(twin, controls[0][-20:])))}
    batch, empty = torch.tensor(fresh["white"][0], requires_grad=True), torch.zeros(1000, 0)
    timed = []
    for _ in range(3):
        start = time.perf_counter()
        twin(batch, empty).sum().backward()
        timed.append(time.perf_counter() - start)
    models[kind] = row | {"ms_per_1000": 1e3 * min(timed)}
measured_passes = device.passes

# %% [markdown]
# ## The network
#
# Three passes through the circuit. Before each, every sample is rescaled, $u_j=\mathrm{clamp}(a_js_{\pi(j)}+b_j+c_jf_j)$, onto the range of $\pm4$ V: $s$ is
# the image or the waveform just measured, $f$ the image (the skip connection, from the second pass on), and $\pi$ a fixed random order of the samples. The
# averages of the last waveform over ten windows of time are the logits up to one factor. Several such networks are trained one by one, each
# on images of its own, and their probabilities are averaged.
#
# *A choice of this companion* is the random order $\pi$, one for each pass and network, drawn once: wiring, no arithmetic. In the plain order (raster), a
# circuit that forgets within some tens of samples mixes neighbours only; the result without $\pi$ stands in the table.

# %%
fig, axes = plt.subplots(figsize=(9.5, 2.2))
draw_box(axes, 0, 1, 1.0, 0.9, "image\n14 x 14", "#eeeeee")
for n in range(n_layers):
    left = 1.4 + 2.75 * n
    draw_arrow(axes, (left - 0.4, 1.45), (left, 1.45))
    draw_box(axes, left, 1, 1.25, 0.9, "reorder\n" + (f"$a_{n + 1}s+b_{n + 1}$" if n == 0 else f"$a_{n + 1}s+b_{n + 1}+c_{n + 1}f$") + "\nclamp", "#ffffff")
    draw_arrow(axes, (left + 1.25, 1.45), (left + 1.45, 1.45))
    draw_box(axes, left + 1.45, 1, 0.9, 0.9, "circuit", "#cfe3f5")
    if n:
        draw_arrow(axes, (left + 0.6, 0.6), (left + 0.6, 1.0))
axes.plot([0.5, 0.5, 2.0 + 2.75 * (n_layers - 1)], [1.0, 0.6, 0.6], color="black", linewidth=0.9)
axes.text(4.6, 0.38, "skip connections", ha="center", fontsize=8)
end = 1.4 + 2.75 * n_layers
draw_arrow(axes, (end - 0.4, 1.45), (end, 1.45))
draw_box(axes, end, 1, 1.3, 0.9, "average of\nten windows", "#eeeeee")
draw_arrow(axes, (end + 1.3, 1.45), (end + 1.6, 1.45))
axes.text(end + 1.65, 1.45, f"average over\n{n_networks} networks:\ndigit", va="center", fontsize=8)
axes.set(xlim=(-0.1, end + 3.3), ylim=(0.2, 2.1))
axes.axis("off")
save_figure(fig, "05_circuit_mnist_network")

# %% [markdown]
# ## Training
#
# One trial: validation images by seed, a network of its own number, calibration on the device, Adam (batches of 64, cosine schedule). The test set enters
# only where `final` is true. The stand-ins for the circuit, identity and tanh, are trained by the same function.

# %%
stand_ins = {"identity": lambda x, theta: x, "tanh": lambda x, theta: torch.tanh(x)}


def parts_of(seed):
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return order[:n_valid], order[n_valid:]


def test_set():
    test_images, test_labels = load_images("mnist", train=False)
    return torch.tensor(average_pool(test_images, 2)[:n_test]), torch.tensor(test_labels[:n_test])


def probabilities(network, x):
    with torch.no_grad():
        return torch.cat([network(rows).softmax(1) for rows in x.split(2000)])


def trial(seed, mode, learning_rate, number=0, model="ringing circuit", stand_in=None, shuffle=True, final=True, n_images=n_each, **changes):
    torch.set_num_threads(1)
    device = Circuit(seed=0, noise_seed=1000 * seed + number, **changes)
    valid, rest = parts_of(seed)
    generator = torch.Generator().manual_seed(1000 * seed + number)
    kept = rest[torch.randperm(len(rest), generator=generator)[:n_images]]
    network = WaveformNetwork(device, stand_ins[stand_in] if stand_in else twins[model], 10, n_layers, generator, shuffle=shuffle, skip=True)
    network.set_mode("in_silico" if stand_in else "device").calibrate(images[kept[:1000]])

    def validate(network):
        on_model = accuracy(network, images[valid], labels[valid])
        return {"device": on_model if stand_in or mode == "pat" else accuracy_on_device(network, images[valid], labels[valid]), "model": on_model}

    history = train(network.set_mode(mode), images[kept], labels[kept], epochs=epochs, learning_rate=learning_rate, batch_size=64,
                    generator=torch.Generator().manual_seed(number), device=device, validate=validate)
    result = {"history": history, "passes": device.passes}
    if final:
        test_x, _ = test_set()
        result["weights"] = network.state_dict()
        result["on_model"] = probabilities(network.set_mode("in_silico"), test_x)
        if not stand_in:
            result["on_device"] = probabilities(network.set_mode("device"), test_x)
    return result


def trials(settings):
    return Parallel(n_jobs=jobs)(delayed(trial)(**setting) for setting in settings)


# %% [markdown]
# ### Learning rate, on validation images
#
# The same search for all, one network. In silico training is judged by its accuracy on the device, which favours it.

# %%
methods = {"pat": dict(mode="pat"), "in_silico": dict(mode="in_silico")} | {name: dict(mode="in_silico", stand_in=name) for name in stand_ins}
search = [method | dict(learning_rate=rate, seed=0, final=False) for method in methods.values() for rate in learning_rates]
found = trials(search)
best, lines = {}, ["| method | " + " | ".join(f"rate {rate}" for rate in learning_rates) + " |", "|---" * (len(learning_rates) + 1) + "|"]
for i, name in enumerate(methods):
    scores = [found[i * len(learning_rates) + k]["history"][-1]["device"] for k in range(len(learning_rates))]
    best[name] = learning_rates[int(np.argmax(scores))]
    lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(f"{100 * score:.1f} %" for score in scores) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Which model? Accuracy decides
#
# One network per seed and model, on fewer images than below, both methods, at the rates found with the ringing circuit.

# %%
compare = [dict(mode=mode, model=kind, learning_rate=best[mode], seed=100 + seed, n_images=compare_each)
           for kind in kinds for mode in ("pat", "in_silico") for seed in range(n_compare)]
compared = trials(compare)
_, test_y = test_set()


def share_right(probability):
    return float((probability.argmax(1) == test_y).double().mean())


for kind in kinds:
    runs = {mode: [run for setting, run in zip(compare, compared, strict=True) if (setting["model"], setting["mode"]) == (kind, mode)]
            for mode in ("pat", "in_silico")}
    models[kind] |= {"pat_accuracy": summary(share_right(run["on_device"]) for run in runs["pat"]),
                     "in_silico_accuracy": summary(share_right(run["on_device"]) for run in runs["in_silico"]),
                     "in_silico_on_model_accuracy": summary(share_right(run["on_model"]) for run in runs["in_silico"])}
lines = ["| model | numbers | $1-R^2$ white (floor) | $1-R^2$ network-like (floor) | cosine white | cosine network-like | ms / 1000, both ways "
         "| PAT | in silico | in silico, own model |",
         "|---|---|---|---|---|---|---|---|---|---|"]
for kind, row in models.items():
    accuracies = " | ".join(percent(row[name]) for name in ("pat_accuracy", "in_silico_accuracy", "in_silico_on_model_accuracy"))
    fits = " | ".join(f"{1 - row[f'r2_{name}']:.5f} ({1 - row[f'floor_{name}']:.5f})" for name in ("white", "network"))
    lines.append(f"| {kind} | {row['numbers']} | {fits} | {row['cosine_white']:.3f} | {row['cosine_network']:.3f} "
                 f"| {row['ms_per_1000']:.0f} | {accuracies} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### Final trials

# %%
final_methods = methods | {"pat_raster": dict(mode="pat", shuffle=False)}
best["pat_raster"] = best["pat"]
settings = [method | dict(learning_rate=best[name], seed=seed, number=number)
            for name, method in final_methods.items() for seed in range(n_seeds) for number in range(n_networks if name != "pat_raster" else 1)]
done = trials(settings)
final = {name: [[] for _ in range(n_seeds)] for name in final_methods}
remaining = iter(done)
for name in final_methods:
    for seed in range(n_seeds):
        final[name][seed] = [next(remaining) for _ in range(n_networks if name != "pat_raster" else 1)]


def averaged(name, where):
    return [torch.stack([run[where] for run in runs]).mean(0) for runs in final[name]]


results = {name: {"accuracy": summary(map(share_right, averaged(name, "on_device")))} for name in ("pat", "in_silico", "pat_raster")}
results["in_silico_on_model"] = {"accuracy": summary(map(share_right, averaged("in_silico", "on_model")))}
results["pat_single_network"] = {"accuracy": summary(share_right(runs[0]["on_device"]) for runs in final["pat"])}
baselines = {name: {"accuracy": summary(map(share_right, averaged(name, "on_model")))} for name in stand_ins}

# %% [markdown]
# ### Digital baselines on the same numbers
#
# Logistic regression (penalty chosen on validation images; nothing random, n = 1), and a multilayer perceptron with as many trained numbers as all the
# networks together.

# %%
one_network = WaveformNetwork(device, twins["ringing circuit"], 10, n_layers, torch.Generator(), skip=True)
trained_numbers = n_networks * sum(p.numel() for p in one_network.parameters())
hidden = round((trained_numbers - 10) / (196 + 1 + 10))
test_x, _ = test_set()


def logistic(strength):
    valid, kept = parts_of(0)
    model = LogisticRegression(C=strength, max_iter=300).fit(images[kept], labels[kept])
    return model.score(images[valid], labels[valid]), model.score(test_x, test_y)


def perceptron(seed):
    _, kept = parts_of(seed)
    warnings.simplefilter("ignore", ConvergenceWarning)  # thirty epochs are where early stopping may end or not
    model = MLPClassifier((hidden,), learning_rate_init=3e-3, batch_size=128, max_iter=30, early_stopping=True, random_state=seed)
    return model.fit(images[kept], labels[kept]).score(test_x, test_y)


linear = Parallel(n_jobs=jobs)(delayed(logistic)(strength) for strength in (0.1, 1.0, 10.0))
mlp = Parallel(n_jobs=jobs)(delayed(perceptron)(seed) for seed in range(n_seeds))
baselines["linear"] = {"accuracy": summary([max(linear)[1]])}
baselines["mlp"] = {"accuracy": summary(mlp)}
print(f"{trained_numbers} trained numbers in {n_networks} networks; the perceptron has {hidden} hidden units, {hidden * 207 + 10} numbers")

# %% [markdown]
# ### Accuracy against timing jitter
#
# Jitter between DAQ output and input turns the slope of the response into noise; the paper met up to 20 % noise per output element (recalled, unchecked).
# Two questions: what becomes of networks trained at the default jitter when it grows, and does PAT at that jitter help? One network per
# seed, on validation images.


# %%
def at_jitter(seed, nanoseconds):
    torch.set_num_threads(1)
    noisy = Circuit(seed=0, noise_seed=5000 + seed, jitter=1e-9 * nanoseconds)
    valid, _ = parts_of(seed)
    network = WaveformNetwork(noisy, twins["ringing circuit"], 10, n_layers, torch.Generator().manual_seed(0), shuffle=True, skip=True, mode="device")
    network.load_state_dict(final["pat"][seed][0]["weights"])
    kept = accuracy(network, images[valid], labels[valid])
    # At the default jitter the network is the one that was trained at it.
    same = noisy.parameters == device.parameters
    retrained = {"history": [{"device": kept}], "passes": 0} if same else trial(seed, "pat", best["pat"], final=False, jitter=1e-9 * nanoseconds)
    drive = fresh["network"][0][:200]
    spread = np.std([noisy(drive, none) for _ in range(20)], axis=0)
    return kept, retrained["history"][-1]["device"], float(np.sqrt((spread**2).mean()) / noisy(drive, none).std()), noisy.passes + retrained["passes"]


grid = [(seed, jitter) for jitter in jitters_ns for seed in range(n_jitter)]
answers = Parallel(n_jobs=jobs)(delayed(at_jitter)(*point) for point in grid)
jitter_results = {"jitter_ns": list(jitters_ns)}
for k, name in enumerate(("trained_at_default", "trained_at_this_jitter", "noise_share")):
    jitter_results[name] = [summary(answer[k] for (_, jitter), answer in zip(grid, answers, strict=True) if jitter == wanted) for wanted in jitters_ns]

# %% [markdown]
# ## Results

# %%
fig, axes = plt.subplots(2, 2, figsize=(9.5, 7.2))
axes = axes.ravel()
epoch = np.arange(1, epochs + 1)
for name, side, label, colour, style in (("pat", "device", "PAT, on the device", "pat", "-"),
                                         ("in_silico", "device", "in silico, on the device", "in_silico", "-"),
                                         ("in_silico", "model", "in silico, on its own model", "in_silico_on_model", "--"),
                                         ("identity", "device", "no circuit (identity)", "digital", ":"), ("tanh", "device", "tanh", "digital", "--")):
    curves = [np.mean([[row[side] for row in run["history"]] for run in runs], axis=0) for runs in final[name]]
    plot_band(axes[0], epoch, curves, label, COLOURS[colour], linestyle=style)
axes[0].set(title=f"a  One network, validation (n = {n_seeds}, 2 s.e.)", xlabel="epoch", ylabel="accuracy", ylim=(0, 1), xlim=(0.5, epochs + 0.5))
axes[0].legend(loc="lower right", fontsize=7)
shown = {"logistic regression": baselines["linear"], "MLP, as many numbers": baselines["mlp"], f"PAT, {n_networks} networks": results["pat"],
         "PAT, one network": results["pat_single_network"], "PAT, one, raster": results["pat_raster"], "in silico": results["in_silico"],
         "in silico, on model": results["in_silico_on_model"], "tanh": baselines["tanh"], "no circuit": baselines["identity"]}
plot_accuracies(axes[1], shown, ["digital", "digital", "pat", "pat", "pat", "in_silico", "in_silico", "digital", "digital"])
axes[1].axvline(0.93, color="#999999", linewidth=0.8, linestyle=":")
axes[1].set(title=f"b  Test (n = {n_seeds}; dotted: paper)")
predicted = torch.cat([probability.argmax(1) for probability in averaged("pat", "on_device")])
plot_confusion(axes[2], confusion_matrix(test_y.repeat(n_seeds), predicted, labels=range(10)), [str(n) for n in range(10)])
axes[2].set_title(f"c  PAT, all {len(test_y)} test images (%)")
share = [100 * value["mean"] for value in jitter_results["noise_share"]]
for name, label, style in (("trained_at_default", "trained at 15 ns", "o-"), ("trained_at_this_jitter", "trained at this jitter", "s--")):
    values = jitter_results[name]
    axes[3].errorbar(share, [v["mean"] for v in values], yerr=[2 * v["sd"] / v["n"]**0.5 for v in values], fmt=style, markersize=4,
                     color=COLOURS["pat"], capsize=2, label=label, alpha=1 if name == "trained_at_default" else 0.6)
for x_at, value, jitter in zip(share, jitter_results["trained_at_default"], jitters_ns, strict=True):
    axes[3].annotate(f"{jitter} ns", (x_at, value["mean"]), (2, -10), textcoords="offset points", fontsize=6)
axes[3].set(title=f"d  One network, against jitter (n = {n_jitter})", xlabel="noise, % of the response's sd", ylabel="validation accuracy")
axes[3].legend(fontsize=7)
save_figure(fig, "05_circuit_mnist_results")

# %%
spent = measured_passes + sum(run["passes"] for run in found + compared + done) + sum(answer[3] for answer in answers)
write_metrics("05_circuit_mnist", profile, results, paper={"pat": 0.93}, baselines=baselines, cost=cost.read(spent), seeds=range(n_seeds),
              data={"name": "MNIST, 14 x 14", "sha256": data.FILES["mnist"]["train-images-idx3-ubyte"]}, models=models, learning_rates=best,
              jitter=jitter_results, n_networks=n_networks, trained_numbers=trained_numbers, device_passes_per_pat_network=int(final["pat"][0][0]["passes"]))

lines = ["| test accuracy, mean ± sd | paper | here |", "|---|---|---|"]
for value, label, paper in ((results["pat"], f"PAT, {n_networks} networks averaged, on the device", "93 %"),
                            (results["pat_single_network"], "PAT, one network, on the device", ""),
                            (results["pat_raster"], "PAT, one network, pixels in plain order", ""),
                            (results["in_silico"], f"in silico, {n_networks} networks, on the device", ""),
                            (results["in_silico_on_model"], f"in silico, {n_networks} networks, on their own model", ""),
                            (baselines["tanh"], f"digital: the same {n_networks} networks, tanh for the circuit", ""),
                            (baselines["identity"], f"digital: the same {n_networks} networks, no circuit", ""),
                            (baselines["mlp"], "digital: multilayer perceptron with as many trained numbers", ""),
                            (baselines["linear"], "digital: logistic regression on 14 x 14", "")):
    lines.append(f"| {label} | {paper} | {percent(value['accuracy'])} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not
#
# **The model decides.** With the circuit's own equations, 13 constants, both methods work, and in silico training meets no surprise on the device. The
# perceptron and the causal network explain less and point elsewhere (the cosine columns). PAT then loses a few points, because its gradient is off
# although its loss is right; in silico training loses more, 26 points with the perceptron: on its own model it looks better than anything the device
# ever does, because the network has learnt to use the model's errors.
#
# **With the best model PAT and in silico training tie.** What PAT buys is tolerance to a poor model, not accuracy beyond a good one. Refreshing the model with
# readings taken during training was not built: where the network's signals live the 13 constants leave three parts in ten thousand unexplained.
#
# **What the circuit contributes.** The same seven networks without a circuit, or with tanh for it, stay about six points below: skip connections and random
# orders alone already mix some pixels. Without the random orders one network falls from 90 to 68 %, because the circuit's memory of
# some forty samples is short beside an image of 196.
#
# **Digital hardware does better with less.** A perceptron with as many trained numbers as the seven networks reads 97 to 98 % of the digits, logistic
# regression nearly what the seven networks reach. The figure shows that a transistor circuit can be trained, not that it should replace a multiplier.
#
# **Jitter.** Up to 7 % noise per element costs less than two points. At 15 %, near the paper's level, networks trained quietly lose seven points; trained at
# that noise, half of it comes back.
#
# **Where it stops.** Seven networks reach the paper's 93 %; our aim of 95 % is not reached. In exploration on validation images more
# images for each network gave about a quarter of a point, a fourth layer one point on a single network; neither fits the time that this notebook has.
#
# **Differences from the paper.** A simulated device; part values, drive range and topology around the transistor are ours; three layers, skip
# connections, element-wise rescaling and the average of seven networks follow the paper as we recall it; random orders, the readout, optimiser and
# epochs are ours.
