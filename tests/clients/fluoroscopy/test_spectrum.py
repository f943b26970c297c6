"""Beer, Lambert and beam hardening."""

import numpy as np
import pytest

from clients.fluoroscopy.spectrum import (
    ATTENUATION_PER_MM,
    BONE,
    CONTRAST,
    ENERGIES_KEV,
    MATERIALS,
    STEEL,
    TISSUE,
    Spectrum,
    one_energy,
    tube_spectrum,
)


def signal(spectrum: Spectrum, **mm: float) -> float:
    thickness = np.zeros((len(MATERIALS), 2, 2), np.float32)
    for name, value in mm.items():
        thickness[MATERIALS.index(name)] = value
    return float(spectrum.transmit(thickness)[1, 0])


def test_at_one_energy_optical_depths_add_up() -> None:
    beam = one_energy(60)
    apart = signal(beam, tissue=100) * signal(beam, steel=0.7)
    assert signal(beam, tissue=100, steel=0.7) == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize(
    ("material", "mm", "expected"),
    [
        # By hand from NIST's tables at 60 keV: cm²/g times g/cm³ times cm.
        ("tissue", 10.0, 0.2059 * 1.0 * 1.0),
        ("bone", 5.0, 0.3148 * 1.92 * 0.5),
        ("steel", 1.0, 1.205 * 7.87 * 0.1),
    ],
)
def test_attenuation_is_that_of_the_tables(
    material: str, mm: float, expected: float
) -> None:
    found = -np.log(signal(one_energy(60), **{material: mm}))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("material", ["tissue", "bone", "steel"])
def test_a_beam_of_many_energies_hardens(material: str) -> None:
    beam = tube_spectrum(75, 3)
    unit = {"tissue": 40.0, "bone": 10.0, "steel": 0.5}[material]
    per_unit = [-np.log(signal(beam, **{material: k * unit})) / k for k in (1, 2, 4, 6)]
    assert np.all(np.diff(per_unit) < 0)
    # And each further unit takes no less than the hardest energy would.
    hardest = unit * ATTENUATION_PER_MM[MATERIALS.index(material)][:5].min()
    assert per_unit[-1] > hardest


def test_a_device_is_fainter_behind_a_thick_patient() -> None:
    beam = tube_spectrum(75, 3)
    thin = np.log(signal(beam, tissue=20) / signal(beam, tissue=20, steel=0.5))
    thick = np.log(signal(beam, tissue=250) / signal(beam, tissue=250, steel=0.5))
    assert 0.5 * thin < thick < 0.92 * thin


def test_more_voltage_and_more_filter_make_a_harder_beam() -> None:
    def mean_energy(spectrum: Spectrum) -> float:
        return float(spectrum.weights @ ENERGIES_KEV)

    assert mean_energy(tube_spectrum(60, 3)) < mean_energy(tube_spectrum(90, 3))
    assert mean_energy(tube_spectrum(75, 2)) < mean_energy(tube_spectrum(75, 9))
    assert tube_spectrum(75, 3).weights.sum() == pytest.approx(1)
    # No quanta above the peak voltage.
    assert not tube_spectrum(75, 3).weights[ENERGIES_KEV > 75].any()


def test_iodine_has_its_edge_between_30_and_40_kev() -> None:
    iodine, water = ATTENUATION_PER_MM[CONTRAST], ATTENUATION_PER_MM[TISSUE]
    assert iodine[1] > 2 * iodine[0]
    assert np.all(np.diff(iodine[1:]) < 0) and np.all(np.diff(water) < 0)


def test_materials_absorb_in_the_order_of_their_density() -> None:
    at_60 = ATTENUATION_PER_MM[:, list(ENERGIES_KEV).index(60)]
    assert at_60[TISSUE] < at_60[BONE] < at_60[STEEL]
