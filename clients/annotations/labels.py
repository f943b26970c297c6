"""What a site's labels mean.

A label is compared without regard to case and to spaces around it: first with the
site's own aliases, then with the labels that it ignores, then with the names of the
classes. Of a name, the plural and spellings with a space, hyphen or underscore count
as well: "Guide-wires" is a guidewire. Nothing else is guessed. In particular "wire" is
no class: it may be a pacing lead or a sternal wire, so a site whose "wire" is the
guidewire says so in its `labels`.

What has no meaning is an error, not background: a device that was drawn and dropped
silently would teach the network that it is not there. So is a label of a class that
the site does not declare, for then its declaration is wrong.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from clients.annotations.annotation import LabelMap, Outline
from clients.data.errors import DataError
from models.classes import CLASS_NAMES


def find_class(label: str, labels: LabelMap) -> str | None:
    """Tell which class a label means.

    Args:
        label: As written by the site.
        labels: What the site declares.

    Returns:
        The name of a class, declared or not; None if the label is to be ignored.

    Raises:
        DataError: If the label means nothing; the text does not quote it.
    """
    written = label.strip().casefold()
    if written in labels.aliases:
        return labels.aliases[written]
    if written in labels.ignored:
        return None
    plain = re.sub(r"[\s_-]+", "", written)
    for name in CLASS_NAMES:
        if plain in (name, f"{name}s"):
            return name
    raise DataError(_unknown(1))


def sort_by_class(
    outlines: Iterable[Outline], labels: LabelMap
) -> dict[str, list[Outline]]:
    """Sort outlines into the classes that the site declares.

    Args:
        outlines: Of one frame.
        labels: What the site declares.

    Returns:
        Class name -> its outlines, none where the class is not in the frame.

    Raises:
        DataError: If labels mean nothing, or a class that the site does not declare;
            the text counts labels and does not quote them.
    """
    outlines = list(outlines)
    meaning: dict[str, str | None] = {}
    num_unknown = 0
    for label in {outline.label for outline in outlines}:
        try:
            meaning[label] = find_class(label, labels)
        except DataError:
            num_unknown += 1
    if num_unknown:
        raise DataError(_unknown(num_unknown))
    drawn: dict[str, list[Outline]] = defaultdict(list)
    for outline in outlines:
        name = meaning[outline.label]
        if name is not None:
            drawn[name].append(outline)
    undeclared = set(drawn) - set(labels.classes)
    if undeclared:
        raise DataError(
            f"{', '.join(sorted(undeclared))}: drawn here, but the site does not "
            "declare it; add it to `classes` of the site in the sites file, or its "
            "labels to `ignore-labels`"
        )
    return {name: drawn[name] for name in labels.classes}


def _unknown(count: int) -> str:
    """Return the text of an error; labels may hold names, so they are counted only."""
    is_one = count == 1
    return (
        f"{count} label{' is' if is_one else 's are'} no class of the platform "
        f"({', '.join(CLASS_NAMES)}); map {'it' if is_one else 'them'} in `labels` of "
        f"the site in the sites file, or add {'it' if is_one else 'them'} to "
        "`ignore-labels`"
    )
