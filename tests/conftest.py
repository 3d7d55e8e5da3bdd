"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def the_same_draws():
    """Let each test draw the same from torch, whatever ran before it in its process."""
    torch.manual_seed(0)
