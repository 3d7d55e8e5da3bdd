"""Physics-aware training: the device's values forward, the model's derivatives backward."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pnn_utils.pat import MODES, PhysicalLayer, physics_aware

DEPTHS = (1, 5, 10, 20)


def toy_device(x):
    return 2.0 * x**1.1


def toy_model(x):
    return 2.01 * x**1.1


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def wave_device(x, theta):
    return np.sin(x) * theta


def wave_model(x, theta):
    return torch.sin(1.1 * x) * theta


class Counting:
    """A callable that counts its calls and keeps what it was called with."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.function(*args, **kwargs)


def value_and_slope(f, depth):
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(depth):
        y = f(y)
    (slope,) = torch.autograd.grad(y, x)
    return y.item(), slope.item()


# --- The Supplement's toy example ---


@pytest.mark.parametrize("depth", DEPTHS)
def test_toy_gaps_follow_the_closed_form(depth):
    exact_device = lambda x: 2.0 * x**1.1  # noqa: E731  the same formula, but on tensors
    y_true, slope_true = value_and_slope(exact_device, depth)
    y_model, slope_in_silico = value_and_slope(toy_model, depth)
    y_pat, slope_pat = value_and_slope(physics_aware(toy_device, toy_model), depth)

    drift = 1.005 ** ((1.1**depth - 1) / 0.1) - 1
    assert y_model / y_true - 1 == pytest.approx(drift, abs=1e-12, rel=0)
    assert slope_in_silico / slope_true - 1 == pytest.approx(drift, abs=1e-12, rel=0)
    assert slope_pat / slope_true - 1 == pytest.approx(1.005**depth - 1, abs=1e-12, rel=0)
    assert y_pat / y_true - 1 == pytest.approx(0, abs=1e-12)


def test_two_different_layers_give_the_gradients_worked_out_by_hand():
    # Device a * sin(x), model a * sin(1.1 x): its Jacobian is taken at what was measured.
    f = physics_aware(wave_device, wave_model)
    x, a, b = (double(v).requires_grad_() for v in (0.4, 1.7, -0.8))
    middle = f(x, a)
    y = f(middle, b)
    (y - 0.3).square().sum().backward()

    x0, a0, b0 = 0.4, 1.7, -0.8
    x1 = a0 * np.sin(x0)
    y1 = b0 * np.sin(x1)
    error = 2 * (y1 - 0.3)
    to_middle = error * b0 * 1.1 * np.cos(1.1 * x1)
    assert y.item() == pytest.approx(y1, rel=1e-15)
    assert b.grad.item() == pytest.approx(error * np.sin(1.1 * x1), rel=1e-13)
    assert a.grad.item() == pytest.approx(to_middle * np.sin(1.1 * x0), rel=1e-13)
    assert x.grad.item() == pytest.approx(to_middle * a0 * 1.1 * np.cos(1.1 * x0), rel=1e-13)


# --- A perfect model makes PAT exact ---


def test_gradcheck_when_the_model_is_the_device():
    f = physics_aware(lambda x, theta: np.tanh(x) * theta, lambda x, theta: torch.tanh(x) * theta)
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    theta = double(0.3, -1.2, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(f, (x, theta))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    st.floats(-2, 2),
    st.integers(1, 4),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_perfect_model_equals_autograd(inputs, theta, depth, dtype):
    def model(x, theta):
        return torch.sin(x) + theta * torch.cos(x) ** 2

    def device(x, theta):
        return model(torch.tensor(x), torch.tensor(theta)).numpy()

    results = []
    for f in (physics_aware(device, model), model):
        x = torch.tensor(inputs, dtype=dtype, requires_grad=True)
        control = torch.tensor(theta, dtype=dtype, requires_grad=True)
        y = x
        for _ in range(depth):
            y = f(y, control)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, control.grad))
    for pat, exact in zip(*results, strict=True):
        torch.testing.assert_close(pat, exact, rtol=0, atol=0)


# --- Forward: the device's output, bit for bit ---


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "big-endian"])
def test_output_is_the_devices_bit_for_bit(dtype, layout):
    measured = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    measured[0, 0], measured[1, 1], measured[2, 2] = np.nan, -0.0, np.inf
    given_back = {
        "C": measured,
        "F": np.asfortranarray(measured),
        "reversed": measured[::-1].copy()[::-1],
        "big-endian": measured.astype(measured.dtype.newbyteorder(">")),
    }[layout]
    f = physics_aware(lambda x: given_back, lambda x: x)
    y = f(torch.zeros(5, 3, requires_grad=True))
    assert y.requires_grad
    assert y.detach().numpy().dtype == dtype
    assert y.detach().numpy().tobytes() == measured.tobytes()


