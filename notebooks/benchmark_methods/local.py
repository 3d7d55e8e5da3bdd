"""Physical local learning (PhyLL): fixed physical layers, trained digital ones between them.

A. Momeni et al., Science 382, 1297 (2023). No gradient passes a physical layer. A network of its
own, with digital layers, so it stands in a column of its own.
"""

import torch

from pnn_utils import parts
from pnn_utils.networks.chain import Network
from pnn_utils.pat import PhysicalLayer
from pnn_utils.training import train

SHARPNESS = 4.0


class Local(Network):
    """Image and supposed label -> [device -> digital layer] x N; the class of most goodness wins.

        y_n = device(h_n),    a_n = |W_n [y_n, h_n]|,    G_n = cos(a_n, p_n)

    h_(n+1) is a_n, scaled and centred; p_n are fixed random targets. To recognise takes one pass a
    layer, row and class. Data controls stay within `allowed`.
    """

    def __init__(self, device, n_features, n_classes, n_layers, generator, allowed):
        super().__init__()
        width, self.n_classes = device.input_dim, n_classes
        self.squash = parts.Within(*allowed)
        self.enter = parts.linear(n_features + n_classes, width, generator).requires_grad_(False)
        self.features = parts.Standardise(n_features)
        self.readings = torch.nn.ModuleList(parts.Standardise(device.output_dim)
                                            for _ in range(n_layers))
        both = device.output_dim + width
        self.digital = torch.nn.ModuleList(parts.linear(both, width, generator)
                                           for _ in range(n_layers))
        self.register_buffer("targets", torch.rand(n_layers, width, generator=generator))
        middle = sum(map(torch.as_tensor, device.param_range)) / 2
        theta = (middle + torch.zeros(device.param_dim)).float()
        self.layers = torch.nn.ModuleList(
            PhysicalLayer(device, None, theta, "device").requires_grad_(False)
            for _ in range(n_layers))

    def goodness(self, x, labels):
        """Return G_n of every layer, shape (layers, rows), with gradients in their own layer."""
        told = torch.nn.functional.one_hot(labels, self.n_classes) * self.n_classes**0.5
        signal, found = self.enter(torch.cat([self.features(x), told], 1)), []
        for layer, readings, digital, target in zip(self.layers, self.readings, self.digital,
                                                    self.targets, strict=True):
            y = readings(layer(self.squash(signal)))
            a = digital(torch.cat([y, signal], 1)).abs()
            found.append(torch.cosine_similarity(a, target[None], dim=1))
            a = a.detach()
            signal = a * (a.shape[1] ** 0.5 / a.norm(dim=1, keepdim=True))
            signal = 2 * (signal - signal.mean(1, keepdim=True))
        return torch.stack(found)

    @torch.no_grad()
    def calibrate(self, x, labels):
        """Measure the constants of inputs and readings, one pass a layer and row."""
        constants = [self.features, *self.readings]
        with parts.changed(constants, "live", True), parts.changed(constants, "training", True):
            self.goodness(x, labels)

    def forward(self, x):
        """Return the sum of goodness for every label, shape (rows, classes)."""
        return torch.stack([self.goodness(x, torch.full((len(x),), label)).sum(0)
                            for label in range(self.n_classes)], 1)


class _Contrast(torch.nn.Module):
    """Rows of inputs with their label in the last column; two logits, whose cross-entropy is

        sum over layers of log(1 + exp(-4 (G+ - G-)))
    """

    def __init__(self, network, generator):
        super().__init__()
        self.network, self.generator = network, generator

    def forward(self, rows):
        x, labels = rows[:, :-1], rows[:, -1].long()
        other = torch.randint(1, self.network.n_classes, labels.shape, generator=self.generator)
        ahead = self.network.goodness(x, labels) - self.network.goodness(
            x, (labels + other) % self.network.n_classes)
        loss = torch.nn.functional.softplus(-SHARPNESS * ahead).sum(0)
        # log(1 + e^v) is the cross-entropy of (0, v); so v = log(e^loss - 1).
        return torch.stack([torch.zeros_like(loss), loss + torch.log(-torch.expm1(-loss))], 1)


def phyll(network, device, x, y, *, seed, augment=None, **schedule):
    """Train a `Local` network: as many passes for right labels as for wrong ones."""
    network.calibrate(x, y)
    generator = torch.Generator().manual_seed(seed)
    change = augment and (lambda rows, generator: torch.cat(
        [augment(rows[:, :-1], generator), rows[:, -1:]], 1))
    history = train(_Contrast(network, generator), torch.cat([x, y[:, None].to(x)], 1),
                    torch.zeros_like(y), device=device, generator=generator, augment=change,
                    **schedule)
    return network, history
