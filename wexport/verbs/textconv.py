"""A model file, manifest or safetensors file as text for `git diff`: what it means, a fact a line.

The text follows from the file's bytes alone: git gives blobs temporary names, with nothing beside them, and keeps what
it was told. What cannot be read has a text, too, since a program that fails ends `git log -p` for all other files.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wexport import dtypes
from wexport.bundle import MANIFEST
from wexport.errors import BundleError, SourceError, WexportError
from wexport.lines import apart, long_text, manifest_lines, with_digest
from wexport.manifest import load
from wexport.model import Array
from wexport.names import printable
from wexport.storage import FileRange, SourceFile
from wexport.tensorfile import Entry, data_of, read_header
from wexport.view import View
from wexport.words import shape_text

if TYPE_CHECKING:  # a manifest needs none of what reads models
    from wexport.digest import Item

_HEAD = 4096
_MANIFEST = re.compile(rb"""^\s*(["']?)wexport\1\s*:""", re.MULTILINE)
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
_SAID_OF_FILE = re.compile(r"^file: (?=(is|has|holds|ends|names|lacks|cannot) )")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # what no text has
_LONGEST_TEXT = 1 << 20  # bytes of a text file that are printed
_LONGEST_REASON = 1000
_BLOCK = 1 << 20


def textconv(path: str | os.PathLike[str]) -> str:
    """The meaning of a file as text; of a bundle's folder, that of its manifest.

    A file that cannot be read gives the reason, its size and its checksum.

    Raises:
        SourceError: there is no such file, or it cannot be opened.
        WexportError: a folder is no bundle or model, or it is damaged.
    """
    place = Path(os.path.abspath(path))
    if not place.exists():
        raise SourceError(f"{path}: does not exist")
    if place.is_dir():
        if not (place / MANIFEST).is_file():
            return _text(_of_model(place))
        place /= MANIFEST
    with SourceFile(place) as file, _alone(place) as lonely:
        try:
            return _text(_of_file(lonely, file))
        except WexportError as error:
            return _text(_unreadable(file, _reason(error, (lonely, place))))
        except Exception as error:  # whatever it is: it must not end `git log`
            return _text(_unreadable(file, f"{type(error).__name__}, an error in wexport; please report it"))


@contextmanager
def _alone(place: Path) -> Iterator[Path]:
    """The file under another name, in a folder of its own: files that lie beside it here do not where git reads it."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(os.path.realpath(folder)) / "file"
        try:
            link.symlink_to(place)
        except (OSError, NotImplementedError):  # systems where not everybody may make links
            link = place
        yield link


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _of_file(place: Path, file: SourceFile) -> list[str]:
    head = file.read(0, _HEAD)
    if head.startswith(_POINTER):
        raise SourceError(f"{place}: is a Git LFS pointer; `git lfs pull` gets the model")
    if b"\0" not in head and _MANIFEST.search(head):
        return _of_manifest(place, file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.size - 8:
        return _of_data(file)
    return _of_model(place)


def _of_manifest(place: Path, file: SourceFile) -> list[str]:
    manifest = load(file.read(0, file.size), str(place))
    try:
        return manifest_lines(manifest)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(f"{place}: has an entry that cannot be read ({reason}); export the model again") from error


def _of_model(place: Path) -> list[str]:
    """A model file: everything that its manifest would say."""
    from wexport.describe import describe
    from wexport.digest import digests, planned
    from wexport.planning import make_plan
    from wexport.readers import open_model

    model = open_model(place)
    try:
        plan = make_plan(model)
        manifest = describe(plan)
        found = digests(planned(plan))
    finally:
        model.close()
    for name, item in manifest["tensors"].items():
        item["sha256"] = found[name].sha256
    manifest["stats"] = {name: digest.stats for name, digest in found.items()}
    if not model.named:
        manifest["model"]["name"] = None
    return manifest_lines(manifest)


def _of_data(file: SourceFile) -> list[str]:
    """A safetensors file: its metadata and its tensors."""
    from wexport.digest import digests

    entries, metadata, start = read_header(file)
    found = digests([_item(name, entry, data_of(file, start, entry)) for name, entry in entries.items()])
    # the manifest's checksum says no more than the manifest does
    about = [f"metadata {key}: {long_text(metadata[key])}" for key in sorted(metadata) if key != "manifest_sha256"]
    lines = []
    for name, entry in entries.items():
        stats = found[name].stats if dtypes.name_of(entry.dtype) else None
        lines.append(with_digest(f"{name} {entry.dtype} {shape_text(entry.shape)}", found[name].sha256, stats))
    return apart([about, lines])


def _item(name: str, entry: Entry, place: FileRange) -> Item:
    """A tensor to take the digest of; one of a type that is not known is so many bytes."""
    from wexport.digest import Item

    dtype = dtypes.name_of(entry.dtype)
    shape = (place.size,) if dtype is None else entry.shape
    return Item(name, entry.dtype, shape, Array(name, shape, dtype or "uint8", place), View.whole(shape))


# -- what cannot be read -----------------------------------------------------------------------------------------------


def _reason(error: WexportError, places: Iterable[Path]) -> str:
    """Why a file cannot be read, without its name and folder, which differ from call to call."""
    text = str(error)
    for place in places:
        text = text.replace(printable(str(place)), "file").replace(printable(f"{place.parent}{os.sep}"), "")
    text = _SAID_OF_FILE.sub("file ", text)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."


def _unreadable(file: SourceFile, reason: str) -> list[str]:
    """What is seen of a file that cannot be read: why, that it changed, and its lines if it is a text."""
    digest = hashlib.sha256()
    for start in range(0, file.size, _BLOCK):
        digest.update(file.read(start, _BLOCK))
    about = [f"not readable by wexport: {reason}", f"size: {file.size:,} bytes", f"sha256: {digest.hexdigest()}"]
    return apart([about, _lines_of(file)])


def _lines_of(file: SourceFile) -> list[str]:
    """The lines of a text, such as a pointer of Git LFS or a manifest with a conflict; none of anything else."""
    if file.size > _LONGEST_TEXT:
        return []
    try:
        text = file.read(0, file.size).decode("utf-8")
    except UnicodeDecodeError:
        return []
    return [] if _CONTROL.search(text) else text.splitlines()
