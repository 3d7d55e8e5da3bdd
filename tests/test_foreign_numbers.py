"""Other people's devices: dead pixels, fixed knobs, nanoamperes, offsets, ranges of all kinds."""

import numpy as np
import pytest
import torch
from test_hybrid import Hybrid

from pnn_utils.networks import (
    Oscillating,
    signal_like_controls,
    spectral_chain,
    waveform_chain,
    waveform_like_controls,
)
from pnn_utils.parts import Clamp, Standardise, Within
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.circuit.model import Ringing
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import train
from pnn_utils.twin import (
    Perceptron,
    explained,
    fit_twin,
    gradient_quality,
    judge_twin,
    load_twin,
    noise_variance,
    random_controls,
    save_twin,
)

WIDTH = 6  # data controls, parameter controls, readings


class Bench:
    """A smooth device with a door: shares of its ranges in, `offset + unit * response` out.

    Readings are float64 whatever the controls are; some may be `stuck` at a number of their own.
    """

    def __init__(self, unit=1.0, offset=0.0, x=(0.0, 1.0), theta=(0.0, 1.0), stuck=None, noise=0.0,
                 width=WIDTH):
        self.input_dim = self.param_dim = self.output_dim = width
        self.input_range, self.param_range = x, theta
        self.unit, self.offset, self.stuck, self.noise = unit, offset, stuck or {}, noise
        self.mixing = np.random.default_rng(1).normal(0, 0.8, (2, width, width))
        self.rng = np.random.default_rng(2)

    def __call__(self, x, theta):
        response = self.respond(*map(np.asarray, (x, theta)))
        response = response + self.noise * self.rng.standard_normal(response.shape)
        y = self.offset + self.unit * response
        for n, value in self.stuck.items():
            y[:, n] = value
        return y

    def respond(self, x, theta):
        shares = []
        for values, allowed in ((x, self.input_range), (theta, self.param_range)):
            low, high = (np.asarray(end, values.dtype) for end in allowed)
            assert ((values >= low) & (values <= high)).all(), "out of range"
            width = np.subtract(high, low, dtype=np.float64)
            shares.append((values - low.astype(float)) / np.where(width > 0, width, 1))
        return np.tanh(sum(s @ m for s, m in zip(shares, self.mixing, strict=True)))


class BenchModel:
    """The same response in torch."""

    def __init__(self, device):
        self.device = device

    def __call__(self, x, theta):
        device, total = self.device, 0
        for values, allowed, mixing in ((x, device.input_range, device.mixing[0]),
                                        (theta, device.param_range, device.mixing[1])):
            low, high = (torch.as_tensor(end, dtype=torch.float64).to(x) for end in allowed)
            width = torch.where(high > low, high - low, 1)
            total = total + (values - low) / width @ torch.tensor(mixing).to(x)
        return device.offset + device.unit * torch.tanh(total)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(device, n=600, seed=0, kind=np.float32):
    x, theta = (part.astype(kind) for part in
                random_controls(device, n, np.random.default_rng(seed)))
    return x, theta, device(x, theta)


def fitted(device, *measured, epochs=15):
    return fit_twin(device, *(measured or pairs(device)), hidden=(32,), epochs=epochs,
                    batch_size=32, learning_rate=5e-3)[0]


def task(features=WIDTH):
    x = torch.rand(40, features, generator=generator(3))
    return x, (x[:, 0] > x[:, 1]).long()


def hybrid(devices, bound="clip"):
    return Hybrid(devices, list(map(BenchModel, devices)), WIDTH, 2, generator(), bound=bound)


def chain(device, **kind):
    return spectral_chain(device, BenchModel(device), WIDTH, 2, 3, generator(), **kind)


def waves(device, **kind):
    return waveform_chain(device, BenchModel(device), 2, 3, generator(), **kind)


NETWORKS = {
    "chain": chain,
    "waveforms": waves,
    "power": lambda device: waves(device, readout="power", shuffle=True, skip=True),
    "hybrid, clip": lambda device: hybrid([device, device]),
    "hybrid, linear": lambda device: hybrid([device, device], "linear")}


def trained(network, rows=None):
    x, labels = task()
    x = x if rows is None else rows
    network.calibrate(x)
    history = train(network, x, labels, epochs=6, learning_rate=0.005)
    return [row["loss"] for row in history], [p.detach() for p in network.parameters()]


# --- Constant readings and controls --------------------------------------------------------------

