"""AdamW that goes on where another site's has stopped."""

import torch
from torch import nn

from strategies.moments import Moments


def put_moments(
    optimiser: torch.optim.Optimizer, model: nn.Module, moments: Moments
) -> None:
    """Let an optimiser remember what it has not seen.

    Args:
        optimiser: AdamW that has not stepped yet.
        model: Whose parameters it moves.
        moments: By the parameters' names; a parameter without any starts afresh.
    """
    for name, one in model.named_parameters():
        if one.requires_grad and name in moments.first:
            optimiser.state[one] = {
                "step": torch.tensor(float(moments.steps), device=one.device),
                "exp_avg": moments.first[name].to(one, copy=True),
                "exp_avg_sq": moments.second[name].to(one, copy=True),
            }


def take_moments(
    optimiser: torch.optim.Optimizer, model: nn.Module, *, before: Moments
) -> Moments:
    """Return what an optimiser remembers, on the CPU.

    Args:
        optimiser: AdamW.
        model: Whose parameters it moves.
        before: What `put_moments` gave it; they stay where it took no step.
    """
    known = [
        (name, optimiser.state[one])
        for name, one in model.named_parameters()
        if one in optimiser.state
    ]
    if not known:
        return before
    return Moments(
        steps=max(int(state["step"].item()) for _, state in known),
        first={name: state["exp_avg"].cpu() for name, state in known},
        second={name: state["exp_avg_sq"].cpu() for name, state in known},
    )
