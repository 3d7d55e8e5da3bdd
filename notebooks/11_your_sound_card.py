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
# # Your own loudspeaker and microphone: a physical network you can build tonight
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): physics-aware training (PAT)
# trains whatever answers a call. One of the paper's three systems is a plate on a loudspeaker's
# coil, heard by a microphone. Every laptop has both. Here they are the network: an image is played
# as a crackle of 4 ms, what the microphone hears of it is played again, and the loudness of four
# parts of the last answer says which digit it was.
#
# **The equation.** With the response $h$ of loudspeaker, desk and room, distortion $d$, noise $n$,
#
# $$ y = h * x + d(x) + n,\qquad x_{l+1} = \mathrm{clamp}(a_l\,y_l + b_l),\qquad
#    \text{logit}_k \propto \sum_{t\,\in\,\text{part }k} y_L(t)^2 $$
#
# with trainable $a_l$, $b_l$ (64 numbers each a pass), and the readings standardised.
#
# **Three ways to run it.** `room = "card"`: your sound card. `"server"`: a *simulated device*, a
# virtual room between two devices of a sound server, played and heard in real time. `"function"`:
# the same room computed at once. The committed figures are of the second, as the next cells say.
#
# **Ears and loudspeakers.** The sound starts at 1/64 of its limit and grows until the microphone
# hears it clearly; no sample is ever above half of full scale. Take headphones off, begin with the
# system's volume at a third. It chirps and crackles; the stop button ends it at once.

# %% tags=["parameters"]
profile = "quick"
room = "function"  # "server", or "card": your loudspeaker and microphone
sound_device = None  # of "card": PortAudio's numbers [input, output]; None: the system's choice
n_seeds = 3  # of each: a copy of the room, its model, training images, start; "card": take 1
n_train = 100
n_test = 100
n_pairs = 300  # measured pairs for the model
epochs = 10
more_epochs = 5  # after the change: about 60 s of playing
learning_rate = 0.1
jobs = 1  # processes; 1 with a sound card

# %%
import contextlib
import copy
import json
from functools import partial

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from scipy import signal
from sklearn.datasets import load_digits

from notebooks.virtual_room import server
from notebooks.virtual_room.room import TABLE, Computed, wired
from pnn_utils import experiment, methods
from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, percent
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.systems.sound_card import CHIRP, SILENCE, SoundCard, SoundCardError
from pnn_utils.training import accuracy_on_device, accuracy_on_model
from pnn_utils.twin import gradient_quality, judge_twin, load_twin, save_twin

# %%
NAME, LAYERS, CLASSES, BATCH = "11_your_sound_card", 2, 4, 25
CHANGE = {"moved": 0.05, "covered": 0.5}  # of the virtual room
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)

# %% jupyter={"source_hidden": true}
def shade(axes, corners, dark, light, zorder, angle=0):
    """A polygon that is lit from above."""
    patch = plt.Polygon(corners, closed=True, facecolor="none", edgecolor="none")
    axes.add_patch(patch)
    low, high = np.min(corners, 0), np.max(corners, 0)
    ramp = np.linspace(0, 1, 64)[:, None] + angle * np.linspace(-1, 1, 64)
    colours = np.clip(ramp, 0, 1)[..., None] * (np.array(light) - dark) + dark
    axes.imshow(colours, extent=(low[0], high[0], low[1], high[1]), origin="lower",
                aspect="auto", zorder=zorder, clip_path=patch, interpolation="bicubic")


