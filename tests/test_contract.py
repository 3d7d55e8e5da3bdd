"""What every device has to keep, whatever its physics."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pnn_utils.systems.base import parameter_table
from pnn_utils.systems.shg import SHG

SYSTEMS = [SHG]
pytestmark = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.__name__)


def controls(device, n, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.uniform(*device.input_range, (n, device.input_dim)).astype(dtype),
            rng.uniform(*device.param_range, (n, device.param_dim)).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype(system, dtype):
    device = system()
    y = device(*controls(device, 7, dtype=dtype))
    assert y.shape == (7, device.output_dim) and y.dtype == dtype and np.isfinite(y).all()


def test_one_row_of_parameters_serves_the_batch(system):
    x, theta = controls(system(), 5)
    repeated = np.repeat(theta[:1], 5, 0)
    assert np.array_equal(system(ideal=True)(x, theta[0]), system(ideal=True)(x, repeated))


def test_ideal_rows_do_not_depend_on_their_batch(system):
    device = system(ideal=True)
    x, theta = controls(device, 600)
    whole = device(x, theta)
    for i in (0, 255, 256, 599):
        assert np.abs(device(x[i:i + 1], theta[i:i + 1])[0] - whole[i]).max() < 1e-5 * np.abs(whole).max()


def test_ideal_is_deterministic_and_seeds_fix_the_rest(system):
    x, theta = controls(system(), 20)
    assert np.array_equal(system(ideal=True, noise_seed=1)(x, theta), system(ideal=True, noise_seed=2)(x, theta))
    first = system(seed=1, noise_seed=1)(x, theta)
    assert first.tobytes() == system(seed=1, noise_seed=1)(x, theta).tobytes()
    assert not np.array_equal(first, system(seed=1, noise_seed=2)(x, theta))
    assert not np.array_equal(first, system(seed=2, noise_seed=1)(x, theta))


def test_passes_and_laboratory_time_are_counted(system):
    device = system()
    device(*controls(device, 3))
    device(*controls(device, 4))
    assert device.passes == 7 and device.laboratory_time == pytest.approx(7 * device.pass_time)


def test_state_survives_json_and_repeats_the_readings(system):
    device, other = system(), system()
    x, theta = controls(device, 3)
    device(x, theta)
    other.load_state_dict(json.loads(json.dumps(device.state_dict())))
    assert np.array_equal(device(x, theta), other(x, theta))


@pytest.mark.parametrize("change, error, words", [
    (lambda x, t: (x[:, :-1], t), ValueError, "shape"),
    (lambda x, t: (x[0], t), ValueError, "one row per pass"),
    (lambda x, t: (x, t[:2]), ValueError, "2 rows"),
    (lambda x, t: (x.astype(int), t), TypeError, "int64"),
    (lambda x, t: (x.astype(complex), t), TypeError, "complex128"),
    (lambda x, t: (x, t.astype(str)), TypeError, "theta has dtype"),
    (lambda x, t: (np.where(np.arange(len(x))[:, None] == 1, np.nan, x), t), ValueError, "nan"),
    (lambda x, t: (x, np.where(np.arange(len(t))[:, None] == 1, np.inf, t)), ValueError, "inf"),
    (lambda x, t: (x + 1e6, t), ValueError, "allowed range"),
    (lambda x, t: (x, t - 1e6), ValueError, "theta.*allowed range"),
])
def test_bad_controls_are_refused_by_name_and_cost_nothing(system, change, error, words):
    device = system()
    before = json.dumps(device.state_dict())
    with pytest.raises(error, match=words):
        device(*change(*controls(device, 3)))
    assert json.dumps(device.state_dict()) == before


def test_unknown_parameter_is_refused(system):
    with pytest.raises(TypeError, match="nonsense.*expected one of"):
        system(nonsense=1)


def test_empty_batch_and_untouched_inputs(system):
    device = system()
    assert device(*controls(device, 0)).shape == (0, device.output_dim)
    x, theta = controls(device, 3)
    copies = x.copy(), theta.copy()
    device(x, theta)
    assert np.array_equal(x, copies[0]) and np.array_equal(theta, copies[1])


def test_every_number_has_unit_and_source(system):
    parameters = system().parameters
    table = parameter_table(parameters)
    for field in dataclasses.fields(parameters):
        assert field.metadata["unit"] and len(field.metadata["source"]) > 5
        assert f"`{field.name}`" in table


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5), edge=st.booleans())
def test_any_allowed_control_gives_finite_numbers(system, seed, n, edge):
    device = system(seed=seed)
    x, theta = controls(device, n, seed)
    if edge:
        x, theta = np.full_like(x, device.input_range[1]), np.full_like(theta, device.param_range[0])
    assert np.isfinite(device(x, theta)).all()
