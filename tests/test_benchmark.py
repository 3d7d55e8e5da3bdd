"""Notebook 09's plan and ledger: equal passes are equal, a tie is a tie, cosines are cosines."""

from functools import partial

import numpy as np
import pytest
import torch

from notebooks.benchmark_methods import plan
from notebooks.benchmark_methods import trial as one
from notebooks.benchmark_methods.systems import SYSTEMS, Glass, Kernel
from pnn_utils import methods, parts


@pytest.mark.parametrize("name", SYSTEMS)
def test_equal_passes_are_equal(name):
    """To about half an epoch, the twin's pairs included, for every method that makes passes."""
    system = one.find(name)
    budget = system.pairs + plan.passes_of(name)
    for method, needs in one.METHODS.items():
        if method == "exact" or not one.applies(name, method):
            continue
        setting = plan.setting(name, method, "passes")
        pairs = system.count(setting.get("kind", "main")) if needs.model and system.pairs else 0
        epochs = max(4, round(system.epochs * setting.get("share", 1.0)))
        once = needs.passes * system.n_train * system.layers
        spent = pairs + once * epochs
        if spent:
            assert abs(spent - budget) <= 0.6 * once, method
        assert plan.setting(name, method, "epochs") == {}


def test_a_case_is_searched_once_and_a_setting_never_twice():
    cases = plan.cases()
    assert len(cases) == len(set(cases))
    settings = [str(plan.point(case, 0.1, 0)) for case in cases]
    assert len(settings) == len(set(settings))
    assert not [case for case in cases if case[:2] == ("oscillators", "refitted")]


@pytest.mark.parametrize("lead, ahead", [(0.0, 0), (0.004, 0), (0.02, 1), (-0.02, -1)])
def test_a_lead_has_to_exceed_half_a_point_and_its_error(lead, ahead):
    b = 0.9 + 0.003 * np.random.default_rng(0).standard_normal(10)
    a = b + lead + 0.001 * np.random.default_rng(1).standard_normal(10)
    assert plan.compared(a, b, "plate")["ahead"] == ahead


def test_copies_that_differ_make_a_tie_however_many_seeds_agree():
    """Two copies of five on which a method fails: ten seeds are five copies."""
    by_copy = np.array([0.05, 0.05, 0.05, -0.06, 0.05])
    a = 0.8 + np.tile(by_copy, 20)
    found = plan.compared(a, np.full(100, 0.8), "plate")
    assert found["ahead"] == 0 and found["difference"] > 0.02
    assert found["standard_error"] == pytest.approx(by_copy.std(ddof=1) / 5**0.5)


def test_overlapping_splits_widen_the_error():
    rng = np.random.default_rng(0)
    a, b = 0.9 + 0.01 * rng.standard_normal((2, 10))
    error = [plan.compared(a, b, name)["standard_error"] for name in ("plate", "function")]
    assert error[1] > 1.5 * error[0]


def glass(method, **settings):
    """A trial that needs no file and no test set."""
    return one.trained(None, "function", method, 100, 0.05, share=0.1, final=False, **settings)


def test_the_ledger_counts_constants_and_training_and_nothing_that_judges():
    system = Glass()
    once, epochs = system.n_train * system.layers, 4
    expected = {"exact": once * (1 + epochs), "spsa": once * (1 + 2 * epochs),
                "phyll": once * (1 + 2 * epochs)}
    for method, passes in expected.items():
        found = glass(method)
        assert found["passes"] == passes
        assert found["laboratory_s"] == pytest.approx(0.02 * passes)
        assert 0 < found["confidence"] < 1


def test_glass_turns_as_told_and_goes_on_turning_while_passes_are_made():
    """Turned by 90 degrees it is another glass; half of the way after half of the passes."""
    system = Glass()
    x, theta = np.full((1, 32), 0.1), np.full((1, 32), 0.2)

    def reading(**knobs):
        return system.device(0, 5, noise=0.0, **knobs)(x, theta)

    drifting = system.device(0, 5, noise=0.0, drift=4.0, passes=4)
    seen = [drifting(x, theta) for _ in range(6)]
    for n, expected in enumerate([0.0, 1.0, 2.0, 3.0, 4.0, 4.0]):
        np.testing.assert_allclose(seen[n], reading(mismatch=expected))
    assert abs(np.corrcoef(reading()[0], reading(mismatch=9.0)[0])[0, 1]) < 0.5
    fresh = system.device(0, 5, noise=0.0, drift=4.0, passes=10**9)
    fresh.aged = True
    np.testing.assert_allclose(fresh(x, theta), seen[-1])


