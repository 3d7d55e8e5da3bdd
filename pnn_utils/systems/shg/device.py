r"""Simulated device: shaped femtosecond pulses doubled in a BBO crystal (second harmonic, SHG).

     laser       grating       shaper           grating     BBO crystal    spectrometer
                            x0 t0 x1 ... t49                   ____
    100 fs          /      +--+--+--+---+--+      \           |::::|       50 bins
    780 nm  ====>  / ====> |  |##|. |...|##| ====> \  ====>   |::::| ---->  y0 ... y49
                  /        +--+--+--+---+--+        \         |____|
            S(w)         E = a(u; w) S exp(i phi)              L, E2       390 nm

Controls u in [0, 1], data x and parameters t in turn, set the amplitude of each colour. With weak
conversion and a thin crystal of length L,

    E2(W) ~ W sinc(dk(W) L / 2) integral of E(w) E(W - w) dw,
    y_j = integral of |E2(W)|^2 over bin j,

where dk(W) = k_e(W) - 2 k_o(W / 2) is the wave-vector mismatch of type-I (ooe) doubling. Against
the coupled-wave equations (tests), leaving out the fundamental's own dispersion costs 0.1 % of a
spectrum's peak in 0.5 mm of crystal, and depletion 0.02 %. All numbers are in ``parameters.csv``.

References
----------
.. [1] Wright, Onodera et al., Nature 601, 549 (2022), and its Methods.
.. [2] K. Kato, IEEE J. Quantum Electron. 22, 1013 (1986): Sellmeier equations of BBO.
.. [3] R. W. Boyd, Nonlinear Optics, 3rd ed. (2008), chapter 2: coupled-wave equations, doubling.
.. [4] A. M. Weiner, Rev. Sci. Instrum. 71, 1929 (2000): pulse shaping.
"""

from pathlib import Path

import numpy as np
import scipy.fft

from pnn_utils.systems.base import PhysicalSystem, check_whole, make_parameters
from pnn_utils.systems.shg.optics import crosstalk_matrix, detection_weights, laser_field

TABLE = Path(__file__).with_name("parameters.csv")


class SHG(PhysicalSystem):
    """Fifty data and fifty parameter channels in, fifty bins of the second-harmonic spectrum out.

    Data channels have even, parameter channels odd places in the spectrum, so that every bin sees
    products of data with parameters. The output is charge in units of the full well; 1 is the
    brightest bin of an ideal device with all channels open.

    seed, noise_seed : fix this copy's fabrication errors, and its noise
    ideal : switch every imperfection off
    points_per_channel : frequency samples; 2 is converged to 1e-3 of full scale for controls drawn
        uniformly, and less for hard edges from channel to channel (tests)
    **changes : values of ``parameters.csv`` to change, by name

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
        self.parameters = p = make_parameters(TABLE, ideal, **changes)
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

        # One generator per source of error: changing one knob leaves the others as they were.
        shaper, dispersion, fringe, dead, cycle = np.random.default_rng(seed).spawn(5)
        self._gain = 1 + p.channel_gain_spread * shaper.standard_normal(n_channels)
        self._gain[dead.permutation(n_channels)[: p.dead_channels]] = 0.0
        self._mixing = crosstalk_matrix(n_channels, p.crosstalk).astype(np.float32)
        self._cycle_start = cycle.uniform(0, 2 * np.pi)

        period, offset = fringe.uniform(1e12, 3e12), fringe.uniform(0, 2 * np.pi)
        ripple = np.cos(2 * np.pi * self.frequency / period + offset)
        spectrum = laser_field(self.frequency, p.duration) * (1 + p.spectrum_ripple * ripple)
        spread = p.group_delay_dispersion, p.third_order_dispersion
        second, third = dispersion.standard_normal(2) * spread
        detuning = 2 * np.pi * self.frequency
        phase = second * detuning**2 / 2 + third * detuning**3 / 6

        bare = laser_field(aligned, p.duration)
        perfect = detection_weights(aligned, p, self.output_dim, resolution=0.0)
        full_scale = (np.convolve(bare, bare) ** 2 @ perfect).max()
        self._field = (spectrum * np.exp(1j * phase) / full_scale**0.25).astype(np.complex64)
        weights = detection_weights(self.frequency, p, self.output_dim, p.resolution)
        self._weights = weights.astype(np.float32)

    def respond(self, x, theta):
        """Return the spectrum in full wells, shape (n, 50); see `PhysicalSystem.__call__`."""
        charge = np.empty((len(x), self.output_dim), np.float32)
        # Blocks of rows whose fields stay in the processor's cache halve a large batch's time.
        for start in range(0, len(x), 256):
            rows = slice(start, start + 256)
            charge[rows] = self._spectrum(self.channel_amplitudes(x[rows], theta[rows]))
        # The laser's power drifts and jitters; the spectrometer adds shot and read noise.
        p, normal = self.parameters, self._noise.standard_normal
        time = (self.passes + np.arange(len(x))) * self.pass_time
        cycle = np.sin(2 * np.pi * time / p.drift_period + self._cycle_start)
        charge *= ((1 + p.power_drift * cycle) ** 2).astype(np.float32)[:, None]
        if p.pulse_energy_noise:
            charge *= (1 + p.pulse_energy_noise * normal((len(x), 1), np.float32)) ** 2
        if p.shot_noise or p.read_noise:
            variance = charge * np.float32(p.shot_noise**2 / p.full_well)
            variance += np.float32((p.read_noise / p.full_well) ** 2)
            charge += np.sqrt(variance) * normal(charge.shape, np.float32)
        return charge

    def channel_amplitudes(self, x, theta):
        """Return the field amplitude of each channel, shape (n, 100), for checked controls."""
        p = self.parameters
        controls = np.stack([x, theta], 2).reshape(len(x), 2 * self.input_dim).astype(np.float32)
        bent = np.sin(np.float32(np.pi / 2) * controls)
        controls += np.float32(p.response_curvature) * (bent - controls)
        controls = np.float32(p.leakage) + np.float32(1 - p.leakage) * controls
        return controls * self._gain.astype(np.float32) @ self._mixing

    def _spectrum(self, amplitudes):
        field = np.repeat(amplitudes, self.points_per_channel, 1) * self._field
        # A product in time is a convolution in frequency: the crystal squares the field.
        pulse = scipy.fft.ifft(field, self.fft_length, norm="forward")
        harmonic = scipy.fft.fft(pulse * pulse, overwrite_x=True, norm="forward")
        harmonic = harmonic[:, : len(self._weights)]
        return (harmonic.real**2 + harmonic.imag**2) @ self._weights
