"""`.keras` archives, unpacked archives, and sharded weights.

    metadata.json, config.json, model.weights.h5, assets/<path>/vocabulary.txt

Members are stored, not deflated, by every Keras; then the weights are read where they lie in the archive. A
deflated member (an archive that somebody packed again) is unpacked into a temporary file first. `weights.npz`
needs pickle and is refused.
Sources: keras/src/saving/saving_lib.py (3.15.1); APPNOTE.TXT 6.3.10, 4.3.7 (local file header).
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from wexport.errors import SourceError
from wexport.readers.hdf5 import Group, read_hdf5
from wexport.readers.keras.source import MAX_CONFIG, Source, parse_json
from wexport.storage import SourceFile

ZIP_MAGIC = b"PK\x03\x04"
WEIGHTS = "model.weights.h5"
_MAX_RATIO = 1100  # deflate cannot do better than about 1,032 to 1
_BLOCK = 1 << 20


def read_archive(path: Path, file: SourceFile) -> Source:
    """A `.keras` archive.

    Raises:
        SourceError: it is damaged, hostile, or no Keras archive.
    """
    try:
        with path.open("rb") as handle, zipfile.ZipFile(handle) as archive:
            members = _members(path, archive)
            if "config.json" not in members or WEIGHTS not in members:
                raise SourceError(_missing(path, members))
            config = parse_json(_text(path, archive, members["config.json"]), f"{path}: config.json")
            version = _version(path, archive, members)
            assets = _assets(path, archive, members)
            root, files = _weights(path, file, archive, members[WEIGHTS])
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}: the archive is damaged: {reason}") from error
    return Source(path, "keras-archive", root, files, config, version, None, assets)


def _missing(path: Path, members: Mapping[str, object]) -> str:
    if "model.weights.npz" in members:
        return f"{path}: the weights are pickled (model.weights.npz); save the model again with a current Keras"
    has = ", ".join(sorted(members)[:4]) or "nothing"
    return f"{path}: is a zip archive but no Keras model: expected config.json and {WEIGHTS}, found {has}"


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise SourceError(f"{path}: the archive holds {info.filename!r} twice")
        if info.flag_bits & 1:
            raise SourceError(f"{path}: the archive is encrypted")
        if info.file_size > _MAX_RATIO * max(info.compress_size, 1):
            raise SourceError(f"{path}: {info.filename!r} claims to unpack to {info.file_size:,} bytes; it is refused")
        members[info.filename] = info
    return members


def _text(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_CONFIG:
        raise SourceError(f"{path}: {info.filename} has {info.file_size:,} bytes; that is too many to read as text")
    return b"".join(unpacked(path, archive, info))


def unpacked(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's bytes in blocks, no more of them than it declares.

    Raises:
        SourceError: it is damaged, or packed as no reader here knows.
    """
    try:
        with archive.open(info) as member:
            while data := member.read(_BLOCK):
                yield data
    except Exception as error:  # zipfile's own, and whatever zlib, bz2 and lzma raise
        if isinstance(error, MemoryError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        what = "cannot be unpacked" if isinstance(error, NotImplementedError) else "is damaged"
        raise SourceError(
            f"{path}: {info.filename!r} {what}: {reason}; copy the file anew or save the model again"
        ) from error


def _version(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> str | None:
    if "metadata.json" not in members:
        return None
    found = parse_json(_text(path, archive, members["metadata.json"]), f"{path}: metadata.json")
    version = found.get("keras_version") if isinstance(found, dict) else None
    return version if isinstance(version, str) else None


def _assets(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, list[str]]:
    """The lines of the text assets, by their path below `assets/`."""
    assets = {}
    for name, info in members.items():
        if name.startswith("assets/") and name.endswith(".txt"):
            text = _text(path, archive, info).decode("utf-8", "replace")
            assets[name[len("assets/") :]] = text.split("\n")
    return assets


def _weights(
    path: Path, file: SourceFile, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[Group, tuple[SourceFile, ...]]:
    if info.compress_type == zipfile.ZIP_STORED:
        start = member_start(path, file, info)
        if start + info.file_size > file.size or info.file_size != info.compress_size:
            raise SourceError(f"{path}: {WEIGHTS} ends beyond the end of the file; it is truncated")
        return read_hdf5(file, start, info.file_size), (file,)
    with tempfile.TemporaryFile() as loose:
        loose.writelines(unpacked(path, archive, info))
        loose.flush()
        inner = SourceFile.adopt(loose.fileno(), path)
    return read_hdf5(inner), (file, inner)


def member_start(path: Path, file: SourceFile, info: zipfile.ZipInfo) -> int:
    """Where the data of a member begin.

    Raises:
        SourceError: there is no member.
    """
    header = file.read(info.header_offset, 30)
    if len(header) < 30 or header[:4] != ZIP_MAGIC:
        raise SourceError(f"{path}: the archive is damaged: no member where {info.filename} should be")
    name_size, extra_size = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + 30 + name_size + extra_size)


def read_folder(path: Path) -> Source:
    """An archive that lies unpacked in a folder (`save(zipped=False)`).

    Raises:
        SourceError: the folder is no such archive.
    """
    weights, config = path / WEIGHTS, path / "config.json"
    if not weights.is_file() or not config.is_file():
        if (path / "saved_model.pb").is_file():
            raise SourceError(
                f"{path}: is a SavedModel; load it and save it as a .keras or .h5 file, which say what each weight is"
            )
        raise SourceError(f"{path}: is a directory; expected a model file")
    file = SourceFile(weights)
    found = parse_json(_read(config), str(config))
    metadata = path / "metadata.json"
    stated = parse_json(_read(metadata), str(metadata)) if metadata.is_file() else {}
    version = stated.get("keras_version") if isinstance(stated, dict) else None
    return Source(path, "keras-archive", read_hdf5(file), (file,), found, version)


def _read(path: Path) -> bytes:
    with SourceFile(path) as file:
        if file.size > MAX_CONFIG:
            raise SourceError(f"{path}: has {file.size:,} bytes; that is too many to read as text")
        return file.read(0, file.size)


# -- shards ------------------------------------------------------------------------------------------------------------


def is_shard_map(data: bytes) -> bool:
    """Whether a file's beginning is that of a map of sharded weights."""
    return data.lstrip().startswith(b"{") and b'"weight_map"' in data


def read_shards(path: Path) -> Source:
    """Sharded weights: `name.weights.json` beside its parts.

    Raises:
        SourceError: the map is damaged, names a file elsewhere, or a part is missing.
    """
    content = parse_json(_read(path), str(path))
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict):
        raise SourceError(f'{path}: has no "weight_map"')
    names: dict[str, list[str]] = {}
    for group, listed in weight_map.items():
        for name in listed if isinstance(listed, list) else [listed]:
            if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name or name in {".", ".."}:
                raise SourceError(f"{path}: names a part {name!r}; parts lie beside their map")
            names.setdefault(name, []).append(str(group))
    root, files = Group(), []
    for name, groups in sorted(names.items()):
        part = path.parent / name
        if part.is_symlink():
            raise SourceError(f"{part}: is a link; a part must be a file of its own")
        if not part.exists():
            raise SourceError(f"{path}: names a part {name!r}, which is missing beside it")
        file = SourceFile(part)
        files.append(file)
        tree = read_hdf5(file)
        for group in groups:
            if tree.group(group.strip("/")) is None:
                raise SourceError(f"{part}: the map says that it holds {group!r}, it does not")
        _merge(root, tree, str(part))
    return Source(path, "keras-weights-sharded", root, tuple(files))


def _merge(into: Group, other: Group, part: str) -> None:
    into.attrs.update(other.attrs)
    for name, array in other.arrays.items():
        if name in into.arrays:
            raise SourceError(f"{part}: holds an array {name!r} that another part holds too")
        into.arrays[name] = array
    for name, group in other.groups.items():
        _merge(into.groups.setdefault(name, Group()), group, part)
