"""From a scene to the log-compressed image: pulse-echo physics at complex baseband.

The model is the usual first-order one: independent scatterers, a separable point-spread function
that changes with depth, no multiple scattering. Speckle follows from it: the sum of many
scatterers is a circular complex Gaussian, its envelope Rayleigh distributed with mean / standard
deviation = sqrt(pi / (4 - pi)) = 1.91 (Burckhardt 1978; Wagner et al. 1983).

D is the number of samples along a beam, L the number of beams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from tasks.phantom.geometry import Probe
from tasks.phantom.scene import Scene

SPEED_OF_SOUND = 1.54  # mm/us, what every scanner assumes
_NEPER = np.log(10) / 20  # dB to natural logarithm of an amplitude
_FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in its sigmas
# A plane mirror over the speckle amplitude of liver. It sets how far borders stand out; the ratio
# in a real picture depends on gain and grey map as well, so it was chosen by eye.
_MIRROR = 60.0
_GRAZING_LOSS = 9.0  # dB lost per unit step of log impedance along a border that the beam grazes
_PAD = 16  # mirrored beams on either side, so that the circular transform does not wrap


@dataclass(frozen=True)
class Beam:
    """How a probe sends and receives.

    Args:
        frequency: centre frequency in MHz.
        bandwidth: relative bandwidth (0 to 1); the pulse gets shorter with it.
        f_number: focal length over aperture; wavelength times it is the width at the focus.
        focus: depth of the focus in mm.
        spread: depth in mm over which the beam widens by sqrt(2) off the focus.
        side_lobes: amplitude of a broad pedestal of the beam, which fills cysts with haze.
        noise: electronic noise in dB relative to the speckle of liver, before gain.
        tgc: time-gain compensation in dB/cm/MHz one way; what the scanner takes tissue to lose.
    """

    frequency: float
    bandwidth: float = 0.6
    f_number: float = 2.5
    focus: float = 60.0
    spread: float = 40.0
    side_lobes: float = 0.02
    noise: float = -60.0
    tgc: float = 0.5

    @property
    def wavelength(self) -> float:
        """In mm."""
        return SPEED_OF_SOUND / self.frequency

    def axial_sigma(self) -> float:
        """Standard deviation of the echo pulse's envelope in mm."""
        # A Gaussian spectrum of FWHM b * f has an envelope of FWHM 4 ln 2 / (pi b f) in time;
        # half the speed of sound turns time into depth.
        duration = 4 * np.log(2) / (np.pi * self.bandwidth * self.frequency)
        return float(duration * SPEED_OF_SOUND / 2 / _FWHM)

    def lateral_sigma(self, depth: np.ndarray) -> np.ndarray:
        """Standard deviation of the two-way beam profile in mm at `depth` mm."""
        waist = self.f_number * self.wavelength / _FWHM
        return np.asarray(waist * np.hypot(1, (depth - self.focus) / self.spread))


def scatterers(
    rng: np.random.Generator, shape: tuple[int, int], keep: float = 1.0, fresh: int = 0
) -> np.ndarray:
    """Circular complex Gaussian reflectivity of unit power, complex64 [D, L].

    Args:
        rng: generator of the tissue.
        shape: (D, L).
        keep: correlation (0 to 1) with the frame whose `fresh` differs; 1 repeats it.
        fresh: number of the frame, seeding the part that is not kept.
    """
    still = _complex_normal(rng, shape)
    if keep >= 1:
        return still
    other = _complex_normal(np.random.default_rng([int(rng.integers(2**62)), fresh]), shape)
    return np.float32(keep) * still + np.float32(np.sqrt(1 - keep * keep)) * other


