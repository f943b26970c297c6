"""The classes that every network, mask and metric of the platform shares."""

CLASS_NAMES: tuple[str, ...] = ("catheter", "guidewire")
"""Order of the `classes` axis. Classes may overlap: one sigmoid each, no softmax."""
