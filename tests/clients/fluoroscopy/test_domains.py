"""Named hospitals and those that nobody has seen."""

import numpy as np
import pytest

from clients.fluoroscopy.collimator import OUTLINES
from clients.fluoroscopy.distractors import DISTRACTORS
from clients.fluoroscopy.domains import DOMAINS, Domain
from clients.fluoroscopy.random_domain import random_domain

RANDOM = [random_domain(number) for number in range(60)]


@pytest.mark.parametrize("domain", [*DOMAINS.values(), *RANDOM[:20]])
def test_domains_name_only_what_can_be_drawn(domain: Domain) -> None:
    assert domain.anatomies
    assert set(domain.detector.collimators) <= set(OUTLINES)
    assert set(domain.distractors) <= set(DISTRACTORS)
    for settings in (domain.detector, domain.devices, domain.display, domain.motion):
        for name, value in vars(settings).items():
            if isinstance(value, tuple) and len(value) == 2 and name != "tips":
                low, high = value
                assert isinstance(low, str) or low <= high, name


def test_the_same_number_gives_the_same_hospital() -> None:
    assert random_domain(7) == RANDOM[7]
    assert random_domain(7) != RANDOM[8]


def test_random_hospitals_differ_in_everything() -> None:
    polarity = [domain.display.bright_devices for domain in RANDOM]
    assert 0.15 < np.mean(polarity) < 0.7
    assert len({domain.anatomies for domain in RANDOM}) > 15
    assert len({domain.detector.collimators for domain in RANDOM}) > 10
    assert {domain.display.logarithmic for domain in RANDOM} == {0.0, 1.0}
    middles = {
        name: [np.mean(getattr(domain.detector, name)) for domain in RANDOM]
        for name in ("kilovolt", "quanta", "scatter", "screen_blur_px")
    }
    for values in middles.values():
        assert max(values) > 1.3 * min(values)
    widths = [np.mean(domain.devices.catheter_width_px) for domain in RANDOM]
    assert max(widths) > 1.4 * min(widths)
