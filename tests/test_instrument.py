"""A device made of one function, and what it makes of failures."""

import copy
import errno
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from cells import defined

from pnn_utils.files import ROOT
from pnn_utils.pat import PhysicalLayer
from pnn_utils.systems.instrument import EVENTS, Instrument, InstrumentError
from pnn_utils.training import train

SIZES = (3, 3, 3)
FAULTS, Faulty = defined("12_when_a_device_fails", "FAULTS", "Faulty")


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
    "errors": fail(ValueError("could not convert string to float: '1.2x'")),
    "lost_connections": fail(ConnectionError("gone")),
    "timeouts": fail(TimeoutError("slow")),
    "wrong_shapes": lambda x, theta: product(x, theta)[:-1],
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
    with pytest.raises(InstrumentError, match=f"failed 3 times in a row.*'{kind}': 3"):
        instrument(*controls())
    assert instrument.events[kind] == 3 and instrument.passes == 0


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
    instrument = Instrument(fail(ValueError("no")), *SIZES, attempts=4, first_wait=0.02)
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
    ({"timeout": -1}, ValueError, "timeout is -1"),
    ({"timeout": np.inf}, ValueError, "timeout is inf"),
    ({"limits": 1}, ValueError, "limits is"),
    ({"limits": (0, 1, 2)}, ValueError, "limits is"),
    ({"measure": 3}, TypeError, "nothing to call"),
    ({"reconnect": 3}, TypeError, "nothing to call")])
def test_nonsense_settings_are_refused(settings, error, message):
    sizes = dict(zip(("input_dim", "param_dim", "output_dim"), SIZES, strict=True))
    with pytest.raises(error, match=message):
        Instrument(**{"measure": product, **sizes, **settings})


# --- Lost connections ----------------------------------------------------------------------------

class Error(Exception):
    """The root of pyvisa's errors, which are no OSErrors."""


class VisaIOError(Error):
    pass


class InvalidSession(Error):
    pass


class SerialException(OSError):
    """As pyserial has it, without an errno."""


class LampError(Exception):
    pass


class Driver:
    """It fails with `error` until it is opened again, which fails `refusals` times before."""

    def __init__(self, error, refusals=0):
        self.error, self.refusals, self.open, self.log = error, refusals, False, []

    def __call__(self, x, theta):
        self.log.append("measure" if self.open else "failure")
        if not self.open:
            raise self.error
        return product(x, theta)

    def reopen(self):
        self.log.append("reopen")
        if self.refusals:
            self.refusals -= 1
            raise Error("the port is still busy")
        self.open = True


@pytest.mark.parametrize("kind, error", [
    ("lost_connections", VisaIOError("VI_ERROR_CONN_LOST (-1073807194)")),
    ("lost_connections", type("VisaTimeout", (VisaIOError,), {})("VI_ERROR_TMO (-1073807339)")),
    ("lost_connections", InvalidSession("The resource might be closed.")),
    ("lost_connections", SerialException("device disconnected or multiple access on port?")),
    ("lost_connections", OSError(errno.EIO, "Input/output error")),
    ("lost_connections", OSError(errno.ENODEV, "No such device")),
    ("lost_connections", ConnectionResetError("gone")),
    ("lost_connections", EOFError("the other end is closed")),
    ("lost_connections", subprocess.CalledProcessError(1, "scpi")),
    ("lost_connections", LampError("named by the user")),
    ("timeouts", subprocess.TimeoutExpired("scpi", 1.0)),
    ("timeouts", TimeoutError("slow"))], ids=repr)
def test_it_reconnects_after_what_real_drivers_raise(kind, error):
    driver = Driver(error)
    named = {"reconnect_after": (LampError,)} if isinstance(error, LampError) else {}
    instrument = device(driver, reconnect=driver.reopen, **named)
    x, theta = controls()
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert driver.log == ["failure", "reopen", "measure"]
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), kind: 1}


@pytest.mark.parametrize("error", [ValueError("not a number: 1.2x"), LampError("no light")])
def test_other_errors_do_not_cost_a_reconnection(error):
    reopened = []
    instrument = device(after(1, fail(error)), reconnect=lambda: reopened.append(1))
    instrument(*controls())
    assert instrument.events["errors"] == 1 and not reopened


