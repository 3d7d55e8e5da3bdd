"""Physics of the SHG device: closed forms, published constants, the coupled-wave equations."""

import numpy as np
import pytest
import torch
from scipy.constants import c, epsilon_0
from scipy.special import ellipj

from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.shg import optics
from pnn_utils.systems.shg.device import SHG, TABLE
from pnn_utils.systems.shg.model import ExactSHG
from tests.referees.coupled_wave import nonlinear_length, plane_wave, pulses

D_EFF = 2.0e-12  # m/V, type-I BBO near 800 nm
OMEGA = 2 * np.pi * c / 780e-9
INDEX = optics.refractive_indices(780e-9)[0]
IMPERFECTIONS = {
    "resolution": 0.59e12,
    "group_delay_dispersion": 8e-28,
    "third_order_dispersion": 3e-41,
    "spectrum_ripple": 0.05,
    "crosstalk": 0.5,
    "response_curvature": 0.3,
    "channel_gain_spread": 0.03,
    "leakage": 0.01,
    "dead_channels": 2,
    "pulse_energy_noise": 0.003,
    "power_drift": 0.005,
    "shot_noise": 1.0,
    "read_noise": 20.0,
    "pointing": 0.2,
}


def random_controls(n, seed=0):
    """All open first, then uniform, the last third open or shut, in order of frequency."""
    rng = np.random.default_rng(seed)
    controls = rng.random((n, 100))
    controls[2 * n // 3 :] = controls[2 * n // 3 :] > 0.5
    controls[0] = 1
    return controls


def read(device, controls):
    return device(controls[:, 0::2], controls[:, 1::2])


def difference(a, b):
    """Largest difference of each two spectra, relative to their own peaks."""
    return np.abs(a / a.max(1, keepdims=True) - b / b.max(1, keepdims=True)).max(1)


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.0])
def test_phase_matched_conversion_is_tanh_squared_and_leaves_sech_squared(strength):
    intensity = 1e13
    length = strength * nonlinear_length(intensity, OMEGA, INDEX, INDEX, D_EFF)
    left, harmonic = plane_wave(intensity, OMEGA, INDEX, INDEX, D_EFF, 0.0, length)
    assert harmonic / intensity == pytest.approx(np.tanh(strength) ** 2, rel=1e-7)
    assert left / intensity == pytest.approx(1 / np.cosh(strength) ** 2, rel=1e-7)


@pytest.mark.parametrize("half_phase", [0.0, 0.5, 1.5, 4.0])
def test_weak_conversion_is_the_textbook_number_times_sinc_squared(half_phase):
    n1, n2, length, intensity = 1.66, 1.70, 0.5e-3, 1e8
    efficiency = 2 * OMEGA**2 * D_EFF**2 * length**2 * intensity / (n1**2 * n2 * epsilon_0 * c**3)
    _, harmonic = plane_wave(intensity, OMEGA, n1, n2, D_EFF, 2 * half_phase / length, length)
    expected = efficiency * np.sinc(half_phase / np.pi) ** 2
    assert harmonic / intensity == pytest.approx(expected, rel=1e-5)


def test_depletion_with_mismatch_follows_the_elliptic_function_and_conserves_energy():
    intensity, mismatch = 1e13, 1.3
    unit = nonlinear_length(intensity, OMEGA, INDEX, INDEX, D_EFF)
    edge = 1 / (mismatch / 4 + np.sqrt(1 + (mismatch / 4) ** 2))  # Armstrong et al. 1962
    for strength in (0.5, 1.5, 3.0):
        crystal = mismatch / unit, strength * unit
        left, harmonic = plane_wave(intensity, OMEGA, INDEX, INDEX, D_EFF, *crystal, steps=1000)
        expected = (edge * ellipj(strength / edge, edge**4)[0]) ** 2
        assert harmonic / intensity == pytest.approx(expected, rel=1e-6)
        assert (left + harmonic) / intensity == pytest.approx(1, abs=1e-9)


def wave_vectors(wavelength):
    """Functions of omega: the wave vectors of fundamental and second harmonic."""
    return [lambda omega, n=n: optics.wave_vectors(omega, wavelength)[n] for n in range(2)]