STUCK = {1: 0.1, 4: 65535.0}  # a dead pixel and a hot one
ALIVE = [0, 2, 3, 5]


@pytest.mark.parametrize("unit, stuck", [(1.0, STUCK), (1.0, {1: 1e-9}), (1e-9, STUCK)])
def test_a_dead_pixel_leaves_a_twin_of_the_others_as_good(unit, stuck):
    device, fresh = Bench(unit, stuck=stuck), pairs(Bench(), 200, 1)[:2]
    twin = fitted(device)
    judged = judge_twin(twin, device, *fresh)
    assert all(judged[name][n] == 0 for n in stuck for name in ("r2", "floor"))
    assert judged["constant"] == [*stuck] and "constant" not in judge_twin(
        fitted(Bench(unit)), Bench(unit), *fresh)
    alive = [n for n in range(WIDTH) if n not in stuck]
    assert judged["r2"][alive].min() > 0.8 and judged["floor"][alive].min() > 0.99
    with torch.no_grad():
        predicted = twin(*map(torch.tensor, fresh))
    for n, value in stuck.items():
        assert predicted[:, n].numpy() == pytest.approx(value, rel=1e-6)


def test_in_a_constant_output_nothing_is_to_be_explained():
    assert (explained(np.zeros(2), np.array([[0.1, 1], [0.1, 2], [0.1, 3]])) == [0, 1]).all()


def test_what_a_twin_has_never_seen_move_does_not_move_its_prediction():
    device = Bench()
    x, theta, _ = pairs(device)
    x[:, 2] = 0.3
    twin = fitted(device, x, theta, device(x, theta))
    x = torch.tensor(x, requires_grad=True)
    moved = x.detach().clone()
    moved[:, 2] = 0.9
    assert torch.equal(twin(x, torch.tensor(theta)), twin(moved, torch.tensor(theta)))
    twin(x, torch.tensor(theta)).sum().backward()
    assert (x.grad[:, 2] == 0).all() and (x.grad[:, [0, 1, 3, 4, 5]] != 0).any(0).all()


def test_a_dead_pixel_does_not_spoil_what_is_drawn_or_measured():
    device, sound = Bench(stuck=STUCK), Bench(stuck=dict.fromkeys(range(WIDTH), 0.1))
    rng, images = np.random.default_rng(0), np.random.default_rng(1).random((50, WIDTH))
    for x, theta in (signal_like_controls(device, 50, 3, rng),
                     waveform_like_controls(device, images, 3, rng),
                     waveform_like_controls(sound, images, 3, rng)):
        assert x.std(0).min() > 0.05 and np.isfinite(device(x, theta)).all()
    alone, among = (
        gradient_quality(d, BenchModel(d), *pairs(d, 200)[:2], np.random.default_rng(5))
        for d in (Bench(), device))
    assert abs(among["cosine"] - 1) < 0.1 and abs(alone["cosine"] - 1) < 0.1


def test_a_pixel_that_was_dead_while_constants_were_measured_may_wake_up():
    x = task()[0]
    for make in (chain, lambda device: hybrid([device])):
        device = Bench(stuck=STUCK)
        network = make(device)
        network.calibrate(x)

        def answer(network=network, make=make):
            """What a chain sends in its last pass (the readings are summed), a hybrid's logits."""
            return network.controls(2, network.states(x)[1], x) if make is chain else network(x)

        asleep = answer()
        device.stuck = {1: 0.2, 4: 65534.0}
        assert torch.equal(answer(), asleep) and asleep.std() > 0.1


def test_a_column_that_never_varied_is_sent_to_zero_and_one_row_is_enough():
    part = Standardise(3)
    part.measure(torch.tensor([[0.1, 1.0, 5.0], [0.1, 2.0, 5.0], [0.1, 3.0, 5.0]]))
    assert part.sd.tolist() == [0, 1, 0] and part.mean.tolist() == pytest.approx([0.1, 2, 5])
    assert part(torch.tensor([[7.0, 4.0, -1e9]])).tolist() == [[0, 2, 0]]
    whole = Standardise()
    whole.measure(torch.full((50, 3), 0.1))
    assert whole(torch.tensor([[0.2]])).item() == 0


def test_a_blank_image_sends_the_middle_of_every_range_and_finite_gradients():
    for bound in ("clip", "linear"):
        network = hybrid([Bench()], bound)
        network.calibrate(task()[0])
        blank = torch.zeros(2, WIDTH)
        assert network.controls(blank).detach().unique() == pytest.approx(0.6)
        network(blank).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())


