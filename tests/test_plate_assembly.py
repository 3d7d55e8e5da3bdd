"""The plate with coil, suspension and air, against closed forms and finite elements.

All in the unit of the device's noise: a referee may disagree by a third of it.
"""

import numpy as np
import pytest
import scipy.sparse.linalg

from pnn_utils.systems.base import make_parameters
from pnn_utils.systems.plate.device import TABLE, Plate
from pnn_utils.systems.plate.equations import AIR_DENSITY, SOUND_SPEED, state_space

EXACT = dict.fromkeys(["offset_of_coil", "offset_of_microphone", "size_tolerance",
                       "driver_tolerance", "q_spread"], 0.0)
LINEAR = dict.fromkeys(["force_factor_slope", "force_factor_curvature", "stiffness_slope",
                        "stiffness_curvature", "stretching"], 0.0)
# The only elastic mode, a twist, has no deflection at a centred coil: the plate moves as one.
RIGID = EXACT | LINEAR | {"n_modes": 1}
FREQUENCY = np.linspace(20, 24e3, 4000)  # Hz, the converter's band
S = 2j * np.pi * FREQUENCY


def answer(space, row, s=S):
    """Answer of one reading to 1 V at the coil, at complex frequencies s."""
    rates, vectors = np.linalg.eig(space.matrix)
    weights = (row @ vectors) * np.linalg.solve(vectors, space.voltage)
    return (weights / (s[:, None] - rates)).sum(1)


def capsule(p, s):
    """Microphone and its preamplifier, V/Pa."""
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    return p.sensitivity * ear**2 / (s**2 + s * ear / p.microphone_q + ear**2) * s / (s + high)


def in_noises(p, found, expected, s=S):
    """Rms difference of two answers to 1 V, for white drives held over samples, in noises."""
    held = np.sinc(s.imag / (2 * np.pi * p.sample_rate))
    power = (np.abs((found - expected) * held) ** 2).mean()
    return p.amplifier_gain / 3**0.5 * power**0.5 / (p.sensitivity * p.sound_noise)


def moving_mass(p):
    return p.density * p.thickness * p.side**2 + p.coil_mass


def mechanics(p, s):
    """Force per speed of a rigid assembly, N s/m."""
    mass, k = moving_mass(p), p.suspension_stiffness
    return mass * s + (mass * k) ** 0.5 / p.suspension_q + k / s


def corners(p, n=2000):
    """Delays of the square's rim behind its centre, s, on the axis, over equal angles."""
    angle = (np.arange(n) + 0.5) * np.pi / 4 / n
    return (np.hypot(p.microphone_distance, p.side / 2 / np.cos(angle))
            - p.microphone_distance) / SOUND_SPEED


def piston(p, s):
    """Pressure per acceleration of a baffled square piston on its axis, kg/m^2.

    A circular piston of radius a gives p(t) = rho c (v(t) - v(t - tau)), where tau is the delay of
    its rim; seen from the axis, a square is a fan of circular sectors.
    """
    rim = corners(p)[:, None]
    return AIR_DENSITY * SOUND_SPEED * ((1 - np.exp(-rim * s)) / s).mean(0)


def test_a_rigid_plate_radiates_like_sectors_of_circular_pistons():
    p = make_parameters(TABLE, **RIGID)
    space = state_space(p)
    heard = answer(space, space.sound) / (S * answer(space, space.speed)) / capsule(p, S)
    expected = piston(p, S)
    assert heard == pytest.approx(expected, rel=2e-3)
    level = 20 * np.log10(np.abs(expected / expected[0]))
    assert level[-1] < -3  # at the band's end the delays do matter


def test_a_rigid_assembly_is_heard_as_its_closed_form_says():
    p = make_parameters(TABLE, **RIGID)
    space = state_space(p)
    motor = (p.coil_resistance + S * p.coil_inductance) * mechanics(p, S) + p.force_factor**2
    expected = p.force_factor * S / motor * piston(p, S) * capsule(p, S)
    assert in_noises(p, answer(space, space.sound), expected) < 1 / 3


