"""Digital parts between passes: standardise, bring into a range, pool, linear."""

import itertools
import math

import torch


class Standardise(torch.nn.Module):
    """(values - mean) / sd, column by column, with constants that `measure` takes once.

    Parameters
    ----------
    width : int
        Number of columns; without it: one pair of constants for all of them.
    floor : float
        Least sd: a dead column stays near zero.
    """

    def __init__(self, width=(), floor=1e-6):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))
        self.floor = floor

    def measure(self, values):
        over = 0 if self.mean.ndim else None
        self.mean.copy_(values.mean(over))
        self.sd.copy_(values.std(over).clamp_min(self.floor))

    def forward(self, values, factor=1):
        return factor * (values - self.mean) / self.sd


class _Into(torch.nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, z):
        return self.low + (self.high - self.low) * self.share(z)


class Within(_Into):
    """Squash any number smoothly into a range: low + (high - low) / (1 + exp(-z))."""

    share = staticmethod(torch.sigmoid)

    def right_inverse(self, value):
        return torch.logit((value - self.low) / (self.high - self.low))


class Clamp(_Into):
    """Send -1 to low and 1 to high, and cut off what does not fit, as a converter would."""

    def share(self, z):
        return (z.clamp(-1, 1) + 1) / 2


class Pool(torch.nn.Module):
    """Logits from readings, or their squares: sums, standardised, times one trainable factor.

    Parameters
    ----------
    weights : torch.Tensor, shape (readings, classes)
    floor : float
        See `Standardise`.
    squared : bool
    """

    def __init__(self, weights, floor=1e-6, squared=False):
        super().__init__()
        self.squared = squared
        self.register_buffer("weights", weights, persistent=False)
        self.standardise = Standardise(weights.shape[1], floor)
        self.factor = torch.nn.Parameter(torch.tensor(1.0))

    def sums(self, readings):
        return (readings**2 if self.squared else readings) @ self.weights

    def measure(self, readings):
        self.standardise.measure(self.sums(readings))

    def forward(self, readings):
        return self.standardise(self.sums(readings), self.factor)


def check_choice(name, value, *known):
    """Refuse an option that is none of those known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")


def windows(n, n_classes):
    """Cut n readings into equal adjacent parts: ones in a matrix of shape (n, n_classes)."""
    return torch.nn.functional.one_hot(torch.arange(n) * n_classes // n, n_classes).float()


def linear(inputs, outputs, generator, variance=1.0):
    """A linear layer with uniform weights of variance `variance` / inputs, and biases of 0."""
    layer, bound = torch.nn.Linear(inputs, outputs), math.sqrt(3 * variance / inputs)
    torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    return layer


def linears(sizes, generator):
    """Linear layers from each size to the next, to be run by `through`."""
    return torch.nn.ModuleList(linear(*pair, generator) for pair in itertools.pairwise(sizes))


def through(layers, x, activation):
    """Send rows through linear layers, with an activation between them."""
    for layer in layers[:-1]:
        x = activation(layer(x))
    return layers[-1](x)
