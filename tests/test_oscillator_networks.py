"""Networks of oscillators, and the random changes of their training images."""

import pytest
import torch
from cells import defined

from pnn_utils.datasets.images import random_affine
from pnn_utils.files import ROOT, load_tensors
from pnn_utils.networks import Oscillating, split
from pnn_utils.systems.oscillators.device import Oscillators
from pnn_utils.systems.oscillators.model import OscillatorModel
from pnn_utils.training import train

random_flip, random_shift = defined("08_oscillators_fashion_mnist", "random_flip", "random_shift")


def network(mode="in_silico", ideal=True, seed=0, sizes=((16, 16), (256 + 3, 3))):
    """Sixteen tiles of an 8 x 8 image, four pixels each, and three classes."""
    devices = [
        Oscillators(seed=n, ideal=ideal, n_oscillators=size, n_read=read)
        for n, (size, read) in enumerate(sizes)
    ]
    models = [OscillatorModel(size, read) for size, read in sizes]
    return Oscillating(
        devices,
        models,
        lambda x: x.view(len(x), 16, 4),
        torch.Generator().manual_seed(seed),
        mode=mode,
        n_pixels=64,
    )


def data(n=48):
    x = torch.rand(n, 64, generator=torch.Generator().manual_seed(1))
    return x, x[:, :3].argmax(1)


def test_arrangements_of_pixels():
    image = torch.arange(784.0).view(1, 784)
    every_second_pixel, = defined("07_oscillators_mnist", "every_second_pixel")
    tiles, = defined("08_oscillators_fashion_mnist", "tiles")
    assert every_second_pixel(image).flatten()[[0, 1, 2, 14]].tolist() == [0, 2, 4, 56]
    assert tiles(image).shape == (1, 16, 49)
    assert tiles(image)[0, 1, :3].tolist() == [7, 8, 9] and tiles(image)[0, 4, 0] == 7 * 28


def test_device_and_model_agree_without_a_gap():
    net, (x, _) = network(), data(5)
    with torch.no_grad():
        assert torch.allclose(net(x), net.set_mode("device")(x), atol=1e-5)


@pytest.mark.parametrize("mode", ["pat", "in_silico"])
def test_training_lowers_the_loss(mode):
    net = network(mode, ideal=False)
    history = train(net, *data(), epochs=40, learning_rate=0.02, batch_size=16)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_class_oscillators_start_at_rest_and_are_read_last():
    net, (x, _) = network(), data(2)
    assert torch.equal(net.hidden(x)[:, -3:], torch.zeros(2, 3)) and net(x).shape == (2, 3)


def test_split_gives_a_symmetric_matrix_without_diagonal():
    couplings, drives = split(network().layers[0].theta, 16)
    assert (
        torch.equal(couplings, couplings.T)
        and couplings.diagonal().abs().max() == 0
        and drives.shape == (16,)
    )
    assert torch.equal(couplings[0, 1:], network().layers[0].theta[:15])


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "data" / "weights").glob("fashion_[pi]*.safetensors")),  # pat, in silico
    ids=lambda p: p.stem,
)
def test_committed_weights_still_load(path):
    weights, _ = load_tensors(path)
    net = network(sizes=((100, 100), (1610, 10)))
    net.load_state_dict(weights)
    assert torch.equal(net.layers[1].theta, weights["layers.1.theta"])


def test_affine_without_change_is_the_identity_and_with_it_keeps_most_of_the_light():
    x = torch.zeros(400, 784).view(400, 28, 28)
    x[:, 8:20, 8:20] = torch.rand(400, 12, 12, generator=torch.Generator().manual_seed(0))
    x = x.flatten(1)
    same = random_affine(x, torch.Generator(), degrees=0.0, shift=0.0, scale=(1.0, 1.0))
    assert torch.allclose(same, x, atol=1e-5)
    moved = random_affine(x, torch.Generator().manual_seed(2))
    assert moved.shape == x.shape and (moved != x).any(1).all()
    assert moved.sum() / x.sum() == pytest.approx(
        1.0, abs=0.02
    )  # areas change by the square of 0.9 to 1.1
    # Vertical shifts are uniform within 1.4 pixels, their sd 0.81; none is horizontal.
    rows = torch.arange(28.0) - 13.5
    only_shift = random_affine(
        x, torch.Generator().manual_seed(3), degrees=0.0, scale=(1.0, 1.0)
    ).view(400, 28, 28)
    before = x.view(400, 28, 28)
    vertical = (only_shift.sum(2) @ rows) / only_shift.sum((1, 2)) - (
        before.sum(2) @ rows
    ) / before.sum((1, 2))
    horizontal = (only_shift.sum(1) @ rows) / only_shift.sum((1, 2)) - (
        before.sum(1) @ rows
    ) / before.sum((1, 2))
    assert (
        vertical.std() == pytest.approx(0.05 * 28 / 3**0.5, rel=0.1)
        and horizontal.abs().max() < 1e-3
    )


def test_flip_mirrors_half_of_the_images():
    x = torch.rand(1000, 784, generator=torch.Generator().manual_seed(0))
    flipped = random_flip(x, torch.Generator().manual_seed(1))
    mirrored = x.view(-1, 28, 28).flip(2).flatten(1)
    changed = (flipped != x).any(1)
    assert (
        torch.equal(flipped[changed], mirrored[changed]) and 0.45 < changed.double().mean() < 0.55
    )


def test_shift_moves_by_whole_pixels_both_ways_equally_often():
    x = torch.zeros(2000, 28, 28)
    x[:, 13, 20] = 1.0
    x[:, 0, 0] = 0.5
    moved = random_shift(x.flatten(1), torch.Generator().manual_seed(1), pixels=2).view(-1, 28, 28)
    images, rows, columns = torch.nonzero(moved == 1, as_tuple=True)
    assert torch.equal(images, torch.arange(2000))
    for moves in (rows - 13, columns - 20):
        counts = torch.bincount(moves + 2)
        assert len(counts) == 5 and counts.min() > 320  # 400 expected, sd 18
    assert (
        (rows - 13) * (columns - 20)
    ).double().mean().abs() < 0.15  # independent; sd 2 / sqrt(2000)
    # What leaves the frame is lost, what enters is dark.
    inside = (rows >= 13) & (columns >= 20)
    assert (
        torch.equal((moved == 0.5).sum((1, 2)), inside.long())
        and (moved.sum((1, 2)) == 1 + 0.5 * inside).all()
    )
