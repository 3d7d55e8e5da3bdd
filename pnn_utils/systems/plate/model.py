"""A model of a linear device that never changes: a convolution."""

import torch


class Convolution(torch.nn.Module):
    """Convolution of the drive, y = h * x + constant, solved for by least squares.

    The kernel h has one number per lag from -(samples - 1) to samples - 1. Negative lags belong to
    a drive that is played more than once: a waveform's beginning then hears the end of the one
    before. The dimensions are the device's: as many samples out as in.
    """

    def __init__(self, input_dim, param_dim, output_dim):
        super().__init__()
        if input_dim != output_dim or param_dim:
            raise ValueError("expected as many samples out as in, and no parameter controls")
        self.settings = {"input_dim": input_dim, "param_dim": param_dim, "output_dim": output_dim}
        self.register_buffer("kernel", torch.zeros(2 * input_dim - 1))
        self.register_buffer("constant", torch.zeros(output_dim))

    def fit(self, x, y):
        """Solve for h on measured pairs, arrays of shape (n, samples) each; return the model."""
        samples = x.shape[1]
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (x, y))
        moments, cross = x.T @ x, x.T @ y
        normal, right = x.new_zeros(2 * samples - 1, 2 * samples - 1), x.new_zeros(2 * samples - 1)
        for t in range(samples):
            # Output t hears sample j at the lag t - j.
            normal[t:t + samples, t:t + samples] += moments.flip(0, 1)
            right[t:t + samples] += cross[:, t].flip(0)
        ridge = 1e-9 * normal.diagonal().mean() * torch.eye(len(right), dtype=torch.float64)
        self.kernel = torch.linalg.solve(normal + ridge, right)
        self.constant = (y - x @ self.matrix()).mean(0)
        return self.to(torch.get_default_dtype())

    def matrix(self):
        """Return the convolution as a matrix, shape (samples in, samples out)."""
        return self.kernel.unfold(0, len(self.constant), 1).flip(0)

    def forward(self, x, theta):
        """Return the predicted waveform, shape (n, samples); theta has no columns."""
        return x @ self.matrix().to(x) + self.constant.to(x)