# --- Units ---------------------------------------------------------------------------------------

POWERS = [2.0**-40, 2.0**30]  # about 1e-12 and 1e9; a change of units without rounding


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "power"])
@pytest.mark.parametrize("unit", POWERS)
def test_a_network_trains_the_same_in_any_unit_of_readings_and_controls(kind, unit):
    """To the last bit where the new unit is a power of two; squares may leave float32's range."""
    plain = trained(NETWORKS[kind](Bench()))
    scaled = trained(NETWORKS[kind](Bench(unit, x=(0.0, 1 / unit), theta=(0.0, unit))))
    assert plain[0] == scaled[0] and all(map(torch.equal, plain[1], scaled[1]))
    assert plain[0][-1] < plain[0][0]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_a_network_trains_the_same_in_picoamperes_up_to_rounding(kind, unit):
    plain, scaled = (trained(NETWORKS[kind](Bench(size)))[0] for size in (1.0, unit))
    assert scaled == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("unit", [*POWERS, 1e-12, 1e9, 1e-25])
def test_twin_noise_floor_and_gradients_are_the_same_in_any_unit(unit):
    def all_of(unit):
        device = Bench(unit, x=(0.0, 1 / unit), noise=0.05)
        twin = fitted(device, epochs=4)
        x, theta, _ = pairs(device, 100, 1)
        judged = judge_twin(twin, device, x, theta)
        noise = noise_variance(device, x, theta, 3) / unit**2
        quality = gradient_quality(device, twin, x, theta, np.random.default_rng(0))
        return [*judged["r2"], *judged["floor"], *noise, quality["cosine"]]

    plain, scaled = all_of(1.0), all_of(unit)
    assert scaled == pytest.approx(plain, rel=2e-3) and np.median(plain[:WIDTH]) > 0.3


def test_a_hybrid_takes_inputs_of_any_size():
    x = task()[0]
    for bound in ("clip", "linear"):
        plain, small = (hybrid([Bench()], bound).controls(size * x) for size in (1, 2.0**-40))
        assert torch.equal(plain, small)


# --- Offsets -------------------------------------------------------------------------------------

OFFSETS = [2.0**23, 1e7, 1e9]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_twin_follows_signals_of_one_on_an_offset_of_millions(offset, tmp_path):
    device, level = Bench(offset=offset), Bench()
    twin = fitted(device)
    fresh = pairs(device, 200, 1)[:2]
    judged, plain = (judge_twin(t, d, *fresh) for t, d in ((twin, device), (fitted(level), level)))
    assert judged["r2"] == pytest.approx(plain["r2"], abs=0.01) and plain["r2"].min() > 0.8
    quality = gradient_quality(device, twin, *fresh, np.random.default_rng(0))
    assert quality["cosine"] == pytest.approx(
        gradient_quality(level, twin, *fresh, np.random.default_rng(0))["cosine"], abs=1e-3)
    save_twin(tmp_path / "twin.safetensors", twin, {})
    again = load_twin(tmp_path / "twin.safetensors", device)
    assert torch.equal(again(*map(torch.tensor, fresh)), twin(*map(torch.tensor, fresh)))


@pytest.mark.parametrize("offset", OFFSETS)
def test_noise_on_an_offset_is_the_noise(offset):
    device = Bench(offset=offset, unit=10.0, noise=0.3 * 64)

    def in_float32(x, theta):  # whose step is 1 at 1e7 and 64 at 1e9
        return device(x, theta).astype(np.float32)

    for call in (device, in_float32):
        sd = np.sqrt(noise_variance(call, *pairs(Bench(), 20)[:2], 200))
        assert sd == pytest.approx(192, rel=0.1)


def test_controls_on_an_offset_are_drawn_and_followed():
    device = Bench(x=(1e7, 1e7 + 1), theta=(-1e9, 1 - 1e9))
    for x, theta in (random_controls(device, 300, np.random.default_rng(0)),
                     signal_like_controls(device, 300, 2, np.random.default_rng(0))):
        assert np.ptp(x - 1e7, 0).min() > 0.8 and len(np.unique(theta)) > 1000
    measured = pairs(device, kind=np.float64)
    judged = judge_twin(fitted(device, *measured), device, *pairs(device, 200, 1, np.float64)[:2])
    assert judged["r2"].min() > 0.8


