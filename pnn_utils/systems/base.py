"""The contract that every device keeps, and the tables that its numbers stand in.

A device is a black box: numbers in, numbers out, ``y = device(x, theta)``. Training and model
fitting use nothing but that call and the public description of the controls (dimensions, ranges,
units), what a laboratory would know of a real apparatus. Its input is checked here.
"""

import csv
import math
import numbers
import sys
import types
from collections import namedtuple

import numpy as np


class PhysicalSystem:
    """A controllable physical system with batched controls, a noise generator and a pass counter.

    A subclass sets what follows and defines ``respond``; ``passes`` counts the rows so far.

    input_dim, param_dim, output_dim : number of data controls, parameter controls, measured values
    input_range, param_range : (low, high) of the controls: two numbers, or two arrays with one
        entry a control; a fixed control has a range of width zero
    control_unit, output_unit : units of the controls and of the measured values
    pass_time : seconds that the real apparatus would need for one pass
    """

    input_range = param_range = (0.0, 1.0)
    control_unit = output_unit = "1"
    pass_time = 0.0

    def __init__(self, noise_seed=0):
        self.passes = 0
        self._noise = np.random.default_rng(np.random.SeedSequence(noise_seed))

    def __call__(self, x, theta):
        """Send controls to the device and read it out.

        Parameters
        ----------
        x : array_like, shape (n, input_dim), float32 or float64, within `input_range`
        theta : array_like, shape (n, param_dim), within `param_range`
            One row, of shape (1, param_dim) or (param_dim,), serves the whole batch.

        Returns
        -------
        Measured values, shape (n, output_dim), float64 if a control is, otherwise float32.

        Raises
        ------
        TypeError
            If the controls are not floating-point numbers, or the readings no real ones.
        ValueError
            If a shape or a range is wrong, or a control is NaN, infinite or out of its range.
        FloatingPointError
            If a reading is NaN or infinite.
        """
        x = _checked("x", x, self.input_dim, self.input_range, self.control_unit)
        theta = _checked("theta", np.atleast_2d(theta), self.param_dim, self.param_range,
                         self.control_unit)
        if len(theta) not in (1, len(x)):
            raise ValueError(f"theta has {len(theta)} rows, x {len(x)}; expected as many, or one")
        theta = np.broadcast_to(theta, (len(x), self.param_dim))
        y = readings(self.respond(x, theta))
        self.passes += len(x)
        if y.shape != (len(x), self.output_dim):
            raise ValueError(f"readings have shape {y.shape}; expected {len(x), self.output_dim}")
        y = y.astype(np.result_type(x, theta))  # a copy, finite in this precision
        if bad := np.count_nonzero(~np.isfinite(y)):
            raise FloatingPointError(f"{bad} of {y.size} readings are NaN or infinite")
        return y

    def respond(self, x, theta):
        """Return the measured values for checked controls of equal length, which stay as is."""
        raise NotImplementedError(f"{type(self).__name__} does not define respond(x, theta)")

    def state_dict(self):
        """Return what later readings depend on (passes, noise generator) as JSON types."""
        return {"passes": self.passes, "noise": self._noise.bit_generator.state}

    def load_state_dict(self, state):
        """Continue from a state of `state_dict`: a resumed run repeats the same readings."""
        self.passes = int(state["passes"])
        self._noise.bit_generator.state = state["noise"]


def _checked(name, values, width, allowed, unit):
    """Return `values` as a floating-point array, or refuse it with an error that says why."""
    masked, values = np.ma.isMaskedArray(values), np.asarray(values)
    if masked or values.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {values.dtype}; expected float32 or float64, unmasked")
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(f"{name} has shape {values.shape}; expected (n, {width}), a row per pass")
    low, high = ends(f"the range of {name}", allowed, width, values.dtype)
    inside = np.isfinite(values) & (values >= low) & (values <= high)
    if not inside.all():
        row, column = np.argwhere(~inside)[0]
        raise ValueError(f"{name}[{row}, {column}] = {values[row, column]!r} is outside the "
                         f"allowed range [{low[column]!s}, {high[column]!s}] (unit: {unit})")
    values = values.view()
    values.flags.writeable = False  # what a device does must not change the caller's array
    return values


