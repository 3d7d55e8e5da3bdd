"""The plate device against published frequencies, closed forms and an independent solver."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from pnn_utils.systems.base import make_parameters, parameter_table
from pnn_utils.systems.plate.device import TABLE, Plate
from pnn_utils.systems.plate.equations import DEGREE, bending, polynomials, state_space

# J. Sound Vib. 31, 257 (1973): completely free square plate, nu = 0.3
LEISSA = [13.489, 19.789, 24.432, 35.024, 35.024, 61.526]
NONLINEAR = ["force_factor_slope", "force_factor_curvature", "stiffness_slope",
             "stiffness_curvature", "stretching"]
FABRICATION = ["offset_of_coil", "offset_of_microphone", "size_tolerance", "driver_tolerance",
               "q_spread"]
SILENT = {"sound_noise": 0.0, "timing_jitter": 0.0, "adc_bits": 0}
LINEAR = SILENT | dict.fromkeys(NONLINEAR, 0.0)


def free_plate_modes(n_modes, poisson, aspect=1.0, degree=DEGREE):
    """Frequency parameters and shapes, a function of x and y, of the lowest elastic modes."""
    squares, vectors = scipy.linalg.eigh(bending(poisson, aspect, degree),
                                         subset_by_index=[3, 2 + n_modes])
    return SimpleNamespace(frequency_parameter=np.sqrt(squares), shapes=lambda x, y: np.tensordot(
        vectors.T, polynomials(x, y, degree), 1))


def beam_function_ritz(terms, poisson, aspect=1.0, modes=6):
    """Ritz with products of free-free beam functions, Leissa's own basis, no Legendre in it."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    x, weights = (nodes + 1) / 2, weights / 2
    functions = [(np.ones_like(x), 0 * x, 0 * x), (x - 0.5, np.ones_like(x), 0 * x)]
    for k in range(1, terms - 1):
        middle = (k + 0.5) * np.pi
        b = brentq(lambda b: np.cos(b) - 1 / np.cosh(b), middle - 0.3, middle + 0.3)
        ratio = (np.cosh(b) - np.cos(b)) / (np.sinh(b) - np.sin(b))
        s, c, sh, ch = np.sin(b * x), np.cos(b * x), np.sinh(b * x), np.cosh(b * x)
        functions.append((ch + c - ratio * (sh + s), b * (sh - s - ratio * (ch + c)),
                          b * b * (ch - c - ratio * (sh - s))))
    value, slope, curvature = np.array(functions).transpose(1, 0, 2)
    pairs = (value, value), (slope, slope), (curvature, curvature), (curvature, value)
    mass, twisted, bent, mixed = ((f * weights) @ g.T for f, g in pairs)
    r = aspect**2
    stiffness = (np.kron(bent, mass) + r**2 * np.kron(mass, bent)
                 + poisson * r * (np.kron(mixed, mixed.T) + np.kron(mixed.T, mixed))
                 + 2 * (1 - poisson) * r * np.kron(twisted, twisted))
    squares = scipy.linalg.eigh(stiffness, np.kron(mass, mass), eigvals_only=True)
    return np.sqrt(squares[3:3 + modes])


def test_leissas_frequency_parameters_with_his_basis():
    # His 6 x 6 beam functions do not satisfy the free edges' conditions and converge slowly: they
    # are upper bounds.
    assert beam_function_ritz(6, 0.3) == pytest.approx(LEISSA, rel=1e-4)


def test_frequency_parameters_are_the_limit_of_leissas_series():
    found = free_plate_modes(6, 0.3).frequency_parameter
    differences = np.array(LEISSA) / found - 1
    # Converged values lie below his by up to 1 %: 0.15, 0.98, 0.67, 0.64, 0.64, 0.71 %.
    assert (differences > 0).all() and differences.max() < 0.01
    bounds = np.array([beam_function_ritz(n, 0.3) for n in (6, 8, 12, 16)])
    assert (np.diff(bounds, axis=0) < 0).all() and (bounds > found).all()
    excess = bounds / found - 1
    assert (excess[-1] < 0.4 * excess[0]).all()  # on their way to the same limit


