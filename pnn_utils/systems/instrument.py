"""Your own device: a function that takes controls and returns readings, and patience with it.

    controls --> portions, not too often --> measure(x, theta) --> a whole, finite reading?
                          ^                    raises, hangs             | yes --> readings
                          |__ wait, twice as long each time, count it __/| no

A real instrument blocks, is slow, and fails now and then. `Instrument` makes its one call a
device that keeps the contract of `systems.base`: it asks again, a bounded number of times, when a
call raises, hangs, or returns what cannot be a reading, and reconnects before if the connection
may be lost. `Faulty` fails on purpose, to see what a training makes of it.
"""

import concurrent.futures
import math
import queue
import threading
import time
import weakref

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_numbers, check_whole, ends, readings

EVENTS = ("errors", "timeouts", "lost_connections", "wrong_shapes", "not_finite", "clipped")
FAULTS = ("error", "hang", "lost_connection", "wrong_shape", "not_finite", "clipped")
# Errors by their types' names: pyvisa, whose own are the last two, need not be installed.
LOST = {"OSError", "EOFError", "SubprocessError", "TimeoutError", "VisaIOError", "InvalidSession"}
SLOW = {"TimeoutError", "TimeoutExpired"}


class InstrumentError(RuntimeError):
    """The instrument failed at every attempt; ``events`` counts what happened so far."""


