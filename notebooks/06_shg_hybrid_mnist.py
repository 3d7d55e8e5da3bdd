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
# # Fig. 4i-l: a linear layer and light read digits
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022, Fig. 4i-l): trainable digital
# linear layers feed four second-harmonic (SHG) channels, and the hybrid reads handwritten digits
# (MNIST) with 97 % accuracy, where linear layers alone reach about 90 % (recalled, unchecked).
#
# **What stands here.** Four crystals at a time, copies of the *simulated device* of
# [02_shg_vowels](02_shg_vowels.ipynb) with different fabrication errors; no laboratory is
# attached. Training sees them only through `y = device(x, theta)`. The digits are real.
#
# **The question.** Between image and answer stand a digital layer, a way into the shaper's range,
# light, and a readout. Which of them computes? Each is taken away in turn.
#
# **The equations.** An image $f$ of 784 pixels becomes $4\times100$ numbers $z=Wf+b$, these become
# controls $u\in[0,1]$ (field amplitudes), and crystal $c$ answers with the spectrum of its second
# harmonic, 50 charges in units of the full well:
#
# $$y_c(\Omega)\;\propto\;\Big|\,\mathrm{sinc}\!\left(\tfrac{1}{2}\Delta k(\Omega)L\right)
# \int E_c(\omega)\,E_c(\Omega-\omega)\,d\omega\,\Big|^2,
# \qquad E_c(\omega)=a(u_c;\omega)\,S(\omega)\,e^{i\varphi(\omega)},$$
#
# with $\omega,\Omega$ in rad/s, the mismatch $\Delta k$ in rad/m and the crystal's length $L$ in
# m: close to a polynomial of degree four in the controls. Ten linear functions of the 200 charges
# are the logits.

# %% tags=["parameters"]
profile = "quick"
n_seeds = 2  # networks and held-out images, numbered from 0
n_copies = 2  # fours of crystals, each crystal with its own twin; seed s uses s mod n_copies
n_train = 5000  # images to train on; full: 55,000
n_valid = 1000  # held-out images, which choose the learning rates; full: 5,000
n_test = 2000  # full: 10,000
epochs = 4
batch_size = 128  # full: 512
learning_rates = [0.006]
extensions = 0  # times that a search may widen its grid, where the best rate stands on an edge
search_again = False  # True: search even where what a search has found is committed
retrain = False  # True: train the main networks even where their weights are committed
study_images = 1500  # of the study of variants, smaller because there are many; full: 15,000
study_epochs = 3
study_rates = [0.015]
study_batch = 128  # full: 256
study_seeds = 2
n_pairs = 3000  # measured pairs for each crystal's model
twin_epochs = 10
hidden_widths = [20, 80]  # of the perceptrons that light is compared with
jobs = 1  # processes; full: 2

# %%
import joblib
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt

from pnn_utils import experiment, files, methods, parts
from pnn_utils.datasets import fetch
from pnn_utils.datasets.images import load_images, random_affine
from pnn_utils.networks import MLP
from pnn_utils.networks.chain import Network
from pnn_utils.pat import Physical
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, draw_arrow, draw_box, folded_table, percent, told
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import check_choice, check_whole, ends, parameter_table
from pnn_utils.systems.shg.device import SHG, TABLE
from pnn_utils.training import Devices, accuracy, accuracy_on_device, accuracy_on_model, train
from pnn_utils.twin import READINGS, fit_twin, judge_twin, load_twin, save_twin

# %%
NAME = "06_shg_hybrid_mnist"
N_CRYSTALS = 4
MIDDLE = 0.6  # of the range from 0 to 1, around which two of the ways into it put the controls
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)  # the matrices are small; a second process uses the other core better
depends = dict(n_copies=n_copies, n_train=n_train, n_valid=n_valid, n_test=n_test, epochs=epochs,
               n_pairs=n_pairs, twin_epochs=twin_epochs, batch_size=batch_size,
               hidden_widths=hidden_widths)
FILES = {name: experiment.results_file(NAME, trial=name, **depends)
         for name in ("fitted", "trial", "perceptrons")}
FILES["search"] = experiment.search_file(NAME, search_again, trial="search", **depends)


def run(trial, points, file=None, **settings):
    return experiment.sweep(trial, points, FILES[file or trial.__name__], scheduler="processes",
                            jobs=jobs, **settings)


# %% [markdown]
# ## Devices and models
#
#                          shaper                   BBO crystal    spectrometer
#     pulse  ===========>  +--+--+--+---+--+  ===>    |::::|       50 bins
#     784    linear  100   |x0|t0|x1|...|t49|         |::::| ---->  y0 ... y49
#     pixels ----------->  +--+--+--+---+--+          |____|
#                          four times, with four crystals
#
# A copy of the device is four crystals, each with fabrication errors of its own. Each crystal's
# model is a perceptron (its *twin*), fitted to measured pairs that are drawn as the ways into the
# range below make controls: half as a logistic function of normal numbers, from nearly equal ones
# to nearly all at 0 or 1, half normally around the middle of the range, and clipped. One more twin
# is that of an *ideal* crystal, without noise and fabrication errors.

# %%
display(Markdown(folded_table(parameter_table(TABLE), "wavelength", "duration",
                              "channel_spacing", "crystal_length", "full_well")))


# %%
def as_sent(n, rng):
    """Draw controls x and theta, (n, 50) each, as the ways into the range make them."""
    half = n // 2
    middle, spread = 1 + rng.standard_normal((half, 1)), rng.uniform(0.3, 5, (half, 1))
    logistic = 1 / (1 + np.exp(-middle - spread * rng.standard_normal((half, 100))))
    spread = rng.uniform(0.1, 0.5, (n - half, 1))
    clipped = (MIDDLE + spread * rng.standard_normal((n - half, 100))).clip(0, 1)
    return np.split(np.concatenate([logistic, clipped]).astype(np.float32), 2, 1)