def test_the_true_model_of_glass_is_the_glass():
    system = Glass()
    device = system.device(0, 5, noise=0.0, mismatch=2.0)
    x, theta = np.random.default_rng(0).uniform(0, 0.5, (2, 7, 32)).astype(np.float32)
    true = system.exact(device, 0, None)(torch.tensor(x), torch.tensor(theta))
    np.testing.assert_allclose(true.numpy(), device(x, theta), rtol=1e-3, atol=1e-3)


def test_cosines_are_one_for_the_true_model_and_none_for_a_foreign_one():
    system, seed = Glass(), 100
    device = system.device(0, 7, noise=0.0)
    x, y, *_ = system.data(seed, False)
    true, foreign = system.exact(device, 0, None), system.exact(system.device(3, 7), 3, None)
    settings = dict(seed=0, epochs=1, learning_rate=1e-30, batch_size=100)
    start = partial(one.started, system, device, seed, x)
    rows = [one.gradients(partial(methods.pat, start, model, device), {}, x[:300], y[:300],
                          settings) for model in (true, foreign)]
    truth = one.gradients(partial(methods.in_silico, start, true, device), {}, x[:300], y[:300],
                          settings)
    assert truth.shape[0] == 3
    assert one.cosine(rows[0].mean(0), truth.mean(0)) > 0.999
    assert one.cosine(one.adam(rows[0]), one.adam(truth)) > 0.99
    assert abs(one.cosine(rows[1].mean(0), truth.mean(0))) < 0.7


def test_products_are_counted():
    model = parts.MLP([10, 20, 3], torch.Generator().manual_seed(0))
    with one.Products() as counter:
        model(torch.zeros(7, 10)).sum().backward()
    forward = 7 * (10 * 20 + 20 * 3)
    # Backward: by the weights, as many; by the hidden units, 7 x 20 x 3.
    assert counter.macs == 2 * forward + 7 * 20 * 3


def test_a_convolution_that_can_be_fitted_on_starts_from_least_squares():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((200, 6)).astype(np.float32), rng.standard_normal(11)
    matrix = torch.tensor(kernel).unfold(0, 6, 1).flip(0).numpy()
    model = Kernel(6, 0, 6).solved(x, (x @ matrix).astype(np.float32))
    torch.testing.assert_close(model.kernel.detach().double(), torch.tensor(kernel), atol=1e-3,
                               rtol=1e-3)
    assert not model.kernel.requires_grad and model.output_sd.shape == (6,)


def test_every_varied_point_is_one_trial():
    rates = {(name, method): 0.1 for name, method, _ in plan.cases()}
    keys = [str(point) for point in plan.all_varied(rates, 2)]
    assert len(keys) == len(set(keys))


@pytest.fixture
def small(monkeypatch):
    """Two systems with few rows, no test set, and twins that were never fitted."""
    for name in ("oscillators", "function"):
        system = SYSTEMS[name]
        monkeypatch.setattr(system, "n_train", 128, raising=False)
        monkeypatch.setattr(system, "data", partial(_held_out, type(system).data, system))
    monkeypatch.setattr(Glass, "kept_twin", lambda system, folder, copy, kind: system.twin(
        kind, torch.Generator().manual_seed(copy)))
    monkeypatch.setattr(one, "JUDGED", 400)


def _held_out(data, system, seed, final):
    return data(system, seed, False)


@pytest.mark.parametrize("name", ["oscillators", "function"])
def test_every_method_that_applies_trains_and_has_its_ledger(name, small):
    """All fourteen, as final trials with their cosines, also where there is no model."""
    for method, needs in one.METHODS.items():
        if not one.applies(name, method):
            continue
        found = one.trained(None, name, method, 0, 0.01, share=0.05)
        expected = {"accuracy", "train", "passes", "laboratory_s", "macs", "loss"}
        if needs.renewed and name != "oscillators":
            expected |= {"accuracy_renewed", "train_renewed"}
        if method != "phyll":
            expected |= {"gradient_start", "adam_start"}
            if method not in ("dat", "refitted"):
                expected |= {"gradient_end", "adam_end"}
        assert set(found) - {"cosine"} == expected, method
        assert found["passes"] == 0 or found["laboratory_s"] > 0
        assert all(-1.001 <= found[key] <= 1.001 for key in found if key.startswith("grad"))


@pytest.mark.parametrize(("said", "raised"), [
    ("x[0, 1] = 21.0 is outside the allowed range [-20.0, 20.0]", FloatingPointError),
    ("theta has 3 rows, x 2", ValueError)])
def test_controls_out_of_range_are_a_training_that_broke_down(said, raised, monkeypatch):
    def refuses(*_, **__):
        raise ValueError(said)

    monkeypatch.setattr(one, "trained", refuses)
    with pytest.raises(raised):
        one.trial(None, system="function")
