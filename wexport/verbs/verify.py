"""The proof of a bundle: of itself (schema, checksums, each element once), and against the model that it came from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wexport.bundle import GOLDEN, Bundle, fingerprint
from wexport.compare import Comparison, Progress, compare
from wexport.errors import BundleError
from wexport.manifest import VERSION
from wexport.readers import open_model
from wexport.rebuild import Rebuilder, counted
from wexport.schema import violations
from wexport.storage import FileRange
from wexport.trust import trusting
from wexport.work import run_all

_BLOCK = 1 << 20
Place = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, in numbers, and all that was found wrong; no `differences` is the proof.

    `weights`, `constants` and `left_out` are the arrays that the source stores; `model` is the file that they were
    compared with, `compared` their bytes. `golden` are the golden values that were computed again.
    """

    path: Path
    tensors: int
    bytes: int
    parameters: int
    fingerprint: str
    weights: int
    constants: int
    left_out: int
    model: Path | None
    compared: int
    golden: int
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.differences


def verify(
    path: Place,
    model: Place | None = None,
    *,
    architecture: Place | None = None,
    progress: Progress = lambda size: None,
) -> Verification:
    """Check a bundle: its manifest against the schema, its data against the checksums, its rules against its tensors.

    Args:
        path: the bundle's folder.
        model: the file that it was made from: each array of it is put together from the bundle, and compared.
        architecture: as for `export`.
        progress: called with the number of bytes checked, from several threads.

    Raises:
        BundleError: it is no bundle, or so damaged that it cannot be read.
        SourceError: the model file cannot be read.
    """
    with Bundle(path) as bundle:
        size = sum(found.size for found in bundle.ranges.values())
        wrong = [f"manifest: {text}" for text in violations(bundle.manifest)]
        compared, golden = None, 0
        if not wrong:  # a manifest of another form cannot be asked for its checksums
            wrong = [*_header(bundle), *_checksums(bundle, size, progress)]
            try:
                with trusting(bundle):
                    broken, compared = _rules(bundle, model, architecture, progress)
                wrong += broken
            except BundleError as error:
                wrong.append(str(error))
            if (bundle.path / GOLDEN).exists():
                from wexport.golden import check  # loads all that computes

                computed = check(bundle)
                golden, wrong = computed.compared, [*wrong, *computed.differences]
        return _verification(bundle, size, Path(model) if model is not None else None, compared, golden, wrong)


def _verification(
    bundle: Bundle, size: int, model: Path | None, compared: Comparison | None, golden: int, wrong: Sequence[str]
) -> Verification:
    about = bundle.manifest["model"]
    weights, constants = counted(bundle)
    return Verification(
        path=bundle.path,
        tensors=len(bundle),
        bytes=size,
        parameters=about.get("parameters", 0),
        fingerprint=about.get("fingerprint", ""),
        weights=weights,
        constants=constants,
        left_out=len(bundle.manifest["left_out"]),
        model=model,
        compared=compared.bytes if compared else 0,
        golden=golden,
        differences=tuple(wrong),
    )


def _rules(
    bundle: Bundle,
    model: Place | None,
    architecture: Place | None,
    progress: Progress,
) -> tuple[list[str], Comparison | None]:
    """Whether each element of a stored array is in one tensor, and is that element of the model."""
    wrong = []
    try:
        rebuilder = Rebuilder(bundle)
        for key in rebuilder.weights:
            try:
                rebuilder.find(key)
            except BundleError as error:
                wrong.append(str(error))
    except BundleError as error:
        wrong.append(str(error))
    if model is None or wrong:
        return wrong, None
    opened = open_model(Path(model), Path(architecture) if architecture is not None else None)
    try:
        found = compare(rebuilder, opened, progress)
        return list(found.lines()), found
    finally:
        opened.close()


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
