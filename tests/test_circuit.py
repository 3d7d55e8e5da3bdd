"""Physics of the circuit device against ngspice, closed forms and its own converged solution."""

import numpy as np
import pytest
from scipy.constants import e as electron
from scipy.constants import k as boltzmann
from scipy.optimize import brentq

from pnn_utils.files import ROOT, missing
from pnn_utils.systems.base import make_parameters, parameter_table
from pnn_utils.systems.circuit.device import TABLE, Circuit
from pnn_utils.systems.circuit.solver import channel_current, junction_charge, simulate
from tests.referees.netlist import netlist, ngspice_version, run_ngspice

# Written by: python -m tests.test_circuit
STORED = ROOT / "tests" / "data" / "circuit_ngspice.npz"
NONE = np.empty(0)
IMPERFECTIONS = [row for row in parameter_table(TABLE) if row.off is not None]
needs_ngspice = pytest.mark.skipif(bool(missing("ngspice")), reason=missing("ngspice"))


def nominal(**changes):
    return make_parameters(TABLE, **changes)


def random_drives(n, seed=11):
    """Full-range drives: white noise, the last third held, which drives the transistor harder."""
    drives = np.random.default_rng(seed).uniform(-4, 4, (n, 196))
    held = drives[2 * n // 3:]
    held[:] = np.repeat(held[:, ::7], 7, axis=1)[:, :196]
    return drives


def rms_of_swing(found, expected):
    return np.sqrt(((found - expected) ** 2).mean(1)) / np.ptp(expected, axis=1)


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return {name: file[name] for name in file.files}


def noise(drives):
    """Standard deviation of a reading in volts, rms over all samples."""
    device = Circuit(noise_seed=3)
    return np.sqrt(np.var([device(drives, NONE) for _ in range(30)], 0, ddof=1).mean())


def test_ideal_device_agrees_with_stored_ngspice_waveforms_within_a_third_of_the_noise(stored):
    drives, expected = stored["drive"], stored["voltage"]
    assert len(drives) >= 20 and drives.shape[1] == 196 and np.abs(drives).max() > 3.99

    def error(substeps):
        difference = Circuit(ideal=True, substeps=substeps)(drives, NONE) - expected
        return np.sqrt((difference**2).mean())

    default = Circuit().substeps
    assert error(default) < noise(drives) / 3  # measured: 2.2 of 10.7 mV
    assert error(default // 2) > noise(drives) / 3  # half as many steps would not do
    # With more steps the difference vanishes: both solve the same equations.
    assert error(24) < noise(drives) / 30


def test_stored_waveforms_belong_to_this_netlist(stored):
    assert str(stored["netlist"]) == netlist(Circuit(ideal=True).parameters, stored["drive"][0])


@needs_ngspice
def test_ideal_device_agrees_with_ngspice_now():
    device, drives = Circuit(ideal=True), random_drives(20, seed=12)
    expected = np.array([run_ngspice(device.parameters, drive, reltol=1e-6) for drive in drives])
    assert np.sqrt(((device(drives, NONE) - expected) ** 2).mean()) < noise(drives) / 3


@needs_ngspice
def test_another_copy_agrees_with_ngspice_too():
    device = Circuit(seed=4, jitter=0.0, trigger_jitter=0.0, noise=0.0, converter_bits=0,
                     gain_error=0.0, offset_error=0.0)
    drives = random_drives(3, seed=13)
    expected = np.array([run_ngspice(device._copy, drive) for drive in drives])
    assert rms_of_swing(device(drives, NONE), expected).max() < 0.001
    # The copy is another circuit.
    assert rms_of_swing(Circuit(ideal=True)(drives, NONE), expected).max() > 0.02


def test_ngspice_that_stops_early_is_reported(tmp_path, monkeypatch):
    fake = tmp_path / "ngspice"
    fake.write_text("#!/bin/sh\necho timestep too small\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match="stopped at .*timestep too small"):
        run_ngspice(nominal(), np.zeros(4))
    fake.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ngspice_version() is None


def test_cut_off_circuit_is_the_textbook_series_resonance():
    # Far below the knees only the junction's and the gate's capacitance load C: made tiny.
    p = nominal(junction_capacitance=1e-15, gate_source_capacitance=1e-15,
                gate_drain_capacitance=1e-15, leakage_resistance=1e15)
    step = 0.1
    t = np.arange(1, 197) * p.sample_interval
    r = p.resistance + p.coil_resistance
    damping, natural = r / (2 * p.inductance), 1 / np.sqrt(p.inductance * p.capacitance)
    ringing = np.sqrt(natural**2 - damping**2)
    swing = np.cos(ringing * t) + damping / ringing * np.sin(ringing * t)
    expected = step * (1 - np.exp(-damping * t) * swing)
    found = simulate(p, np.full((1, 196), step))[0]
    assert np.abs(found - expected).max() < 1e-4 * step


def test_solver_is_of_second_order():
    drives, p = random_drives(30), Circuit(ideal=True).parameters
    converged = simulate(p, drives, 192)
    steps = np.array([3, 6, 12, 24])
    errors = [np.sqrt(((simulate(p, drives, int(n)) - converged) ** 2).mean()) / np.ptp(converged)
              for n in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.7 < order < 2.5


def test_channel_current_solves_the_level_1_equation_in_saturation():
    p = nominal()
    channel = p.threshold, p.transconductance, p.source_resistance

    def level_1(gate, i):
        return p.transconductance / 2 * max(gate - p.source_resistance * i - p.threshold, 0) ** 2

    for gate in (-3.0, 0.0, p.threshold):
        assert channel_current(gate, *channel) == (0.0, 0.0)
    for gate in (1.83, 2.0, 3.0, 5.0):
        expected = brentq(lambda i, gate=gate: i - level_1(gate, i), 0, 10)
        current, slope = channel_current(gate, *channel)
        assert current == pytest.approx(expected, rel=1e-9)
        higher = channel_current(gate + 1e-6, *channel)[0]
        assert slope == pytest.approx((higher - current) / 1e-6, rel=1e-4)
        # Gate and drain tied: V_ds >= V_gs - VTO, so the channel is saturated.
        v_gs = gate - current * p.source_resistance
        assert v_gs - current * p.drain_resistance > v_gs - p.threshold


def test_resting_points_follow_from_the_static_characteristics():
    # A constant drive settles where R, coil, load and transistor (or diode) carry one current.
    p = nominal(sample_interval=10e-6)
    thermal = boltzmann * p.temperature / electron
    series = p.resistance + p.coil_resistance
    settled = simulate(p, np.array([[3.5] * 196, [-3.5] * 196, [1.0] * 196]), 30)[:, -1]
    total = series + p.load_resistance + p.source_resistance
    conducting = brentq(lambda i: 3.5 - i * total - p.threshold
                        - np.sqrt(2 * i / p.transconductance), 1e-9, 1)
    assert settled[0] == pytest.approx(3.5 - series * conducting, rel=1e-5)
    reverse = brentq(lambda i: 3.5 - i * (series + p.load_resistance + p.diode_resistance)
                     - thermal * np.log1p(i / p.diode_saturation_current), 1e-9, 1)
    assert settled[1] == pytest.approx(-3.5 + series * reverse, rel=1e-5)
    assert settled[2] == pytest.approx(1.0, rel=1e-6)  # cut off: no current


def test_junction_charge_is_the_integral_of_its_capacitance():
    p = nominal()
    junction = p.junction_capacitance, p.junction_potential
    points = np.linspace(-0.9, 5.0, 4001)
    charge, capacitance = np.array([junction_charge(v, *junction) for v in points]).T
    middle = (capacitance[1:] + capacitance[:-1]) / 2
    assert np.diff(charge) == pytest.approx(middle * np.diff(points), rel=1e-5)
    assert junction_charge(0.0, *junction) == (0.0, p.junction_capacitance)
    assert junction_charge(3.0, *junction)[1] == pytest.approx(p.junction_capacitance / 2)


def test_energy_decays_without_drive():
    p = Circuit(ideal=True).parameters
    drives = random_drives(5)
    drives[:, 40:] = 0
    v = simulate(p, drives, 8)
    peaks = np.maximum.accumulate(np.abs(v[:, ::-1]), axis=1)[:, ::-1]  # highest still to come
    assert (peaks[:, 60] < np.abs(v).max(1)).all()
    # Below the knees it rings down as 2 L / R says.
    late = np.log(peaks[:, 150] / peaks[:, 100]) / -50e-6
    assert late == pytest.approx((p.resistance + p.coil_resistance) / (2 * p.inductance), rel=0.35)


def test_response_is_strongly_nonlinear_and_remembers():
    device, drives = Circuit(ideal=True), random_drives(400)
    y = device(drives, NONE)
    design = np.stack([drives[:, 150 - k:190 - k] for k in range(100)], axis=-1).reshape(-1, 100)
    target = y[:, 150:190].ravel()
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    assert left.var() > 0.03 * target.var()  # what the best linear filter of 100 samples leaves
    changed = drives.copy()
    changed[:, 100] += np.where(drives[:, 100] > 0, -1, 1)
    difference = np.sqrt(((device(changed, NONE) - y) ** 2).mean(0))
    assert difference[:100].max() == 0 and difference[120:130].max() > 0.1 * difference.max()


def test_jitter_costs_what_the_slope_says():
    drives, jitter = random_drives(300), 10e-9
    still = Circuit(ideal=True)
    shaky = Circuit(ideal=True, jitter=jitter)
    p = still.parameters
    later = simulate(p, drives, delay=np.full(drives.shape, 1e-9))
    slope = (later - still(drives, NONE)) / 1e-9
    noise = shaky(drives, NONE) - still(drives, NONE)
    assert noise.std() == pytest.approx(jitter * np.sqrt((slope**2).mean()), rel=0.05)


def test_shots_of_one_trigger_shift_together():
    drives = np.repeat(random_drives(1), 7, 0)
    device = Circuit(ideal=True, trigger_jitter=1e-7, trigger_batch=3)
    y = device(drives, NONE)
    assert np.array_equal(y[0:3], y[[2, 0, 1]]) and np.array_equal(y[3:6], y[[5, 3, 4]])
    assert len(np.unique(y, axis=0)) == 3


def test_each_imperfection_changes_the_reading_and_ideal_has_none():
    x = np.random.default_rng(0).uniform(-4, 4, (3, 196))
    base = Circuit(ideal=True)(x, NONE)
    for row in IMPERFECTIONS:
        assert getattr(Circuit(ideal=True).parameters, row.name) == row.off
        changed = Circuit(ideal=True, **{row.name: row.value})
        assert not np.array_equal(changed(x, NONE), base), row.name


def test_bad_substeps_and_impossible_copies_are_refused():
    for substeps in (0, -1, 1.5):
        with pytest.raises((TypeError, ValueError), match=f"substeps is {substeps}; expected"):
            Circuit(substeps=substeps)
    with pytest.raises(ValueError, match=r"capacitance is -.*expected .*\(unit: F\)"):
        for seed in range(9):
            Circuit(seed, capacitor_spread=50.0)


def test_a_row_has_the_same_bits_in_any_company():
    p, drive = nominal(), np.random.default_rng(15).uniform(-4, 4, (65, 196))
    late = np.random.default_rng(16).normal(0, 1e-7, drive.shape)
    for delay in (np.zeros_like(late), late):
        whole = simulate(p, drive, 3, delay)
        for rows in (slice(40, 41), slice(41, 42), slice(64, 65), slice(3, 30), slice(7, 40)):
            assert simulate(p, drive[rows], 3, delay[rows]).tobytes() == whole[rows].tobytes()


if __name__ == "__main__":
    reference, drives = Circuit(ideal=True).parameters, random_drives(24)
    voltages = np.array([run_ngspice(reference, drive, reltol=1e-6) for drive in drives])
    np.savez_compressed(STORED, drive=drives, voltage=voltages, reltol=1e-6,
                        netlist=netlist(reference, drives[0]), version=ngspice_version())
    print(f"ngspice {ngspice_version()}: {len(drives)} waveforms in {STORED}")
