"""The classes that every network, mask and metric of the platform shares.

FedEFM defect 12: distillation needs one index of logits for all sites. So every network
has a logit map for each class of any site, and each frame tells which were annotated.
"""

CLASS_NAMES: tuple[str, ...] = ("catheter", "guidewire")
"""Order of the `classes` axis. Classes may overlap: one sigmoid each, no softmax."""