def test_a_failing_reconnection_is_a_failed_attempt_and_comes_first_in_the_next():
    driver = Driver(VisaIOError("gone"), refusals=2)
    instrument = device(driver, reconnect=driver.reopen, warm_up=1, attempts=5)
    x, theta = controls()
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert driver.log == ["failure", *["reopen"] * 3, "measure", "measure"]
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), "lost_connections": 3}


def test_a_connection_lost_at_the_last_attempt_is_made_anew_by_the_next_call():
    driver = Driver(OSError(errno.EIO, "Input/output error"))
    instrument = device(driver, reconnect=driver.reopen, attempts=1)
    with pytest.raises(InstrumentError, match="Input/output error"):
        instrument(*controls())
    instrument(*controls())
    assert driver.log == ["failure", "reopen", "measure"]


def test_a_hanging_reconnection_is_a_time_out():
    driver = Driver(ConnectionError("gone"))
    hangs = [20]

    def reopen():
        if hangs:
            time.sleep(hangs.pop())
        else:
            driver.reopen()

    instrument = device(driver, reconnect=reopen, timeout=0.3)
    start = time.monotonic()
    x, theta = controls()
    assert np.array_equal(instrument(x, theta), product(x, theta))
    assert time.monotonic() - start < 20
    assert (instrument.events["lost_connections"], instrument.events["timeouts"]) == (1, 1)


# --- Threads -------------------------------------------------------------------------------------

class ThreadBound:
    """A driver that answers only in the thread that opened it; `hangs` are its calls' seconds."""

    def __init__(self, hangs=()):
        self.owner, self.hangs, self.threads = None, list(hangs), []

    def open(self):
        self.owner = threading.get_ident()
        self.threads.append(self.owner)

    def __call__(self, x, theta):
        if self.owner is None:
            self.open()
        if threading.get_ident() != self.owner:
            raise RuntimeError("called from another thread than the one that opened it")
        time.sleep(self.hangs.pop(0) if self.hangs else 0)
        return product(x, theta)


def test_with_a_timeout_all_calls_are_made_in_one_thread_until_one_hangs():
    driver = ThreadBound(hangs=[0, 0, 20])
    instrument = device(driver, timeout=0.3, reconnect=driver.open, rows_per_call=2, warm_up=1)
    x, theta = controls(9)
    for _ in range(2):
        assert np.array_equal(instrument(x, theta), product(x, theta))
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), "timeouts": 1}
    assert len(set(driver.threads)) == 2 and threading.get_ident() not in driver.threads


@pytest.mark.parametrize("timeout", [None, 0])
def test_without_a_timeout_calls_are_made_in_the_callers_thread(timeout):
    driver = ThreadBound()
    driver.open()
    device(driver, timeout=timeout)(*controls())
    assert driver.threads == [threading.get_ident()]


def test_a_worker_ends_with_its_instrument():
    workers = []

    def measure(x, theta):
        workers.append(threading.current_thread())
        return product(x, theta)

    instrument = device(measure, timeout=20)
    instrument(*controls())
    assert workers[0].is_alive()
    del instrument
    workers[0].join(20)
    assert not workers[0].is_alive()


