"""The door of a device that somebody else wrote: what it is sent, and what may come back."""

import numpy as np
import pytest
import torch

from pnn_utils.systems.base import PhysicalSystem


class Function(PhysicalSystem):
    """A device whose answer is any function of the controls."""

    input_dim = param_dim = output_dim = 3
    control_unit = "A"

    def __init__(self, answer=lambda x, theta: x * theta, **ranges):
        super().__init__()
        self.answer = answer
        vars(self).update(ranges)

    def respond(self, x, theta):
        return self.answer(x, theta)


def controls(n=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.random((n, 3)).astype(dtype), rng.random((n, 3)).astype(dtype)


def scale(x, theta):
    x *= 5.0
    return x * theta


def scale_parameters(x, theta):
    theta *= 5.0
    return x * theta


@pytest.mark.parametrize("answer", [scale, scale_parameters])
@pytest.mark.parametrize("one_row", [False, True])
def test_a_device_that_writes_into_its_controls_does_not_change_the_callers(answer, one_row):
    x, theta = controls()
    theta = theta[0] if one_row else theta
    kept = x.copy(), theta.copy()
    with pytest.raises(ValueError, match="read-only"):
        Function(answer)(x, theta)
    assert np.array_equal(x, kept[0]) and np.array_equal(theta, kept[1])
    assert x.flags.writeable and theta.flags.writeable


def test_large_controls_are_not_copied():
    seen = []
    x, theta = controls()
    Function(lambda x, theta: seen.extend([x, theta]) or x)(x, theta)
    assert np.shares_memory(seen[0], x) and np.shares_memory(seen[1], theta)
    assert seen[0].strides == x.strides


def test_readings_are_the_callers_own_though_the_device_uses_its_buffer_again():
    buffer = np.empty((4, 3), np.float32)

    def answer(x, theta):
        return np.multiply(x, theta, out=buffer)

    device, (x, theta) = Function(answer), controls()
    first = device(x, theta)
    device(1 - x, theta)
    assert np.array_equal(first, x * theta)
    unchanged = Function(lambda x, theta: x)(x, theta)
    unchanged += 1
    assert (x <= 1).all()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_device_may_answer_with_a_tensor(grad, dtype):
    x, theta = controls(dtype=dtype)
    product = torch.tensor(x * theta, requires_grad=grad)
    y = Function(lambda x, theta: product)(x, theta)
    assert type(y) is np.ndarray and y.dtype == dtype and np.array_equal(y, x * theta)


@pytest.mark.parametrize("spoil, words", [
    (lambda y: y + 1j, "readings have dtype complex"),
    (lambda y: np.ma.masked_greater(y, 0.1), "unmasked"),
    (lambda y: y.astype(str), "readings have dtype <U"),
    (lambda y: y.astype(object), "readings have dtype object"),
    (lambda y: None, "readings have dtype object")])
def test_what_is_no_real_number_is_no_reading(spoil, words):
    device = Function(lambda x, theta: spoil(x * theta))
    with pytest.raises(TypeError, match=words):
        device(*controls())


def test_masked_controls_are_refused_for_the_mask_would_be_lost():
    x, theta = controls()
    for pair in ((np.ma.masked_greater(x, 0.5), theta), (x, np.ma.masked_greater(theta, 0.5))):
        with pytest.raises(TypeError, match="unmasked"):
            Function()(*pair)


@pytest.mark.parametrize("kind", [float, np.float64, lambda end: np.full(3, end)])
@pytest.mark.parametrize("low, high", [(0.1, 0.9), (0.7, 0.8), (4e-3, 20e-3), (-1 / 3, 0.3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_a_range_are_allowed_in_the_controls_own_precision(kind, low, high, dtype):
    allowed = kind(low), kind(high)
    device = Function(input_range=allowed, param_range=allowed)
    x = np.array([[low, high, low]], dtype)
    assert np.array_equal(device(x, x), x * x)
    for step, end in ((-np.inf, low), (np.inf, high)):
        wrong = x.copy()
        wrong[0, 1] = np.nextafter(dtype(end), dtype(step))
        words = r"\[0, 1\] = .* is outside the allowed range \[.*, .*\] \(unit: A\)"
        for name, pair in (("x", (wrong, x)), ("theta", (x, wrong))):
            with pytest.raises(ValueError, match=name + words):
                device(*pair)


def test_the_error_names_the_range_of_the_control_that_left_it():
    device = Function(input_range=(np.array([0.0, 0.3, -1.0]), np.array([1.0, 0.3, 2.5])))
    x, theta = np.array([[1.0, 0.3, 2.5], [0.0, 0.3, -1.0]], np.float32), np.zeros(3)
    assert device(x, theta).shape == (2, 3)
    for column, words in enumerate((r"\[0.0, 1.0\]", r"\[0.3, 0.3\]", r"\[-1.0, 2.5\]")):
        wrong = x.copy()
        wrong[1, column] = 2.75
        with pytest.raises(ValueError, match=rf"x\[1, {column}\] = .*2.75.* {words}"):
            device(wrong, theta)


def test_infinite_controls_are_refused_though_the_range_has_no_end():
    device = Function(input_range=(-np.inf, np.inf))
    x, theta = controls()
    assert device(1e30 * x, theta).shape == (4, 3)
    x[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"x\[2, 1\] = .*inf"):
        device(x, theta)


@pytest.mark.parametrize("allowed", [
    (0.0,), (0.0, 0.5, 1.0), (np.zeros(2), np.ones(2)), (0, 10**400), 1.0])
def test_a_range_that_is_none_is_refused_by_name(allowed):
    for name, ranges in (("x", {"input_range": allowed}), ("theta", {"param_range": allowed})):
        with pytest.raises(ValueError, match=f"the range of {name} is .*expected"):
            Function(**ranges)(*controls())


@pytest.mark.parametrize("allowed", [
    (0.0, np.nan), (1.0, 0.0), (None, 1.0), (np.zeros(3), [1.0, np.nan, 1.0])])
def test_in_a_range_that_holds_no_number_nothing_is_sent(allowed):
    for ranges in ({"input_range": allowed}, {"param_range": allowed}):
        with pytest.raises(ValueError, match=r"outside the allowed range \[(.*nan|1\.0, 0\.0)"):
            Function(**ranges)(*controls())


def test_one_row_of_parameters_may_be_a_vector_or_a_matrix():
    x, theta = controls()
    expected = x * theta[0]
    for row in (theta[0], theta[:1]):
        assert np.array_equal(Function()(x, row), expected)