def test_frequency_parameters_agree_with_later_published_ones():
    # Recalled from the literature on the superposition method (Gorman 1978 and later).
    published = [13.468, 19.596, 24.270, 34.801, 34.801, 61.093]
    assert free_plate_modes(6, 0.3).frequency_parameter == pytest.approx(published, rel=1e-4)


def test_rayleigh_ritz_converges_from_above_and_exponentially():
    found = np.array([free_plate_modes(16, 0.34, degree=n).frequency_parameter
                      for n in (8, 10, 12, 14, 20)])
    assert (np.diff(found, axis=0) < 1e-6).all()
    error = (found[:-1] / found[-1] - 1).max(1)
    assert (error[1:3] < error[:2] / 10).all() and error[3] < 1e-6


@pytest.mark.parametrize("poisson, aspect", [(0.0, 1.0), (0.225, 1.0), (0.34, 1.5), (0.3, 2.5)])
def test_other_plates_keep_order_and_symmetry(poisson, aspect):
    modes = free_plate_modes(10, poisson, aspect)
    assert (np.diff(modes.frequency_parameter) > -1e-9).all() and modes.frequency_parameter[0] > 1
    # Turned by 90 degrees it is the same plate; its parameter then refers to the other side.
    turned = free_plate_modes(10, poisson, 1 / aspect).frequency_parameter * aspect**2
    assert turned == pytest.approx(modes.frequency_parameter, rel=1e-6)
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    shapes = modes.shapes(x, y)
    for shape, parameter in zip(shapes, modes.frequency_parameter, strict=True):
        alone = np.sum(np.abs(modes.frequency_parameter / parameter - 1) < 1e-6) == 1
        if alone:  # each mode of its own frequency is even or odd in x and in y
            for mirrored in (shape[::-1], shape[:, ::-1]):
                difference = min(np.abs(mirrored - shape).max(), np.abs(mirrored + shape).max())
                assert difference < 1e-5 * np.abs(shape).max()
    found = modes.frequency_parameter
    if aspect == 1:  # the pair of the square
        assert found[3] == pytest.approx(found[4], rel=1e-9)
    assert beam_function_ritz(8, poisson, aspect) == pytest.approx(found[:6], rel=0.012)


@pytest.mark.parametrize("changes", [{"n_modes": 0}, {"n_modes": 101}, {"poisson": 0.5},
                                     {"side": -0.1}, {"thickness": np.nan}])
def test_bad_plates_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is .*; expected .*unit"):
        Plate(**changes)


def test_modes_are_normalised_and_balance_the_rigid_ones():
    modes = free_plate_modes(8, 0.3)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    x, y = np.meshgrid(nodes, nodes)
    area = np.outer(weights, weights) / 4
    shapes = modes.shapes(x, y)
    assert np.einsum("kij,lij,ij->kl", shapes, shapes, area) == pytest.approx(np.eye(8), abs=1e-9)
    for rigid in (np.ones_like(x), x, y):
        assert (shapes * rigid * area).sum((1, 2)) == pytest.approx(0, abs=1e-9)


