"""The moving of bytes gives what `View.take` gives, whatever the blocks; and so do the files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_view import chains

import wexport
from wexport import dtypes, stream, work, write
from wexport.model import Array
from wexport.storage import Bytes
from wexport.view import View, c_strides


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    """Blocks of a few elements, so that small arrays are cut as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BLOCK_BYTES", 64)
        patch.setattr(stream, "_SMALL", 4, raising=False)
        yield


@dataclass
class Counting:
    """Bytes in memory that note the longest read."""

    data: bytes
    longest: int = 0
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read_into(self, buffer: memoryview, start: int) -> None:
        assert 0 <= start <= start + len(buffer) <= len(self.data), "reads stay inside of the array"
        self.longest = max(self.longest, len(buffer))
        self.reads.append((start, len(buffer)))
        buffer[:] = self.data[start : start + len(buffer)]


def stored(count: int, dtype: str = "float32") -> tuple[Array, Any, Counting]:
    numbers = np.arange(count).astype(dtypes.mover(dtype))
    storage = Counting(numbers.tobytes())
    return Array("array", (count,), dtype, storage), numbers, storage


def moved(array: Array, views: list[View]) -> list[Any]:
    """What arrives at the sinks of some views."""
    chunks: list[list[Any]] = [[] for _ in views]
    for group in stream.groups(views):
        stream.move(array, [views[i] for i in group], [lambda x, i=i: chunks[i].append(x.copy()) for i in group])
    return [np.concatenate(c) if c else np.empty(0) for c in chunks]


@given(chains(), st.sampled_from(["float64", "float32", "float16", "int8"]))
def test_moving_is_taking(chain: tuple[View, Any], dtype: str) -> None:
    view, _array = chain
    source, numbers, _ = stored(625, dtype)
    np.testing.assert_array_equal(moved(source, [view])[0], view.take(numbers).reshape(-1))


@given(chains())
def test_gathering_is_taking(chain: tuple[View, Any]) -> None:
    view, array = chain
    if view.of is None:
        source, numbers, _ = stored(int(array.max()) + 1)
        spaces = [stream.Space(numbers.dtype) for _ in range(2)]
        np.testing.assert_array_equal(stream.gather(source, view, *spaces), view.take(numbers).reshape(-1))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.permutations(range(2)))
def test_gates_move_in_lockstep(rows: int, gates: int, units: int, order: list[int]) -> None:
    source, numbers, _ = stored(rows * gates * units)
    whole = View.whole((rows, gates, units))
    views = [whole.index(1, gate).permute(tuple(order)) for gate in range(gates)]
    assert len(stream.groups(views)) == 1
    for view, found in zip(views, moved(source, views), strict=True):
        np.testing.assert_array_equal(found, view.take(numbers).reshape(-1))


@given(chains(), st.integers(1, 9))
def test_blocks_are_the_view_in_order(chain: tuple[View, Any], limit: int) -> None:
    view, array = chain
    if view.of is not None:
        return
    flat = np.arange(int(array.max()) + 1)
    parts = list(stream.blocks(view, limit))
    assert all(0 < part.size <= limit for part in parts)
    np.testing.assert_array_equal(np.concatenate([p.take(flat).reshape(-1) for p in parts]), array.reshape(-1))


def test_an_empty_tensor_reads_nothing() -> None:
    source, _, storage = stored(0)
    assert moved(source, [View.whole((0, 3))])[0].size == 0
    assert storage.reads == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0), (1, 2, 0)])
def test_memory_is_bounded(order: tuple[int, ...]) -> None:
    """However a large array is turned, no single read takes much more than the wanted share of a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BLOCK_BYTES", 1 << 16)
        source, numbers, storage = stored(40 * 50 * 60)
        view = View.whole((40, 50, 60)).permute(order)
        np.testing.assert_array_equal(moved(source, [view])[0], view.take(numbers).reshape(-1))
    assert storage.longest <= 8 * (1 << 16)


# -- files -------------------------------------------------------------------------------------------------------------

MANIFEST: dict[str, Any] = {"model": {"name": "m"}, "layers": {}, "weights": {}}


def written(folder: Path, items: list[write.Item], **more: Any) -> wexport.Bundle:
    tensors = {i.name: {"dtype": i.dtype, "shape": list(i.shape), "layer": "x", "role": "y"} for i in items}
    folder.mkdir()
    write.write_bundle(folder, {**MANIFEST, "tensors": tensors}, items, more.get("limit", 1 << 30), lambda size: None)
    return wexport.open(folder)


@pytest.mark.parametrize("name", sorted(dtypes._TABLE))
def test_every_type_is_kept_exactly(name: str, tmp_path: Path) -> None:
    """All bit patterns of small types, random ones of the others, NaNs with payloads among them."""
    width = dtypes.itemsize(name)
    data = bytes(range(256)) * width if width == 1 else np.random.default_rng(0).bytes(512 * width)
    if name == "bool":
        data = bytes([0, 1, 1, 0] * 64)
    count = len(data) // width
    array = Array("a", (2, count // 2), name, Bytes(data))
    item = write.Item("t", dtypes.code(name), array.shape, array, View.whole(array.shape))
    with written(tmp_path / "out", [item]) as bundle:
        assert bundle["t"].tobytes() == data
        assert str(bundle["t"].dtype) == name
        assert bundle["t"].shape == array.shape
        assert bundle.manifest["tensors"]["t"]["sha256"] == hashlib.sha256(data).hexdigest()


@settings(max_examples=30)
@given(st.data())
def test_bundles_hold_what_their_views_take(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    items, wanted = [], {}
    for i in range(data.draw(st.integers(1, 5))):
        view, array = data.draw(chains())
        source, numbers, _ = stored(625, data.draw(st.sampled_from(["float64", "float32", "int16", "uint8"])))
        items.append(write.Item(f"t{i}", dtypes.code(source.dtype), view.shape, source, view))
        wanted[f"t{i}"] = view.take(numbers)
    items.sort(key=lambda item: -dtypes.itemsize(str(dtypes.name_of(item.dtype))))
    limit = data.draw(st.sampled_from([1, 100, 1 << 30]))
    folder = tmp_path_factory.mktemp("law") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_PAYS", data.draw(st.sampled_from([0, 1 << 30])))
        bundle = written(folder, items, limit=limit)
    with bundle:
        assert list(bundle) == [item.name for item in items]
        for name, array in wanted.items():
            assert bundle[name].tobytes() == np.ascontiguousarray(array).tobytes()
            assert bundle[name].shape == array.shape


def test_strides_are_those_of_numpy() -> None:
    for shape in [(), (3,), (2, 3), (4, 1, 5), (0, 2)]:
        strides = np.empty(shape, np.uint8).strides
        assert math.prod(shape) == 0 or c_strides(shape) == strides
