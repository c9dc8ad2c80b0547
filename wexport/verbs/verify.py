"""A bundle checked against itself: the published schema, the header, every checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wexport.bundle import Bundle, fingerprint
from wexport.manifest import VERSION
from wexport.schema import violations
from wexport.storage import FileRange
from wexport.work import run_all

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, in numbers, and all that was found wrong; no `differences` is the proof."""

    path: Path
    tensors: int
    bytes: int
    parameters: int
    fingerprint: str
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.differences


def verify(path: str | os.PathLike[str], *, progress: Callable[[int], None] = lambda size: None) -> Verification:
    """Check a bundle: its manifest against the schema, its data against the manifest's checksums.

    Args:
        path: the bundle's folder.
        progress: called with the number of bytes checked, from several threads.

    Raises:
        BundleError: it is no bundle, or so damaged that it cannot be read.
    """
    with Bundle(path) as bundle:
        size = sum(found.size for found in bundle.ranges.values())
        wrong = [f"manifest: {text}" for text in violations(bundle.manifest)]
        if not wrong:  # a manifest of another form cannot be asked for its checksums
            wrong = [*_header(bundle), *_checksums(bundle, size, progress)]
        model = bundle.manifest["model"]
        return Verification(
            bundle.path, len(bundle), size, model.get("parameters", 0), model.get("fingerprint", ""), tuple(wrong)
        )


def _header(bundle: Bundle) -> list[str]:
    wrong = []
    digest = hashlib.sha256(bundle.text).hexdigest()
    for metadata in bundle.metadata:
        if metadata.get("format") != "wexport" or metadata.get("version") != str(VERSION):
            wrong.append(f"data: its header does not say that it is a wexport bundle of version {VERSION}")
        elif metadata.get("manifest_sha256") != digest:
            wrong.append("manifest: is not the one that was written with the data; it was edited")
    return list(dict.fromkeys(wrong))


def _checksums(bundle: Bundle, size: int, progress: Callable[[int], None]) -> list[str]:
    tensors = bundle.manifest["tensors"]
    found: dict[str, str] = {}

    def digest(name: str) -> None:
        found[name] = _sha256(bundle.ranges[name], progress)

    run_all(digest, sorted(tensors, key=lambda name: -bundle.ranges[name].size), size)
    wrong = [
        f"{name}: its data do not have the checksum that the manifest states"
        for name, item in tensors.items()
        if found[name] != item["sha256"]
    ]
    if fingerprint(tensors) != bundle.manifest["model"]["fingerprint"]:
        wrong.append("manifest: its fingerprint is not that of its tensors")
    return wrong


def _sha256(data: FileRange, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    block = memoryview(bytearray(min(_BLOCK, data.size)))
    for start in range(0, data.size, _BLOCK):
        part = block[: min(_BLOCK, data.size - start)]
        data.read_into(part, start)
        digest.update(part)
        progress(len(part))
    return digest.hexdigest()
