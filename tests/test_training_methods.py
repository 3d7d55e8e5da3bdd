"""The methods of notebook 09: what their gradients are, on a device whose gradient is known.

The device is linear, y = x A + theta C, and its model exact, so that every method that uses a
model has to find the true gradient, and one without a model has to find it on average.
"""

from functools import partial

import numpy as np
import pytest
import torch

from notebooks.benchmark_methods import methods as newer
from notebooks.benchmark_methods.local import Local, phyll
from pnn_utils import methods, parts
from pnn_utils.networks.chain import Chain
from pnn_utils.systems.base import PhysicalSystem

WIDTH, CLASSES, ROWS, LAYERS = 6, 3, 20, 2
RNG = np.random.default_rng(0)
MATRIX, BY_THETA = (RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32) for _ in range(2))


def model(x, theta):
    return x @ torch.tensor(MATRIX) + theta @ torch.tensor(BY_THETA)


class Linear(PhysicalSystem):
    """y = x A + theta C, as the model computes it, to the last bit; counts its passes itself."""

    input_dim = param_dim = output_dim = WIDTH
    input_range = param_range = (-2.0, 2.0)

    def __init__(self):
        super().__init__()
        self.rows = 0

    def respond(self, x, theta):
        self.rows += len(x)
        return model(torch.tensor(x), torch.tensor(theta)).numpy()


def wrong(x, theta):
    return torch.tanh(x) @ torch.tensor(MATRIX) + 0.5 * theta @ torch.tensor(BY_THETA)


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def chain(device, twin, layers=LAYERS, squash=parts.Within):
    generator = torch.Generator().manual_seed(2)
    scale, offset, theta = 0.5 * torch.randn(3, layers, WIDTH, generator=generator)
    pool = parts.Pool(parts.windows(WIDTH, CLASSES))
    network = Chain(device, twin, scale, offset, theta, squash,
                    [parts.Standardise() for _ in scale], pool, skip=True, mode="device")
    network.calibrate(data()[0])
    return network


