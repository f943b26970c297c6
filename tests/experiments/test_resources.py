import pytest
import torch

from experiments import resources
from experiments.resources import choose_workers, federation_config, gpu_share


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight cores and one GPU."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(resources, "count_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.usefixtures("machine")
def test_four_sites_on_one_gpu_get_a_quarter_each() -> None:
    assert federation_config(4).split() == [
        "num-supernodes=4",
        "client-resources-num-cpus=1",
        "client-resources-num-gpus=0.25",
        "init-args-num-cpus=4",
    ]


@pytest.mark.usefixtures("machine")
def test_what_the_user_says_wins() -> None:
    said = federation_config(6, workers=2, gpus_per_site=0.1)
    assert "num-gpus=0.1 " in said
    assert said.endswith("init-args-num-cpus=2")
    assert "num-gpus=0.0 " in federation_config(4, use_gpus=False)


@pytest.mark.usefixtures("machine")
def test_a_cluster_that_exists_is_not_told_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "init-args" not in federation_config(4)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("num_sites", "wanted", "threads", "workers"),
    [
        (4, None, 1, 4),
        (20, None, 1, 8),
        (20, None, 3, 2),
        (20, None, 16, 1),
        (3, 9, 1, 3),
    ],
)
def test_cores_are_shared_among_the_sites(
    num_sites: int, wanted: int | None, threads: int, workers: int
) -> None:
    assert choose_workers(num_sites, wanted, threads) == workers


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7, 16])
def test_all_workers_fit_on_the_gpus_one_by_one(workers: int, num_gpus: int) -> None:
    share = gpu_share(workers, num_gpus)
    assert 0 < share <= 1
    assert num_gpus * int(1 / share) >= workers


def test_without_a_gpu_nobody_asks_for_one() -> None:
    assert gpu_share(4, 0) == 0.0