def test_output_survives_a_device_that_reuses_its_buffer():
    buffer = np.zeros(2)

    def device(x):
        buffer[:] = x + 1
        return buffer

    f = physics_aware(device, lambda x: x + 1)
    first = f(double(1, 2))
    f(double(10, 20))
    assert first.tolist() == [2, 3]


def test_device_that_returns_its_own_input_makes_no_alias():
    x = double(1, 2)
    y = physics_aware(lambda x: x, lambda x: x)(x)
    x += 1
    assert y.tolist() == [1, 2]


def test_device_may_return_a_tensor_or_a_number():
    x = double(1, 2).requires_grad_()
    y = physics_aware(lambda x: torch.tensor(x) * 3, lambda x: 3 * x)(x)
    y.sum().backward()
    assert y.tolist() == [3, 6] and x.grad.tolist() == [3, 3]
    assert physics_aware(lambda x: float(x.sum()), lambda x: x.sum())(x).item() == 3.0


def test_device_receives_read_only_arrays_of_the_tensors_dtype_and_cannot_change_them():
    seen = []

    def device(x, n):
        seen.append((x, n))
        x += 1
        return x

    x = torch.ones(2, dtype=torch.float32)
    with pytest.raises(ValueError, match="read-only"):
        physics_aware(device, lambda x, n: x)(x, torch.tensor(3))
    array, integer = seen[0]
    assert (
        type(array) is np.ndarray
        and array.dtype == np.float32
        and np.shares_memory(array, x.numpy())
    )
    assert integer.dtype == np.int64
    assert x.tolist() == [1, 1]


def test_gradients_keep_each_inputs_dtype():
    device = lambda x, theta: (x * theta).astype(np.float64)  # noqa: E731
    model = lambda x, theta: x.float() * theta.float()  # noqa: E731
    x = torch.ones(3, dtype=torch.float32, requires_grad=True)
    theta = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    y = physics_aware(device, model)(x, theta)
    y.sum().backward()
    assert y.dtype == torch.float64
    assert x.grad.dtype == torch.float32 and x.grad.tolist() == [2, 2, 2]
    assert theta.grad.dtype == torch.float64 and theta.grad.tolist() == [1, 1, 1]


# --- Arguments ---


def test_integer_float_string_none_and_keyword_arguments_reach_device_and_model():
    def formula(x, index, gain, name, nothing, *, theta, steps, on):
        return gain * theta[index] * x + steps

    device, model = Counting(formula), Counting(formula)
    f = physics_aware(device, model)
    x = double(1, 2).requires_grad_()
    theta = double(5, 7, 9).requires_grad_()
    index, on = torch.tensor([2, 0]), torch.tensor(True)
    y = f(x, index, 0.5, "gain", None, theta=theta, steps=3, on=on)
    y.sum().backward()
    assert y.tolist() == [0.5 * 9 * 1 + 3, 0.5 * 5 * 2 + 3]
    assert x.grad.tolist() == [4.5, 2.5] and theta.grad.tolist() == [1.0, 0.0, 0.5]
    (args, kwargs), (model_args, model_kwargs) = device.calls[0], model.calls[0]
    assert args[1].dtype == np.int64 and kwargs["on"].dtype == np.bool_
    assert args[2:] == model_args[2:] == (0.5, "gain", None)
    assert kwargs["steps"] == model_kwargs["steps"] == 3
    assert torch.equal(model_args[1], index) and isinstance(model_kwargs["on"], torch.Tensor)


def test_call_without_tensors_is_a_measurement():
    assert physics_aware(lambda n, k: np.full(n, k), lambda n, k: None)(2, k=1.5).tolist() == [
        1.5,
        1.5,
    ]


