"""The SHG device's own equations in torch, with this copy's hidden values: true gradients, which no laboratory has.

For comparison only. `ExactSHG` opens the black box: training uses it nowhere but in the method called "exact", the ceiling that
better models could reach, and to measure by what angle other gradients miss.
"""

import torch

from pnn_utils.pat import check_rows


class ExactSHG:
    """The noiseless response of one copy of the SHG device, differentiable.

    Parameters
    ----------
    device : SHG

    Notes
    -----
    ``model(x, theta)`` takes and gives what the device does, as tensors of shapes (n, 50), in float32 or float64. Shot and read noise,
    pulse energy noise and the slow power cycle are left out.

    Raises
    ------
    TypeError, ValueError
        By the call: if the controls are neither float32 nor float64, or their shapes are wrong.
    """

    def __init__(self, device):
        self.parameters, self.points_per_channel, self.fft_length = device.parameters, device.points_per_channel, device.fft_length
        self.gain, self.mixing, self.field, self.weights = (
            torch.from_numpy(values) for values in (device._gain, device._mixing, device._field, device._weights))

    def __call__(self, x, theta):
        for name, values in (("x", x), ("theta", theta if theta.ndim == 2 else theta[None])):
            check_rows(name, values, len(self.gain) // 2, torch.float64 if x.dtype == torch.float64 else torch.float32)
        p, real = self.parameters, x.dtype
        controls = torch.stack([x, theta.expand_as(x)], 2).flatten(1)  # data on even, parameters on odd channels
        amplitude = controls + p.response_curvature * (torch.sin(torch.pi / 2 * controls) - controls)
        amplitude = (p.leakage + (1 - p.leakage) * amplitude) * self.gain.to(real) @ self.mixing.to(real)
        field = amplitude.repeat_interleave(self.points_per_channel, 1) * self.field.to(torch.complex128 if real == torch.float64 else torch.complex64)
        # As in the device: the square of the pulse in time is the convolution of its spectrum with itself.
        pulse = torch.fft.ifft(field, self.fft_length, norm="forward")
        harmonic = torch.fft.fft(pulse * pulse, norm="forward")[:, : len(self.weights)]
        return (harmonic.real**2 + harmonic.imag**2) @ self.weights.to(real)
