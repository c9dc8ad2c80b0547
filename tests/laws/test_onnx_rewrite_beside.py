"""New data go into copies of the files beside an ONNX model; and no file is too large for that."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from test_onnx_rewrite import arrays, field, initializers, tensors, varint
from test_onnx_tensors import beside

from wexport.errors import SourceError
from wexport.readers.onnx.rewrite import rewrite
from wexport.storage import Bytes


def named(name: str, count: int = 4, data_type: int = 1, **entries: str) -> TensorProto:
    tensor = beside(entries, data_type, (count,))
    tensor.name = name
    return tensor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two files with gaps; what is in them tells its place."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "m.onnx.data").write_bytes(bytes(i % 251 for i in range(10_000)))
    (folder / "sub" / "w").write_bytes(bytes(i % 239 for i in range(100)))
    found = [
        named("a", location="m.onnx.data", offset="4096", length="16"),
        named("b", 1000, location="./m.onnx.data", offset="5000"),
        named("tied", location="m.onnx.data", offset="4096", length="16"),
        named("part", 2, location="m.onnx.data", offset="9004", length="8"),
        named("around", 3, location="m.onnx.data", offset="9000"),
        named("empty", 0, location="m.onnx.data", offset="9004"),
        named("whole", 25, location="sub/w"),
        TensorProto(name="inside", data_type=1, dims=[2], raw_data=b"abcdefgh"),
    ]
    (folder / "m.onnx").write_bytes(initializers(*found))
    return folder / "m.onnx"


def copied(model: Path, changed: dict[str, bytes], place: Path, rename: Callable[[str], str] = lambda old: old) -> Path:
    place.mkdir()
    rewrite(model, {key: Bytes(data) for key, data in changed.items()}, place, "new.onnx", rename)
    return place / "new.onnx"


def test_ranges(model: Path, tmp_path: Path) -> None:
    """Only a tensor's own bytes change: no gap, no other tensor."""
    old = arrays(model)
    changed = {"b": b"\1" * 4000, "whole": b"\2" * 100, "inside": b"ABCDEFGH"}
    copy = copied(model, changed, tmp_path / "new")
    assert arrays(copy) == {**old, **changed}
    data = bytearray((model.parent / "m.onnx.data").read_bytes())
    data[5000:9000] = changed["b"]
    assert (copy.parent / "m.onnx.data").read_bytes() == data
    assert (copy.parent / "sub" / "w").read_bytes() == changed["whole"]
    assert copy.read_bytes() == model.read_bytes().replace(b"abcdefgh", b"ABCDEFGH")
    assert {p.name for p in copy.parent.rglob("*")} == {"new.onnx", "m.onnx.data", "sub", "w"}


def test_bytes_that_several_tensors_share(model: Path, tmp_path: Path) -> None:
    same = {"a": b"\1" * 16, "tied": b"\1" * 16, "part": b"\3" * 8, "around": b"\2" * 4 + b"\3" * 8}
    old = arrays(model)
    assert arrays(copied(model, same, tmp_path / "new")) == {**old, **same}
    for i, keys in enumerate(({"a"}, {"tied"}, {"part"}, {"around"})):
        changed = {key: data for key, data in same.items() if key in keys}
        with pytest.raises(SourceError, match=r"shares bytes of 'm\.onnx\.data'.*; change both alike"):
            copied(model, changed, tmp_path / f"refused{i}")
    for i, other in enumerate(({"tied": b"\4" * 16}, {"part": b"\4" * 8}, {"around": b"\2" * 11 + b"\4"})):
        with pytest.raises(SourceError, match="shares bytes"):
            copied(model, {**same, **other}, tmp_path / f"different{i}")
    around = {"around": b"\2" * 4 + old["part"]}
    assert arrays(copied(model, around, tmp_path / "around")) == {**old, **around}, "what they share is as it was"


