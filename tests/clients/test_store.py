"""Frames on disk are the frames that were stored, whatever way they are looked at."""

import hashlib
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data import cache
from clients.data.cache_room import clear
from clients.data.errors import DataError
from clients.data.frames import FrameSet
from clients.data.store import PreparedFrame, StoredFrames, encode_frame

Store = Callable[..., StoredFrames]


def make_prepared(number: int, *, size: int = 4, classes: int = 2) -> PreparedFrame:
    """A frame of its own for every number; only the first class is annotated."""
    generator = np.random.default_rng(number)
    annotated = np.arange(classes) == 0
    masks = generator.integers(0, 2, (classes, size, size), dtype=np.uint8)
    return PreparedFrame(
        image=generator.random((size, size), dtype=np.float32),
        masks=masks * annotated[:, None, None].astype(np.uint8),
        annotated=annotated,
        valid=generator.random((size, size)) < 0.8,
        sequence=number // 2,
        patient=2**63 - 1 - number // 4,
    )


def store_in(folder: Path, prepared: list[PreparedFrame]) -> StoredFrames:
    classes, size, _ = prepared[0].masks.shape
    key = os.urandom(8).hex()
    return cache.load_or_build(
        folder,
        key,
        [lambda one=one: one for one in prepared],
        size=size,
        num_classes=classes,
        limit_bytes=10**8,
    )


