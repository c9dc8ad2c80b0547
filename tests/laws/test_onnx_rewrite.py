"""New data go into a copy of an ONNX file as protobuf itself would have written them, and nothing else changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import Case, onnx_cases
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper
from test_onnx_tensors import KNOWN, SHAPES, STORED, field, noise, raw, typed, varint

from wexport.errors import SourceError
from wexport.layers.onnx import ATTRIBUTES
from wexport.model import LeftOut
from wexport.readers import open_model
from wexport.readers.onnx import encode, splice
from wexport.readers.onnx.container import open_container
from wexport.readers.onnx.graph import read_graph
from wexport.readers.onnx.rewrite import rewrite
from wexport.storage import Bytes, SourceFile

CASES = onnx_cases()
files = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
_NUMBERS = {"value_float", "value_int", "value_floats", "value_ints"}


def graph_of(path: Path) -> tuple[dict[str, bytes], list[LeftOut]]:
    """All that a model file stores, by key, and what is left out."""
    with SourceFile(path) as file:
        container = open_container(path, file)
        try:
            graph = read_graph(container)
            return {key: bytes(array.bytes()) for key, array in graph.arrays.items()}, graph.left_out
        finally:
            container.close()


def arrays(path: Path) -> dict[str, bytes]:
    return graph_of(path)[0]


def of_model(path: Path) -> dict[str, tuple[str, bytes]]:
    """The types and bytes of the arrays that a bundle has."""
    model = open_model(path)
    found = [w.array for layer in model.layers for w in layer.weights] + [c.array for c in model.constants]
    result = {array.key: (array.dtype, bytes(array.bytes())) for array in found}
    for file in model.files:
        file.close()
    return result


def rewritten(path: Path, changed: Mapping[str, bytes], place: Path) -> bytes:
    """The copy of a model."""
    place.mkdir(exist_ok=True)
    rewrite(path, {key: Bytes(data) for key, data in changed.items()}, place, "copy.onnx")
    return (place / "copy.onnx").read_bytes()


def locations(path: Path) -> set[str]:
    """The files beside a model."""
    model = onnx.load(path, load_external_data=False)
    return {e.value for t in tensors(model) for e in t.external_data if e.key == "location"}


def messages(message: Any) -> Iterator[Any]:
    """A message and all that are in it."""
    yield message
    for about, value in message.ListFields():
        if about.type == about.TYPE_MESSAGE:
            for one in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(one)


def tensors(message: Any) -> list[TensorProto]:
    return [m for m in messages(message) if isinstance(m, TensorProto)]


# -- files of other programs --


@files
def test_nothing_changed(case: Case, tmp_path: Path) -> None:
    assert rewritten(case.path, {}, tmp_path) == case.path.read_bytes()
    beside = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} - {"copy.onnx"}
    assert beside == locations(case.path)
    for name in beside:
        assert (tmp_path / name).read_bytes() == (case.path.parent / name).read_bytes()


@files
def test_everything_changed(case: Case, tmp_path: Path) -> None:
    """Protobuf writes the same model with other data; the arrays of that one make of the first one the other."""
    model = onnx.load(case.path, load_external_data=False)
    source = onnx.load(case.path, load_external_data=False)
    other = tmp_path / "other" / "copy.onnx"
    other.parent.mkdir()
    for name in locations(case.path):
        (other.parent / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(case.path.parent / name, other.parent / name)
    for message in messages(model):
        if isinstance(message, TensorProto):
            change(message, other.parent)
        elif isinstance(message, onnx.NodeProto):
            change_numbers(message)
    other.write_bytes(model.SerializeToString())
    (old, left_out), new = graph_of(case.path), arrays(other)
    assert old.keys() == new.keys()
    assert all(old[key] != new[key] for key in old if old[key])
    found = rewritten(case.path, new, tmp_path / "place")
    assert arrays(tmp_path / "place" / "copy.onnx") == new
    unread = 0
    got = onnx.ModelProto.FromString(found)
    for one, want, before in zip(tensors(got), tensors(model), tensors(source), strict=True):
        if one != want:
            assert one == before
            want.CopyFrom(before)
            unread += 1
    assert unread <= len(left_out)
    assert got == model
    if source.SerializeToString() == case.path.read_bytes():
        assert found == model.SerializeToString()
    for name in locations(case.path):
        assert (tmp_path / "place" / name).read_bytes() == (other.parent / name).read_bytes()


def test_most_files_are_compared_byte_by_byte() -> None:
    canonical = [onnx.load(c.path, load_external_data=False).SerializeToString() == c.path.read_bytes() for c in CASES]
    assert sum(canonical) >= 0.9 * len(CASES)


def change(tensor: TensorProto, folder: Path) -> None:
    """Other data of the same form."""
    if tensor.raw_data:
        tensor.raw_data = bytes(b ^ 1 for b in reversed(tensor.raw_data))
    for name in ("float_data", "double_data"):
        numbers = getattr(tensor, name)
        numbers[:] = [1.5 - n for n in reversed(numbers)]
    signed = tensor.data_type in {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32}
    tensor.int32_data[:] = [~n if signed else n ^ 1 for n in reversed(tensor.int32_data)]
    tensor.int64_data[:] = [~n for n in reversed(tensor.int64_data)]
    tensor.uint64_data[:] = [n ^ 1 for n in reversed(tensor.uint64_data)]
    entries = {e.key: e.value for e in tensor.external_data}
    if entries:
        path, start = folder / entries["location"], int(entries.get("offset", 0))
        data = bytearray(path.read_bytes())
        end = start + int(entries["length"])
        data[start:end] = bytes(b ^ 1 for b in reversed(data[start:end]))
        path.write_bytes(data)


def change_numbers(node: onnx.NodeProto) -> None:
    weights = ATTRIBUTES.get((node.domain, node.op_type), frozenset())
    for attribute in node.attribute:
        constant = node.op_type == "Constant" and not node.domain and attribute.name in _NUMBERS
        if not constant and not (
            attribute.name in weights and attribute.type in {AttributeProto.FLOATS, AttributeProto.INTS}
        ):
            continue
        if attribute.type == AttributeProto.FLOAT:
            attribute.f = 1.5 - attribute.f
        if attribute.type == AttributeProto.INT:
            attribute.i = ~attribute.i
        attribute.floats[:] = [1.5 - n for n in reversed(attribute.floats)]
        attribute.ints[:] = [~n for n in reversed(attribute.ints)]


def accepted(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError):
        return False
    return True


@files
def test_some_of_a_models_arrays(case: Case, tmp_path: Path) -> None:
    old = of_model(case.path)
    weights = [key for key, (dtype, data) in old.items() if dtype.startswith("float") and len(data) > 16]
    changed = {key: old[key][1][::-1] for key in weights[::2]}
    rewritten(case.path, changed, tmp_path)
    new = of_model(tmp_path / "copy.onnx")
    assert new == {key: (dtype, changed.get(key, data)) for key, (dtype, data) in old.items()}
    assert accepted(tmp_path / "copy.onnx") == accepted(case.path)


# -- every form of every field --

Content = Callable[[int], bytes]  # a model with data that a seed gives


def check(content: Content, place: Path, kept: int = 0) -> dict[str, bytes]:
    """A model with the data of one seed becomes the one with those of another; `kept` arrays are equal in both."""
    (place / "a").mkdir()
    (place / "a" / "m.onnx").write_bytes(content(1))
    (place / "b.onnx").write_bytes(content(2))
    old, new = arrays(place / "a" / "m.onnx"), arrays(place / "b.onnx")
    changed = {key: data for key, data in new.items() if data != old[key]}
    assert len(changed) == len(new) - kept
    assert rewritten(place / "a" / "m.onnx", {}, place / "same") == content(1)
    assert rewritten(place / "a" / "m.onnx", changed, place / "c") == content(2)
    return new


def initializers(*found: TensorProto | bytes) -> bytes:
    parts = [t if isinstance(t, bytes) else t.SerializeToString() for t in found]
    return b"\x08\x0a" + field(7, b"".join(field(5, part) for part in parts))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("data_type", STORED, ids=KNOWN.get)
def test_every_type(data_type: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    def content(seed: int) -> bytes:
        first, last = (raw(data_type, shape, name, seed) for name in "ab")
        if seed == 2 and 0 not in shape:  # one short element might be the same by chance
            first.raw_data = last.raw_data = bytes([noise(data_type, shape, 1)[0] ^ 1]) + first.raw_data[1:]
        return initializers(raw(1, (70,), "w"), first, typed(last), raw(1, (3,), "v"))

    check(content, tmp_path, 4 if 0 in shape else 2)


def unsigned(value: int) -> bytes:
    return varint(value & (1 << 64) - 1)


def loose(number: int, kind: int, values: list[bytes]) -> bytes:
    """Numbers that are not packed."""
    return b"".join(varint(number << 3 | kind) + v for v in values)


def numbers(data_type: int, count: int, seed: int) -> tuple[int, int, list[bytes]]:
    """The field, its wire type when not packed, and the numbers as they stand there."""
    rng = np.random.default_rng(seed)
    if data_type == TensorProto.FLOAT:
        return 4, 5, [v.tobytes() for v in rng.random(count, np.float32)]
    if data_type == TensorProto.COMPLEX64:
        return 4, 5, [v.tobytes() for v in rng.random(count * 2, np.float32)]
    if data_type == TensorProto.DOUBLE:
        return 10, 1, [v.tobytes() for v in rng.random(count)]
    if data_type == TensorProto.UINT64:
        return 11, 0, [unsigned(int(v) >> int(v) % 60) for v in rng.integers(0, 1 << 64, count, np.uint64)]
    if data_type == TensorProto.INT64:
        return 7, 0, [unsigned(int(v) >> abs(int(v)) % 60) for v in rng.integers(-(1 << 63), 1 << 63, count)]
    if data_type == TensorProto.FLOAT16:
        return 5, 0, [unsigned(int(v)) for v in rng.integers(0, 1 << 16, count)]
    return 5, 0, [unsigned(int(v)) for v in rng.integers(-128, 128, count)]


TYPED = [1, 3, 5, 6, 7, 10, 11, 13, 14]


@pytest.mark.parametrize("count", [1, 3, 1000, 30_000])
@pytest.mark.parametrize("data_type", TYPED, ids=KNOWN.get)
def test_numbers_that_are_not_packed(
    data_type: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_BLOCK", 999)
    monkeypatch.setattr(splice, "_BLOCK", 4097)

    def content(seed: int) -> bytes:
        head = TensorProto(name="t", data_type=data_type, dims=[count]).SerializeToString()
        return initializers(head + loose(*numbers(data_type, count, seed)) + b"\xa2\x06\x01a")

    check(content, tmp_path)


@pytest.mark.parametrize("data_type", TYPED, ids=KNOWN.get)
def test_numbers_in_several_rows(data_type: int, tmp_path: Path) -> None:
    """Packed or not, with other fields between them: a parser takes them all."""

    def content(seed: int) -> bytes:
        number, kind, values = numbers(data_type, 10, seed)
        rows = [field(number, b"".join(values[:4])), loose(number, kind, values[4:7]), field(8, b"last")]
        rows += [field(number, b""), field(number, b"".join(values[7:]))]
        head = TensorProto(data_type=data_type, dims=[10]).SerializeToString()
        return initializers(head + b"".join(rows), raw(1, (2,)))

    check(content, tmp_path, 1)


def test_what_is_written_in_more_bytes_than_it_needs(tmp_path: Path) -> None:
    """Lengths and tags of more bytes, fields of later versions, a name set twice: all as they were."""

    def long(value: int) -> bytes:
        return bytes([value & 127 | 128, value >> 7 & 127 | 128, value >> 14 | 128, 0])

    def content(seed: int) -> bytes:
        one = TensorProto(dims=[9], data_type=1).SerializeToString()
        one += field(8, b"x") + field(8, b"one") + b"\xca\x80\x00" + long(36) + noise(1, (9,), seed)
        other = b"\x10\x07" + field(8, b"other") + loose(1, 0, [b"\x85\x80\x00"]) + b"\x3a" + long(10)
        other += bytes([255, 1] * 5)
        parts = b"".join(b"\x2a" + long(len(t)) + t for t in (one, other))
        return field(9000, b"later") + b"\x3a" + long(len(parts)) + parts + b"\x08\x8a\x00" + field(9001, b"")

    check(content, tmp_path, 1)


def test_raw_data_twice(tmp_path: Path) -> None:
    def content(seed: int) -> bytes:
        head = TensorProto(name="t", data_type=1, dims=[3]).SerializeToString()
        return initializers(head + field(9, b"0123456789ab") + field(9, noise(1, (3,), seed)))

    check(content, tmp_path)


def test_only_lengths_around_what_grows_are_written_anew(tmp_path: Path) -> None:
    def content(seed: int) -> bytes:
        def long(length: int) -> bytes:
            return bytes([length | 128, 0])

        head = TensorProto(name="a", dims=[1], data_type=7).SerializeToString()
        kept = TensorProto(name="b", dims=[1], data_type=7).SerializeToString() + b"\x3a" + long(2) + b"\x83\x00"
        grown = head + b"\x3a" + (long(1) + b"\3" if seed == 1 else varint(5) + varint(1 << 28))
        parts = b"\x2a" + (long if seed == 1 else varint)(len(grown)) + grown + b"\x2a" + long(len(kept)) + kept
        return b"\x3a" + (long if seed == 1 else varint)(len(parts)) + parts + b"\x08\x0a"

    check(content, tmp_path, 1)


def attribute(name: str, kind: int, body: bytes, before: bytes = b"") -> bytes:
    return before + field(1, name.encode()) + body + varint(20 << 3) + varint(kind)


def constant(output: str, *attributes: bytes) -> bytes:
    return field(2, output.encode()) + field(4, b"Constant") + b"".join(field(5, a) for a in attributes)


def nodes(*found: bytes) -> bytes:
    return b"\x08\x0a" + field(7, b"".join(field(1, node) for node in found))


@pytest.mark.parametrize("count", [1, 5, 2000])
def test_numbers_of_constants(count: int, tmp_path: Path) -> None:
    def content(seed: int) -> bytes:
        _, _, floats = numbers(1, count, seed)
        _, _, ints = numbers(7, count, seed)
        return nodes(
            constant("f", attribute("value_float", 1, loose(2, 5, floats[:1]))),
            constant("i", attribute("value_int", 2, loose(3, 0, ints[:1]), before=field(13, b"text"))),
            constant("fs", attribute("value_floats", 6, loose(7, 5, floats))),
            constant("is", attribute("value_ints", 7, loose(8, 0, ints))),
            constant("packed_fs", attribute("value_floats", 6, field(7, b"".join(floats)))),
            constant("packed_is", attribute("value_ints", 7, field(8, b"".join(ints)))),
            constant("none", attribute("value_floats", 6, b"")),
        )

    new = check(content, tmp_path, 1)
    assert list(new) == ["f", "i", "fs", "is", "packed_fs", "packed_is", "none"]


def test_single_numbers_that_are_not_there_or_there_twice(tmp_path: Path) -> None:
    """Some writers leave out a zero; of several, the last one counts; one of another wire type is none."""

    def content(seed: int) -> bytes:
        _, _, (one, two) = numbers(1, 2, seed)
        _, _, (three,) = numbers(7, 1, seed)
        first = seed == 1
        return nodes(
            constant("f", attribute("value_float", 1, b"") + (b"" if first else loose(2, 5, [one]))),
            constant("i", attribute("value_int", 2, b"") + (b"" if first else loose(3, 0, [three]))),
            constant("s", attribute("value_float", 1, field(2, b"abcd")) + (b"" if first else loose(2, 5, [one]))),
            constant(
                "f2", attribute("value_float", 1, loose(2, 5, [b"abcd"] * 2)) + (b"" if first else loose(2, 5, [two]))
            ),
        )

    check(content, tmp_path)


def test_arrays_everywhere_in_a_model(tmp_path: Path) -> None:
    """In bodies in bodies, in functions, in lists of an attribute, sparse ones; equal names in different places."""

    def content(seed: int) -> bytes:
        def ints(name: str, extra: int) -> TensorProto:
            """Numbers of other lengths for each seed."""
            values = [-(3**n) if (n * seed + extra) % 3 else n << 7 * seed for n in range(39)]
            return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)

        def graph(extra: int, depth: str, *inner: Any) -> Any:
            made = helper.make_node("Constant", [], [f"c{extra}"], value=raw(1, (1 + extra * 60,), "c", seed + extra))
            both = [raw(1, (300,), f"w{depth}", seed + extra), ints(f"v{depth}", extra)]
            out = [helper.make_tensor_value_info(f"c{extra}", 1, None)]
            return helper.make_graph(
                [made, *inner], "g", [], out, both, sparse_initializer=[sparse(f"s{depth}", extra)]
            )

        def sparse(name: str, extra: int) -> Any:
            indices = helper.make_tensor("", TensorProto.INT64, [3], [seed, 5, 100 * seed])
            return helper.make_sparse_tensor(raw(1, (3,), name, seed + extra), indices, [300])

        inner = helper.make_node("If", ["x"], ["z"], "in", then_branch=graph(1, "_in"), else_branch=graph(2, "_in"))
        outer = helper.make_node(
            "If", ["x"], ["y"], "out", then_branch=graph(3, "_out", inner), else_branch=graph(4, "_out")
        )
        several = helper.make_node("Other", ["x"], ["o"], domain="d", many=[ints("", 1), raw(1, (2,), "", seed)])
        lists = [sparse("", 5), sparse("", 6)]
        several.attribute.append(AttributeProto(name="s", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=lists))
        trees = helper.make_node(
            "LinearRegressor", ["x"], ["l"], "linear", domain="ai.onnx.ml", coefficients=[0.1 * seed] * 90, targets=3
        )
        place = helper.make_node("Constant", [], ["p"], sparse_value=sparse("", 7))
        calls = [helper.make_node("F", ["x"], [f"k{n}"], f"f{n}", domain="d") for n in (1, 2)]
        body = [
            helper.make_node("Constant", [], ["k"], value=ints("", 2)),
            helper.make_node("Constant", [], ["n"], value_ints=[seed, -seed, 1 << 7 * seed]),
            helper.make_node("If", ["x"], ["r"], "in", then_branch=graph(5, ""), else_branch=graph(6, "")),
        ]
        opsets = [helper.make_opsetid("", 21)]
        functions = [helper.make_function("d", "F", ["x"], ["r"], body, opsets)]
        model = helper.make_model(graph(7, "", outer, several, trees, place, *calls), functions=functions)
        model.graph.input.append(helper.make_tensor_value_info("x", 9, []))
        model.training_info.add(initialization=helper.make_graph([], "t", [], [], [raw(1, (9,), "t")]))
        return bytes(model.SerializeToString())

    new = check(content, tmp_path)
    assert len(new) > 40
    some = {"w", "w_out", "out/then/w_out", "w_in", "out/then/in/then/w_in", "linear.coefficients", "o.many_1", "d.F/k"}
    assert some | {"p.indices", "d.F/r/then/w", "d.F/r/else/w", "d.F/r/else/s.indices"} <= set(new)


def test_one_place_with_several_keys(tmp_path: Path) -> None:
    """What a function's attribute is unless a call gives another is one array for every such call."""

    def content(seed: int) -> bytes:
        node = helper.make_node("Constant", [], ["k"])
        node.attribute.append(AttributeProto(name="value", type=AttributeProto.TENSOR, ref_attr_name="w"))
        default = helper.make_attribute("w", raw(1, (5,), "", seed))
        opsets = [helper.make_opsetid("", 21)]
        function = helper.make_function("d", "F", [], ["k"], [node], opsets, attribute_protos=[default])
        calls = [helper.make_node("F", [], [f"k{n}"], f"f{n}", domain="d") for n in (1, 2)]
        calls.append(helper.make_node("F", [], ["k3"], "f3", domain="d", w=raw(1, (6,), "", seed)))
        graph = helper.make_graph(calls, "g", [], [helper.make_tensor_value_info(f"k{n}", 1, None) for n in (1, 2, 3)])
        return bytes(helper.make_model(graph, functions=[function]).SerializeToString())

    new = check(content, tmp_path)
    source = tmp_path / "a" / "m.onnx"
    one, two, three = sorted(new)
    assert rewritten(source, {one: new[one], two: new[one]}, tmp_path / "alike") != content(1)
    assert arrays(tmp_path / "alike" / "copy.onnx") == {**new, three: arrays(source)[three]}
    for changed in ({one: new[one]}, {two: new[two]}, {**new, two: bytes(20)}):
        with pytest.raises(SourceError, match=r"is the same part of the file as .*; change both alike"):
            rewritten(source, changed, tmp_path / "refused")


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(initializers(raw(1, (5,), "a"), raw(7, (2,), "b")))
    for key, size, match in (
        ("a", 16, "m.onnx: tensor 'a': cannot take 16 bytes, expected 20 as it has them"),
        ("a", 24, "cannot take 24 bytes, expected 20"),
        ("a", 0, "cannot take 0 bytes"),
        ("c", 20, "tensor 'c': is not in the model"),
    ):
        with pytest.raises(SourceError, match=match):
            rewritten(path, {"b": bytes(16), key: bytes(size)}, tmp_path / "place")
    assert not list((tmp_path / "place").iterdir())
    rewritten(path, {}, tmp_path / "place")
    with pytest.raises(FileExistsError):
        rewritten(path, {}, tmp_path / "place")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match="truncated or damaged"):
        rewritten(path, {}, tmp_path / "other")


