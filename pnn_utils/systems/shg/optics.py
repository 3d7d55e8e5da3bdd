"""Optics of the SHG device: laser, shaper, crystal, spectrometer, in SI units; sources: `device`.

Frequencies are offsets from the centre of the fundamental's or the second harmonic's spectrum.
"""

import numpy as np
from scipy import linalg, special

LIGHT_SPEED = 299_792_458.0  # m/s, exact


def laser_field(frequency, duration):
    """Field spectrum of a transform-limited Gaussian pulse, 1 at its centre.

    The intensity's full width at half maximum is `duration` in time, 2 ln 2 / (pi duration) in
    frequency.
    """
    width = 2 * np.log(2) / (np.pi * duration)
    return np.exp(-2 * np.log(2) * (frequency / width) ** 2)


def crosstalk_matrix(n_channels, spot):
    """Share of each channel's control that reaches each channel, shape (n, n).

    `spot` is the standard deviation of one colour's Gaussian focal spot, in channels; 0 gives the
    identity. Rows sum to 1: no light is lost between channels, only at the two ends.
    """
    gaussian = np.exp(-((np.arange(-n_channels, n_channels + 1) / max(spot, 1e-9)) ** 2) / 2)
    return linalg.toeplitz(gaussian[n_channels:-1] / gaussian.sum())


def bin_weights(frequency, n_bins, bin_width, resolution):
    """Weight of each second-harmonic sample in each spectrometer bin, shape (samples, n_bins).

    The samples are equally spaced; the bins are adjacent and centred on the second harmonic.
    `resolution` is the full width at half maximum of the spectrometer's Gaussian line, in Hz.
    """
    spacing = frequency[1] - frequency[0]
    # Even a perfect spectrometer spreads a sample over the grid spacing that it stands for.
    sigma = max(resolution / np.sqrt(8 * np.log(2)), spacing / 2)
    edges = (np.arange(n_bins + 1) - n_bins / 2) * bin_width
    below = (1 + special.erf((edges - frequency[:, None]) / (np.sqrt(2) * sigma))) / 2
    return np.diff(below, axis=1) * spacing / bin_width


def detection_weights(frequency, p, n_bins, resolution):
    """Charge in each bin per |sample|^2 of the doubled field, shape (2 samples - 1, n_bins).

    `frequency` are the fundamental's samples, equally spaced: the second harmonic's sit at the
    sums of two of them.
    """
    spacing = frequency[1] - frequency[0]
    sums = 2 * frequency[0] + spacing * np.arange(2 * len(frequency) - 1)
    # The crystal's field grows as W: relative to the centre of the second harmonic.
    growth = 1 + sums * p.wavelength / (2 * LIGHT_SPEED)
    crystal = growth * phase_matching(sums, p.wavelength, p.crystal_length)
    return bin_weights(sums, n_bins, p.bin_width, resolution) * crystal[:, None] ** 2


def refractive_indices(wavelength):
    """Ordinary and principal extraordinary index of BBO at 20 C; `wavelength` in vacuum, m [2]."""
    square = (wavelength * 1e6) ** 2
    n_o = np.sqrt(2.7359 + 0.01878 / (square - 0.01822) - 0.01354 * square)
    n_e = np.sqrt(2.3753 + 0.01224 / (square - 0.01667) - 0.01516 * square)
    return n_o, n_e


def phase_matching_angle(wavelength):
    """Angle of beam and crystal axis, in rad, at which type-I (ooe) doubling is phase-matched.

    `wavelength` is the fundamental's, in m; below 0.41e-6 BBO has no such angle.
    """
    n_fundamental, _ = refractive_indices(wavelength)
    n_o, n_e = refractive_indices(wavelength / 2)
    return np.arcsin(np.sqrt((n_fundamental**-2 - n_o**-2) / (n_e**-2 - n_o**-2)))


def wave_vectors(omega, wavelength):
    """Wave vectors at the angular frequency omega, rad/s, in BBO cut for `wavelength`, in rad/m.

    Two of them: of the ordinary wave, as which the fundamental travels, and of the extraordinary
    wave at the phase-matching angle, the second harmonic.
    """
    angle = phase_matching_angle(wavelength)
    n_o, n_e = refractive_indices(2 * np.pi * LIGHT_SPEED / omega)
    index = 1 / np.sqrt(np.cos(angle) ** 2 / n_o**2 + np.sin(angle) ** 2 / n_e**2)
    return n_o * omega / LIGHT_SPEED, index * omega / LIGHT_SPEED


def phase_matching(frequency, wavelength, crystal_length):
    """sinc(dk L / 2) with dk(W) = k_e(W) - 2 k_o(W / 2) [3].

    `frequency` is W / (2 pi) from the centre of the second harmonic; `wavelength` that of the
    phase-matched fundamental.
    """
    omega = 2 * np.pi * (2 * LIGHT_SPEED / wavelength + frequency)
    mismatch = wave_vectors(omega, wavelength)[1] - 2 * wave_vectors(omega / 2, wavelength)[0]
    return np.sinc(mismatch * crystal_length / (2 * np.pi))
