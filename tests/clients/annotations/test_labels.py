"""Labels mean what the site says, and what nobody says is an error."""

import pytest

from clients.annotations.annotation import LabelMap, Outline
from clients.annotations.labels import find_class, sort_by_class
from clients.data.errors import DataError

SITE = LabelMap(
    aliases={"wire": "guidewire", "führungsdraht": "guidewire", "leads": "catheter"},
    ignored=frozenset({"tip", "leads", "catheters"}),
)


def outline(label: str) -> Outline:
    return Outline(label, "polygon")


@pytest.mark.parametrize(
    "label, name",
    [
        ("catheter", "catheter"),
        ("Catheters", "catheter"),
        ("  GUIDEWIRE\n", "guidewire"),
        ("guide wire", "guidewire"),
        ("Guide-wires", "guidewire"),
        ("guide_wire", "guidewire"),
    ],
)
def test_names_of_classes_are_known_in_their_usual_spellings(
    label: str, name: str
) -> None:
    assert find_class(label, LabelMap()) == name


@pytest.mark.parametrize(
    "label", ["wire", "tip", "guidewire tip", "microcatheter", "cath", "", "s", "1"]
)
def test_nothing_else_is_guessed(label: str) -> None:
    with pytest.raises(DataError, match="1 label is no class"):
        find_class(label, LabelMap())


@pytest.mark.parametrize("label", ["Wire", " FÜHRUNGSDRAHT ", "Führungsdraht"])
def test_a_site_may_use_its_own_words(label: str) -> None:
    assert find_class(label, SITE) == "guidewire"


def test_an_alias_wins_over_an_ignored_label_and_that_over_a_name() -> None:
    assert find_class("leads", SITE) == "catheter"
    assert find_class("Catheters", SITE) is None
    assert find_class("Tip", SITE) is None


def test_outlines_are_sorted_into_all_declared_classes() -> None:
    drawn = [outline(x) for x in ("wire", "tip", "Guidewire", "wire")]

    found = sort_by_class(drawn, SITE)

    assert found == {"catheter": [], "guidewire": [drawn[0], drawn[2], drawn[3]]}


def test_unknown_labels_are_counted_and_not_quoted() -> None:
    drawn = [outline(x) for x in ("Jane Doe", "catheter", "1970-01-01", "Jane Doe")]

    with pytest.raises(DataError, match="2 labels are no class") as caught:
        sort_by_class(drawn, LabelMap())

    assert "Jane" not in str(caught.value) and "1970" not in str(caught.value)
    assert "`labels`" in str(caught.value) and "`ignore-labels`" in str(caught.value)


def test_a_class_that_the_site_does_not_declare_is_no_background() -> None:
    labels = LabelMap(classes=("guidewire",))

    with pytest.raises(DataError, match=r"catheter: drawn here, but .* `classes`"):
        sort_by_class([outline("Catheter"), outline("guidewire")], labels)


def test_a_class_that_the_site_does_not_declare_may_be_ignored() -> None:
    labels = LabelMap(classes=("guidewire",), ignored=frozenset({"catheter"}))

    assert sort_by_class([outline("Catheter")], labels) == {"guidewire": []}
