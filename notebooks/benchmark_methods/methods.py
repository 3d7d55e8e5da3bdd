"""Ways to train that only notebook 09 compares, called as those of `pnn_utils.methods` are.

    network, history = method(start, twin, device, x, y, seed=0, epochs=200, learning_rate=0.1)
"""

import math

import torch

from pnn_utils import parts
from pnn_utils.training import train


def asyt(start, twin, device, x, y, *, seed, **schedule):
    """Asymmetrical training: half the in silico gradient, half that of output-only PAT.

    Only the last layer is read. Nat. Commun. (2025), 10.1038/s41467-025-57459-5.
    """
    network = start(twin)
    return network, _train(_BothOutputs(network), x, y, device, seed, schedule)


def sat(start, twin, device, x, y, *, mode, seed, rho=0.05, **schedule):
    """Sharpness-aware training: the gradient g is taken once more where the loss rises fastest.

        p -> p + eps,    eps = rho p^2 g / |p g|     (products element by element)

    mode : "in_silico", or "pat": both gradients as in physics-aware training, which doubles its
        passes. Nat. Commun. (2026), 10.1038/s41467-026-68470-9.
    """
    network = start(twin).set_mode(mode)
    return network, _train(_Sharpness(network, rho), x, y, device, seed, schedule)


def dat(start, twin, device, x, y, *, seed, units=64, fits=5, **schedule):
    """Dual adaptive training: PAT, its model corrected as training goes.

    Each layer's model gets an error network of `units` hidden units; each step first takes `fits`
    steps of Adam (1e-3) with it on this batch's readings, and then back-propagates through the sum
    at the measured states: no passes beside PAT's. Z. Zheng et al., Nat. Mach. Intell. 5, 1119
    (2023).
    """
    network = start(twin).set_mode("pat")
    return network, _train(_Adaptive(network, units, fits, seed), x, y, device, seed, schedule)


def dfa(start, twin, device, x, y, *, seed, slope=None, **schedule):
    """Direct feedback alignment: no model; the error at the logits, sent back at random.

        dL/dz_n = (B_n e) * f'(z_n)

    e = dL/dlogits; z_n are a chain's controls before they are squashed by f; B_n is drawn once, of
    normal numbers, and another one sends e to the parameter controls.

    slope : a function of z_n in place of f': the augmented kind, which needs to know nothing of
        the nonlinearity. M. Nakajima et al., Nat. Commun. 13, 7847 (2022).
    """
    network = start(twin).set_mode("device")
    classes, generator = network.readout.weights.shape[1], torch.Generator().manual_seed(seed)
    feedback = [random_paths(classes, device, generator) for _ in network.layers]
    return network, _train(_Feedback(network, feedback, slope), x, y, device, seed, schedule)


def spsa(start, twin, device, x, y, *, seed, draws=1, step=1e-2, **schedule):
    """Simultaneous perturbation: no model; the loss at two sets of numbers gives its slope.

        g_i = [L(p + c D) - L(p - c D)] / (2 c D_i),    c = step / (1 + t)**0.101

    D_i = +-1 are drawn anew in each training step t, `draws` times: two passes a layer, row and
    draw. J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992).
    """
    network, generator = start(twin).set_mode("device"), torch.Generator().manual_seed(seed)
    history = train(_Perturbed(network, draws, step, generator), x, y, device=device,
                    generator=generator, **schedule)
    return network, history


def random_paths(classes, device, generator):
    """Return matrices that send an error to a layer's data controls and parameter controls."""
    return [torch.randn(classes, width, generator=generator) / math.sqrt(classes)
            for width in (device.input_dim, device.param_dim)]


def _train(network, x, y, device, seed, schedule):
    return train(network, x, y, device=device, generator=torch.Generator().manual_seed(seed),
                 **schedule)


class _BothOutputs(torch.nn.Module):
    """Logits of the mean of two predictions, measured and modelled; the path is the model's.

    Cross-entropy's gradient is (softmax - target), so that of the mean of two probabilities is
    half the one and half the other.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.no_grad():
            measured = self.network.set_mode("device")(x)
        predicted = self.network.set_mode("in_silico")(x)
        both = torch.logaddexp(*(z.detach().log_softmax(1) for z in (measured, predicted)))
        return both + predicted - predicted.detach()


class _Perturbed(torch.nn.Module):
    """A network whose logits change with its numbers as readings at both ends of a step say."""

    def __init__(self, network, draws, step, generator):
        super().__init__()
        self.network, self.draws, self.step, self.generator = network, draws, step, generator
        self.register_buffer("steps", torch.tensor(0))  # a buffer, so that a checkpoint keeps it

    def forward(self, x):
        numbers, total = list(self.network.parameters()), 0
        step = self.step / (1 + self.steps.item()) ** 0.101
        for _ in range(self.draws):
            signs = [2.0 * torch.randint(2, p.shape, generator=self.generator) - 1
                     for p in numbers]
            up, down = (self._moved(x, numbers, signs, way * step) for way in (1, -1))
            # Is 0, and its derivative by each number its sign.
            along = sum(((p - p.detach()) * sign).sum()
                        for p, sign in zip(numbers, signs, strict=True))
            # Cross-entropy's slope at the middle, times this, is L's difference but for O(c^2).
            total = total + (up + down) / 2 + along * (up - down) / (2 * step)
        self.steps += 1
        return total / self.draws

    @torch.no_grad()
    def _moved(self, x, numbers, signs, step):
        kept = [p.clone() for p in numbers]
        for p, sign in zip(numbers, signs, strict=True):
            p.add_(step * sign)
        logits = self.network(x)
        for p, value in zip(numbers, kept, strict=True):
            p.copy_(value)  # to the last bit
        return logits


class _Handed(torch.autograd.Function):
    """Logits whose gradient by some parameters is what a function makes of dL/dlogits."""

    @staticmethod
    def forward(ctx, gradients, logits, *parameters):
        ctx.gradients = gradients
        return logits.clone()

    @staticmethod
    def backward(ctx, error):
        with torch.enable_grad():
            return None, None, *ctx.gradients(error)


class _Own(torch.nn.Module):
    """A network whose gradient is its own affair: ``gradients(x, logits, dL/dlogits)``."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.enable_grad():
            logits = self.logits(x)
        return _Handed.apply(lambda error: self.gradients(x, logits, error), logits.detach(),
                             *self.network.parameters())

    def logits(self, x):
        return self.network(x)