class Instrument(PhysicalSystem):
    """A device made of one function; ``events`` counts its failures by kind, for the history.

    Parameters
    ----------
    measure : callable
        ``measure(x, theta)`` of shapes (n, input_dim) and (n, param_dim) returns n readings, shape
        (n, output_dim); both arrays are its own. A checkpoint keeps its ``state_dict``, if any.
    input_dim, param_dim, output_dim : int
    input_range, param_range : (low, high)
        What may be sent, see `PhysicalSystem`; anything else never reaches the instrument.
    control_unit, output_unit : str
    pass_time : float
        Seconds that one pass takes.
    rows_per_call : int, optional
        Most rows that the instrument takes at once. Default: all.
    interval : float
        Seconds between the starts of two calls, at least.
    warm_up : int
        Calls of one row that are thrown away, before the first real call and after a reconnection.
    attempts : int
        How often the same rows are asked for before `InstrumentError` is raised.
    timeout : float, optional
        Seconds after which a call, also of `reconnect`, counts as hung. All calls are made in one
        thread (without a timeout the caller's), until a hung one is left behind in it and a new
        one takes over: give `reconnect` as well, unless a second call beside it does no harm.
    first_wait : float
        Seconds before the second attempt; each further wait is twice as long, up to 60 s.
    limits : (float, float), optional
        Readings at or beyond these, the ends of a converter's range, count as clipped: failed.
    reconnect : callable, optional
        ``reconnect()`` begins the attempt that follows a time-out or a lost connection. If it
        raises or hangs, this attempt has failed, and the next one begins with it again.
    reconnect_after : tuple of exception types
        Errors after which the connection counts as lost, beside those of the system and pyvisa.

    Raises
    ------
    TypeError, ValueError
        If a setting is wrong; by the call, if readings are no numbers or have wrong columns.
    InstrumentError
        By the call, if a portion failed at every attempt.

    Examples
    --------
    >>> device = Instrument(lambda x, theta: x * theta, 2, 2, 2)
    >>> device(np.ones((1, 2)), np.array([0.25, 0.5]))
    array([[0.25, 0.5 ]])
    """

    def __init__(self, measure, input_dim, param_dim, output_dim, *, input_range=(0.0, 1.0),
                 param_range=(0.0, 1.0), control_unit="1", output_unit="1", pass_time=0.0,
                 rows_per_call=None, interval=0.0, warm_up=0, attempts=4, timeout=None,
                 first_wait=0.1, limits=(-math.inf, math.inf), reconnect=lambda: None,
                 reconnect_after=()):
        super().__init__()
        if not (callable(measure) and callable(reconnect)):
            raise TypeError(f"measure {measure!r}, reconnect {reconnect!r}: nothing to call")
        check_whole(1, input_dim=input_dim, param_dim=param_dim, output_dim=output_dim,
                    attempts=attempts, rows_per_call=1 if rows_per_call is None else rows_per_call)
        check_whole(0, warm_up=warm_up)
        check_numbers(0, threading.TIMEOUT_MAX, False, "s", interval=interval,
                      first_wait=first_wait, pass_time=pass_time)
        check_numbers(1e-9, threading.TIMEOUT_MAX, False, "s",
                      timeout=1 if timeout is None else timeout)
        if not all(isinstance(kind, type) for kind in reconnect_after):
            raise TypeError(f"reconnect_after is {reconnect_after}; expected types of exceptions")
        ends("input_range", input_range, input_dim)
        ends("param_range", param_range, param_dim)
        (low,), (high,) = ends("limits", limits, 1)
        if low == high:
            raise ValueError(f"limits is {limits}; expected (low, high) with low < high")
        self.input_dim, self.param_dim, self.output_dim = input_dim, param_dim, output_dim
        self.input_range, self.param_range = input_range, param_range
        self.control_unit, self.output_unit = control_unit, output_unit
        self.pass_time, self.events = pass_time, dict.fromkeys(EVENTS, 0)
        self._measure, self._limits = measure, (low.item(), high.item())
        self._reconnect, self._reconnect_after = reconnect, tuple(reconnect_after)
        self._rows_per_call, self._interval, self._warm_up = rows_per_call, interval, warm_up
        self._attempts, self._timeout, self._first_wait = attempts, timeout, first_wait
        self._cold, self._lost, self._last_start, self._jobs = True, False, -math.inf, None

    def respond(self, x, theta):
        """Return the readings, shape (n, output_dim); see `PhysicalSystem.__call__`."""
        each = self._rows_per_call or max(len(x), 1)
        parts = [self._portion(x[i:i + each], theta[i:i + each]) for i in range(0, len(x), each)]
        return np.concatenate(parts) if parts else np.empty((0, self.output_dim), np.float32)

    def state_dict(self):
        """As for every device, with `events` and the state of `measure`, if it has one."""
        measure = getattr(self._measure, "state_dict", dict)()
        return {**super().state_dict(), "events": dict(self.events), "measure": measure}

    def load_state_dict(self, state):
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.events = dict(state["events"])
        if state["measure"]:
            self._measure.load_state_dict(state["measure"])

    def _portion(self, x, theta):
        wait = 0.0
        for _ in range(self._attempts):
            time.sleep(wait)
            wait = min(2 * wait or self._first_wait, 60.0)
            kind, found = self._attempt(x, theta)
            if kind is None:
                return found
            self.events[kind] += 1
        counted = ", ".join(f"{name} {count}" for name, count in self.events.items() if count)
        error = InstrumentError(f"the instrument failed {self._attempts} times in a row; the last "
                                f"time: {found}. Counted since the start: {counted}")
        error.events = dict(self.events)
        raise error from found

    def _attempt(self, x, theta):
        """Ask once; return (None, reading), or (kind of event, the error)."""
        try:
            if self._lost:
                self._call(self._reconnect)
                self._lost, self._cold = False, True
            for _ in range(self._warm_up if self._cold else 0):
                self._call(self._measure, x[:1], theta[:1])
            self._cold = False
            answer = self._call(self._measure, x, theta)
        except Exception as error:  # whatever a driver raises, the rows can be asked for again
            names = {kind.__name__ for kind in type(error).__mro__}
            self._lost |= bool(names & LOST) or isinstance(error, self._reconnect_after)
            kind = "lost_connections" if self._lost else "errors"
            return "timeouts" if names & SLOW else kind, error
        reading = readings(answer).astype(np.result_type(x, theta))  # a copy
        if reading.shape != (expected := (len(x), self.output_dim)):
            error = ValueError(f"readings have shape {reading.shape}; expected {expected}")
            if reading.size and reading.shape[1:] != expected[1:]:
                raise error  # no row was dropped: asking again cannot help
            return "wrong_shapes", error
        if bad := np.count_nonzero(~np.isfinite(reading)):
            return "not_finite", ValueError(f"{bad} of {reading.size} readings are not finite")
        low, high = reading.min(), reading.max()
        if not self._limits[0] < low <= high < self._limits[1]:
            return "clipped", ValueError(
                f"readings from {low:g} to {high:g} {self.output_unit} reach the limits "
                f"{self._limits}; drive the instrument less hard or lower its gain")
        return None, reading

    def _call(self, call, *arguments):
        """Return call(*arguments), made with copies of them in the thread that `timeout` says."""
        time.sleep(max(0.0, self._last_start + self._interval - time.monotonic()))
        self._last_start = time.monotonic()
        arguments = [values.copy() for values in arguments]
        if self._timeout is None:
            return call(*arguments)
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_work, args=[self._jobs], daemon=True).start()
            weakref.finalize(self, self._jobs.put, None)
        answer = concurrent.futures.Future()  # of this call alone: late, it goes nowhere
        self._jobs.put((answer, call, arguments))
        if not concurrent.futures.wait([answer], self._timeout).done:
            self._jobs.put(None)  # its thread ends after this call, if ever
            self._jobs = None
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return answer.result()

    def __getstate__(self):
        return self.__dict__ | {"_jobs": None}  # a copy has a thread of its own


