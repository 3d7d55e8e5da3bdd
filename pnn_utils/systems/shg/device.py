"""Simulated device: shaped femtosecond pulses doubled in a BBO crystal (second-harmonic generation, SHG).

Controls u in [0, 1] set the spectral amplitude of a Ti:sapphire pulse, channel by channel; the spectrum of
the second harmonic is read by a spectrometer. With the shaped field E(w) = a(u; w) S(w) exp(i phi(w)),
weak conversion and a thin crystal of length L,

    E2(W) ~ W sinc(dk(W) L / 2) * integral E(w) E(W - w) dw,    y_j = integral of |E2(W)|^2 over bin j,

where dk(W) = k_e(W) - 2 k_o(W / 2) is the wave-vector mismatch of type-I (ooe) doubling. Against a
solution of the coupled-wave equations (tests), leaving out the fundamental's own dispersion costs 0.1 % of a
spectrum's peak in a crystal of 0.5 mm, and depletion 0.02 %.

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022), and its Methods.
.. [2] K. Kato, IEEE J. Quantum Electron. 22, 1013 (1986): Sellmeier equations of BBO.
.. [3] R. W. Boyd, Nonlinear Optics, 3rd ed. (2008), chapter 2: coupled-wave equations, doubling.
.. [4] A. M. Weiner, Rev. Sci. Instrum. 71, 1929 (2000): pulse shaping.
"""

import dataclasses

import numpy as np
import scipy.fft
from scipy.special import erf

from pnn_utils.systems.base import PhysicalSystem, check_number, check_whole, make_parameters, parameter

LIGHT_SPEED = 299_792_458.0  # m/s, exact


@dataclasses.dataclass(frozen=True)
class SHGParameters:
    """Numbers of the SHG device in SI units; imperfections have a value that switches them off."""

    wavelength: float = parameter(780e-9, "m", "centre of the laser spectrum [1]", allowed=(400e-9, 1.2e-6))
    duration: float = parameter(100e-15, "s", "intensity full width at half maximum, transform-limited Gaussian [1]", allowed=(10e-15, 1e-12))
    channel_spacing: float = parameter(90e9, "Hz", "chosen: 100 channels span 9 THz, twice the spectrum's half-maximum width", allowed=(1e9, 1e12))
    peak_intensity: float = parameter(1e12, "W/m^2", "chosen: 1 nJ in 100 fs on a waist of 80 um; all open it converts 0.54 %", allowed=(1e6, 1e16))
    crystal_length: float = parameter(0.5e-3, "m", "recalled from the paper, unchecked", allowed=(1e-6, 1e-2))
    bin_width: float = parameter(0.25e12, "Hz", "chosen: 50 bins cover the central 12.5 THz of the second harmonic", allowed=(1e9, 1e13))
    resolution: float = parameter(0.59e12, "Hz", "spectrometer line FWHM, 0.3 nm at 390 nm (recalled, unchecked)", ideal=0.0)
    group_delay_dispersion: float = parameter(800e-30, "s^2", "sd over copies of what is left after the compressor; a few mm of glass", ideal=0.0)
    third_order_dispersion: float = parameter(30e-42, "s^3", "sd over copies; typical of a prism or grating compressor", ideal=0.0)
    spectrum_ripple: float = parameter(0.05, "1", "relative depth of a slow fringe on the laser's field spectrum", ideal=0.0, allowed=(0.0, 1.0))
    crosstalk: float = parameter(0.5, "channels", "sd of one colour's focal spot on the shaper [4]", ideal=0.0, allowed=(0.0, 10.0))
    response_curvature: float = parameter(0.3, "1", "share of the grating efficiency sin(pi u / 2) left in the amplitude response after calibration", ideal=0.0)
    channel_gain_spread: float = parameter(0.03, "1", "sd of the channels' gain: mirrors and coating", ideal=0.0)
    pointing: float = parameter(0.0, "channels", "shift of the colours over the channels since calibration; a knob for drift (tilting mirror)",
                                ideal=0.0, allowed=(-10.0, 10.0))
    leakage: float = parameter(0.01, "1", "field amplitude of a dark channel: micromirror contrast 1e4 : 1", ideal=0.0, allowed=(0.0, 1.0))
    dead_channels: int = parameter(2, "channels", "channels stuck dark: dust and stuck mirrors", ideal=0, allowed=(0, 100))
    pulse_energy_noise: float = parameter(0.003, "1", "relative sd of the pulse energy from reading to reading", ideal=0.0)
    power_drift: float = parameter(0.005, "1", "relative amplitude of the slow power cycle", ideal=0.0)
    drift_period: float = parameter(1200.0, "s", "period of the power cycle: air conditioning, 20 min", allowed=(1.0, 1e9))
    full_well: float = parameter(5e4, "electrons", "charge at full scale of a linear CCD; sets the shot noise", allowed=(1.0, 1e12))
    shot_noise: float = parameter(1.0, "1", "shot noise as a multiple of Poisson's", ideal=0.0)
    read_noise: float = parameter(20.0, "electrons", "sd per bin and reading of such a CCD", ideal=0.0)