def test_a_hung_call_does_not_keep_the_interpreter_from_ending():
    program = """
import time
import numpy as np
from pnn_utils.systems.instrument import Instrument, InstrumentError
device = Instrument(lambda x, theta: time.sleep(60), 1, 1, 1, timeout=0.05, attempts=1)
try:
    device(np.ones((1, 1)), np.ones(1))
except InstrumentError:
    print("gave up")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "gave up\n"), done.stderr


def test_a_copy_or_what_another_process_gets_has_a_worker_of_its_own():
    instrument = device(reconnect=controls, timeout=5)
    expected = instrument(*controls())
    for other in (copy.deepcopy(instrument), pickle.loads(pickle.dumps(instrument))):
        assert other.passes == 5 and np.array_equal(other(*controls()), expected)
    assert np.array_equal(instrument(*controls()), expected)


# --- What is measure's own affair ----------------------------------------------------------------

@pytest.mark.parametrize("timeout", [None, 5])
def test_a_retry_sends_the_same_controls_though_measure_scaled_them_in_place(timeout):
    sent = []

    def measure(x, theta):
        x *= 5.0  # volts
        theta *= 2.0
        sent.append((x.copy(), theta.copy()))
        if len(sent) in (1, 4):  # a warm-up, a measurement
            raise OSError("after the controls were scaled")
        return np.tanh(x * theta / 10)

    instrument = device(measure, rows_per_call=3, warm_up=2, timeout=timeout)
    x, theta = controls(5)
    kept = x.copy(), theta.copy()
    assert np.allclose(instrument(x, theta), product(*kept))
    assert np.array_equal(x, kept[0]) and np.array_equal(theta, kept[1])
    assert max(volts.max() for volts, _ in sent) <= 5.0
    assert np.allclose(instrument(x, theta[0]), product(kept[0], kept[1][0]))  # one row for all


def test_readings_are_taken_out_of_a_buffer_that_measure_uses_again():
    buffer = np.empty((2, 3), np.float32)

    def measure(x, theta):
        buffer[:] = product(x, theta)
        return buffer

    x, theta = controls(6)
    first = device(measure, rows_per_call=2)(x, theta)
    assert np.array_equal(first, product(x, theta))


# --- What can be a reading -----------------------------------------------------------------------

ODD = {
    "complex": (lambda y: y + 0.1j, TypeError, "readings have dtype complex"),
    "masked": (lambda y: np.ma.masked_greater(y, 0.1), TypeError, "unmasked"),
    "strings": (lambda y: y.astype(str), TypeError, "readings have dtype <U"),
    "objects": (lambda y: y.astype(object), TypeError, "readings have dtype object"),
    "nothing": (lambda y: None, TypeError, "readings have dtype object"),
    "complex tensor": (lambda y: torch.tensor(y) * (1 + 1j), TypeError, "dtype complex"),
    "one number a row": (lambda y: y[:, 0], ValueError, r"shape \(5,\); expected \(5, 3\)"),
    "one row for all": (lambda y: y[0], ValueError, r"shape \(3,\); expected \(5, 3\)"),
    "one number": (lambda y: y.sum(), ValueError, r"shape \(\); expected \(5, 3\)"),
    "transposed": (lambda y: y.T, ValueError, r"shape \(3, 5\); expected \(5, 3\)"),
    "a column short": (lambda y: y[:, :2], ValueError, r"shape \(5, 2\); expected \(5, 3\)"),
    "a dimension more": (lambda y: y[None], ValueError, r"shape \(1, 5, 3\); expected \(5, 3\)"),
    "ragged": (lambda y: [[1.0], [1.0, 2.0]], ValueError, "inhomogeneous")}


@pytest.mark.parametrize("name", ODD)
def test_what_asking_again_cannot_mend_is_refused_at_once_and_by_name(name):
    spoil, error, message = ODD[name]
    calls = []

    def measure(x, theta):
        calls.append(1)
        return spoil(product(x, theta))

    instrument = device(measure)
    with pytest.raises(error, match=message):
        instrument(*controls())
    assert len(calls) == 1 and not sum(instrument.events.values()) and instrument.passes == 0


@pytest.mark.parametrize("answer", [lambda y: y[:-1], lambda y: y[:1], lambda y: y[:0],
                                    lambda y: [], lambda y: np.repeat(y, 2, 0)])
def test_a_wrong_number_of_rows_is_asked_for_again(answer):
    instrument = device(after(1, lambda x, theta: answer(product(x, theta))))
    instrument(*controls())
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), "wrong_shapes": 1}


@pytest.mark.parametrize("answer", [
    np.ndarray.tolist, lambda y: y.astype(np.float64), lambda y: y.astype(np.float16),
    lambda y: np.asfortranarray(y)[::-1][::-1], torch.from_numpy,
    lambda y: torch.from_numpy(y).requires_grad_(), lambda y: torch.from_numpy(y) * 1.0])
def test_any_array_of_real_numbers_is_a_reading(answer):
    x, theta = controls()
    measured = device(lambda x, theta: answer(product(x, theta)))(x, theta)
    assert type(measured) is np.ndarray and measured.dtype == np.float32
    assert np.allclose(measured, product(x, theta), atol=1e-3) and measured.flags.writeable


@pytest.mark.parametrize("dtype", [int, bool])
def test_counts_are_readings_too(dtype):
    x, theta = controls()
    measured = device(lambda x, theta: (x > 0.5).astype(dtype))(x, theta)
    assert np.array_equal(measured, x > 0.5) and measured.dtype == np.float32


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_nothing_depends_on_the_unit_of_the_readings(unit):
    x, theta = controls()
    clipped = after(1, lambda x, theta: np.full_like(x, 5.1))
    instrument = device(lambda x, theta: np.float32(unit) * clipped(x, theta),
                        limits=(-5.1 * unit, np.float64(5.1) * unit))
    assert np.allclose(instrument(x, theta) / unit, product(x, theta))
    assert instrument.events == {**dict.fromkeys(EVENTS, 0), "clipped": 1}


# --- What may be sent ----------------------------------------------------------------------------

RANGES = {
    "numbers": lambda low, high: (low, high),
    "float64": lambda low, high: (np.float64(low), np.float64(high)),
    "arrays": lambda low, high: (np.full(3, low), np.full(3, high)),
    "lists": lambda low, high: [[low] * 3, [high] * 3]}


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("low, high", [(0.1, 0.9), (0.7, 0.8), (4e-3, 20e-3), (-0.3, 1e9 / 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_a_range_may_be_sent_in_any_precision(kind, low, high, dtype):
    allowed = RANGES[kind](low, high)
    instrument = Instrument(product, *SIZES, input_range=allowed, param_range=allowed,
                            control_unit="V")
    x = np.array([[low, high, low], [high, low, high]], dtype)
    assert instrument(x, x).shape == (2, 3)
    beyond = x.copy()
    beyond[1, 2] = np.nextafter(dtype(high), dtype(np.inf))
    for name, pair in (("x", (beyond, x)), ("theta", (x, beyond))):
        words = rf"{name}\[1, 2\] = .* outside the allowed range \[.*\] \(unit: V\)"
        with pytest.raises(ValueError, match=words):
            instrument(*pair)


def test_each_control_has_its_own_range_and_a_fixed_one_stays():
    low, high = np.array([0.0, 0.3, -1.0]), np.array([1.0, 0.3, 1.0])
    instrument = Instrument(product, *SIZES, input_range=(low, high))
    x, theta = np.array([[0.5, 0.3, -0.5]], np.float32), np.zeros(3, np.float32)
    assert instrument(x, theta).shape == (1, 3)
    for column, words in ((0, r"\[0.0, 1.0\]"), (1, r"\[0.3, 0.3\]"), (2, r"\[-1.0, 1.0\]")):
        wrong = x.copy()
        wrong[0, column] = 1.5
        with pytest.raises(ValueError, match=rf"x\[0, {column}\] = .*1.5.* {words}"):
            instrument(wrong, theta)


def test_a_device_may_have_no_parameter_controls():
    instrument = Instrument(lambda x, theta: x + theta.sum(1, keepdims=True), 3, 0, 3)
    x, _ = controls()
    assert np.array_equal(instrument(x, np.empty(0, np.float32)), x)


# --- Checkpoints and training --------------------------------------------------------------------

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
    assert sum(flaky.events.values()) > 5
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
        trained(device(measure, attempts=2), checkpoint=tmp_path / "c")
    notes = caught.value.__notes__
    assert any("same call goes on" in note and str(tmp_path / "c") in note for note in notes)
    resumed, again = trained(device(), checkpoint=tmp_path / "c")
    assert torch.equal(resumed.layers[0].theta, whole.layers[0].theta)
    assert [row["loss"] for row in again] == [row["loss"] for row in history]


def test_faults_that_cannot_be_are_refused():
    for rates in ({"error": 0.8, "hang": 0.4}, {"error": -0.1}, {"error": np.nan}):
        with pytest.raises(ValueError, match="(?i)probabilities"):
            Faulty(product, 3, rates)(*controls())
    with pytest.raises(KeyError, match="fire"):
        Faulty(product, 3, {"fire": 1})(*controls())