def propagate(device, controls, points, intensity=None):
    """The referee on its own grid of `points` a channel, before and after the crystal.

    `intensity` is that of the laser's unshaped pulse.
    """
    p = device.parameters
    spacing, n = p.channel_spacing / points, 100 * points
    offsets = (np.arange(n) - (n - 1) / 2) * spacing
    bandwidth = 2 * np.log(2) / (np.pi * p.duration)  # Hz, full width at half the intensity
    field = np.zeros((len(controls), 4 * n), complex)
    field[:, :n] = np.repeat(controls, points, 1) * 2 ** (-2 * (offsets / bandwidth) ** 2)
    # The unshaped Gaussian, tails beyond the channels included, would add up to this peak field.
    whole = bandwidth / spacing * np.sqrt(np.pi / (2 * np.log(2)))
    field *= np.sqrt((intensity or p.peak_intensity) / (2 * INDEX * epsilon_0 * c)) / whole
    light = field, offsets[0], spacing, c / p.wavelength, *wave_vectors(p.wavelength), D_EFF
    return pulses(*light, length=0.0), pulses(*light, p.crystal_length)


def in_bins(frequency, energy, p):
    """Energy in the 50 bins: differences of the running sum, nothing of the device's bins."""
    order = np.argsort(frequency)
    half = (frequency[order[1]] - frequency[order[0]]) / 2
    upper = frequency[order] - 2 * c / p.wavelength + half
    edges = np.arange(-25, 26) * p.bin_width
    totals = np.cumsum(energy[:, order], axis=1)
    return np.diff([np.interp(edges, upper, total) for total in totals], axis=1)


def test_pulses_conserve_energy_and_photon_number_at_strong_conversion():
    before, after = propagate(SHG(ideal=True), random_controls(3), 4, intensity=3e14)
    frequency1, frequency2, in1, _ = before
    _, _, out1, out2 = after
    assert (out2.sum(1) / in1.sum(1))[0] > 0.3
    assert (out1 + out2).sum(1) == pytest.approx(in1.sum(1), rel=1e-6)
    # Manley-Rowe: two photons of the fundamental for each of the second harmonic.
    photons = (out1 / frequency1 + 2 * out2 / frequency2).sum(1)
    assert photons == pytest.approx((in1 / frequency1).sum(1), rel=1e-6)


def test_device_agrees_with_the_coupled_wave_equations_at_its_peak_intensity():
    # Measured, relative to each spectrum's own peak: at most 0.6 % (0.14 % all open), 1.9 % with
    # channels shut at random. 0.1 % is the fundamental's dispersion, 0.02 % depletion, the rest
    # the grid of two points a channel.
    device, controls = SHG(ideal=True), random_controls(30)
    before, (_, frequency, _, harmonic) = propagate(device, controls, 8)
    conversion = harmonic.sum(1) / before[2].sum(1)
    assert conversion[0] == pytest.approx(0.0054, rel=0.02)  # all open
    assert (conversion[1:] < 0.002).all()
    expected, measured = in_bins(frequency, harmonic, device.parameters), read(device, controls)
    error = difference(measured, expected)
    assert error[0] < 0.002 and error[:20].max() < 0.007 and error.max() < 0.021
    # One scale serves every control: the device's units are the same charge for all of them.
    scale = measured[0].max() / expected[0].max()
    assert np.abs(measured - scale * expected).max() < 0.005


def test_fine_grid_explains_the_difference():
    device, controls = SHG(ideal=True, points_per_channel=8), random_controls(12, seed=1)
    _, (_, frequency, _, harmonic) = propagate(device, controls, 8, intensity=1e6)
    omega = 2 * np.pi * frequency
    index = optics.wave_vectors(omega, device.parameters.wavelength)[1] * c / omega
    expected = in_bins(frequency, harmonic * index, device.parameters)
    # Measured 1.1e-3: the fundamental's dispersion inside dk.
    assert difference(read(device, controls), expected).max() < 2e-3


def test_full_scale_is_the_brightest_bin_with_all_channels_open():
    y = read(SHG(ideal=True), np.ones((1, 100)))
    assert y.max() == pytest.approx(1, abs=1e-3) and y.argmax() in (24, 25)
    assert y[0] == pytest.approx(y[0, ::-1], abs=0.02)  # phase matching is all but symmetric


@pytest.mark.parametrize("wavelength, degrees", [(800e-9, 29.2), (1064e-9, 22.8)])
def test_bbo_phase_matching_angle_is_the_published_one(wavelength, degrees):
    assert np.degrees(optics.phase_matching_angle(wavelength)) == pytest.approx(degrees, abs=0.05)


