"""One training of notebook 09 and its ledger: ``trial(**point)`` takes and gives JSON types.

Device passes count the twin's pairs, those for constants and the training's; what only judges
(accuracy, cosines) does not count.
"""

import contextlib
from collections import namedtuple
from functools import partial

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from notebooks.benchmark_methods import methods as newer
from notebooks.benchmark_methods.local import Local, phyll
from notebooks.benchmark_methods.systems import COPIES, SYSTEMS, Glass, Pendulums, Vowels
from pnn_utils import methods
from pnn_utils.training import accuracy_on_device, confidence_on_device
from pnn_utils.twin import READINGS, gradient_quality

# What a method needs: a model; readings of hidden layers; passes a layer, row and step. `renewed`:
# its constants, which standardise, are the model's, so that they can be renewed after training.
Method = namedtuple("Method", "label model hidden passes renewed")
METHODS = {
    "exact": Method("exact gradients (ceiling)", False, True, 1, False),
    "pat": Method("PAT", True, True, 1, False),
    "dat": Method("DAT", True, True, 1, False),
    "sat_pat": Method("SAT with PAT gradients", True, True, 2, False),
    "output_only": Method("output-only PAT", True, False, 1, True),
    "asyt": Method("AsyT", True, False, 1, True),
    "in_silico": Method("in silico", True, False, 0, True),
    "noise_aware": Method("noise-aware", True, False, 0, True),
    "sat": Method("SAT, in silico", True, False, 0, True),
    "refitted": Method("re-fitted", True, True, 1, True),
    "spsa": Method("SPSA", False, False, 2, False),
    "dfa": Method("DFA", False, True, 1, False),
    "augmented_dfa": Method("augmented DFA", False, True, 1, False),
    "phyll": Method("PhyLL (a network of its own)", False, True, 2, False)}
# The oscillators' model has nothing to fit, their network no constants, and their controls no sum
# of weights to which an error could be sent back.
LEFT_OUT = {"oscillators": ("refitted", "dfa", "augmented_dfa")}
BATCHES = 8  # for cosines of whole gradients
JUDGED = 2400  # rows to measure the twin's cosine with, about
STAGES = 8  # of the oscillators' integrator, a product with the couplings each


def find(name):
    """Return a system by its name, which may end in a number of layers."""
    base, _, depth = name.partition("_")
    kinds = {"vowels": Vowels, "function": Glass}
    return SYSTEMS[name] if name in SYSTEMS else kinds[base](int(depth))


def applies(system, method):
    return method not in LEFT_OUT.get(system, ())


def fitted(folder, system, copy, kind):
    """Fit a twin beforehand, so that no two trainings fit the same one at once."""
    find(system).kept_twin(folder, copy, kind)
    return {"kind": kind}


def function_of(method, system, true):
    """Return the training function of a method, all that it needs beside the common bound."""
    if method == "noise_aware" and isinstance(system, Pendulums):
        return noisy_motion
    return {"exact": partial(methods.exact, true=lambda device: true), "pat": methods.pat,
            "dat": newer.dat, "asyt": newer.asyt, "in_silico": methods.in_silico,
            "output_only": partial(methods.mixed, loss="device", states="model"),
            "noise_aware": partial(methods.noise_aware, draw=lambda device, rng:
                                   system.alike(device, 40 * system.layers, rng)),
            "sat": partial(newer.sat, mode="in_silico"), "refitted": methods.refitted,
            "sat_pat": partial(newer.sat, mode="pat"), "spsa": newer.spsa, "dfa": newer.dfa,
            "augmented_dfa": partial(newer.dfa, slope=torch.cos)}[method]


def noisy_motion(start, models, devices, x, y, *, seed, **schedule):
    """Noise-aware training of two devices in a row: as `methods.noise_aware`, for each of them."""
    network, generator = start(models), torch.Generator().manual_seed(seed)
    padded = torch.nn.functional.pad(x[:200], (0, network.sizes[0] - x.shape[1]))
    noisy = []
    with torch.no_grad():
        for layer, inputs, model in zip(network.layers, (padded, network.hidden(x[:200])), models,
                                        strict=True):
            readings = torch.stack([layer(inputs) for _ in range(READINGS)])
            shares = (readings - readings.mean(0)) * (READINGS / (READINGS - 1)) ** 0.5
            noisy.append(_with_noise(model, shares.flatten(0, 1), generator))
    return methods.in_silico(start, noisy, devices, x, y, seed=seed, **schedule)