def twin_file(crystal):
    return files.TWINS / f"hybrid_{crystal}.safetensors"


def fitted(crystal):
    """Fit and keep the twin of a crystal, a number or "ideal"; return what it is worth."""
    seed, ideal = (0, True) if crystal == "ideal" else (crystal, False)
    device, rng = SHG(seed, noise_seed=seed, ideal=ideal), np.random.default_rng([6, seed])
    x, theta = as_sent(n_pairs, rng)
    twin, _ = fit_twin(device, x, theta, device(x, theta), hidden=(128,), epochs=twin_epochs,
                       generator=torch.Generator().manual_seed(seed))
    judged = judge_twin(twin, device, *as_sent(1000, rng))
    quality = {f"{name}_median": float(np.median(judged[name])) for name in ("r2", "floor")}
    save_twin(twin_file(crystal), twin, {
        "device": f"SHG(seed={seed}, ideal={ideal})", "pairs": n_pairs, **quality})
    return {"quality": quality, "passes": device.passes}


# %%
crystals = [*range(N_CRYSTALS * n_copies), "ideal"]
fits = run(fitted, [dict(crystal=crystal) for crystal in crystals])
twins = {crystal: load_twin(twin_file(crystal), SHG()) for crystal in crystals}
twin_quality = {f"crystal {crystal}.{name}": value
                for crystal, fit in zip(crystals, fits, strict=True)
                for name, value in fit["quality"].items()}
print("median R^2 over bins (noise floor):", ", ".join(
    f"{fit['quality']['r2_median']:.3f} ({fit['quality']['floor_median']:.3f})" for fit in fits))

# %% [markdown]
# ## The network
#
# A shaper's amplitude lies between 0 and 1, a linear layer's output anywhere. How the one becomes
# the other matters, because it can be a nonlinearity of its own. Three **ways into the range**:
#
# - **linear**: each of the 400 numbers is standardised over images and made so small that three
#   and a half standard deviations fit into the range: the digital part is linear but for the few
#   that lie beyond.
# - **clip**: the 400 numbers are divided by their root mean square, shifted and scaled, and what
#   sticks out of the range (one in ten of normal numbers) is cut off, as any shaper would.
# - **sigmoid**: a logistic function, a layer of 400 digital nonlinear units.
#
# Two **readouts**: **linear**, a trained matrix from the 200 standardised charges to ten logits,
# or **parts**, none that is trained: the class is the brightest (after standardising) of ten parts
# of the four spectra. The main network has the sigmoid and the linear readout.

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(figsize=(9, 2.6))
draw_box(axes, 0, 0.85, 1.1, 1.2, "image\n28 x 28", "#eeeeee")
draw_arrow(axes, (1.1, 1.45), (1.5, 1.45))
draw_box(axes, 1.5, 0.45, 1.2, 2.0, "linear\n784 to 400", "#ffffff")
draw_arrow(axes, (2.7, 1.45), (3.1, 1.45))
draw_box(axes, 3.1, 0.45, 1.2, 2.0, "into range", "#ffffff")
for n in range(N_CRYSTALS):
    height = 0.2 + 0.66 * n
    draw_arrow(axes, (4.3, 1.45), (4.9, height + 0.25))
    draw_box(axes, 4.9, height, 1.7, 0.5, f"crystal {N_CRYSTALS - n}", "#cfe3f5")
    draw_arrow(axes, (6.6, height + 0.25), (7.2, 1.45))
draw_box(axes, 7.2, 0.45, 1.3, 2.0, "readout\n200 to 10", "#ffffff")
draw_arrow(axes, (8.5, 1.45), (8.9, 1.45))
axes.text(8.95, 1.45, "digit", va="center", fontsize=8)
axes.set(xlim=(-0.1, 9.5), ylim=(0.1, 2.8))
axes.axis("off")
figures.save_figure(fig, NAME, "network")

# %% [markdown]
# ### In code
#
# The three ways in, as shares of each control's range, from $z$ and a part `even` that
# standardises its columns: in training with the batch's own constants, afterwards with the last
# ones. Then what a network needs of its devices, and the readouts.

# %%
SPREAD = 0.3  # root mean square deviation of clipped controls from the middle
REACH = 3.5  # standard deviations that fill the range from its middle up, where nothing is clipped
WAYS = {
    "clip": lambda z, even: MIDDLE + SPREAD * z / parts.divisor(
        z.square().mean(1, keepdim=True)).sqrt(),
    "linear": lambda z, even: MIDDLE + (1 - MIDDLE) / REACH * even(z),
    "sigmoid": lambda z, even: torch.sigmoid(2 * z + 1)}


# %%
def ranges_of(devices, models):
    """Both ends of all controls' ranges, (devices, input_dim + param_dim) each."""
    sizes = {(d.input_dim, d.param_dim, d.output_dim) for d in devices}
    if len(devices) != len(models) or len(sizes) != 1:
        raise ValueError(f"there are {len(devices)} devices and {len(models)} models; "
                         "expected as many, at least one, all of the same dimensions")
    return np.stack([np.hstack([ends("input_range", d.input_range, d.input_dim),
                                ends("param_range", d.param_range, d.param_dim)])
                     for d in devices], 1)


def readout_of(kind, outputs, n_classes, generator):
    """A part that makes logits, (rows, n_classes), of all readings, (rows, outputs)."""
    check_choice("readout", kind, "linear", "parts")
    check_whole(1, outputs, n_classes=n_classes)
    if kind == "parts":
        return parts.Pool(parts.windows(outputs, n_classes))
    return torch.nn.Sequential(parts.Standardise(outputs),
                               parts.linear(outputs, n_classes, generator, 1 / 3))


