import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import weights
from models.weights import (
    WeightsError,
    check_weights,
    load_weights,
    read_metadata,
    save_weights,
    weights_digest,
)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {
        "encoder.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "encoder.bias": torch.tensor([0.1, -0.2], dtype=torch.float16),
        "steps": torch.tensor(7),
    }


def test_tensors_come_back_bit_for_bit(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    save_weights(tmp_path / "model.safetensors", state)
    loaded = load_weights(tmp_path / "model.safetensors")
    assert list(loaded) == sorted(state)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_tensors_that_share_memory_or_are_transposed_can_be_saved(
    tmp_path: Path,
) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_weights(tmp_path / "model.safetensors", {"a": base, "b": base.T})
    loaded = load_weights(tmp_path / "model.safetensors")
    assert loaded["b"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_metadata_comes_back_and_its_absence_is_empty(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    with_text, without = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_weights(with_text, state, metadata={"model-name": "sam-tiny", "seed": "0"})
    save_weights(without, state)
    assert read_metadata(with_text) == {"model-name": "sam-tiny", "seed": "0"}
    assert read_metadata(without) == {}


def test_an_interrupted_write_leaves_the_earlier_file_and_no_debris(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, state)

    def power_cut(handle: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(weights.os, "fsync", power_cut)
    with pytest.raises(OSError, match="power cut"):
        save_weights(path, {"other": torch.zeros(3)})
    assert list(load_weights(path)) == sorted(state)
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_replaces_the_earlier_one_and_leaves_no_debris(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, state)
    save_weights(path, {"other": torch.zeros(3)})
    assert list(load_weights(path)) == ["other"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [load_weights, read_metadata])
@pytest.mark.parametrize("kept_bytes", [0, 5, 60, -1])
def test_a_truncated_file_is_refused_without_naming_it(
    tmp_path: Path,
    state: dict[str, Tensor],
    read: Callable[[Path], object],
    kept_bytes: int,
) -> None:
    path = tmp_path / "secret-name.safetensors"
    save_weights(path, state)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(
        ValueError, match="complete safetensors file was wanted"
    ) as caught:
        read(path)
    assert "secret-name" not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="complete safetensors file was wanted"):
        load_weights(path)


def test_a_missing_file_and_a_folder_say_so_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist") as caught:
        load_weights(tmp_path / "nothing")
    assert "nothing" not in str(caught.value)
    with pytest.raises(ValueError, match="got a folder"):
        read_metadata(tmp_path)


def test_weights_that_fit_pass(state: dict[str, Tensor]) -> None:
    check_weights(state, state, source="site 'a'")


def test_every_problem_is_listed_in_one_message(state: dict[str, Tensor]) -> None:
    received = {
        "encoder.weight": torch.full((3, 2), float("nan")),
        "encoder.bias": torch.zeros(2, dtype=torch.float32),
        "stranger": torch.zeros(1),
    }
    with pytest.raises(WeightsError) as caught:
        check_weights(received, state, source="site 'a'")
    text = str(caught.value)
    for part in (
        "site 'a'",
        "5 problem(s)",
        "'steps' is missing",
        "'stranger' is unknown",
        "'encoder.weight' must have shape (2, 3), got (3, 2)",
        "'encoder.weight' must be finite, got 6 of 6",
        "'encoder.bias' must be torch.float16, got torch.float32",
    ):
        assert part in text


def test_the_norm_is_that_of_all_tensors_together() -> None:
    expected = {"a": torch.zeros(1), "b": torch.zeros(1)}
    received = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    check_weights(received, expected, source="site 'a'", max_norm=5.0)
    with pytest.raises(WeightsError, match=r"at most 4\.9, got 5"):
        check_weights(received, expected, source="site 'a'", max_norm=4.9)


def test_a_variance_counts_as_its_standard_deviation() -> None:
    expected = {"weight": torch.zeros(1), "norm.running_var": torch.zeros(2)}
    received = {
        "weight": torch.tensor([3.0]),
        "norm.running_var": torch.tensor([9.0, 7.0]),
    }
    check_weights(received, expected, source="site 'a'", max_norm=5.0)
    with pytest.raises(WeightsError, match=r"at most 4\.9, got 5"):
        check_weights(received, expected, source="site 'a'", max_norm=4.9)
    grown = {**received, "norm.running_var": torch.tensor([1.7e6, 0.9e6])}
    check_weights(grown, expected, source="site 'a'")


def test_a_norm_too_large_for_float32_is_still_refused() -> None:
    huge = {"a": torch.full((4,), 3e38)}
    with pytest.raises(WeightsError, match="norm must be at most"):
        check_weights(huge, huge, source="site 'a'")


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["weight", "norm.running_var"])
def test_one_number_that_is_not_finite_is_found(
    wrong: str, dtype: torch.dtype, name: str
) -> None:
    expected = {name: torch.zeros(300, 7, dtype=dtype), "other": torch.zeros(3)}
    received = {name: torch.ones(300, 7, dtype=dtype), "other": torch.ones(3)}
    check_weights(received, expected, source="site 'a'")
    received[name][217, 3] = float(wrong)
    with pytest.raises(WeightsError, match="finite, got 1 of 2100 values") as caught:
        check_weights(received, expected, source="site 'a'", max_norm=1e-3)
    assert "1 problem(s)" in str(caught.value)  # no norm to tell of


def test_counters_count_in_the_norm() -> None:
    counters = {"steps": torch.tensor([3, 4])}
    check_weights(counters, counters, source="site 'a'", max_norm=5.0)
    with pytest.raises(WeightsError, match=r"at most 4\.9, got 5"):
        check_weights(counters, counters, source="site 'a'", max_norm=4.9)


def test_a_norm_too_large_for_float64_is_refused_too() -> None:
    huge = {"a": torch.full((4,), 1e300, dtype=torch.float64)}
    with pytest.raises(WeightsError, match=r"at most 1e\+06, got inf"):
        check_weights(huge, huge, source="site 'a'")


def test_the_digest_ignores_order_and_memory_layout(state: dict[str, Tensor]) -> None:
    backwards = dict(reversed(state.items()))
    strided = state | {"encoder.weight": state["encoder.weight"].T.contiguous().T}
    assert weights_digest(backwards) == weights_digest(state)
    assert weights_digest(strided) == weights_digest(state)
    assert len(weights_digest(state)) == 64


def test_the_digest_notices_one_bit_a_shape_a_type_and_a_name(
    state: dict[str, Tensor],
) -> None:
    one = torch.zeros(4)
    bit = one.clone()
    bit.view(torch.int32)[0] = 1
    states = [
        state,
        {"a": one},
        {"a": bit},
        {"a": one.reshape(2, 2)},
        {"a": one.view(torch.int32)},
        {"b": one},
        {},
    ]
    assert len({weights_digest(each) for each in states}) == len(states)


def test_the_digest_is_sha256_over_name_type_shape_and_bytes() -> None:
    content = b"1:a:torch.float32:(2,):" + struct.pack("<2f", 1.0, 2.0)
    expected = hashlib.sha256(content).hexdigest()
    assert weights_digest({"a": torch.tensor([1.0, 2.0])}) == expected