def test_a_rigid_device_answers_a_click_as_two_clicks_of_speed():
    # In time: rho c (v(t) - v(t - tau)), the speed v a sum of residues.
    device = Plate(**RIGID, sound_noise=0.0, timing_jitter=0.0, adc_bits=0, periods=1)
    p = device.parameters
    coil = np.poly1d([p.coil_inductance, p.coil_resistance])
    mass, k = moving_mass(p), p.suspension_stiffness
    body = np.poly1d([mass, (mass * k) ** 0.5 / p.suspension_q, k])
    ear, high = 2 * np.pi * p.microphone_resonance, 2 * np.pi * p.microphone_highpass
    motion = coil * body + np.poly1d([p.force_factor**2, 0])
    poles = np.concatenate([motion.r, np.roots([1, ear / p.microphone_q, ear**2]), [-high]])

    def step(t):
        found = np.zeros(np.shape(t))
        for n, pole in enumerate(poles):
            residue = pole / np.prod(pole - np.delete(poles, n)) / motion.c[0]
            found += np.where(t > 0, residue * np.exp(pole * t.clip(0)), 0).real
        return p.sensitivity * p.force_factor * ear**2 * found

    t = np.arange(0, 197) / p.sample_rate
    late = np.mean([step(t - rim) for rim in corners(p, 200)], 0)
    click = AIR_DENSITY * SOUND_SPEED * np.diff(step(t) - late)
    x = np.random.default_rng(0).uniform(-1, 1, (20, 196))
    expected = np.array([np.convolve(p.amplifier_gain * row, click)[:196] for row in x])
    error = device(x, np.zeros(0)) * p.full_scale - expected
    assert error.std() < p.sensitivity * make_parameters(TABLE).sound_noise / 3


def test_the_baffle_is_worth_ten_decibels():
    # A disc of the plate's area that moves freely, without a baffle, has a closed form at low
    # frequencies in oblate spheroidal coordinates (Lamb, Hydrodynamics, section 102).
    p = make_parameters(TABLE, **RIGID)
    radius = p.side / np.pi**0.5
    height = p.microphone_distance / radius
    free = AIR_DENSITY * 2 * radius / np.pi * (1 - height * np.arctan(1 / height))
    space, slow = state_space(p), np.array([2j * np.pi * 200.0])
    heard = answer(space, space.sound, slow) / (slow * answer(space, space.speed, slow))
    assert 9 < 20 * np.log10(abs(heard / capsule(p, slow))[0] / free) < 11


def test_impedance_is_thieles_and_smalls():
    for changes, tolerance in ((RIGID, 1e-3), (EXACT, 5e-3)):
        p = make_parameters(TABLE, **changes)
        space, low = state_space(p), S[FREQUENCY < 1000]
        expected = p.coil_resistance + low * p.coil_inductance + (
            p.force_factor**2 / mechanics(p, low))
        assert 1 / answer(space, space.current, low) == pytest.approx(expected, rel=tolerance)
        # The peak: R (1 + Q_ms / Q_es) at the resonance of suspension and mass.
        peak = abs(expected).argmax()
        resonance = (p.suspension_stiffness / moving_mass(p)) ** 0.5 / (2 * np.pi)
        assert FREQUENCY[peak] == pytest.approx(resonance, abs=6)
        q_es = p.coil_resistance * (p.suspension_stiffness * moving_mass(p)) ** 0.5 / (
            p.force_factor**2)
        assert abs(expected[peak]) == pytest.approx(
            p.coil_resistance * (1 + p.suspension_q / q_es), rel=0.02)


