"""A computer's loudspeaker and microphone as a device (``pip install .[sound]``).

    x -> converter -> loudspeaker  )))  the air of the room  )))  [=] microphone -> converter -> y

One stream takes a batch. A chirp at either end tells how late it is heard; twice, for the two
converters may have two clocks:

    silence | chirp | silence | row | rest | row | rest | ... | silence | chirp | silence
     noise    delay                                                       delay

    y[i] = mean of heard(t + delay(t)) while x[i] is played; each x[i] is held for `hold` samples

What is sent never exceeds `limit`. A stream that cannot be trusted, too quiet, too loud, too
noisy or with a gap, is refused with a sentence that says what to do; `Instrument` asks again.
"""

import time

import numpy as np
from scipy import ndimage, signal

from pnn_utils.systems.base import PhysicalSystem, check_numbers, check_whole

SILENCE, CHIRP, LATENCY = 0.06, 0.05, 0.3  # s; the last: of PortAudio's buffers
CLEAR = 10  # times the noise's rms that the chirp's has to be: 20 dB
CLIPPED, NOISY = 0.98, 0.003  # full scales: of a clipped reading, and the rms of a loud room
DRIFT = 5e-4  # by which two clocks may differ
HOLE, SLIP = 16, 1000  # samples: so many zeros are no sound; by so many a stream may slip


class SoundCardError(RuntimeError):
    """Nothing that can be trusted was heard; the sentence says what to do."""


def delay(heard, chirp):
    """Return how late a chirp is heard, in samples and fractions of one; 0: it comes first.

    It is where their correlation, interpolated between samples, is largest.
    """
    found = signal.correlate(np.pad(heard, 32), chirp, "valid", "fft")
    top = int(np.argmax(abs(found[32:-32])))
    fine = abs(signal.resample(found[top:top + 64], 64 * 16))
    k = int(np.argmax(fine[16:-16])) + 16
    left, here, right = fine[k - 1:k + 2]
    return top - 32 + (k + (right - left) / 2 / (2 * here - left - right or 1)) / 16