# %% [markdown]
# The network itself: a linear layer sets all controls of all crystals, light does the rest.
# `Network` adds what every network has: `set_mode`, and `calibrate`, which measures the constants
# of all parts that standardise.

# %%
class Hybrid(Network):
    def __init__(self, devices, models, n_inputs, n_classes, generator, *, bound="clip",
                 readout="linear", mode="pat"):
        super().__init__()
        check_choice("bound", bound, *WAYS)
        self.into, self.bound = parts.Into(*ranges_of(devices, models)), bound
        self.split, outputs = devices[0].input_dim, len(devices) * devices[0].output_dim
        controls = len(devices) * (self.split + devices[0].param_dim)
        self.feed = parts.linear(n_inputs, controls, generator)
        self.even = parts.Standardise(controls, live=True)
        self.layers = torch.nn.ModuleList(map(Physical, devices, models, len(devices) * [mode]))
        self.readout = readout_of(readout, outputs, n_classes, generator)

    def controls(self, x):
        """Return the controls, shape (rows, devices, input_dim + param_dim)."""
        share = WAYS[self.bound](self.feed(x), self.even)
        return self.into(share.unflatten(1, (len(self.layers), -1)))  # clips what is outside

    def outputs(self, x):
        """Return what all devices gave, shape (rows, devices * output_dim)."""
        data, theta = self.controls(x).tensor_split([self.split], 2)
        return torch.cat([layer(data[:, n].contiguous(), theta[:, n].contiguous())
                          for n, layer in enumerate(self.layers)], 1)

    def forward(self, x):
        return self.readout(self.outputs(x))


# %% [markdown]
# ## Training
#
# One trial: held-out images and start by seed, standardisation constants measured on the crystals,
# Adam (cosine schedule), training images turned, shifted and scaled a little at
# each step. The test set enters only where `final` is true.
#
# - **PAT**: crystals forward, their twins backward.
# - **in silico**: the twins both ways; *as deployed* on the crystals, and *re-standardised*, the
#   constants of the readout's 200 charges moved such that each has, standardised, the mean and
#   spread on the crystals that it has on the twins.
# - **stand-ins** for the crystals, digital functions of the controls of neighbouring channels, $x$
#   and $\theta$: the identity $(x+\theta)/2$, squaring $((x+\theta)/2)^2$, and random quadratic
#   forms, the squares of 50 random combinations of the 100 controls.
# - **identity with the crystal's noise**: deviations of repeated readings of the main network's
#   crystals from their mean, each image's row whole, so that they are correlated as measured. On
#   both sides their unit is each reading's spread over images where training starts.
# - **ideal crystal**: PAT with crystals without noise and fabrication errors.

# %%
quadratic = torch.randn(100, 50, generator=torch.Generator().manual_seed(7)) / 10
STAND_INS = {
    "identity": lambda x, theta: (x + theta) / 2,
    "squaring": lambda x, theta: ((x + theta) / 2) ** 2,
    "random_quadratic_form": lambda x, theta: (torch.cat([x, theta], 1) @ quadratic) ** 2}
STAND_INS["noisy_identity"] = STAND_INS["identity"]
CALIBRATION = 2000  # images from whose readings constants are measured


class Noisy(Hybrid):
    """A network with noise on its stand-ins' readings, in units of their spread at the start."""

    def take(self, noise, x, seed):
        """Let rows of `noise` be added, their unit measured on the images x."""
        with torch.no_grad():
            self.noise = noise * super().outputs(x).std(0)
        self.source = torch.Generator().manual_seed(seed)
        return self

    def outputs(self, x):
        rows = torch.randint(len(self.noise), (len(x),), generator=self.source)
        return super().outputs(x) + self.noise[rows]


# %%
NOISE = FILES["trial"].with_suffix(".noise")  # measured below, on the main network's crystals


def checkpoint(point):
    """Where a run is kept meanwhile: what a search has trained is not trained again."""
    return FILES["trial"].with_suffix(f".{joblib.hash(point)}")


def divided(seed, n):
    """Held-out and training images, as bytes: whole sets of float32 would fill the memory."""
    images, labels = map(torch.from_numpy, load_images("mnist"))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return [(images[rows].flatten(1), labels[rows])
            for rows in (order[:n_valid], order[n_valid:n_valid + n])]


