"""ONNX files that are broken, ask for too much, or name files that are none of their business."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken import refused
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

import wexport
from wexport.model import Array
from wexport.readers.onnx import skeleton, wire
from wexport.readers.onnx.container import Container, open_container
from wexport.readers.onnx.wire import is_onnx
from wexport.storage import Bytes, SourceFile

IR = b"\x08\x0a"


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def field(number: int, data: bytes) -> bytes:
    """A field of bytes in the wire format."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def model(*tensors: TensorProto | bytes) -> bytes:
    """A model with these initializers, and so much text that its graph is no small message."""
    parts = [t if isinstance(t, bytes) else t.SerializeToString() for t in tensors]
    return IR + field(7, field(10, b"x" * 5000) + b"".join(field(5, part) for part in parts))


def tensor(dims: list[int], data_type: int = 1, **fields: Any) -> TensorProto:
    return TensorProto(name="W", dims=dims, data_type=data_type, **fields)


def opened(path: Path, content: bytes) -> Container:
    path.write_bytes(content)
    file = SourceFile(path)
    try:
        return open_container(path, file)
    except BaseException:
        file.close()
        raise


def array_of(path: Path, content: bytes) -> Array:
    """The first initializer; the files are closed if it is refused."""
    container = opened(path, content)
    try:
        found = container.array(container.proto.graph.initializer[0], "W")
        assert isinstance(found, Array)
        found.bytes()
        return found
    finally:
        container.close()


def deep(levels: int, padding: int) -> bytes:
    """Graphs in nodes in graphs."""
    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph))) + field(10, b"x" * padding)
    return IR + field(7, graph)


NO_MODELS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "no graph": (IR + field(2, b"pytorch"), "has no graph"),
    "field 0": (IR + b"\x02\x01a", "byte 2 has field number 0"),
    "huge field number": (IR + varint(1 << 35) + b"\0", "has field number 4,?294,?967,?296"),
    "group": (IR + b"\x3b\x3c", "byte 2 has wire type 3"),
    "wire type 7": (IR + b"\x3f\0", "byte 2 has wire type 7"),
    "length past the end": (IR + b"\x3a\x7f\x0a", "byte 2 has a field that ends at byte 131, past byte 5"),
    "length past everything": (IR + b"\x3a" + varint((1 << 63) - 1), "past byte 12"),
    "number without an end": (IR + b"\x28\xff\xff", "goes on past the end"),
    "number of eleven bytes": (IR + b"\x28" + b"\xff" * 10 + b"\x01" + field(7, b""), "more than ten bytes"),
    "half a number": (IR + field(7, b"") + b"\x0d\0", "past byte 6"),
    "length past its message": (
        IR + field(7, field(10, b"x" * 5000) + b"\x0a\x7f") + field(6, bytes(200)),
        "has a field that ends at byte 5,137, past byte 5,010",
    ),
    "row with a number of eleven bytes": (
        IR + field(7, field(1, field(5, b"\x40\1" * 3000 + b"\x40" + b"\xff" * 10 + b"\1" + b"\x40\1" * 90))),
        "more than ten bytes",
    ),
    "two graphs": (IR + field(7, b"") * 2, "field 7 of a ModelProto a second time"),
    "deep": (deep(40, 5000), "is nested too deeply"),
    "deep and small": (deep(60, 0), "cannot be decoded"),
    "bad inside": (IR + field(7, field(1, b"\x0a\x7f")), "cannot be decoded"),
    "bad name": (IR + field(7, field(1, field(1, b"\xff\xfe"))), "no UTF-8 text"),
    "raw data twice": (model(field(9, bytes(4)) + field(9, bytes(400))), "field 9. a second time"),
    "floats twice": (model(field(4, bytes(400)) + field(4, bytes(400))), "field 4. a second time"),
    "floats twice, packed and not": (model(b"\x25abcd" + field(4, bytes(400))), "field 4. a second time"),
    "floats twice, not packed first": (model(field(4, bytes(400)) + b"\x25abcd"), "field 4. a second time"),
    "tensor twice": (
        IR + field(7, field(1, field(5, field(5, field(9, bytes(5000))) * 2))),
        "field 5 of a AttributeProto a second time",
    ),
}