def test_sellmeier_equation_agrees_with_a_second_published_one():
    # Eimerl et al., J. Appl. Phys. 62, 1968 (1987), fitted to other measurements: indices to a few
    # 1e-3, angle to 0.2 degrees.
    for wavelength in (390e-9, 400e-9, 532e-9, 780e-9, 800e-9, 1060e-9):
        square = (wavelength * 1e6) ** 2
        other = (
            np.sqrt(2.7405 + 0.0184 / (square - 0.0179) - 0.0155 * square),
            np.sqrt(2.3730 + 0.0128 / (square - 0.0156) - 0.0044 * square),
        )
        assert optics.refractive_indices(wavelength) == pytest.approx(other, abs=4e-3)


def test_phase_matching_is_exact_at_the_centre_and_falls_with_the_group_velocity_mismatch():
    k1, k2 = wave_vectors(800e-9)
    omega, h = 2 * np.pi * c / 800e-9, 1e10
    assert k2(2 * omega) == pytest.approx(2 * k1(omega), rel=1e-12)
    slow, fast = k2(2 * omega + h) - k2(2 * omega - h), k1(omega + h) - k1(omega - h)
    delay = (slow - fast) / (2 * h)
    assert delay * 1e12 == pytest.approx(194, abs=2)  # fs/mm; the harmonic is the slower one
    # First zeros where the delay through the crystal is one period of the offset; dispersion of
    # higher order moves both one way.
    length, offset = 0.5e-3, np.linspace(5e12, 15e12, 4001)
    zeros = [offset[np.abs(optics.phase_matching(side * offset, 800e-9, length)).argmin()]
             for side in (-1, 1)]
    assert np.mean(zeros) == pytest.approx(1 / (delay * length), rel=0.01)


def test_laser_spectrum_is_the_transform_of_a_pulse_of_the_stated_duration():
    half = 0.4413 / 100e-15 / 2
    assert optics.laser_field(np.array([half]), 100e-15)[0] ** 2 == pytest.approx(0.5, rel=1e-3)
    frequency = np.arange(-32768, 32768) * 10e9
    field = np.fft.ifftshift(optics.laser_field(frequency, 100e-15))
    intensity = np.abs(np.fft.fftshift(np.fft.fft(field))) ** 2
    time = np.fft.fftshift(np.fft.fftfreq(len(frequency), 10e9))
    above = time[intensity > intensity.max() / 2]
    assert np.ptp(above) / 100e-15 == pytest.approx(1, abs=0.04)  # samples are 1.5 fs apart


def test_fft_equals_direct_convolution():
    device = SHG(seed=3, ideal=True, group_delay_dispersion=800e-30, third_order_dispersion=30e-42)
    for controls in random_controls(6):
        amplitude = device.channel_amplitudes(controls[None, 0::2], controls[None, 1::2])[0]
        field = np.repeat(amplitude.astype(float), device.points_per_channel) * device._field
        expected = np.abs(np.convolve(field, field)) ** 2 @ device._weights.astype(float)
        assert np.abs(read(device, controls[None])[0] - expected).max() < 2e-6 * expected.max()


# Largest change of a bin in 20,000 patterns, in units of full scale: uniform 5e-4, open or shut
# 3e-3, every second channel shut 1.1e-2, a tenth of that spectrum's own peak. Hard edges from
# channel to channel are what two points resolve least.
@pytest.mark.parametrize("pattern, bound", [
    ("uniform", 1e-3), ("open or shut", 4e-3), ("every second channel", 1.2e-2)])
def test_two_points_per_channel_are_as_converged_as_stated(pattern, bound):
    controls = np.random.default_rng(4).random((300, 100))
    if pattern == "open or shut":
        controls = np.round(controls)
    if pattern == "every second channel":
        controls = np.tile([[1.0, 0.0], [0.0, 1.0]], (1, 50))
    coarse, fine = (read(SHG(seed=1, ideal=True, points_per_channel=n), controls) for n in (2, 8))
    assert np.abs(coarse - fine).max() < bound


def test_second_harmonic_grows_with_the_fourth_power_of_the_amplitude():
    device, controls = SHG(ideal=True), random_controls(9)
    expected = read(device, controls) / 16
    assert read(device, controls / 2) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_crosstalk_loses_no_light_inside_and_is_symmetric():
    matrix = optics.crosstalk_matrix(100, 0.5)
    assert matrix[10:90].sum(1) == pytest.approx(np.ones(80), abs=1e-12)
    assert np.array_equal(matrix, matrix.T)
    assert matrix[50, 51] / matrix[50, 50] == pytest.approx(np.exp(-0.5 / 0.5**2))


