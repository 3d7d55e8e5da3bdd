"""Your own device: a function that takes controls and returns readings, and patience with it.

    controls --> portions, not too often --> measure(x, theta) --> a whole, finite reading?
                          ^                    raises, hangs             | yes --> readings
                          |__ wait, twice as long each time, count it __/| no

A real instrument blocks, is slow, and fails now and then. `Instrument` makes its one call a
device that keeps the contract of `systems.base`: it asks again, a bounded number of times, when a
call raises, hangs, or returns what cannot be a reading, and reconnects before if the connection
may be lost.
"""

import math
import multiprocessing.pool
import time
import weakref

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_numbers, check_whole, ends, readings

EVENTS = ("errors", "timeouts", "lost_connections", "wrong_shapes", "not_finite", "clipped")
# Errors by their types' names: pyvisa, whose own are the last two, need not be installed.
LOST = {"OSError", "EOFError", "SubprocessError", "TimeoutError", "VisaIOError", "InvalidSession"}


class InstrumentError(RuntimeError):
    """The instrument failed at every attempt."""


class Instrument(PhysicalSystem):
    """A device made of one function; ``events`` counts its failures by kind, for the history.

    Dimensions, ranges and units are as in `PhysicalSystem`; what is out of range is never sent.

    measure : ``measure(x, theta)`` of shapes (n, input_dim) and (n, param_dim) returns n readings,
        shape (n, output_dim); both arrays are its own. Its ``state_dict``, if any, is kept
    pass_time : seconds that one pass takes
    rows_per_call : most rows that the instrument takes at once; default: all
    interval : seconds between the starts of two calls, at least
    warm_up : calls of one row, thrown away before the first real one and after a reconnection
    attempts : how often the same rows are asked for before `InstrumentError` is raised
    timeout : seconds after which a call, also of `reconnect`, counts as hung; None or 0: never.
        All calls are made in one thread (without a timeout the caller's), until a hung one is left
        behind in it and a new one takes over: give `reconnect` as well, unless a second call
        beside it does no harm
    first_wait : seconds before the second attempt; each further wait is twice as long, up to 60 s
    limits : (low, high), the ends of a converter's range; readings there count as clipped: failed
    reconnect : ``reconnect()`` begins the attempt that follows a time-out or a lost connection; if
        it raises or hangs, this attempt has failed, and the next one begins with it again
    reconnect_after : types of exceptions after which the connection counts as lost, beside those
        of the system and pyvisa

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
        check_whole(1, input_dim=input_dim, output_dim=output_dim, attempts=attempts,
                    rows_per_call=1 if rows_per_call is None else rows_per_call)
        check_whole(0, param_dim=param_dim, warm_up=warm_up)
        check_numbers(0, 1e9, False, "s", interval=interval, first_wait=first_wait,
                      pass_time=pass_time, timeout=0 if timeout is None else timeout)
        self.input_dim, self.param_dim, self.output_dim = input_dim, param_dim, output_dim
        self.input_range, self.param_range = input_range, param_range
        self.control_unit, self.output_unit = control_unit, output_unit
        self.pass_time, self.events = pass_time, dict.fromkeys(EVENTS, 0)
        self._measure, self._reconnect = measure, reconnect
        self._limits = tuple(end.item() for end in ends("limits", limits, 1))
        self._lost_after = LOST | {kind.__name__ for kind in reconnect_after}
        self._rows_per_call, self._interval, self._warm_up = rows_per_call, interval, warm_up
        self._attempts, self._timeout, self._first_wait = attempts, timeout, first_wait
        self._cold, self._lost, self._last_start, self._thread = True, False, -math.inf, None

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
        raise InstrumentError(f"the instrument failed {self._attempts} times in a row; the last "
                              f"time: {found}. Since the start: {self.events}") from found

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
            self._lost |= bool(names & self._lost_after)
            kind = "lost_connections" if self._lost else "errors"
            return "timeouts" if names & {"TimeoutError", "TimeoutExpired"} else kind, error
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
            return "clipped", ValueError(f"readings from {low:g} to {high:g} {self.output_unit} "
                                         f"reach the limits {self._limits}")
        return None, reading

    def _call(self, call, *arguments):
        """Return call(*arguments), made with copies of them in the thread that `timeout` says."""
        time.sleep(max(0.0, self._last_start + self._interval - time.monotonic()))
        self._last_start = time.monotonic()
        arguments = [values.copy() for values in arguments]
        if not self._timeout:
            return call(*arguments)
        if self._thread is None:
            self._thread = multiprocessing.pool.ThreadPool(1)
            weakref.finalize(self, self._thread.terminate)
        answer = self._thread.apply_async(call, arguments)
        answer.wait(self._timeout)
        if not answer.ready():
            self._thread.terminate()  # it ends after this call, if ever, whose answer is dropped
            self._thread = None
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return answer.get()

    def __getstate__(self):
        return self.__dict__ | {"_thread": None}  # a copy has a thread of its own
