"""A copy of a Keras file with new bytes for some of its arrays: in every other byte that matters it is the source."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wexport.errors import SourceError
from wexport.model import Model
from wexport.readers.hdf5 import Chunked, Compact
from wexport.readers.hdf5_rewrite import rewrite_hdf5
from wexport.readers.keras.archive import WEIGHTS, member_start, unpacked
from wexport.storage import FileRange, SourceFile, Storage

Edits = Sequence[tuple[Storage, Storage]]
_BLOCK = 1 << 20


def rewrite(path: Path, model: Model, changed: Mapping[str, Storage], place: Path, name: str) -> None:
    """Write the copy; without changes it is the source, bit for bit.

    Args:
        path: the source: a file, an unpacked archive, or a map of shards.
        model: what was read from it, still open.
        changed: new bytes by the arrays' keys.
        place: a folder, in which the copy is called `name`; shards keep their names.

    Raises:
        SourceError: an array cannot be written, or an unpacked archive holds what is no file.
    """
    target = place / name
    edits = _by_file(model, changed)
    if path.is_dir():
        _copy_folder(path, target)
        for own in edits.values():
            rewrite_hdf5(target / WEIGHTS, 0, own)
        return
    shutil.copyfile(path, target)
    if model.source["format"] == "keras-archive":
        for file, own in edits.items():
            _repack(path, target, file, own)
        return
    for file in model.files:
        copied = target if file.path == path else place / file.path.name
        if copied != target:
            shutil.copyfile(file.path, copied)
        rewrite_hdf5(copied, 0, edits.get(file, ()))


def _copy_folder(path: Path, target: Path) -> None:
    """Copy what files hold, not their modes: the copy is written to, and it is its owner's."""
    folders, files = [path], []
    for above, inner, names in os.walk(path, onerror=_unreadable):
        if links := [name for name in sorted(inner) if Path(above, name).is_symlink()]:
            raise SourceError(f"{Path(above, links[0])}: is a link to a folder; put the folder there, or take it out")
        folders += [Path(above, name) for name in sorted(inner)]
        files += [Path(above, name) for name in sorted(names)]
    for file in files:
        try:
            SourceFile(file).close()
        except SourceError as error:
            raise SourceError(
                f"{error}; {path} is copied whole: take out of it what is no part of the model"
            ) from error
    for folder in folders:
        (target / folder.relative_to(path)).mkdir()
    for file in files:
        shutil.copyfile(file, target / file.relative_to(path))


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _by_file(model: Model, changed: Mapping[str, Storage]) -> dict[SourceFile, Edits]:
    found: dict[SourceFile, list[tuple[Storage, Storage]]] = {}
    arrays = model.arrays()
    for key, new in changed.items():
        old = arrays[key].storage
        if isinstance(old, FileRange | Chunked | Compact):  # others have no elements
            found.setdefault(old.file, []).append((old, new))
    return dict(found)


def _repack(path: Path, target: Path, file: SourceFile, edits: Edits) -> None:
    """Write an archive anew, its members in their order, each packed as it was."""
    folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=".wexport-")
    with zipfile.ZipFile(path) as archive, folder as name:
        loose = Path(name, WEIGHTS)
        info = archive.getinfo(WEIGHTS)
        with loose.open("wb") as out:
            out.writelines(unpacked(path, archive, info))
        stored = info.compress_type == zipfile.ZIP_STORED
        rewrite_hdf5(loose, member_start(path, file, info) if stored else 0, edits)
        with zipfile.ZipFile(target, "w") as packed:
            for each in archive.infolist():
                blocks = unpacked(path, archive, each) if each is not info else _blocks(loose)
                first = next(blocks, b"")  # what cannot be read is refused before it is packed
                with packed.open(copy.copy(each), "w", force_zip64=each.file_size >= 1 << 31) as out:
                    out.write(first)
                    for block in blocks:
                        out.write(block)
            packed.comment = archive.comment


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_BLOCK):
            yield data