@pytest.mark.parametrize(("content", "match"), NO_MODELS.values(), ids=NO_MODELS)
def test_files_that_are_no_models(content: bytes, match: str, tmp_path: Path) -> None:
    with refused(match):
        opened(tmp_path / "m.onnx", content)


LARGE = bytes(4000)
TENSORS: dict[str, tuple[TensorProto | bytes, str]] = {
    "negative dim": (tensor([3, -4], raw_data=bytes(48)), r"dims \[3, -4\], expected none below 0"),
    "huge dims": (tensor([1 << 40, 1 << 40], raw_data=bytes(4)), "more than an array can have"),
    "huge dims with a zero": (tensor([1 << 62, 1 << 62, 0]), "more than an array can have"),
    "large dims": (tensor([1 << 40], raw_data=bytes(4)), "has 4 bytes of data in raw_data, expected 4,398,046,511,104"),
    "many dims": (tensor([1] * 10_000, raw_data=bytes(4)), "more than an array can have"),
    "short": (tensor([3, 4], raw_data=bytes(40)), "has 40 bytes of data in raw_data, expected 48"),
    "long": (tensor([3, 4], raw_data=bytes(52)), "has 52 bytes of data in raw_data, expected 48"),
    "short and large": (tensor([1001], raw_data=LARGE), "has 4,000 bytes of data in raw_data, expected 4,004"),
    "data of nothing": (tensor([0], raw_data=bytes(4)), "has 4 bytes of data in raw_data, expected 0"),
    "no data": (tensor([3]), r"has dims \[3\] but holds no data"),
    "no type": (tensor([1], 0, raw_data=bytes(4)), "element type 0"),
    "unknown type": (tensor([1], 99, raw_data=bytes(4)), "element type 99, expected 1 to 28"),
    "two kinds of data": (tensor([1], raw_data=bytes(4), float_data=[1]), "data in float_data and raw_data"),
    "two large kinds": (tensor([1000], raw_data=LARGE, float_data=[0] * 1000), "data in float_data and raw_data"),
    "two typed kinds": (tensor([1], int32_data=[1], float_data=[1]), "data in float_data and int32_data"),
    "wrong field": (tensor([1], 3, int64_data=[1]), "has int8 elements in int64_data, expected int32_data"),
    "wrong large field": (tensor([1000], 1, int64_data=[1] * 1000), "float32 elements in int64_data"),
    "few floats": (tensor([3], float_data=[1, 2]), "has 8 bytes of data in float_data, expected 12"),
    "few large floats": (tensor([3000], float_data=[1] * 2000), "has 8,000 bytes of data in float_data"),
    "few numbers": (tensor([3], 7, int64_data=[1, 2]), "holds 2 numbers, expected 3"),
    "few large numbers": (tensor([3000], 7, int64_data=[1] * 2000), "holds 2,000 numbers, expected 3,000"),
    "many numbers": (tensor([2], 7, int64_data=[1, 2, 3]), "holds 3 numbers, expected 2"),
    "many large numbers": (tensor([1000], 7, int64_data=[1] * 2000), "holds 2,000 numbers, expected 1,000"),
    "absurdly few numbers": (tensor([1 << 50], 7, int64_data=[1] * 2000), "holds 2,000 numbers"),
    "absurdly few six-bit numbers": (tensor([1 << 50], 27, int32_data=[1] * 2000), "holds 2,000 numbers"),
    "few packed numbers": (tensor([30], 22, int32_data=[1] * 14), "holds 14 numbers, expected 15"),
    "number without an end": (
        tensor([400], 7).SerializeToString() + field(7, b"\1" * 399 + b"\x81"),
        "holds 399 numbers|ends inside of a number",
    ),
    "endless number": (tensor([391], 7).SerializeToString() + field(7, b"\x81" * 10 + b"\1" * 391), "ten bytes"),
    "segments": (
        TensorProto(name="W", dims=[1], data_type=1, raw_data=bytes(4), segment=TensorProto.Segment(begin=0, end=1)),
        "stored in segments",
    ),
    "forged": (tensor([2], 2, raw_data=b"0" * 16 + b"0"), "has 17 bytes"),
}


