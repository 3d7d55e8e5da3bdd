"""A digital network to compare with."""

import torch

from pnn_utils.parts import linears, through


class MLP(torch.nn.Module):
    """Multilayer perceptron with as many units as `sizes` says; [inputs, classes] is linear.

    `arrange` is what happens to the rows first, such as a choice of pixels.
    """

    def __init__(self, sizes, generator, arrange=None):
        super().__init__()
        self.arrange, self.layers = arrange or torch.nn.Identity(), linears(sizes, generator)

    def forward(self, x):
        """Return logits, shape (rows, classes)."""
        return through(self.layers, self.arrange(x).flatten(1), torch.relu)
