"""A digital network to compare with: fully connected layers with rectified units between them."""

import itertools

import torch

from pnn_utils.pat import check_rows
from pnn_utils.systems.base import check_whole


class MLP(torch.nn.Module):
    """Multilayer perceptron that maps (rows, first size) to logits, shape (rows, last size); without hidden units, a linear classifier.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units, classes.
    generator : torch.Generator
        Source of the weights, uniform within sqrt(3 / inputs of the layer), hence of variance 1 / inputs. Biases start at 0.
    arrange : callable, optional
        What happens to the rows first, such as a choice of pixels; shape (rows, ...), flattened to (rows, first size).

    Raises
    ------
    TypeError, ValueError
        If there are not at least two sizes, whole numbers of at least 1.
    """

    def __init__(self, sizes, generator, arrange=None):
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes are {list(sizes)}; expected inputs and classes at least")
        for size in sizes:
            check_whole(1, size=size)
        self.arrange = arrange
        self.layers = torch.nn.ModuleList(torch.nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes))
        for layer in self.layers:
            bound = (3 / layer.in_features) ** 0.5
            torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            torch.nn.init.zeros_(layer.bias)

    def forward(self, x):
        """Return logits, shape (rows, classes).

        Raises
        ------
        TypeError, ValueError
            If the rows are not of the network's dtype, or not as long as its first size.
        """
        x = x if self.arrange is None else self.arrange(x).flatten(1)
        check_rows("x", x, self.layers[0].in_features, self.layers[0].weight.dtype)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)
