"""Networks and models for devices that answer a waveform with a waveform."""

import numpy as np
import pytest
import torch

from pnn_utils.datasets.images import average_pool
from pnn_utils.networks import waveform_chain, waveform_like_controls
from pnn_utils.parts import Clamp
from pnn_utils.systems.plate.device import Plate
from pnn_utils.systems.plate.model import Convolution
from pnn_utils.training import accuracy, accuracy_on_device, train
from pnn_utils.twin import load_twin, random_controls, save_twin

SAMPLES = 40


def small_plate(**changes):
    return Plate(samples=SAMPLES, sample_rate=24e3, **changes)


def digits_like(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.random((n, SAMPLES)) + 0.5 * np.where(y[:, None] == 1, np.linspace(0, 1, SAMPLES), 0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def fitted(device, n=1500):
    x, theta = random_controls(device, n, np.random.default_rng(0))
    return Convolution(SAMPLES, 0, SAMPLES).fit(x, device(x, theta))


@pytest.fixture(scope="module")
def twin():
    return fitted(small_plate())


def network(device, twin, **options):
    return waveform_chain(device, twin, 2, 2, torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("periods", [1, 2, 3])
def test_convolution_finds_the_kernel_of_an_ideal_plate(periods):
    device = small_plate(ideal=True, periods=periods)
    twin = fitted(device, 300)
    longer = Plate(samples=SAMPLES * periods, sample_rate=24e3, ideal=True, periods=1)
    answer = longer(np.eye(SAMPLES * periods)[:1], np.zeros(0))[0]
    # Lag k of the kernel is the answer to a click k samples ago, and to the same click one, two
    # ... rounds earlier.
    expected = np.zeros(2 * SAMPLES - 1)
    for r in range(periods):
        ago = np.arange(-SAMPLES + 1, SAMPLES) + r * SAMPLES
        expected += np.where((ago >= 0) & (ago < (r + 1) * SAMPLES), answer[ago % len(answer)], 0)
    assert np.abs(twin.kernel.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_played_once_the_plate_is_a_convolution_within_its_noise():
    device = small_plate(periods=1)
    x, theta = random_controls(device, 1000, np.random.default_rng(1))
    error = fitted(device, 4000)(torch.tensor(x), None).numpy() - device(x, theta)
    noise = (device(x, theta) - device(x, theta)).std() / 2**0.5
    assert error.std() == pytest.approx(noise, rel=0.1)


def test_convolution_is_shift_invariant_and_its_gradient_is_its_adjoint():
    twin = Convolution(SAMPLES, 0, SAMPLES)
    twin.kernel.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.zeros(2, SAMPLES)
    x[0, 5], x[1, 9] = 1, 1
    y = twin(x, None)
    assert torch.allclose(y[0, :-4], y[1, 4:])
    x.requires_grad_()
    grad = torch.rand(2, SAMPLES)
    found, = torch.autograd.grad(twin(x, None), x, grad)
    assert torch.allclose(found, grad @ twin.matrix().T)


def test_convolution_file_round_trip_and_refusals(tmp_path, twin):
    device, path = small_plate(), tmp_path / "twin.safetensors"
    save_twin(path, twin, {})
    x = torch.rand(3, SAMPLES)
    assert torch.equal(load_twin(path, device, Convolution)(x, None), twin(x, None))
    with pytest.raises(ValueError, match="holds .*'Convolution'.*; expected .*'Perceptron'"):
        load_twin(path, device)
    with pytest.raises(ValueError, match="as many samples out as in"):
        Convolution(4, 0, 5)
    with pytest.raises(ValueError, match="no parameter controls"):
        Convolution(4, 1, 4)


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
@pytest.mark.parametrize("readout, shuffle", [("mean", False), ("power", True)])
def test_network_learns_on_the_device(twin, mode, readout, shuffle):
    device, (x, y) = small_plate(), digits_like(400)
    net = network(device, twin, mode="device", readout=readout, shuffle=shuffle)
    net.calibrate(x)
    before = accuracy(net, x, y)
    history = train(net.set_mode(mode), x, y, epochs=12, learning_rate=0.05, batch_size=50,
                    device=device)
    assert history[-1]["loss"] < history[0]["loss"]
    assert accuracy_on_device(net, *digits_like(400, 1)) > max(0.85, before)


def test_calibrated_signals_and_logits_have_unit_variance(twin):
    device, (x, _) = small_plate(ideal=True), digits_like(200)
    net = network(device, twin, mode="device")
    net.calibrate(x)
    with torch.no_grad():
        assert net(x).std(0) == pytest.approx(1, rel=1e-4)
        net.scale[1], net.offset[1] = 0.1, 0.0  # volts: nothing is cut off
        assert net.controls(1, net.states(x)[0], x).std() == pytest.approx(0.1, rel=1e-4)


def test_only_a_shuffled_network_changes_the_order_of_samples(twin):
    device, (x, _) = small_plate(ideal=True), digits_like(50)
    plain, shuffled = (network(device, twin, shuffle=shuffle) for shuffle in (False, True))
    for net in (plain, shuffled):
        net.calibrate(x)
        net.scale.data[:], net.offset.data[:] = 0.1, 0.0
    with torch.no_grad():
        expected = 0.1 * (x - x.mean()) / x.std()
        assert torch.allclose(plain.controls(0, x, x), expected, atol=1e-6)
        drive = shuffled.controls(0, x, x)
    assert not torch.allclose(drive, expected, atol=1e-6)
    assert torch.allclose(drive.sort(1).values, expected.sort(1).values, atol=1e-6)


def test_the_skip_brings_each_pixel_to_the_control_that_its_signal_goes_to(twin):
    device, (x, _) = small_plate(ideal=True), digits_like(50)
    net = network(device, twin, shuffle=True, skip=True)
    net.calibrate(x)
    with torch.no_grad():
        # The image as the second layer's signal: scale and skip alike, they double each other.
        net.standardise[1].load_state_dict(net.standardise[0].state_dict())
        net.scale.data[:], net.offset.data[:], net.skip.data[:] = 0.1, 0.0, 0.1
        with_skip = net.controls(1, x, x)
        net.scale.data[:], net.skip.data[:] = 0.2, 0.0
        assert torch.allclose(with_skip, net.controls(1, x, x), atol=1e-6)
        assert not torch.allclose(with_skip, net.controls(0, x, x), atol=1e-2)


def test_drives_stay_in_range_and_use_it(twin):
    device, (x, _) = small_plate(), digits_like(200)
    net = network(device, twin, mode="device")
    net.calibrate(x)
    net.scale.data *= 50
    drive = net.controls(0, x, x)
    assert (drive.min(), drive.max()) == device.input_range
    assert Clamp(2.0, 5.0)(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [2.0, 3.5, 5.0]


def test_training_makes_the_passes_it_reports(twin):
    device, (x, y) = small_plate(), digits_like(60)
    net = network(device, twin)
    train(net, x, y, epochs=2, learning_rate=0.01, batch_size=20, device=device)
    assert device.passes == 2 * 2 * 60  # epochs x layers x rows


def test_network_refuses_what_it_cannot_take(twin):
    device, generator = small_plate(), torch.Generator()
    with pytest.raises(ValueError, match="n_classes"):
        waveform_chain(device, twin, SAMPLES + 1, 2, generator)
    with pytest.raises(ValueError, match="readout is 'median'"):
        network(device, twin, readout="median")


def test_waveform_like_controls_are_allowed_and_varied():
    device, images = small_plate(), np.random.default_rng(0).random((50, SAMPLES))
    x, theta = waveform_like_controls(device, images, 3, np.random.default_rng(1))
    assert x.shape == (150, SAMPLES) and theta.shape == (150, 0) and device.passes == 100
    assert np.isfinite(device(x, theta)).all() and x.std(1).max() > 2 * x.std(1).min()


def test_average_pool():
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    pooled = average_pool(images, 2)
    assert pooled.dtype == np.float32
    assert pooled[0] == pytest.approx(np.array([2.5, 4.5, 10.5, 12.5]) / 255)
    assert average_pool(np.full((1, 4, 4), 255, np.uint8), 4).tolist() == [[1.0]]