def _work(jobs):
    """Make the calls that come through the queue, in turn, up to a None."""
    for answer, call, arguments in iter(jobs.get, None):
        try:
            answer.set_result(call(*arguments))
        except BaseException as error:  # handed over to the caller, whatever it is
            answer.set_exception(error)
        del answer, call, arguments  # or the last ones would live until the next call


class Faulty:
    """Make ``measure(x, theta)``, readings of shape (n, output_dim), fail at random.

    A failing call never reaches the measurement: what does arrive is as without failures. `rates`
    is each kind's probability a call: error (an exception), hang (one after `hang_s` seconds),
    lost_connection (ConnectionError until `reconnect` is called), wrong_shape (a row is missing),
    not_finite (the readings are NaN), clipped (the readings are `full_scale`).
    """

    def __init__(self, measure, output_dim, rates, seed=0, hang_s=1.0, full_scale=1.0):
        self.measure, self.output_dim = measure, output_dim
        self.hang_s, self.full_scale = hang_s, full_scale
        self.injected, self.connected = dict.fromkeys(FAULTS, 0), True
        self._kinds, self._shares = [*rates, None], [*rates.values(), 1 - sum(rates.values())]
        self._rng = np.random.default_rng(seed)
        if hasattr(measure, "state_dict"):  # failures are not repeated on resuming
            self.state_dict, self.load_state_dict = measure.state_dict, measure.load_state_dict

    def reconnect(self):
        """Bring a lost connection back."""
        self.connected = True

    def __call__(self, x, theta):
        if not self.connected:
            raise ConnectionError("the connection is still lost")
        kind = self._rng.choice(self._kinds, p=self._shares)
        if kind is None:
            return self.measure(x, theta)
        self.injected[kind] += 1
        if kind == "lost_connection":
            self.connected = False
            raise ConnectionError("injected failure: connection lost")
        if kind in ("hang", "error"):
            time.sleep(self.hang_s if kind == "hang" else 0)
            raise RuntimeError(f"injected failure: {kind}")
        rows = len(x) - (kind == "wrong_shape")
        value = np.nan if kind == "not_finite" else self.full_scale
        return np.full((rows, self.output_dim), value, np.float32)
