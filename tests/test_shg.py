"""Physics of the SHG device against closed forms, published constants and the coupled-wave equations."""

import numpy as np
import pytest
from coupled_wave import broadband, monochromatic

from pnn_utils.systems import shg
from pnn_utils.systems.shg import LIGHT_SPEED, SHG

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.0])
def test_phase_matched_conversion_is_tanh_squared_and_leaves_sech_squared(strength):
    a, b = monochromatic(strength, 0.0, 1.0)
    assert abs(b) ** 2 == pytest.approx(np.tanh(strength) ** 2, rel=1e-7)
    assert abs(a) ** 2 == pytest.approx(1 / np.cosh(strength) ** 2, rel=1e-7)


def test_weak_conversion_follows_sinc_squared():
    for half_phase in (0.5, 1.5, 4.0):
        _, b = monochromatic(1e-3, 2 * half_phase, 1.0)
        assert abs(b) ** 2 == pytest.approx(1e-6 * np.sinc(half_phase / np.pi) ** 2, rel=1e-5)


def test_manley_rowe_energy_is_conserved_with_depletion_and_mismatch():
    a, b = monochromatic(1.5, 2.0, 1.0)
    assert abs(a) ** 2 + abs(b) ** 2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("wavelength, degrees", [(800e-9, 29.2), (1064e-9, 22.8)])
def test_bbo_phase_matching_angle_is_the_published_one(wavelength, degrees):
    assert np.degrees(shg.phase_matching_angle(wavelength)) == pytest.approx(degrees, abs=0.1)


def test_bbo_group_velocity_mismatch_is_194_fs_per_mm():
    k1, k2 = shg.wave_vectors(800e-9)
    omega, h = 2 * np.pi * LIGHT_SPEED / 800e-9, 1e10
    slow = (k2(2 * omega + h) - k2(2 * omega - h)) / (2 * h) - (k1(omega + h) - k1(omega - h)) / (2 * h)
    assert slow * 1e12 == pytest.approx(194, abs=2)


def test_laser_spectrum_has_the_time_bandwidth_product_of_a_gaussian():
    half = 0.4413 / 100e-15 / 2
    assert shg.laser_field(np.array([half]), 100e-15)[0] ** 2 == pytest.approx(0.5, rel=1e-3)


def direct_spectrum(device, x, theta):
    """The device's formula with a direct convolution in float64."""
    amplitude = device.channel_amplitudes(x, theta)[0].astype(float)
    field = np.repeat(amplitude, device.points_per_channel) * device._field
    return np.abs(np.convolve(field, field)) ** 2 @ device._weights.astype(float)


def test_fft_equals_direct_convolution():
    device = SHG(seed=3, ideal=True, group_delay_dispersion=800e-30)
    for _ in range(5):
        x, theta = RNG.random((1, 50)), RNG.random((1, 50))
        expected = direct_spectrum(device, x, theta)
        assert np.abs(device(x, theta)[0] - expected).max() < 2e-6 * expected.max()


def test_two_points_per_channel_are_converged():
    x, theta = RNG.random((20, 50)), RNG.random((20, 50))
    coarse, fine = (SHG(seed=1, ideal=True, points_per_channel=n)(x, theta) for n in (2, 8))
    assert np.abs(coarse - fine).max() < 1e-3


