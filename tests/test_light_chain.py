"""The chain of light: where its signs start, and constants of the training batch."""

import numpy as np
import pytest
import torch

from pnn_utils.networks import signal_like_controls, spectral_chain
from pnn_utils.parts import Standardise
from pnn_utils.systems.shg.device import SHG
from pnn_utils.systems.shg.model import ExactSHG


def chain(layers, blocks=True, live=True, seed=0):
    device = SHG(ideal=True)
    return spectral_chain(device, ExactSHG(device), 12, 7, layers, skip=False, blocks=blocks,
                          live=live, generator=torch.Generator().manual_seed(seed))


def test_signs_start_in_two_blocks():
    scale = torch.cat([chain(5, seed=seed).scale.detach() for seed in range(4)])
    assert (scale.abs() == 1).all()
    changes = (scale[:, 1:] != scale[:, :-1]).sum(1)
    assert (changes == 1).all()
    cuts = (scale[:, 1:] != scale[:, :-1]).int().argmax(1) + 1
    assert cuts.min() >= 12 and cuts.max() <= 38 and len(cuts.unique()) > 5


def test_blocks_let_more_of_the_input_through_than_signs_channel_by_channel():
    """What light keeps of twelve numbers after five passes, as the rank of its spectra."""
    def kept(blocks):
        shares = []
        for seed in range(3):
            x = torch.rand(100, 12, generator=torch.Generator().manual_seed(seed))
            network = chain(5, blocks, seed=seed)
            network.calibrate(x)
            with torch.no_grad():
                spectra = network.states(x)[-1]
            spread = torch.linalg.svdvals(spectra - spectra.mean(0))
            shares.append(spread[1:].square().sum() / spectra.square().sum())
        return np.mean(shares)

    assert kept(True) > 2 * kept(False)


def test_live_constants_are_the_batchs_and_the_last_ones_are_kept():
    part = Standardise(3, live=True)
    first, second = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    for batch in (first, 5 + 2 * second):
        standard = part(batch)
        torch.testing.assert_close(standard.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(standard.std(0), torch.ones(3))
    torch.testing.assert_close(part.mean, (5 + 2 * second).mean(0))
    part.eval()
    torch.testing.assert_close(part(first), (first - part.mean) / part.sd)
    torch.testing.assert_close(part.sd, (5 + 2 * second).std(0))  # not the first one's again


def test_gradients_go_through_live_constants_and_constant_columns_get_none():
    part = Standardise(2, live=True).double()
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: part(x).pow(3), (x.requires_grad_(),))
    dead = torch.cat([x.detach()[:, :1], torch.full((7, 1), 4.0, dtype=torch.float64)], 1)
    dead.requires_grad_()
    part(dead).pow(3).sum().backward()
    assert torch.isfinite(dead.grad).all() and (dead.grad[:, 1] == 0).all()


@pytest.mark.parametrize("live", [False, True])
def test_constants_are_measured_in_eval_mode_too_and_then_stay(live):
    network, x = chain(3, live=live).eval(), torch.rand(50, 12)
    network.calibrate(x)
    first = network.standardise[1](network.states(x)[0]).detach()
    torch.testing.assert_close(first.std(0), torch.ones(50), atol=1e-3, rtol=0)
    assert not any(part.training for part in network.modules())
    assert network.standardise[1].live == live and not network.standardise[0].live
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(x[:9])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("blocks", [False, True])
def test_controls_drawn_stay_in_range_and_repeat(blocks):
    a, b = (signal_like_controls(SHG(seed=1), 30, 3, np.random.default_rng(2), blocks)
            for _ in range(2))
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one, other) and one.min() >= 0 and one.max() <= 1