def _gradients(output, network, cotangent=None):
    return torch.autograd.grad(output, list(network.parameters()), cotangent,
                               materialize_grads=True)


class _Sharpness(_Own):
    def __init__(self, network, rho):
        super().__init__(network)
        self.rho = rho

    def gradients(self, x, logits, error):
        numbers = list(self.network.parameters())
        first = _gradients(logits, self.network, error)
        length = sum((p * g).square().sum() for p, g in zip(numbers, first, strict=True)).sqrt()
        kept = [p.detach().clone() for p in numbers]
        with torch.no_grad():
            for p, g in zip(numbers, first, strict=True):
                p.add_(self.rho * p**2 * g / length.clamp(min=1e-12))
        moved = self.network(x)
        with torch.no_grad():  # softmax - target, without the target: it is in `error` already
            error = error + (moved.softmax(1) - logits.softmax(1)) / len(x)
        second = _gradients(moved, self.network, error)
        with torch.no_grad():
            for p, value in zip(numbers, kept, strict=True):
                p.copy_(value)
        return second


class Corrected(torch.nn.Module):
    """A model plus a small network for its error, which starts at 0."""

    def __init__(self, model, inputs, outputs, units, generator):
        super().__init__()
        self.model, self.fitted = (model,), False  # a tuple: the model is not trained
        self.controls = parts.Standardise(inputs + outputs)
        self.outputs = parts.Standardise(outputs)
        self.error = parts.MLP([inputs + outputs, units, outputs], generator)
        torch.nn.init.zeros_(self.error.layers[-1].weight)
        self.optimizer = torch.optim.Adam(self.error.parameters(), lr=1e-3)

    def forward(self, x, theta):
        return self.correct(x, self.model[0](x, theta))

    def correct(self, x, y):
        return y + self.outputs.sd * self.error(self.controls(torch.cat([x, y], 1)))

    def fit(self, x, theta, measured, steps):
        """Take some steps of Adam towards the readings of a batch."""
        with torch.no_grad():
            y = self.model[0](x, theta)
        if not self.fitted:
            self.fitted = True
            self.controls.measure(torch.cat([x, y], 1))
            self.outputs.measure(measured)
        for _ in range(steps):
            self.optimizer.zero_grad()
            miss = (self.correct(x, y) - measured) / parts.divisor(self.outputs.sd)
            miss.square().mean().backward(inputs=list(self.error.parameters()))
            self.optimizer.step()


class _Adaptive(_Own):
    def __init__(self, network, units, fits, seed):
        super().__init__(network)
        self.fits, self.seen = fits, {}
        generator = torch.Generator().manual_seed(seed)
        for n, layer in enumerate(network.layers):
            device, model = layer.parts
            model = Corrected(model, device.input_dim, device.output_dim, units, generator)
            layer.parts = (self._watched(device, n), model)

    def _watched(self, device, n):
        def watched(x, theta):
            y = device(x, theta)
            self.seen[n] = [torch.tensor(values) for values in (x, theta, y)]
            return y

        return watched

    def gradients(self, x, logits, error):
        for n, layer in enumerate(self.network.layers):
            layer.parts[1].fit(*self.seen[n], self.fits)
        return _gradients(logits, self.network, error)


class _Feedback(_Own):
    def __init__(self, network, feedback, slope):
        super().__init__(network)
        self.feedback, self.slope = feedback, slope or self._of_squash

    def _of_squash(self, z):
        z = z.detach().requires_grad_()
        return torch.autograd.grad(self.network.squash(z).sum(), z)[0]

    def logits(self, x):
        self.states = [x, *self.network.states(x)]
        return self.network.readout(self.states[-1])

    def gradients(self, x, logits, error):
        total = (error * logits).sum()  # for the digital factor of the read-out: exact
        for n, (layer, (to_x, to_theta)) in enumerate(
                zip(self.network.layers, self.feedback, strict=True)):
            with parts.changed([self.network], "squash", torch.nn.Identity()):
                z = self.network.controls(n, self.states[n], x)
            sent = (error @ to_x) * self.slope(z.detach())
            total = total + (sent * z).sum() + (error @ to_theta).sum(0) @ layer.theta
        return _gradients(total, self.network)
