"""The systems of notebook 09: device and its copies, twins, network, task, and how it is trained.

A system's name may end in its number of layers: "vowels_3". All randomness comes from seeds: seed
s uses copy s mod `COPIES` of the device, and has its own split, start and noise; from 100 on they
are for the search alone.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits

from pnn_utils.datasets.images import average_pool, load_images
from pnn_utils.datasets.vowels import vowel_task
from pnn_utils.networks import (
    Oscillating,
    signal_like_controls,
    spectral_chain,
    waveform_chain,
    waveform_like_controls,
)
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.model import Ringing, fit_ringing
from pnn_utils.systems.instrument import Instrument
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import Devices
from pnn_utils.twin import Perceptron, fit_twin, load_twin, random_controls, save_twin

COPIES = 5
FEW = {"tenth": 0.1, "thirtieth": 1 / 30}  # twins from fewer pairs, in shares


class System:
    """What the systems have in common; `layers` deep, trained for `epochs`.

    pairs : measured for the twin; batch_size, clip : see `pnn_utils.training.train`
    live : the constants that standardise are each batch's own
    kinds : of twins, beside "main" and "all_passes", as many pairs as PAT makes passes in all
    """

    layers, n_train, n_valid, batch_size, clip, live, augment = 4, 2000, 1000, 64, 1e9, False, None
    kinds, fitting = (), {}

    def __init__(self, layers=None):
        self.layers = layers or self.layers

    def count(self, kind):
        """Return the number of pairs for a twin."""
        if kind == "all_passes":
            return self.pairs + self.n_train * self.layers * self.epochs
        return max(20, int(self.pairs * FEW.get(kind, 1)))

    def controls(self, device, n, rng):
        """Draw controls for a twin's pairs: a quarter uniform, the rest as in networks."""
        both = random_controls(device, n // 4, rng), self.alike(device, n - n // 4, rng)
        return [np.concatenate(pair) for pair in zip(*both, strict=True)]

    def fit(self, copy, kind):
        """Fit a twin of one copy to its pairs; with as many steps from few pairs as from many."""
        device, n = self.device(copy, 1), self.count(kind)
        generator = torch.Generator().manual_seed(copy)
        controls = self.controls(device, n, np.random.default_rng([9, copy]))
        y = device(*controls)
        return fit_twin(device, *controls, y, twin=self.twin(kind, generator),
                        epochs=self.rounds(kind), generator=generator, **self.fitting)[0]

    def rounds(self, kind):
        """Return the most epochs of a twin's fit: as many steps for few pairs as for many."""
        return 6 if kind == "all_passes" else round(self.twin_epochs * self.pairs
                                                    / self.count(kind))

    def fit_macs(self, kind):
        """Return multiply-accumulates of a twin's fit, at most: it may stop early."""
        model = self.twin(kind, torch.Generator().manual_seed(0))
        if isinstance(model, Convolution):  # its moments
            return 2 * self.count(kind) * self.dimensions[0]**2
        weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
        return 3 * weights * self.count(kind) * self.rounds(kind)

    def twin(self, kind, generator):
        return Perceptron(*self.dimensions, self.hidden, generator)

    def kept_twin(self, folder, copy, kind):
        """Return a twin from its file, and fit it first where there is none."""
        path = folder / f"{self.name}-{self.layers}-{copy}-{kind}.safetensors"
        device = self.device(copy, 1)
        if not path.exists():
            save_twin(path, self.fit(copy, kind), {"copy": copy, "pairs": self.count(kind)})
        return load_twin(path, device, type(self.twin(kind, None)))


class Vowels(System):
    """Seven vowels, the plain chain of notebook 03."""

    name, dimensions, hidden, layers = "vowels", (50, 50, 50), (128,), 5
    n_train, n_valid, batch_size, clip, live = 210, 42, None, 0.1, True
    epochs, pairs, twin_epochs, kinds = 150, 20000, 40, tuple(FEW)
    rates = (0.1, 0.2, 0.4)

    def device(self, copy, noise_seed, mismatch=0.0, noise=1.0, **changes):
        """Mismatch: the colours have moved by so many channels; noise: in units of Poisson's."""
        return SHG(seed=copy, noise_seed=noise_seed, pointing=mismatch, shot_noise=noise,
                   **changes)

    def alike(self, device, n, rng):
        return signal_like_controls(device, n // 5, 5, rng, blocks=True)

    def exact(self, device, copy, folder):
        return ExactSHG(device)

    def network(self, device, model, seed):
        return spectral_chain(device, model, 12, 7, self.layers,
                              torch.Generator().manual_seed(seed), skip=False, blocks=True,
                              live=True, mode="device")

    def data(self, seed, final):
        """Return what to train on, and what to score with: the test only if `final`."""
        x, y, test_x, test_y = map(torch.tensor, vowel_task(seed, "authors")[:4])
        return (x, y, test_x, test_y) if final else (x[42:], y[42:], x[:42], y[:42])

    @staticmethod
    def augment(x, generator):
        return (x + 0.03 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


class Digits(System):
    """MNIST, 2,000 training images of 14 x 14."""

    n_test = 2000

    def data(self, seed, final):
        images, labels = load_images("mnist")
        rows = np.random.default_rng([9, seed]).permutation(len(images))
        rows, scored = rows[:self.n_train], rows[-self.n_valid:]
        held = (images[scored], labels[scored])
        if final:
            held = [part[:self.n_test] for part in load_images("mnist", train=False)]
        found = []
        for pixels, numbers in ((images[rows], labels[rows]), held):
            found += [torch.tensor(self.pixels(pixels)), torch.tensor(numbers)]
        return found

    def pixels(self, images):
        return average_pool(images, 2)

    def alike(self, device, n, rng):
        images, _ = load_images("mnist")
        rows = rng.choice(len(images), n // self.layers)
        return waveform_like_controls(device, average_pool(images[rows], 2), self.layers, rng)

    def network(self, device, model, seed):
        return waveform_chain(device, model, 10, self.layers, torch.Generator().manual_seed(seed),
                              readout=self.readout, shuffle=True, skip=True, mode="device")


class Kernel(Convolution):
    """A convolution that can be fitted on by gradients, as re-fitting does."""

    pullback = None

    def __init__(self, input_dim, param_dim, output_dim):
        super().__init__(input_dim, param_dim, output_dim)
        self.kernel = torch.nn.Parameter(self._buffers.pop("kernel"))
        self.register_buffer("output_sd", torch.ones(output_dim))

    def solved(self, x, y):
        """Return the model, solved for by least squares."""
        plain = Convolution(*self.settings.values()).fit(x, y)
        self.kernel.data, self.constant = plain.kernel, plain.constant
        self.output_sd = torch.tensor(y).std(0)
        return self.requires_grad_(False)


class OnPlate(Digits):
    """The network of notebook 04, on the plate, a nearly linear device."""

    name, dimensions, readout, epochs, pairs = "plate", (196, 0, 196), "power", 10, 2000
    hidden, twin_epochs, kinds, rates = (128,), 15, ("perceptron",), (0.03, 0.06, 0.12)

    def device(self, copy, noise_seed, **changes):
        return Plate(seed=copy, noise_seed=noise_seed, periods=1, **changes)

    def twin(self, kind, generator):
        return super().twin(kind, generator) if kind == "perceptron" else Kernel(*self.dimensions)

    def fit(self, copy, kind):
        if kind == "perceptron":
            return super().fit(copy, kind)
        device = self.device(copy, 1)
        x, theta = self.controls(device, self.count(kind), np.random.default_rng([9, copy]))
        return self.twin(kind, None).solved(x, device(x, theta))

    def exact(self, device, copy, folder):
        """The Jacobian at rest, by differences: drives bend it by less than a per cent."""
        quiet = Plate(seed=copy, periods=1, sound_noise=0.0, adc_bits=0,
                      timing_jitter=0.0)
        size, none = 0.1, np.zeros(0)
        up, down = (quiet(sign * size * np.eye(196), none) for sign in (1, -1))
        matrix = torch.tensor((up - down) / (2 * size)).float()
        return lambda x, theta: x @ matrix


class OnCircuit(Digits):
    """The network of notebook 05, one shot of the circuit a layer."""

    name, dimensions, readout, epochs, pairs = "circuit", (196, 0, 196), "mean", 8, 10000
    hidden, twin_epochs, kinds, rates = (256, 256), 20, ("own", "tenth"), (0.01, 0.02, 0.04)
    PRINTED = {"inductance": 3.3, "resistance": 0.043, "conductance": 1 / 0.3,
               "transconductance": 120.0, "threshold": 2.1, "diode_voltage": 0.6,
               "diode_width": 0.1, "gain": 1.0, "offset": 0.0}

    def device(self, copy, noise_seed, **changes):
        return Circuit(seed=copy, noise_seed=noise_seed, substeps=4, drive_range=2.0,
                       trigger_batch=100, **changes)

    def twin(self, kind, generator):
        return super().twin(kind, generator) if kind != "own" else Ringing(*self.dimensions)

    def fit(self, copy, kind):
        if kind != "own":
            return super().fit(copy, kind)
        device, rng = self.device(copy, 1), np.random.default_rng([9, copy])
        x, theta = self.controls(device, 1000, rng)
        mixed = rng.permutation(len(x))
        return fit_ringing(device, x[mixed], theta[mixed], device(x, theta)[mixed], self.PRINTED)

    def exact(self, device, copy, folder):
        """Its own equations, fitted to readings: cosine 0.999 with the true gradient (05)."""
        return self.kept_twin(folder, copy, "own")


class Glass(System):
    """The function of notebook 10: phases go through frosted glass, a camera sees 32 speckles."""

    name, dimensions, hidden, n_train, n_valid = "function", (32, 32, 32), (256, 256), 1000, 297
    batch_size, epochs, pairs, twin_epochs = 100, 36, 24000, 30
    fitting, kinds, rates = dict(batch_size=300, learning_rate=4e-3), tuple(FEW), (0.02, 0.05, 0.1)

    def device(self, copy, noise_seed, mismatch=0.0, noise=1.0, drift=0.0, passes=1):
        """Mismatch: the glass is turned by so many steps of 10 degrees; noise: in units of 0.01.

        drift : steps by which it goes on turning while the device makes that many `passes`; all
            of them once it has ``aged``
        """
        rng = np.random.default_rng([10, copy, noise_seed])

        def speckle(x, theta):
            step = mismatch + drift * (1 if device.aged else min(1, device.passes / passes))
            field = np.exp(2j * np.pi * np.hstack([x, theta])) @ self.glass(copy, step)
            return np.abs(field) ** 2 + 0.01 * noise * rng.standard_normal(field.shape)

        device = Instrument(speckle, *self.dimensions, input_range=(0, 0.5), param_range=(0, 0.5),
                            control_unit="turns", pass_time=0.02)
        device.step, device.aged = mismatch, False
        return device

    @staticmethod
    def glass(copy, step):
        draw = np.random.default_rng([11, copy]).standard_normal((2, 64 * 32, 2))
        one, other = np.linalg.qr(draw[0] + 1j * draw[1])[0].T.reshape(2, 64, 32) * np.sqrt(32)
        angle = np.deg2rad(10 * step)
        return np.cos(angle) * one + np.sin(angle) * other

    def alike(self, device, n, rng):
        return signal_like_controls(device, n // self.layers, self.layers, rng)

    def exact(self, device, copy, folder):
        glass = torch.tensor(self.glass(copy, device.step)).to(torch.complex64)

        def speckle(x, theta):
            phases = 2 * torch.pi * torch.cat([x, theta.expand(len(x), -1)], 1)
            return (torch.exp(1j * phases) @ glass).abs().square()

        return speckle

    def network(self, device, model, seed):
        return spectral_chain(device, model, 16, 10, self.layers,
                              torch.Generator().manual_seed(seed), mode="device")

    def data(self, seed, final):
        images, labels = load_digits(return_X_y=True)
        pixels = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
        order = np.random.default_rng(20).permutation(len(labels))
        rows = np.random.default_rng([21, seed]).permutation(order[500:])
        found = []
        for part in (rows[297:297 + self.n_train], order[:500] if final else rows[:297]):
            found += [torch.tensor(pixels[part]).float(), torch.tensor(labels[part])]
        return found


class TrueMotion:
    """The oscillators' own motion without their noise, differentiable (notebook 08)."""

    def __init__(self, device):
        self.slope = 1 + device.parameters.nonlinearity
        duration = device.parameters.duration * self.slope**0.5
        self.model = OscillatorModel(device.input_dim, device.output_dim, duration=duration)
        errors = torch.from_numpy(device.coupling_errors)
        self.errors = torch.cat([errors, torch.zeros(device.input_dim)])

    def __call__(self, x, theta):
        return self.model(self.slope * x, theta + self.errors) / self.slope


class Pendulums(Digits):
    """The network of notebook 07 with the gap of 08; its model is the plain equation."""

    name, layers, epochs, pairs, kinds = "oscillators", 2, 20, 0, ()
    rates = (0.002, 0.004, 0.008)

    def device(self, copy, noise_seed, mismatch=1.0, noise=1.0):
        """Mismatch: in units of both gaps, nonlinearity and errors of couplings."""
        return Devices(Oscillators(
            seed=10 * copy + n, noise_seed=10 * noise_seed + n, n_oscillators=size, n_read=read,
            nonlinearity=0.1 * mismatch, coupling_noise=0.2 * mismatch, input_noise=0.02 * noise)
            for n, (size, read) in enumerate(((196, 196), (206, 10))))

    def kept_twin(self, folder, copy, kind):
        return [OscillatorModel(*sizes) for sizes in ((196, 196), (206, 10))]

    def exact(self, devices, copy, folder):
        return [TrueMotion(device) for device in devices]

    def pixels(self, images):
        return (images[:, ::2, ::2] / np.float32(255)).reshape(len(images), 196)

    def network(self, devices, models, seed):
        models = models or [None] * len(devices)
        return Oscillating(devices, models, lambda images: images[:, None],
                           torch.Generator().manual_seed(seed), mode="device", bound=0.8,
                           factor=2, n_pixels=196)


SYSTEMS = {"vowels_3": Vowels(3), "vowels_5": Vowels(5), "plate": OnPlate(),
           "circuit": OnCircuit(), "oscillators": Pendulums(), "function": Glass()}