def stepped(method, device, twin=model, **settings):
    """The gradient that a method follows at its start: one tensor, all trainable numbers."""
    settings = {"layers": LAYERS, "squash": parts.Within} | settings
    shape = {name: settings.pop(name) for name in ("layers", "squash")}
    kept, clip = [], torch.nn.utils.clip_grad_norm_

    def keep(parameters, size):  # `train` calls it with the gradient, before the step
        kept.append(torch.cat([p.grad.flatten() for p in parameters]))
        return clip(kept, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        method(lambda twin: chain(device, twin, **shape), twin, device, *data(), seed=0, epochs=1,
               learning_rate=1e-9, clip=1e9, **settings)
    return kept[0]


def true_gradient(**shape):
    """By autograd through the linear device's own equation."""
    network = chain(Linear(), model, **shape).set_mode("in_silico")
    x, y = data()
    loss = torch.nn.functional.cross_entropy(network(x), y)
    found = torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


GRADIENT = {"pat": methods.pat, "in_silico": methods.in_silico,
            "exact": partial(methods.exact, true=lambda device: model),
            "output_only": partial(methods.mixed, loss="device", states="model"),
            "asyt": newer.asyt, "dat": newer.dat,
            "sat": partial(newer.sat, mode="in_silico", rho=0.0),
            "sat_pat": partial(newer.sat, mode="pat", rho=0.0)}


@pytest.mark.parametrize("name", GRADIENT)
def test_with_an_exact_model_every_gradient_method_has_the_true_gradient(name):
    torch.testing.assert_close(stepped(GRADIENT[name], Linear()), true_gradient(),
                               rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", sorted(GRADIENT.keys() - {"exact"}))
def test_with_a_wrong_model_none_has(name):
    found = stepped(GRADIENT[name], Linear(), wrong)
    assert (found - true_gradient()).norm() > 0.05 * true_gradient().norm()


def test_asymmetrical_training_is_half_in_silico_and_half_output_only():
    whole, silico, output = (stepped(GRADIENT[name], Linear(), wrong)
                             for name in ("asyt", "in_silico", "output_only"))
    torch.testing.assert_close(whole, (silico + output) / 2, rtol=1e-3, atol=1e-6)
    assert (silico - output).norm() > 0.05 * whole.norm()


@pytest.mark.parametrize("mode", ["in_silico", "pat"])
def test_sharpness_aware_training_takes_the_gradient_where_the_definition_says(mode):
    rho, device = 0.3, Linear()
    found = stepped(partial(newer.sat, mode=mode, rho=rho), device)
    network, (x, y) = chain(Linear(), model).set_mode("in_silico"), data()
    numbers = list(network.parameters())

    def gradient():
        return torch.autograd.grad(torch.nn.functional.cross_entropy(network(x), y), numbers)

    first = gradient()
    length = torch.cat([(p * g).flatten() for p, g in zip(numbers, first, strict=True)]).norm()
    with torch.no_grad():
        for p, g in zip(numbers, first, strict=True):
            p += rho * p * p * g / length
    expected = torch.cat([g.flatten() for g in gradient()])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert (expected - true_gradient()).norm() > 0.02 * expected.norm()


def test_the_mean_of_spsa_converges_to_the_true_gradient():
    """As one over the root of the number of draws; the step's own error is far below."""
    true, missed = true_gradient(), []
    for draws in (20, 1200):
        found = stepped(newer.spsa, Linear(), None, draws=draws)
        missed.append(float((found - true).norm() / true.norm()))
    assert missed[1] < 0.3 and 4 < missed[0] / missed[1] < 15


def test_spsa_leaves_the_numbers_where_they_were_but_for_adams_step():
    device = Linear()
    network, _ = newer.spsa(lambda twin: chain(device, twin), None, device, *data(), seed=0,
                            epochs=1, learning_rate=1e-30)
    for after, before in zip(network.parameters(), chain(device, None).parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-20)


def test_spsa_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    """Its steps shrink as training goes on, and its signs are drawn by the run's generator."""
    def run(stop_at=None, **checkpoint):
        device, calls = Linear(), []

        def validate(network):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return {}

        network, _ = newer.spsa(lambda twin: chain(device, twin), None, device, *data(), seed=0,
                                epochs=8, learning_rate=0.1, validate=validate, **checkpoint)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(5, checkpoint=tmp_path / "run")
    assert torch.equal(run(checkpoint=tmp_path / "run"), whole)


def corrections(twin, monkeypatch):
    """What the error networks of dual adaptive training add to a model after some epochs."""
    made, build = [], newer.Corrected

    def keeping(*arguments):
        made.append(build(*arguments))
        return made[-1]

    monkeypatch.setattr(newer, "Corrected", keeping)
    device, x = Linear(), data()[0].clamp(-2, 2)
    newer.dat(lambda twin: chain(device, twin), twin, device, *data(), seed=0, epochs=300,
              learning_rate=0.01)
    theta = torch.zeros(ROWS, WIDTH)
    return [(one(x, theta) - twin(x, theta)).detach() for one in made], x, theta


def test_without_error_dual_adaptive_training_learns_nothing(monkeypatch):
    found, *_ = corrections(model, monkeypatch)
    assert len(found) == LAYERS
    assert all(added.abs().max() < 1e-4 * np.abs(MATRIX).max() for added in found)


def test_with_a_wrong_model_it_learns_part_of_the_error(monkeypatch):
    """On the last layer's own readings, which it was fitted to."""
    kept, fit = [], newer.Corrected.fit

    def watched(self, x, theta, measured, steps):
        with torch.no_grad():
            kept.append(float((self(x, theta) - measured).norm()
                              / (self.model[0](x, theta) - measured).norm()))
        fit(self, x, theta, measured, steps)

    monkeypatch.setattr(newer.Corrected, "fit", watched)
    corrections(wrong, monkeypatch)
    assert kept[0] == 1 and np.mean(kept[-2:]) < 0.5


def test_feedback_that_is_the_true_path_gives_the_true_gradient(monkeypatch):
    """The last layer's error reaches its controls through read-out and device: B = W^T A^T."""
    network = chain(Linear(), model, layers=1)
    readout = network.readout.weights / network.readout.standardise.sd * network.readout.factor
    paths = [(readout.T @ torch.tensor(M).T).detach() for M in (MATRIX, BY_THETA)]
    monkeypatch.setattr(newer, "random_paths", lambda *_: paths)
    found = stepped(newer.dfa, Linear(), None, layers=1)
    torch.testing.assert_close(found, true_gradient(layers=1), rtol=1e-3, atol=1e-5)


def test_feedback_is_random_fixed_by_the_seed_and_the_augmented_slope_counts():
    plain, again = (stepped(newer.dfa, Linear(), None) for _ in range(2))
    assert torch.equal(plain, again)
    cosine = torch.cosine_similarity(plain, true_gradient(), dim=0)
    assert abs(cosine) < 0.9
    augmented = stepped(partial(newer.dfa, slope=torch.cos), Linear(), None)
    assert not torch.allclose(plain, augmented)
    # The one digital number, the factor on the logits, has its true gradient in either case.
    names = [name for name, _ in chain(Linear(), model).named_parameters()]
    sizes = [p.numel() for p in chain(Linear(), model).parameters()]
    place = sum(sizes[:names.index("readout.factor")])
    for found in (plain, augmented):
        assert found[place] == pytest.approx(float(true_gradient()[place]), rel=1e-3)


# Passes a layer, row and step, as the ledger of the notebook counts them.
PASSES = {"pat": 1, "in_silico": 0, "output_only": 1, "asyt": 1, "dat": 1, "sat": 0, "sat_pat": 2,
          "spsa": 2, "dfa": 1}


@pytest.mark.parametrize("name", PASSES)
def test_a_device_is_called_as_often_as_the_ledger_says(name):
    method = GRADIENT.get(name) or {"spsa": newer.spsa, "dfa": newer.dfa}[name]
    device, epochs = Linear(), 3
    method(lambda twin: chain(device, twin), model, device, *data(), seed=0, epochs=epochs,
           learning_rate=0.01, batch_size=7)
    assert device.rows == device.passes == ROWS * LAYERS * (1 + epochs * PASSES[name])


@pytest.mark.parametrize("name", [*sorted(PASSES), "spsa_three"])
def test_a_method_trains_what_can_be_trained(name):
    """All but direct feedback, whose random path a chain without digital weights cannot meet."""
    method = GRADIENT.get(name) or {"spsa": newer.spsa, "dfa": newer.dfa, "spsa_three": partial(
        newer.spsa, draws=3)}[name]
    device = Linear()
    _, history = method(lambda twin: chain(device, twin), model, device, *data(), seed=0,
                        epochs=60, learning_rate=0.05)
    losses = [row["loss"] for row in history]
    assert np.isfinite(losses).all() and (name == "dfa" or losses[-1] < 0.8 * losses[0])


def local():
    device = Linear()
    return device, Local(device, WIDTH, CLASSES, LAYERS, torch.Generator().manual_seed(0),
                         device.input_range)


def test_local_learning_trains_on_twice_the_passes_and_reads_with_one_a_class():
    device, network = local()
    x, y = data()
    network, history = phyll(network, device, x, y, seed=0, epochs=150, learning_rate=0.02)
    assert device.passes == ROWS * LAYERS * (1 + 150 * 2)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    before = device.passes
    assert (network(x).argmax(1) == y).float().mean() > 0.8
    assert device.passes - before == ROWS * LAYERS * CLASSES


def test_no_gradient_of_local_learning_passes_a_layer():
    _, network = local()
    network.calibrate(*data())
    for n, goodness in enumerate(network.goodness(*data())):
        found = torch.autograd.grad(goodness.sum(), [part.weight for part in network.digital],
                                    retain_graph=True, materialize_grads=True)
        assert [bool(g.abs().max() > 0) for g in found] == [layer == n for layer in range(LAYERS)]


def test_the_contrastive_loss_is_the_sum_over_layers_of_its_definition():
    from notebooks.benchmark_methods.local import _Contrast

    _, network = local()
    x, y = data()
    network.calibrate(x, y)
    loss = torch.nn.functional.cross_entropy(
        _Contrast(network, torch.Generator().manual_seed(3))(torch.cat([x, y[:, None]], 1)),
        torch.zeros_like(y))
    other = torch.randint(1, CLASSES, y.shape, generator=torch.Generator().manual_seed(3))
    ahead = network.goodness(x, y) - network.goodness(x, (y + other) % CLASSES)
    expected = (1 + (-4 * ahead).exp()).log().sum(0).mean()
    torch.testing.assert_close(loss, expected)