def test_a_range_that_goes_over_several(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(100))
    at = {"long": ("0", "80"), "early": ("4", "8"), "late": ("40", "8"), "apart": ("80", "8")}
    found = [named(n, int(size) // 4, location="w", offset=o, length=size) for n, (o, size) in at.items()]
    (tmp_path / "m.onnx").write_bytes(initializers(*found))
    for name in ("early", "late"):
        with pytest.raises(SourceError, match="shares bytes"):
            copied(tmp_path / "m.onnx", {name: b"\1" * 8}, tmp_path / name)
    copied(tmp_path / "m.onnx", {"apart": b"\1" * 8}, tmp_path / "apart")
    assert (tmp_path / "apart" / "w").read_bytes() == bytes(80) + b"\1" * 8 + bytes(12)


def test_other_names(model: Path, tmp_path: Path) -> None:
    """As long as before, longer, in a folder of their own; where the model says it, and nothing else."""
    names = {"m.onnx.data": "new.onnx.data", "sub/w": "./files/and/a longer name" + "r" * 200}
    copy = copied(model, {"whole": b"\2" * 100}, tmp_path / "new", names.__getitem__)
    assert arrays(copy) == {**arrays(model), "whole": b"\2" * 100}
    assert not (copy.parent / "m.onnx.data").exists()
    assert not (copy.parent / "sub").exists()
    want = onnx.load(model, load_external_data=False)
    for tensor in tensors(want):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = names[entry.value.removeprefix("./")].removeprefix("./")
    assert copy.read_bytes() == b"\x08\x0a" + field(7, want.graph.SerializeToString())


def test_tensors_that_nothing_reads_find_their_data_too(model: Path, tmp_path: Path) -> None:
    """In training, in functions that nothing calls, in types that no tensor of a bundle has."""
    found = onnx.load(model, load_external_data=False)
    hidden = [named(name, 4, 1, location=name) for name in ("training", "uncalled", "complex")]
    hidden[2].data_type = TensorProto.COMPLEX128
    for tensor, size in zip(hidden, (16, 16, 64), strict=True):
        (model.parent / tensor.name).write_bytes(b"x" * size)
    found.graph.initializer.append(hidden[2])
    found.training_info.add(algorithm=helper.make_graph([], "t", [], [], [hidden[0]]))
    node = helper.make_node("Constant", [], ["k"], value=hidden[1])
    found.functions.append(helper.make_function("d", "F", [], ["k"], [node], []))
    model.write_bytes(found.SerializeToString())
    copy = copied(model, {}, tmp_path / "new", lambda name: f"new.{name.replace('/', '.')}")
    assert {p.name for p in copy.parent.iterdir()} == {
        "new.onnx", "new.m.onnx.data", "new.sub.w", "new.training", "new.uncalled", "new.complex",
    }  # fmt: skip
    there = {e.value for t in tensors(onnx.load(copy, load_external_data=False)) for e in t.external_data}
    assert {"new.training", "new.uncalled", "new.complex"} <= there


@pytest.mark.parametrize("old", ["0", "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""])
def test_checksums(old: str, tmp_path: Path) -> None:
    """Of a file that changed they are computed anew, for all of its tensors."""
    (tmp_path / "w").write_bytes(bytes(32))
    (tmp_path / "v").write_bytes(bytes(32))
    entries = {"a": ("w", "0"), "b": ("w", "16"), "c": ("v", "0")}
    found = [named(n, location=file, checksum=old, offset=at, length="16") for n, (file, at) in entries.items()]
    (tmp_path / "m.onnx").write_bytes(initializers(*found))
    copy = copied(tmp_path / "m.onnx", {"b": b"\1" * 16}, tmp_path / "new")
    sha1 = hashlib.sha1(bytes(16) + b"\1" * 16).hexdigest()
    got = {
        t.name: {e.key: e.value for e in t.external_data} for t in tensors(onnx.load(copy, load_external_data=False))
    }
    assert {name: e["checksum"] for name, e in got.items()} == {"a": sha1, "b": sha1, "c": old}
    assert [e["length"] for e in got.values()] == ["16"] * 3


@pytest.mark.parametrize(
    ("rename", "match"),
    [
        (lambda name: "one", "has data in 'sub/w', whose copy would be called 'one' as that of 'm.onnx.data'"),
        (lambda name: "./new.onnx", "would be called 'new.onnx' as that of the model"),
        (lambda name: f"../{name}", "expected a path inside of the model's folder"),
        (lambda name: f"/{name}", "expected a path inside of the model's folder"),
        (lambda name: "", "expected a path inside of the model's folder"),
    ],
)
def test_names_that_cannot_be(model: Path, tmp_path: Path, rename: Callable[[str], str], match: str) -> None:
    with pytest.raises(SourceError, match=match):
        copied(model, {}, tmp_path / "new", rename)
    assert not list((tmp_path / "new").iterdir())
    assert not (tmp_path / "m.onnx.data").exists()


def test_data_that_are_not_there(model: Path, tmp_path: Path) -> None:
    (model.parent / "sub" / "w").unlink()
    with pytest.raises(SourceError, match="'sub/w': it does not exist"):
        copied(model, {}, tmp_path / "new")


MEMORY = '''
import resource, sys
from contextlib import suppress
from pathlib import Path
from wexport.readers.onnx.rewrite import rewrite

class Ones:
    def __init__(self, size): self.size = size
    def read_into(self, buffer, start): buffer[:] = b"\\1" * len(buffer)

def peak():
    """In kilobytes; Linux counts in ru_maxrss what the process before this program had."""
    with suppress(OSError), open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)

small, large, place, *sizes = sys.argv[1:]
ones = lambda sizes: {name: Ones(int(size)) for name, size in zip("abc", sizes)}
rewrite(Path(small), ones([4, 4, 8]), Path(place), "small.onnx", lambda name: "small")
before = peak()
rewrite(Path(large), ones(sizes), Path(place), "large.onnx")
print(peak() - before)
'''


def test_large_data_take_little_memory(tmp_path: Path) -> None:
    """200 MB beside the model, 100 MB in it, and a million numbers of varying length."""

    def write(name: str, beside: int, raw: int, numbers: int) -> None:
        """The model is all holes but for its numbers."""
        with (tmp_path / "w").open("wb") as out:
            out.truncate(beside)
        a = named("a", beside // 4, location="w").SerializeToString()
        b = TensorProto(name="b", dims=[raw // 4], data_type=1).SerializeToString() + varint(9 << 3 | 2) + varint(raw)
        c = TensorProto(name="c", dims=[numbers], data_type=7).SerializeToString() + field(7, b"\xac\2" * numbers)
        heads = [b"\x2a" + varint(len(t) + n) + t for t, n in ((a, 0), (c, 0), (b, raw))]
        with (tmp_path / name).open("wb") as out:
            out.write(b"\x08\x0a\x3a" + varint(sum(map(len, heads)) + raw) + b"".join(heads))
            out.truncate(out.tell() + raw)

    write("small.onnx", 4, 4, 1)
    place = tmp_path / "place"
    place.mkdir()
    large = 200 << 20, 100 << 20, 1_000_000
    small = tmp_path / "s"
    small.mkdir()
    for name in ("small.onnx", "w"):
        (tmp_path / name).rename(small / name)
    write("large.onnx", *large)
    sizes = [str(n) for n in (large[0], large[1], 8 * large[2])]
    command = [sys.executable, "-c", MEMORY, str(small / "small.onnx"), str(tmp_path / "large.onnx"), str(place)]
    grown = int(subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout)
    assert grown < 40 << 10, "kilobytes"
    assert (place / "w").stat().st_size == large[0]
    assert (place / "large.onnx").stat().st_size == (tmp_path / "large.onnx").stat().st_size + 7 * large[2] + 2
    with (place / "w").open("rb") as file:
        assert file.read(4096) == b"\1" * 4096