def test_impulse_response_is_the_analytic_modal_sum():
    # With a weak motor the current does not feel the motion, and every pole is known in closed
    # form: the answer to a voltage pulse is a sum of residues, mode by mode.
    changes = {"force_factor": 1e-6, "sensitivity": 1e3, "periods": 1}
    p = make_parameters(TABLE, **dict.fromkeys(FABRICATION, 0.0), **changes)
    space = state_space(p)
    n = p.n_modes + 1
    omega = 2 * np.pi * space.frequencies
    q = np.array([p.suspension_q] + [p.mode_q] * p.n_modes)
    at_coil = space.speed[n:2 * n]
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    coil = p.coil_resistance / p.coil_inductance
    air, heard = delay_line(p, space)
    t = np.arange(1, 197) / p.sample_rate
    step = np.zeros(len(t) + 1)  # answer to a voltage step, at t = 0, 1, 2 ...
    ear_poles = np.roots([1, ear / p.microphone_q, ear**2])
    for k in range(n):
        mode_poles = np.roots([1, omega[k] / q[k], omega[k] ** 2])
        motor = p.sensitivity * p.force_factor / p.coil_inductance * at_coil[k] * ear**2
        for late, share in zip(air, heard[:, k], strict=True):
            poles = np.concatenate([mode_poles, ear_poles, [-high, -coil, late]])
            # H(s) / s = motor share s^2 / (product of s - pole): the high-pass cancels 1 / s
            for i, pole in enumerate(poles):
                residue = motor * share * pole**2 / np.prod(pole - np.delete(poles, i))
                step[1:] += (residue * np.exp(pole * t)).real
    expected = p.amplifier_gain * np.diff(step) / p.full_scale
    found = Plate(ideal=True, **changes)(np.eye(196)[:1], np.zeros(0))[0]
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def delay_line(p, space):
    """Poles of the air's delay line, and their residues in pressure per modal acceleration."""
    n = p.n_modes + 1
    line, ahead = space.matrix[2 * n + 4:, 2 * n + 4:], space.matrix[2 * n + 2, 2 * n + 4:]
    heard = -space.matrix[2 * n + 4:, :n] / (2 * np.pi * space.frequencies)
    poles, vectors = np.linalg.eig(line)
    ear = 2 * np.pi * p.microphone_resonance
    return poles, (ahead / ear @ vectors)[:, None] * np.linalg.solve(vectors, heard)


def equations_of_motion(p, space):
    """The module's equations written out for scipy, with forces where the device has kicks."""
    b0, k0 = space.force_factor, space.suspension

    def slope(t, s, volts):
        rows = space.excursion, space.speed, space.current, space.deflection
        x, v, i, d = (row @ s for row in rows)
        e = x / p.excursion
        more_b = b0 * (p.force_factor_slope * e + p.force_factor_curvature * e**2)
        more_k = k0 * (p.stiffness_slope * e + p.stiffness_curvature * e**2)
        return (space.matrix @ s + space.voltage * (volts - more_b * v)
                + space.force * (more_b * i - more_k * x)
                - space.stretch * space.stretch_stiffness * d**3)

    return slope


@pytest.fixture(scope="module")
def driven():
    """Hard, lopsided drives of 60 samples, and an independent solution at tight tolerance."""
    drive = np.clip(np.random.default_rng(0).normal(0.4, 0.5, (4, 60)), -1, 1)
    p = make_parameters(TABLE, periods=1)
    space = state_space(p, 3)
    slope, expected = equations_of_motion(p, space), np.zeros(drive.shape)
    for row, volts in enumerate(p.amplifier_gain * drive):
        s = np.zeros(len(space.matrix))
        for t, u in enumerate(volts):
            sample = solve_ivp(slope, (0, 1 / p.sample_rate), s, "DOP853", args=(u,),
                               rtol=1e-10, atol=1e-14)
            s = sample.y[:, -1]
            expected[row, t] = space.sound @ s
    return drive, expected


def test_waveforms_agree_with_an_independent_solver(driven):
    drive, expected = driven
    device = Plate(seed=3, periods=1, samples=60, steps_per_sample=64)
    found = device.trajectory(drive, device.space.sound[None])[..., 0]
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


def test_splitting_converges_at_second_order_and_one_step_is_enough(driven):
    drive, expected = driven
    steps, errors = np.array([1, 2, 4, 8, 16]), []
    for n in steps:
        device = Plate(seed=3, periods=1, samples=60, steps_per_sample=int(n))
        found = device.trajectory(drive, device.space.sound[None])[..., 0]
        errors.append((found - expected).std() / expected.std())
    order = -np.polyfit(np.log(steps[1:]), np.log(errors[1:]), 1)[0]
    assert 1.8 < order < 2.3
    assert errors[0] < 1e-3  # of the rms, drives twice as lopsided as images; the noise is 3e-3