def ends(name, allowed, width, dtype=float):
    """Return the ends (low, high) of a range, each of shape (width,), or refuse it by name.

    They are rounded as the controls are: 0.1 is 0.1 in float32 too.
    """
    try:
        low, high = (np.broadcast_to(np.asarray(end, dtype), width) for end in allowed)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is {allowed}; expected (low, high), of one or {width} numbers "
                         f"each: {error}") from error
    return low, high


def readings(values):
    """Return readings as an array, or refuse (TypeError) what is masked or no real number."""
    if hasattr(values, "detach"):  # a tensor, perhaps with a gradient; torch is not imported here
        values = values.numpy(force=True)
    array = np.asarray(values)
    if np.ma.isMaskedArray(values) or array.dtype.kind not in "biuf":
        raise TypeError(f"readings have dtype {array.dtype}; expected real numbers, unmasked")
    return array


# One row of a device's ``parameters.csv``; `off` is None unless it is an imperfection.
Parameter = namedtuple("Parameter", "name value unit off low high source")


def parameter_table(path):
    """Read a device's ``parameters.csv``, the one place of its numbers: a list of `Parameter`.

    Columns: name, value, unit (SI), off (the value that switches an imperfection off, else empty),
    low and high (what may be set), source (a reference or a stated reason). A value written
    without point and exponent is a whole number.

    Raises
    ------
    ValueError
        If a column or a name is wrong, a number is none, or a value lies outside its own range.
    """
    rows = {}
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            if (header := tuple(next(lines, ()))) != Parameter._fields:
                raise ValueError(f"the columns are {header}; expected {Parameter._fields}")
            for name, value, unit, off, low, high, source in lines:
                row = Parameter(name, _number(value), unit, _number(off) if off else None,
                                float(low), float(high), source)
                if not (name.isidentifier() and name not in rows and unit and source):
                    raise ValueError("expected a new name, a unit and a source")
                check_numbers(row.low, row.high, False, unit, value=row.value,
                              off=row.value if row.off is None else row.off)
                rows[name] = row
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {lines.line_num}: {error}") from error
    return [*rows.values()]


def _number(text):
    return float(text) if set(text.lower()) & set(".en") else int(text)


def make_parameters(path, ideal=False, **changes):
    """Return a device's parameters as attributes, with changes; if `ideal`, no imperfections.

    Raises
    ------
    TypeError
        If the table has no parameter of this name, or a value is not a number of its kind.
    ValueError
        If a value is outside its range, infinite or NaN.
    """
    rows = {row.name: row for row in parameter_table(path)}
    values = {name: row.off if ideal and row.off is not None else row.value
              for name, row in rows.items()}
    for name, value in changes.items():
        if name not in rows:
            raise TypeError(f"unknown parameter {name!r}; expected one of {', '.join(rows)}")
        row = rows[name]
        check_numbers(row.low, row.high, isinstance(row.value, int), row.unit, **{name: value})
    return types.SimpleNamespace(**values | changes)


def check_choice(name, value, *known):
    """Refuse an option that is none of those known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")


def check_whole(low, high=math.inf, /, **values):
    """Refuse arguments that are not whole numbers from `low` to `high`; see `check_numbers`."""
    check_numbers(low, high, True, **values)


def check_numbers(low, high=math.inf, whole=False, unit="", /, **values):
    """Refuse arguments that are not finite numbers from `low` to `high`.

    Raises
    ------
    TypeError, ValueError
        They name the argument and what was expected.
    """
    for name, value in values.items():
        kind = numbers.Integral if whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}; expected a {'whole ' * whole}number")
        if not (low <= value <= high and abs(value) <= sys.float_info.max):
            wanted = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise ValueError(f"{name} is {value}; expected {wanted}"
                             + (f" (unit: {unit})" if unit else ""))