@pytest.mark.parametrize("container", [lambda t: [t], lambda t: (1, t), lambda t: {"theta": t}])
def test_tensors_inside_containers_are_refused(container):
    f = physics_aware(lambda x, more: x, lambda x, more: x)
    with pytest.raises(TypeError, match="'more' is a (list|tuple|dict) that holds tensors"):
        f(double(1), more=container(double(2)))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((np.ones(2), np.ones(2)), "an array of .*, got tuple"),
        ([1.0, 2.0], "an array of .*, got list"),
        (None, "an array of .*, got NoneType"),
        (np.ones(2, dtype=np.uint16), "got uint16"),
        (np.ones(2, dtype=complex), "got complex128"),
        (np.array(["a"]), "got str_"),
        (torch.ones(2, dtype=torch.int32), "got int32"),
    ],
)
def test_outputs_that_are_not_one_real_array_are_refused(output, message):
    with pytest.raises(TypeError, match=message):
        physics_aware(lambda x: output, lambda x: x)(double(1, 2))


# --- Backward: only what is needed ---


def test_frozen_inputs_cause_no_gradient_work():
    class CountingProduct(torch.autograd.Function):
        """x * theta, noting which of the two derivatives is computed."""

        asked = []

        @staticmethod
        def forward(ctx, x, theta):
            ctx.save_for_backward(x, theta)
            return x * theta

        @staticmethod
        def backward(ctx, grad):
            x, theta = ctx.saved_tensors
            CountingProduct.asked.append(tuple(ctx.needs_input_grad))
            return (
                grad * theta if ctx.needs_input_grad[0] else None,
                grad * x if ctx.needs_input_grad[1] else None,
            )

    model = Counting(CountingProduct.apply)
    f = physics_aware(lambda x, theta: x * theta, model)
    x, theta = double(1, 2), double(3, 4).requires_grad_()
    y = f(x, theta)
    assert not model.calls  # the forward pass needs no model
    y.sum().backward()
    assert CountingProduct.asked == [(False, True)] and len(model.calls) == 1
    assert x.grad is None and theta.grad.tolist() == [1, 2]


def test_model_is_never_called_where_no_gradient_is_needed():
    model = Counting(wave_model)
    f = physics_aware(wave_device, model)
    assert not f(double(1), double(2)).requires_grad
    x = double(1).requires_grad_()
    with torch.no_grad():
        f(x, double(2))
    torch.vmap(f)(double(1, 2), double(2, 3))
    assert not model.calls


def test_model_parameters_receive_no_gradients():
    model = torch.nn.Linear(3, 3)
    f = physics_aware(lambda x: x, model)
    x = torch.ones(2, 3, requires_grad=True)
    f(x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_input_the_model_ignores_gets_zero_and_a_detached_model_is_an_error():
    x, theta = double(1, 2).requires_grad_(), double(3, 4).requires_grad_()
    physics_aware(wave_device, lambda x, theta: 2 * x)(x, theta).sum().backward()
    assert x.grad.tolist() == [2, 2] and theta.grad.tolist() == [0, 0]
    for model in (lambda x, theta: x.detach(), torch.nn.Bilinear(2, 2, 2)):
        detached = physics_aware(
            wave_device, lambda x, theta, m=model: m(x.detach(), theta.detach())
        )
        with pytest.raises(RuntimeError, match="depends on none of the inputs"):
            detached(x.float(), theta.float()).sum().backward()


def test_model_of_another_shape_is_refused():
    x = torch.ones(4, 3, requires_grad=True)
    y = physics_aware(lambda x: x, lambda x: x.sum(1, keepdim=True))(x)
    with pytest.raises(
        ValueError, match=r"model must return .* the device's output, \(4, 3\), got \(4, 1\)"
    ):
        y.sum().backward()


def test_model_that_returns_no_tensor_is_refused():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="one tensor .*, got tuple"):
        physics_aware(lambda x: x, lambda x: (x, x))(x).sum().backward()


def test_input_changed_between_forward_and_backward_is_noticed():
    theta = double(1).requires_grad_()
    x = double(2)
    y = physics_aware(wave_device, wave_model)(x, theta)
    x += 1  # the measured input is gone: its Jacobian would be taken elsewhere
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# --- Second derivatives are refused ---


@pytest.mark.parametrize(
    "loss", [torch.sum, lambda y: y.square().sum()], ids=["linear", "quadratic"]
)
def test_double_backward_is_refused(loss):
    f = physics_aware(wave_device, wave_model)
    x = double(0.3, 0.4).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(f(x, double(1, 2))), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.autograd.grad((gradient * x).sum(), x)


