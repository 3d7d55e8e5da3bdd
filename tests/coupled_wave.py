"""An independent referee for the SHG device: the coupled-wave equations, solved by RK4.

Equations (2.7.10-11) of R. W. Boyd, Nonlinear Optics, 3rd ed., in photon-flux units: a and b are the fields of fundamental
and second harmonic scaled such that |a|^2 + |b|^2 is the conserved intensity.
"""

import numpy as np


def rk4(derivative, state, length, steps):
    """Integrate d(state)/dz = derivative(z, state) from 0 to `length` with `steps` equal steps."""
    h = length / steps
    for i in range(steps):
        z = i * h
        k1 = derivative(z, state)
        k2 = derivative(z + h / 2, state + h / 2 * k1)
        k3 = derivative(z + h / 2, state + h / 2 * k2)
        k4 = derivative(z + h, state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def monochromatic(coupling, mismatch, length, steps=400):
    """Return (a, b) after a crystal, from a = 1, b = 0.

    a' = i kappa b a* exp(-i dk z),  b' = i kappa a^2 exp(i dk z); kappa in 1/m for unit intensity, dk in rad/m.
    """
    def derivative(z, state):
        a, b = state
        return 1j * coupling * np.array([b * a.conj() * np.exp(-1j * mismatch * z), a**2 * np.exp(1j * mismatch * z)])

    return rk4(derivative, np.array([1.0 + 0j, 0j]), length, steps)


def broadband(field, omega, omega2, k1, k2, coupling, length, steps=60):
    """Propagate pulses with the full linear dispersion of both waves, and depletion.

    Parameters
    ----------
    field : ndarray, complex, shape (n,)
        Spectrum of the fundamental on the frequencies `omega` (rad/s), zero outside its first half.
    omega, omega2 : ndarray, shape (n,)
        Frequencies of the fundamental and second harmonic bins; omega2[m] = omega[i] + omega[m - i].
    k1, k2 : ndarray, shape (n,)
        Wave vectors (rad/m) on them.
    coupling : float
        1/m, for a time-domain field of unit amplitude.

    Returns
    -------
    ndarray, shape (n,)
        Spectrum of the second harmonic.
    """
    # Interaction picture: linear propagation is exact, RK4 handles only the coupling. Subtracting the same phase
    # velocity and group delay from both waves changes nothing that is measured.
    n = len(field)
    centre = n // 4
    slope = (k1[centre + 1] - k1[centre - 1]) / (omega[centre + 1] - omega[centre - 1])
    d1 = k1 - k1[centre] - slope * (omega - omega[centre])
    d2 = k2 - 2 * k1[centre] - slope * (omega2 - 2 * omega[centre])

    def derivative(z, state):
        a = np.fft.ifft(state[0] * np.exp(1j * d1 * z)) * n
        b = np.fft.ifft(state[1] * np.exp(1j * d2 * z)) * n
        da = np.fft.fft(b * a.conj()) / n * np.exp(-1j * d1 * z)
        db = np.fft.fft(a * a) / n * np.exp(-1j * d2 * z)
        return 1j * coupling * np.array([da, db])

    return rk4(derivative, np.array([field, np.zeros_like(field)]), length, steps)[1]
