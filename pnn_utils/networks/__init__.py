"""Networks: how the readings of one pass become the controls of the next.

    Chain         x -> rescale -> device -> standardise -> rescale -> device -> ... -> pool
    Oscillating   tiles of x -> one device for every tile -> one large device
    MLP           x -> linear -> ReLU -> linear, to compare with
"""

# ruff: noqa: F401  what notebooks import from here

from pnn_utils.parts import MLP

from .chain import signal_like_controls, spectral_chain, waveform_chain, waveform_like_controls
from .oscillating import Oscillating, split
