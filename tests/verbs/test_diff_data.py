"""What a comparison reads of bundles: only what differs; and data that do not fit their manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from twins import arrays, edited, manifest_of, write

import wexport
from wexport.cli import main
from wexport.storage import SourceFile
from wexport.tensorfile import read_header

BASE = arrays(4, 64)
MOVED = edited(BASE, {"d2.kernel": BASE["d2.kernel"] * np.float32(2)})
SIZE = BASE["d2.kernel"].nbytes


class Reads(list[tuple[Path, int, int]]):
    """What was read of files that are read by position: each file, from where, how much."""

    def of(self, bundle: Path) -> int:
        """Bytes of a bundle's data, its header aside."""
        with SourceFile(bundle / "model.safetensors") as file:
            kept = len(self)
            start = read_header(file)[2]
            del self[kept:]
        return sum(size for path, place, size in self if path.parent == bundle and place >= start)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    read = SourceFile.read_into

    def count(self: SourceFile, buffer: memoryview, start: int) -> None:
        found.append((self.path, start, len(buffer)))
        read(self, buffer, start)

    monkeypatch.setattr(SourceFile, "read_into", count)
    return found


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a", BASE), write(tmp_path / "b", MOVED)


def test_only_what_differs_is_read(pair: tuple[Path, Path], reads: Reads) -> None:
    found = wexport.diff(*pair).difference
    assert [fact.a for fact in found.facts] == ["d2.kernel"]
    assert [reads.of(bundle) for bundle in pair] == [SIZE, SIZE]
    assert (found.a.read, found.b.read) == (SIZE, SIZE)


def test_nothing_is_read_of_what_is_the_same(pair: tuple[Path, Path], tmp_path: Path, reads: Reads) -> None:
    shutil.copytree(pair[0], tmp_path / "copy")
    assert wexport.diff(pair[0], tmp_path / "copy").difference.same
    assert [reads.of(pair[0]), reads.of(tmp_path / "copy")] == [0, 0]


def test_nothing_is_read_where_a_manifest_is_compared(pair: tuple[Path, Path], tmp_path: Path, reads: Reads) -> None:
    bare = manifest_of(pair[1], tmp_path / "b.yaml")
    found = wexport.diff(pair[0], bare).difference
    assert [fact.change.estimated for fact in found.facts if fact.change] == [True]
    assert [path for path, _, _ in reads if path.parent != pair[0]] == []
    assert reads.of(pair[0]) == 0


def test_verify_reads_everything_first(pair: tuple[Path, Path], reads: Reads) -> None:
    total = sum(array.nbytes for array in BASE.values())
    assert not wexport.diff(*pair, verify=True).difference.same
    assert [reads.of(bundle) for bundle in pair] == [total + SIZE] * 2


# -- data that do not fit ----------------------------------------------------------------------------------------------


