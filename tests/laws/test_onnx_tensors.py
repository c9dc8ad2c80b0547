"""Tensors of ONNX files come back bit for bit, of every type and however they are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from rebuild import rebuilt

import wexport
from wexport import dtypes
from wexport.describe import describe
from wexport.layout import Rule
from wexport.model import Array, Layer, LeftOut, Model, Weight
from wexport.planning import make_plan
from wexport.readers.onnx import container, skeleton, tensors, wire
from wexport.readers.onnx.container import Container, open_container
from wexport.readers.onnx.tensors import read_small
from wexport.storage import Bytes, SourceFile
from wexport.write import Item, write_bundle

KNOWN = {number: name for name, number in TensorProto.DataType.items() if name not in {"UNDEFINED", "STRING"}}
STORED = [number for number in KNOWN if number in tensors.TYPES and dtypes.is_stored(tensors.TYPES[number][0])]
SHAPES = [(3,), (5, 7), (), (0,), (2, 0, 3), (40, 5, 9), (1, 1, 301)]
Open = Callable[..., Container]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Writes a model with some initializers, and opens it."""
    found: list[Container] = []

    def make(*initializers: TensorProto, nodes: tuple[Any, ...] = (), name: str = "m.onnx") -> Container:
        graph = helper.make_graph(list(nodes), "graph", [], [], list(initializers))
        path = tmp_path / name
        path.write_bytes(helper.make_model(graph).SerializeToString())
        found.append(open_container(path, SourceFile(path)))
        return found[-1]

    yield make
    for one in found:
        one.close()


def noise(data_type: int, shape: tuple[int, ...], seed: int = 0) -> bytes:
    """Any bit patterns, as raw data of this type; the last byte is not used beyond the last element."""
    name, count = tensors.TYPES[data_type][0], math.prod(shape)
    data = np.random.default_rng(seed).integers(0, 256, dtypes.nbytes(name, count), np.uint8)
    if name == "bool":
        data &= 1
    if used := count * dtypes.bits(name) % 8:
        data[-1] &= (1 << used) - 1
    return data.tobytes()


def raw(data_type: int, shape: tuple[int, ...], name: str = "t", seed: int = 0) -> TensorProto:
    """A tensor with raw data."""
    return TensorProto(name=name, data_type=data_type, dims=shape, raw_data=noise(data_type, shape, seed))


def typed(tensor: TensorProto) -> TensorProto:
    """The same tensor with its elements in the field for its type."""
    name, number = tensors.TYPES[tensor.data_type]
    other = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    if number in {wire.FLOATS, wire.DOUBLES}:  # past Python's floats, which change signalling NaN
        return TensorProto.FromString(other.SerializeToString() + field(number, tensor.raw_data))
    codes = np.frombuffer(tensor.raw_data, dtypes.mover(name))
    if dtypes.bits(name) == 6:
        codes = np.array(numpy_helper.to_array(tensor)).view(np.uint8).reshape(-1)
    if dtypes.bits(name) >= 8 and name.startswith("int"):
        codes = codes.view(name)
    elif number == wire.INT32S:
        codes = codes.astype(np.int32)
    getattr(other, tensors.FIELDS[number]).extend(codes.tolist())
    return other


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def field(number: int, data: bytes) -> bytes:
    """A field of bytes in the wire format."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def array(file: Container, tensor: TensorProto | None = None) -> Array:
    found = file.array(file.proto.graph.initializer[0] if tensor is None else tensor, "t")
    assert isinstance(found, Array)
    return found


def same(found: Array, tensor: TensorProto) -> None:
    """An array is what ONNX's own reader makes of a tensor."""
    want = numpy_helper.to_array(tensor)
    got = read_small(found)
    assert got.shape == want.shape == found.shape
    if dtypes.bits(found.dtype) < 8 or found.dtype in dtypes._ML:
        want = want.astype(got.dtype)
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("data_type", STORED, ids=KNOWN.get)
def test_every_type(data_type: int, shape: tuple[int, ...], opened: Open) -> None:
    tensor = raw(data_type, shape)
    for one in (tensor, typed(tensor)):
        found = array(opened(one))
        assert found.bytes() == tensor.raw_data
        assert (found.shape, found.dtype) == (shape, tensors.TYPES[data_type][0])
        same(found, tensor)


@pytest.mark.parametrize("as_raw", [True, False])
@pytest.mark.parametrize("data_type", STORED, ids=KNOWN.get)
def test_tensors_as_onnx_makes_them(data_type: int, as_raw: bool, opened: Open) -> None:
    numbers = (np.arange(301) % 2).astype(helper.tensor_dtype_to_np_dtype(data_type))
    made = numpy_helper.from_array(numbers, "t"), helper.make_tensor("t", data_type, (301,), numbers)
    tensor = made[not as_raw]
    same(array(opened(tensor)), tensor)