def _with_noise(model, noise, generator):
    return lambda x, theta: model(x, theta) + noise[
        torch.randint(len(noise), (len(x),), generator=generator)]


def trial(folder, **point):
    """Run `trained`; a training whose controls leave the device's range has broken down."""
    try:
        return trained(folder, **point)
    except ValueError as error:
        if "outside the allowed range" in str(error):
            raise FloatingPointError(f"the device refuses: {error}") from error
        raise


def trained(folder, system, method, seed, rate, final=True, kind="main", share=1.0, after=(),
            cosines=True, **knobs):
    """Train once, and judge on the test set if `final`, otherwise on held-out training rows.

    folder : where the twins' files are, or will be
    share : of the system's epochs; kind : of twin; after : mismatches met after deployment
    knobs : of the device, "mismatch", "noise" or "drift": as they are after the twin was measured
    """
    s, copy = find(system), seed % COPIES
    x, y, *scored = s.data(seed, final)
    epochs = max(4, round(s.epochs * share))
    device = s.device(copy, 1000 + seed, **knobs)
    schedule = dict(epochs=epochs, learning_rate=rate, clip=s.clip, augment=s.augment,
                    batch_size=s.batch_size)
    if method == "phyll":
        network, history = phyll(local(s, device, x, y, seed), device, x, y, seed=seed, **schedule)
        train = None
    else:
        twin = s.kept_twin(folder, copy, kind) if METHODS[method].model else None
        true = s.exact(device, copy, folder)
        train = partial(function_of(method, s, true), partial(started, s, device, seed, x), twin,
                        device)
        network, history = train(x, y, seed=seed, **schedule)
    result = {"passes": device.passes, "loss": history[-1]["loss"]}
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    device.aged = True  # what drifts during a training has drifted by its end
    result |= judged(network, s, METHODS[method].renewed, x, y, scored, final)
    if METHODS[method].model and s.pairs:
        result["passes"] += s.count(kind)
    result["laboratory_s"] = result["passes"] * pass_time(device)
    if after:
        result["after"] = {str(level): met(network, s.device(copy, 3000 + seed, mismatch=level), x,
                                           *scored) for level in after}
    if method == "phyll":  # forward and back, right labels and wrong ones
        result["macs"] = 6 * len(x) * epochs * sum(part.weight.numel() for part in network.digital)
    elif final and cosines:
        result |= compared(s, method, train, twin, true, seed, x, y, epochs, weights)
        if METHODS[method].model and s.pairs:
            result["macs"] += s.fit_macs(kind)
    return rounded(result)


def rounded(value):
    """Six digits, in whatever lists and dicts: the table is committed."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def started(system, device, seed, x, model):
    network = system.network(device, model, seed)
    if not isinstance(system, Pendulums):
        network.calibrate(x[:2000])
    return network


def local(system, device, x, y, seed):
    """PhyLL's network: as many passes of the first of the system's devices."""
    single = device[0] if isinstance(device, list) else device
    allowed = (-1.5, 1.5) if isinstance(system, Pendulums) else device.input_range
    return Local(single, x.shape[1], int(y.max()) + 1, system.layers,
                 torch.Generator().manual_seed(seed), allowed)


def pass_time(device):
    return device[0].pass_time if isinstance(device, list) else device.pass_time


def judged(network, system, renewed, x, y, scored, final):
    """Accuracies as trained, and with the constants renewed where they were the model's."""
    def read(ending):
        found = {f"accuracy{ending}": accuracy_on_device(network, *scored),
                 f"train{ending}": accuracy_on_device(network, x, y)}
        if not final:
            found[f"confidence{ending}"] = confidence_on_device(network, *scored)
        return found

    found = read("")
    if renewed and not isinstance(system, Pendulums):
        renew(network, system, x)
        found |= read("_renewed")
    return found


def renew(network, system, x):
    """Bring the constants that standardise to the device: a pass a layer and row."""
    if system.live:
        return methods.restandardise(network, x)
    return methods.match(network, methods.moments(network, x[:2000], "in_silico"), x[:2000])