def cut(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def in_place(name: str) -> Callable[[Path], None]:
    """Change a tensor's first element; the header stays."""

    def change(bundle: Path) -> None:
        path = bundle / "model.safetensors"
        with SourceFile(path) as file:
            entries, _, start = read_header(file)
        with path.open("r+b") as data:
            data.seek(start + entries[name].start)
            data.write(np.float32(77).tobytes())

    return change


def saved(name: str, factor: float = 2, dtype: str = "f4", rows: int | None = None) -> Callable[[Path], None]:
    """Change a tensor as people do, with the safetensors library, which keeps no metadata."""

    def change(bundle: Path) -> None:
        tensors = load_file(bundle / "model.safetensors")
        tensors[name] = (tensors[name] * np.float32(factor)).astype(dtype)[:rows]
        save_file(tensors, bundle / "model.safetensors")

    return change


UPDATE, EXPORT = "`wexport verify --update {}` takes them over; else export again", "export"
UNFIT: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "cut": (cut, "d3.bias", EXPORT),
    "edited in place": (in_place("d2.kernel"), "d2.kernel", UPDATE),
    "saved": (saved("d1.bias"), "d1.bias", UPDATE),
    "saved with another type": (saved("d1.bias", dtype="f2"), "d1.bias", EXPORT),
    "saved with another shape": (saved("d1.kernel", rows=3), "d1.kernel", EXPORT),
}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", UNFIT)
def test_data_that_do_not_fit(
    name: str, side: int, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change, tensor, way = UNFIT[name]
    change(pair[side])
    assert main(["diff", *map(str, pair)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(pair[side]) in err
    assert str(pair[1 - side]) not in err
    assert repr(tensor) in err
    assert way.format(pair[side]) in err
    if way == UPDATE:  # the way out leads out
        assert main(["verify", "--update", str(pair[side])]) == 0
        assert main(["diff", *map(str, pair)]) == 1


def test_an_edit_where_the_checksums_are_equal_is_found_on_request(pair: tuple[Path, Path]) -> None:
    in_place("d0.kernel")(pair[1])
    assert main(["diff", *map(str, pair)]) == 1  # as the manifests say; it is not read
    for order in (pair, pair[::-1]):
        with pytest.raises(wexport.BundleError, match=r"'d0\.kernel' do not have the checksum"):
            wexport.diff(*order, verify=True)


def test_many_edits_are_counted(pair: tuple[Path, Path]) -> None:
    saved("d0.kernel")(pair[1])
    saved("d1.kernel")(pair[1])
    with pytest.raises(wexport.BundleError, match=r"'d0\.kernel' \(and 1 more\)"):
        wexport.diff(*pair)


def test_a_manifest_edited_by_hand(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The data say that they belong to another manifest; every checksum holds: it goes on, with a warning."""
    path = pair[1] / "manifest.yaml"
    text = path.read_text()
    path.write_text(text.replace('"activation": {"name": "relu"}', '"activation": {"name": "tanh"}', 1))
    assert main(["diff", *map(str, pair)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "relu -> tanh" in out
    assert f"note: {pair[1]}: its data do not say that they belong to this manifest" in out
    assert main(["diff", str(pair[1]), str(pair[1])]) == 0
    path.write_text(text.replace("wexport: 1\n", "# mine\nwexport: 1\n"))  # no longer in its canonical form
    assert main(["diff", str(pair[0]), str(pair[1])]) == 1


def test_shards(tmp_path: Path, reads: Reads) -> None:
    """A bundle in several files is compared as one in one."""
    whole = write(tmp_path / "a", BASE)
    cutup = write(tmp_path / "b", MOVED, shard_size=3 * SIZE)
    assert len(list(cutup.glob("model-*.safetensors"))) > 1
    found = wexport.diff(whole, cutup).difference
    assert [fact.a for fact in found.facts] == ["d2.kernel"]
    assert found.b.read == reads.of(whole) == SIZE
    shard = next(iter(sorted(cutup.glob("model-*.safetensors"))))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(wexport.BundleError, match=r"model-00001.*'d\d\.\w+' ends at byte"):
        wexport.diff(whole, cutup)


# -- arguments ---------------------------------------------------------------------------------------------------------


ARGUMENTS = {
    "no B": (["{a}"], "expected wexport diff A B"),
    "nothing": ([], "expected wexport diff A B"),
    "no such file": (["{a}", "{a}/nowhere"], "there is no such file or folder; expected a bundle, a manifest or a"),
    "no such A": (["nowhere.h5", "{a}"], "nowhere.h5: there is no such file or folder"),
    "a folder": (["{a}", "{folder}"], "is a folder without a manifest.yaml; expected a bundle, a manifest or a"),
    "a text": (["{text}", "{a}"], "notes.txt"),
    "textconv and A": (["{a}", "--textconv", "{text}"], "--textconv takes one file"),
    "three": (["{a}", "{a}", "{a}"], "unrecognized arguments"),
    "the data file": (["{a}", "{a}/model.safetensors"], "model.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("Dear reader,\n")
    (tmp_path / "folder").mkdir()
    words, text = ARGUMENTS[name]
    places = {"a": pair[0], "text": tmp_path / "notes.txt", "folder": tmp_path / "folder"}
    try:
        code: object = main(["diff", *(word.format(**places) for word in words)])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("wexport: error: ")
    assert text in err
