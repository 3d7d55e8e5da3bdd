"""Physics of the circuit device against ngspice, closed forms and its own converged solution."""

import shutil

import numpy as np
import pytest
from scipy.constants import e as electron
from scipy.constants import k as boltzmann
from scipy.optimize import brentq

from pnn_utils import paths
from pnn_utils.systems.circuit.device import Circuit, CircuitParameters
from tests.referees.netlist import netlist, ngspice_version, run_ngspice
from pnn_utils.systems.circuit.solver import channel_current, junction_charge, simulate

STORED = paths.ROOT / "tests" / "data" / "circuit_ngspice.npz"  # written by: python tests/test_circuit.py
NONE = np.empty(0)
IMPERFECTIONS = [name for name, field in CircuitParameters.__dataclass_fields__.items() if field.metadata["ideal"] is not None]


def random_drives(n, seed=11):
    """Full-range drives: white noise, the last third held for several samples, which drives the transistor harder."""
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


def test_ideal_device_agrees_with_stored_ngspice_waveforms(stored):
    device = Circuit(ideal=True)
    assert len(stored["drive"]) >= 20 and stored["drive"].shape[1] == 196 and np.abs(stored["drive"]).max() > 3.99
    error = rms_of_swing(device(stored["drive"], NONE), stored["voltage"])
    assert error.max() < 0.005  # measured: 0.36 %
    # With more steps the difference vanishes: both solve the same equations.
    finer = Circuit(ideal=True, substeps=24)
    assert rms_of_swing(finer(stored["drive"], NONE), stored["voltage"]).max() < 1e-4


def test_stored_waveforms_belong_to_this_netlist(stored):
    assert str(stored["netlist"]) == netlist(Circuit(ideal=True).parameters, stored["drive"][0])


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed (Debian: apt-get install ngspice); stored waveforms are checked")
def test_ideal_device_agrees_with_ngspice_now():
    device, drives = Circuit(ideal=True), random_drives(20, seed=12)
    expected = np.array([run_ngspice(device.parameters, drive, reltol=1e-6) for drive in drives])
    assert rms_of_swing(device(drives, NONE), expected).max() < 0.005


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed (Debian: apt-get install ngspice)")
def test_another_copy_agrees_with_ngspice_too():
    device = Circuit(seed=4, jitter=0.0, trigger_jitter=0.0, noise=0.0, converter_bits=0, gain_error=0.0, offset_error=0.0)
    drives = random_drives(3, seed=13)
    expected = np.array([run_ngspice(device._copy, drive) for drive in drives])
    assert rms_of_swing(device(drives, NONE), expected).max() < 0.005
    assert rms_of_swing(Circuit(ideal=True)(drives, NONE), expected).max() > 0.02  # the copy is another circuit


def test_ngspice_that_stops_early_is_reported(tmp_path, monkeypatch):
    fake = tmp_path / "ngspice"
    fake.write_text("#!/bin/sh\necho timestep too small\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match="stopped at .*timestep too small"):
        run_ngspice(CircuitParameters(), np.zeros(4))
    fake.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="ngspice was not found"):
        run_ngspice(CircuitParameters(), np.zeros(4))
    assert ngspice_version() is None


def test_cut_off_circuit_is_the_textbook_series_resonance():
    # Far below threshold and diode knee only the junction's and the gate's capacitance hang on C, behind the load resistor.
    tiny = {"junction_capacitance": 1e-15, "gate_source_capacitance": 1e-15, "gate_drain_capacitance": 1e-15, "leakage_resistance": 1e15}
    p = CircuitParameters(**tiny)
    step = 0.1
    t = np.arange(1, 197) * p.sample_interval
    r = p.resistance + p.coil_resistance
    damping, natural = r / (2 * p.inductance), 1 / np.sqrt(p.inductance * p.capacitance)
    ringing = np.sqrt(natural**2 - damping**2)
    expected = step * (1 - np.exp(-damping * t) * (np.cos(ringing * t) + damping / ringing * np.sin(ringing * t)))
    found = simulate(p, np.full((1, 196), step))[0]
    assert np.abs(found - expected).max() < 1e-4 * step