def met(network, device, x, *scored):
    """Accuracy on a device that has changed: as it was, and with constants measured anew."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    before = methods.moments(network, x[:2000], "device")
    parts_of = [layer.parts for layer in network.layers]
    devices = device if isinstance(device, list) else [device] * len(network.layers)
    for layer, one in zip(network.layers, devices, strict=True):
        layer.parts = (one, layer.parts[1])
    found = [accuracy_on_device(network, *scored)]
    methods.match(network, before, x[:2000])
    found.append(accuracy_on_device(network, *scored))
    network.load_state_dict(kept)
    for layer, old in zip(network.layers, parts_of, strict=True):
        layer.parts = old
    return found


def compared(system, method, train, twin, true, seed, x, y, epochs, weights):
    """Cosines of gradients where training starts and where it ends; multiply-accumulates.

    cosine : of the twin's and the device's, measured from readings alone, at the start
    gradient_..., adam_... : of the gradient that a method follows, and of the step that Adam makes
        of it, with what the true model gives; only a simulator can tell
    """
    batch, (start, _, device) = system.batch_size, train.args
    rows, once = slice(BATCHES * (batch or len(x))), 1 if batch else BATCHES
    few = dict(seed=seed, epochs=once, learning_rate=1e-30, batch_size=batch, clip=system.clip)
    followed = partial(methods.in_silico, *train.args) if method == "refitted" else train
    truly, result = partial(methods.in_silico, start, true, device), {}
    for when, state in (("start", {}), ("end", weights)):
        with Products() as counter:
            found = gradients(followed, state, x[rows], y[rows], few)
        truth = gradients(truly, state, x[rows], y[rows], few)
        if when == "start" or method not in ("dat", "refitted"):  # their last model is not kept
            result |= {f"gradient_{when}": cosine(found.mean(0), truth.mean(0)),
                       f"adam_{when}": cosine(adam(found), adam(truth))}
    result["macs"] = counter.macs * epochs * len(x) / (once * len(x[rows]))
    if isinstance(system, Pendulums) and METHODS[method].model:
        each = 3 * STAGES * sum(one.input_dim**2 for one in device)
        result["macs"] += each * epochs * len(x) * (2 if method in ("sat", "sat_pat") else 1)
    if METHODS[method].model:
        with contextlib.suppress(ValueError):  # noise may hide it: then there is none
            result["cosine"] = measured_cosine(system, start(twin), twin, device, x, seed)
    return result


class Products(TorchDispatchMode):
    """Counts the multiply-accumulates of torch's matrix products."""

    macs = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.macs += args[-2].numel() * args[-1].shape[-1]
        return function(*args, **(kwargs or {}))


def gradients(train, state, x, y, settings):
    """The gradients that a method follows from a state on, shape (batches, numbers).

    Of all numbers that act through a device: the factor on the logits is digital and easy.
    """
    seen, (start, *others) = [], train.args

    def watched(model):
        network = start(model)
        network.load_state_dict(network.state_dict() | state)
        for name, p in network.named_parameters():
            p.register_hook(lambda g, name=name: seen.append((name, g.detach().flatten().clone())))
        return network

    network, _ = partial(train.func, watched, *others, **train.keywords)(x, y, **settings)
    rows, now = [], {}
    for name, g in seen:
        now[name] = g
        if name == seen[-1][0]:  # the last one of every backward pass
            rows.append(torch.cat([now.get(key, torch.zeros(p.numel()))
                                   for key, p in network.named_parameters()
                                   if not key.endswith("factor")]))
    return torch.stack(rows).double()


def cosine(a, b):
    return float(torch.cosine_similarity(a, b, dim=0))


def adam(rows):
    """The direction of Adam's step from some gradients."""
    return rows.mean(0) / (rows.square().mean(0).sqrt() + 1e-8)


def measured_cosine(system, network, twin, device, x, seed):
    """`twin.gradient_quality` at the controls of the untrained network."""
    rng = np.random.default_rng(seed)
    rows = x[torch.tensor(rng.permutation(len(x))[:200])]
    if isinstance(system, Pendulums):  # theta is one vector for all rows: data controls alone
        layer, (device, model) = network.layers[1], (device[1], twin[1])
        with torch.no_grad():
            controls = network.set_mode("device").hidden(rows).numpy()
            theta = layer.theta.detach()
        fixed = Fixed(device, theta.numpy())
        return gradient_quality(fixed, lambda x, _: model(x, theta), controls,
                                np.zeros((len(rows), 0), np.float32), rng)["cosine"]
    controls = methods.controls_around(network, device, rows, JUDGED // len(rows) // system.layers,
                                       rng)
    return gradient_quality(device, twin, *controls, rng)["cosine"]


class Fixed:
    """A device whose parameter controls stay."""

    param_range = (0.0, 1.0)

    def __init__(self, device, theta):
        self.device, self.theta = device, theta
        self.input_range = (-1.0, 1.0)

    def __call__(self, x, _):
        return self.device(x.astype(np.float32), self.theta)
