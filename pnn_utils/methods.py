"""Ways to train a physical network, one short function each, all called alike:

    network, history = method(start, twin, device, x, y, seed=0, epochs=200, learning_rate=0.1)

``start(model)`` builds the network around a model, with its fixed starting numbers, its constants
measured on the device; `twin` is the model fitted to the device; x and y are the rows to train on.
All that a method draws (batch order, noise, controls) comes from `seed`; the rest goes to
`pnn_utils.training.train`. What else a method needs is bound beforehand:
``partial(exact, true=ExactSHG)``.
"""

import copy

import numpy as np
import torch

from pnn_utils import parts
from pnn_utils.training import train
from pnn_utils.twin import READINGS, fit_twin

SPREAD = 0.3  # by which the controls of a re-fit are moved, in logit of their range
EDGES = torch.logit(torch.tensor([1e-4, 1 - 1e-4]))  # an end of the range has no finite one


def pat(start, twin, device, x, y, *, seed, **schedule):
    """Physics-aware training: device forward, model backward."""
    return _trained("pat", start(twin), device, x, y, _generator(seed), schedule)


def in_silico(start, twin, device, x, y, *, seed, **schedule):
    """The model both ways; the device is met at the end."""
    return _trained("in_silico", start(twin), device, x, y, _generator(seed), schedule)


def exact(start, twin, device, x, y, *, true, seed, **schedule):
    """Device forward, the Jacobian of ``true(device)`` backward: a simulator's ceiling."""
    return pat(start, true(device), device, x, y, seed=seed, **schedule)


def mixed(start, twin, device, x, y, *, loss, states, seed, **schedule):
    """Physics-aware training taken apart: loss read on one side, Jacobians at states of another.

    `loss` and `states` are "device" or "model": the logits that the loss is read from, and the
    states at which the model's Jacobians are taken. Loss on the device and states of the model is
    what remains of physics-aware training where only the last layer can be read.
    """
    network, ways = start(twin).set_mode("device"), {"device": "pat", "model": "in_silico"}
    return network, train(_Mixed(network, ways[loss], ways[states]), x, y, device=device,
                          generator=_generator(seed), **schedule)


class _Mixed(torch.nn.Module):
    """A network whose value is that of one mode and whose derivatives are those of another."""

    def __init__(self, network, value, path):
        super().__init__()
        self.network, self.value, self.path = network, value, path

    def forward(self, x):
        with torch.no_grad():
            value = self.network.set_mode(self.value)(x)
        logits = self.network.set_mode(self.path)(x)  # last, for its constants are kept
        return value + logits - logits.detach()


def noise_aware(start, twin, device, x, y, *, draw, seed, **schedule):
    """In silico, with noise on the model's outputs as repeated readings show it.

    ``draw(device, rng)`` returns the controls (x, theta) at which it is measured: deviations of
    readings from their mean, each row whole, so that they are correlated as measured.
    """
    controls = draw(device, np.random.default_rng(seed))
    readings = np.stack([device(*controls) for _ in range(READINGS)])
    shares = (readings - readings.mean(0)) * (READINGS / (READINGS - 1)) ** 0.5
    noise = torch.tensor(shares).flatten(0, 1).float()
    generator = _generator(seed)  # one for noise and batches, so that a checkpoint keeps both

    def noisy(x, theta):
        drawn = torch.randint(len(noise), (len(x),), generator=generator)
        return twin(x, theta) + noise[drawn]

    return _trained("in_silico", start(noisy), device, x, y, generator, schedule)


def refitted(start, twin, device, x, y, *, seed, epochs, checkpoint=None, **schedule):
    """In silico in two halves; between them the model is re-fitted where the network has come to.

    It spends as many device passes on that as physics-aware training would in all epochs. A
    checkpoint is two files, of which the second one is named ``<checkpoint>-2``.
    """
    twin, generator, half = copy.deepcopy(twin), _generator(seed), epochs // 2
    network, before = _trained("in_silico", start(twin), device, x, y, generator,
                               schedule | {"epochs": half, "checkpoint": checkpoint})
    controls = controls_around(network, device, x, epochs, np.random.default_rng(seed))
    fit_twin(device, *controls, device(*controls), twin=twin, refit=True, epochs=2, batch_size=512,
             learning_rate=1e-3, generator=generator)
    second = checkpoint and f"{checkpoint}-2"
    _, after = _trained("in_silico", network, device, x, y, generator,
                        schedule | {"epochs": epochs - half, "checkpoint": second})
    return network, before + [row | {"epoch": half + row["epoch"]} for row in after]


def restandardise(network, x):
    """Measure a trained network's constants anew on the device, one pass a layer and row.

    For constants of the training batch (``live``). Others, to which the network has adapted, lose
    by it: see `match`.
    """
    network.set_mode("device").calibrate(x)
    return network


@torch.no_grad()
def moments(network, x, mode):
    """Return mean and sd of what each `Standardise` of a network sees, for rows x in this mode."""
    seen = []
    _watched(network.set_mode(mode), x, lambda part, values: seen.append(_moments(part, values)))
    return seen


@torch.no_grad()
def match(network, trained_with, x):
    """Move a trained network's constants so that its parts see on the device what they knew.

    Each part gives there, for the rows x, the mean and sd that it gave where it was trained, with
    the `moments` `trained_with`. One pass a layer and row.
    """
    waiting = iter(trained_with)

    def move(part, values):
        (mean, sd), (here, spread) = next(waiting), _moments(part, values)
        if not torch.equal(mean, here):  # equal: of the network's input
            ratio = torch.where(sd > 0, spread / sd, 1)
            part.mean.copy_(here - ratio * (mean - part.mean))
            part.sd.mul_(ratio)

    _watched(network.set_mode("device"), x, move)
    return network


def _watched(network, x, watch):
    """Run a network; before each of its parts first standardises, call ``watch(part, values)``."""
    waiting = {part for part in network.modules() if isinstance(part, parts.Standardise)}

    def hook(part, given):
        if part in waiting:
            waiting.remove(part)
            watch(part, given[0])  # a hook that returned something would change what is given

    with torch.nn.modules.module.register_module_forward_pre_hook(hook), parts.evaluating(network):
        network(x)


def _moments(part, values):
    over = 0 if part.mean.ndim else ()
    return values.mean(over), values.std(over)


@torch.no_grad()
def controls_around(network, device, x, copies, rng):
    """Return the controls that a network sends for the rows `x`, `copies` times, moved a little.

    Each is moved by a normal step of the z that `Within` squashes into its range.
    """
    def moved(values, allowed):
        z = parts.Within(*allowed).right_inverse(values).clamp(*EDGES).numpy()
        z = z + SPREAD * rng.standard_normal((copies, *z.shape))
        return parts.squashed(z, allowed).reshape(copies * len(values), -1)

    readings = [x, *network.set_mode("device").states(x)]
    passes = [(moved(network.controls(n, readings[n], x), device.input_range),
               moved(layer.theta.expand(len(x), -1), device.param_range))
              for n, layer in enumerate(network.layers)]
    return tuple(map(np.concatenate, zip(*passes, strict=True)))


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _trained(mode, network, device, x, y, generator, schedule):
    network.set_mode(mode)
    return network, train(network, x, y, device=device, generator=generator, **schedule)