def test_statistics_of_float32_are_those_of_float64():
    values = np.float32(1e7) + np.random.default_rng(0).integers(0, 20, (3000, 4))
    for width, exact in ((4, values.mean(0)), ((), values.mean())):
        part = Standardise(width)
        part.measure(torch.tensor(values, dtype=torch.float32))
        assert np.abs(part.mean.numpy() - exact).max() <= 0.5  # half a step of float32 there
        assert part.sd.numpy() == pytest.approx(values.std(0) if width else values.std(), rel=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "power"])
def test_a_network_in_float64_trains_the_same_on_an_offset(kind):
    """Not so the power of a waveform, which is that of its offset."""
    x = task()[0].double()
    plain, high = (trained(NETWORKS[kind](Bench(offset=offset)).double(), x)[0]
                   for offset in (0.0, 1e7))
    assert high == pytest.approx(plain, rel=1e-4)


# --- Ranges --------------------------------------------------------------------------------------

FIXED = np.array([0.0, 0.1, 4.0, 0.3, -2.0, 1e-9]), np.array([1.0, 0.9, 20.0, 0.3, 7.0, 3e-9])
RANGES = {
    "4 to 20 mA": (0.004, 0.020), "0.1 to 0.9": (0.1, 0.9), "-0.3 to 0.7": (-0.3, 0.7),
    "numpy": (np.float64(0.1), np.float64(0.7)), "one each, one fixed": FIXED,
    "float32": tuple(end.astype(np.float32) for end in FIXED)}


@pytest.mark.parametrize("name", RANGES)
def test_what_is_drawn_and_trained_lies_in_the_range(name):
    allowed, rng = RANGES[name], np.random.default_rng(0)
    images = rng.random((300, WIDTH))
    for device in (Bench(x=allowed, theta=allowed), Bench(theta=allowed), Bench(x=allowed)):
        twin_pairs = [random_controls(device, 300, rng), signal_like_controls(device, 300, 3, rng),
                      waveform_like_controls(device, images, 3, rng)]
        for controls in twin_pairs:
            assert np.isfinite(device(*controls)).all()  # the door lets them in
        x, theta = random_controls(device, 300, rng)
        quality = gradient_quality(device, BenchModel(device), x, theta, rng)
        assert abs(quality["cosine"] - 1) < 0.1
        for make in NETWORKS.values():
            network = make(device)
            with torch.no_grad():
                for part in network.parameters():
                    part *= 30  # presses many controls against the ends
            trained(network)
            trained(network.double(), task()[0].double())


def test_ends_are_reached_but_not_passed_and_fixed_controls_stay():
    for allowed in RANGES.values():
        low, high = (torch.as_tensor(end).float() for end in allowed)
        z = torch.linspace(-40, 40, 10001)[:, None].expand(-1, WIDTH).clone().requires_grad_()
        for squash in (Within(*allowed), Clamp(*allowed)):
            u = squash(z)
            assert (u >= low).all() and (u <= high).all()
            assert torch.allclose(u.amin(0), low, rtol=1e-5, atol=1e-12)
            assert torch.allclose(u.amax(0), high, rtol=1e-5, atol=1e-12)
            u.sum().backward()
        assert torch.isfinite(z.grad).all() and torch.equal(
            z.grad.any(0), (low < high).expand(WIDTH))


def test_a_range_can_be_inverted_from_end_to_end():
    for allowed in RANGES.values():
        within = Within(*allowed)
        low, high = (torch.as_tensor(end, dtype=torch.float32).expand(WIDTH) for end in allowed)
        for value in (low, high, (low + high) / 2):
            assert torch.allclose(within(within.right_inverse(value)), value, rtol=1e-5, atol=0)


def test_a_hybrid_drives_each_control_over_its_own_range():
    devices = [Bench(x=(0.0, 1.0), theta=(4.0, 20.0)), Bench(x=FIXED, theta=(-1.0, 0.0))]
    network = Hybrid(devices, list(map(BenchModel, devices)), WIDTH, 2, generator(),
                     bound="linear")
    u = network.controls(torch.randn(500, WIDTH, generator=generator(1))).detach()
    low, high = u.amin(0), u.amax(0)
    assert u.shape == (500, 2, 2 * WIDTH)
    assert 4 <= low[0, WIDTH:].min() < 8 and 16 < high[0, WIDTH:].max() <= 20
    assert low[0, :WIDTH].min() >= 0 and high[0, :WIDTH].max() <= 1
    assert -1 <= low[1, WIDTH:].min() and high[1, WIDTH:].max() <= 0
    ends = [torch.tensor(end, dtype=torch.float32) for end in FIXED]
    assert (low[1, :WIDTH] >= ends[0]).all() and (high[1, :WIDTH] <= ends[1]).all()
    assert (u[:, 1, 3] == ends[0][3]).all()