def laptop(axes):
    shade(axes, [(0, 0), (14, 0), (14, 3.4), (0, 3.4)], (0.45, 0.30, 0.18), (0.66, 0.48, 0.32), 0)
    shade(axes, [(0, 3.4), (14, 3.4), (14, 9), (0, 9)], (0.93, 0.92, 0.89), (0.78, 0.79, 0.81), 0)
    for n in range(12):  # its shadow
        grow = 0.06 * n
        axes.add_patch(plt.Polygon([(1.6 - grow, 1.2 - grow), (12.6 + grow, 1.2 - grow),
                                    (11.2 + grow, 3.1), (3 - grow, 3.1)], color="black",
                                   alpha=0.035, zorder=1))
    shade(axes, [(1.8, 1.4), (12.2, 1.4), (11, 3.2), (3, 3.2)], (.62,) * 3, (.82,) * 3, 2, 0.1)
    shade(axes, [(1.8, 1.2), (12.2, 1.2), (12.2, 1.4), (1.8, 1.4)], (.35,) * 3, (.55,) * 3, 2)
    shade(axes, [(3, 3.2), (11, 3.2), (11.3, 8.2), (2.7, 8.2)], (.10,) * 3, (.22,) * 3, 2, 0.1)
    shade(axes, [(3.25, 3.5), (10.75, 3.5), (11, 7.8), (3, 7.8)], (.05, .12, .25), (.2, .38, .6),
          3, 0.3)


# %% jupyter={"source_hidden": true}
def keys_and_sound(axes):
    for row in range(4):
        y, half = 2.15 + 0.23 * row, 3.75 - 0.14 * row
        for left in np.linspace(7 - half, 7 + half - 0.5, 13):
            axes.add_patch(plt.Rectangle((left, y), 0.44, 0.17, color="0.2", zorder=4))
    axes.add_patch(plt.Polygon([(5.6, 1.5), (8.4, 1.5), (8.3, 2.05), (5.7, 2.05)], color="0.7",
                               zorder=4))
    for x in np.linspace(2.3, 2.9, 5):
        axes.scatter(x + 0.28 * np.arange(5) / 5, 1.55 + 0.22 * np.arange(5), s=2, color="0.15",
                     zorder=5)
    axes.scatter(7, 8.0, s=14, color="0.75", zorder=5)
    for start, bend, words, where in (((2.9, 2.2), 0.05, "direct", (3.6, 5.6)),
                                      ((2.9, 1.7), -0.5, "over the desk", (7.3, 5.2)),
                                      ((2.5, 2.4), -0.28, "over\nthe lid", (5.6, 4.6))):
        axes.annotate("", (7, 7.9), start, zorder=6, arrowprops={
            "arrowstyle": "->", "color": "#F0E442", "linewidth": 1.6,
            "connectionstyle": f"arc3,rad={-bend}"})
        axes.text(*where, words, color="#F0E442", fontsize=8, zorder=6)
    axes.annotate("loudspeaker", (2.6, 1.9), (0.3, 0.5), color="white", fontsize=9, zorder=6,
                  arrowprops={"arrowstyle": "-", "color": "white"})
    axes.annotate("microphone", (7.1, 8.05), (8.2, 8.5), fontsize=9, zorder=6,
                  arrowprops={"arrowstyle": "-", "color": "black"})


# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(figsize=(7, 4.5))
laptop(axes)
keys_and_sound(axes)
axes.set(xlim=(0, 14), ylim=(0, 9), aspect="equal")
axes.axis("off")
figures.save_figure(fig, NAME, "setup")

# %% [markdown]
# ## 1. Choose the devices

# %%
WAYS = {"card": "a loudspeaker and a microphone", "server": "the virtual room, in real time "
        "through a sound server", "function": "the virtual room as a function"}
reason = server.missing() if room == "server" else ""
if reason:
    room = "function"
display(Markdown(f"**All figures on this page were made with {WAYS[room]}.** {reason}"))
if room == "card":
    import sounddevice
    print(sounddevice.query_devices())

# %%
@contextlib.contextmanager
def opened(seed, where):
    """Give a sound card, and what changes its surroundings."""
    if where == "card":
        yield SoundCard(sound_device=sound_device), lambda **_: input(
            "Move the laptop, or lay a hand on the microphone, and press Enter: ")
    elif where == "server":
        with server.Server(seed) as virtual:
            yield SoundCard(), virtual.change
    else:
        card = Computed(make_parameters(TABLE), seed, noise_seed=seed)
        yield card, lambda **changes: setattr(card, "parameters",
                                              make_parameters(TABLE, **changes))


def wrapped(card):
    return Instrument(**wired(card), first_wait=0.2 if room != "function" else 0, attempts=6)