class SHG(PhysicalSystem):
    """Fifty data and fifty parameter channels in, fifty bins of the second-harmonic spectrum out.

    Data channels have even, parameter channels odd places in the spectrum, so that every bin sees
    products of data with parameters. The output is charge in units of the full well; 1 is the brightest
    bin of an ideal device with all channels open.

    Parameters
    ----------
    seed : int
        Fixes this copy's fabrication errors.
    noise_seed : int
        Seed of the noise generator.
    ideal : bool
        Switch every imperfection off.
    points_per_channel : int
        Frequency samples per channel; 2 is converged to 1e-3 of full scale for controls drawn uniformly, and less for
        hard edges from channel to channel (tests).
    **changes
        Values of `SHGParameters` to change, by name.

    Raises
    ------
    TypeError
        If a change names a parameter that the table does not have, or a number, seeds included, is none.
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> device = SHG(seed=0, ideal=True)
    >>> device(np.full((1, 50), 0.5), np.full(50, 0.5)).shape
    (1, 50)
    """

    input_dim = param_dim = output_dim = 50
    control_unit = "field amplitude, 1 = channel open"
    output_unit = "full wells"
    pass_time = 0.01  # s: a micromirror pattern and a spectrometer reading at 100 Hz

    def __init__(self, seed=0, noise_seed=0, ideal=False, points_per_channel=2, **changes):
        super().__init__(noise_seed)
        self.parameters = p = make_parameters(SHGParameters, ideal, **changes)
        check_whole(1, 1000, points_per_channel=points_per_channel)
        self.points_per_channel = points_per_channel
        n_channels = self.input_dim + self.param_dim
        points = n_channels * points_per_channel
        # A grid of 2 * points keeps the cyclic convolution of the FFT from wrapping round.
        self.fft_length = scipy.fft.next_fast_len(2 * points)
        spacing = p.channel_spacing / points_per_channel
        aligned = (np.arange(points) - (points - 1) / 2) * spacing
        # Hz, from the laser's centre: the colour that falls on each sample of the channels.
        self.frequency = aligned + p.pointing * p.channel_spacing

        # One generator per source of error, so that changing one knob leaves the others as they were.
        shaper, dispersion, fringe, dead, cycle = (
            np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)
        )
        self._gain = 1 + p.channel_gain_spread * shaper.standard_normal(n_channels)
        self._gain[dead.permutation(n_channels)[: p.dead_channels]] = 0.0
        self._mixing = crosstalk_matrix(n_channels, p.crosstalk).astype(np.float32)
        spectrum = laser_field(self.frequency, p.duration)
        period, offset = fringe.uniform(1e12, 3e12), fringe.uniform(0, 2 * np.pi)
        spectrum *= 1 + p.spectrum_ripple * np.cos(2 * np.pi * self.frequency / period + offset)
        gdd, tod = dispersion.standard_normal(2) * (p.group_delay_dispersion, p.third_order_dispersion)
        detuning = 2 * np.pi * self.frequency
        field = spectrum * np.exp(1j * (gdd * detuning**2 / 2 + tod * detuning**3 / 6))
        self._cycle_start = cycle.uniform(0, 2 * np.pi)

        bare = laser_field(aligned, p.duration)
        full_scale = (np.convolve(bare, bare) ** 2 @ detection_weights(aligned, p, self.output_dim, 0.0)).max()
        self._field = (field / full_scale**0.25).astype(np.complex64)
        self._weights = detection_weights(self.frequency, p, self.output_dim, p.resolution).astype(np.float32)

    def channel_amplitudes(self, x, theta):
        """Return the field amplitude of each channel, shape (n, 100), for checked controls."""
        p = self.parameters
        controls = np.empty((len(x), self.input_dim + self.param_dim), np.float32)
        controls[:, 0::2] = x
        controls[:, 1::2] = theta
        if p.response_curvature:
            bent = np.sin(np.float32(np.pi / 2) * controls)
            controls += np.float32(p.response_curvature) * (bent - controls)
        if p.leakage:
            controls = np.float32(p.leakage) + np.float32(1 - p.leakage) * controls
        controls *= self._gain.astype(np.float32)
        return controls @ self._mixing

    def respond(self, x, theta):
        """Return the spectrum in full wells, shape (n, 50); see `PhysicalSystem.__call__`."""
        charge = np.empty((len(x), self.output_dim), np.float32)
        # Blocks of rows whose fields stay in the processor's cache halve the time of a large batch.
        for start in range(0, len(x), 256):
            rows = slice(start, start + 256)
            charge[rows] = self._spectrum(self.channel_amplitudes(x[rows], theta[rows]))
        return self._detect(charge)

    def _spectrum(self, amplitudes):
        field = np.zeros((len(amplitudes), self.fft_length), np.complex64)
        points = len(self._field)
        shaped = field[:, :points].reshape(len(amplitudes), -1, self.points_per_channel)
        np.multiply(amplitudes[:, :, None], self._field.reshape(-1, self.points_per_channel), out=shaped)
        # A product in time is a convolution in frequency: the square of the field, as the crystal makes it.
        pulse = scipy.fft.ifft(field, axis=1, overwrite_x=True, norm="forward")
        pulse *= pulse
        harmonic = scipy.fft.fft(pulse, axis=1, overwrite_x=True, norm="forward")[:, : 2 * points - 1]
        power = harmonic.real**2
        power += harmonic.imag**2
        return power @ self._weights

    def _detect(self, charge):
        p = self.parameters
        if p.power_drift:
            time = (self.passes + np.arange(len(charge))) * self.pass_time
            power = 1 + p.power_drift * np.sin(2 * np.pi * time / p.drift_period + self._cycle_start)
            charge *= (power**2).astype(np.float32)[:, None]
        if p.pulse_energy_noise:
            energy = 1 + p.pulse_energy_noise * self._noise.standard_normal((len(charge), 1), np.float32)
            charge *= energy**2
        if p.shot_noise or p.read_noise:
            variance = charge * np.float32(p.shot_noise**2 / p.full_well) + np.float32((p.read_noise / p.full_well) ** 2)
            charge += np.sqrt(variance) * self._noise.standard_normal(charge.shape, np.float32)
        return charge