# --- Every device, every size --------------------------------------------------------------------

def plate_and_twin():
    device = Plate(samples=12, sample_rate=24e3)
    x, theta = random_controls(device, 300, np.random.default_rng(0))
    return device, Convolution(12, 0, 12).fit(x, device(x, theta)), x, theta


def circuit_and_twin():
    device, twin = Circuit(), Ringing(196, 0, 196)
    guess = (3.3, 0.043, 3.3, 120.0, 2.1, 0.5, 0.1, 1.0, 0.0)
    twin.constants.copy_(torch.tensor(guess, dtype=torch.float64))
    return device, twin, *random_controls(device, 60, np.random.default_rng(0))


def shg_and_equations():
    device = SHG()
    return device, ExactSHG(device), *random_controls(device, 100, np.random.default_rng(0))


def oscillators_and_equations():
    """Its model takes one theta a batch, so that every row is a batch."""
    device, model = Oscillators(n_oscillators=5, n_read=3), OscillatorModel(5, 3)
    rng = np.random.default_rng(0)
    x, theta = (rng.uniform(-1, 1, (200, n)).astype(np.float32) for n in (5, device.param_dim))

    def row_by_row(x, theta):
        return torch.cat([model(row[None], own) for row, own in zip(x, theta, strict=True)])

    return device, row_by_row, x, theta


@pytest.mark.parametrize("make", [plate_and_twin, circuit_and_twin, shg_and_equations,
                                  oscillators_and_equations])
def test_gradients_of_every_device_can_be_judged(make):
    device, model, x, theta = make()
    small = 0.01 if make is oscillators_and_equations else 0.05
    found = gradient_quality(device, model, x, theta, np.random.default_rng(1), small)
    assert found["cosine"] > 0.8 and found["standard_error"] < 0.1
    assert found["passes"] == 4 * len(x)


def test_sizes_that_cannot_work_are_refused_when_the_network_is_built():
    wide, narrow = Bench(), Bench(width=3)
    wide.output_dim = 3
    for build in (spectral_chain, waveform_chain):
        sizes = (WIDTH, 2, 2) if build is spectral_chain else (2, 2)
        with pytest.raises(ValueError, match="the device has 3 and 6"):
            build(wide, None or BenchModel(wide), *sizes, generator())
    with pytest.raises(ValueError, match="n_features is 4; expected 1 to 3"):
        spectral_chain(narrow, BenchModel(narrow), 4, 2, 2, generator())
    with pytest.raises(ValueError, match="n_classes is 4; expected 1 to 3"):
        Hybrid([narrow], [BenchModel(narrow)], 4, 4, generator())

    def oscillating(first, second, **changes):
        devices = [Oscillators(n_oscillators=size, n_read=read) for size, read in (first, second)]
        for name, value in changes.items():
            setattr(devices[1], name, value)
        return Oscillating(devices, devices, lambda x: x.view(len(x), 2, 6), generator(),
                           n_pixels=12)

    with pytest.raises(ValueError, match="pixels_of_a_tile is 6; expected 1 to 5"):
        oscillating((5, 5), (14, 2))
    with pytest.raises(ValueError, match="second_oscillators is 13; expected at least 14"):
        oscillating((6, 6), (13, 2))
    with pytest.raises(ValueError, match="param_dim is 20; expected 105"):
        oscillating((6, 6), (14, 2), param_dim=20)
    assert oscillating((6, 6), (14, 2)).hidden(torch.ones(3, 12))[:, -2:].tolist() == 3 * [[0, 0]]


def test_no_rows_give_no_answers():
    sizes = ((6, 6), (14, 2))
    devices = [Oscillators(n_oscillators=size, n_read=read) for size, read in sizes]
    models = [OscillatorModel(*size) for size in sizes]
    pendulums = Oscillating(devices, models, lambda x: x.view(len(x), 2, 6), generator(),
                            n_pixels=12)
    for network, width in ((pendulums, 12), *((make(Bench()), WIDTH)
                                              for make in NETWORKS.values())):
        for mode in ("pat", "device", "in_silico"):
            assert network.set_mode(mode)(torch.zeros(0, width)).shape == (0, 2)
    assert fitted(Bench(), epochs=1)(torch.zeros(0, WIDTH), torch.zeros(0, WIDTH)).shape == (0, 6)
    x, theta = signal_like_controls(Bench(), 0, 1, np.random.default_rng(0))
    assert len(x) == len(theta) == 0