def pixels(images, side=28):
    """Numbers from 0 to 1, (rows, side**2), from bytes; 14 x 14: blocks of four, averaged."""
    x = images.float() / 255
    if side == 28:
        return x
    return torch.nn.functional.avg_pool2d(x.view(-1, 1, 28, 28), 28 // side).flatten(1)


def tested_on():
    """The test images and labels."""
    images, labels = map(torch.from_numpy, load_images("mnist", train=False))
    return images[:n_test].flatten(1), labels[:n_test]


def judged(judge, network, images, labels, side=28):
    """An accuracy, a thousand images at a time: all at once would fill the memory."""
    right = [len(y) * judge(network, pixels(x, side), y)
             for x, y in zip(images.split(1000), labels.split(1000), strict=True)]
    return sum(right) / len(labels)


# %%
def crystals_for(answer, seed):
    """The four crystals of a trial, and what stands for them in the backward pass."""
    first, ideal = N_CRYSTALS * (seed % n_copies), answer == "ideal_crystal"
    devices = Devices(SHG(first + k, noise_seed=100 * (1 + seed) + k, ideal=ideal)
                      for k in range(N_CRYSTALS))
    if answer in STAND_INS:
        return devices, N_CRYSTALS * [STAND_INS[answer]]
    return devices, [twins["ideal" if ideal else first + k] for k in range(N_CRYSTALS)]


def started(answer, devices, models, x, seed, bound, readout):
    """A network at its start, its constants measured on the images x."""
    kind = Noisy if answer == "noisy_identity" else Hybrid
    network = kind(devices, models, x.shape[1], 10, torch.Generator().manual_seed(seed),
                   bound=bound, readout=readout)
    network.set_mode("in_silico" if answer in STAND_INS else "device")
    if kind is Noisy:
        network.take(files.load_tensors(NOISE)[0]["noise"], x, seed)
    network.calibrate(x)
    return network


# %%
def once_trained(answer, learning_rate, seed, n, epochs, bound="sigmoid", readout="linear",
                 side=28, augmented=True, batch_size=batch_size):
    """Train a network; return it, its crystals, their passes, held-out and training images."""
    kept = None if seed else checkpoint(dict(locals()))
    devices, models = crystals_for(answer, seed)
    valid, (x, y) = divided(seed, n)
    sample = pixels(x[:CALIBRATION], side)

    def start(models):
        return started(answer, devices, models, sample, seed, bound, readout)

    def change(images, generator):
        x = pixels(images, side)
        return random_affine(x, generator) if augmented else x

    method = methods.pat if answer in ("pat", "ideal_crystal") else methods.in_silico
    network, _ = method(start, models, devices, x, y, seed=1000 + seed, epochs=epochs,
                        learning_rate=learning_rate, batch_size=batch_size, augment=change,
                        checkpoint=kept)
    with torch.no_grad():  # digital constants of the linear way in, so far the last batch's
        network.even.measure(network.feed(sample))
    return network, devices, devices.passes, valid, (x, y)


# %%
def trained(main=False, **point):
    """The same; a main network is built from the weights that its training has left."""
    if not (main and profile == "full"):
        return once_trained(**point)

    def training():
        network, _, passes, *_ = once_trained(**point)
        halved = {name: value.half() if name == "feed.weight" else value
                  for name, value in network.state_dict().items()}  # most of the numbers
        return halved, {"passes": passes}

    answer, seed = point["answer"], point["seed"]
    weights, about = experiment.left_or_trained(
        f"hybrid_{answer}_{seed}", depends | point, training, retrain)
    devices, models = crystals_for(answer, seed)
    valid, (x, y) = divided(seed, point["n"])
    network = started(answer, devices, models, pixels(x[:CALIBRATION]), seed, point["bound"],
                      point["readout"])
    network.load_state_dict(weights)
    return network, devices, about["passes"], valid, (x, y)


# %%
def trial(final=False, **point):
    main = final and point["n"] == n_train  # and not the smaller task
    network, devices, passes, valid, (x, y) = trained(main, **point)
    side = point.get("side", 28)
    judge = accuracy_on_model if point["answer"] in STAND_INS else accuracy_on_device
    sets = {"valid": valid}
    if final:
        sets |= {"train": (x[:n_valid], y[:n_valid]), "accuracy": tested_on()}
    result = {name: judged(judge, network, *rows, side) for name, rows in sets.items()}
    if point["answer"] == "in_silico":
        if final:
            result["on_model"] = judged(accuracy_on_model, network, *sets["accuracy"], side)
        before = devices.passes
        rows = pixels(x[:CALIBRATION], side)
        methods.match(network, methods.moments(network, rows, "in_silico"), rows)
        passes += devices.passes - before
        again = {name: judged(judge, network, *rows, side) for name, rows in sets.items()}
        result |= {"valid": again["valid"], "restandardised": again.get("accuracy")}
    return result | {"passes": passes}


# %% [markdown]
# ### The main network: learning rates, on held-out images
#
# All get the same search: the same rates at the full schedule on seed 0, judged on held-out
# images; where the best rate stands on an edge of the grid, the grid is widened. In silico
# training is judged after re-standardising, which favours it.

# %%
MAIN = [("pat", "sigmoid", "linear"), ("in_silico", "sigmoid", "linear"),
        ("identity", "sigmoid", "linear")]
ledger = {"twins": sum(fit["passes"] for fit in fits)}  # device passes


def points_of(cases, rates, seeds, **settings):
    return [dict(answer=answer, bound=bound, readout=readout, learning_rate=rate, seed=seed,
                 **settings) for (answer, bound, readout), rate in zip(cases, rates, strict=True)
            for seed in seeds]


def trials(points, **settings):
    found = run(trial, points, **settings)
    for point, one in zip(points, found, strict=True):  # a search's best is not trained again
        ledger[joblib.hash({**point, "final": True})] = one["passes"]
    return found


def searched(cases, rates, **settings):
    """Search a rate for each case, from the grid of rates."""
    def score(pairs):
        points = points_of(*zip(*pairs, strict=True), [0], **settings)
        found = trials(points, file="search", broken={"valid": 0.0, "passes": 0})
        return [one["valid"] for one in found]

    return experiment.search(score, rates, cases, extensions)


# %%
def shown_searches(choices):
    tried = sorted({rate for choice in choices.values() for rate in choice.scores})
    lines = ["| held-out accuracy (%) | " + " | ".join(f"{rate:g}" for rate in tried)
             + " | on an edge? |", "|---" * (len(tried) + 2) + "|"]
    for case, choice in choices.items():
        cells = [f"{100 * choice.scores[rate]:.2f}" if rate in choice.scores else ""
                 for rate in tried]
        cells = [f"**{cell}**" if rate == choice.rate else cell
                 for rate, cell in zip(tried, cells, strict=True)]
        lines.append(f"| {', '.join(case).replace('_', ' ')} | {' | '.join(cells)} | "
                     f"{'yes' if choice.at_edge else ''} |")
    return Markdown("\n".join(lines))


# %%
main_schedule = dict(n=n_train, epochs=epochs)
best = searched(MAIN, learning_rates, **main_schedule)
display(shown_searches(best))

# %% [markdown]
# ### The crystals' noise
#
# Four readings each of 500 held-out images by the main network, as trained (seed 0).

# %%
main_point = points_of(MAIN[:1], [best[MAIN[0]].rate], [0], **main_schedule)[0]
network, devices, _, valid, _ = trained(main=True, **main_point)
before, images = devices.passes, pixels(valid[0][:500])
with torch.no_grad():
    readings = torch.stack([network.set_mode("device").outputs(images) for _ in range(READINGS)])
deviations = (readings - readings.mean(0)) * (READINGS / (READINGS - 1)) ** 0.5
deviations = deviations.flatten(0, 1) / network.readout[0].sd
files.save_tensors(NOISE, {"noise": deviations}, {})
ledger["noise"] = devices.passes - before
noise = {"median_sd": deviations.std(0).median().item(),
         "signal_sd": (readings.mean(0).std(0) / network.readout[0].sd).median().item()}
print(f"noise of a reading: {noise['median_sd']:.3f} of its spread over images at the start, "
      f"{noise['median_sd'] / noise['signal_sd']:.3f} of that when trained (medians over bins)")

# %% [markdown]
# ### Final trials, and what the parts of the recipe buy
#
# The weights of the main networks, of PAT, in silico and the identity, are committed, those of the
# linear layer in float16, and this is how they are read, also after a training; where the settings
# are still the same, a run takes them, and `retrain = True` (`make reproduce-long`) trains again.
# All else is trained here: the same network with a third of the epochs, without random changes of
# the images, and with 14 x 14 pixels (blocks of four, averaged), each at the main network's rate,
# judged on held-out images; differences are paired by seed.

# %%
LESS = {"a third of the epochs": {"epochs": max(1, epochs // 3)},
        "no random changes": {"augmented": False}, "14 x 14 pixels": {"side": 14}}
points = points_of(MAIN, [best[case].rate for case in MAIN], range(n_seeds), **main_schedule,
                   final=True)
fewer = range(min(3, n_seeds))
for changes in LESS.values():
    points += points_of(MAIN[:1], [best[MAIN[0]].rate], fewer, **main_schedule | changes)
done = trials(points)
final = {answer: done[i * n_seeds:(i + 1) * n_seeds] for i, (answer, *_) in enumerate(MAIN)}
rest = iter(done[len(MAIN) * n_seeds:])
less = {name: [next(rest)["valid"] for _ in fewer] for name in LESS}
full = [one["valid"] for one in final["pat"][:len(fewer)]]
buys = {name: experiment.paired(full, found) for name, found in less.items()}
for name, one in buys.items():
    print(f"{name}: {100 * np.mean(less[name]):.2f} instead of {100 * np.mean(full):.2f} %, "
          f"{-100 * one['difference']:+.2f} ± {100 * one['standard_error']:.2f} points")

# %% [markdown]
# ## When does light compute?
#
# Every answer to the controls with every way into the range and both readouts, on a smaller task:
# fewer images of 14 x 14 pixels, fewer epochs, no random changes, rates searched for each.

# %%
ANSWERS = {"pat": "crystals, PAT", "ideal_crystal": "ideal crystals, PAT",
           "noisy_identity": "identity, crystal's noise", "identity": "identity",
           "squaring": "squaring", "random_quadratic_form": "random quadratic forms"}
CELLS = [(bound, readout) for readout in ("linear", "parts")
         for bound in ("linear", "clip", "sigmoid")]
study_schedule = dict(n=study_images, epochs=study_epochs, side=14, augmented=False,
                      batch_size=study_batch)
study_best = searched([(answer, *cell) for answer in ANSWERS for cell in CELLS], study_rates,
                      **study_schedule)
display(Markdown("<details>\n<summary>All rates and scores</summary>\n\n"
                 + shown_searches(study_best).data + "\n\n</details>"))

# %%
found = trials(points_of(study_best, [choice.rate for choice in study_best.values()],
                         range(study_seeds), **study_schedule, final=True))
study = {case: found[i * study_seeds:(i + 1) * study_seeds] for i, case in enumerate(study_best)}


def compared(a, b, quantity="accuracy", other=None):
    """Paired difference of two lists of trials.

    Its error is over seeds, which differ in network, held-out and training images, and in turn in
    the copy of the device; all read one test set.
    """
    return experiment.paired([row[quantity] for row in a], [row[other or quantity] for row in b])


def points_text(one):
    """A difference in points with its standard error; in bold if it is resolved."""
    text = f"{100 * one['difference']:+.2f} ± {100 * one['standard_error']:.2f}"
    return f"**{text}**" if one["resolved"] else text


# %%
lines = ["| test accuracy (%), mean | " + " | ".join(f"{bound}, {readout}"
                                                     for bound, readout in CELLS) + " |",
         "|---" * (len(CELLS) + 1) + "|"]
for answer, label in ANSWERS.items():
    cells = [f"{100 * np.mean([one['accuracy'] for one in study[answer, *cell]]):.2f}"
             for cell in CELLS]
    lines.append(f"| {label} | {' | '.join(cells)} |")
QUESTIONS = {"light_adds": ("pat", "noisy_identity"), "noise_costs": ("pat", "ideal_crystal")}
gains = {question: {cell: compared(study[a, *cell], study[b, *cell]) for cell in CELLS}
         for question, (a, b) in QUESTIONS.items()}
for question, label in (("light_adds", "crystals over identity with their noise, points"),
                        ("noise_costs", "crystals over ideal ones, points")):
    lines.append(f"| {label} | {' | '.join(map(points_text, gains[question].values()))} |")
passes = study["pat", *CELLS[0]][0]["passes"]
display(Markdown("\n".join([
    *lines, "", "Columns: way into the range, readout. In bold: 95 % interval without 0, "
    f"n = {study_seeds}. A training on crystals, {passes:,} device passes, would take "
    f"{passes * SHG.pass_time / 3600:.1f} h in the laboratory; one on a stand-in takes none."])))

# %% [markdown]
# ### How many digital operations does the light replace?
#
# Two answers. Operations *in place*: the main network makes $784\times400=313{,}600$
# multiply-accumulates (MACs) an image in front of the crystals and $200\times10$ behind.
# Operations *saved*: how many MACs has the smallest perceptron (one hidden layer of rectified
# units) that is as accurate as the hybrid on held-out images? Same images, changes, schedule and
# search; all widths are trained side by side on the same batches, each as if alone (Adam's steps
# do not depend on a factor before the loss).

# %%
class SideBySide(torch.nn.ModuleList):
    """Networks on the same images; logits (rows, classes, networks), as the loss takes them."""

    def forward(self, x):
        return torch.stack([network(x) for network in self], 2)


def perceptrons(learning_rate, seed):
    """Accuracies, by width, on held-out and test images; width 0 is a linear classifier."""
    valid, (x, y) = divided(seed, n_train)
    generator = torch.Generator().manual_seed(seed)
    networks = SideBySide(MLP([784, width, 10] if width else [784, 10], generator)
                          for width in widths)
    train(networks, x, y[:, None].expand(-1, len(widths)), epochs=epochs, batch_size=batch_size,
          learning_rate=learning_rate, generator=torch.Generator().manual_seed(1000 + seed),
          augment=lambda images, generator: random_affine(pixels(images), generator))
    return {name: [judged(accuracy, network, *rows) for network in networks]
            for name, rows in (("valid", valid), ("accuracy", tested_on()))}


# %%
widths = [0, *hidden_widths]
macs = {width: 784 * width + 10 * width if width else 7840 for width in widths}


def score_perceptrons(pairs):
    rates = sorted({rate for _, rate in pairs})
    found = run(perceptrons, [dict(learning_rate=rate, seed=0) for rate in rates], "search")
    by_rate = {rate: one["valid"] for rate, one in zip(rates, found, strict=True)}
    return [by_rate[rate][widths.index(width)] for width, rate in pairs]


mlp_best = experiment.search(score_perceptrons, learning_rates, widths, extensions)
rates = sorted({choice.rate for choice in mlp_best.values()})
points = experiment.grid(learning_rate=rates, seed=fewer)
found = dict(zip(map(tuple, map(dict.values, points)), run(perceptrons, points), strict=True))
mlp = {width: [{name: found[mlp_best[width].rate, seed][name][k] for name in ("valid", "accuracy")}
               for seed in fewer] for k, width in enumerate(widths)}

# %%
hybrid_valid = np.mean([one["valid"] for one in final["pat"]])
as_good = [width for width in hidden_widths
           if np.mean([one["valid"] for one in mlp[width]]) >= hybrid_valid]
equal = min(as_good) if as_good else max(hidden_widths)
front = 784 * 100 * N_CRYSTALS
hybrid_macs = front + 10 * 50 * N_CRYSTALS
tested = {width: summary(one["accuracy"] for one in mlp[width]) for width in widths}
lines = ["| hidden units | MACs an image | rate | test accuracy |", "|---|---|---|---|"]
for width in widths:
    lines.append(f"| {width or 'none (linear)'} | {macs[width]:,} | {mlp_best[width].rate:g}"
                 f"{', on an edge' if mlp_best[width].at_edge else ''} | "
                 f"{percent(tested[width], 2)} |")
display(Markdown("\n".join(lines)))
print(f"hybrid: {front:,} MACs in front of the crystals, {hybrid_macs:,} in all;",
      f"perceptron with {equal} hidden units: {macs[equal]:,},",
      "the smallest as good" if as_good else "the largest tried, not as good")

# %% [markdown]
# ## Two digits on their way
#
# Through the main network, as trained (seed 0).

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(2, 3, figsize=(9.5, 4), width_ratios=(0.55, 1.4, 1.4))
for row, digit in zip(axes, (0, 4), strict=True):
    image = pixels(valid[0][valid[1] == digit][:1])
    with torch.no_grad():
        controls = network.controls(image)[0]
        spectra = network.outputs(image)[0].view(N_CRYSTALS, -1)
    row[0].imshow(image[0].view(28, 28), cmap="gray_r")
    row[0].set(xticks=[], yticks=[])
    row[1].step(np.arange(100), controls[0], where="mid", color="#333333", linewidth=0.8)
    row[1].set(ylim=(0, 1.02), ylabel="field amplitude")
    for k in range(N_CRYSTALS):
        row[2].plot(100 * spectra[k], linewidth=1, label=f"crystal {k + 1}")
    row[2].set(ylabel="charge (% full well)", ylim=(0, None))
axes[0, 1].set_title("controls of crystal 1")
axes[0, 2].set_title("second harmonic")
axes[1, 1].set_xlabel("control")
axes[1, 2].set_xlabel("bin")
axes[0, 2].legend(fontsize=7, loc="upper right", handlelength=1.2)
figures.save_figure(fig, NAME, "device")

# %% [markdown]
# ## Results

# %%
results = {answer: {"accuracy": summary(one["accuracy"] for one in final[answer])}
           for answer in ("pat", "in_silico")}
for quantity in ("on_model", "restandardised"):
    results[f"in_silico_{quantity}"] = {
        "accuracy": summary(one[quantity] for one in final["in_silico"])}
baselines = {"linear": {"accuracy": tested[0]}, "mlp_as_good": {"accuracy": tested[equal]},
             "identity": {"accuracy": summary(one["accuracy"] for one in final["identity"])}}
for (answer, bound, readout), runs in study.items():
    among = baselines if answer in STAND_INS else results
    among[f"study_{answer}_{bound}_{readout}"] = {
        "accuracy": summary(one["accuracy"] for one in runs)}
silico = final["in_silico"]
differences = {
    "pat_over_in_silico": compared(final["pat"], silico),
    "pat_over_in_silico_restandardised": compared(final["pat"], silico, other="restandardised"),
    "pat_over_identity": compared(final["pat"], final["identity"])}
differences |= {f"{question}_{bound}_{readout}": one for question, cells in gains.items()
                for (bound, readout), one in cells.items()}

# %% jupyter={"source_hidden": true}
def error_axis(axis, low, high):
    """An axis of errors, logarithmic so that a large one does not flatten the rest."""
    ticks = [0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 80]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(plt.NullLocator())


def errors(values):
    return 100 * (1 - np.array(values))


def around(*values):
    return 0.85 * min(map(np.min, values)), 1.18 * max(map(np.max, values))


# %% jupyter={"source_hidden": true}
def panel_a(axes):
    shown = {"PAT": ("pat", "pat"), "in silico, re-standardised": (
        "in_silico_restandardised", "in_silico"), "in silico, as deployed": (
        "in_silico", "in_silico"), "in silico, on its twins": (
        "in_silico_on_model", "in_silico_on_model"), "no crystals (identity)": (
        "identity", "digital")}
    values = [errors((results | baselines)[name]["accuracy"]["values"])
              for name, _ in shown.values()]
    for i, (found, (_, colour)) in enumerate(zip(values, shown.values(), strict=True)):
        axes.plot(found, i + np.linspace(-0.2, 0.2, len(found)), "o", markersize=4,
                  color=COLOURS[colour], alpha=0.7)
        axes.plot([found.mean()] * 2, [i - 0.32, i + 0.32], color=COLOURS[colour])
    axes.axvline(3, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(title=f"a  Main network (n = {n_seeds}; dotted: paper)", xlabel="test error (%)",
             yticks=range(len(shown)), yticklabels=list(shown))
    error_axis(axes.xaxis, *around(*values, [3.0]))
    axes.invert_yaxis()


# %% jupyter={"source_hidden": true}
STYLES = {"pat": ("o", "pat"), "ideal_crystal": ("^", "in_silico_on_model"),
          "noisy_identity": ("s", "in_silico"), "identity": ("D", "digital")}


def panel_b(axes):
    for i, (answer, (marker, colour)) in enumerate(STYLES.items()):
        values = [errors([one["accuracy"] for one in study[answer, *cell]]) for cell in CELLS]
        style = dict(color=COLOURS[colour], marker=marker, markersize=4)
        for k, found in enumerate(values):
            place = k + 0.18 * (i - 1.5)
            axes.plot([place] * len(found), found, linestyle="", alpha=0.4, **style)
        axes.plot(np.arange(6) + 0.18 * (i - 1.5), [np.mean(found) for found in values],
                  linestyle="", label=ANSWERS[answer], **style)
    axes.axvline(2.5, color="#cccccc", linewidth=0.8)
    axes.set(title=f"b  What answers (14 x 14 pixels, n = {study_seeds})", ylabel="test error (%)",
             xticks=range(6), xticklabels=[bound for bound, _ in CELLS],
             xlabel="linear readout    |    parts, untrained\nway into the range")
    every = [errors([one["accuracy"] for one in runs]) for case, runs in study.items()
             if case[0] in STYLES]
    low, high = around(*every)
    error_axis(axes.yaxis, low, 1.6 * high)
    axes.legend(fontsize=6.5, ncol=2, loc="upper center", columnspacing=1, handletextpad=0.2)


# %% jupyter={"source_hidden": true}
def panel_c(axes):
    means = [errors([tested[width]["values"]]).mean() for width in widths]
    pat = errors(results["pat"]["accuracy"]["values"])
    axes.plot([macs[width] for width in widths], means, "o-", color=COLOURS["digital"],
              markersize=4, label="perceptrons, linear classifier")
    axes.plot(hybrid_macs, pat.mean(), "o", color=COLOURS["pat"], markersize=6,
              label="hybrid, PAT")
    digital = errors(baselines["identity"]["accuracy"]["values"])
    axes.plot(hybrid_macs, digital.mean(), "D",
              color=COLOURS["digital"], markersize=5, markerfacecolor="none",
              label="the same, no crystals")
    axes.set(title="c  Digital operations", xlabel="multiply-accumulates an image", xscale="log",
             ylabel="test error (%)")
    error_axis(axes.yaxis, *around(means, pat, digital))
    axes.legend(fontsize=7)


def panel_d(axes):
    for i, found in enumerate(less.values()):
        change = 100 * (np.array(full) - found)
        axes.plot(change, i + np.linspace(-0.15, 0.15, len(change)), "o", markersize=4,
                  color=COLOURS["pat"], alpha=0.7)
        axes.plot([change.mean()] * 2, [i - 0.3, i + 0.3], color=COLOURS["pat"])
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set(title=f"d  PAT with less (n = {len(fewer)})", yticks=range(len(less)),
             xlabel="held-out accuracy lost (points)", yticklabels=list(less),
             ylim=(len(less) - 0.5, -0.5))


# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(2, 2, figsize=(9.5, 6.6))
for panel, place in zip((panel_a, panel_b, panel_c, panel_d), axes.flat, strict=True):
    panel(place)
figures.save_figure(fig, NAME, "results")

# %%
spent = sum(ledger.values())
all_searches = {f"{part}_{'_'.join(map(str, case))}": choice._asdict()
                for part, choices in (("main", best), ("study", study_best), ("mlp", {
                    (width,): choice for width, choice in mlp_best.items()}))
                for case, choice in choices.items()}
write_metrics(
    NAME, profile, results, paper={"pat": 0.97}, baselines=baselines,
    seeds=range(n_seeds),
    cost=cost.read(spent) | {"laboratory_s": SHG.pass_time * spent},
    data={"name": "MNIST, 28 x 28", "sha256": fetch.FILES["mnist"]["train-images-idx3-ubyte"]},
    twin=twin_quality, noise=noise, paired=differences, n_copies=n_copies, buys=buys,
    train_accuracy={answer: summary(one["train"] for one in runs)
                    for answer, runs in final.items()},
    searches=all_searches,
    operations={"digital_macs_in_front": front, "hybrid_digital_macs": hybrid_macs,
                "smallest_mlp_width": equal, "smallest_mlp_macs": macs[equal],
                "smallest_mlp_is_as_good": bool(as_good),
                "mlp": [{"width": width, "macs": macs[width], "accuracy": tested[width]}
                        for width in widths]},
    device_passes_per_trial={answer: runs[0]["passes"] for answer, runs in final.items()})
if profile == "full":
    experiment.keep_search(FILES.pop("search"))
for kept in FILES.values():
    for path in kept.parent.glob(f"{kept.stem}.*"):
        path.unlink()  # results, weights and noise: the next run computes anew


# %%
def device_cells(answer):
    passes = final[answer][0]["passes"]
    return f"{passes:,} | {passes * SHG.pass_time / 3600:.1f} h"


# %%
DIGITAL = "0 | 0 h"
both = results | baselines
as_good_or_tried = f"smallest perceptron {'as good' if as_good else 'tried'}"
lines = ["| test accuracy, mean ± sd | paper | here | digital MACs an image | device passes "
         "a training | laboratory time |", "|---|---|---|---|---|---|"]
for name, label, paper, count, passes in (
        ("pat", "**PAT**, on the crystals", "97 %", hybrid_macs, device_cells("pat")),
        ("in_silico", "in silico, as deployed", "", hybrid_macs, device_cells("in_silico")),
        ("in_silico_restandardised", "in silico, re-standardised", "", hybrid_macs,
         device_cells("in_silico")),
        ("in_silico_on_model", "in silico, on its own twins", "", "", DIGITAL),
        ("identity", "digital: the same network, no crystals", "", hybrid_macs, DIGITAL),
        ("linear", "digital: linear classifier", "about 90 %", macs[0], DIGITAL),
        ("mlp_as_good", f"digital: {as_good_or_tried}, {equal} hidden units", "", macs[equal],
         DIGITAL)):
    lines.append(f"| {label} | {paper} | {percent(both[name]['accuracy'], 2)} "
                 f"| {f'{count:,}' if count else ''} | {passes} |")
display(Markdown("\n".join(lines)))
print(f"twins: {ledger['twins']:,} passes; all trainings and searches: {spent:,} passes, "
      f"{spent * SHG.pass_time / 3600:.1f} h of laboratory time, one crystal after the other")

# %% [markdown]
# ## What this shows, and what not
#
# Written from the numbers of this run. A difference (± its standard error) is called resolved
# where Student's 95 % interval over seeds excludes zero.

# %%
def verdict(one):
    return told(one, "ahead", "behind", "level within the error", digits=2)


def where(question, sign):
    """The cells of the study in which a gain is resolved and has this sign, with the gain."""
    cells = [f"{bound} and {readout} ({100 * one['difference']:+.2f})"
             for (bound, readout), one in gains[question].items()
             if one["resolved"] and one["difference"] * sign > 0]
    return f"in {len(cells)} of {len(CELLS)}" + (": " + ", ".join(cells) if cells else "")


# %%
texts = {name: f"{100 * one['accuracy']['mean']:.2f} %" for name, one in both.items()}
as_good_text = ("the smallest tried that is as good on held-out images" if as_good
                else "the largest tried, not as good on held-out images")
bent = {answer: texts[f"study_{answer}_linear_linear"] for answer in ANSWERS}
display(Markdown(f"""
**The number.** Trained by PAT the hybrid reads {texts['pat']} of the test digits (paper:
97 %), a linear classifier {texts['linear']}. The same network with the identity in the
crystals' place reads {texts['identity']}; with crystals it is
{verdict(differences['pat_over_identity'])}.

**When does light compute?** Against the identity with the crystals' own noise, over ways into the
range and readouts (table above), crystals are resolved ahead {where('light_adds', 1)}; behind
{where('light_adds', -1)}. Where the way in and the readout are linear, nothing but the crystals
can bend: there they read {bent['pat']}, ideal ones {bent['ideal_crystal']}, the identity
{bent['identity']}, random quadratic forms {bent['random_quadratic_form']}. What the crystals'
noise and errors cost is resolved {where('noise_costs', -1)}.

**Digital operations.** The hybrid makes {hybrid_macs:,} multiply-accumulates an image,
{front:,} of them in front of the crystals. A perceptron with {equal} hidden units and
{macs[equal]:,} reads {texts['mlp_as_good']}; it is {as_good_text}.

**PAT against in silico.** Compared with in silico training as deployed PAT is
{verdict(differences['pat_over_in_silico'])}; compared with the re-standardised one,
{verdict(differences['pat_over_in_silico_restandardised'])}. It spends
{final['pat'][0]['passes']:,} passes, in silico training {final['in_silico'][0]['passes']:,}.
"""))

# %% [markdown]
# *Said openly*: the test set was read before. An earlier notebook (no random changes, other twins)
# read 97.3 % with PAT, the clip and the linear readout, 97.8 % with the sigmoid and the untrained
# readout, and 95.6 % where the controls were divided by their largest. Random changes, twins and
# schedule were then changed on held-out images; no rate or variant was chosen on the test set. In
# a run of this notebook that was stopped, where PAT had read 98.4 %, in silico training had been
# re-standardised by constants measured anew, which lowers it (98 to 96 %); it was wronged by that,
# and has been trained and searched again with constants that are moved.
#
# **Differences from the paper.** A simulated device; four copies of one device instead of four
# settings of one set-up; 28 x 28 pixels, the widths of the layers, the way into the range,
# readout, optimiser and epochs are ours, because the paper's were not found.
