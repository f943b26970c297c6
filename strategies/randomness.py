"""Randomness as a function of who needs it, when and for what.

Every random number of a run comes from (seed, round, phase, site, owner). Two runs
with one seed are therefore equal, whatever the number of workers, the order in which
sites answer, or an interruption in between.
"""

import hashlib

import torch


def derive_seed(
    seed: int, *, round_number: int, phase: str, site: str, owner: str = ""
) -> int:
    """Derive the seed of one job.

    Args:
        seed: Seed of the run.
        round_number: Round of the job.
        phase: What is done, for example "overseas".
        site: Whose frames are used.
        owner: Whose model is trained, when that is another site.

    Returns:
        A number of 63 bits; different arguments give unrelated numbers.
    """
    parts = (str(seed), str(round_number), phase, site, owner)
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_from(seed: int) -> torch.Generator:
    """Make a CPU generator of torch with a seed from `derive_seed`."""
    return torch.Generator().manual_seed(seed)
