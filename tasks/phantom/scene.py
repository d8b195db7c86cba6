"""What the sound meets: tissues, and maps of them over the beam grid.

D is the number of samples along a beam, L the number of beams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.phantom.geometry import Probe, grid


@dataclass(frozen=True)
class Tissue:
    """Acoustic properties of a tissue.

    Args:
        echo: backscatter in dB relative to normal liver.
        attenuation: one way, in dB/cm/MHz.
        impedance: in MRayl; borders between unequal impedances reflect.
        grain: standard deviation in dB of the structure that is coarser than the speckle.
    """

    echo: float
    attenuation: float = 0.5
    impedance: float = 1.65
    grain: float = 1.0


# Impedance and attenuation are of the size that textbooks give for soft tissue, bone and water;
# backscatter is set by eye to the greys of clinical pictures, to which the gain would bring it.
LIVER = Tissue(0.0)
KIDNEY = Tissue(-4.5, 0.5, 1.62)
FAT = Tissue(-7.0, 0.5, 1.42, 2.0)
BRIGHT_FAT = Tissue(6.0, 0.6, 1.45, 2.5)
SKIN = Tissue(7.0, 0.7, 1.72)
MUSCLE = Tissue(-5.0, 0.6, 1.70, 2.5)
FIBROUS = Tissue(8.0, 0.8, 1.74, 2.0)
GLAND = Tissue(3.0, 0.6, 1.60, 2.5)
THYROID = Tissue(3.0, 0.45, 1.64)
FLUID = Tissue(-42.0, 0.01, 1.52, 0.0)
BLOOD = Tissue(-34.0, 0.15, 1.61, 0.0)
BONE = Tissue(-6.0, 9.0, 4.5)
STONE = Tissue(10.0, 9.0, 3.2)
GAS = Tissue(-14.0, 7.0, 0.4)


class Scene:
    """Maps of tissue over a probe's beam grid, painted from the back to the front.

    Attributes:
        x, z: position in mm, float32 [D, L].
        depth: distance from the probe's face in mm, float32 [D, 1].
        echo: backscatter in dB relative to normal liver, float32 [D, L].
        attenuation: dB/cm/MHz one way, float32 [D, L].
        log_impedance: natural logarithm of MRayl, float32 [D, L].
        ghost: amplitude of reverberation and ring-down echoes, which no tissue at their place
            makes and no attenuation weakens, float32 [D, L]; 1 is the speckle of normal liver.
        sliding: mm by which the scatterers have moved to the right between frames, float32
            [D, L] or 0.
    """

    def __init__(
        self,
        probe: Probe,
        samples: int,
        lines: int,
        shift: tuple[float, float] = (0.0, 0.0),
        background: Tissue = LIVER,
    ) -> None:
        """Fill the scene with `background`; `shift` moves the probe by (x, z) mm."""
        self.probe = probe
        x, z = grid(probe, samples, lines)
        self.x, self.z = x + np.float32(shift[0]), z + np.float32(shift[1])
        self.depth = np.linspace(0, probe.depth, samples, dtype=np.float32)[:, None]
        self.echo = np.full_like(x, background.echo)
        self.attenuation = np.full_like(x, background.attenuation)
        self.log_impedance = np.full_like(x, np.log(background.impedance))
        self.ghost = np.zeros_like(x)
        self.sliding: np.ndarray | float = 0.0

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and the depth of the field of view in mm."""
        return self.probe.extent[1], self.probe.extent[3]

    def paint(
        self,
        level: np.ndarray,
        tissue: Tissue,
        edge: float = 0.5,
        texture: np.ndarray | float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Put `tissue` where `level` is positive.

        Args:
            level: signed distance to the border in mm, positive inside, [D, L].
            tissue: what to paint.
            edge: mm over which the border fades; a broad one reflects little.
            texture: added to the backscatter, in dB, [D, L] or a number.
            opacity: 0 to 1; below 1 what lies beneath shows through.
        """
        share = np.clip(level / np.float32(edge) + np.float32(0.5), 0, 1) * np.float32(opacity)
        self.echo += share * (np.float32(tissue.echo) + texture - self.echo)
        self.attenuation += share * (np.float32(tissue.attenuation) - self.attenuation)
        self.log_impedance += share * (np.float32(np.log(tissue.impedance)) - self.log_impedance)

    def roughen(self, texture: np.ndarray) -> None:
        """Add structure (dB, [D, L]) to the backscatter of everything painted so far."""
        self.echo += texture
