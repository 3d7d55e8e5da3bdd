"""The digital model that assumes nothing: a multilayer perceptron."""

import torch

from pnn_utils.systems.base import check_whole


class Perceptron(torch.nn.Module):
    """A multilayer perceptron from all controls to the measured values, with fixed standardisation.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        As the device's.
    hidden : sequence of int
        Width of each hidden layer.
    generator : torch.Generator, optional
        Source of the initial weights.

    Raises
    ------
    TypeError, ValueError
        If a width is not a whole number, or not at least 1 (0 for the one kind of control that the device lacks).

    Notes
    -----
    ``twin(x, theta)`` takes tensors of shape (n, input_dim) and (n, param_dim) in control units and returns
    the predicted measurement, shape (n, output_dim), in the device's output unit.
    """

    def __init__(self, input_dim, param_dim, output_dim, hidden=(256, 256), generator=None):
        super().__init__()
        check_whole(0, input_dim=input_dim, param_dim=param_dim)
        for width in (input_dim + param_dim, *hidden, output_dim):
            check_whole(1, width=width)
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim, "hidden": list(hidden)}
        widths = (input_dim + param_dim, *hidden, output_dim)
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        for layer in self.layers:
            bound = (3 / layer.in_features) ** 0.5
            torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            torch.nn.init.zeros_(layer.bias)
        for name, width in (("control", widths[0]), ("output", output_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_sd", torch.ones(width))

    def standardise(self, x, theta, y):
        """Set the constants that scale controls and outputs from pairs, tensors of shapes (n, ..._dim)."""
        for name, values in (("control", torch.cat([x, theta], 1)), ("output", y)):
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_sd").copy_(values.std(0).clamp_min(1e-12))

    def forward(self, x, theta):
        """Return the predicted measurement; see the class.

        Raises
        ------
        TypeError, ValueError
            If the controls are not of the model's dtype, or their shapes do not fit.
        """
        kind, width = self.layers[0].weight.dtype, self.layers[0].in_features
        if not x.dtype == theta.dtype == kind:
            raise TypeError(f"x has dtype {x.dtype} and theta {theta.dtype}; expected {kind}")
        if not x.ndim or not theta.ndim or x.shape[:-1] != theta.shape[:-1] or x.shape[-1] + theta.shape[-1] != width:
            raise ValueError(f"x has shape {tuple(x.shape)} and theta {tuple(theta.shape)}; expected as many rows, and {width} controls together")
        hidden = (torch.cat([x, theta], dim=-1) - self.control_mean) / self.control_sd
        for layer in self.layers[:-1]:
            hidden = torch.nn.functional.silu(layer(hidden))
        return self.layers[-1](hidden) * self.output_sd + self.output_mean
