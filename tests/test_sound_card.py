"""A sound card as a device: the signal path over a computed room, refusals, and a real server."""

import sys
import threading
import types

import numpy as np
import pytest
import torch
from cells import defined

from notebooks.virtual_room import server
from notebooks.virtual_room.room import SOUND, TABLE, Air, Computed, Room, wired
from pnn_utils.networks import waveform_chain
from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.instrument import Instrument, InstrumentError
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.systems.sound_card import HOLE, SoundCard, SoundCardError, delay
from pnn_utils.training import train

find_level, = defined("11_your_sound_card", "find_level")
NONE = np.zeros(0)
QUIET = {"dropouts": 0.0, "start_spread": 0.0}


def room(ideal=False, seed=0, settings=(), **changes):
    parameters = make_parameters(TABLE, ideal, **changes)
    return Computed(parameters, seed, **{"level": 0.1, "longest_delay": 0.05} | dict(settings))


def waveforms(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 64))


# --- Delay and clocks ----------------------------------------------------------------------------

@pytest.mark.parametrize("late", [0.0, 17.25, 480.5, 1000.9])
def test_delay_is_found_to_a_tenth_of_a_sample_at_20_db(late):
    rng, chirp = np.random.default_rng(1), SoundCard().chirp
    spectrum = np.fft.rfft(chirp, 8192)  # shifted by a ramp of its phase
    heard = np.fft.irfft(spectrum * np.exp(-2j * np.pi * np.fft.rfftfreq(8192) * late))
    for _ in range(20):
        noise = 0.1 * chirp.std() * rng.standard_normal(len(heard))
        assert abs(delay(heard + noise, chirp) - late) < 0.1


def test_delay_grows_with_the_distance_at_the_speed_of_sound():
    alone = {"desk": 0.0, "lid": 0.0}
    near, far = (room(True, distance=metres, **alone).listen(np.zeros(100))[1]["delay"]
                 for metres in (0.2, 0.5))
    assert abs(far - near - 0.3 / SOUND) < 0.1 / 48000


@pytest.mark.parametrize("ppm", [-200, 0, 50, 200])
def test_clocks_that_differ_are_measured_and_their_drift_is_taken_out(ppm):
    x = waveforms(400)  # six seconds: 200 ppm of them are 58 samples
    device = room(True, clock_drift=1e-6 * ppm)
    report = device.listen(np.zeros(48000 * 5))[1]
    assert report["drift"] == pytest.approx(-1e-6 * ppm / (1 + 1e-6 * ppm), abs=5e-7)
    steady = room(True)(x, NONE)
    assert abs(device(x, NONE) - steady).max() < 0.01 * abs(steady).max()


def test_air_is_the_same_in_blocks_and_at_once():
    sent = np.random.default_rng(0).uniform(-0.1, 0.1, 20480)
    p = make_parameters(TABLE, ideal=True, tail=0.15, clock_drift=5e-5)
    whole, air = Air(p, 0, np.random.default_rng())(sent), Air(p, 0, np.random.default_rng())
    parts = np.concatenate([air(block) for block in sent.reshape(20, 1024)])
    assert len(parts) == len(whole) and abs(parts - whole).max() < 1e-6 * abs(whole).max()


# --- What is sent --------------------------------------------------------------------------------

@pytest.mark.parametrize("level, limit", [(0.05, 0.5), (1.0, 0.5), (0.3, 0.2)])
def test_no_sample_is_ever_above_the_limit(level, limit):
    sent, card = [], room(True, settings={"level": level, "limit": limit})
    play = card.play
    card.play = lambda wave: (sent.append(wave), play(wave))[1]
    for x in (np.ones((3, 64)), -np.ones((3, 64)), waveforms(3)):
        card(x, NONE)
    card.listen(50 * np.ones(4800))
    find_level(card)
    assert max(abs(wave).max() for wave in sent) <= np.float32(limit)
    assert all(wave.dtype == np.float32 for wave in sent)


def test_the_sound_starts_quiet_and_grows_until_it_is_clear():
    levels, card = [], room(noise=0.001, dropouts=0.0)
    play = card.play
    card.play = lambda wave: (levels.append(abs(wave).max()), play(wave))[1]
    report = find_level(card)
    assert levels[0] <= card.limit / 64 and np.allclose(np.divide(levels[1:], levels[:-1]), 2)
    assert report["level"] > 40 * report["noise"] and card.level <= card.limit


def test_playing_time_is_counted_and_ends_with_the_budget():
    card = room(settings={"budget": 3.0}, **QUIET)
    card(waveforms(100), NONE)
    assert 100 * card.pass_time < card.played < 100 * card.pass_time + 1
    with pytest.raises(SoundCardError, match="more than 3 s"):
        card(waveforms(100), NONE)
    other = room(settings={"level": 0.2})
    other.load_state_dict(card.state_dict())  # a resumed evening goes on counting, as loud
    assert (other.played, other.level) == (card.played, card.level)


# --- Refusals ------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes, words", [
    ({"sensitivity": 50.0}, "too loud.*turn the volume down"),
    ({"sensitivity": 1e-6}, "does not stand out.*turn the volume up"),
    ({"noise": 0.02}, "does not stand out.*find a quieter room")])
def test_what_cannot_be_trusted_is_refused_with_what_to_do(changes, words):
    card = room(**QUIET | changes)
    with pytest.raises(SoundCardError, match=words):
        card(waveforms(3), NONE)


def test_a_microphone_that_is_switched_off_is_refused():
    card = room()
    card.play = np.zeros_like
    with pytest.raises(SoundCardError, match="whether the microphone is switched on"):
        card(waveforms(3), NONE)