@pytest.mark.parametrize("kind", ["all open", "random"])
def test_device_agrees_with_the_coupled_wave_equations_at_its_peak_intensity(kind):
    device = SHG(ideal=True)
    p = device.parameters
    x, theta = (np.ones((1, 50)), np.ones((1, 50))) if kind == "all open" else (RNG.random((1, 50)), RNG.random((1, 50)))
    points, n = len(device.frequency), device.fft_length
    amplitude = np.repeat(device.channel_amplitudes(x, theta)[0], device.points_per_channel)
    field = np.zeros(n, complex)
    field[:points] = amplitude * shg.laser_field(device.frequency, p.duration)
    spacing = 2 * np.pi * (device.frequency[1] - device.frequency[0])
    first = 2 * np.pi * (LIGHT_SPEED / p.wavelength + device.frequency[0])
    omega, omega2 = first + spacing * np.arange(n), 2 * first + spacing * np.arange(n)
    k1, k2 = shg.wave_vectors(p.wavelength)
    # Coupling from d_eff = 2.0 pm/V and the peak intensity: kappa^2 = 8 pi^2 d^2 I / (eps0 c n^3 lambda^2).
    index = shg.refractive_indices(p.wavelength)[0]
    kappa = np.sqrt(8 * np.pi**2 * (2.0e-12) ** 2 * p.peak_intensity / (8.854e-12 * LIGHT_SPEED * index**3 * p.wavelength**2))
    peak = shg.laser_field(device.frequency, p.duration).sum()  # the unshaped pulse's field at its peak, all channels open
    harmonic = broadband(field, omega, omega2, k1(omega), k2(omega2), kappa / peak, p.crystal_length)
    conversion = (np.abs(harmonic) ** 2).sum() / (np.abs(field) ** 2).sum()
    sums = 2 * device.frequency[0] + (device.frequency[1] - device.frequency[0]) * np.arange(2 * points - 1)
    bins = np.abs(harmonic[: 2 * points - 1]) ** 2 @ shg.bin_weights(sums, 50, p.bin_width, 0.0)
    measured = device(x, theta)[0]
    assert 1e-5 < conversion < 0.02  # weak conversion, as the device assumes
    assert np.abs(measured / measured.max() - bins / bins.max()).max() < 5e-3


def test_second_harmonic_grows_with_the_fourth_power_of_the_amplitude():
    device, x, theta = SHG(ideal=True), np.full((1, 50), 1.0), np.full((1, 50), 1.0)
    assert device(x / 2, theta / 2) == pytest.approx(device(x, theta) / 16, rel=1e-5)


def test_crosstalk_loses_no_light_inside_and_is_symmetric():
    matrix = shg.crosstalk_matrix(100, 0.5)
    assert matrix[10:90].sum(1) == pytest.approx(np.ones(80), abs=1e-12)
    assert np.array_equal(matrix, matrix.T)


def test_spectrometer_bins_keep_the_total():
    frequency = np.linspace(-4e12, 4e12, 300)
    weights = shg.bin_weights(frequency, 50, 0.25e12, 0.59e12)
    assert weights.sum(1) == pytest.approx(np.full(300, (frequency[1] - frequency[0]) / 0.25e12), rel=1e-3)


def test_shot_and_read_noise_have_the_stated_variance():
    device = SHG(ideal=True, shot_noise=1.0, read_noise=20.0)
    quiet = SHG(ideal=True)
    x, theta = np.full((4000, 50), 0.9), np.full(50, 0.8)
    expected = quiet(x[:1], theta)[0] / 5e4 + (20 / 5e4) ** 2
    readings = device(x, theta)
    assert readings.var(0) == pytest.approx(expected, rel=0.15)
    assert np.abs(readings.mean(0) - quiet(x[:1], theta)[0]).max() < 6 * np.sqrt(expected.max() / 4000)


@pytest.mark.parametrize("knob, value", [
    ("resolution", 0.59e12), ("group_delay_dispersion", 8e-28), ("third_order_dispersion", 3e-41), ("spectrum_ripple", 0.05),
    ("crosstalk", 0.5), ("response_curvature", 0.3), ("channel_gain_spread", 0.03), ("leakage", 0.01), ("dead_channels", 2),
    ("pulse_energy_noise", 0.003), ("power_drift", 0.005), ("shot_noise", 1.0), ("read_noise", 20.0)])
def test_each_imperfection_alone_changes_the_reading(knob, value):
    x, theta = np.random.default_rng(5).random((3, 50)), np.random.default_rng(6).random(50)
    assert not np.array_equal(SHG(ideal=True, **{knob: value})(x, theta), SHG(ideal=True)(x, theta))


def test_power_drift_comes_back_after_its_period():
    device = SHG(ideal=True, power_drift=0.005, drift_period=1.0)  # 100 passes of 10 ms
    y = device(np.ones((101, 50)), np.ones(50))
    assert y[100] == pytest.approx(y[0], rel=1e-5)
    assert np.ptp(y.max(1)) / y.max() == pytest.approx(0.02, rel=0.1)  # amplitude 0.5 % in power, squared by the crystal


def test_dead_channels_stay_dark():
    device = SHG(seed=0, ideal=True, dead_channels=2)
    assert (device.channel_amplitudes(np.ones((1, 50)), np.ones((1, 50))) == 0).sum() == 2
