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
# as a click of 4 ms, what the microphone hears of it is played again, and the loudness of four
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
more_epochs = 4  # after the change: 60 s of playing
learning_rate = 0.1
jobs = 1  # processes; 1 with a sound card

# %%
import contextlib
import copy

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from scipy import signal
from sklearn.datasets import load_digits

from notebooks.virtual_room import server
from notebooks.virtual_room.room import TABLE, Computed, wired
from pnn_utils import experiment, files, methods
from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.report import figures
from pnn_utils.report.figures import COLOURS, percent
from pnn_utils.report.metrics import Cost, summary, write_metrics
from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.systems.sound_card import CHIRP, SILENCE, SoundCard
from pnn_utils.training import accuracy_on_device, accuracy_on_model
from pnn_utils.twin import fit_twin, gradient_quality, judge_twin, load_twin, save_twin

# %%
NAME, LAYERS, CLASSES, BATCH = "11_your_sound_card", 2, 4, 25
CHANGE = {"moved": 0.05, "covered": 0.5}  # of the virtual room
cost = Cost()
figures.use_house_style()
torch.set_num_threads(1)

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
        card = Computed(make_parameters(TABLE), seed, noise_seed=seed, longest_delay=0.05)
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
        "PAT, after the change": (LAYERS * more_epochs * steps, LAYERS * more_epochs * n_train)}
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
def sound_check(card):
    report = card.find_level()
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


with opened(0, room) as (card, _):
    checked = sound_check(card)
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
impulse = np.fft.irfft(checked["response"])[:round(0.02 * card.rate)]
middle.plot(1e3 * np.arange(len(impulse)) / card.rate, impulse / abs(impulse).max(),
            color=COLOURS["device"], linewidth=0.8)
middle.axvspan(0, 1e3 * 64 * card.hold / card.rate, color="#eeeeee", zorder=0)
middle.set(title="b  Impulse response (grey: one image)", xlabel="time (ms)", ylabel="heard",
           xlim=(0, 20))
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
few = labels < CLASSES
images = torch.tensor(images[few] / 16).float()
labels = torch.tensor(labels[few])
order = np.random.default_rng(20).permutation(len(images))
print(f"{len(images)} images of 8 x 8 pixels, digits 0 to {CLASSES - 1}; the same {n_test} test "
      f"every network, {n_train} others, drawn by seed, train it")


def task(seed):
    rows = np.random.default_rng([21, seed]).permutation(order[n_test:])[:n_train]
    return [(images[part], labels[part]) for part in (order[:n_test], rows)]


# %%
def measured(device, seed, path):
    """The device's twin, kept for a run that was stopped, and in a file beside it how good it is."""
    if path.exists():
        return load_twin(path, device, Convolution)
    rng = np.random.default_rng(seed)
    shown = images[order[n_test:]].numpy()
    x, theta = waveform_like_controls(device, shown[rng.choice(len(shown), n_pairs // LAYERS)],
                                      LAYERS, rng)
    twin, _ = fit_twin(device, x, theta, device(x, theta), twin=Convolution(64, 0, 64), epochs=5,
                       batch_size=32, learning_rate=1e-3,
                       generator=torch.Generator().manual_seed(seed))
    x, theta = x[-50:], theta[-50:]
    judged = judge_twin(twin, device, *waveform_like_controls(device, shown[:25], LAYERS, rng))
    medians = {key: float(np.median(judged[key])) for key in ("r2", "floor")}
    save_twin(path, twin, medians | gradient_quality(device, twin, x, theta, rng, step=0.2))
    return twin


# %%
kept_results = experiment.results_file(
    NAME, room=room, n_train=n_train, n_test=n_test, n_pairs=n_pairs, epochs=epochs,
    more_epochs=more_epochs, rate=learning_rate, change=CHANGE,
    air=[path.read_text("utf-8") for path in sorted(TABLE.parent.glob("[!_]*.*"))])


def kept(seed, what):
    return kept_results.with_name(f"{kept_results.stem}-{seed}-{what}")


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

# %%
def trial(seed, where):
    test, rows = task(seed)
    with opened(seed, where) as (card, change):
        device = wrapped(card)
        card.find_level()
        twin = measured(device, seed, kept(seed, "twin.safetensors"))

        def start(model):
            network = waveform_chain(device, model, CLASSES, LAYERS, readout="power",
                                     shuffle=True, generator=torch.Generator().manual_seed(seed))
            network.set_mode("device").calibrate(rows[0])
            return network

        networks, found, loss = {"untrained": start(twin)}, {}, {}
        for method in ("in_silico", "pat"):
            networks[method], loss[method] = trained(method, start, twin, device, rows, seed,
                                                     epochs, kept(seed, f"{method}.checkpoint"))
        found["on_model"] = accuracy_on_model(networks["in_silico"], *test)
        found["rest"] = scores(networks, rows[0], test)
        before = card.played
        change(**CHANGE)
        found["changed"] = scores(networks, rows[0], test)
        return found | went_on(networks["pat"], twin, device, rows, test, seed, card) | {
            "loss": loss, "before": before, "played": card.played, "passes": device.passes,
            "events": device.events, "level": card.level}


# %%
def scores(networks, x, test):
    """Test accuracy of each network as it is, and with its constants measured anew."""
    found = {name: accuracy_on_device(network, *test) for name, network in networks.items()}
    for name in ("in_silico", "pat"):
        anew = methods.restandardise(copy.deepcopy(networks[name]), x)
        found[f"{name}_restandardised"] = accuracy_on_device(anew, *test)
    return found


def went_on(network, twin, device, rows, test, seed, card):
    """What further PAT buys, and how long it plays."""
    methods.restandardise(network, rows[0])
    start, path = card.played, kept(seed, "more.checkpoint")
    network, loss = trained("pat", lambda model: network, twin, device, rows, seed, more_epochs,
                            path)
    seconds = card.played - start
    return {"more": accuracy_on_device(network, *test), "more_loss": loss, "more_s": seconds}


# %%
points = experiment.grid(seed=[*range(n_seeds)], where=[room])
found = experiment.sweep(trial, points, kept_results, jobs=jobs,
                         scheduler="serial" if jobs == 1 else "processes")
quality = [json.loads(kept(seed, "twin.json").read_text()) for seed in range(n_seeds)]
print("model: ")
