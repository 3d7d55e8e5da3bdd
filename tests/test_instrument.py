"""A device made of one function, and what it makes of failures."""

import time

import numpy as np
import pytest
import torch

from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.instrument import EVENTS, FAULTS, Faulty, Instrument, InstrumentError
from pnn_utils.training import train

SIZES = (3, 3, 3)


def product(x, theta):
    return np.tanh(x * theta)


def device(measure=product, **settings):
    return Instrument(measure, *SIZES, param_range=(-3.0, 3.0), first_wait=0.001, **settings)


def controls(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3), np.float32), rng.random((n, 3), np.float32)


def after(good_from, failure):
    """A measurement whose calls before number `good_from` do what `failure` does."""
    calls = []

    def measure(x, theta):
        calls.append(len(x))
        return product(x, theta) if len(calls) > good_from else failure(x, theta)

    return measure


def fail(error):
    def raising(x, theta):
        raise error
    return raising


BAD = {
    "errors": fail(OSError("no lamp")),
    "lost_connections": fail(ConnectionError("gone")),
    "timeouts": fail(TimeoutError("slow")),
    "wrong_shapes": lambda x, theta: product(x, theta)[:, :2],
    "not_finite": lambda x, theta: np.full_like(x, np.nan),
    "clipped": lambda x, theta: np.full_like(x, 5.0),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_each_kind_of_failure_is_repeated_and_counted(kind):
    x, theta = controls()
    instrument = device(after(2, BAD[kind]), attempts=3, limits=(-5.0, 5.0))
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), kind: 2} and instrument.passes == 5


@pytest.mark.parametrize("kind", EVENTS)
def test_after_the_last_attempt_it_stops_and_says_why(kind):
    instrument = device(BAD[kind], attempts=3, limits=(-5.0, 5.0))
    with pytest.raises(InstrumentError, match=f"failed 3 times in a row.*{kind} 3") as caught:
        instrument(*controls())
    assert caught.value.events[kind] == 3 and instrument.passes == 0


def test_a_hung_call_is_left_behind_and_its_late_answer_dropped():
    x, theta = controls()
    reconnected = []

    def hang(x, theta):
        time.sleep(0.3)
        return np.full_like(x, 99.0)

    instrument = device(after(1, hang), timeout=0.1, reconnect=lambda: reconnected.append(1))
    start = time.monotonic()
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert time.monotonic() - start < 0.3
    time.sleep(0.3)
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert instrument.events["timeouts"] == 1 and reconnected == [1]


def test_waits_double():
    instrument = Instrument(fail(OSError("no")), *SIZES, attempts=4, first_wait=0.02)
    start = time.monotonic()
    with pytest.raises(InstrumentError):
        instrument(*controls())
    assert 0.14 <= time.monotonic() - start < 0.5


def test_portions_rate_and_warm_up():
    starts, sizes = [], []

    def measure(x, theta):
        starts.append(time.monotonic())
        sizes.append(len(x))
        return product(x, theta)

    x, theta = controls(7)
    instrument = device(measure, rows_per_call=3, interval=0.02, warm_up=2)
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert sizes == [1, 1, 3, 3, 1] and np.diff(starts).min() >= 0.0195
    instrument(x[:2], theta[:2])
    assert sizes[5:] == [2] and instrument.passes == 9  # warm-up readings are not results


def test_wrong_controls_never_reach_the_instrument():
    calls = []
    instrument = device(lambda x, theta: calls.append(1))
    x, theta = controls()
    with pytest.raises(ValueError, match="outside the allowed range"):
        instrument(x + 2, theta)
    with pytest.raises(ValueError, match="expected"):
        instrument(x[:, :2], theta)
    assert not calls and not sum(instrument.events.values())


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"attempts": 0}, ValueError, "attempts is 0"),
    ({"rows_per_call": 0}, ValueError, "rows_per_call is 0"),
    ({"rows_per_call": 1.5}, TypeError, "rows_per_call is 1.5"),
    ({"warm_up": -1}, ValueError, "warm_up is -1"),
    ({"interval": -1}, ValueError, "interval is -1"),
    ({"first_wait": np.nan}, ValueError, "first_wait is nan"),
    ({"pass_time": "1"}, TypeError, "pass_time is '1'"),
    ({"timeout": 0}, ValueError, "timeout is 0"),
    ({"timeout": np.inf}, ValueError, "timeout is inf"),
    ({"limits": (1, 1)}, ValueError, "limits is"),
    ({"input_range": (2, 1)}, ValueError, "input_range is"),
    ({"param_range": (0, 1, 2)}, ValueError, "param_range is"),
    ({"measure": 3}, TypeError, "nothing to call"),
    ({"reconnect": 3}, TypeError, "nothing to call")])
