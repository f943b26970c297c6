"""Small states as they travel."""

import torch

WEIGHTS = {"w": torch.tensor([1.0, 2.0]), "bias": torch.tensor(3.0)}
CONTROL = {"w": torch.tensor([0.1, -0.2]), "bias": torch.tensor(1e-9)}
FORMER = {"w": torch.tensor([7.0, 8.0])}  # an aid may hold a part of the tensors