def test_solver_is_of_second_order_and_three_steps_do():
    drives, p = random_drives(30), Circuit(ideal=True).parameters
    converged = simulate(p, drives, 192)
    steps = np.array([3, 6, 12, 24])
    errors = [np.sqrt(((simulate(p, drives, int(n)) - converged) ** 2).mean()) / np.ptp(converged) for n in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.7 < order < 2.5
    assert errors[0] < 2e-3


def test_channel_current_solves_the_level_1_equation_in_saturation():
    p = CircuitParameters()
    for gate in (-3.0, 0.0, p.threshold):
        assert channel_current(gate, p.threshold, p.transconductance, p.source_resistance) == (0.0, 0.0)
    for gate in (1.83, 2.0, 3.0, 5.0):
        expected = brentq(lambda i, gate=gate: i - p.transconductance / 2 * max(gate - p.source_resistance * i - p.threshold, 0) ** 2, 0, 10)
        current, slope = channel_current(gate, p.threshold, p.transconductance, p.source_resistance)
        assert current == pytest.approx(expected, rel=1e-9)
        higher = channel_current(gate + 1e-6, p.threshold, p.transconductance, p.source_resistance)[0]
        assert slope == pytest.approx((higher - current) / 1e-6, rel=1e-4)
        # Gate and drain tied: V_ds >= V_gs - VTO, so the channel is saturated.
        assert gate - current * (p.source_resistance + p.drain_resistance) > gate - current * p.source_resistance - p.threshold


def test_resting_points_follow_from_the_static_characteristics():
    # A constant drive settles where the loop R - coil - load - transistor (or diode) carries one current.
    p = CircuitParameters(sample_interval=10e-6)
    thermal = boltzmann * p.temperature / electron
    series = p.resistance + p.coil_resistance
    settled = simulate(p, np.array([[3.5] * 196, [-3.5] * 196, [1.0] * 196]), 30)[:, -1]
    conducting = brentq(lambda i: 3.5 - i * (series + p.load_resistance)
                        - (p.threshold + np.sqrt(2 * i / p.transconductance) + p.source_resistance * i), 1e-9, 1)
    assert settled[0] == pytest.approx(3.5 - series * conducting, rel=1e-5)
    reverse = brentq(lambda i: 3.5 - i * (series + p.load_resistance + p.diode_resistance)
                     - thermal * np.log1p(i / p.diode_saturation_current), 1e-9, 1)
    assert settled[1] == pytest.approx(-3.5 + series * reverse, rel=1e-5)
    assert settled[2] == pytest.approx(1.0, rel=1e-6)  # cut off: no current


def test_junction_charge_is_the_integral_of_its_capacitance():
    p = CircuitParameters()
    points = np.linspace(-0.9, 5.0, 4001)
    charge, capacitance = np.array([junction_charge(v, p.junction_capacitance, p.junction_potential) for v in points]).T
    middle = (capacitance[1:] + capacitance[:-1]) / 2
    assert np.diff(charge) == pytest.approx(middle * np.diff(points), rel=1e-5)
    assert junction_charge(0.0, p.junction_capacitance, p.junction_potential) == (0.0, p.junction_capacitance)
    assert junction_charge(3.0, p.junction_capacitance, p.junction_potential)[1] == pytest.approx(p.junction_capacitance / 2)


def test_energy_decays_without_drive():
    p = Circuit(ideal=True).parameters
    drives = random_drives(5)
    drives[:, 40:] = 0
    v = simulate(p, drives, 8)
    peaks = np.maximum.accumulate(np.abs(v[:, ::-1]), axis=1)[:, ::-1]  # highest swing still to come
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


def test_each_imperfection_changes_the_reading_and_ideal_has_none():
    x = np.random.default_rng(0).uniform(-4, 4, (3, 196))
    base = Circuit(ideal=True)(x, NONE)
    for name in IMPERFECTIONS:
        field = CircuitParameters.__dataclass_fields__[name]
        assert getattr(Circuit(ideal=True).parameters, name) == field.metadata["ideal"]
        assert not np.array_equal(Circuit(ideal=True, **{name: field.default})(x, NONE), base), name


def test_bad_substeps_are_refused():
    for substeps in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"substeps = {substeps}; expected an integer of at least 1"):
            Circuit(substeps=substeps)(np.zeros((1, 196)), NONE)


if __name__ == "__main__":
    reference, drives = Circuit(ideal=True).parameters, random_drives(24)
    voltages = np.array([run_ngspice(reference, drive, reltol=1e-6) for drive in drives])
    np.savez_compressed(STORED, drive=drives, voltage=voltages, netlist=netlist(reference, drives[0]), version=ngspice_version(), reltol=1e-6)
    print(f"ngspice {ngspice_version()}: {len(drives)} waveforms in {STORED}")


def test_a_row_has_the_same_bits_in_any_company():
    p, drive = CircuitParameters(), np.random.default_rng(15).uniform(-4, 4, (65, 196))
    late = np.random.default_rng(16).normal(0, 1e-7, drive.shape)
    for delay in (None, late):
        whole = simulate(p, drive, 3, delay)
        for rows in (slice(40, 41), slice(41, 42), slice(64, 65), slice(3, 30)):
            assert simulate(p, drive[rows], 3, None if delay is None else delay[rows]).tobytes() == whole[rows].tobytes()
