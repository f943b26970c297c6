"""How X-rays of several energies are attenuated by several materials.

Beer and Lambert for each energy, then the sum over energies: soft quanta are lost
first, so the rest of the beam is harder and further material attenuates less ("beam
hardening"). Mass attenuation coefficients from Hubbell and Seltzer, NIST Standard
Reference Database 126 (tables 3 and 4, coherent scattering included).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.fluoroscopy.geometry import Field

ENERGIES_KEV = np.array([30.0, 40.0, 50.0, 60.0, 80.0, 100.0])
_WIDTHS_KEV = np.array([10.0, 10.0, 10.0, 15.0, 20.0, 20.0])
# cm²/g at the energies above.
_MASS_ATTENUATION = {
    "water": np.array([0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707]),
    "bone": np.array([1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855]),
    "iodine": np.array([8.561, 22.10, 12.32, 7.579, 3.510, 1.942]),
    "barium": np.array([9.904, 24.57, 13.79, 8.511, 3.963, 2.196]),
    "iron": np.array([8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717]),
    "aluminium": np.array([1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704]),
}
_DENSITY_ALUMINIUM = 2.70  # g/cm³
MATERIALS = ("tissue", "bone", "contrast", "steel", "polymer")
"""Order of the first axis of every thickness."""
TISSUE, BONE, CONTRAST, STEEL, POLYMER = range(len(MATERIALS))

_CM_PER_MM = 0.1
# g/cm³ of each ingredient. Contrast agent: what iodine adds to the blood it is mixed
# with. Polymer: catheters are loaded with barium sulphate; of the plastic itself only
# what it has more than the blood it displaces would count, which is next to nothing.
_INGREDIENTS: dict[str, dict[str, float]] = {
    "tissue": {"water": 1.0},
    "bone": {"bone": 1.92},
    "contrast": {"iodine": 0.15},
    "steel": {"iron": 7.87},
    "polymer": {"barium": 0.35},
}
ATTENUATION_PER_MM = np.stack(
    [
        _CM_PER_MM * sum(density * _MASS_ATTENUATION[name] for name, density in mix)
        for mix in (_INGREDIENTS[material].items() for material in MATERIALS)
    ]
)
"""(materials, energies), linear attenuation coefficients."""

Thickness = NDArray[np.float32]  # (materials, side, side), mm


@dataclass(frozen=True)
class Spectrum:
    """A beam of a few energies.

    Attributes:
        weights: (energies,), share of each energy in the signal that the detector
            gives when nothing is in the beam; sums to 1.
    """

    weights: NDArray[np.float64]

    def transmit(self, thickness: Thickness) -> Field:
        """Let the beam through.

        Args:
            thickness: (materials, side, side), mm of each of `MATERIALS`.

        Returns:
            (side, side), signal as a share of the open beam's.
        """
        present = [m for m in range(len(MATERIALS)) if thickness[m].any()]
        signal = np.zeros(thickness.shape[1:], np.float32)
        scratch = np.empty_like(signal)
        for energy in np.flatnonzero(self.weights):
            depth = np.zeros_like(signal)
            for material in present:
                attenuation = np.float32(-ATTENUATION_PER_MM[material, energy])
                depth += np.multiply(thickness[material], attenuation, out=scratch)
            np.exp(depth, out=depth)
            signal += np.multiply(depth, np.float32(self.weights[energy]), out=depth)
        return signal


def tube_spectrum(kilovolt: float, filter_mm: float) -> Spectrum:
    """Approximate what an X-ray tube delivers and a detector makes of it.

    Kramers' law for the number of quanta per energy, k (kilovolt / energy - 1)
    [Kramers, Phil. Mag. 46, 1923], an aluminium filter, and a detector whose signal is
    the absorbed energy. Characteristic lines are left out.

    Args:
        kilovolt: Peak voltage of the tube, 45 to 120.
        filter_mm: Aluminium in the beam, >= 0; 0.1 mm of copper counts as about 3.

    Returns:
        A spectrum on `ENERGIES_KEV`.
    """
    quanta = np.clip(kilovolt / ENERGIES_KEV - 1, 0, None) * _WIDTHS_KEV
    path = _CM_PER_MM * filter_mm * _DENSITY_ALUMINIUM
    energy = quanta * ENERGIES_KEV * np.exp(-path * _MASS_ATTENUATION["aluminium"])
    return Spectrum(energy / energy.sum())


def one_energy(kilovolt: float) -> Spectrum:
    """Return a beam of a single energy: the nearest of `ENERGIES_KEV`."""
    weights = np.zeros(len(ENERGIES_KEV))
    weights[np.abs(ENERGIES_KEV - kilovolt).argmin()] = 1.0
    return Spectrum(weights)
