"""Notebook 06's hybrid network: range of its controls, modes, what is trained."""

import numpy as np
import pytest
import torch
from cells import defined

from pnn_utils.pat import Physical
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG
from pnn_utils.training import accuracy_on_device, train

Hybrid, *_ = defined("06_shg_hybrid_mnist", "Hybrid", "MIDDLE", "SPREAD", "REACH", "WAYS",
                     "ranges_of", "readout_of")
DEVICES = [SHG(seed=seed) for seed in range(2)]


def network(seed=0, **settings):
    models = [ExactSHG(device) for device in DEVICES]
    net = Hybrid(DEVICES, models, 30, 3, torch.Generator().manual_seed(seed), **settings)
    net.set_mode("device").calibrate(images()[0])
    return net


def images(n=60):
    x = torch.rand(n, 30, generator=torch.Generator().manual_seed(1))
    return x, x[:, :3].argmax(1)


@pytest.mark.parametrize("bound", ["clip", "linear", "sigmoid"])
def test_controls_stay_in_range_and_use_it(bound):
    u = network(bound=bound).controls(5 * images()[0])
    assert u.shape == (60, 2, 100) and u.min() >= 0 and u.max() <= 1
    assert u.std() > 0.1


def test_the_linear_way_in_is_linear_and_clips_next_to_nothing():
    net = network(bound="linear").eval()
    x = images()[0]
    u = net.controls(x)
    assert ((u == 0) | (u == 1)).float().mean() < 0.005
    between = net.controls((x + x.flip(0)) / 2)  # further inside than what it lies between
    free = (u > 0) & (u < 1) & (u.flip(0) > 0) & (u.flip(0) < 1)
    assert torch.allclose(between[free], ((u + u.flip(0)) / 2)[free], atol=1e-5)


@pytest.mark.parametrize("bound", ["clip", "sigmoid"])
def test_the_other_ways_in_bend(bound):
    net, x = network(bound=bound), 5 * images()[0]
    bend = net.controls((x + x.flip(0)) / 2) - (net.controls(x) + net.controls(x.flip(0))) / 2
    assert bend.std() > 0.01


def test_in_training_the_linear_way_in_takes_each_batchs_own_constants():
    """A bright batch would leave the range of constants measured once."""
    net, x = network(bound="linear"), images()[0]
    assert torch.allclose(net.train().controls(x), net.controls(3 * x + 1), atol=1e-4)
    assert net.eval().controls(3 * x + 1).std() < 0.2  # the last batch's, kept


def test_a_brighter_image_gives_the_same_controls_where_the_network_says_so():
    net = network(bound="clip")
    assert torch.allclose(net.controls(images()[0]), net.controls(3 * images()[0]), atol=1e-5)


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
@pytest.mark.parametrize(
    "settings", [{}, {"bound": "linear"}, {"bound": "sigmoid", "readout": "parts"}]
)
def test_training_learns_and_leaves_the_device_alone(mode, settings):
    net = network(**settings).set_mode(mode)
    history = train(net, *images(), epochs=30, learning_rate=0.02)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert accuracy_on_device(net, *images()) > 0.6 and net.layers[1].mode == mode


def test_outputs_are_the_devices_own():
    net, (x, _) = network(), images(5)
    quiet = [SHG(seed=seed, ideal=True) for seed in range(2)]
    net.layers = torch.nn.ModuleList(Physical(device, device, "device") for device in quiet)
    u = net.controls(x).detach().numpy()
    expected = [device(u[:, n, :50], u[:, n, 50:]) for n, device in enumerate(quiet)]
    expected = np.concatenate(expected, 1)
    assert net.outputs(x).detach().numpy().tobytes() == expected.tobytes()


def test_parts_readout_has_one_trained_number():
    names = [name for name, _ in network(readout="parts").named_parameters()]
    assert names == ["feed.weight", "feed.bias", "readout.factor"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"bound": "tanh"}, "bound is 'tanh'; expected one of 'clip', 'linear', 'sigmoid'"),
        ({"readout": "mean"}, "readout is 'mean'; expected one of 'linear', 'parts'"),
        ({"mode": "fast"}, "mode must be one of 'pat', 'in_silico', 'device', got 'fast'"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Hybrid(DEVICES, DEVICES, 4, 2, torch.Generator(), **settings)


def test_a_model_for_each_device_and_a_reading_for_each_class():
    for devices, models in ((DEVICES, DEVICES[:1]), ([], [])):
        message = (
            f"{len(devices)} devices and {len(models)} models; expected as many, at least one"
        )
        with pytest.raises(ValueError, match=message):
            Hybrid(devices, models, 4, 2, torch.Generator())
    with pytest.raises(ValueError, match="n_classes is 101; expected 1 to 100"):
        Hybrid(DEVICES, DEVICES, 4, 101, torch.Generator())