def laser_field(frequency, duration):
    """Field spectrum of a transform-limited Gaussian pulse, 1 at its centre.

    Parameters
    ----------
    frequency : ndarray
        Offset from the centre, in Hz.
    duration : float
        Intensity full width at half maximum in time, in seconds; the spectrum's is 2 ln 2 / (pi duration).

    Raises
    ------
    TypeError, ValueError
        If the duration is not a number above 0.
    """
    check_number(1e-30, duration=duration)
    width = 2 * np.log(2) / (np.pi * duration)
    return np.exp(-2 * np.log(2) * (frequency / width) ** 2)


def crosstalk_matrix(n_channels, spot):
    """Share of each channel's control that reaches each channel, shape (n, n), for a Gaussian spot.

    Parameters
    ----------
    n_channels : int
    spot : float
        Standard deviation in channels; 0 gives the identity. Rows sum to 1: no light is lost between
        channels, only at the two ends.

    Raises
    ------
    TypeError, ValueError
        If `n_channels` is not a whole number of at least 1, or `spot` not a number of at least 0.
    """
    check_whole(1, n_channels=n_channels)
    check_number(0, spot=spot)
    if spot == 0:
        return np.eye(n_channels)
    distance = np.arange(n_channels)[:, None] - np.arange(n_channels)
    kernel = np.exp(-((distance / spot) ** 2) / 2)
    return kernel / np.exp(-((np.arange(-n_channels, n_channels + 1) / spot) ** 2) / 2).sum()


def bin_weights(frequency, n_bins, bin_width, resolution):
    """Weight of each second-harmonic sample in each spectrometer bin, shape (samples, n_bins).

    Parameters
    ----------
    frequency : ndarray
        Offsets of the samples from the centre of the second harmonic, in Hz, equally spaced.
    n_bins : int
    bin_width : float
        In Hz; the bins are adjacent and centred on the second harmonic.
    resolution : float
        Full width at half maximum of the spectrometer's Gaussian line, in Hz; 0 for a perfect one.
    """
    spacing = frequency[1] - frequency[0]
    # Even a perfect spectrometer spreads a sample over the grid spacing that it stands for.
    sigma = max(resolution / np.sqrt(8 * np.log(2)), spacing / 2)
    edges = (np.arange(n_bins + 1) - n_bins / 2) * bin_width
    below = (1 + erf((edges - frequency[:, None]) / (np.sqrt(2) * sigma))) / 2
    return np.diff(below, axis=1) * spacing / bin_width


