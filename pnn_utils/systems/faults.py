"""Failures on purpose: a measurement that fails at random like a real instrument, to see what a training makes of it."""

import time

import numpy as np

from pnn_utils.systems.base import check_number, check_whole

KINDS = ("error", "hang", "lost_connection", "wrong_shape", "not_finite", "clipped")


class Faulty:
    """Make a measurement fail at random.

    A failing call never reaches the measurement, so that the readings that do arrive are those of a run without failures.

    Parameters
    ----------
    measure : callable
        ``measure(x, theta)``, shape (n, output_dim).
    output_dim : int
    rates : dict of {str: float}
        Probability of each kind of failure per call: error (an exception), hang (`hang_s` seconds, then an exception), lost_connection (every call raises
        ConnectionError until `reconnect` is called), wrong_shape (a row is missing), not_finite (one reading is NaN), clipped (one reading is `full_scale`).
    seed : int
    hang_s : float
    full_scale : float

    Raises
    ------
    TypeError
        If a number is none.
    ValueError
        If a number is out of range, a kind is unknown, or the probabilities are negative or add up to more than 1.
    """

    def __init__(self, measure, output_dim, rates, seed=0, hang_s=1.0, full_scale=1.0):
        check_whole(1, output_dim=output_dim)
        check_number(0, hang_s=hang_s, **{f"rate of {kind}": rate for kind, rate in rates.items()})
        unknown = sorted(set(rates) - set(KINDS))
        if unknown or min(rates.values(), default=0) < 0 or sum(rates.values()) > 1:
            raise ValueError(f"rates are {rates}; expected probabilities that add up to at most 1, of {', '.join(KINDS)}")
        self.measure, self.output_dim, self.hang_s, self.full_scale = measure, output_dim, hang_s, full_scale
        self._limits = np.cumsum(list(rates.values()))
        self._kinds, self._rng, self._connected = list(rates), np.random.default_rng(seed), True
        self.injected = dict.fromkeys(KINDS, 0)

    def reconnect(self):
        """Bring a lost connection back."""
        self._connected = True

    def __call__(self, x, theta):
        if not self._connected:
            raise ConnectionError("the connection is still lost")
        drawn = int(np.searchsorted(self._limits, self._rng.random(), side="right"))
        if drawn == len(self._kinds):
            return self.measure(x, theta)
        kind = self._kinds[drawn]
        self.injected[kind] += 1
        readings = np.zeros((len(x), self.output_dim), np.float32)
        if kind == "hang":
            time.sleep(self.hang_s)
        if kind in ("hang", "error"):
            raise OSError(f"injected failure: {kind}")
        if kind == "lost_connection":
            self._connected = False
            raise ConnectionError("injected failure: connection lost")
        if kind == "wrong_shape":
            return readings[1:]
        readings[-1, -1] = np.nan if kind == "not_finite" else self.full_scale
        return readings

    def state_dict(self):
        """State of the measurement, if it has one; failures are not repeated after a resumption."""
        return self.measure.state_dict() if hasattr(self.measure, "state_dict") else {}

    def load_state_dict(self, state):
        """Continue from what `state_dict` returned."""
        if hasattr(self.measure, "load_state_dict"):
            self.measure.load_state_dict(state)
