"""What every device has to keep, whatever its physics; a new one joins by a line in SYSTEMS."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from notebooks.virtual_room.room import Room
from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.shg.device import SHG

SYSTEMS = [SHG, Plate, Circuit, Oscillators, Room]
pytestmark = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.__name__)


def table(system):
    return parameter_table(Path(inspect.getfile(system)).with_name("parameters.csv"))


def controls(device, n, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.uniform(*device.input_range, (n, device.input_dim)).astype(dtype),
            rng.uniform(*device.param_range, (n, device.param_dim)).astype(dtype))


@pytest.mark.parametrize("types, expected", [
    ((np.float32, np.float32), np.float32),
    ((np.float64, np.float64), np.float64),
    ((np.float32, np.float64), np.float64)])
def test_shape_and_dtype(system, types, expected):
    device = system()
    x, theta = controls(device, 7)
    y = device(x.astype(types[0]), theta.astype(types[1]))
    assert y.shape == (7, device.output_dim) and y.dtype == expected and np.isfinite(y).all()


def test_lists_and_other_memory_layouts_are_read_alike(system):
    x, theta = controls(system(), 4)
    plain = system()(x, theta)
    assert np.array_equal(system()(x.tolist(), theta.tolist()), plain)
    assert np.array_equal(system()(np.asfortranarray(x), np.repeat(theta, 2, 0)[::2]), plain)


def test_one_row_of_parameters_serves_the_batch(system):
    x, theta = controls(system(), 5)
    repeated = np.repeat(theta[:1], 5, 0)
    assert np.array_equal(system()(x, theta[0]), system()(x, repeated))


def test_ideal_rows_do_not_depend_on_their_batch(system):
    device = system(ideal=True)
    x, theta = controls(device, 600)
    whole = device(x, theta)
    order = np.random.default_rng(1).permutation(600)
    ends = (0, 1), (250, 260), (255, 256), (256, 257), (599, 600), (0, 256), (0, 257)
    for rows in (order, *(slice(*pair) for pair in ends)):
        error = np.abs(device(x[rows], theta[rows]) - whole[rows])
        assert error.max() < 1e-5 * np.abs(whole).max()


def test_readings_depend_on_data_and_on_parameters(system):
    device = system(ideal=True)
    x, theta = controls(device, 2)
    y = device(x, theta)
    assert not np.allclose(device(x[::-1], theta), y)
    assert not device.param_dim or not np.allclose(device(x, theta[::-1]), y)


def test_ideal_is_deterministic_and_seeds_fix_the_rest(system):
    x, theta = controls(system(), 20)
    perfect = system(ideal=True, seed=1, noise_seed=1)
    once = perfect(x, theta)
    assert np.array_equal(perfect(x, theta), once)
    assert np.array_equal(system(ideal=True, seed=2, noise_seed=2)(x, theta), once)
    first = system(seed=1, noise_seed=1)(x, theta)
    assert first.tobytes() == system(seed=1, noise_seed=1)(x, theta).tobytes()
    assert not np.array_equal(first, system(seed=1, noise_seed=2)(x, theta))


def test_noise_seed_repeats_a_copy_and_seed_makes_another(system):
    x, theta = controls(system(), 4)
    many = np.repeat(x, 200, 0), np.repeat(theta, 200, 0)

    def mean(**seeds):
        readings = system(**seeds)(*many).reshape(4, 200, -1)
        return readings.mean(1), readings.std(1) / np.sqrt(200)

    one, error = mean(seed=1, noise_seed=1)
    again, other = (mean(**seeds)[0] for seeds in ({"seed": 1, "noise_seed": 2},
                                                   {"seed": 2, "noise_seed": 1}))
    bound = 8 * error.max() + 1e-3 * np.abs(one).max()
    assert np.abs(one - again).max() < bound  # the same copy, read again
    assert np.abs(one - other).max() > bound  # another copy: beyond what noise can do


def test_noise_is_fresh_at_every_reading(system):
    device = system()
    x, theta = controls(device, 2)
    assert not np.array_equal(device(x, theta), device(x, theta))
    twice = device(np.repeat(x[:1], 2, 0), theta[0])
    assert not np.array_equal(twice[0], twice[1])


def test_passes_are_counted(system):
    device = system()
    assert device.passes == 0
    device(*controls(device, 3))
    device(*controls(device, 4))
    assert device.passes == 7 and device.pass_time > 0


def test_state_survives_json_and_repeats_the_readings(system):
    device, other = system(seed=3, noise_seed=4), system(seed=3, noise_seed=99)
    x, theta = controls(device, 3)
    device(x, theta)
    text = json.dumps(device.state_dict())
    first, second = device(x, theta), device(x, theta)
    for resumed in (other, device):  # a new process, and the same device taken back
        resumed.load_state_dict(json.loads(text))
        assert resumed.passes == 3
        assert np.array_equal(resumed(x, theta), first)
        assert np.array_equal(resumed(x, theta), second)


def change_one(name, row, column, value):
    def change(device, x, theta):
        target = x if name == "x" else theta
        if not target.shape[1]:
            pytest.skip(f"{type(device).__name__} has no parameter controls")
        target[row, column] = value(device) if callable(value) else value
        return x, theta
    return change


OUTSIDE = r".* outside the allowed range \[.*unit"


@pytest.mark.parametrize("change, error, words", [
    (lambda d, x, t: (x[:, :-1], t), ValueError, r"x has shape \(3, \d+\); expected \(n, \d+\)"),
    (lambda d, x, t: (x, np.zeros((3, d.param_dim + 1))), ValueError,
     r"theta has shape \(3, \d+\); expected \(n, \d+\)"),
    (lambda d, x, t: (x, np.zeros(d.param_dim + 1)), ValueError,
     r"theta has shape \(1, \d+\); expected"),
    (lambda d, x, t: (x[0], t[0]), ValueError,
     r"x has shape \(\d+,\); expected .*a row per pass"),
    (lambda d, x, t: (x[None], t), ValueError, r"x has shape \(1, 3, \d+\)"),
    (lambda d, x, t: (x, np.float64(0)), ValueError, r"theta has shape \(1, 1\)"),
    (lambda d, x, t: (x, t[:2]), ValueError, "theta has 2 rows, x 3"),
    (lambda d, x, t: (np.zeros_like(x, int), t), TypeError,
     "x has dtype int64; expected float32 or float64"),
    (lambda d, x, t: (np.zeros_like(x, bool), t), TypeError, "x has dtype bool"),
    (lambda d, x, t: (x.astype(np.float16), t), TypeError, "x has dtype float16"),
    (lambda d, x, t: (x.astype(complex), t), TypeError, "x has dtype complex128"),
    (lambda d, x, t: (x.astype(object), t), TypeError, "x has dtype object"),
    (lambda d, x, t: (None, t), TypeError, "x has dtype object"),
    (lambda d, x, t: (x, t.astype(str)), TypeError, "theta has dtype <U"),
    (change_one("x", 1, 2, np.nan), ValueError, rf"x\[1, 2\] = .*nan{OUTSIDE}"),
    (change_one("theta", 2, 0, np.nan), ValueError, rf"theta\[2, 0\] = .*nan{OUTSIDE}"),
    (change_one("x", 0, 1, np.inf), ValueError, rf"x\[0, 1\] = .*inf{OUTSIDE}"),
    (change_one("theta", 0, -1, -np.inf), ValueError, rf"theta\[0, \d+\] = .*-inf{OUTSIDE}"),
    (change_one("x", 2, 3, lambda d: np.nextafter(d.input_range[1], np.inf)), ValueError,
     rf"x\[2, 3\] = {OUTSIDE}"),
    (change_one("x", 2, 3, lambda d: np.nextafter(d.input_range[0], -np.inf)), ValueError,
     rf"x\[2, 3\] = {OUTSIDE}"),
    (change_one("theta", 1, 3, lambda d: d.param_range[1] + 1), ValueError,
     rf"theta\[1, 3\] = {OUTSIDE}"),
    (change_one("theta", 1, 3, lambda d: d.param_range[0] - 1), ValueError,
     rf"theta\[1, 3\] = {OUTSIDE}"),
])
def test_bad_controls_are_refused_by_name_and_cost_nothing(system, change, error, words):
    device = system()
    device(*controls(device, 2))
    before = json.dumps(device.state_dict())
    with pytest.raises(error, match=words):
        device(*change(device, *controls(device, 3)))
    assert json.dumps(device.state_dict()) == before  # no pass counted, no noise drawn


def test_error_names_the_range_that_was_left(system):
    device = system()
    x, theta = controls(device, 1)
    for name, (low, high) in (("x", device.input_range), ("theta", device.param_range)):
        wrong = {"x": x, "theta": theta}
        if not wrong[name].size:
            continue
        wrong[name] = np.full_like(wrong[name], high + 1)
        with pytest.raises(ValueError) as caught:
            device(**wrong)
        for words in (name, f"[{low}, {high}]", device.control_unit):
            assert words in str(caught.value)


def test_ends_of_the_range_are_allowed(system):
    device = system()
    for x in device.input_range:
        for theta in device.param_range:
            y = device(np.full((2, device.input_dim), x), np.full(device.param_dim, theta))
            assert np.isfinite(y).all()


def test_the_range_may_be_given_once_or_once_a_control_in_any_precision(system):
    plain, device = system(), system()
    x, theta = controls(plain, 3, dtype=np.float32)
    x[0], x[1], theta[0], theta[1] = *plain.input_range, *plain.param_range
    device.input_range = tuple(np.full(device.input_dim, end) for end in device.input_range)
    device.param_range = tuple(map(np.float64, device.param_range))
    assert np.array_equal(device(x, theta), plain(x, theta))
    x[2, 1] = np.nextafter(np.float32(plain.input_range[1]), np.float32(np.inf))
    with pytest.raises(ValueError, match=rf"x\[2, 1\] = {OUTSIDE}"):
        device(x, theta)


def test_unknown_parameter_is_refused(system):
    with pytest.raises(TypeError, match="nonsense.*expected one of"):
        system(nonsense=1)


def test_parameters_out_of_range_are_refused_by_name(system):
    for row in table(system):
        below, beyond = type(row.value)(row.low - 1), np.nextafter(row.high, np.inf)
        whole = isinstance(row.value, int)
        for value in (below,) if whole else (below, beyond, np.inf, -np.inf, np.nan):
            with pytest.raises(ValueError, match=rf"^{row.name} is .*; expected .* \(unit: "):
                system(**{row.name: value})
        for value in ("1", None, True, [1.0], *((np.nan, 1.5) if whole else ())):
            with pytest.raises(TypeError, match=rf"^{row.name} is .*expected a (whole )?number"):
                system(**{row.name: value})


def test_empty_batch(system):
    device = system()
    before = json.dumps(device.state_dict())
    y = device(*controls(device, 0, dtype=np.float32))
    assert y.shape == (0, device.output_dim) and y.dtype == np.float32
    assert json.dumps(device.state_dict()) == before


def test_inputs_are_not_modified_and_outputs_are_not_shared(system):
    device = system(ideal=True)
    x, theta = controls(device, 3, dtype=np.float32)
    x.flags.writeable = theta.flags.writeable = False  # a write would raise
    first = device(x, theta)
    kept = first.copy()
    device(*controls(device, 3, seed=1, dtype=np.float32))
    assert np.array_equal(first, kept) and first.flags.writeable


def test_two_devices_do_not_disturb_each_other(system):
    x, theta = controls(system(), 3)
    alone = system(seed=1)
    expected = [alone(x, theta), alone(x, theta)]
    one, other = system(seed=1), system(seed=2, noise_seed=5)
    first = one(x, theta)
    other(x, theta)
    np.random.seed(0)  # the global generator must not matter either
    assert np.array_equal(first, expected[0]) and np.array_equal(one(x, theta), expected[1])


def test_a_device_has_the_values_of_its_table(system):
    assert vars(system().parameters) == {row.name: row.value for row in table(system)}


def test_ideal_switches_every_imperfection_off_and_a_change_switches_one_on(system):
    rows = table(system)
    ideal = {row.name: row.value if row.off is None else row.off for row in rows}
    assert vars(system(ideal=True).parameters) == ideal
    one = next(row for row in rows if row.off not in (None, row.value))
    changed = vars(system(ideal=True, **{one.name: one.value}).parameters)
    assert changed == ideal | {one.name: one.value}


@settings(max_examples=30, deadline=None)
@given(data=st.data(), n=st.integers(0, 3), ideal=st.booleans())
def test_any_allowed_control_gives_finite_numbers(system, data, n, ideal):
    device = system(ideal=ideal)
    dtype, width = data.draw(st.sampled_from([(np.float32, 32), (np.float64, 64)]))

    def draw(size, allowed):
        low, high = (float(dtype(end)) for end in allowed)
        return data.draw(arrays(dtype, (n, size), elements=st.floats(low, high, width=width)))

    x = draw(device.input_dim, device.input_range)
    y = device(x, draw(device.param_dim, device.param_range))
    assert y.shape == (n, device.output_dim) and y.dtype == dtype and np.isfinite(y).all()
    assert device.passes == n
