"""The contract that every simulated device keeps.

A device is a black box: numbers in, numbers out, ``y = device(x, theta)``. Training and model fitting use
nothing but that call and the public description of the controls (dimensions, ranges, units), exactly what
a laboratory would know of a real apparatus. A real instrument fits the same contract: subclass
`PhysicalSystem` and let `respond` talk to the hardware.
"""

import dataclasses
import math
import numbers
import sys

import numpy as np


class PhysicalSystem:
    """A controllable physical system with batched controls, a noise generator and a pass counter.

    A subclass sets the class attributes below and defines ``respond``.

    Attributes
    ----------
    input_dim, param_dim, output_dim : int
        Number of data controls, of parameter controls, and of measured values.
    input_range, param_range : (float, float)
        Lowest and highest allowed value of every data and every parameter control.
    control_unit, output_unit : str
        Units of the controls and of the measured values.
    pass_time : float
        Time the real apparatus would need for one pass, in seconds.
    passes : int
        Passes (rows) made so far.

    Raises
    ------
    TypeError, ValueError
        If a seed is not a whole number of at least 0, or several of them.
    """

    input_dim: int
    param_dim: int
    output_dim: int
    input_range = (0.0, 1.0)
    param_range = (0.0, 1.0)
    control_unit = "1"
    output_unit = "1"
    pass_time = 0.0

    def __init__(self, noise_seed=0):
        self.passes = 0
        self._noise = np.random.default_rng(np.random.SeedSequence(noise_seed))

    def __call__(self, x, theta):
        """Send controls to the device and read it out.

        Parameters
        ----------
        x : array_like, shape (n, input_dim)
            Data controls, floating point, within `input_range`.
        theta : array_like, shape (n, param_dim) or (param_dim,)
            Parameter controls, floating point, within `param_range`; one row serves the whole batch.

        Returns
        -------
        numpy.ndarray, shape (n, output_dim)
            Measured values, float64 if a control is float64, otherwise float32.

        Raises
        ------
        TypeError
            If the controls are not floating-point numbers.
        ValueError
            If a shape is wrong, or a control is NaN, infinite or out of its range.
        FloatingPointError
            If a reading is NaN or infinite: with its present numbers the device's equations have no finite solution.
        """
        x = _checked(x, "x", self.input_dim, self.input_range, self.control_unit)
        theta = _checked(theta, "theta", self.param_dim, self.param_range, self.control_unit, single_row=True)
        if x.ndim == 1:
            raise ValueError(f"x has shape {x.shape}; expected (n, {self.input_dim}): one row per pass")
        if theta.ndim == 2 and len(theta) != len(x):
            raise ValueError(f"theta has {len(theta)} rows but x has {len(x)}; expected as many, or one row of shape ({self.param_dim},)")
        theta = np.broadcast_to(theta, (len(x), self.param_dim))
        dtype = np.float64 if np.float64 in (x.dtype, theta.dtype) else np.float32
        y = self.respond(x, theta)
        self.passes += len(x)
        if not np.isfinite(y).all():
            raise FloatingPointError(f"{np.count_nonzero(~np.isfinite(y))} of {y.size} readings of {type(self).__name__} are NaN or infinite; "
                                     "expected finite readings: are its parameters far from their usual values?")
        return y.astype(dtype, copy=False)

    def respond(self, x, theta):
        """Return the measured values for checked controls of equal length; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define respond(x, theta)")

    @property
    def laboratory_time(self):
        """Time that the real apparatus would have needed for all passes so far, in seconds."""
        return self.passes * self.pass_time

    def state_dict(self):
        """Return what later readings depend on (pass count, noise generator) as plain JSON types."""
        return {"passes": self.passes, "noise": self._noise.bit_generator.state}

    def load_state_dict(self, state):
        """Continue from a state returned by `state_dict`, so that a resumed run repeats the same readings."""
        self.passes = int(state["passes"])
        self._noise.bit_generator.state = state["noise"]


def _checked(values, name, width, allowed, unit, single_row=False):
    """Return `values` as a floating-point array, or refuse it with an error that names what is wrong."""
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {values.dtype}; expected float32 or float64")
    if values.ndim not in (1, 2) or values.shape[-1] != width:
        also = f" or ({width},)" if single_row else ""
        raise ValueError(f"{name} has shape {values.shape}; expected (n, {width}){also}")
    low, high = allowed
    # One comparison catches NaN as well: NaN is not inside any range.
    if values.size and not (values.min() >= low and values.max() <= high):
        bad = tuple(int(i) for i in np.argwhere(~((values >= low) & (values <= high)))[0])
        raise ValueError(f"{name}{list(bad)} = {values[bad]!r} is outside the allowed range [{low}, {high}] (unit: {unit})")
    return values


def check_whole(low, high=math.inf, **values):
    """Refuse arguments that are not whole numbers from `low` to `high`.

    Raises
    ------
    TypeError
        If one is not a whole number; names it.
    ValueError
        If one is out of the range; names it and the range.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} is {value!r}; expected a whole number")
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected " + (f"at least {low}" if high == math.inf else f"{low} to {high}"))


