"""The SHG device's own equations in torch, with this copy's hidden values: true gradients.

No laboratory has them. `ExactSHG` opens the black box for comparison only: the method "exact", the
ceiling that better models could reach, and the angle by which other gradients miss.
"""

import numpy as np
import scipy.fft
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
        real = x.dtype
        field = self._amplitudes(x, theta).repeat_interleave(self.device.points_per_channel, 1)
        # As in the device: squaring the pulse in time convolves its spectrum with itself.
        pulse = torch.fft.ifft(field * self.field.to(real.to_complex()), self.device.fft_length,
                               norm="forward")
        harmonic = torch.fft.fft(pulse * pulse, norm="forward")[:, : len(self.weights)]
        return (harmonic.real**2 + harmonic.imag**2) @ self.weights.to(real)

    def _amplitudes(self, x, theta):
        p, real = self.device.parameters, x.dtype
        # Data on even, parameters on odd channels.
        controls = torch.stack([x, theta.expand_as(x)], 2).flatten(1)
        bent = torch.sin(torch.pi / 2 * controls)
        amplitude = controls + p.response_curvature * (bent - controls)
        amplitude = (p.leakage + (1 - p.leakage) * amplitude) * self.gain.to(real)
        return amplitude @ self.mixing.to(real)

    def pullback(self, gradient, needed, x, theta):
        """J^T g for (x, theta), in half of autograd's time: four transforms of complex fields."""
        leaves = [control.detach().requires_grad_() for control in (x, theta)]
        with torch.enable_grad():
            amplitudes = self._amplitudes(*leaves)
        device, real = self.device, amplitudes.detach().numpy()
        field = device._field.astype(np.result_type(real, np.complex64))
        length, points = device.fft_length, device.points_per_channel
        pulse = scipy.fft.ifft(np.repeat(real, points, 1) * field, length, norm="forward")
        back = scipy.fft.fft(pulse * pulse, overwrite_x=True, norm="forward")
        # What each part weighs in the loss, a complex number whose real part belongs to its own.
        back[:, : len(self.weights)] *= gradient.numpy() @ device._weights.T
        back[:, len(self.weights):] = 0
        back = pulse.conj() * scipy.fft.ifft(back, overwrite_x=True)
        back = scipy.fft.fft(back, overwrite_x=True)[:, : len(field)] * field.conj()
        by_amplitude = 4 * sum(back.real[:, n::points] for n in range(points))
        return torch.autograd.grad(amplitudes, leaves, torch.from_numpy(by_amplitude))
