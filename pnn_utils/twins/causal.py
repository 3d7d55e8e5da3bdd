"""The digital model of a device with memory of which only cause and effect are known: a causal convolutional network."""

import torch

from pnn_utils.pat import check_rows
from pnn_utils.systems.base import check_whole


class CausalNetwork(torch.nn.Module):
    """Dilated causal convolutions with residual connections (a temporal convolutional network), plus a linear one over all lags.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        As the device's; ``input_dim == output_dim`` and ``param_dim == 0``.
    channels : int
        Signals kept side by side.
    dilations : sequence of int
        One convolution of kernel 5 each; 1, 4, 16, 48 look 276 samples back.
    generator : torch.Generator, optional
        Source of the initial weights.

    Raises
    ------
    TypeError
        If a number is not a whole one.
    ValueError
        If the dimensions are not those of a waveform in and a waveform out, or a number is below 1.

    References
    ----------
    S. Bai, J. Z. Kolter, V. Koltun, arXiv 1803.01271 (2018): temporal convolutional networks.
    """

    def __init__(self, input_dim, param_dim, output_dim, channels=8, dilations=(1, 4, 16, 48), generator=None):
        super().__init__()
        for dilation in dilations:
            check_whole(1, dilation=dilation)
        check_whole(1, input_dim=input_dim, channels=channels)
        check_whole(0, param_dim=param_dim, output_dim=output_dim)
        if input_dim != output_dim or param_dim:
            raise ValueError(f"dimensions are {input_dim}, {param_dim}, {output_dim}; expected as many samples out as in, and no parameter controls")
        if not dilations and channels > 1:
            raise ValueError(f"channels is {channels} without dilations; expected dilations, at least one")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim, "channels": channels, "dilations": list(dilations)}
        self.dilations = list(dilations)
        widths = [1] + [channels] * len(dilations)
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(a, b, 5, dilation=d) for a, b, d in zip(widths[:-1], widths[1:], self.dilations, strict=True))
        self.read = torch.nn.Conv1d(channels, 1, 1)
        for layer in (*self.convolutions, self.read):
            bound = (3 / (layer.in_channels * layer.kernel_size[0])) ** 0.5
            torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            torch.nn.init.zeros_(layer.bias)
        self.kernel = torch.nn.Parameter(torch.zeros(input_dim))
        time = torch.arange(input_dim)
        self.register_buffer("lag", time[None, :] - time[:, None], persistent=False)
        for name in ("input_sd", "output_mean", "output_sd"):
            self.register_buffer(name, torch.zeros(()) if name == "output_mean" else torch.ones(()))

    def standardise(self, x, theta, y):
        """Set the constants that scale drives and readings from pairs, tensors of shapes (n, samples), (n, 0), (n, samples)."""
        self.input_sd.copy_(x.std())
        self.output_mean.copy_(y.mean())
        self.output_sd.copy_(y.std())

    def forward(self, x, theta):
        """Return the predicted waveform, shape (n, samples), for drives of shape (n, samples); theta has no columns.

        Raises
        ------
        TypeError, ValueError
            If the drives are not of the model's dtype or shape.
        """
        check_rows("x", x, len(self.kernel), self.kernel.dtype)
        x = x / self.input_sd
        signal = x[:, None]
        for n, (layer, dilation) in enumerate(zip(self.convolutions, self.dilations, strict=True)):
            new = torch.nn.functional.silu(layer(torch.nn.functional.pad(signal, (4 * dilation, 0))))
            signal = new if n == 0 else signal + new
        linear = x @ torch.where(self.lag >= 0, self.kernel[self.lag.clamp(min=0)], 0.0)
        return (self.read(signal)[:, 0] + linear) * self.output_sd + self.output_mean
