"""Frames that are identical to the pixel, although they should be different ones."""

from clients.data.catalogue import Problem, SequenceEntry, Severity

REPEATED = (
    "frames are identical to the pixel within the sequence, so they count more than "
    "once; remove the copies unless they are meant"
)
COPIED = (
    "frames are identical to the pixel to those of another sequence of the same "
    "patient; remove the copies"
)
LEAKING = (
    "frames are identical to the pixel to those of another patient, so a model would "
    "be tested on what it was trained on; remove the copies, or put both under one "
    "patient"
)


class Copies:
    """Remembers a digest of every frame, nothing else."""

    def __init__(self) -> None:
        """Remember no frame yet."""
        self._first: dict[bytes, tuple[SequenceEntry, int]] = {}
        self._found: dict[tuple[str, str], Problem] = {}

    def add(self, sequence: SequenceEntry, number: int, digest: bytes) -> None:
        """Remember a frame and compare it with all before.

        Args:
            sequence: Its sequence.
            number: Of the frame in the sequence, from 1.
            digest: Of the grey values.
        """
        other, other_number = self._first.setdefault(digest, (sequence, number))
        if (other.id, other_number) == (sequence.id, number):
            return
        if other.id == sequence.id:
            self._report(Severity.WARNING, REPEATED, sequence, number)
            return
        leaks = other.patient != sequence.patient
        severity = Severity.ERROR if leaks else Severity.WARNING
        what = LEAKING if leaks else COPIED
        self._report(severity, what, other, other_number)
        self._report(severity, what, sequence, number)

    def problems(self) -> list[Problem]:
        """Return one problem for each sequence and kind, at its first frame."""
        return list(self._found.values())

    def _report(
        self, severity: Severity, what: str, sequence: SequenceEntry, number: int
    ) -> None:
        key = (sequence.id, what)
        known = self._found.get(key)
        first = number if known is None else min(number, known.frame or number)
        self._found[key] = Problem(severity, what, sequence.id, first)
