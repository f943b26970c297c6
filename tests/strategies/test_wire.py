import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from models.weights import WeightsError
from strategies.wire import (
    BUNDLE,
    SMALL_BYTES,
    bundle,
    decode,
    encode,
    itemise,
    pack,
    rounding_error,
    unbundle,
)


def make_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "w": torch.randn(5, 3, generator=generator),
        "scalar": torch.tensor(0.1),
        "empty": torch.zeros(0, 3),
        "steps": torch.tensor(2**40 + 1),
    }


@pytest.mark.parametrize(
    ("wire", "error"), [("float32", 0.0), ("bfloat16", 2**-8), ("float16", 2**-11)]
)
def test_numbers_arrive_within_the_rounding_of_the_wire(
    wire: str, error: float
) -> None:
    state = make_state()
    sent = recorddict_to_proto(RecordDict({"arrays": encode(state, wire)}))
    found = decode(recorddict_from_proto(sent).array_records["arrays"])
    assert list(found) == sorted(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert bool(((found[name] - tensor).abs() <= error * tensor.abs()).all())
    assert torch.equal(found["steps"], state["steps"])
    assert rounding_error(state, wire) <= error
    assert (rounding_error(state, wire) > 0) == (wire != "float32")


@pytest.mark.parametrize("wire", ["bfloat16", "float16"])
def test_half_the_bits_are_half_the_bytes(wire: str) -> None:
    state = {"w": torch.randn(100, 10)}
    sizes = [
        sum(len(array.data) for array in encode(state, one).values())
        for one in ("float32", wire)
    ]
    # Arrays of NumPy carry a header of 128 bytes.
    assert sizes[1] <= sizes[0] / 2 + 128


def test_rounding_is_that_of_torch_and_comes_only_once() -> None:
    state = {"w": torch.randn(50)}
    once = decode(encode(state, "bfloat16"))
    assert torch.equal(once["w"], state["w"].bfloat16().float())
    assert torch.equal(decode(encode(once, "bfloat16"))["w"], once["w"])
    assert rounding_error(once, "bfloat16") == 0.0


def test_the_error_is_the_relative_norm_of_the_rounding() -> None:
    state = {"w": torch.tensor([1.0, 1.0 + 2**-9])}  # the second rounds down to 1
    expected = 2**-9 / (1 + (1 + 2**-9) ** 2) ** 0.5
    assert rounding_error(state, "bfloat16") == pytest.approx(expected)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"'w' holds 1e.05, too large"):
        encode({"w": torch.tensor([1e5])}, "float16")
    assert decode(encode({"w": torch.tensor([1e5])}, "bfloat16"))["w"].isfinite().all()
    with pytest.raises(ValueError, match="wire must be one of"):
        encode({}, "int8")


def test_arrays_of_flower_itself_are_read_and_own_their_memory() -> None:
    values = np.arange(3, dtype=np.float32)
    found = decode(ArrayRecord({"a": Array(values)}))["a"]
    found += 1
    assert found.tolist() == [1.0, 2.0, 3.0]


def make_large() -> torch.Tensor:
    return torch.arange(SMALL_BYTES // 4, dtype=torch.float32)


@pytest.mark.parametrize("wire", ["float32", "bfloat16", "float16"])
def test_small_tensors_travel_as_one_array_and_arrive_unchanged(wire: str) -> None:
    record = encode(make_state() | {"v.large": make_large() % 7}, wire)
    sent = bundle(record)
    # In half the bits the large one is small, too.
    assert set(sent) == ({BUNDLE, "v.large"} if wire == "float32" else {BUNDLE})
    proto = recorddict_to_proto(RecordDict({"arrays": sent}))
    arrived = recorddict_from_proto(proto).array_records["arrays"]
    expected = decode(record)
    assert list(decode(arrived)) == list(expected)
    for found in (decode(arrived), decode(unbundle(arrived))):
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    plain = unbundle(arrived)
    assert list(plain) == sorted(expected)
    assert all(array.numpy().dtype != np.float16 for array in plain.values())


@pytest.mark.parametrize("wire", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("more", [{}, {"v.large": make_large() % 7}])
def test_packing_at_once_is_packing_step_by_step(
    wire: str, more: dict[str, torch.Tensor]
) -> None:
    for state in (make_state() | more, {"alone": torch.ones(2)}, {}):
        steps, at_once = bundle(encode(state, wire)), pack(state, wire)
        assert list(at_once) == list(steps)
        for name, array in steps.items():
            assert at_once[name] == array


def test_packing_leaves_what_shares_memory_apart() -> None:
    both = torch.arange(6.0)
    found = decode(pack({"all": both, "half": both[:3]}))
    assert found["all"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["half"].tolist() == [0, 1, 2]


def test_packing_refuses_what_the_wire_cannot_hold() -> None:
    with pytest.raises(ValueError, match=r"'a' holds 1e\+06"):
        pack({"a": torch.tensor([1e6]), "b": torch.ones(1)}, "float16")
    with pytest.raises(ValueError, match="wire must be one of"):
        pack({"a": torch.ones(1)}, "int8")


def test_large_arrays_are_not_copied_for_the_journey() -> None:
    record = encode({"a": torch.ones(2), "b": torch.ones(3), "c": make_large()})
    sent = bundle(record)
    assert sent["c"].data is record["c"].data
    assert unbundle(sent)["c"].data is record["c"].data
    assert bundle(sent) is sent
    assert unbundle(record) is record


def test_a_bundle_is_listed_tensor_by_tensor() -> None:
    sent = bundle(encode({"b": torch.ones(2, 3), "a": torch.tensor(1)}, "bfloat16"))
    assert itemise(sent) == [("a", (), "int64", 8), ("b", (2, 3), "bfloat16", 12)]


def test_nothing_is_bundled_with_itself() -> None:
    record = encode({"tokens": torch.ones(4, 2)})
    assert bundle(record) is record


@pytest.mark.parametrize(
    "array",
    [
        Array(dtype="uint8", shape=(9,), stype=BUNDLE, data=b"\xff" * 9),
        Array(dtype="uint8", shape=(0,), stype=BUNDLE, data=b""),
        Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=b"no array"),
        Array(dtype="bfloat16", shape=(2,), stype="bfloat16", data=b"\0\0\0"),
        Array(dtype="float32", shape=(2,), stype="pickle", data=b"\0\0\0\0"),
    ],
)
def test_bytes_that_are_no_weights_are_refused_by_name(array: Array) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        decode(ArrayRecord({BUNDLE: array}))
