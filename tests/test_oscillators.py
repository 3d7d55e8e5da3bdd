"""Physics and mathematics of the coupled oscillators: solutions, orders, energy, gradients."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import ellipk

from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel, motion, pack
from pnn_utils.systems.oscillators.solver import STOERMER_8, force_matrix, stoermer

TABLEAUS = {"STOERMER_8": STOERMER_8, "two steps": stoermer(2, 0)}


def with_method(part, tableau):
    """The same device or model, integrated by another method."""
    part.tableau = tableau
    return part


def release(angles, couplings, drives, duration=0.5, tableau=STOERMER_8, n_read=None):
    """The model's angles some time after a release from rest; couplings packed or a matrix C."""
    model = with_method(OscillatorModel(angles.shape[1], n_read, duration), tableau)
    couplings = pack(couplings) if couplings.ndim == 2 else couplings
    return model(angles, torch.cat([couplings, drives]))


def network(n_oscillators, scale=1.0, rows=4, seed=0, dtype=torch.float64):
    """Initial angles, a couplings matrix C that is not symmetric, and drives."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, n_oscillators), (n_oscillators, n_oscillators), (n_oscillators,)
    angles, couplings, drives = (torch.randn(shape, generator=generator, dtype=dtype)
                                 for shape in shapes)
    return angles, scale * couplings, drives


def acceleration(q, couplings, drives, slope=1.0):
    """The equation of motion, term by term as it is printed; angles of shape (..., N)."""
    symmetric, sines = (couplings + couplings.T) / 2, np.sin(slope * q)
    return -sines + (symmetric * (sines[..., None, :] - sines[..., :, None])).sum(-1) + drives


def accurate(q, couplings, drives, times, slope=1.0):
    """Angles and velocities by scipy's DOP853, each of shape (times, rows, N)."""
    n = q.size

    def slopes(_, state):
        force = acceleration(state[:n].reshape(q.shape), couplings, drives, slope)
        return np.concatenate([state[n:], force.ravel()])

    start = np.concatenate([q.ravel(), np.zeros(n)])
    solution = solve_ivp(slopes, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-13)
    return tuple(part.T.reshape(len(times), *q.shape) for part in np.split(solution.y, 2))


def energy(q, velocity, couplings, drives):
    """Energy of uncoupled oscillators.

    Coupled ones conserve none: J_ij cos q_j, how q_j changes the force on i, has no symmetry.
    """
    return (velocity**2 / 2 - np.cos(q) - drives * q).sum(-1)


def slope_of(errors, steps):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


# --- reference solutions -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_angles_and_velocities_agree_with_dop853(scale):
    q, couplings, drives = network(30, scale)
    expected = accurate(q.numpy(), couplings.numpy(), drives.numpy(), [0.2, 0.5])
    moved = motion(q, couplings, drives, [0.2, 0.5], stoermer(120, 6))
    for found, right in zip(moved, expected, strict=True):
        assert np.abs(found.numpy() - right).max() < 1e-8


def test_default_is_far_more_accurate_than_the_input_noise():
    q, couplings, drives = network(100, 0.2)  # an eigenvalue of A near 3 and forces of order 1
    right = accurate(q.numpy(), couplings.numpy(), drives.numpy(), [0.5])[0][0]
    assert np.abs(release(q, couplings, drives).numpy() - right).max() < 0.02 / 500


def test_device_solves_the_equation_with_the_gap():
    q, couplings, drives = network(12, 0.4)
    theta = torch.cat([pack(couplings), drives]).numpy()
    device = with_method(Oscillators(seed=3, n_oscillators=12, input_noise=0.0), stoermer(80, 6))
    errors = np.zeros((12, 12))
    errors[np.triu_indices(12, 1)] = device.coupling_errors
    real = couplings.numpy() + errors + errors.T
    right = accurate(q.numpy(), real, drives.numpy(), [0.5], slope=1.1)[0][0]
    # The copy's coupling errors are float32 numbers.
    assert np.abs(device(q.numpy(), theta) - right).max() < 1e-6
    plain = accurate(q.numpy(), couplings.numpy(), drives.numpy(), [0.5])[0][0]
    assert np.abs(plain - right).max() > 0.05  # the gap is not lost in the tolerance