def detection_weights(frequency, p, n_bins, resolution):
    """Charge in each bin per squared modulus of each sample of the doubled field, shape (2 * samples - 1, n_bins).

    Parameters
    ----------
    frequency : ndarray, shape (samples,)
        Offsets of the fundamental's samples from its centre, in Hz, equally spaced. The second harmonic's samples sit at
        the sums of two of them.
    p : SHGParameters
    n_bins : int
    resolution : float
        Of the spectrometer, in Hz.
    """
    sums = 2 * frequency[0] + (frequency[1] - frequency[0]) * np.arange(2 * len(frequency) - 1)
    # The crystal's field grows as W: relative to the centre of the second harmonic.
    crystal = (1 + sums * p.wavelength / (2 * LIGHT_SPEED)) * phase_matching(sums, p.wavelength, p.crystal_length)
    return bin_weights(sums, n_bins, p.bin_width, resolution) * crystal[:, None] ** 2


def refractive_indices(wavelength):
    """Ordinary and principal extraordinary index of BBO at 20 C.

    Parameters
    ----------
    wavelength : float or ndarray
        In vacuum, in metres; used here near 0.39e-6 and 0.78e-6.

    Returns
    -------
    (n_o, n_e)

    Raises
    ------
    TypeError, ValueError
        If a wavelength is not a number, or one for which the equations have no finite solution.

    References
    ----------
    .. [1] K. Kato, IEEE J. Quantum Electron. 22, 1013 (1986).
    """
    wavelength = np.asarray(wavelength)
    if wavelength.dtype.kind not in "fiu":
        raise TypeError(f"wavelength has dtype {wavelength.dtype}; expected numbers")
    square = (wavelength * 1e6) ** 2
    n_o = np.sqrt(2.7359 + 0.01878 / (square - 0.01822) - 0.01354 * square)
    n_e = np.sqrt(2.3753 + 0.01224 / (square - 0.01667) - 0.01516 * square)
    if not (np.isfinite(n_o) & np.isfinite(n_e)).all():
        raise ValueError(f"wavelength is {wavelength} m; expected wavelengths for which the Sellmeier equations hold, 0.2 to 3 micrometres")
    return n_o, n_e


def phase_matching_angle(wavelength):
    """Angle between beam and crystal axis, in radians, at which type-I (ooe) doubling is phase-matched.

    Parameters
    ----------
    wavelength : float
        Of the fundamental, in metres.

    Raises
    ------
    TypeError
        If the wavelength is not a number.
    ValueError
        If at no angle such light is doubled with matched phases.
    """
    check_number(1e-7, 1e-5, wavelength=wavelength)
    n_fundamental, _ = refractive_indices(wavelength)
    n_o, n_e = refractive_indices(wavelength / 2)
    share = (n_fundamental**-2 - n_o**-2) / (n_e**-2 - n_o**-2)
    if not 0 <= share <= 1:
        raise ValueError(f"wavelength is {wavelength:g} m; expected one that the crystal can double with matched phases, about 0.41 to 3.3 micrometres")
    return np.arcsin(np.sqrt(share))


def wave_vectors(wavelength):
    """Wave vectors of fundamental and second harmonic in BBO cut for `wavelength`.

    Parameters
    ----------
    wavelength : float
        Phase-matched fundamental, in metres.

    Returns
    -------
    k_fundamental, k_harmonic : callables
        Wave vector in rad/m as a function of angular frequency in rad/s: ordinary wave, and extraordinary
        wave at the phase-matching angle.

    Raises
    ------
    TypeError, ValueError
        See `phase_matching_angle`.
    """
    angle = phase_matching_angle(wavelength)

    def k_fundamental(omega):
        return refractive_indices(2 * np.pi * LIGHT_SPEED / omega)[0] * omega / LIGHT_SPEED

    def k_harmonic(omega):
        n_o, n_e = refractive_indices(2 * np.pi * LIGHT_SPEED / omega)
        index = 1 / np.sqrt(np.cos(angle) ** 2 / n_o**2 + np.sin(angle) ** 2 / n_e**2)
        return index * omega / LIGHT_SPEED

    return k_fundamental, k_harmonic


def phase_matching(frequency, wavelength, crystal_length):
    """Return sinc(dk L / 2) of the second harmonic, same shape as `frequency`.

    Parameters
    ----------
    frequency : ndarray
        Offset from the centre of the second harmonic, in Hz.
    wavelength, crystal_length : float
        Phase-matched fundamental and crystal length, in metres.

    Raises
    ------
    TypeError, ValueError
        If a number is none or out of range; see `phase_matching_angle`.
    """
    check_number(0, crystal_length=crystal_length)
    if frequency.dtype.kind not in "fiu":
        raise TypeError(f"frequency has dtype {frequency.dtype}; expected numbers")
    k_fundamental, k_harmonic = wave_vectors(wavelength)
    omega = 2 * np.pi * (2 * LIGHT_SPEED / wavelength + frequency)
    mismatch = k_harmonic(omega) - 2 * k_fundamental(omega / 2)
    return np.sinc(mismatch * crystal_length / (2 * np.pi))