@pytest.mark.parametrize("resolution", [0.0, 0.59e12])
def test_spectrometer_bins_keep_the_total(resolution):
    frequency = np.linspace(-4e12, 4e12, 300)
    weights = optics.bin_weights(frequency, 50, 0.25e12, resolution)
    spacing = frequency[1] - frequency[0]
    assert weights.sum(1) == pytest.approx(np.full(300, spacing / 0.25e12), rel=1e-3)


def test_spectrometer_line_has_the_stated_width():
    weights = optics.bin_weights(np.array([0.0, 1e9]), 4000, 2e9, 0.59e12)[0]
    assert np.sum(weights > weights.max() / 2) * 2e9 == pytest.approx(0.59e12, rel=0.01)


@pytest.mark.parametrize("shot, read_out", [(1.0, 0.0), (0.0, 200.0), (1.0, 20.0), (2.0, 0.0)])
def test_shot_and_read_noise_have_the_stated_variance(shot, read_out):
    device = SHG(ideal=True, shot_noise=shot, read_noise=read_out)
    x, theta = np.full((4000, 50), 0.9), np.full(50, 0.8)
    mean = SHG(ideal=True)(x[:1], theta)[0]
    expected = shot**2 * mean / 5e4 + (read_out / 5e4) ** 2
    readings = device(x, theta)
    assert readings.var(0) == pytest.approx(expected, rel=0.15)
    assert np.abs(readings.mean(0) - mean).max() < 6 * np.sqrt(expected.max() / 4000)
    # Independent from bin to bin and from reading to reading.
    off = np.corrcoef(readings.T) - np.eye(50)
    assert np.abs(off).max() < 6 / np.sqrt(4000)
    assert abs(np.corrcoef(readings[:-1, 25], readings[1:, 25])[0, 1]) < 6 / np.sqrt(4000)


def test_pulse_energy_noise_scales_whole_spectra_twice_as_strongly():
    device = SHG(ideal=True, pulse_energy_noise=0.003)
    readings = device(np.full((4000, 50), 0.9), np.full(50, 0.8))
    total = readings.sum(1, keepdims=True)
    # The crystal squares the energy.
    assert total.std() / total.mean() == pytest.approx(0.006, rel=0.08)
    shape = readings / total
    np.testing.assert_allclose(shape, np.broadcast_to(shape[0], shape.shape), rtol=1e-4)


def test_every_imperfection_is_known_to_these_tests():
    named = {row.name for row in parameter_table(TABLE) if row.off is not None}
    assert named == set(IMPERFECTIONS)


@pytest.mark.parametrize("knob", IMPERFECTIONS)
def test_each_imperfection_alone_changes_the_reading(knob):
    controls = random_controls(6)
    with_it = read(SHG(ideal=True, **{knob: IMPERFECTIONS[knob]}), controls)
    assert np.abs(with_it - read(SHG(ideal=True), controls)).max() > 1e-4


@pytest.mark.parametrize("knob, value", [("drift_period", 1.0), ("full_well", 1e3)])
def test_numbers_of_a_switched_off_imperfection_change_nothing(knob, value):
    controls, changed = random_controls(6), SHG(ideal=True, **{knob: value})
    assert np.array_equal(read(changed, controls), read(SHG(ideal=True), controls))


def test_residual_dispersion_has_the_stated_spread_over_copies():
    spread, found = {"group_delay_dispersion": 8e-28, "third_order_dispersion": 3e-41}, []
    for seed in range(200):
        device = SHG(seed=seed, ideal=True, **spread)
        phase = np.unwrap(np.angle(device._field))
        fit = np.polynomial.Polynomial.fit(2 * np.pi * device.frequency, phase, 3)
        found.append(fit.convert().coef[2:] * (2, 6))
    gdd, tod = np.std(found, axis=0)
    assert gdd / 8e-28 == pytest.approx(1, abs=0.2) and tod / 3e-41 == pytest.approx(1, abs=0.2)
    assert np.abs(np.mean(found, axis=0) / (gdd, tod)).max() < 4 / np.sqrt(200)


def test_exact_gradients_are_those_of_the_noiseless_device():
    quiet = {"shot_noise": 0.0, "read_noise": 0.0, "pulse_energy_noise": 0.0, "power_drift": 0.0}
    device = SHG(seed=3, pointing=0.3, **quiet)
    model, (x, theta) = ExactSHG(device), np.random.default_rng(0).uniform(0.05, 0.95, (2, 4, 50))
    y = model(torch.tensor(x), torch.tensor(theta)).numpy()
    assert np.abs(y - device(x, theta)).max() < 1e-6
    assert torch.equal(model(torch.tensor(x), torch.tensor(theta[0])),
                       model(torch.tensor(x), torch.tensor(theta[:1]).expand(4, -1)))
    leaves = [torch.tensor(values, requires_grad=True) for values in (x[:1], theta[:1])]
    assert torch.autograd.gradcheck(model, leaves)


