"""The SHG device's own equations in torch, with this copy's hidden values: true gradients.

No laboratory has them. `ExactSHG` opens the black box for comparison only: the method "exact", the
ceiling that better models could reach, and the angle by which other gradients miss.
"""

import torch


class ExactSHG:
    """The noiseless response of one copy of the SHG device, differentiable.

    ``model(x, theta)`` takes and gives what `device` does, tensors of shape (n, 50), float32 or
    float64. Shot and read noise, pulse energy noise and the slow power cycle are left out.
    """

    def __init__(self, device):
        self.device = device
        hidden = device._gain, device._mixing, device._field, device._weights
        self.gain, self.mixing, self.field, self.weights = map(torch.from_numpy, hidden)

    def __call__(self, x, theta):
        p, real = self.device.parameters, x.dtype
        # Data on even, parameters on odd channels.
        controls = torch.stack([x, theta.expand_as(x)], 2).flatten(1)
        bent = torch.sin(torch.pi / 2 * controls)
        amplitude = controls + p.response_curvature * (bent - controls)
        amplitude = (p.leakage + (1 - p.leakage) * amplitude) * self.gain.to(real)
        amplitude = amplitude @ self.mixing.to(real)
        samples = amplitude.repeat_interleave(self.device.points_per_channel, 1)
        field = samples * self.field.to(real.to_complex())
        # As in the device: squaring the pulse in time convolves its spectrum with itself.
        pulse = torch.fft.ifft(field, self.device.fft_length, norm="forward")
        harmonic = torch.fft.fft(pulse * pulse, norm="forward")[:, : len(self.weights)]
        return (harmonic.real**2 + harmonic.imag**2) @ self.weights.to(real)
