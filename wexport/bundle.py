"""The bundle: a folder with a manifest and the tensors that it describes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.errors import BundleError, SourceError, UsageError
from wexport.manifest import Manifest, load, read
from wexport.names import DATA as DATA
from wexport.names import GOLDEN as GOLDEN
from wexport.names import INDEX as INDEX
from wexport.names import MANIFEST as MANIFEST
from wexport.storage import FileRange, SourceFile
from wexport.tensorfile import data_of, read_header


def is_bundle(path: Path) -> bool:
    """Whether the path is a bundle's folder, or the manifest in it."""
    return _is_file(path / MANIFEST) or (path.name == MANIFEST and _is_file(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


class Bundle(Mapping[str, NDArray[Any]]):
    """A bundle's tensors by name, each read from its file when asked for.

    Iterating gives the stored tensors in the data's order; the names of aliases are understood too. Types that NumPy
    lacks (bfloat16, float8) come as those of `ml_dtypes`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a bundle.

        Raises:
            BundleError: it is no bundle, it is damaged, or its parts do not fit together.
        """
        given = Path(path)
        self.path = given.parent if given.name == MANIFEST and _is_file(given) else given
        self.files: list[SourceFile] = []
        self.ranges: dict[str, FileRange] = {}
        self.metadata: list[dict[str, str]] = []
        self.text = self._read_text(self.path / MANIFEST)
        self.manifest: Manifest = load(self.text, str(self.path / MANIFEST))
        try:
            self._open_data()
        except BaseException:
            self.close()
            raise

    def _read_text(self, path: Path) -> bytes:
        try:
            if not path.is_file():
                raise BundleError(f"{self.path}: is no bundle (no {MANIFEST} in it); export a model to make one")
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        return read(path)

    def _open_data(self) -> None:
        stated = self.manifest["tensors"]
        for name in self._data_files():
            file = self._source(self.path / name)
            entries, metadata, start = read_header(file)
            self.metadata.append(metadata)
            for key, entry in entries.items():
                item = stated.get(key)
                if item is None:
                    raise BundleError(f"{file.path}: holds {key!r}, which the manifest does not name; export again")
                found = [entry.dtype, list(entry.shape)]
                if found != [item.get("dtype"), item.get("shape")]:
                    raise BundleError(
                        f"{file.path}: {key!r} is {entry.dtype} {list(entry.shape)}, the manifest says "
                        f"{item.get('dtype')} {item.get('shape')}; export again"
                    )
                self.ranges[key] = data_of(file, start, entry)
        if missing := [key for key in stated if key not in self.ranges]:
            raise BundleError(f"{self.path}: lacks the data of {missing[0]!r} ({len(missing)} in all); export again")
        for name, alias in self.manifest["aliases"].items():
            if not isinstance(alias.get("tensor"), str) or alias["tensor"] not in stated:
                raise BundleError(f"{self.path}: the alias {name!r} means no tensor of the bundle; export again")

    def _source(self, path: Path) -> SourceFile:
        try:
            file = SourceFile(path)
        except SourceError as error:
            raise BundleError(f"{error}; the bundle is incomplete") from error
        self.files.append(file)
        return file

    def _data_files(self) -> list[str]:
        index = self.path / INDEX
        if (self.path / DATA).exists() or not index.exists():
            return [DATA]
        try:
            names = json.loads(index.read_bytes())["weight_map"].values()
            if any(not isinstance(n, str) or Path(n).name != n for n in names):
                raise ValueError("a shard is not a file of this folder")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"{index}: is no index of shards: {error}; export again") from error
        return sorted(set(names))

    def stored_name(self, name: str) -> str:
        """The name of the stored tensor that this name, which may be an alias, means.

        Raises:
            UsageError: there is none.
        """
        alias = self.manifest["aliases"].get(name)
        name = alias["tensor"] if alias else name
        if name not in self.ranges:
            raise UsageError(f"{self.path}: has no tensor {name!r}{hint(name, self.ranges)}")
        return name

    def raw(self, name: str) -> NDArray[Any]:
        """A tensor's elements as unsigned integers of their width, flat."""
        found = self.ranges[self.stored_name(name)]
        width = dtypes.itemsize(dtypes.name_of(self.manifest["tensors"][self.stored_name(name)]["dtype"]) or "uint8")
        data = np.empty(found.size // width, f"u{width}")
        found.read_into(memoryview(data).cast("B"), 0)
        return data

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor as an array of its own; read anew each time."""
        if name not in self:
            raise KeyError(name)
        item = self.manifest["tensors"][self.stored_name(name)]
        array = self.raw(name).view(dtypes.numpy_dtype(dtypes.name_of(item["dtype"]) or "uint8")).reshape(item["shape"])
        transposed = self.manifest["aliases"].get(name, {}).get("transposed")
        return array.T if transposed else array

    def __contains__(self, name: object) -> bool:
        return name in self.ranges or name in self.manifest["aliases"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest["tensors"])

    def __len__(self) -> int:
        return len(self.ranges)

    def parts(self) -> list[Path]:
        """The files that it is made of."""
        others = (self.path / name for name in (INDEX, GOLDEN))
        return [self.path / MANIFEST, *(file.path for file in self.files), *(p for p in others if p.exists())]

    def close(self) -> None:
        """Close the files; tensors that were read stay."""
        for file in self.files:
            file.close()
        self.files.clear()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fingerprint(tensors: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over the tensors in order: for each a line, `["name","dtype",[shape],"sha256"]` as compact JSON."""
    digest = hashlib.sha256()
    for name, item in tensors.items():
        line = [name, item["dtype"], item["shape"], item["sha256"]]
        digest.update(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n")
    return digest.hexdigest()


def hint(name: str, names: Iterable[str]) -> str:
    """What may have been meant, for the end of a message."""
    import difflib

    close = difflib.get_close_matches(name, list(names), 3, 0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""
