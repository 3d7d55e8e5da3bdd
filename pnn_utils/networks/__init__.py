"""Networks: how the readings of one pass become the controls of the next.

    Chain         x -> rescale -> device -> standardise -> rescale -> device -> ... -> pool
    Hybrid        x -> linear -> several devices side by side -> linear or pool
    Oscillating   tiles of x -> one device for every tile -> one large device
    MLP           x -> linear -> ReLU -> linear, to compare with
"""

from pnn_utils.networks.chain import (
    Chain,
    Network,
    signal_like_controls,
    spectral_chain,
    waveform_chain,
    waveform_like_controls,
)
from pnn_utils.networks.hybrid import MIDDLE, SPREAD, Hybrid
from pnn_utils.networks.mlp import MLP
from pnn_utils.networks.oscillating import Oscillating, every_second_pixel, split, tiles

__all__ = ["Chain", "Hybrid", "MIDDLE", "MLP", "Network", "Oscillating", "SPREAD",
           "every_second_pixel", "signal_like_controls", "spectral_chain", "split", "tiles",
           "waveform_chain", "waveform_like_controls"]