def test_the_small_signal_limit_is_a_linear_convolution():
    device, linear = Plate(seed=1, **SILENT), Plate(seed=1, **LINEAR, periods=1, samples=392)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 196))
    answer = linear(np.eye(392)[:1], np.zeros(0))[0]
    expected = np.array([np.convolve(np.tile(row, 2), answer)[196:392] for row in x])
    small = device(1e-3 * x, np.zeros(0)) / 1e-3
    assert np.abs(small - expected).max() < 1e-4 * np.abs(expected).max()
    full = device(x, np.zeros(0))
    assert np.abs(full - expected).max() > 1e-3 * np.abs(expected).max()  # at full drive it is not


def test_energy_never_grows_without_drive():
    samples = 400
    x = np.zeros((3, samples))
    x[:, :60] = np.clip(np.random.default_rng(1).normal(0.5, 0.5, (3, 60)), -1, 1)
    for nonlinear in (False, True):
        device = Plate(seed=2, periods=1, samples=samples, **({} if nonlinear else LINEAR))
        p, space = device.parameters, device.space
        s = device.trajectory(x, np.eye(len(space.matrix)))
        weights = np.full(len(space.matrix), 0.5)  # of w_k z_k and z_k'
        first = 2 * (p.n_modes + 1)  # after the modes: L / 2, and nothing for what only listens
        weights[first:] = 0.5 * (np.arange(len(weights) - first) == 0) / (
            space.current @ space.voltage)
        energy = (s**2 * weights).sum(-1)
        excursion, bend = s @ space.excursion, s @ space.deflection
        energy += space.suspension * (
            p.stiffness_slope * excursion**3 / (3 * p.excursion)
            + p.stiffness_curvature * excursion**4 / (4 * p.excursion**2))
        energy += space.stretch_stiffness * bend**4 / 4
        after = energy[:, 61:]
        assert (np.diff(after, axis=1) <= 1e-9 * after[:, :1]).all()
        assert (after[:, -1] < 0.9 * after[:, 0]).all()


def test_each_imperfection_changes_the_reading_and_ideal_has_none():
    x = np.random.default_rng(0).uniform(-1, 1, (3, 196))
    ideal = Plate(ideal=True)
    base = ideal(x, np.zeros(0))
    imperfections = [row for row in parameter_table(TABLE) if row.off is not None]
    assert {*NONLINEAR, *FABRICATION, *SILENT} == {row.name for row in imperfections}
    for row in imperfections:
        assert getattr(ideal.parameters, row.name) == row.off
        alone = Plate(ideal=True, **{row.name: row.value})(x, np.zeros(0))
        assert not np.array_equal(alone, base), row.name


def test_a_hard_clock_costs_what_the_slope_says():
    x = np.random.default_rng(0).uniform(-1, 1, (400, 196))
    quiet, jittery = Plate(**SILENT), Plate(sound_noise=0.0, adc_bits=0)
    device = Plate()
    p, slope = device.parameters, device.trajectory(x, device.space.sound_slope[None])[..., 0]
    expected = p.timing_jitter * np.sqrt((slope**2).mean()) / p.full_scale
    difference = jittery(x, np.zeros(0)) - quiet(x, np.zeros(0))
    assert difference.std() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("changes", [SILENT, LINEAR])
def test_single_precision_is_good_enough(changes):
    x = np.clip(np.random.default_rng(0).normal(0.4, 0.5, (64, 196)), -1, 1).astype(np.float32)
    device = Plate(seed=1, **changes)
    exact = device(x.astype(np.float64), np.zeros(0))
    assert np.abs(device(x, np.zeros(0, np.float32)) - exact).max() < 1e-5 * np.abs(exact).max()


def test_steps_below_one_are_refused():
    with pytest.raises(ValueError, match="steps_per_sample is 0; expected at least 1"):
        Plate(steps_per_sample=0)
