"""What is written appears whole or not at all, whatever fails on the way; what was there before stays or comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import case
from safetensors.numpy import load_file, save_file

import wexport
from wexport.errors import OutputError
from wexport.output import beside, folder, new_file

STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
ARCHIVE = case("keras3.15.1/m1_stock.keras")
RENAME = os.rename


def tree(path: Path) -> dict[str, bytes | None]:
    """All files and folders below a folder."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[list[int]]:
    """Have the first rename fail, then the second one, and so on until none fails; gives the renames of a turn."""
    for fails in range(100):
        done: list[int] = []

        def rename(one: Path, other: Path, fails: int = fails, done: list[int] = done) -> None:
            done.append(1)
            if len(done) == fails + 1:
                raise error
            RENAME(one, other)

        monkeypatch.setattr(os, "rename", rename)
        yield done
        if len(done) <= fails:
            return


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "ctrl-c"])
def test_an_update_is_whole_or_is_not(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    wexport.export(STOCK.path, bundle, max_shard_size=100_000, golden=True)
    for path in bundle.glob("model-*"):
        data = load_file(path)
        save_file({name: -array for name, array in data.items()}, path, metadata={"format": "wexport"})
    before = tree(tmp_path)
    count = 0
    for done in failing(monkeypatch, error):
        try:
            wexport.update(bundle)
        except (OutputError, KeyboardInterrupt):
            assert tree(tmp_path) == before
            count += 1
        else:
            assert len(done) == count
    assert count > 2 * 4, "all parts, the index, the manifest and the golden values are moved, old and new"
    assert wexport.verify(bundle).ok
    assert tree(tmp_path).keys() == before.keys()


def test_a_file_that_is_taken_away_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "gone"):
        (tmp_path / name).write_text(f"old {name}")
    before = tree(tmp_path)
    for _ in failing(monkeypatch, OSError(5, "Input/output error")):
        gone: list[Path] = []
        try:
            with beside(tmp_path / "one", True, gone=gone) as place:
                for name in ("one", "two", "new/deep"):
                    (place / name).parent.mkdir(exist_ok=True)
                    (place / name).write_text(f"new {name}")
                gone.append(tmp_path / "gone")
        except OutputError:
            assert tree(tmp_path) == before
    assert tree(tmp_path) == {"one": b"new one", "two": b"new two", "new": None, "new/deep": b"new new/deep"}


def test_what_cannot_come_back_is_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    moves = []

    def rename(one: Path, other: Path) -> None:
        moves.append(one)
        if len(moves) > 1:
            raise OSError(5, "Input/output error", str(one), None, str(other))
        RENAME(one, other)

    monkeypatch.setattr(os, "rename", rename)
    with (
        pytest.raises(OutputError, match=r"cannot be put back: .*look into ") as caught,
        new_file(tmp_path / "file", True),
    ):
        pass
    (left,) = tmp_path.iterdir()
    assert str(caught.value).endswith(str(left))
    assert {p.read_text() for p in left.rglob("*") if p.is_file()} == {"old"}


def test_folders_have_common_modes(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with folder(tmp_path / "made" / "out", False):
        pass
    assert len({p.stat().st_mode for p in (tmp_path / "plain", tmp_path / "made", tmp_path / "made" / "out")}) == 1
    with pytest.raises(ZeroDivisionError), folder(tmp_path / "other" / "out", False):
        raise ZeroDivisionError
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "plain"]


def test_what_a_dead_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    for ending in ("part", "old"):
        (tmp_path / f".out.{os.getpid()}.{ending}").mkdir()
    for _ in range(2):
        with folder(tmp_path / "out", True) as place:
            (place / "file").write_text("x")
    assert (tmp_path / "out" / "file").exists()


@pytest.mark.parametrize("length", [255, 256])
def test_names_as_long_as_can_be(length: int, tmp_path: Path) -> None:
    bundle, name = tmp_path / "bundle", "x" * (length - 6) + ".keras"
    wexport.export(ARCHIVE.path, bundle)
    data = load_file(bundle / "model.safetensors")
    save_file(
        {key: -array for key, array in data.items()}, bundle / "model.safetensors", metadata={"format": "wexport"}
    )
    if length > 255:
        with pytest.raises(OutputError, match="cannot be written: File name too long"):
            wexport.restore(bundle, tmp_path / name, into=ARCHIVE.path)
        with pytest.raises(OutputError, match="cannot be written: File name too long"):
            wexport.export(ARCHIVE.path, tmp_path / name)
        return
    wexport.restore(bundle, tmp_path / name, into=ARCHIVE.path)
    wexport.export(tmp_path / name, tmp_path / name[1:])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", name[1:], name]


@pytest.mark.parametrize("place", ["file/out", "file/far/out", "link/out"])
def test_a_place_below_a_file(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for opened in (folder, new_file):
        with pytest.raises(
            OutputError, match=f"/{place}: cannot be written: .*/{place[:4]} is no folder; choose another"
        ):
            opened(tmp_path / place, True).__enter__()
    assert (tmp_path / "file").read_text() == "mine"