def test_agreement_with_torchdiffeq():
    torchdiffeq = pytest.importorskip("torchdiffeq", reason="torchdiffeq is not installed")
    q, couplings, drives = network(20, 0.3)
    symmetric = (couplings + couplings.T) / 2

    def slopes(_, state):
        angles, velocities = state
        sines = angles.sin()
        return velocities, -sines + sines @ symmetric - sines * symmetric.sum(0) + drives

    times = torch.tensor([0.0, 0.5], dtype=torch.float64)
    start = q, torch.zeros_like(q)
    tight = torchdiffeq.odeint(slopes, start, times, method="dopri5", rtol=1e-10, atol=1e-11)
    tight = tight[0][-1]
    assert (release(q, couplings, drives, tableau=stoermer(120, 6)) - tight).abs().max() < 1e-7
    # Its "rk4" is the 3/8 rule: of the same order, hence agreement within its error only.
    steps = {"step_size": 0.1}
    coarse = torchdiffeq.odeint(slopes, start, times, method="rk4", options=steps)[0][-1]
    assert 1e-9 < (coarse - tight).abs().max() < 1e-3
    assert (release(q, couplings, drives) - tight).abs().max() < (coarse - tight).abs().max()


@pytest.mark.parametrize("amplitude", [0.01, 0.5, 1.5, 3.0])
def test_uncoupled_pendulum_has_the_period_of_the_elliptic_integral(amplitude):
    period = 4 * ellipk(np.sin(amplitude / 2) ** 2)
    q = torch.tensor([[amplitude, amplitude]], dtype=torch.float64)
    nothing = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    times = [period / 4, period / 2, period]
    (quarter, half, whole), (_, still, _) = motion(q, *nothing, times, stoermer(800, 4))
    assert quarter.abs().max() < 1e-6 and still.abs().max() < 1e-6
    assert (half + q).abs().max() < 1e-6 and (whole - q).abs().max() < 1e-6


def test_without_couplings_oscillators_ignore_each_other_and_with_them_they_do_not():
    q, couplings, drives = network(6)
    moved = q.clone()
    moved[:, 0] += 1
    alone = [release(x, torch.zeros_like(couplings), drives)[:, 1:] for x in (q, moved)]
    assert torch.equal(*alone)
    together = [release(x, couplings, drives)[:, 1:] for x in (q, moved)]
    assert (together[0] - together[1]).abs().min() > 1e-6


def test_equal_angles_feel_no_coupling():
    _, couplings, _ = network(9)
    q = torch.full((1, 9), 0.7, dtype=torch.float64)
    drives = torch.full((9,), 0.3, dtype=torch.float64)
    assert (release(q, couplings, drives) - release(q, 0 * couplings, drives)).abs().max() < 1e-13


# --- order, energy, symmetry ---------------------------------------------------------------------


@pytest.mark.parametrize("differences, order", [(0, 2), (2, 3), (3, 4), (4, 5), (5, 5)])
def test_order_of_the_stoermer_methods(differences, order):
    q, couplings, drives = network(15, 0.5)
    right = motion(q, couplings, drives, [0.5], stoermer(400, 6))
    steps = np.array([32, 48, 64, 96])
    found = [motion(q, couplings, drives, [0.5], stoermer(n, differences)) for n in steps]
    for part in range(2):  # angles, velocities
        errors = [(y[part] - right[part]).abs().max().item() for y in found]
        assert slope_of(errors, 1 / steps) == pytest.approx(order, abs=0.4)


def test_times_may_be_numbers_or_a_tensor():
    q, couplings, drives = torch.rand(2, 4), torch.rand(4, 4), torch.rand(4)
    listed, tensor = (motion(q, couplings, drives, times)
                      for times in ([0.0, 0.25, 0.5], torch.linspace(0, 0.5, 3)))
    assert all(torch.equal(one, other) for one, other in zip(listed, tensor, strict=True))


