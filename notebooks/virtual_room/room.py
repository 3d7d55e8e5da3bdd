"""A virtual room: what lies between a laptop's two converters, computed instead of heard.

    v = loudspeaker * sent,   p = path * (v + q v^2 + c v^3),   heard(t) = p(t (1 + drift)) + noise

* is a convolution. The path holds the direct sound, two early reflections and reverberation: noise
that decays exponentially, the same in every reading of one copy. Drop-outs are holes of silence.

`Air` is that, block by block. `Room` is a device that hands it whole streams; the module, run as a
program, stands between two devices of a sound server (see `server.py`) and hears in real time:

    python room.py '{"seed": 0, "changes": {"moved": 0.1}}' < sent > heard          (float32)
"""

import fcntl
import json
import sys
import termios
from pathlib import Path

import numpy as np
from scipy import ndimage, signal

from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.sound_card import SoundCard

TABLE = Path(__file__).with_name("parameters.csv")
SOUND = 343.0  # m/s, speed at 20 degrees Celsius
BLOCK, LATE = 1024, 4800  # samples: read at once, and the most that may wait
MARGIN = 32  # samples kept from block to block, for interpolation between samples


def loudspeaker(p):
    """Return the loudspeaker's impulse response: a second-order band-pass, largest gain 1."""
    low = signal.butter(2, p.lowest, "highpass", fs=p.rate, output="sos")
    high = signal.butter(2, p.highest, "lowpass", fs=p.rate, output="sos")
    click = np.zeros(round(0.02 * p.rate))
    click[0] = 1
    return signal.sosfilt(np.concatenate([low, high]), click)


def path(p, seed):
    """Return the impulse response from the loudspeaker's sound to the microphone's voltage."""
    spread = p.path_spread * np.random.default_rng([seed, 0]).standard_normal((2, 2))
    ways = np.array([0, p.desk_path, p.lid_path])
    ways[1:] = ways[1:] * np.exp(spread[0]) + p.moved
    amplitudes = np.array([1, p.desk, p.lid]) / (1 + ways / p.distance)
    amplitudes[1:] *= np.exp(spread[1])
    late = MARGIN + (p.distance + ways) / SOUND * p.rate
    near = int(late.max()) + MARGIN
    length = max(near, round(p.tail_time * p.rate) if p.tail else 0)
    t, early = np.arange(length), np.zeros(length)
    early[:near] = (amplitudes * np.sinc(t[:near, None] - late)).sum(1)
    # Moved by a tenth of a metre, the reverberation has become that of another place.
    here, there = np.random.default_rng([seed, 1]).standard_normal((2, length))
    angle = np.pi / 2 * min(p.moved / 0.1, 1)
    decay = np.where(t > late[0], np.exp(-np.log(1e3) * t / (p.tail_time * p.rate)), 0)
    tail = (np.cos(angle) * here + np.sin(angle) * there) * decay
    heard = p.sensitivity * (early + p.tail * tail / np.sqrt((decay**2).sum()))
    if p.covered:
        hand = signal.butter(1, p.highest ** (1 - p.covered) * 1500 ** p.covered, fs=p.rate)
        heard = signal.lfilter(*hand, heard) * 3.0 ** -p.covered
    return heard


class Filter:
    """Convolution, block by block."""

    def __init__(self, response):
        self.response, self.rest = response, np.zeros(len(response) - 1)

    def __call__(self, block):
        y = signal.fftconvolve(block, self.response)
        y[:len(self.rest)] += self.rest
        self.rest = y[len(block):]
        return y[:len(block)]


class Air:
    """What the microphone's converter makes of what the loudspeaker's one was sent."""

    def __init__(self, p, seed, rng):
        self.p, self.rng = p, rng
        self.loudspeaker, self.path = Filter(loudspeaker(p)), Filter(path(p, seed))
        self.kept, self.at = np.zeros(2 * MARGIN), float(MARGIN)

    def __call__(self, sent):
        """Return what is heard of a block, shape (n,); as many samples, give or take the drift."""
        p, rng = self.p, self.rng
        v = self.loudspeaker(sent)
        sound = np.concatenate([self.kept, self.path(v + p.quadratic * v**2 + p.cubic * v**3)])
        times = np.arange(self.at, len(sound) - MARGIN, 1 + p.clock_drift)
        heard = ndimage.map_coordinates(sound, [times], order=5, mode="nearest")
        # The next block begins where this one's times end, MARGIN samples into what is kept.
        self.at = times[-1] + 1 + p.clock_drift - (len(sound) - 2 * MARGIN)
        self.kept = sound[-2 * MARGIN:]
        heard += p.noise * rng.standard_normal(len(heard))
        for _ in range(rng.poisson(p.dropouts * len(heard) / p.rate) if p.dropouts else 0):
            hole = rng.integers(len(heard))
            heard[hole:hole + round(p.dropout_length * p.rate)] = 0
        return heard.clip(-1, 1)


class Computed(SoundCard):
    """A sound card whose streams go through `Air`: the room as a function."""

    def __init__(self, parameters, seed, **settings):
        super().__init__(rate=round(parameters.rate), **settings)
        self.parameters, self.seed = parameters, seed

    def play(self, sent):
        p = self.parameters
        air = Air(p, self.seed, self._noise)
        late = (p.card_delay + p.start_spread * self._noise.uniform()) * p.rate
        air.at -= late % 1
        ahead, behind = np.zeros(int(late)), np.zeros(2 * MARGIN + len(sent) // 1000)
        return air(np.concatenate([ahead, sent, behind]))[:len(sent)]


def wired(card):
    """Return the arguments by which `Instrument` wraps a sound card."""
    return {"measure": card, "input_dim": card.input_dim, "param_dim": 0,
            "output_dim": card.output_dim, "input_range": card.input_range,
            "control_unit": card.control_unit, "output_unit": card.output_unit,
            "pass_time": card.pass_time}


class Room(Instrument):
    """The computed room as a device: what `Instrument` makes of its sound card.

    seed, noise_seed : fix this copy's desk and reverberation, and all noise
    ideal : neither reverberation nor distortion, noise, drift or drop-outs
    card : settings of the `SoundCard`
    **changes : values of ``parameters.csv`` to change, by name
    """

    def __init__(self, seed=0, noise_seed=0, ideal=False, card=None, **changes):
        self.parameters = make_parameters(TABLE, ideal, **changes)
        self.card = Computed(self.parameters, seed, noise_seed=noise_seed,
                             **{"level": 0.1, "longest_delay": 0.05} | (card or {}))
        super().__init__(**wired(self.card), first_wait=0.0)


def main(about):
    """Hear what comes on standard input, in blocks of 21 ms, and say it on standard output."""
    p = make_parameters(TABLE, **about["changes"])
    air, hear, say = Air(p, about["seed"], np.random.default_rng()), sys.stdin.buffer, sys.stdout
    print("ready", file=sys.stderr, flush=True)
    while block := hear.read(4 * BLOCK):
        say.buffer.write(air(np.frombuffer(block, "<f4").astype(float)).astype("<f4"))
        say.flush()
        waiting = int.from_bytes(fcntl.ioctl(hear, termios.FIONREAD, bytes(4)), sys.byteorder)
        if waiting > 4 * LATE:  # this computer was busy elsewhere: what was missed is lost
            hear.read(waiting // 4 * 4)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