def in_memory(prepared: list[PreparedFrame]) -> FrameSet:
    """The same frames, put together by hand and checked by FrameSet itself."""
    return FrameSet(
        images=torch.stack([torch.from_numpy(one.image)[None] for one in prepared]),
        masks=torch.stack([torch.from_numpy(one.masks) for one in prepared]),
        annotated=torch.stack([torch.from_numpy(one.annotated) for one in prepared]),
        sequences=torch.tensor([one.sequence for one in prepared]),
        patients=torch.tensor([one.patient for one in prepared]),
        valid=torch.stack([torch.from_numpy(one.valid)[None] for one in prepared]),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    def build(*numbers: int) -> StoredFrames:
        return store_in(tmp_path, [make_prepared(number) for number in numbers])

    return build


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**32), min_size=1, max_size=5),
    size=st.integers(1, 5),
    classes=st.integers(1, 7),
    data=st.data(),
)
def test_a_batch_is_what_was_stored_to_one_grey_value(
    numbers: list[int], size: int, classes: int, data: st.DataObject
) -> None:
    prepared = [make_prepared(one, size=size, classes=classes) for one in numbers]
    order = data.draw(st.lists(st.integers(0, len(numbers) - 1), min_size=1))
    expected = in_memory(prepared).subset(torch.tensor(order))
    with TemporaryDirectory() as folder:
        found = store_in(Path(folder), prepared).subset(torch.tensor(order))
    assert float((found.images - expected.images).abs().max()) <= 0.5001 / 65535
    for name in ("masks", "annotated", "sequences", "patients", "valid"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    # What was put together without a look at its values stands the full look too.
    FrameSet(**{one.name: getattr(found, one.name) for one in fields(FrameSet)})


def test_black_white_and_every_grey_between_come_back_exactly(tmp_path: Path) -> None:
    image = (np.arange(256 * 256) / 65535).astype(np.float32).reshape(256, 256)
    whole = make_prepared(0, size=256, classes=1)._replace(image=image)
    found = store_in(tmp_path, [whole]).subset(torch.tensor([0]))
    assert np.array_equal(found.images[0, 0].numpy(), image)


def test_seven_overlapping_classes_fit_beside_the_valid_bit(tmp_path: Path) -> None:
    everything = PreparedFrame(
        image=np.ones((2, 2), np.float32),
        masks=np.ones((7, 2, 2), np.uint8),
        annotated=np.ones(7, np.bool_),
        valid=np.array([[True, False], [False, True]]),
        sequence=0,
        patient=0,
    )
    found = store_in(tmp_path, [everything]).subset(torch.tensor([0]))
    assert bool((found.masks == 1).all())
    assert found.valid[0, 0].tolist() == [[True, False], [False, True]]


def test_a_view_of_a_view_is_the_chosen_frames_in_order(store: Store) -> None:
    frames = store(0, 1, 2, 3, 4, 5)
    view = frames.view(torch.tensor([5, 3, 1])).view(torch.tensor([True, False, True]))
    assert len(view) == 2
    assert view.sequences.tolist() == [2, 0]
    assert view.patients.tolist() == [2**63 - 2, 2**63 - 1]
    assert view.annotated.tolist() == [[True, False]] * 2
    read, expected = (
        view.subset(torch.arange(2)),
        frames.subset(torch.tensor([5, 1])),
    )
    assert read.digest() == expected.digest()


def test_a_batch_is_a_copy(store: Store) -> None:
    frames = store(0, 1)
    before = frames.subset(torch.arange(2))
    before.images.zero_()
    before.sequences.zero_()
    after = frames.subset(torch.arange(2))
    assert bool(after.images.any())
    assert frames.view(torch.tensor([1])).sequences.tolist() == [0]


@pytest.mark.parametrize("indices", [[2], [-1], []])
def test_frames_that_are_not_there_cannot_be_chosen(
    store: Store, indices: list[int]
) -> None:
    frames, chosen = store(0, 1), torch.tensor(indices, dtype=torch.int64)
    for choose in (frames.view, frames.subset):
        with pytest.raises(DataError, match=r"[Ff]rame"):
            choose(chosen)


def test_the_digest_is_that_of_the_content_and_not_of_the_entry(store: Store) -> None:
    alone, among_others = store(3, 1), store(0, 1, 2, 3)
    chosen = among_others.view(torch.tensor([3, 1]))
    assert chosen.digest() == alone.digest()
    assert chosen.view(torch.tensor([1, 0])).digest() != alone.digest()
    assert chosen.view(torch.tensor([0])).digest() != alone.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"image": np.full((4, 4), 0.5, np.float32)},
        {"masks": np.zeros((2, 4, 4), np.uint8)},
        {"annotated": np.array([True, True])},
        {"valid": np.ones((4, 4), np.bool_)},
        {"sequence": 1},
        {"patient": 1},
    ],
)
def test_any_change_of_a_frame_changes_the_digest(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    frame = make_prepared(0)
    stored = store_in(tmp_path, [frame, frame._replace(**change)])
    views = [stored.view(torch.tensor([number])).digest() for number in (0, 1)]
    assert views[0] != views[1]


def test_a_digest_can_be_computed_by_hand(tmp_path: Path) -> None:
    # It may only change on purpose, with FORMAT: runs are compared by it.
    frame = PreparedFrame(
        image=np.array([[0, 0.25], [0.5, 1]], np.float32),
        masks=np.array([[[0, 1], [0, 0]]], np.uint8),
        annotated=np.array([True]),
        valid=np.array([[True, True], [False, True]]),
        sequence=3,
        patient=2**62,
    )
    image = bytes.fromhex("0000 0040 0080 ffff")  # 0, 16384, 32768, 65535
    labels = bytes([128, 129, 0, 128])
    head = b"endofed frame, format 1, 2 px, 1; 3 4611686018427387904;"
    of_frame = hashlib.sha256(head + b"\x01" + image + labels).digest()
    expected = hashlib.sha256(b"endofed frames, format 1, 1;" + of_frame).hexdigest()
    assert store_in(tmp_path, [frame]).digest() == expected


def test_another_process_gets_the_same_frames_from_a_small_message(
    store: Store,
) -> None:
    frames = store(0, 1, 2).view(torch.tensor([2, 0]))
    assert len(pickle.dumps(frames)) < 1000
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        read = pool.submit(StoredFrames.subset, frames, torch.tensor([1])).result()
    assert read.digest() == frames.subset(torch.tensor([1])).digest()


def test_frames_that_were_removed_or_replaced_are_not_opened_again(
    tmp_path: Path,
) -> None:
    def build(number: int) -> StoredFrames:
        tasks = [lambda: make_prepared(number)]
        return cache.load_or_build(
            tmp_path, "key", tasks, size=4, num_classes=2, limit_bytes=10**8
        )

    message = pickle.dumps(build(0))
    clear(tmp_path)
    with pytest.raises(DataError, match="no longer in"):
        pickle.loads(message)
    build(1)
    with pytest.raises(DataError, match="no longer those"):
        pickle.loads(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 5), np.float32)}, "image of a prepared"),
        ({"image": np.zeros((4, 4), np.uint8)}, "uint8"),
        ({"image": np.full((4, 4), np.nan, np.float32)}, "finite"),
        ({"image": np.full((4, 4), np.inf, np.float32)}, "finite"),
        ({"image": np.full((4, 4), 1.001, np.float32)}, "[0, 1]"),
        ({"image": np.full((4, 4), -0.001, np.float32)}, "[0, 1]"),
        ({"masks": np.zeros((3, 4, 4), np.uint8)}, "masks of a prepared"),
        ({"masks": np.zeros((2, 4, 4), np.float32)}, "float32"),
        ({"masks": np.full((2, 4, 4), 2, np.uint8)}, "0 and 1"),
        ({"masks": np.ones((2, 4, 4), np.uint8)}, "not annotated"),
        ({"annotated": np.array([True])}, "annotated of a prepared"),
        ({"valid": np.ones((4, 4), np.uint8)}, "valid of a prepared"),
        ({"sequence": -1}, "sequence"),
        ({"patient": 2**63}, "patient"),
    ],
)
def test_a_frame_that_is_not_as_declared_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        encode_frame(make_prepared(0)._replace(**change), size=4, num_classes=2)
    assert message in str(caught.value)


def test_an_eighth_class_is_refused() -> None:
    with pytest.raises(DataError, match="1 to 7"):
        encode_frame(make_prepared(0, classes=8), size=4, num_classes=8)
