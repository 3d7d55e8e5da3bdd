"""Your own device: a function that takes controls and returns readings, with patience for its failures.

A real instrument blocks, is slow, and fails now and then. `Instrument` turns its one call into a device that keeps the contract of
`pnn_utils.systems.base`: it asks in portions and not too often, asks again, a bounded number of times and with growing waits, when a call raises,
hangs, or returns what cannot be a reading, and it counts every such event. What it hands on is always a whole, finite reading; otherwise it stops.
"""

import queue
import threading
import time

import numpy as np

from pnn_utils.systems.base import PhysicalSystem, check_number, check_whole

EVENTS = ("errors", "timeouts", "lost_connections", "wrong_shapes", "not_finite", "clipped")
LONGEST_WAIT = 60.0  # s


class InstrumentError(RuntimeError):
    """The instrument failed at every attempt; ``events`` counts what happened since it was made."""

    def __init__(self, message, events):
        super().__init__(message)
        self.events = dict(events)


class Instrument(PhysicalSystem):
    """A device made of one function.

    Parameters
    ----------
    measure : callable
        ``measure(x, theta)`` with arrays of shape (n, input_dim) and (n, param_dim) returns n readings, shape (n, output_dim).
        It may block. If it has ``state_dict`` and ``load_state_dict``, checkpoints keep its state.
    input_dim, param_dim, output_dim : int
    input_range, param_range : (float, float)
        Lowest and highest value that may be sent. Anything else is refused before it reaches the instrument.
    control_unit, output_unit : str
    pass_time : float
        Seconds that one pass takes, for the account of laboratory time.
    rows_per_call : int, optional
        Most rows that the instrument takes at once. Default: all.
    interval : float
        Shortest time between the starts of two calls, in seconds.
    warm_up : int
        Calls of one row whose readings are thrown away, before the first real call and after each reconnection.
    attempts : int
        How often the same rows are asked for before `InstrumentError` is raised.
    timeout : float, optional
        Seconds after which a call counts as hung. Python cannot stop it: it is left behind in a thread of its own, and an answer that comes late is
        dropped. Give `reconnect` as well, unless a second call beside a hung one does no harm.
    first_wait : float
        Seconds before the second attempt; each further wait is twice as long, up to 60 s.
    limits : (float, float), optional
        Readings at or beyond these are clipped and count as failed, such as the ends of a converter's range.
    reconnect : callable, optional
        ``reconnect()`` is called after a time-out or a ConnectionError.

    Raises
    ------
    TypeError
        If `measure` or `reconnect` cannot be called, or a number is none.
    ValueError
        If a number is out of range.
    InstrumentError
        By the call, if a portion failed at every attempt.

    Notes
    -----
    `events` counts failures by kind: errors (anything the call raised), timeouts, lost_connections, wrong_shapes, not_finite, clipped.
    `pnn_utils.training.train` writes the counts to its history. Wrong controls (a wrong shape, out of range) are the caller's mistake: they
    raise at once, as for every device.

    Examples
    --------
    >>> device = Instrument(lambda x, theta: x * theta, 2, 2, 2)
    >>> device(np.ones((1, 2)), np.array([0.25, 0.5]))
    array([[0.25, 0.5 ]])
    """

    def __init__(self, measure, input_dim, param_dim, output_dim, *, input_range=(0.0, 1.0), param_range=(0.0, 1.0), control_unit="1",
                 output_unit="1", pass_time=0.0, rows_per_call=None, interval=0.0, warm_up=0, attempts=4, timeout=None, first_wait=0.1,
                 limits=None, reconnect=None):
        super().__init__()
        if not callable(measure) or not (reconnect is None or callable(reconnect)):
            raise TypeError(f"measure is {measure!r} and reconnect {reconnect!r}; expected something to call")
        sizes = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim, "attempts": attempts}
        sizes |= {} if rows_per_call is None else {"rows_per_call": rows_per_call}
        check_whole(1, **sizes)
        check_whole(0, warm_up=warm_up)
        check_number(0, interval=interval, first_wait=first_wait, pass_time=pass_time)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout} s; expected more than 0, or None")
        for name, pair in (("input_range", input_range), ("param_range", param_range), ("limits", limits)):
            if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):
                raise ValueError(f"{name} is {pair}; expected (low, high) with low < high")
        self.input_dim, self.param_dim, self.output_dim = input_dim, param_dim, output_dim
        self.input_range, self.param_range = input_range, param_range
        self.control_unit, self.output_unit, self.pass_time = control_unit, output_unit, pass_time
        self.events = dict.fromkeys(EVENTS, 0)
        self._measure, self._reconnect, self._limits = measure, reconnect, limits
        self._rows_per_call, self._interval, self._warm_up = rows_per_call, interval, warm_up
        self._attempts, self._timeout, self._first_wait = attempts, timeout, first_wait
        self._cold, self._last_start = True, -np.inf

    def respond(self, x, theta):
        """Return the readings, shape (n, output_dim); see `PhysicalSystem.__call__`.

        Raises
        ------
        InstrumentError
            If a portion failed at every attempt.
        """
        portion = self._rows_per_call or max(len(x), 1)
        parts = [self._portion(x[first:first + portion], theta[first:first + portion]) for first in range(0, len(x), portion)]
        return np.concatenate(parts) if parts else np.empty((0, self.output_dim), np.float32)

    def state_dict(self):
        """As for every device, with the counts of events and the state of `measure`, if it has one."""
        state = {**super().state_dict(), "events": dict(self.events)}
        return {**state, "measure": self._measure.state_dict()} if hasattr(self._measure, "state_dict") else state

    def load_state_dict(self, state):
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.events = dict(state["events"])
        if "measure" in state:
            self._measure.load_state_dict(state["measure"])

    def _portion(self, x, theta):
        wait, problem = self._first_wait, None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(min(wait, LONGEST_WAIT))
                wait *= 2
            kind, reading, problem = self._attempt(x, theta)
            if kind is None:
                return reading
            self.events[kind] += 1
        counted = ", ".join(f"{name} {count}" for name, count in self.events.items() if count)
        raise InstrumentError(f"the instrument failed {self._attempts} times in a row; the last time: {problem}. Counted since the start: {counted}",
                              self.events) from (problem if isinstance(problem, Exception) else None)

    def _attempt(self, x, theta):
        """Ask once; return (None, reading, None), or (kind of event, None, what went wrong)."""
        try:
            if self._cold:
                for _ in range(self._warm_up):
                    self._timed(x[:1], theta[:1])
                self._cold = False
            reading = np.asarray(self._timed(x, theta), dtype=np.result_type(x, theta))
        except (TimeoutError, ConnectionError) as error:
            return ("timeouts" if isinstance(error, TimeoutError) else "lost_connections"), None, self._reconnected(error)
        except Exception as error:  # whatever a driver raises, the rows can be asked for again
            return "errors", None, error
        if reading.shape != (len(x), self.output_dim):
            return "wrong_shapes", None, f"readings of shape {reading.shape}; expected {(len(x), self.output_dim)}"
        if not np.isfinite(reading).all():
            return "not_finite", None, f"{np.count_nonzero(~np.isfinite(reading))} of {reading.size} readings were NaN or infinite"
        if self._limits is not None and not (reading.min() > self._limits[0] and reading.max() < self._limits[1]):
            return "clipped", None, (f"readings from {reading.min():g} to {reading.max():g} {self.output_unit} reach the limits {self._limits}; "
                                     "if that repeats, drive the instrument less hard or lower its gain")
        return None, reading, None

    def _reconnected(self, error):
        self._cold = True
        if self._reconnect is not None:
            try:
                self._reconnect()
            except Exception as another:  # the next attempt will tell whether it mattered
                another.__cause__ = error
                return another
        return error

    def _timed(self, x, theta):
        time.sleep(max(0.0, self._last_start + self._interval - time.monotonic()))
        self._last_start = time.monotonic()
        if self._timeout is None:
            return self._measure(x, theta)
        answer = queue.SimpleQueue()  # of this call alone: a late answer to an earlier one goes elsewhere

        def work():
            try:
                answer.put((self._measure(x, theta), None))
            except BaseException as error:  # handed over to the caller, whatever it is
                answer.put((None, error))

        threading.Thread(target=work, daemon=True).start()
        try:
            reading, error = answer.get(timeout=self._timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer within {self._timeout:g} s") from None
        if error is not None:
            raise error
        return reading
