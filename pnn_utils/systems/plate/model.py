"""The digital model of a nearly linear device that is the same at every moment: a convolution, slightly modulated."""

import torch

from pnn_utils.pat import check_rows
from pnn_utils.systems.base import check_whole


class Convolution(torch.nn.Module):
    """Convolution of the drive, and a correction: a filtered drive times powers of another one, filtered again.

        y = h * x  +  g_1 * (s r)  +  g_2 * (s^2 r)  +  constant,     s = e * x,     r = f * x

    A device whose gain depends on a slow displacement (s) does this to first and second order. Each kernel (h, g, e, f) has
    one number per lag from -(samples - 1) to samples - 1. Negative lags belong to a drive that is played more than once: the
    beginning of a waveform then hears the end of the one before.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        As the device's; ``input_dim == output_dim`` and ``param_dim == 0``.

    Raises
    ------
    TypeError
        If a dimension is not a whole number.
    ValueError
        If the dimensions are not those of a waveform in and a waveform out.

    Notes
    -----
    `standardise` solves for h by least squares, and h stays as it is while gradient descent, which would not find its numbers
    as exactly, fits the correction. The correction starts from g = 0, s a running mean and r the drive itself.
    """

    def __init__(self, input_dim, param_dim, output_dim):
        super().__init__()
        check_whole(1, input_dim=input_dim)
        check_whole(0, param_dim=param_dim, output_dim=output_dim)
        if input_dim != output_dim or param_dim:
            raise ValueError(f"dimensions are {input_dim}, {param_dim}, {output_dim}; expected as many samples out as in, and no parameter controls")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim}
        lags = torch.arange(-input_dim + 1, input_dim)
        self.register_buffer("kernel", torch.zeros(len(lags)))
        self.register_buffer("constant", torch.zeros(output_dim))
        self.register_buffer("output_sd", torch.ones(output_dim))
        decay = torch.exp(-(lags % input_dim) / (input_dim / 2))
        self.slow = torch.nn.Parameter(decay / decay[lags >= 0].sum())
        self.fast = torch.nn.Parameter((lags == 0).float())
        self.modulation = torch.nn.Parameter(torch.zeros(2, len(lags)))
        time = torch.arange(input_dim)
        self.register_buffer("column", time[None, :] - time[:, None] + input_dim - 1, persistent=False)

    def standardise(self, x, theta, y):
        """Solve for the linear kernel on pairs, tensors of shapes (n, samples), (n, 0), (n, samples), and set the scale of errors."""
        samples = x.shape[1]
        x, y = x.double(), y.double()
        moments, cross = x.T @ x, x.T @ y
        normal, right = torch.zeros(2 * samples - 1, 2 * samples - 1, dtype=torch.float64), torch.zeros(2 * samples - 1, dtype=torch.float64)
        for t in range(samples):  # output t hears drive sample j at lag t - j, that is in column t - j + samples - 1
            columns = slice(t, t + samples)
            normal[columns, columns] += moments.flip(0, 1)
            right[columns] += cross[:, t].flip(0)
        ridge = 1e-9 * normal.diagonal().mean() * torch.eye(2 * samples - 1, dtype=torch.float64)
        self.kernel.copy_(torch.linalg.solve(normal + ridge, right))
        self.constant.copy_((y - x @ self.kernel.double()[self.column]).mean(0))
        self.output_sd.copy_(y.std(0).clamp_min(1e-12))

    def linear_part(self, x, theta):
        """Return the convolution alone, shape (n, samples)."""
        return x @ self.kernel[self.column] + self.constant

    def forward(self, x, theta):
        """Return the predicted waveform, shape (n, samples), for drives of shape (n, samples); theta has no columns.

        Raises
        ------
        TypeError, ValueError
            If the drives are not of the model's dtype or shape.
        """
        check_rows("x", x, len(self.constant), self.kernel.dtype)
        slow, fast = x @ self.slow[self.column], x @ self.fast[self.column]
        first, second = self.modulation
        return self.linear_part(x, theta) + ((slow * fast) @ first[self.column] + (slow**2 * fast) @ second[self.column]) * self.output_sd