def test_every_type_of_onnx_is_known() -> None:
    assert set(KNOWN) | {TensorProto.STRING} <= set(tensors.TYPES)
    for number, name in tensors.FIELDS.items():
        assert TensorProto.DESCRIPTOR.fields_by_name[name].number == number
    for number, name in KNOWN.items():
        assert tensors.FIELDS[tensors.TYPES[number][1]] == helper.tensor_dtype_to_field(number), name


def test_what_no_tensor_can_hold_is_left_out(opened: Open) -> None:
    words = helper.make_tensor("t", TensorProto.STRING, (2,), [b"a", b"b"])
    wide = helper.make_tensor("u", TensorProto.COMPLEX128, (1,), [1 + 2j])
    file = opened(words, wide)
    assert [file.array(t, t.name) for t in file.proto.graph.initializer] == [
        LeftOut("t", (2,), "string is no type that a tensor can have"),
        LeftOut("u", (1,), "complex128 is no type that a tensor can have"),
    ]


@pytest.mark.parametrize("count", [3, 1000])
def test_numbers_that_are_not_packed(count: int, tmp_path: Path) -> None:
    """As writers of other languages may do: every number with a tag of its own."""
    floats = np.random.default_rng(0).random(count, np.float32)
    ints = [-(3**k) if k % 2 else 5**k for k in range(27)] * (count // 27 + 1)
    for data_type, values, body in (
        (TensorProto.FLOAT, floats.tobytes(), b"".join(b"\x25" + v.tobytes() for v in floats)),
        (
            TensorProto.INT64,
            np.array(ints[:count]).tobytes(),
            b"".join(b"\x38" + varint(v & (1 << 64) - 1) for v in ints[:count]),
        ),
    ):
        tensor = TensorProto(name="t", data_type=data_type, dims=[count]).SerializeToString() + body
        (tmp_path / "m.onnx").write_bytes(b"\x08\x0a" + field(7, field(5, tensor)))
        with SourceFile(tmp_path / "m.onnx") as file:
            assert array(open_container(tmp_path / "m.onnx", file)).bytes() == values


@given(st.lists(st.one_of(st.integers(0, 127), st.integers(0, (1 << 64) - 1)), min_size=1), st.data())
def test_numbers_of_varying_length_are_read_anywhere(numbers: list[int], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_BLOCK", data.draw(st.integers(10, 40)))
        found = tensors.Varints(Bytes(b"".join(map(varint, numbers))), len(numbers), 8, "t")
    want = np.array(numbers, "<u8").tobytes()
    assert found.size == len(want)
    for _ in range(3):
        start = data.draw(st.integers(0, len(want)))
        buffer = bytearray(data.draw(st.integers(0, len(want) - start)))
        found.read_into(memoryview(buffer), start)
        assert buffer == want[start : start + len(buffer)]


def test_tensors_everywhere_in_a_model(opened: Open) -> None:
    """In nodes, in graphs in nodes, in functions, in training; small ones and large ones."""

    def constant(seed: int) -> Any:
        return helper.make_node("Constant", [], [f"c{seed}"], value=raw(1, (1 + seed % 2 * 3000,), f"c{seed}", seed))

    def graph(seed: int, *nodes: Any) -> Any:
        return helper.make_graph([constant(seed), *nodes], "g", [], [], [raw(7, (600,), f"i{seed}", seed)])

    inner = helper.make_node("If", ["x"], ["y"], then_branch=graph(1), else_branch=graph(3))
    outer = helper.make_node("If", ["x"], ["y"], then_branch=graph(5, inner), else_branch=graph(2))
    several = helper.make_node("Other", [], ["z"], many=[raw(1, (900,), "m1", 1), raw(1, (2,), "m2", 2)])
    several.attribute.append(helper.make_attribute("graphs", [graph(7), graph(9)]))
    function = helper.make_function("d", "F", [], ["c11"], [constant(11)], [])
    model = helper.make_model(graph(13, outer, several), functions=[function])
    model.training_info.add(initialization=graph(15), algorithm=graph(17))
    file = opened()
    file.path.write_bytes(model.SerializeToString())
    with SourceFile(file.path) as source:
        found = open_container(file.path, source)
        pairs = list(zip(proto_tensors(found.proto), proto_tensors(model), strict=True))
        assert len(pairs) == 21
        for one, other in pairs:
            assert array(found, one).bytes() == other.raw_data
            assert one.name == other.name
    for message in (model, found.proto):
        for tensor in proto_tensors(message):
            tensor.ClearField("raw_data")
    assert found.proto == model


def proto_tensors(message: Any) -> Iterator[TensorProto]:
    for about, value in message.ListFields():
        if about.type == about.TYPE_MESSAGE:
            for one in [value] if hasattr(value, "DESCRIPTOR") else value:
                if isinstance(one, TensorProto):
                    yield one
                else:
                    yield from proto_tensors(one)


def test_no_way_to_a_tensor_is_missed() -> None:
    """The messages that the walk goes into are all of those from which protobuf can reach a TensorProto."""
    reach: dict[str, dict[int, str]] = {}

    def leads(about: Any) -> bool:
        if about.name not in reach:
            reach[about.name] = {}
            for part in about.fields:
                if part.message_type and (part.message_type.name == "TensorProto" or leads(part.message_type)):
                    once = hasattr(getattr(onnx, about.name)(), part.name) and not is_repeated(about.name, part.name)
                    reach[about.name][part.number] = part.message_type.name + ("!" if once else "")
        return bool(reach[about.name]) or about.name in {"GraphProto", "AttributeProto", "NodeProto"}

    leads(onnx.ModelProto.DESCRIPTOR)
    ours = {
        wire_name(kind): {n: wire_name(inner.rstrip("!")) + "!" * inner.endswith("!") for n, inner in fields.items()}
        for kind, fields in skeleton.NESTING.items()
        if kind != "Tensor"
    }
    assert ours == {name: fields for name, fields in reach.items() if fields}


def is_repeated(message: str, name: str) -> bool:
    return hasattr(getattr(getattr(onnx, message)(), name), "extend")


def wire_name(kind: str) -> str:
    return {"Sparse": "SparseTensorProto", "Training": "TrainingInfoProto"}.get(kind, f"{kind}Proto")


@pytest.mark.parametrize("places", [(4,), (4, 2)])
def test_sparse_tensors(places: tuple[int, ...], opened: Open) -> None:
    indices = np.arange(math.prod(places)).reshape(places)
    sparse = onnx.SparseTensorProto(dims=[30, 20])
    sparse.values.CopyFrom(raw(1, (4,)))
    sparse.indices.CopyFrom(numpy_helper.from_array(indices))
    values, found, dims = opened().sparse(sparse, "s")
    assert isinstance(values, Array)
    assert isinstance(found, Array)
    assert (values.key, found.key, dims) == ("s", "s.indices", (30, 20))
    assert values.bytes() == sparse.values.raw_data
    np.testing.assert_array_equal(read_small(found), indices)


def test_data_beside_the_model(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(bytes(range(64)))
    (tmp_path / "other").write_bytes(b"\x21\x43")
    places = [
        ({"location": "sub/w.bin", "offset": "8", "length": "16", "checksum": "0"}, 1, (4,), bytes(range(8, 24))),
        ({"location": "./sub/w.bin", "offset": "0"}, 2, (2, 2), bytes(range(4))),
        ({"location": "sub/w.bin"}, 11, (8,), bytes(range(64))),
        ({"location": "other", "length": "2"}, 21, (3,), b"\x21\x43"),
        ({"location": "other", "offset": "2"}, 1, (0,), b""),
    ]
    file = opened(*(beside(entries, data_type, shape) for entries, data_type, shape, _ in places))
    assert file.files() == (file.file,)
    for tensor, (_, _, _, data) in zip(file.proto.graph.initializer, places, strict=True):
        assert array(file, tensor).bytes() == data
    assert [f.path.name for f in file.files()] == ["m.onnx", "w.bin", "other"]


def beside(entries: dict[str, str], data_type: int = 1, shape: tuple[int, ...] = (4,)) -> TensorProto:
    """A tensor whose data are in another file."""
    tensor = TensorProto(name="t", data_type=data_type, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("data_type", STORED, ids=KNOWN.get)
def test_every_type_through_a_bundle(data_type: int, opened: Open, tmp_path: Path) -> None:
    """The tensor's type, what the manifest says of it, and the stored bytes put together again."""
    tensor = raw(data_type, (5, 7))
    stored = array(opened(tensor))
    rule = Rule.parse("out in -> kernel: in out")
    layer = Layer("layer", "unknown", "Op", weights=(Weight(stored, rule),))
    plan = make_plan(Model("m", "onnx", None, {"file": "m", "format": "onnx", "bytes": 1}, {}, {}, (layer,), ()))
    items = [Item(t.name, t.dtype, t.shape, t.array, t.view) for t in plan.tensors]
    write_bundle(tmp_path, describe(plan), items, 1 << 30, lambda size: None)
    with wexport.open(tmp_path) as bundle:
        entry, weight = bundle.manifest["tensors"]["layer.kernel"], bundle.manifest["weights"]["t"]
        assert (weight["shape"], weight["dtype"]) == ([5, 7], stored.dtype)
        held = dtypes.held_as(stored.dtype)
        assert entry.get("stored_as") == (None if held == stored.dtype else stored.dtype)
        assert entry["dtype"] == dtypes.code(held)
        assert rebuilt(bundle, "t").tobytes() == tensor.raw_data
        want = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
        if dtypes.bits(stored.dtype) < 8 and "int" in stored.dtype:
            want = want.astype(held)
        assert bundle["layer.kernel"].tobytes() == want.tobytes()


def test_few_elements_only_are_read_as_a_constant(opened: Open) -> None:
    found = array(opened(raw(1, (300,))))
    assert read_small(found, 300).shape == (300,)
    with pytest.raises(wexport.WexportError, match="t: has 300 elements"):
        read_small(found, 299)


def test_onnx_is_loaded_by_one_room_only() -> None:
    assert container.onnx is onnx
    assert not hasattr(wire, "onnx")
    assert not hasattr(tensors, "onnx")