def test_nested_torch_func_grad_is_refused():
    f = physics_aware(wave_device, wave_model)
    slope = torch.func.grad(lambda x: f(x, double(2)).sum())
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.func.grad(lambda x: slope(x).sum())(double(0.3))
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.func.jacrev(torch.func.jacrev(lambda x: f(x, double(2))))(double(0.3))


# --- torch.func ---


def wave_loss(f):
    return lambda x, theta: f(x, theta).square().sum()


def wave_batch():
    return torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3), double(0.5, 1.5, -2.0)


def eager_gradients(f, x, theta):
    x, theta = x.clone().requires_grad_(), theta.clone().requires_grad_()
    return torch.autograd.grad(wave_loss(f)(x, theta), (x, theta))


def test_func_grad_agrees_with_backward_and_leaves_other_inputs_alone():
    model = Counting(wave_model)
    f = physics_aware(wave_device, model)
    x, theta = wave_batch()
    expected = eager_gradients(f, x, theta)
    for found, wanted in zip(
        torch.func.grad(wave_loss(f), (0, 1))(x, theta), expected, strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)
    model.calls.clear()
    torch.func.grad(wave_loss(f), 1)(x, theta)
    (seen_x, seen_theta), _ = model.calls[0]
    assert len(model.calls) == 1 and not seen_x.requires_grad and seen_theta.requires_grad


def test_vmap_runs_the_device_once_per_element_with_its_exact_output():
    device = Counting(wave_device)
    f = physics_aware(device, wave_model)
    x, theta = wave_batch()
    y = torch.vmap(f, in_dims=(0, None))(x, theta)
    assert y.numpy().tobytes() == wave_device(x.numpy(), theta.numpy()).tobytes()
    assert [args[0].shape for args, _ in device.calls] == [(3,)] * 4
    across = torch.vmap(f, in_dims=(1, 0), out_dims=1)(x, theta)
    assert torch.equal(across, y)
    twice = torch.vmap(torch.vmap(f, in_dims=(0, 0)), in_dims=(0, None))(x, theta)
    assert torch.equal(twice, y)


def test_vmap_of_grad_gives_gradients_per_sample():
    f = physics_aware(wave_device, wave_model)
    x, theta = wave_batch()
    grad_x, grad_theta = torch.vmap(torch.func.grad(wave_loss(f), (0, 1)), in_dims=(0, None))(
        x, theta
    )
    for i in range(len(x)):
        expected_x, expected_theta = eager_gradients(f, x[i], theta)
        torch.testing.assert_close(grad_x[i], expected_x, rtol=1e-13, atol=0)
        torch.testing.assert_close(grad_theta[i], expected_theta, rtol=1e-13, atol=0)


def test_grad_of_vmap_sums_over_samples():
    f = physics_aware(wave_device, wave_model)
    x, theta = wave_batch()
    batched = torch.vmap(f, in_dims=(0, None))
    for found, wanted in zip(
        torch.func.grad(wave_loss(batched), (0, 1))(x, theta),
        eager_gradients(f, x, theta),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


def test_jacrev_is_the_models_jacobian_at_the_measured_inputs():
    f = physics_aware(wave_device, wave_model)
    x, theta = wave_batch()
    first = f(x[0], theta)
    jacobian = torch.func.jacrev(lambda x: f(f(x, theta), theta))(x[0])
    by_hand = [torch.diag(theta * 1.1 * torch.cos(1.1 * inputs)) for inputs in (x[0], first)]
    torch.testing.assert_close(jacobian, by_hand[1] @ by_hand[0], rtol=1e-13, atol=0)
    per_sample = torch.vmap(torch.func.jacrev(f), in_dims=(0, None))(x, theta)
    torch.testing.assert_close(per_sample[0], by_hand[0], rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "model", [lambda x, theta: x, lambda x, theta: x + theta], ids=["first", "sum"]
)
def test_models_whose_gradients_are_the_incoming_one_itself(model):
    # Then the backward pass hands on one and the same tensor, once or twice.
    f = physics_aware(wave_device, model)
    x, theta = double(1, 2), double(3, 4)
    expected = eager_gradients(f, x, theta)
    for found, wanted in zip(
        torch.func.grad(wave_loss(f), (0, 1))(x, theta), expected, strict=True
    ):
        assert torch.equal(found, wanted)
    per_sample = torch.vmap(torch.func.grad(wave_loss(f), (0, 1)))(x, theta)
    for found, wanted in zip(per_sample, expected, strict=True):
        assert torch.equal(found, wanted)


def test_one_tensor_in_two_places_gets_the_sum():
    x = double(0.5).requires_grad_()
    physics_aware(lambda a, b: a * b, lambda a, b: a * b**2)(x, x).backward()
    assert x.grad.item() == pytest.approx(3 * 0.5**2, rel=1e-15)


def test_forward_mode_is_not_defined():
    f = physics_aware(wave_device, wave_model)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda x: f(x, double(2)), (double(1),), (double(1),))