def check_number(low, high=math.inf, **values):
    """Refuse arguments that are not finite numbers from `low` to `high`.

    Raises
    ------
    TypeError
        If one is not a real number; names it.
    ValueError
        If one is NaN, infinite or out of the range; names it and the range.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} is {value!r}; expected a number")
        if not low <= value <= min(high, sys.float_info.max):
            raise ValueError(f"{name} is {value!r}; expected a finite number " + (f"of at least {low}" if high == math.inf else f"from {low} to {high}"))


def parameter(default, unit, source, ideal=None, allowed=(0.0, np.inf)):
    """Declare one number of a device's parameter table.

    Parameters
    ----------
    default : float or int
        Value in `unit`.
    unit, source : str
        SI unit, and where the number comes from: a reference or a stated reason.
    ideal : float or int, optional
        For an imperfection, the value that switches it off.
    allowed : (float, float)
        Lowest and highest value that `make_parameters` accepts.
    """
    return dataclasses.field(default=default, metadata={"unit": unit, "source": source, "ideal": ideal, "allowed": allowed})


def make_parameters(table, ideal=False, **changes):
    """Fill a parameter table, with named changes and, if `ideal`, every imperfection switched off.

    Raises
    ------
    TypeError
        If a change names a parameter that the table does not have, or is not a number.
    ValueError
        If a value is outside the parameter's allowed range, infinite or NaN.
    """
    known = {field.name: field for field in dataclasses.fields(table)}
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise TypeError(f"unknown parameter {unknown[0]!r} of {table.__name__}; expected one of {', '.join(known)}")
    for name, value in changes.items():
        (low, high), unit = known[name].metadata["allowed"], known[name].metadata["unit"]
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} is {value!r}; expected a number")
        if not low <= value <= min(high, sys.float_info.max):
            raise ValueError(f"{name} = {value!r} is outside the allowed range [{low:g}, {high:g}] (unit: {unit})")
    off = {name: f.metadata["ideal"] for name, f in known.items() if ideal and f.metadata["ideal"] is not None}
    return table(**{**off, **changes})


def parameter_table(parameters):
    """Return the parameter table of a device as Markdown: name, value, unit, what it is and where from.

    Parameters
    ----------
    parameters : dataclass instance whose fields were declared with `parameter`

    Returns
    -------
    str
    """
    rows = ["| parameter | value | unit | imperfection? | source or reason |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(parameters):
        mark = "no" if field.metadata["ideal"] is None else f"yes, off at {field.metadata['ideal']:g}"
        value = getattr(parameters, field.name)
        rows.append(f"| `{field.name}` | {value:g} | {field.metadata['unit']} | {mark} | {field.metadata['source']} |")
    return "\n".join(rows)
