import torch

from strategies.randomness import derive_seed, generator_from

JOB = {"round_number": 3, "phase": "overseas", "site": "a", "owner": "b"}


def test_the_same_job_gets_the_same_seed() -> None:
    assert derive_seed(1, **JOB) == derive_seed(1, **JOB)


def test_every_part_of_a_job_changes_its_seed() -> None:
    seeds = {
        derive_seed(1, **JOB),
        derive_seed(2, **JOB),
        derive_seed(1, **{**JOB, "round_number": 4}),
        derive_seed(1, **{**JOB, "phase": "distil"}),
        derive_seed(1, **{**JOB, "site": "b"}),
        derive_seed(1, **{**JOB, "owner": ""}),
    }
    assert len(seeds) == 6


def test_names_do_not_run_together() -> None:
    first = derive_seed(0, round_number=0, phase="p", site="ab", owner="c")
    second = derive_seed(0, round_number=0, phase="p", site="a", owner="bc")
    assert first != second


def test_a_seed_fits_every_generator() -> None:
    seed = derive_seed(0, **JOB)
    assert 0 <= seed < 2**63
    first, second = (torch.rand(3, generator=generator_from(seed)) for _ in range(2))
    assert torch.equal(first, second)