def with_a_fault(card, fault, at=0):
    """Spoil the stream number `at` that a card plays."""
    play, count = card.play, []

    def spoiled(sent):
        count.append(1)
        heard = play(sent)
        return fault(heard) if len(count) == at + 1 else heard

    card.play = spoiled
    return card


def hole(heard):
    heard = heard.copy()
    middle = len(heard) // 2
    heard[middle:middle + 1500] = 0
    return heard


def lost(heard):
    middle = len(heard) // 2
    return np.concatenate([np.delete(heard, slice(middle, middle + 240)), np.zeros(240)])


@pytest.mark.parametrize("fault", [hole, lost])
def test_a_drop_out_is_noticed(fault):
    card = with_a_fault(room(**QUIET), fault)
    with pytest.raises(SoundCardError, match="a drop-out"):
        card(waveforms(100), NONE)
    card(waveforms(100), NONE)


def test_silence_that_was_sent_is_no_drop_out():
    card = room(True)
    assert abs(card(np.zeros((100, 64)), NONE)).max() < 1e-12 and HOLE < 64 * card.hold


def test_a_drop_out_in_the_middle_of_training_costs_one_retry():
    card = with_a_fault(room(**QUIET), hole, at=7)
    device = Instrument(**wired(card), first_wait=0)
    x, y = waveforms(40).astype(np.float32), torch.arange(40) % 4
    theta = np.zeros((40, 0), np.float32)
    twin = Convolution(64, 0, 64).fit(x, device(x, theta))
    network = waveform_chain(device, twin, 4, 2, torch.Generator().manual_seed(0), shuffle=True)
    network.calibrate(torch.tensor(x))
    history = train(network, torch.tensor(x), y, epochs=4, learning_rate=0.05, batch_size=20,
                    device=device)
    assert device.events == dict.fromkeys(device.events, 0) | {"errors": 1}
    assert len(history) == 4 and history[-1]["errors"] == 1 and device.passes == 40 + 80 + 320


def test_drop_outs_of_the_room_are_asked_for_again():
    device = Room(dropouts=0.1)
    plain = Room(**QUIET)(waveforms(100), NONE)
    for _ in range(10):
        assert abs(device(waveforms(100), NONE) - plain).max() < 0.1 * abs(plain).max()
    assert device.events["errors"] > 0


# --- PortAudio -----------------------------------------------------------------------------------

@pytest.fixture
def portaudio(monkeypatch):
    """A stand-in for sounddevice whose air is the computed room."""
    fake = types.SimpleNamespace(PortAudioError=type("PortAudioError", (Exception,), {}), active=0,
                                 stopped=0, card=room(**QUIET))

    def playrec(sent, rate, out, **_):
        out[:, 0] = fake.card.play(sent)

    def stop():
        fake.stopped += 1

    fake.playrec, fake.stop = playrec, stop
    fake.get_stream = lambda: types.SimpleNamespace(active=fake.active)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_a_stream_through_portaudio_is_read_and_closed(portaudio):
    card, x = SoundCard(level=0.1), waveforms(5)
    assert abs(card(x, NONE) - room(**QUIET)(x, NONE)).max() < 0.01
    assert portaudio.stopped == 1


def test_a_card_that_another_program_has_taken_gives_a_clear_error(portaudio):
    def taken(*_, **__):
        raise portaudio.PortAudioError("Device unavailable [PaErrorCode -9985]")

    portaudio.playrec = taken
    device = Instrument(**wired(SoundCard()), first_wait=0, attempts=2)
    with pytest.raises(InstrumentError, match="the sound card is taken or gone: close what else "
                                              r"uses it.*Device unavailable"):
        device(waveforms(2), NONE)


def test_a_closed_lid_ends_in_a_time_out_and_the_stop_key_in_silence(portaudio, monkeypatch):
    portaudio.active = 1
    clock = iter(range(0, 10**6, 5))
    monkeypatch.setattr("pnn_utils.systems.sound_card.time.monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError, match="is the lid open"):
        SoundCard()(waveforms(2), NONE)

    def pressed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pnn_utils.systems.sound_card.time.sleep", pressed)
    with pytest.raises(KeyboardInterrupt):
        SoundCard()(waveforms(2), NONE)
    assert portaudio.stopped == 2


def test_without_portaudio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SoundCardError, match=r"pip install .\[sound\].*libportaudio2"):
        SoundCard()(waveforms(2), NONE)


@pytest.mark.parametrize("settings, error", [
    ({"level": 2.0}, ValueError), ({"limit": -1.0}, ValueError), ({"hold": 0}, ValueError),
    ({"rate": 44100.5}, TypeError), ({"rest": float("nan")}, ValueError)])
def test_wrong_settings_are_refused(settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        SoundCard(**settings)


# --- The sound server ----------------------------------------------------------------------------

needs_server = pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there")


@needs_server
def test_a_real_server_hears_the_same_room_in_real_time():
    x = waveforms(40)
    with server.Server(0, dropouts=0.0) as running:
        card = SoundCard(level=0.1)
        device = Instrument(**wired(card), attempts=8)
        heard, expected = device(x, NONE), room(**QUIET)(x, NONE)
        assert (heard - expected).std() < 0.05 * expected.std()
        running.change(moved=0.1, covered=1.0)
        changed, expected = device(x, NONE), room(**QUIET, moved=0.1, covered=1.0)(x, NONE)
        assert (changed - expected).std() < 0.1 * expected.std() < 0.1 * heard.std()


@needs_server
def test_a_server_that_dies_while_it_plays_gives_a_clear_error():
    with server.Server(0, dropouts=0.0) as running:
        card = SoundCard(level=0.1)
        timer = threading.Timer(1.0, running.processes[0].terminate)  # what hears the loudspeaker
        timer.start()
        with pytest.raises((SoundCardError, TimeoutError)):
            card(waveforms(300), NONE)
        timer.join()