# --- PhysicalLayer ---


class Twin(torch.nn.Module):
    """A model with parameters of its own, close to the device below."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.1))

    def forward(self, x, theta):
        return torch.sin(self.scale * x) * theta


def layer_and_input(mode="pat", dtype=torch.float32):
    device, twin = Counting(wave_device), Twin()
    layer = PhysicalLayer(device, twin, torch.tensor([0.5, 1.5, -2.0], dtype=dtype), mode=mode)
    x = torch.linspace(-1, 1, 12, dtype=dtype).reshape(4, 3).requires_grad_()
    return layer, device, twin, x


def exact(function, x, layer):
    x, theta = x.detach(), layer.theta.detach()
    if function is wave_device:
        return torch.from_numpy(wave_device(x.numpy(), theta.numpy()))
    return function(x, theta)


def test_pat_mode_measures_forward_and_models_backward():
    layer, device, _, x = layer_and_input()
    y = layer(x)
    assert torch.equal(y, exact(wave_device, x, layer))
    y.sum().backward()
    torch.testing.assert_close(layer.theta.grad, torch.sin(1.1 * x.detach()).sum(0))
    torch.testing.assert_close(x.grad, 1.1 * torch.cos(1.1 * x.detach()) * layer.theta.detach())
    ((args, _),) = device.calls
    assert args[0].shape == (4, 3) and args[1].shape == (4, 3)


def test_in_silico_mode_never_touches_the_device():
    layer, device, _, x = layer_and_input("in_silico")
    y = layer(x)
    torch.testing.assert_close(y, exact(wave_model, x, layer))
    y.sum().backward()
    torch.testing.assert_close(layer.theta.grad, torch.sin(1.1 * x.detach()).sum(0))
    assert not device.calls


def test_device_mode_measures_without_gradients():
    layer, device, _, x = layer_and_input("device")
    y = layer(x)
    assert torch.equal(y, exact(wave_device, x, layer)) and not y.requires_grad
    assert len(device.calls) == 1


def test_pat_mode_respects_no_grad():
    layer, _, _, x = layer_and_input()
    with torch.no_grad():
        assert not layer(x).requires_grad


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_training_a_network_leaves_the_twin_untouched(mode):
    layer, _, twin, x = layer_and_input(mode)
    network = torch.nn.Sequential(layer, torch.nn.Linear(3, 2))
    assert {name for name, _ in network.named_parameters()} == {"0.theta", "1.weight", "1.bias"}
    assert list(layer.state_dict()) == ["theta"] and list(layer.children()) == []
    before, theta = copy.deepcopy(twin.state_dict()), layer.theta.detach().clone()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    network(x).square().sum().backward()
    optimiser.step()
    assert not torch.equal(layer.theta, theta)
    assert torch.equal(twin.scale, before["scale"])


@pytest.mark.parametrize("mode", MODES)
def test_output_has_the_dtype_of_x_whatever_the_device_returns(mode):
    device = lambda x, theta: (x * theta).astype(np.float64)  # noqa: E731
    layer = PhysicalLayer(device, lambda x, theta: (x * theta).double(), torch.ones(3), mode=mode)
    assert layer(torch.ones(2, 3)).dtype == torch.float32


def test_mode_can_be_switched_and_is_checked():
    layer, device, _, x = layer_and_input()
    for mode in ("in_silico", "device", "pat"):
        layer.mode = mode
        assert layer.mode == mode
    with pytest.raises(ValueError, match="one of 'pat', 'in_silico', 'device', got 'simulate'"):
        layer.mode = "simulate"
    assert layer.mode == "pat"
    with pytest.raises(ValueError, match="got 'PAT'"):
        layer_and_input("PAT")


def test_layers_can_share_one_parameter():
    shared = torch.nn.Parameter(torch.ones(3))
    network = torch.nn.Sequential(
        *(PhysicalLayer(wave_device, wave_model, shared) for _ in range(3))
    )
    assert len(list(network.parameters())) == 1
    network(torch.ones(2, 3)).sum().backward()
    assert shared.grad.abs().min() > 0


def test_tensor_theta_is_copied():
    start = torch.ones(3)
    layer = PhysicalLayer(wave_device, wave_model, start)
    with torch.no_grad():
        layer.theta += 1
    assert start.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (torch.ones(2, 3), ValueError, r"\(param_dim\), got \(2, 3\)"),
        (torch.ones(3, dtype=torch.int64), TypeError, "torch.int64"),
        (np.ones(3), TypeError, "ndarray"),
    ],
)
def test_bad_theta_is_refused(theta, error, message):
    with pytest.raises(error, match=message):
        PhysicalLayer(wave_device, wave_model, theta)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(3), ValueError, r"\(batch, input_dim\), got \(3,\)"),
        (torch.ones(2, 3, dtype=torch.int32), TypeError, "torch.int32"),
        (np.ones((2, 3)), TypeError, "ndarray"),
    ],
)
def test_bad_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        PhysicalLayer(wave_device, wave_model, torch.ones(3))(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu_reach_the_device_and_come_back():
    x = torch.ones(3, device="cuda", requires_grad=True)
    y = physics_aware(lambda x: x * 2, lambda x: x * 2)(x)
    y.sum().backward()
    assert y.is_cuda and x.grad.tolist() == [2, 2, 2]


# --- What users of torch do with a layer ---


class Wave:
    """The wave device with a pass counter."""

    def __init__(self):
        self.passes, self.seen = 0, []

    def __call__(self, x, theta):
        self.passes += len(x)
        self.seen.append((x, theta))
        return wave_device(x, theta)


def wave_layer(device, mode="pat", **settings):
    return PhysicalLayer(device, wave_model, torch.tensor([0.5, 1.5, -2.0]), mode, **settings)


def step(network, x):
    """Loss and gradients of one step, the input's first."""
    x = x.clone().requires_grad_()
    loss = network(x).square().sum()
    loss.backward()
    found = [loss.detach(), x.grad, *(parameter.grad for parameter in network.parameters())]
    network.zero_grad()
    return found


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_compiled_layer_asks_the_device_and_gets_the_models_gradients(mode, inside):
    torch.compiler.reset()
    device = Wave()
    network = wave_layer(device, mode)
    if inside:
        network = torch.nn.Sequential(torch.nn.Linear(3, 3), network, torch.nn.Linear(3, 2))
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    expected = step(network, x)
    passes = device.passes
    compiled = step(torch.compile(network, backend="aot_eager"), x)
    for found, wanted in zip(compiled, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert device.passes == 2 * passes == (8 if mode == "pat" else 0)


def test_a_step_compiled_as_a_whole_measures_anew_each_time():
    def trained(compiler):
        torch.compiler.reset()
        device = Wave()
        layer = wave_layer(device)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)

        def train(x):
            optimiser.zero_grad()
            layer(x).square().sum().backward()
            optimiser.step()

        train = compiler(train)
        for n in range(3):
            train(torch.linspace(-1, 1, 12).reshape(4, 3) / (n + 1))
        return layer.theta.detach(), device.passes

    found = trained(lambda function: torch.compile(function, backend="aot_eager"))
    expected = trained(lambda function: function)
    torch.testing.assert_close(found, expected)


