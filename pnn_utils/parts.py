"""Digital parts between passes: standardise, bring into a range, pool, linear."""

import contextlib
import itertools
import math

import numpy as np
import torch


def beyond_float32(values):
    """Tell whether float32 would lose what some column of an array, (rows, ...), varies by.

    Sums over many rows round it off below the column's offset, and the squares of very small or
    large numbers leave the range of float32.
    """
    exact = np.asarray(values, np.float64)
    varies = np.ptp(exact, 0)
    lost = (1e4 * varies < abs(exact.mean(0))) | (varies < 1e-15) | (varies > 1e15)
    return bool((lost & (varies > 0)).any())


def precise(values):
    """Return an array, (rows, columns), in float64 where `beyond_float32`, else as it is."""
    return np.asarray(values, np.float64) if beyond_float32(values) else values


def divisor(sd):
    """Return what deviations are divided by: their sd, or infinity where nothing varied."""
    return torch.where(sd > 0, sd, torch.inf)


def spread(values, axis=0):
    """Return what an array's deviations are divided by: see `divisor`."""
    return np.where(np.ptp(values, axis) > 0, values.std(axis), np.inf)


def sent(values, allowed):
    """Return controls as a device takes them: rounding has not led out of the allowed range.

    They are float32, or float64 where float32 could not tell the values of a range apart.
    """
    ends = np.array(np.broadcast_arrays(*allowed), np.float64)
    return np.clip(values, *ends).astype(np.float64 if beyond_float32(ends) else np.float32)


def squashed(z, allowed):
    """Send any numbers into a range as `Within` does, and as a device takes them."""
    low, high = (np.asarray(end, np.float64) for end in allowed)
    return sent(low + (high - low) / (1 + np.exp(-z)), allowed)


@contextlib.contextmanager
def changed(modules, name, value):
    """Give an attribute of some modules another value for a while."""
    with contextlib.ExitStack() as afterwards:
        for module in modules:
            afterwards.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


def evaluating(*models):
    """Run models, for a while, without what only training does (dropout, batch statistics)."""
    modules = [model.modules() for model in models if isinstance(model, torch.nn.Module)]
    return changed(itertools.chain(*modules), "training", False)


class Standardise(torch.nn.Module):
    """(values - mean) / sd, column by column, with constants that `measure` takes once.

    A column that did not vary then has sd 0 and is sent to 0 ever after: nobody knows how large
    its changes are.

    width : number of columns; without it: one pair of constants for all of them
    live : in training the constants are each batch's own, and gradients go through them; the last
        batch's are kept for what is not training (Ioffe and Szegedy, ICML 2015)
    """

    def __init__(self, width=(), live=False):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))
        self.live = live

    def measure(self, values):
        """Take the constants from values, shape (..., columns); keep and return them."""
        over = 0 if self.mean.ndim else ()
        if beyond_float32(values.detach().cpu().reshape(-1, *self.mean.shape)):
            values = values.double()
        same = values.amin(over) == values.amax(over)
        mean, sd = values.mean(over), torch.where(same, 0, values.std(over))
        self.mean.copy_(mean.detach())
        self.sd.copy_(sd.detach())
        return mean, sd

    def forward(self, values, factor=1):
        live = self.live and self.training and len(values)
        mean, sd = self.measure(values) if live else (self.mean, self.sd)
        return factor * (values - mean) / divisor(sd)


class Into(torch.nn.Module):
    """Send shares from 0 to 1 into a range: two numbers, or two arrays, one entry a control."""

    def __init__(self, low, high):
        super().__init__()
        # No buffers: an end that was rounded to float32 may lie outside in float64.
        self.low, self.high = (torch.tensor(end, dtype=torch.float64) for end in (low, high))

    share = staticmethod(lambda z: z)

    def forward(self, z):
        low, high, width = (end.to(z) for end in (self.low, self.high, self.high - self.low))
        return (low + width * self.share(z)).clamp(low, high)  # against rounding


class Within(Into):
    """Squash any number smoothly into a range: low + (high - low) / (1 + exp(-z))."""

    share = staticmethod(torch.sigmoid)

    def right_inverse(self, value):
        low, width = self.low.to(value), (self.high - self.low).to(value)
        share = torch.where(width > 0, (value - low) / width, 0.5)  # of a fixed control, any
        return torch.logit(share.clamp(0, 1))


class Clamp(Into):
    """Send -1 to low and 1 to high, and cut off what does not fit, as a converter would."""

    share = staticmethod(lambda z: (z.clamp(-1, 1) + 1) / 2)


class Pool(torch.nn.Module):
    """Logits from readings, or their squares: sums, standardised, times one trainable factor.

    The weights of the sums have shape (readings, classes).
    """

    def __init__(self, weights, squared=False, live=False):
        super().__init__()
        self.squared = squared
        self.register_buffer("weights", weights, persistent=False)
        self.standardise = Standardise(weights.shape[1], live)
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, readings):
        sums = (readings**2 if self.squared else readings) @ self.weights
        return self.standardise(sums, self.factor)


def windows(n, n_classes):
    """Cut n readings into equal adjacent parts: ones in a matrix of shape (n, n_classes)."""
    parts = torch.nn.functional.one_hot(torch.arange(n) * n_classes // n, n_classes)
    return parts.to(torch.get_default_dtype())


def linear(inputs, outputs, generator, variance=1.0):
    """A linear layer with uniform weights of variance `variance` / inputs, and biases of 0."""
    layer, bound = torch.nn.Linear(inputs, outputs), math.sqrt(3 * variance / inputs)
    torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    return layer


class MLP(torch.nn.Module):
    """Multilayer perceptron with as many units as `sizes` says; [inputs, classes] is linear."""

    activation = staticmethod(torch.nn.functional.relu)

    def __init__(self, sizes, generator):
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.layers = torch.nn.ModuleList(linear(*pair, generator) for pair in pairs)

    def forward(self, x):
        """Return what the last layer gives, shape (rows, classes)."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