def received(scene: Scene, beam: Beam, speckle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The echo envelope after time-gain compensation.

    Args:
        scene: maps [D, L].
        beam: the probe's pulse and beam.
        speckle: unit-power reflectivity, complex [D, L]; see `scatterers`.
        rng: generator of the electronic noise.

    Returns:
        float32 [D, L]; the mean square is 1 in normal liver if the gain fits.
    """
    return detected(echoes(scene, beam, speckle), scene.probe, beam, rng)


def echoes(scene: Scene, beam: Beam, speckle: np.ndarray | complex) -> np.ndarray:
    """What each place sends back, weakened by the way there and back.

    It is linear in `speckle`, but for the mirrors, which do not depend on it.

    Args:
        scene: maps [D, L].
        beam: its frequency and time-gain compensation count.
        speckle: unit-power reflectivity, complex [D, L], or one number for all places.

    Returns:
        complex64 [D, L].
    """
    samples, lines = scene.echo.shape
    step = scene.probe.depth / (samples - 1)
    spacing = scene.probe.line_spacing(scene.depth, lines).astype(np.float32)
    mirror, grazing = _borders(scene, step, spacing)
    # Two ways through: 2 f integral(alpha); 0.1 turns mm into cm.
    loss = np.cumsum(scene.attenuation, axis=0) * np.float32(0.2 * beam.frequency * step)
    loss += np.cumsum(grazing, axis=0)

    echo = np.exp(np.float32(_NEPER) * (scene.echo - loss)) * speckle
    echo += np.exp(np.float32(-_NEPER) * loss) * mirror
    # Ring-down and reverberation come back from above: they are as strong as what made them.
    echo += scene.ghost * speckle * before_gain(beam, scene.depth)
    return np.asarray(echo)


def before_gain(beam: Beam, depth: np.ndarray) -> np.ndarray:
    """The amplitude that time-gain compensation brings to 1, at each `depth` in mm; same shape."""
    gain = np.float32(0.2 * beam.frequency * beam.tgc) * depth
    return np.asarray(np.exp(np.float32(-_NEPER) * gain))


def detected(echo: np.ndarray, probe: Probe, beam: Beam, rng: np.random.Generator) -> np.ndarray:
    """The envelope of echoes [D, L] as beam and pulse blur them, with noise and gain; see
    `received`."""
    samples, lines = echo.shape
    depth = np.linspace(0, probe.depth, samples, dtype=np.float32)[:, None]
    spacing = probe.line_spacing(depth, lines).astype(np.float32)
    gain = np.float32(0.2 * beam.frequency * beam.tgc) * depth
    echo = _blur_across(echo, beam.lateral_sigma(depth) / spacing, beam.side_lobes)
    # The noise is white over the beams and enters before the gain, so it grows with depth.
    echo += np.float32(10 ** (beam.noise / 20)) * _complex_normal(rng, (samples, lines))
    echo = _blur_along(echo, beam.axial_sigma() / (probe.depth / (samples - 1)))
    return np.asarray(np.abs(echo) * np.exp(np.float32(_NEPER) * gain))


def log_compress(
    envelope: np.ndarray, dynamic_range: float, gain: float = 0.0, gamma: float = 1.0
) -> np.ndarray:
    """Grey values of an envelope.

    Args:
        envelope: positive amplitudes, any shape.
        dynamic_range: dB that are shown; less is black.
        gain: in dB; with 0, an amplitude of 1 shows at 60 % of full scale.
        gamma: exponent of the grey map; above 1 darkens the middle.

    Returns:
        float32 in [0, 1], as `envelope`.
    """
    level = 20 * np.log10(np.maximum(envelope, 1e-6)) + gain
    grey = np.clip(level / dynamic_range + 0.6, 0, 1)
    return np.asarray(grey**gamma, np.float32)


def _borders(scene: Scene, step: float, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coherent reflection of borders (amplitude), and what grazed ones cost (dB a sample).

    The reflection coefficient of a small step is half the step of log impedance. A smooth border
    sends the echo back only if it stands square to the beam; the fourth power of the cosine is
    our choice of how fast that falls off.
    """
    along, across = np.gradient(scene.log_impedance)
    across = across * (np.float32(step) / spacing)
    steepness = np.hypot(along, across)
    cosine = np.abs(along) / np.maximum(steepness, np.float32(1e-9))
    mirror = np.float32(_MIRROR) * np.tanh(np.abs(along) / 2) * cosine**4
    grazing = np.float32(_GRAZING_LOSS) * np.minimum(np.abs(across), np.float32(0.05))
    return mirror, grazing * (1 - cosine) ** 2


def _blur_across(echo: np.ndarray, sigma: np.ndarray, side_lobes: float) -> np.ndarray:
    """Blur each depth [D, L] by a Gaussian of its own `sigma` (in beams, [D, 1]), power kept."""
    padded = np.pad(echo, ((0, 0), (_PAD, _PAD)), mode="reflect")
    frequency = scipy.fft.fftfreq(padded.shape[1]).astype(np.float32)[None, :]
    exponent = np.float32(-2 * np.pi**2) * (sigma.astype(np.float32) * frequency) ** 2
    transfer = np.exp(exponent) + np.float32(side_lobes) * np.exp(exponent * 36)
    transfer /= np.sqrt(np.mean(transfer**2, axis=1, keepdims=True))
    blurred = scipy.fft.ifft(scipy.fft.fft(padded, axis=1) * transfer, axis=1)
    return np.asarray(blurred[:, _PAD:-_PAD])


def _blur_along(echo: np.ndarray, sigma: float) -> np.ndarray:
    """Blur along the beams by a Gaussian of `sigma` samples, power kept."""
    sigma = max(sigma, 0.7)  # below that the grid is too coarse for the pulse
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    real, imaginary = (
        ndimage.correlate1d(part, kernel, axis=0, mode="reflect") for part in (echo.real, echo.imag)
    )
    return np.asarray(real + 1j * imaginary)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]