@pytest.mark.parametrize(("content", "match"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_contradict_themselves(content: TensorProto | bytes, match: str, tmp_path: Path) -> None:
    tracemalloc.start()
    with refused(f"m.onnx: tensor 'W': .*({match})"):
        array_of(tmp_path / "m.onnx", model(content))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def beside(location: str | None, dims: tuple[int, ...] = (4,), **entries: str) -> TensorProto:
    """A tensor whose data are in another file."""
    found = tensor(list(dims), data_location=TensorProto.EXTERNAL)
    for key, value in ({} if location is None else {"location": location}).items() | entries.items():
        found.external_data.add(key=key, value=value)
    return found


OUTSIDE = [
    "/etc/passwd", "../secret", "sub/../../secret", "sub/../w.bin", "..", "C:\\w.bin", "C:w.bin", "..\\secret",
    "sub\\w.bin", "", ".", "w.bin\0", "//host/share",
]  # fmt: skip


@pytest.mark.parametrize("location", OUTSIDE)
def test_places_outside_of_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "w.bin").write_bytes(bytes(16))
    with refused("tensor 'W': .*expected a path inside of the model's folder; put the file beside the model"):
        array_of(folder / "m.onnx", model(beside(location)))


def link_file(folder: Path) -> str:
    (folder / "w").symlink_to(folder.parent / "secret")
    return "w"


def link_file_inside(folder: Path) -> str:
    (folder / "w").symlink_to("w.bin")
    return "w"


def link_folder(folder: Path) -> str:
    (folder / "sub").symlink_to(folder.parent, target_is_directory=True)
    return "sub/secret"


def link_nowhere(folder: Path) -> str:
    (folder / "w").symlink_to("nothing")
    return "w"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "w")
    return "w"


def directory(folder: Path) -> str:
    (folder / "w").mkdir()
    return "w"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (link_file, "behind a link"),
        (link_file_inside, "behind a link"),
        (link_folder, "behind a link"),
        (link_nowhere, "behind a link"),
        (pipe, "not a regular file"),
        (directory, "not a regular file"),
        (lambda _: "w.bin/more", "does not exist|directory"),
        (lambda _: "nothing", "'nothing': it does not exist; put the file beside the model"),
        (lambda _: "x" * 5000, "too long"),
        (lambda _: "x/" * 3000, "too long|does not exist"),
        (lambda _: "a\u202eb\nc", "does not exist"),
    ],
)
def test_files_that_are_none(make: Callable[[Path], str], match: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (folder / "w.bin").write_bytes(bytes(16))
    with refused(f"m.onnx: tensor 'W': .*({match})"):
        array_of(folder / "m.onnx", model(beside(make(folder))))


def test_hard_links_and_links_to_the_model_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "w").write_bytes(bytes(range(16)))
    os.link(tmp_path / "w", tmp_path / "a" / "w")
    (tmp_path / "a" / "m.onnx").symlink_to("../m.onnx")
    (tmp_path / "b").symlink_to("a", target_is_directory=True)
    (tmp_path / "m.onnx").write_bytes(content := model(beside("w")))
    assert array_of(tmp_path / "b" / "m.onnx", content).count == 4


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": "8"}, "ends at byte 24 of w.bin, which has 16"),
        ({"offset": "8", "length": "16"}, "ends at byte 24 of w.bin, which has 16"),
        ({"offset": "9" * 19}, "ends at byte 10,000,000,000,000,000,015"),
        ({"offset": "9" * 20}, "has offset '9+' of external data, expected a number"),
        ({"offset": "-1"}, "has offset '-1' of external data, expected a number"),
        ({"offset": "0x1"}, "expected a number"),
        ({"offset": ""}, "expected a number"),
        ({"offset": "\u0664"}, "expected a number"),
        ({"length": "1.5"}, "has length '1.5'"),
        ({"length": "12"}, "has a length of 12 bytes in w.bin, expected 16 for its dims"),
        ({"length": "17"}, "has a length of 17 bytes in w.bin, expected 16 for its dims"),
        ({"length": "0"}, "has a length of 0 bytes"),
    ],
)
def test_places_in_a_file(entries: dict[str, str], match: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with refused(f"tensor 'W': .*{match}"):
        array_of(tmp_path / "m.onnx", model(beside("w.bin", **entries)))


def test_data_beside_the_model_that_are_said_twice(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    twice = beside("w.bin")
    twice.external_data.add(key="location", value="../secret")
    with refused("names its external data twice"):
        array_of(tmp_path / "m.onnx", model(twice))
    both = beside("w.bin")
    both.raw_data = bytes(16)
    with refused("data both in the model and beside it"):
        array_of(tmp_path / "m.onnx", model(both))
    with refused("expected a path"):
        array_of(tmp_path / "m.onnx", model(beside(None)))
    with refused("more than an array can have"):
        array_of(tmp_path / "m.onnx", model(beside("w.bin", (1 << 60, 1 << 60))))


def sparse(values: list[int], indices: list[int], dims: list[int], index_type: int = 7) -> SparseTensorProto:
    found = SparseTensorProto(dims=dims)
    found.values.CopyFrom(numpy_helper.from_array(np.ones(values, np.float32), "W"))
    found.indices.CopyFrom(numpy_helper.from_array(np.ones(indices, helper.tensor_dtype_to_np_dtype(index_type))))
    return found


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (sparse([3], [4], [5, 6]), r"values of shape \[3\] at indices of shape \[4\] in dims \[5, 6\]"),
        (sparse([3], [3, 3], [5, 6]), "indices of shape"),
        (sparse([3, 1], [3, 1], [5]), "values of shape"),
        (sparse([3], [3], [5], TensorProto.FLOAT), "no whole numbers"),
        (sparse([3], [3], [-5]), "expected none below 0"),
        (SparseTensorProto(dims=[3]), "element type 0"),
    ],
)
def test_sparse_tensors_that_contradict_themselves(parts: SparseTensorProto, match: str, tmp_path: Path) -> None:
    container = opened(tmp_path / "m.onnx", model())
    with container.file, refused(f"tensor 'W.*{match}"):
        container.sparse(parts, "W")