FORMS = {"raw": None, "float_data": 1, "int32_data": 3, "int64_data": 7, "loose": 7, "constant": 7}


@given(st.data())
def test_random_changes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Tensors of any form and length in a model, some of which change: the lengths around them fit."""
    folder = tmp_path_factory.mktemp("random")
    sizes = st.one_of(st.integers(0, 20), st.integers(100, 160), st.sampled_from([400, 2000]))
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(sorted(FORMS)), sizes, st.booleans()), max_size=8))

    def content(seed: int) -> bytes:
        found, constants = [], []
        for i, (form, count, changes) in enumerate(drawn):
            rng = np.random.default_rng(i + 100 * seed * changes)
            bits = rng.integers(0, 64, count)
            ints = rng.integers(-(1 << 63), 1 << 63, count, np.int64) >> bits
            name = f"t{i}"
            if form == "raw":
                found.append(raw(1, (count,), name, i + 100 * seed * changes).SerializeToString())
            elif form == "constant":
                constants.append(helper.make_node("Constant", [], [name], value_ints=[0, *ints.tolist()]))
            elif form == "loose":
                head = TensorProto(name=name, data_type=7, dims=[count]).SerializeToString()
                found.append(head + loose(7, 0, [unsigned(int(v)) for v in ints]))
            else:
                values = {"float_data": rng.random(count), "int32_data": ints >> 56, "int64_data": ints}[form].tolist()
                tensor = TensorProto(name=name, data_type=FORMS[form] or 0, dims=[count])
                getattr(tensor, form).extend(values)
                found.append(tensor.SerializeToString())
        graph = helper.make_graph(constants, "g", [], []).SerializeToString()
        return b"\x08\x0a" + field(7, graph + b"".join(field(5, tensor) for tensor in found)) + field(2, b"me")

    (folder / "m.onnx").write_bytes(content(1))
    (folder / "b.onnx").write_bytes(content(2))
    old, new = arrays(folder / "m.onnx"), arrays(folder / "b.onnx")
    changed = {key: value for key, value in new.items() if value != old[key]}
    assert rewritten(folder / "m.onnx", changed, folder / "place") == content(2)
    shutil.rmtree(folder)
