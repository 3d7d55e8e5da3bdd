"""The device fitted to the authors' recordings: its physics, and the recordings themselves."""

import numpy as np
import pytest

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.recorded import (
    REST,
    SUBSTEPS,
    TABLE,
    held,
    read,
    simulate,
)

NONE = np.empty(0)
NAME = "EPNN characterization Mar16 transistor osc 2_1_{}.npz"
here = all((files.RAW / "authors_circuit" / name).exists()
           for name in fetch.FILES["authors_circuit"])
needs_recordings = pytest.mark.skipif(
    not here, reason="no recordings: python -m pnn_utils.datasets.fetch authors_circuit")


def settled(volts):
    """Voltage after 30 us of a held drive, and for 50 us after it."""
    drive = np.zeros((1, 82))
    drive[:, :30] = volts
    v = read(simulate(vars(make_parameters(TABLE)), drive), np.arange(81))[0]
    return v[29], v[31:]


def test_held_positive_drive_passes_less_the_diodes_drop():
    p = make_parameters(TABLE)
    for volts in (2.0, 5.0):
        expected = (p.gain * volts - p.drop) * p.resistance / (p.resistance + p.diode_resistance)
        assert expected / p.resistance < p.current_limit
        assert settled(volts)[0] == pytest.approx(expected, rel=0.02)


def test_between_drop_and_threshold_nothing_passes_at_dc_and_beyond_it_the_channel_conducts():
    p = make_parameters(TABLE)
    for volts in (0.5 * p.drop, -0.8 * p.threshold):
        assert abs(settled(volts)[0]) < 0.05 * abs(volts)
    through = (p.threshold - p.gain * 10) / (p.resistance + p.channel_resistance)
    assert settled(-10.0)[0] == pytest.approx(through * p.resistance, rel=0.05)


def test_the_cards_current_limit_makes_a_full_hold_droop():
    p = make_parameters(TABLE)
    assert settled(10.0)[0] == pytest.approx(p.current_limit * p.resistance, rel=0.02)
    assert settled(10.0)[0] < 0.9 * (p.gain * 10 - p.drop)


def test_after_a_pulse_v_is_clamped_a_drop_below_zero_and_then_rings():
    p, (held_up, after) = make_parameters(TABLE), settled(5.0)
    assert p.drop < -after.min() < p.drop + 1.1 * p.diode_resistance * held_up / p.resistance
    assert np.abs(after[-5:]).max() < 0.05 < after[8:].max()  # gone after five ring times


def test_weak_signals_ring_at_the_resonance():
    # Both capacitances hang on the node: the card holds the transistor's other side.
    p = make_parameters(TABLE)
    v = simulate(vars(p), np.full((1, 60), 1e-3))[0]
    crossings = np.flatnonzero(np.diff(np.signbit(v[80:])))[:5]
    period = 2 * np.diff(crossings).mean() / (1e6 * SUBSTEPS)
    natural = 1 / np.sqrt(p.inductance * (p.capacitance + p.coupling))
    damped = np.sqrt(natural**2 - (p.resistance / (2 * p.inductance)) ** 2)
    assert period == pytest.approx(2 * np.pi / damped, rel=0.03)


def test_one_trigger_shifts_a_hundred_shots_alike():
    x = np.tile(np.linspace(-10, 10, 70) * (-1) ** np.arange(70), (250, 1))
    y = Circuit.recorded(noise=0.0, noise_seed=1)(x, NONE)
    assert np.ptp(y[:100], 0).max() == 0 == np.ptp(y[100:200], 0).max()
    assert np.abs(y[0] - y[100]).max() > 0.1
    ideal = Circuit.recorded(ideal=True)
    assert np.array_equal(ideal(x, NONE), ideal(x, NONE))


def test_drives_are_held_by_nearest_neighbour():
    wide = held(np.arange(70.0)[None], 100)[0]
    assert not wide[:REST].any() and not wide[REST + 61:].any()
    sent = wide[REST:REST + 61]
    assert sent[0] == 0 and sent[-1] == 69 and 1 <= np.diff(sent).min() <= np.diff(sent).max() <= 2


@needs_recordings
def test_the_preset_explains_nine_tenths_of_shots_that_it_was_not_fitted_to():
    with np.load(fetch.path("authors_circuit", NAME.format("impulse1"))) as file:
        x, y = np.clip(20 * file["xlist"], -10, 10), file["outs"][0]
    at = np.linspace(0, 70, 20 * 98)
    map_ = np.stack([np.interp(at, np.arange(70), one) for one in np.eye(70)], 1)
    raw = y @ np.linalg.pinv(map_.reshape(98, 20, 70).mean(1)).T  # the card's samples
    fine = simulate(vars(make_parameters(TABLE)), held(x, 100))
    held_out = np.arange(len(x)) % 5 == 2

    def error(start, rows):
        return np.mean((read(fine[rows], start + np.arange(70)) - raw[rows]) ** 2)

    # The trigger's shift of this set, from the shots that the fit may see.
    start = min(np.arange(3, 6, 0.05), key=lambda start: error(start, ~held_out))
    assert 1 - error(start, held_out) / raw[held_out].var() > 0.9