def test_large_data_stay_in_the_file(tmp_path: Path) -> None:
    """A model of 1.5 GB with two tensors that are all hole."""
    raw, floats = 1 << 30, 1 << 29
    path = tmp_path / "m.onnx"
    one = tensor([raw // 4]).SerializeToString() + varint(9 << 3 | 2) + varint(raw)
    two = tensor([floats // 4]).SerializeToString() + varint(4 << 3 | 2) + varint(floats)
    heads = [b"\x2a" + varint(len(t) + n) + t for t, n in ((one, raw), (two, floats))]
    after = field(1, field(4, b"Relu"))
    graph = IR + b"\x3a" + varint(sum(map(len, heads)) + raw + floats + len(after))
    with path.open("wb") as out:
        out.write(graph + heads[0])
        out.seek(raw, os.SEEK_CUR)
        out.write(heads[1])
        out.seek(floats, os.SEEK_CUR)
        out.write(after)
    tracemalloc.start()
    started = time.process_time()
    with SourceFile(path) as file:
        assert is_onnx(file)
        container = open_container(path, file)
        found = [container.array(t, "t") for t in container.proto.graph.initializer]
    assert time.process_time() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert [t.storage.size for t in found if isinstance(t, Array)] == [raw, floats]
    assert container.proto.graph.node[0].op_type == "Relu"
    assert len(container.skeleton.data) < 1000


def test_many_small_things_are_read_soon(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], strides=[1, 1]) for i in range(10_000)]
    tree = helper.make_node("Tree", [], [], values=[0.5] * 300_000, ids=list(range(300_000)))
    tensors = [numpy_helper.from_array(np.zeros(100, np.float32), f"w{i}") for i in range(10_000)]
    content = helper.make_model(helper.make_graph([*nodes, tree], "g", [], [], tensors)).SerializeToString()
    started = time.process_time()
    container = opened(tmp_path / "m.onnx", content)
    assert time.process_time() - started < 2
    with container.file:
        assert len(container.skeleton.cuts) == 10_000
        assert container.proto.graph.node[-1] == tree


def test_fields_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = IR + field(7, b"\x0a\0\x12\0" * 2000)
    opened(tmp_path / "m.onnx", content).close()
    monkeypatch.setattr(wire, "_MOST_FIELDS", 1000)
    with refused("is not yet the end, after 1,000 fields"):
        opened(tmp_path / "m.onnx", content)
    monkeypatch.undo()
    monkeypatch.setattr(skeleton, "_LARGEST", 1000)
    with refused("is not yet the end, after 1,000 bytes"):
        opened(tmp_path / "m.onnx", content)


def whole() -> bytes:
    """A model with a bit of everything, large and small."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor([2000], float_data=[1.0] * 2000))
    numbers = tensor([700], 7, int64_data=[*range(700)])
    graph = helper.make_graph([constant], "g", [], [], [tensor([100], raw_data=bytes(400)), numbers])
    return helper.make_model(graph, producer_name="test").SerializeToString()


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    content = whole()
    graph = ModelProto.FromString(content).graph.ByteSize()
    for end in [*range(200), *range(200, graph, 97)]:
        with refused():
            opened(tmp_path / "m.onnx", content[:end])


@pytest.mark.parametrize("seed", range(4))
def test_no_noise_does_harm(seed: int, tmp_path: Path) -> None:
    """Whatever is flipped: a model or a refusal."""
    rng = random.Random(seed)
    content = whole()
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(rng.choice([60, len(damaged)]))] = rng.randrange(256)
        try:
            container = opened(tmp_path / "m.onnx", bytes(damaged))
        except wexport.WexportError:
            continue
        with container.file:
            for one in container.proto.graph.initializer:
                try:
                    found = container.array(one, one.name)
                except wexport.WexportError:
                    continue
                assert not isinstance(found, Array) or len(found.bytes()) == found.nbytes


NO_ONNX = {
    "empty": b"",
    "text": b"import keras\nmodel = keras.Sequential()\n",
    "B": b"BERT is a model: it has layers, and the layers have weights\n" * 40,
    "colon": b":-) two eyes and a mouth",
    "quote": b'"a": 1, "b": 2, "c": 3',
    "json": b'{"class_name": "Sequential"}',
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40,
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "zeros": bytes(1000),
    "safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "no graph": IR + field(2, b"pytorch"),
    "a tensor": tensor([3], raw_data=bytes(12)).SerializeToString(),
}


@pytest.mark.parametrize("content", NO_ONNX.values(), ids=NO_ONNX)
def test_other_files_are_not_taken_for_onnx(content: bytes) -> None:
    assert not is_onnx(Bytes(content))


def test_noise_is_not_taken_for_onnx() -> None:
    rng = random.Random(0)
    assert not any(is_onnx(Bytes(rng.randbytes(rng.randint(1, 3000)))) for _ in range(20_000))
    letters = bytes(range(32, 127)) + b"\n" * 5
    assert not any(is_onnx(Bytes(bytes(rng.choices(letters, k=300)))) for _ in range(5_000))


def test_models_are_taken_for_onnx() -> None:
    content = whole()
    graph = ModelProto.FromString(content).graph
    assert is_onnx(Bytes(content))
    assert is_onnx(Bytes(content[: len(content) // 2])), "a truncated one is an ONNX file, so that it can be said"
    assert is_onnx(Bytes(field(7, graph.SerializeToString()) + IR)), "fields may stand in any order"
    assert is_onnx(Bytes(field(7, graph.SerializeToString())))
    assert is_onnx(Bytes(content + b"\xf8\x07\x01")), "a field of a later version"


def test_the_look_at_a_file_loads_no_onnx() -> None:
    code = (
        "import sys, wexport.readers.onnx.wire as w, wexport.readers.onnx.tensors; from wexport.storage import Bytes;"
        "w.is_onnx(Bytes(b'')); sys.exit('onnx' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_short_rows_of_numbers_are_read_soon(tmp_path: Path) -> None:
    """The skipping of rows must not look far ahead for nothing."""
    content = IR + field(7, field(1, field(5, (b"\x40\1" * 10 + b"\x18\1") * 60_000)))
    started = time.process_time()
    opened(tmp_path / "m.onnx", content).close()
    assert time.process_time() - started < 3