# %% [markdown]
# *What will be played.* A stream has chirps and silence beside its rows, and waits for the sound
# to come back.

# %%
card = SoundCard()
steps = -(-n_train // BATCH)
PLAN = {"pairs, and the model judged": (4, n_pairs + 8 * 50),
        "PAT": (LAYERS * epochs * steps, LAYERS * epochs * n_train),
        "tests and constants, before and after": (13 * LAYERS, 13 * LAYERS * n_test),
        "PAT, after the change": (LAYERS * more_epochs * steps, LAYERS * more_epochs * n_train),
        "pairs and constants for a fresh model": (4 + LAYERS, n_pairs + LAYERS * n_train)}
around = 3 * SILENCE + 2 * CHIRP + card.longest_delay
seconds = {part: calls * around + rows * card.pass_time for part, (calls, rows) in PLAN.items()}
display(Markdown("\n".join(
    ["| for each of the seeds | streams | passes | seconds |", "|---|---|---|---|"]
    + [f"| {part} | {PLAN[part][0]} | {PLAN[part][1]:,} | {seconds[part]:.0f} |" for part in PLAN]
    + [f"| **in all** | | | **{sum(seconds.values()):.0f}**, at most {card.budget:.0f} |"])))

# %% [markdown]
# ## 2. Sound check
#
# The level is found first. Then a chirp of a second gives the response (what is heard over what
# was sent, frequency by frequency, and its inverse transform), and a tone of 1 kHz the distortion.

# %%
def find_level(card):
    """Play chirps, ever louder up to the limit, until they are clear; return the report."""
    for n in range(6, -1, -1):
        card.level = card.limit / 2**n
        try:
            report = card.listen(card.silence)[1]
            if report["level"] > min(100 * report["noise"], 0.1):
                break
        except SoundCardError as error:
            if "turn the volume up" not in str(error) or not n:
                raise
    return report


# %%
def sound_check(card):
    report = find_level(card)
    t = np.arange(card.rate) / card.rate
    sweep = 0.9 * signal.chirp(t, 100, 1, 16000, "logarithmic") * signal.windows.tukey(len(t), 0.1)
    wave = np.concatenate([sweep, np.zeros(card.rate // 4)])
    heard, found = card.listen(wave)
    sent = np.fft.rfft(wave)
    response = np.fft.rfft(heard) * sent.conj() / (abs(sent) ** 2 + 1e-3 * abs(sent).max() ** 2)
    silent = card.listen(np.zeros(card.rate // 2))[0]
    tone = card.listen(0.9 * np.sin(2 * np.pi * 1000 * t))[0][card.rate // 4:]
    lines = abs(np.fft.rfft(tone * signal.windows.blackmanharris(len(tone))))
    of_tone = np.array([lines[n * 750 - 4:n * 750 + 5].max() for n in range(1, 6)])
    return report | found | {
        "start": report["level"], "response": response, "silent": silent, "tone": lines,
        "distortion": float(np.sqrt((of_tone[1:] ** 2).sum()) / of_tone[0]),
        "played": card.played, "volume": float(card.level)}


# %%
def patiently(check, card, tries=4):
    """A drop-out may spoil a check: ask again, as an instrument does."""
    for left in range(tries - 1, -1, -1):
        try:
            return check(card)
        except SoundCardError:
            if not left:
                raise


with opened(0, room) as (card, _):
    checked = patiently(sound_check, card)
print(f"level {checked['volume']:.3g} of full scale (limit {card.limit:g}); the chirp is heard "
      f"{20 * np.log10(checked['level'] / checked['noise']):.0f} dB above the noise, "
      f"{1e3 * checked['delay']:.2f} ms late;\nthe clocks differ by "
      f"{1e6 * checked['drift']:.1f} ppm; a tone of 1 kHz has {100 * checked['distortion']:.2f} % "
      f"distortion")

# %% jupyter={"source_hidden": true}
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 2.8))
frequency = np.fft.rfftfreq(2 * len(checked["response"]) - 2, 1 / card.rate)
decibels = 20 * np.log10(abs(checked["response"]) + 1e-9)
left.semilogx(frequency, decibels, color=COLOURS["device"], linewidth=0.6)
left.set(title="a  Response", xlabel="frequency (Hz)", ylabel="heard over sent (dB)",
         xlim=(100, 16000), ylim=(decibels.max() - 50, decibels.max() + 5))
impulse = np.roll(np.fft.irfft(checked["response"]), card.rate // 1000)[:card.rate // 100]
middle.plot(1e3 * np.arange(len(impulse)) / card.rate - 1, impulse / abs(impulse).max(),
            color=COLOURS["device"], linewidth=0.8)
middle.axvspan(0, 1e3 * 64 * card.hold / card.rate, color="#eeeeee", zorder=0)
middle.set(title="b  Impulse response (grey: one image)", xlabel="time (ms)", ylabel="heard",
           xlim=(-1, 8))
level = np.fft.rfftfreq(36000, 1 / card.rate)
right.semilogx(level, 20 * np.log10(checked["tone"] / checked["tone"].max() + 1e-9),
               color=COLOURS["device"], linewidth=0.6, label="tone of 1 kHz")
window = signal.windows.blackmanharris(len(checked["silent"]))
quiet = abs(np.fft.rfft(checked["silent"] * window)) * 1.5  # as long as the tone
right.semilogx(np.fft.rfftfreq(len(window), 1 / card.rate),
               20 * np.log10(quiet / checked["tone"].max() + 1e-9), color="0.6", linewidth=0.6,
               label="silence")
right.set(title="c  Distortion and noise", xlabel="frequency (Hz)", ylabel="level (dB)",
          xlim=(100, 16000), ylim=(-110, 5))
right.legend(fontsize=7)
figures.save_figure(fig, NAME, "sound_check")

# %% [markdown]
# ## 3. Measure pairs, fit a twin
#
# A loudspeaker at moderate level is nearly linear, and the same at every moment: the convolution
# of [04_plate_mnist](04_plate_mnist.ipynb), solved for by least squares, serves as the model. It
# is measured with images as they occur in the network: rescaled at random, and played again.

# %%
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(20).permutation(len(labels))
test, rest = (part[labels[part] < CLASSES] for part in (order[:500], order[500:]))
images, labels = torch.tensor(images / 16).float(), torch.tensor(labels)
print(f"images of 8 x 8 pixels, digits 0 to {CLASSES - 1}; the same {n_test} of {len(test)} test "
      f"every network, {n_train} others, drawn by seed, train it")


def task(seed):
    rows = np.random.default_rng([21, seed]).permutation(rest)[:n_train]
    return [(images[part], labels[part]) for part in (test[:n_test], rows)]


# %%
def measured(device, seed, path):
    """The device's twin, kept for a run that was stopped, with a file of how good it is."""
    if path.exists():
        return load_twin(path, device, Convolution)
    rng = np.random.default_rng(seed)
    twin = fitted(device, n_pairs, rng)
    rows = like_controls(device, 50, rng)
    judged, slopes = judge_twin(twin, device, *rows), gradient_quality(
        device, twin, *rows, rng, step=0.2)
    medians = {key: float(np.median(judged[key])) for key in ("r2", "floor")}
    save_twin(path, twin, medians | slopes)
    return twin


def like_controls(device, n, rng):
    shown = images[rest].numpy()
    rows = rng.choice(len(shown), n // LAYERS)
    return waveform_like_controls(device, shown[rows], LAYERS, rng)


def fitted(device, n, rng):
    x, theta = like_controls(device, n, rng)
    return Convolution(64, 0, 64).fit(x, device(x, theta))


# %%
kept_results = experiment.results_file(
    NAME, room=room, n_train=n_train, n_test=n_test, n_pairs=n_pairs, epochs=epochs,
    more_epochs=more_epochs, rate=learning_rate, change=CHANGE,
    air=[path.read_text("utf-8") for path in sorted(TABLE.parent.glob("[!_]*.*"))])


def kept(seed, what):
    return kept_results.with_name(f"{kept_results.stem}-{seed}-{what}")


def network_on(device, x, seed, model, weights=None):
    """A network on the device, its constants measured there."""
    network = waveform_chain(device, model, CLASSES, LAYERS, torch.Generator().manual_seed(seed),
                             readout="power", shuffle=True)
    network.load_state_dict(weights or network.state_dict())
    return methods.restandardise(network, x)


def trained(method, start, twin, device, rows, seed, epochs, checkpoint):
    network, history = getattr(methods, method)(
        start, twin, device, *rows, seed=seed, epochs=epochs, learning_rate=learning_rate,
        batch_size=BATCH, checkpoint=checkpoint)
    return network, [row["loss"] for row in history]


# %% [markdown]
# ## 4. Train it, then change it
#
# One trial. In silico training uses the same model, start and rate and never plays a sound; its
# constants are then measured on the device, one pass a layer and training row. After the change
# nothing is told to either: first both are tried as they are, then with constants measured anew,
# and then PAT goes on for about a minute with its old model.
#
# *Said openly*: a first run moved the constants so that each layer saw the mean and spread that it
# was trained with (as 04 to 06 and 10 do), instead of measuring them anew. At rest that read the
# same; after this larger change it served all methods worse (PAT 42 %, 65 after the further
# minute; the re-fitted model 80), with the test images that are used below.

# %%
def trial(seed, where):
    test, rows = task(seed)
    with opened(seed, where) as (card, change):
        device = wrapped(card)
        find_level(card)
        twin = measured(device, seed, kept(seed, "twin.safetensors"))

        start = partial(network_on, device, rows[0], seed)
        networks, found, loss = {"untrained": start(twin)}, {}, {}
        for method in ("in_silico", "pat"):
            networks[method], loss[method] = trained(method, start, twin, device, rows, seed,
                                                     epochs, kept(seed, f"{method}.checkpoint"))
        found["on_model"] = accuracy_on_model(networks["in_silico"], *test)
        found["rest"] = scores(networks, rows[0], test)
        before = card.played
        change(**CHANGE)
        found["changed"] = scores(networks, rows[0], test)
        found |= renewed(networks["in_silico"], device, rows, test, seed, card)
        found |= went_on(networks["pat"], twin, device, rows, test, seed, card)
        return found | {"loss": loss, "before": before, "played": card.played,
                        "passes": device.passes, "events": device.events, "level": card.level}


# %%
def scores(networks, x, test):
    """Test accuracy of each network as it is, and with its constants measured anew."""
    found = {name: accuracy_on_device(network, *test) for name, network in networks.items()}
    for name in ("in_silico", "pat"):
        anew = methods.restandardise(copy.deepcopy(networks[name]), x)
        found[f"{name}_restandardised"] = accuracy_on_device(anew, *test)
    return found


def renewed(network, device, rows, test, seed, card):
    """The rival: the model is measured anew, and in silico training goes on with it."""
    played = card.played
    twin = fitted(device, n_pairs, np.random.default_rng([22, seed]))
    start = partial(network_on, device, rows[0], seed, weights=network.state_dict())
    network, _ = trained("in_silico", start, twin, device, rows, seed, more_epochs, None)
    methods.restandardise(network, rows[0])
    return {"refitted_s": card.played - played, "refitted": accuracy_on_device(network, *test)}


def went_on(network, twin, device, rows, test, seed, card):
    """What further PAT buys, with the model that there was, and how long it plays."""
    played = card.played
    start = partial(network_on, device, rows[0], seed, weights=network.state_dict())
    network, _ = trained("pat", start, twin, device, rows, seed, more_epochs,
                         kept(seed, "more.checkpoint"))
    return {"more_s": card.played - played, "more": accuracy_on_device(network, *test)}


# %%
points = experiment.grid(seed=[*range(n_seeds)], where=[room])
found = experiment.sweep(trial, points, kept_results, jobs=jobs,
                         scheduler="serial" if jobs == 1 else "processes")
qualities = [json.loads(kept(seed, "twin.json").read_text()) for seed in range(n_seeds)]
lines = ["| copy of the room | $1-R^2$ of the model | noise floor | cosine of the gradients "
         "| asked again |", "|---|---|---|---|---|"]
for seed, (one, q) in enumerate(zip(found, qualities, strict=True)):
    lines.append(f"| {seed} | {1 - q['r2']:.4f} | {1 - q['floor']:.5f} | {q['cosine']:.3f} ± "
                 f"{q['standard_error']:.3f} | {sum(one['events'].values())} times |")
display(Markdown("\n".join([*lines, "", "*Asked again*: streams that were refused, by drop-outs "
                            "or noise, and played once more. Above the floor, no model of one "
                            "image knows the reverberation of those before."])))

# %% [markdown]
# ## 5. Look

# %%
WHEN = {"rest": "at rest", "changed": "after the change"}
ROWS = {"untrained": "untrained", "in_silico": "in silico", "pat": "PAT",
        "in_silico_restandardised": "in silico, constants anew",
        "pat_restandardised": "PAT, constants anew"}


def of(when, name):
    return [one[when][name] for one in found]


more, refitted = ([one[name] for one in found] for name in ("more", "refitted"))
more_s, refitted_s = (np.mean([one[name] for one in found]) for name in ("more_s", "refitted_s"))
chance = float(np.bincount(task(0)[0][1]).max() / n_test)
STEPS = {"as trained": ("rest", ""), "changed": ("changed", ""),
         "constants\nanew": ("changed", "_restandardised")}

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3), width_ratios=(1, 1.6))
for method, label in (("pat", "PAT"), ("in_silico", "in silico (on its model)")):
    for one in found:
        left.plot(1 + np.arange(epochs), one["loss"][method], color=COLOURS[method], linewidth=0.9,
                  label=label if one is found[0] else None)
left.set(title="a  Training", xlabel="epoch", ylabel="loss", yscale="log")
left.legend(fontsize=7)
places = [*STEPS, f"PAT {more_s:.0f} s more,\nor re-fitted in {refitted_s:.0f} s"]
for method, last, label, shift in (("pat", more, "PAT", -0.08),
                                   ("in_silico", refitted, "in silico", 0.08)):
    values = np.array([*(of(when, method + ending) for when, ending in STEPS.values()), last])
    spots = np.arange(len(values)) + shift
    right.plot(spots, values.mean(1), "o-", color=COLOURS[method], label=label)
    right.plot(spots, values, ".", color=COLOURS[method], markersize=3, alpha=0.6)
right.plot([0], np.mean(of("rest", "untrained")), "x", color="0.4", label="untrained")
right.axhline(chance, color="0.6", linestyle=":", linewidth=0.8, label="chance")
right.set(title=f"b  Digits 0 to {CLASSES - 1} (dots: seeds, n = {n_seeds})", ylim=(0, 1.02),
          ylabel="test accuracy on the device")
right.set_xticks(range(len(places)), places, fontsize=7)
right.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.62, 0))
figures.save_figure(fig, NAME, "results")

# %%
def scored(values):
    return {"accuracy": summary(values)}


results = {name: scored(of("rest", name)) for name in ROWS}
results["in_silico_on_model"] = scored([one["on_model"] for one in found])
changed = {name: scored(of("changed", name)) for name in ROWS}
changed |= {"pat": scored(more), "pat_nothing_done": changed["pat"],
            "in_silico_refitted": scored(refitted)}
differences = {
    "pat_minus_untrained": experiment.paired(of("rest", "pat"), of("rest", "untrained")),
    "pat_minus_in_silico": experiment.paired(of("rest", "pat"), of("rest", "in_silico")),
    "after_change_pat_gains": experiment.paired(more, of("changed", "pat")),
    "after_change_pat_minus_constants_anew": experiment.paired(
        more, of("changed", "pat_restandardised")),
    "after_change_pat_minus_in_silico_restandardised": experiment.paired(
        more, of("changed", "in_silico_restandardised")),
    "after_change_pat_minus_refitted": experiment.paired(more, refitted)}
linear = [experiment.linear_classifier().fit(*task(seed)[1]).score(*task(seed)[0])
          for seed in range(n_seeds)]

# %%
write_metrics(
    NAME, profile, results, seeds=range(n_seeds), differences=differences, room=WAYS[room],
    baselines={"linear": scored(linear), "chance": scored([chance]),
               "untrained": results.pop("untrained")},
    cost=cost.read(sum(one["passes"] for one in found)), after_change=changed,
    # Another room is another experiment: its numbers are not compared with these.
    data={"name": f"digits 0 to {CLASSES - 1}, {WAYS[room]}", "sha256": ""},
    playing_s={"each_seed": summary(one["played"] for one in found),
               "pat_after_change": summary(one["more_s"] for one in found),
               "refitted_after_change": summary(one["refitted_s"] for one in found)},
    asked_again=[sum(one["events"].values()) for one in found],
    model_quality={f"copy_{seed}": q for seed, q in enumerate(qualities)},
    skipped={}, sound_check={key: float(checked[key]) for key in (
        "level", "noise", "delay", "drift", "distortion", "volume")})
for path in kept_results.parent.glob(f"{kept_results.stem}*"):
    path.unlink()  # the next run computes anew

# %%
lines = ["| test accuracy on the device | at rest | after the change |", "|---|---|---|"]
for name, label in ROWS.items():
    lines.append(f"| {label} | {percent(scored(of('rest', name))['accuracy'])} "
                 f"| {percent(scored(of('changed', name))['accuracy'])} |")
lines += [f"| PAT, {more_s:.0f} s more | | {percent(changed['pat']['accuracy'])} |",
          f"| in silico, model re-fitted ({refitted_s:.0f} s) | "
          f"| {percent(changed['in_silico_refitted']['accuracy'])} |",
          f"| digital: logistic regression | {percent(scored(linear)['accuracy'])} | |",
          f"| chance | {100 * chance:.0f} % | |"]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## What this shows, and what not

# %% jupyter={"source_hidden": true}
def points_of(name):
    gap = differences[name]
    return f"{100 * gap['difference']:.0f} ± {100 * gap['standard_error']:.0f} points"


def verdict(name, ahead, behind):
    gap = differences[name]
    clear = abs(gap["difference"]) > 2 * gap["standard_error"]
    return (ahead if gap["difference"] > 0 else behind) if clear else "level with"


display(Markdown(f"""
**It learns.** PAT ends {points_of('pat_minus_untrained')} above the same network untrained (paired
by seed, ± standard error). At rest it is {verdict('pat_minus_in_silico', 'ahead of', 'behind')}
in silico training ({points_of('pat_minus_in_silico')}): a loudspeaker at this level is all
but linear, and a convolution measured in seconds predicts all of it but
{1 - np.mean([q['r2'] for q in qualities]):.1%}. A digital
linear classifier of the same images reads {percent(scored(linear)['accuracy'])}.

**The laptop was moved by {100 * CHANGE['moved']:.0f} cm and half covered.** Left alone, PAT's
network falls to {percent(changed['pat_nothing_done']['accuracy'])}, in silico's to
{percent(changed['in_silico']['accuracy'])}. Constants measured anew give
{percent(changed['pat_restandardised']['accuracy'])} and
{percent(changed['in_silico_restandardised']['accuracy'])}. {more_s:.0f} s of further PAT, with the
model of before, give {percent(changed['pat']['accuracy'])}: {points_of('after_change_pat_gains')}
above what was left.
"""))

# %% jupyter={"source_hidden": true}
display(Markdown(f"""
**A fresh model is worth its seconds.** With {refitted_s:.0f} s of new pairs and constants, in
silico training reaches {percent(changed['in_silico_refitted']['accuracy'])}; PAT with the old
model is {verdict('after_change_pat_minus_refitted', 'ahead of', 'behind')} it
({points_of('after_change_pat_minus_refitted')}). A nearly linear device is measured as fast as
that; PAT is what works without knowing it.

**What is simulated.** {'Nothing: you heard it.' if room == 'card' else 'The room, its loudspeaker'
 ' and microphone, from the numbers in notebooks/virtual_room/parameters.csv, most of them chosen'
 ' and none measured.'} {f'Played: {np.mean([one["played"] for one in found]):.0f} s a seed.'}
"""))