def test_nonsense_settings_are_refused(settings, error, message):
    sizes = dict(zip(("input_dim", "param_dim", "output_dim"), SIZES, strict=True))
    with pytest.raises(error, match=message):
        Instrument(**{"measure": product, **sizes, **settings})


def test_state_of_the_measurement_and_counts_go_into_a_checkpoint():
    class Counter:
        calls = 0

        def __call__(self, x, theta):
            self.calls += 1
            return product(x, theta) + self.calls

        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]

    first, second = (device(Faulty(Counter(), 3, {"error": 0.3}, seed=seed)) for seed in (1, 2))
    for _ in range(9):
        first(*controls())
    state = first.state_dict()
    assert state["measure"] == {"calls": 9} and state["events"]["errors"] > 0
    second.load_state_dict(state)
    assert np.array_equal(second(*controls()), first(*controls())) and second.passes == 50


def test_it_is_a_device_like_any_other():
    instrument = device()
    x, theta = controls()
    assert instrument(x, theta).dtype == np.float32
    assert instrument(x.astype(float), theta).dtype == np.float64
    assert instrument(x[:0], theta[:0]).shape == (0, 3)
    assert np.array_equal(instrument(x, theta[0]), product(x, theta[0]))


class Net(torch.nn.Module):
    def __init__(self, instrument):
        super().__init__()
        layer = PhysicalLayer(instrument, lambda x, t: torch.tanh(x * t), torch.full((3,), 0.1))
        self.layers = torch.nn.ModuleList([layer])

    def forward(self, x):
        return 3 * self.layers[0](x)


def trained(instrument, **settings):
    x = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    net = Net(instrument)
    history = train(net, x, x.argmax(1), epochs=6, learning_rate=0.05, batch_size=20,
                    device=instrument, **settings)
    return net, history


def test_faults_do_not_change_what_is_learnt():
    rates = dict.fromkeys(FAULTS, 0.08)
    faulty = Faulty(product, 3, rates, seed=3, hang_s=0.05)
    flaky = device(faulty, attempts=12, timeout=0.02, limits=(-1.0, 1.0),
                   reconnect=faulty.reconnect)
    net, history = trained(flaky)
    calm, quiet = trained(device())
    assert torch.equal(net.layers[0].theta, calm.layers[0].theta)
    assert [row["loss"] for row in history] == [row["loss"] for row in quiet]
    assert sum(faulty.injected.values()) > 5
    assert {kind: history[-1][kind] for kind in EVENTS} == flaky.events
    assert not any(quiet[-1][kind] for kind in EVENTS)


def test_a_dead_instrument_stops_the_training_which_resumes_exactly(tmp_path):
    whole, history = trained(device())
    dies = [10]

    def measure(x, theta):
        dies[0] -= 1
        if dies[0] < 0:
            raise OSError("no lamp")
        return product(x, theta)

    with pytest.raises(InstrumentError, match="no lamp") as caught:
        trained(device(measure, attempts=2), checkpoint=tmp_path / "c", checkpoint_every=1)
    notes = caught.value.__notes__
    assert any("same call goes on" in note and str(tmp_path / "c") in note for note in notes)
    resumed, again = trained(device(), checkpoint=tmp_path / "c", checkpoint_every=1)
    assert torch.equal(resumed.layers[0].theta, whole.layers[0].theta)
    assert [row["loss"] for row in again] == [row["loss"] for row in history]


def test_faults_that_cannot_be_are_refused():
    for rates in ({"error": 0.8, "hang": 0.4}, {"error": -0.1}, {"error": np.nan}):
        with pytest.raises(ValueError, match="(?i)probabilities"):
            Faulty(product, 3, rates)(*controls())
    with pytest.raises(KeyError, match="fire"):
        Faulty(product, 3, {"fire": 1})(*controls())