@pytest.mark.parametrize("points", [1, 2, 3])
def test_the_written_adjoint_of_the_crystal_is_autograds(points):
    model = ExactSHG(SHG(seed=3, pointing=0.3, points_per_channel=points))
    controls = torch.tensor(np.random.default_rng(1).uniform(0.05, 0.95, (2, 7, 50)))
    leaves, g = [row.requires_grad_() for row in controls.unbind()], torch.rand(7, 50).double()
    expected = torch.autograd.grad(model(*leaves), leaves, g)
    for found, one in zip(model.pullback(g, None, *leaves), expected, strict=True):
        assert torch.allclose(found, one, rtol=1e-9, atol=1e-9 * float(one.abs().max()))


def test_pointing_moves_the_colours_by_whole_channels():
    controls = np.zeros((1, 100))
    controls[0, 20:80] = np.random.default_rng(4).uniform(0.2, 1, 60)
    # Channel k carries the colour that channel k + 2 had: the same light needs controls two lower.
    expected = read(SHG(ideal=True), controls)
    moved = read(SHG(ideal=True, pointing=2.0), np.roll(controls, -2, axis=1))
    assert np.abs(moved - expected).max() < 1e-5 * expected.max()
    unmoved = read(SHG(ideal=True, pointing=2.0), controls)
    assert np.abs(unmoved - expected).max() > 0.05 * expected.max()


def test_one_knob_leaves_the_other_errors_of_a_copy_as_they_were():
    copy = SHG(seed=5)
    other = SHG(seed=5, spectrum_ripple=0.0, dead_channels=0, group_delay_dispersion=0.0)
    alive = copy._gain > 0
    assert np.array_equal(copy._gain[alive], other._gain[alive]) and not (other._gain == 0).any()
    assert copy._cycle_start == other._cycle_start


def test_power_drift_comes_back_after_its_period():
    device = SHG(ideal=True, power_drift=0.005, drift_period=1.0)  # 100 passes of 10 ms
    # Time runs on from call to call.
    y = np.concatenate([device(np.ones((n, 50)), np.ones(50)) for n in (40, 61)])
    assert y[100] == pytest.approx(y[0], rel=1e-5)
    # Amplitude 0.5 % in power, squared by the crystal.
    assert np.ptp(y.max(1)) / y.max() == pytest.approx(0.02, rel=0.1)
    assert np.abs(np.diff(y.max(1))).max() < 0.02 * np.pi / 100 * 1.05


@pytest.mark.parametrize("count", [1, 2, 7])
def test_dead_channels_stay_dark(count):
    device = SHG(seed=0, ideal=True, dead_channels=count)
    assert (device.channel_amplitudes(np.ones((1, 50)), np.ones((1, 50))) == 0).sum() == count


def test_dark_channels_leak_and_open_channels_stay_open():
    device = SHG(ideal=True, leakage=0.01)
    for control, amplitude in ((0.0, 0.01), (1.0, 1.0)):
        row, expected = np.full((1, 50), control), np.full((1, 100), amplitude)
        assert device.channel_amplitudes(row, row) == pytest.approx(expected, rel=1e-6)


def test_response_bends_between_fixed_ends():
    device = SHG(ideal=True, response_curvature=0.3)
    for control, amplitude in ((0.0, 0.0), (0.5, 0.5 + 0.3 * (np.sqrt(0.5) - 0.5)), (1.0, 1.0)):
        row, expected = np.full((1, 50), control), np.full((1, 100), amplitude)
        assert device.channel_amplitudes(row, row) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_data_and_parameters_alternate_in_the_spectrum():
    x, theta = np.full((1, 50), 0.25), np.full((1, 50), 0.75)
    amplitudes = SHG(ideal=True).channel_amplitudes(x, theta)[0]
    assert np.array_equal(amplitudes, np.tile([0.25, 0.75], 50).astype(np.float32))


def test_a_laser_that_the_crystal_cannot_double_is_refused():
    assert np.isfinite(optics.phase_matching_angle(0.41e-6))
    with pytest.raises(ValueError, match="wavelength is 4.09e-07; expected 4.1e-07 to"):
        SHG(wavelength=0.409e-6)
