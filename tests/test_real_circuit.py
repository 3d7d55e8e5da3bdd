"""The device fitted to the authors' recordings: its physics, and the recordings themselves."""

import numpy as np
import pytest

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.recorded import REST, TABLE, held, read, simulate

NONE = np.empty(0)
NAME = "EPNN characterization Mar16 transistor osc 2_1_{}.npz"
here = all((files.RAW / "authors_circuit" / name).exists()
           for name in fetch.FILES["authors_circuit"])
needs_recordings = pytest.mark.skipif(
    not here, reason="no recordings: python -m pnn_utils.datasets.fetch authors_circuit")


def settled(volts):
    """Voltage after 30 us of a held drive, and for 50 us after it."""
    drive = np.zeros((1, 80))
    drive[:, :30] = volts
    v = read(simulate(vars(make_parameters(TABLE)), drive, 82), np.arange(81))[0]
    return v[29], v[31:]


def test_positive_drive_passes_less_a_drop_and_negative_does_not():
    p = make_parameters(TABLE)
    for volts in (2.0, 5.0):
        assert settled(volts)[0] == pytest.approx(p.gain * volts - p.drop, rel=0.12)
    for volts in (0.3, -3.0, -5.0):
        assert abs(settled(volts)[0]) < 0.15  # no response at DC
    assert settled(-10.0)[0] < -1  # beyond the threshold the channel conducts


def test_the_cards_current_limit_makes_a_full_hold_droop():
    p = make_parameters(TABLE)
    assert settled(10.0)[0] == pytest.approx(p.current_limit * p.resistance, rel=0.1)


def test_after_a_pulse_v_is_clamped_a_drop_below_zero_and_then_rings():
    p, after = make_parameters(TABLE), settled(5.0)[1]
    assert after.min() == pytest.approx(-p.drop, abs=0.15)
    assert np.abs(after[-5:]).max() < 0.05 < after[8:].max()  # gone after five ring times


def test_weak_signals_ring_at_the_resonance():
    # Both capacitances hang on the node: the card holds the transistor's other side.
    p = make_parameters(TABLE)
    drive = np.full((1, 60), 0.1)
    v = simulate(vars(p), drive, 60)[0]
    crossings = np.flatnonzero(np.diff(np.signbit(v[80:])))[:5]
    period = 2 * np.diff(crossings).mean() / 8e6
    loaded = 1 / p.coupling + 1 / p.output_cap
    natural = 1 / np.sqrt(p.inductance * (p.capacitance + 1 / loaded))
    damped = np.sqrt(natural**2 - (p.resistance / (2 * p.inductance)) ** 2)
    assert period == pytest.approx(2 * np.pi / damped, rel=0.1)


def test_one_trigger_shifts_a_hundred_shots_alike():
    x = np.tile(np.linspace(-10, 10, 70) * (-1) ** np.arange(70), (250, 1))
    y = Circuit.recorded(noise=0.0, noise_seed=1)(x, NONE)
    assert np.ptp(y[:100], 0).max() == 0 == np.ptp(y[100:200], 0).max()
    assert np.abs(y[0] - y[100]).max() > 0.1
    ideal = Circuit.recorded(ideal=True)
    assert np.array_equal(ideal(x, NONE), ideal(x, NONE))


def test_drives_are_held_by_nearest_neighbour():
    wide = held(np.arange(70.0)[None], 100)[0]
    assert len(wide) == REST + 61 and not wide[:REST].any()
    assert wide[REST] == 0 and wide[-1] == 69 and np.diff(wide[REST:]).max() <= 2


@needs_recordings
def test_the_preset_explains_recordings_that_it_was_not_fitted_to():
    with np.load(fetch.path("authors_circuit", NAME.format("impulse1"))) as file:
        x, y = np.clip(20 * file["xlist"][2::5], -10, 10), file["outs"][0, 2::5]
    at = np.linspace(0, 70, 20 * 98)
    map_ = np.stack([np.interp(at, np.arange(70), one) for one in np.eye(70)], 1)
    raw = y @ np.linalg.pinv(map_.reshape(98, 20, 70).mean(1)).T  # the card's samples
    fine = simulate(vars(make_parameters(TABLE)), held(x, 100), 82)
    errors = [np.mean((read(fine, start + np.arange(70)) - raw) ** 2)
              for start in np.arange(3, 6, 0.1)]
    assert 1 - min(errors) / raw.var() > 0.93
