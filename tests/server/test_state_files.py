import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from server import state_files
from server.checkpoints import CheckpointError
from server.state_files import RoundKeeper, load_federation, save_federation
from strategies.federation_state import FederationState


def make_state(round_number: int, *, common: bool = False) -> FederationState:
    generator = torch.Generator().manual_seed(round_number)

    def model() -> dict[str, torch.Tensor]:
        return {
            "w": torch.randn(3, 4, generator=generator),
            "running_var": torch.rand(4, generator=generator),
        }

    theta = model()
    students = {
        silo: theta if common else model() for silo in ("Sankt Ölaf/1", "../b", "c")
    }
    return FederationState(
        round_number, theta, students, seed=7, metrics={"val/dice": 0.25}
    )


@pytest.mark.parametrize("common", [True, False])
def test_what_is_saved_is_loaded_bit_by_bit(common: bool, tmp_path: Path) -> None:
    state = make_state(3, common=common)
    save_federation(tmp_path, state)
    loaded = load_federation(tmp_path)
    assert loaded.equals(state)
    assert loaded.is_common() is common
    assert not loaded.equals(replace(state, seed=8))


def test_silos_that_start_from_theta_cost_no_file(tmp_path: Path) -> None:
    folder = save_federation(tmp_path, make_state(3, common=True))
    assert {path.name for path in folder.iterdir()} == {
        "theta.safetensors",
        "state.json",
    }


def test_the_last_round_replaces_the_one_before(tmp_path: Path) -> None:
    save_federation(tmp_path, make_state(9))
    save_federation(tmp_path, make_state(10))
    assert load_federation(tmp_path).round_number == 10
    save_federation(tmp_path, make_state(10, common=True))
    assert load_federation(tmp_path).is_common()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "round-0010"
    ]


def test_a_crash_while_writing_leaves_the_round_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_federation(tmp_path, make_state(3))

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(state_files, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        save_federation(tmp_path, make_state(4))
    assert load_federation(tmp_path).equals(make_state(3))


def test_damage_is_noticed_and_told_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="kept no round"):
        load_federation(tmp_path)
    folder = save_federation(tmp_path, make_state(3))
    theta = folder / "theta.safetensors"
    whole = theta.read_bytes()
    theta.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_federation(tmp_path)
    assert str(tmp_path) not in str(caught.value)
    theta.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_federation(tmp_path)


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = save_federation(tmp_path, make_state(3))
    card = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(CheckpointError, match="version of EndoFed"):
        load_federation(tmp_path)
    (folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_federation(tmp_path)


def test_a_federation_of_different_tensors_is_none() -> None:
    with pytest.raises(ValueError, match="other tensors"):
        FederationState(0, {"w": torch.zeros(1)}, {"a": {"v": torch.zeros(1)}}, seed=0)
    with pytest.raises(ValueError, match="round_number"):
        FederationState(-2, {}, {}, seed=0)


def test_every_third_round_is_kept_and_the_last(tmp_path: Path) -> None:
    on_disk = []
    with RoundKeeper(tmp_path, every=3) as keeper:
        for number in range(6):
            keeper.finished(make_state(number))
            on_disk.append(load_federation(tmp_path).round_number)
    assert on_disk == [0, 0, 0, 3, 3, 3]
    assert load_federation(tmp_path).equals(make_state(5))


def test_the_last_round_is_kept_where_an_error_ends_the_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="somewhere else"),
        RoundKeeper(tmp_path, every=100) as keeper,
    ):
        keeper.finished(make_state(7))
        raise ValueError("somewhere else")
    assert load_federation(tmp_path).equals(make_state(7))


def test_without_a_round_nothing_is_kept(tmp_path: Path) -> None:
    with RoundKeeper(tmp_path, every=1):
        pass
    assert not any(tmp_path.iterdir())


def test_a_round_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = state_files.save_federation
    monkeypatch.setattr(
        state_files,
        "save_federation",
        lambda folder, state: written.append(state.round_number) or save(folder, state),
    )
    with RoundKeeper(tmp_path, every=2) as keeper:
        for number in range(5):
            keeper.finished(make_state(number))
    assert written == [0, 2, 4]