def test_energy_of_uncoupled_oscillators_drifts_with_the_order_of_the_method():
    q, _, drives = (x.numpy() for x in network(8))
    at_rest, errors = energy(q, 0 * q, None, drives), []
    steps = np.array([16, 24, 32, 48])
    for n in steps:
        uncoupled = torch.zeros(8, 8, dtype=torch.float64)
        moved = motion(torch.from_numpy(q), uncoupled, torch.from_numpy(drives), [1.0],
                       stoermer(n))
        angles, velocities = (part[0].numpy() for part in moved)
        errors.append(np.abs(energy(angles, velocities, None, drives) - at_rest).max())
    assert errors[0] < 1e-3 and slope_of(errors, 1 / steps) > 4.6


def test_only_the_symmetric_part_of_the_couplings_acts():
    q, couplings, drives = network(10)
    twist = torch.randn(10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    right = release(q, couplings, drives)
    for idle in (twist - twist.T, twist.diag().diag()):
        assert (release(q, couplings + idle, drives) - right).abs().max() < 1e-13


@pytest.mark.parametrize("size", [2, 3, 15, 16, 17, 256, 300])
def test_force_matrix_is_symmetric_and_holds_the_couplings_in_their_order(size):
    couplings = np.random.default_rng(size).standard_normal(size * (size - 1) // 2)
    matrix = force_matrix(couplings, size)
    assert np.array_equal(matrix, matrix.T)
    assert np.array_equal(matrix[np.triu_indices(size, 1)], couplings)
    assert np.abs(matrix.sum(1) + 1).max() < 1e-12  # equal angles feel the restoring force only
    square = torch.tensor(matrix)
    assert np.array_equal(pack(square).numpy(), couplings)


# --- gradients -----------------------------------------------------------------------------------


def plain(q, couplings, drives, duration, tableau):
    """The same method by autograd, with couplings formed at every stage."""
    forces = []
    for row in tableau.a:
        moved = sum(w * f for w, f in zip(row, forces, strict=False))
        sines = (q + duration**2 * moved).sin()
        symmetric = (couplings + couplings.T) / 2
        pulls = symmetric * (sines[:, None, :] - sines[:, :, None])
        forces.append(-sines + pulls.sum(2) + drives)
    return q + duration**2 * sum(w * f for w, f in zip(tableau.b, forces, strict=True))


@pytest.mark.parametrize("name", TABLEAUS)
@pytest.mark.parametrize("n_oscillators, n_read", [(2, None), (7, 3), (70, 10), (70, 70)])
def test_values_and_gradients_equal_those_of_autograd(name, n_oscillators, n_read):
    inputs = [x.requires_grad_() for x in network(n_oscillators, 0.3)]
    right = plain(*inputs, 0.7, TABLEAUS[name])[:, -(n_read or n_oscillators):]
    found = release(*inputs, 0.7, TABLEAUS[name], n_read)
    torch.testing.assert_close(found, right, rtol=0, atol=1e-12)
    weights = torch.randn_like(right)
    pairs = zip(*(torch.autograd.grad(y, inputs, weights) for y in (found, right)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_read", [None, 2])
def test_gradcheck(n_read):
    q, couplings, drives = network(5, rows=2)
    inputs = [x.requires_grad_() for x in (q, pack(couplings), drives)]
    assert torch.autograd.gradcheck(lambda *x: release(*x, n_read=n_read), inputs, atol=1e-8)


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_that_is_not_wanted_changes_nothing(wanted):
    q, couplings, drives = network(6)
    model, inputs = OscillatorModel(6), (q, torch.cat([pack(couplings), drives]))
    every = [x.clone().requires_grad_() for x in inputs]
    some = [x.clone().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
    for leaves in (every, some):
        model(*leaves).sum().backward()
    assert some[1 - wanted].grad is None
    assert torch.equal(some[wanted].grad, every[wanted].grad)


def test_a_graph_that_is_kept_gives_the_same_gradient_twice():
    q, couplings, drives = (x.requires_grad_() for x in network(6))
    loss = release(q, couplings, drives).square().sum()
    first, second = (torch.autograd.grad(loss, (q, couplings), retain_graph=True) for _ in "ab")
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_second_derivative_is_refused():
    q, couplings, drives = (x.requires_grad_() for x in network(4))
    final = release(q, couplings, drives)
    for loss in (final.sum(), final.square().sum()):
        with pytest.raises(RuntimeError, match="only once"):
            torch.autograd.grad(loss, q, create_graph=True)


# --- device and layer ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_model_and_ideal_device_agree(dtype, tolerance):
    q, couplings, drives = network(80, 0.1, rows=600, dtype=dtype)
    theta = torch.cat([pack(couplings), drives])
    device, model = Oscillators(ideal=True, n_oscillators=80, n_read=10), OscillatorModel(80, 10)
    y = device(q.numpy(), theta.numpy())
    assert y.shape == (600, 10) and np.abs(y - model(q, theta).numpy()).max() < tolerance


def test_shared_layer_trains_like_one_with_copies_of_theta():
    q, couplings, drives = network(8, rows=5)
    theta, device = torch.cat([pack(couplings), drives]), Oscillators(ideal=True, n_oscillators=8)
    model = OscillatorModel(8)

    def by_rows(x, rows):
        return torch.cat([model(x[i:i + 1], rows[i]) for i in range(len(x))])

    layers = (PhysicalLayer(device, model, theta, shared=True),
              PhysicalLayer(device, by_rows, theta))
    for layer in layers:
        layer(q).square().sum().backward()
    torch.testing.assert_close(layers[0].theta.grad, layers[1].theta.grad, rtol=0, atol=1e-12)
    x = q.clone().requires_grad_()
    exact = release(x, pack(couplings), drives)
    # A perfect model: PAT is backpropagation.
    torch.testing.assert_close(layers[0](q), exact, rtol=0, atol=1e-13)


def test_coupling_errors_and_input_noise_have_the_stated_spread():
    device = Oscillators(n_oscillators=200)
    assert device.coupling_errors.std() == pytest.approx(0.2 / np.sqrt(2), rel=0.02)
    # In so short a time that nothing moves, the device reads back the initial angles.
    y = Oscillators(n_oscillators=4, duration=1e-6)(np.zeros((20000, 4)), np.zeros(10))
    assert y.std(0) == pytest.approx(np.full(4, 0.02), rel=0.03)
    assert np.abs(y.mean(0)).max() < 6 * 0.02 / np.sqrt(20000)
    assert np.abs(np.corrcoef(y.T) - np.eye(4)).max() < 6 / np.sqrt(20000)


@pytest.mark.parametrize("knob, value", [("nonlinearity", 0.1), ("coupling_noise", 0.2),
                                         ("input_noise", 0.02)])
def test_each_imperfection_alone_changes_the_reading(knob, value):
    q, couplings, drives = (x.numpy() for x in network(6))
    theta = np.concatenate([couplings[np.triu_indices(6, 1)], drives])
    ideal, other = (Oscillators(ideal=True, n_oscillators=6, **change)(q, theta)
                    for change in ({}, {knob: value}))
    assert np.abs(other - ideal).max() > 1e-3


def test_reading_fewer_oscillators_gives_the_last_ones():
    q, couplings, drives = network(20, 0.3)
    theta = torch.cat([pack(couplings), drives])
    every, last = (Oscillators(seed=1, n_oscillators=20, n_read=n)(q.numpy(), theta.numpy())
                   for n in (None, 4))
    assert np.abs(every[:, -4:] - last).max() < 1e-13


@pytest.mark.parametrize("call, words", [
    (lambda: Oscillators(n_oscillators=1), "n_oscillators is 1"),
    (lambda: Oscillators(n_oscillators=5, n_read=6), "n_read is 6"),
    (lambda: OscillatorModel(4)(torch.zeros(2, 4), torch.zeros(2, 10)), r"shape \(2, 10\)"),
    (lambda: OscillatorModel(4)(torch.zeros(2, 4), torch.zeros(10).double()), "float64"),
    (lambda: PhysicalLayer(Oscillators(n_oscillators=4), OscillatorModel(4), torch.zeros(10))(
        torch.zeros(2, 4)).sum().backward(), r"shape \(2, 10\)"),  # a layer without shared=True
])
def test_what_cannot_be_meant_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