def test_a_compiled_function_asks_its_device():
    torch.compiler.reset()
    f = physics_aware(lambda x: 2 * np.floor(x), lambda x: 3 * x)
    x = double(1.5, 2.5).requires_grad_()
    y = torch.compile(lambda x: f(x + 1) - 1, backend="aot_eager")(x)
    y.sum().backward()
    assert y.tolist() == [3, 5] and x.grad.tolist() == [3, 3]


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda network: torch.optim.swa_utils.AveragedModel(network),
        lambda network: torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
        ),
    ],
    ids=["deepcopy", "average", "EMA"],
)
def test_a_copied_network_runs_on_the_same_device_with_controls_of_its_own(copied):
    device, twin, x = Wave(), Twin(), torch.ones(4, 3)
    network = torch.nn.Sequential(PhysicalLayer(device, twin, torch.ones(3)))
    other = copied(network)
    other(x)
    network(x)
    assert device.passes == 8
    (inner,) = (part for part in other.modules() if isinstance(part, PhysicalLayer))
    inner.mode = "in_silico"
    with torch.no_grad():
        network[0].theta += 1
        twin.scale += 1
        assert inner.theta.tolist() == [1, 1, 1] and network[0].mode == "pat"
        assert torch.equal(other(x), twin(x, torch.ones(4, 3)))