class SoundCard(PhysicalSystem):
    """A waveform out of the loudspeaker, as many samples from the microphone.

    Ctrl-C, or a notebook's stop button, ends the sound at once.

    samples : controls of a waveform, from -1 to 1
    level, limit : what 1 is at the converter, and the most that is ever sent, full scales
    hold : samples of the converter for each control
    rest : seconds of silence after a waveform, in which the room dies away
    rate : Hz
    sound_device : PortAudio's (input, output), see ``sounddevice.query_devices()``; None: its own
    longest_delay : seconds after which a chirp is no longer waited for
    budget : seconds that may be played in all

    Raises
    ------
    TypeError, ValueError
        If a setting is wrong.
    SoundCardError, TimeoutError
        By the call, if what was heard cannot be trusted, or nothing comes back.
    """

    param_dim = 0
    input_range = (-1.0, 1.0)
    control_unit = "level of the loudspeaker"
    output_unit = "full scales of the microphone"

    def __init__(self, samples=64, *, level=0.05, limit=0.5, hold=3, rest=0.011, rate=48000,
                 sound_device=None, longest_delay=0.7, budget=900.0, noise_seed=0):
        super().__init__(noise_seed)
        check_whole(1, samples=samples, hold=hold, rate=rate)
        check_numbers(0, 1, False, "full scales", level=level, limit=limit)
        check_numbers(0, 1e5, False, "s", rest=rest, longest_delay=longest_delay, budget=budget)
        self.input_dim = self.output_dim = samples
        self.level, self.limit, self.hold, self.rate = level, limit, hold, rate
        self.sound_device, self.longest_delay, self.budget = sound_device, longest_delay, budget
        self.period, self.played = samples * hold + round(rest * rate), 0.0
        self.pass_time = self.period / rate
        t = np.arange(round(CHIRP * rate)) / rate
        up = signal.chirp(t, 400, CHIRP, rate / 5) * signal.windows.tukey(len(t), 0.2)
        # Played too slowly, a chirp up seems late, one down early; the sum of both does neither.
        self.chirp = (up + up[::-1]) / 2
        self.silence = np.zeros(round(SILENCE * rate))

    def respond(self, x, theta):
        rows, sounding = np.zeros((len(x), self.period)), self.input_dim * self.hold
        rows[:, :sounding] = np.repeat(x, self.hold, 1)
        heard = self.listen(rows.ravel())[0] if len(x) else rows
        return heard.reshape(rows.shape)[:, :sounding].reshape(*x.shape, self.hold).mean(2)

    def listen(self, wave):
        """Play a wave, shape (n,), in units of `level`; return what is heard of it, and a report.

        The report: delay (s), drift (of the clocks), level, noise (rms of chirp and of silence).
        """
        quiet, chirp, wait = self.silence, self.chirp, round(self.longest_delay * self.rate)
        first, length, last = len(quiet), len(chirp), 3 * len(quiet) + len(chirp) + len(wave)
        # The second chirp is the weaker one: it is not taken for the first where both are near.
        wave = [quiet, chirp, quiet, wave, quiet, 0.7 * chirp, np.zeros(wait + SLIP)]
        sent = np.clip(self.level * np.concatenate(wave), -self.limit, self.limit).astype("f4")
        self.played += len(sent) / self.rate
        if self.played > self.budget:
            raise SoundCardError(f"it would play more than {self.budget:g} s: allow for more")
        heard = np.asarray(self.play(sent), float)
        late = delay(heard[first:first + length + wait], chirp)
        lag = max(round(late), 0)
        at, end = first + lag, last + lag
        slip = delay(heard[end - SLIP:end + length + SLIP], chirp) - SLIP + lag - late
        level, second = heard[at:at + length].std(), heard[end:end + length].std()
        noise = heard[at - first // 2:at - first // 10].std()
        sounds = np.convolve(abs(sent) > 1e-3 * self.level, np.ones(2 * HOLE))[2 * HOLE - 1:] > 0
        zeros = np.convolve(heard == 0, np.ones(HOLE))[HOLE - 1:] == HOLE
        hole = (sounds[:len(sent) - lag] & zeros[lag:]).any()
        if abs(heard).max() >= CLIPPED:
            raise SoundCardError("too loud, the microphone clips: turn the volume down")
        if level <= CLEAR * noise or not level:
            raise SoundCardError(
                f"the chirp ({level:.1g} of full scale) does not stand out of the noise "
                f"({noise:.1g}): " + ("find a quieter room" if noise > NOISY else "turn the volume"
                                      " up, and look whether the microphone is switched on"))
        if hole or second < level / 2 or abs(slip) > 1 + DRIFT * (last - first):
            raise SoundCardError("a drop-out, some sound is missing: close other programs")
        t = np.arange(2 * first + length, last - first)
        drift = slip / (last - first)
        t = t + late + drift * (t - first - length / 2)
        report = {"delay": late / self.rate, "drift": drift, "level": level, "noise": noise}
        return ndimage.map_coordinates(heard, [t], order=5), report

    def play(self, sent):
        """Send samples to the converter and return as many from the microphone."""
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise SoundCardError("no way to the sound card: pip install .[sound], and the library "
                                 "PortAudio (Debian: apt-get install libportaudio2)") from error
        deadline = time.monotonic() + len(sent) / self.rate + 10
        heard = np.zeros((len(sent), 1), np.float32)
        try:
            sounddevice.playrec(sent, self.rate, out=heard, device=self.sound_device,
                                latency=LATENCY)
            while sounddevice.get_stream().active:
                time.sleep(0.01)
                if time.monotonic() > deadline:
                    raise TimeoutError("the sound card has stopped: is the lid open?")
        except sounddevice.PortAudioError as error:
            raise SoundCardError("the sound card is taken or gone: close what else uses it, or "
                                 f"choose another one ({error})") from error
        finally:
            sounddevice.stop()
        return heard[:, 0]

    def state_dict(self):
        return {**super().state_dict(), "played": self.played, "level": self.level}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.played, self.level = state["played"], state["level"]
