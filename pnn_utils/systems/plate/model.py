"""A model of a nearly linear device that never changes: a convolution, slightly modulated."""

import torch


class Convolution(torch.nn.Module):
    """Convolution of the drive, and a correction: a filtered drive times powers of another one.

        y = h * x  +  g_1 * (s r)  +  g_2 * (s^2 r)  +  constant,     s = e * x,     r = f * x

    A device whose gain depends on a slow displacement (s) does this to first and second order.
    Each kernel (h, g, e, f) has one number per lag from -(samples - 1) to samples - 1. Negative
    lags belong to a drive that is played more than once: a waveform's beginning then hears the
    end of the one before.

    `standardise` solves for h by least squares, and h stays as it is while gradient descent, which
    would not find its numbers as exactly, fits the correction. It starts from g = 0, s a running
    mean and r the drive itself. The dimensions are the device's: as many samples out as in.
    """

    def __init__(self, input_dim, param_dim, output_dim):
        super().__init__()
        if input_dim != output_dim or param_dim:
            raise ValueError("expected as many samples out as in, and no parameter controls")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim}
        lags = torch.arange(-input_dim + 1, input_dim)
        self.register_buffer("kernel", torch.zeros(len(lags)))
        self.register_buffer("constant", torch.zeros(output_dim))
        self.register_buffer("output_sd", torch.ones(output_dim))
        decay = torch.exp(-(lags % input_dim) / (input_dim / 2))
        self.slow = torch.nn.Parameter(decay / decay[lags >= 0].sum())
        self.fast = torch.nn.Parameter((lags == 0).to(decay))
        self.modulation = torch.nn.Parameter(torch.zeros(2, len(lags)))
        time = torch.arange(input_dim)
        # Output t hears sample j at lag t - j, which stands at t - j + samples - 1 in a kernel.
        self.column = time[None, :] - time[:, None] + input_dim - 1

    def standardise(self, x, theta, y):
        """Solve for h on pairs, (n, samples), (n, 0), (n, samples); set the scale of errors."""
        samples = x.shape[1]
        x, y = x.double(), y.double()
        moments, cross = x.T @ x, x.T @ y
        normal, right = x.new_zeros(2 * samples - 1, 2 * samples - 1), x.new_zeros(2 * samples - 1)
        for t in range(samples):
            heard = slice(t, t + samples)
            normal[heard, heard] += moments.flip(0, 1)
            right[heard] += cross[:, t].flip(0)
        ridge = 1e-9 * normal.diagonal().mean() * torch.eye(len(right), dtype=torch.float64)
        self.kernel.copy_(torch.linalg.solve(normal + ridge, right))
        self.constant.copy_((y - x @ self.kernel.double()[self.column]).mean(0))
        self.output_sd.copy_(y.std(0))

    def linear_part(self, x, theta):
        """Return the convolution alone, shape (n, samples)."""
        return x.to(self.kernel) @ self.kernel[self.column] + self.constant

    def forward(self, x, theta):
        """Return the predicted waveform, shape (n, samples); theta has no columns."""
        x = x.to(self.kernel)  # a twin fitted in float64 serves a network in float32
        slow, fast = x @ self.slow[self.column], x @ self.fast[self.column]
        first, second = (kernel[self.column] for kernel in self.modulation)
        correction = (slow * fast) @ first + (slow**2 * fast) @ second
        return self.linear_part(x, theta) + correction * self.output_sd