# --- Modes and precision of models ---------------------------------------------------------------

class Dropping(Perceptron):
    """A twin with dropout and batch statistics; notes the mode of every call."""

    def __init__(self, *sizes):
        super().__init__(*sizes, hidden=(32,))
        self.norm, self.drop = torch.nn.BatchNorm1d(2 * WIDTH), torch.nn.Dropout(0.5)
        self.calls = []

    def forward(self, x, theta):
        self.calls.append((self.training, len(x)))
        u = self.drop(self.norm(torch.cat([x, theta], 1)))
        return super().forward(*u.tensor_split(2, 1))


def test_a_twin_with_dropout_is_fitted_in_train_mode_and_judged_in_eval_mode():
    device, twin = Bench(), Dropping(WIDTH, WIDTH, WIDTH)
    x, theta, y = pairs(device, 200)
    fit_twin(device, x, theta, y, twin=twin.eval(), epochs=2, batch_size=90)
    assert twin.calls == 2 * [(True, 90), (True, 90), (False, 20)]
    assert not any(part.training for part in twin.modules())
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    twin.train()
    twin.drop.eval()
    modes = [part.training for part in twin.modules()]
    twin.calls.clear()
    first, second = (judge_twin(twin, device, x, theta)["r2"] for _ in range(2))
    qualities = [gradient_quality(device, twin, x, theta, np.random.default_rng(0))
                 for _ in range(2)]
    assert np.array_equal(first, second) and qualities[0] == qualities[1]
    assert not any(training for training, _ in twin.calls)
    assert [part.training for part in twin.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())


def test_a_loaded_twin_is_in_eval_mode(tmp_path):
    save_twin(tmp_path / "twin.safetensors", Perceptron(WIDTH, WIDTH, WIDTH).train(), {})
    assert not load_twin(tmp_path / "twin.safetensors", Bench()).training


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_twins_take_controls_of_either_precision(kind):
    device, twin = Bench(), fitted(Bench(), epochs=2).to(kind)
    x, theta, _ = pairs(device, 20, kind=np.float64)
    single = twin(torch.tensor(x).float(), torch.tensor(theta).float())
    assert torch.allclose(twin(torch.tensor(x), torch.tensor(theta)), single, atol=1e-4)
    assert judge_twin(twin, device, x, theta)["r2"].shape == (WIDTH,)
    network = spectral_chain(device, twin, WIDTH, 2, 2, generator())
    losses, _ = trained(network)
    assert np.isfinite(losses).all()


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_work_under_a_default_of_float64(double, kind):
    losses, weights = trained(NETWORKS[kind](Bench()))
    assert losses[-1] < losses[0] and weights[0].dtype == torch.float64


def test_twins_and_judges_work_under_a_default_of_float64(double, tmp_path):
    device = Bench()
    twin = fitted(device)
    x, theta, _ = pairs(device, 100, 1)
    assert judge_twin(twin, device, x, theta)["r2"].min() > 0.8
    for model in (twin, twin.float(), BenchModel(device)):
        quality = gradient_quality(device, model, x, theta, np.random.default_rng(0))
        assert quality["cosine"] > 0.8
    for make in (plate_and_twin, circuit_and_twin, oscillators_and_equations):
        gradient_quality(*make(), np.random.default_rng(0), 0.01)
    save_twin(tmp_path / "twin.safetensors", twin, {})
    again = load_twin(tmp_path / "twin.safetensors", device)
    assert judge_twin(again, device, x, theta)["r2"].min() > 0.8


def test_oscillators_work_under_a_default_of_float64(double):
    devices = [Oscillators(n_oscillators=size, n_read=read) for size, read in ((6, 6), (14, 2))]
    models = [OscillatorModel(6), OscillatorModel(14, 2)]
    network = Oscillating(devices, models, lambda x: x.view(len(x), 2, 6), generator(),
                          n_pixels=12)
    x, labels = task(12)
    history = train(network, x, labels, epochs=3, learning_rate=0.01)
    assert network.factor.dtype == torch.float64 and np.isfinite(history[-1]["loss"])