def test_averages_of_weights_are_taken_of_the_controls():
    network = torch.nn.Sequential(wave_layer(Wave()))
    averages = [
        torch.optim.swa_utils.AveragedModel(network),
        torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.75)
        ),
    ]
    for _ in range(2):
        for average in averages:
            average.update_parameters(network)
        with torch.no_grad():
            network[0].theta += 1
    start = torch.tensor([0.5, 1.5, -2.0])
    for average, shift in zip(averages, (0.5, 0.25), strict=True):
        torch.testing.assert_close(average.module[0].theta.detach(), start + shift)


def test_a_pickled_layer_gives_the_same_readings():
    layer, x = PhysicalLayer(wave_device, Twin(), torch.ones(3), "in_silico"), torch.ones(2, 3)
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    for again in (pickle.loads(pickle.dumps(layer)), torch.load(saved, weights_only=False)):
        assert again.mode == "in_silico"
        for mode in MODES:
            layer.mode = again.mode = mode
            assert torch.equal(again(x), layer(x))


def test_with_float64_as_default_controls_and_readings_are_float64():
    torch.set_default_dtype(torch.float64)
    try:
        device = Wave()
        layer, x = wave_layer(device), torch.linspace(-1, 1, 12).reshape(4, 3)
        y, gradients = layer(x), step(layer, x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(array.dtype == np.float64 for array in device.seen[0])
    assert y.dtype == layer.theta.dtype == torch.float64
    assert all(gradient.dtype == torch.float64 for gradient in gradients)


# --- Half precision ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("around", ["forward", "step"])
def test_autocast_around_a_layer_hands_it_the_same_numbers_in_float32(mode, half, around):
    device = Wave()
    first, layer = torch.nn.Linear(3, 3), wave_layer(device, mode)
    with torch.autocast("cpu", half):
        controls = first(torch.linspace(-1, 1, 12).reshape(4, 3))
        y = layer(controls)
        loss = y.float().square().sum()
        if around == "step" and mode != "device":
            loss.backward()
    if around == "forward" and mode != "device":
        loss.backward()
    assert controls.dtype == y.dtype == half
    if mode != "in_silico":
        ((x, theta),) = device.seen
        assert x.dtype == theta.dtype == np.float32
        assert torch.equal(torch.tensor(x), controls.float())
    if mode != "device":
        # Rounded to half precision, the terms of one entry can cancel; those of a row do not.
        assert first.weight.grad.abs().amax(1).min() > 0 and layer.theta.grad.abs().min() > 0
        assert first.weight.grad.dtype == layer.theta.grad.dtype == torch.float32


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_controls_of_half_precision_are_measured_and_differentiated_in_float32(mode, half):
    device = Wave()
    layer = wave_layer(device, mode).to(half)
    x = torch.linspace(-1, 1, 12, dtype=half).reshape(4, 3).requires_grad_()
    y = layer(x)
    y.sum().backward()
    wide = x.detach().float(), layer.theta.detach().float()
    slope = 1.1 * torch.cos(1.1 * wide[0]) * wide[1]
    assert y.dtype == x.grad.dtype == layer.theta.grad.dtype == half
    torch.testing.assert_close(x.grad, slope.to(half))
    assert all(array.dtype == np.float32 for pair in device.seen for array in pair)


def test_a_function_of_bfloat16_is_measured_in_float32_which_holds_it_exactly():
    x = torch.tensor([1.5, 2.25], dtype=torch.bfloat16, requires_grad=True)
    y = physics_aware(lambda x: 2 * x, lambda x: 3 * x)(x)
    y.sum().backward()
    assert y.dtype == torch.float32 and y.tolist() == [3, 4.5] and x.grad.tolist() == [3, 3]


def test_a_device_made_of_torch_may_have_weights_and_meet_autocast():
    simulator, x = torch.nn.Linear(3, 3), torch.ones(4, 3, requires_grad=True)
    f = physics_aware(lambda x: simulator(torch.tensor(x)), lambda x: 2 * x)
    f(x).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        y = f(x)
        assert torch.equal(y, simulator(x).float())
    y.sum().backward()
    assert x.grad.unique().tolist() == [4] and simulator.weight.grad is None