def finite_elements(p, centre, cells):
    """Modes of plate, coil and suspension by Bogner, Fox and Schmit's elements.

    Returns frequencies (rad/s), excursions of the coil, and what gives the pressure at s.
    """
    skfem = pytest.importorskip("skfem", reason="scikit-fem is not installed")
    from skfem.helpers import dd, ddot, trace

    edges = np.linspace(-0.5, 0.5, cells + 1)
    basis = skfem.Basis(skfem.MeshQuad.init_tensor(edges, edges), skfem.ElementQuadBFS(),
                        intorder=7)

    @skfem.BilinearForm
    def bending(u, v, _):
        return ((1 - p.poisson) * ddot(dd(u), dd(v)) + p.poisson * trace(dd(u)) * trace(dd(v)))

    @skfem.BilinearForm
    def inertia(u, v, _):
        return u * v

    rigidity = p.youngs_modulus * p.thickness**3 / (12 * (1 - p.poisson**2))
    stiffness = (rigidity / p.side**2 * bending.assemble(basis)).tocsc()
    mass = (p.density * p.thickness * p.side**2 * inertia.assemble(basis)).tocsc()
    angle = 2 * np.pi * np.arange(64) / 64
    ring = np.stack([centre[0] + p.coil_radius * np.cos(angle),
                     centre[1] + p.coil_radius * np.sin(angle)]) / p.side
    held = np.asarray(basis.probes(ring).mean(0)).ravel()
    tilts = [mass @ basis.project(lambda x, axis=axis: x[axis]) for axis in (0, 1)]
    # Springs hold the coil, and stiff ones (1 MHz) forbid tilting: additions of low rank.
    springs = [p.suspension_stiffness**0.5 * held, *(
        2 * np.pi * 1e6 * tilt / (tilt @ scipy.sparse.linalg.spsolve(mass, tilt)) ** 0.5
        for tilt in tilts)]
    shift = -(2 * np.pi * 300.0) ** 2
    added = np.stack([*springs, (-shift * p.coil_mass) ** 0.5 * held], 1)
    solve = scipy.sparse.linalg.splu(stiffness - shift * mass).solve
    reached = solve(added)
    core = np.linalg.inv(np.eye(4) + added.T @ reached)
    springs = np.stack(springs, 1)

    def inverse(f):
        w = solve(f)
        return w - reached @ (core @ (added.T @ w))

    def operator(function):
        return scipy.sparse.linalg.LinearOperator(mass.shape, dtype=float, matvec=function)

    squares, shapes = scipy.sparse.linalg.eigsh(
        operator(lambda w: stiffness @ w + springs @ (springs.T @ w)), k=p.n_modes + 1,
        M=operator(lambda w: mass @ w + p.coil_mass * held * (held @ w)), sigma=shift,
        OPinv=operator(inverse), v0=held)
    order = squares.argsort()
    x, y = p.side * np.asarray(basis.global_coordinates())
    distance = np.sqrt(p.microphone_distance**2 + x**2 + y**2)
    delay = ((distance - p.microphone_distance) / SOUND_SPEED).ravel()
    parts = np.stack([(np.asarray(basis.interpolate(shapes[:, k])) * basis.dx / distance).ravel()
                      for k in order]) * AIR_DENSITY * p.side**2 / (2 * np.pi)

    def radiation(s):
        return np.stack([parts @ np.exp(-one * delay) for one in s])

    return squares[order] ** 0.5, held @ shapes[:, order], radiation


def test_the_ring_loaded_plate_sounds_as_finite_elements_say():
    changes = EXACT | LINEAR | {"offset_of_coil": 3e-4}
    p = make_parameters(TABLE, **changes)
    centre = 3e-4 * np.random.default_rng(0).spawn(5)[0].standard_normal(2)
    space, s = state_space(p, 0), S[::8]
    omega, at_coil, radiation = finite_elements(p, centre, 32)
    assert space.frequencies == pytest.approx(omega / (2 * np.pi), rel=2e-4)
    assert space.frequencies[:7] == pytest.approx(omega[:7] / (2 * np.pi), rel=1e-5)
    quality = np.array([p.suspension_q, *[p.mode_q] * p.n_modes])
    # Speeds of the modes for 1 N at the coil; then the coil's circuit, the air, the microphone.
    speeds = at_coil * s[:, None] / (s[:, None] ** 2 + s[:, None] * omega / quality + omega**2)
    current = 1 / (p.coil_resistance + s * p.coil_inductance + p.force_factor**2 * (
        speeds @ at_coil))
    pressure = p.force_factor * current * s * (speeds * radiation(s)).sum(1)
    found = answer(space, space.sound, s)
    assert in_noises(p, found, pressure * capsule(p, s), s) < 1 / 3
    # A coil of another mass, by one per cent, or another glue, by 0.1 mm, would be noticed.
    for other in ({"coil_mass": 1.01 * p.coil_mass}, {"coil_radius": p.coil_radius + 1e-4}):
        space = state_space(make_parameters(TABLE, **changes | other), 0)
        assert in_noises(p, answer(space, space.sound, s), found, s) > 1
