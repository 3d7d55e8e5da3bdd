"""An independent referee for the SHG device: the coupled waves of type-I doubling, in SI units.

With the real field e = A exp(i k z - i w t) + c.c. and intensity 2 n eps0 c |A|^2 [1]_,

    dA1/dz = i 2 w1 d / (n1 c) A2 A1* exp(-i dk z),    dA2/dz = i w2 d / (n2 c) A1^2 exp(i dk z).

Nothing here comes from the device except the wave vectors k_o(w), k_e(w) that a caller passes in.

References
----------
.. [1] R. W. Boyd, Nonlinear Optics, 3rd ed. (2008), equations 2.7.10 and 2.7.11.
"""

import numpy as np
from scipy.constants import c, epsilon_0


def rk4(derivative, state, length, steps):
    """Integrate d(state)/dz = derivative(z, state) from 0 to `length` with `steps` equal steps."""
    h = length / steps
    for z in h * np.arange(steps):
        k1 = derivative(z, state)
        k2 = derivative(z + h / 2, state + h / 2 * k1)
        k3 = derivative(z + h / 2, state + h / 2 * k2)
        k4 = derivative(z + h, state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def nonlinear_length(intensity, omega, n1, n2, d):
    """Length over which a phase-matched wave converts tanh(1)^2 of its intensity, in metres.

    Parameters
    ----------
    intensity : float
        Of the fundamental where it enters, in W/m^2.
    omega : float
        Of the fundamental, in rad/s.
    n1, n2 : float
        Refractive indices of fundamental and second harmonic.
    d : float
        Effective nonlinear coefficient, in m/V.
    """
    return np.sqrt(n1**2 * n2 * epsilon_0 * c**3 / (2 * omega**2 * d**2 * intensity))


def plane_wave(intensity, omega, n1, n2, d, mismatch, length, steps=400):
    """Intensities (W/m^2) of a monochromatic fundamental and its harmonic, with depletion.

    Parameters as in `nonlinear_length`; `mismatch` in rad/m, `length` in m.
    """

    def derivative(z, state):
        a1, a2 = state
        phase = np.exp(1j * mismatch * z)
        return 1j * 2 * omega * d / c * np.array([a2 * a1.conj() / phase / n1, a1**2 * phase / n2])

    start = np.array([np.sqrt(intensity / (2 * n1 * epsilon_0 * c)), 0], complex)
    a1, a2 = rk4(derivative, start, length, steps)
    return 2 * epsilon_0 * c * n1 * abs(a1) ** 2, 2 * epsilon_0 * c * n2 * abs(a2) ** 2


def pulses(field, offset, spacing, carrier, k1, k2, d, length, steps=40):
    """Propagate pulses: all linear dispersion of both waves, depletion, w-dependent coupling.

    Parameters
    ----------
    field : ndarray, complex, shape (n, size)
        Spectra of the fundamental; their sum over samples is the field in time, in V/m. The first
        quarter of the samples, in rising frequency, carries light; the rest is zero and keeps the
        convolutions apart.
    offset, spacing : float
        Frequency of the first sample from the carrier, and between samples, in Hz.
    carrier : float
        Frequency of the fundamental, in Hz.
    k1, k2 : callable
        Wave vectors (rad/m) of angular frequency (rad/s) of fundamental and second harmonic.
    d, length : float
        Nonlinear coefficient in m/V, crystal length in m.
    steps : int

    Returns
    -------
    frequency1, frequency2 : ndarray, shape (size,)
        Frequencies of the samples, in Hz.
    energy1, energy2 : ndarray, shape (n, size)
        Intensity carried by each sample at the exit, in W/m^2 (averaged over the time window).
    """
    size = field.shape[1]
    # Samples 0 ... 3/4 size count upwards, the last quarter as negative: room on both sides.
    index = (np.arange(size) + size // 4) % size - size // 4
    frequency1 = carrier + offset + spacing * index
    frequency2 = 2 * (carrier + offset) + spacing * index
    w1, w2 = 2 * np.pi * frequency1, 2 * np.pi * frequency2
    w0, h = 2 * np.pi * carrier, 1e11
    slope = (k1(w0 + h) - k1(w0 - h)) / (2 * h)
    n1, n2 = k1(w1) * c / w1, k2(w2) * c / w2
    # The frame moves with the fundamental; linear propagation is exact, RK4 sees coupling alone.
    d1 = k1(w1) - k1(w0) - slope * (w1 - w0)
    d2 = k2(w2) - 2 * k1(w0) - slope * (w2 - 2 * w0)
    gain1, gain2 = 1j * 2 * w1 * d / (n1 * c), 1j * w2 * d / (n2 * c)

    def derivative(z, state):
        turn1, turn2 = np.exp(1j * d1 * z), np.exp(1j * d2 * z)
        a1 = np.fft.ifft(state[0] * turn1, norm="forward")
        a2 = np.fft.ifft(state[1] * turn2, norm="forward")
        return np.array([gain1 / turn1 * np.fft.fft(a2 * a1.conj(), norm="forward"),
                         gain2 / turn2 * np.fft.fft(a1 * a1, norm="forward")])

    a1, a2 = rk4(derivative, np.array([field, np.zeros_like(field)]), length, steps)
    energy1, energy2 = (2 * epsilon_0 * c * n * abs(a) ** 2 for n, a in ((n1, a1), (n2, a2)))
    return frequency1, frequency2, energy1, energy2
