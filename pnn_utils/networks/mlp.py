"""A digital network to compare with: fully connected layers with rectified units between them."""

import itertools

import torch


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
    """

    def __init__(self, sizes, generator, arrange=None):
        super().__init__()
        self.arrange = arrange
        self.layers = torch.nn.ModuleList(torch.nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes))
        for layer in self.layers:
            bound = (3 / layer.in_features) ** 0.5
            torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            torch.nn.init.zeros_(layer.bias)

    def forward(self, x):
        """Return logits, shape (rows, classes)."""
        x = x if self.arrange is None else self.arrange(x).flatten(1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)
