"""Data beside a model: the files that its tensors name, found inside of the model's folder and nowhere else.

Source: onnx/onnx.proto, TensorProto.external_data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from wexport.errors import SourceError
from wexport.storage import FileRange, SourceFile

_NUMBER = re.compile(r"[0-9]{1,19}")


class External:
    """The files beside a model, each opened when a tensor first needs it."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._files: dict[str, SourceFile] = {}

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Those opened so far."""
        return tuple(self._files.values())

    def find(self, entries: Iterable[tuple[str, str]], wanted: int, where: str) -> FileRange:
        """The bytes that a tensor's `external_data` entries name.

        Raises:
            SourceError: they lie outside of the folder, are not there, or are not as many as `wanted`.
        """
        pairs = list(entries)
        named = dict(pairs)
        if len(named) != len(pairs):
            raise SourceError(f"{where}: names its external data twice; export the model again")
        file = self.open(named.get("location", ""), where)
        offset, length = (_number(named.get(key), key, where) for key in ("offset", "length"))
        start, size = offset or 0, wanted if length is None else length
        name = file.path.name
        if size != wanted:
            raise SourceError(
                f"{where}: has a length of {size:,} bytes in {name}, expected {wanted:,} for its dims; "
                "export the model again"
            )
        if start + size > file.size:
            raise SourceError(
                f"{where}: ends at byte {start + size:,} of {name}, which has {file.size:,}; "
                "the file is truncated or another model's: copy it anew"
            )
        return FileRange(file, start, size)

    def open(self, location: str, where: str) -> SourceFile:
        """The file at a location.

        Raises:
            SourceError: it lies outside of the folder, or is not there.
        """
        parts = parts_of(location, where)
        name = "/".join(parts)
        if name not in self._files:
            try:
                self._files[name] = SourceFile(self._inside(parts))
            except (SourceError, OSError) as error:
                found = error.strerror if isinstance(error, OSError) else error
                raise SourceError(f"{where}: its data are in {name[:200]!r}: {found}") from error
        return self._files[name]

    def _inside(self, parts: Sequence[str]) -> Path:
        """The path of a file that exists, with no link on the way that could lead out of the folder."""
        folder = path = self._model.parent
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise SourceError("it is behind a link; put the file itself beside the model")
        if not path.exists():
            raise SourceError("it does not exist; put the file beside the model")
        real = os.path.realpath(folder)
        if os.path.commonpath([real, os.path.realpath(path)]) != real:
            raise SourceError("it is outside of the model's folder; put the file beside the model")
        return path


def parts_of(location: str, where: str) -> list[str]:
    """The words of a location, which stays inside of the model's folder.

    Raises:
        SourceError: it does not.
    """
    path = PurePosixPath(location)
    bad = path.is_absolute() or ".." in path.parts or "\\" in location or ":" in location or "\0" in location
    if bad or not path.parts:
        raise SourceError(
            f"{where}: its data are said to be at {location[:200]!r}, expected a path inside of the model's folder; "
            "put the file beside the model and name it so"
        )
    return list(path.parts)


def _number(text: str | None, key: str, where: str) -> int | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise SourceError(
            f"{where}: has {key} {text[:40]!r} of external data, expected a number; export the model again"
        )
    return int(text)
