"""One side of a comparison: a bundle, a manifest without its data, or a model file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wexport.errors import BundleError, UsageError, WexportError
from wexport.manifest import VERSION, Manifest, load, read
from wexport.names import DATA_FILES, MANIFEST

if TYPE_CHECKING:  # two manifests are compared without NumPy
    from wexport.bundle import Bundle
    from wexport.digest import Item
    from wexport.planning import Split

_HEAD = 4096
_EXPECTED = "expected a bundle, a manifest or a model file"
Progress = Callable[[int], None]
Place = str | os.PathLike[str]


@dataclass(slots=True)
class Side:
    """What is compared: its manifest, with checksums and statistics, and its tensors' data, if they are at hand.

    `what` is `bundle`, `manifest` or `model`; `items` are the tensors that can be read; `read` counts the bytes of data
    that were.
    """

    path: Path
    what: str
    manifest: Manifest
    warnings: tuple[str, ...] = ()
    items: Mapping[str, Item] = field(default_factory=dict)
    read: int = 0
    close: Callable[[], None] = lambda: None

    @property
    def has_data(self) -> bool:
        """Whether its tensors can be read."""
        return self.what != "manifest"

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_side(
    path: Place,
    architecture: Place | None = None,
    *,
    split: Split = "all",
    checked: bool = False,
    progress: Progress = lambda size: None,
    known: dict[str, Any] | None = None,
) -> Side:
    """Open what is to be compared; a model file is read through once, for its checksums and statistics.

    Args:
        path: a bundle's folder, a manifest, or a model file.
        architecture: as for `export`; for model files.
        split: as for `export`; for model files.
        checked: hold every tensor of a bundle against its checksum first.
        progress: called with the number of bytes read, from several threads.
        known: as for `load`: what the manifest of the other side has already said.

    Raises:
        WexportError: it is none of them, it is damaged, or a bundle's data do not fit its manifest.
    """
    place = Path(path)
    try:
        there, folder = place.exists(), place.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise UsageError(f"{place}: cannot be read: {error.strerror}; {_EXPECTED}") from error
    if not there:
        raise UsageError(f"{place}: there is no such file or folder; {_EXPECTED}")
    if _is_bare_manifest(place):
        return Side(place, "manifest", _complete(load(read(place), str(place), known), place))
    from wexport.bundle import Bundle, is_bundle

    if not is_bundle(place):
        if folder:
            raise UsageError(f"{place}: is a folder without a {MANIFEST}; {_EXPECTED}")
        return _model(place, Path(architecture) if architecture is not None else None, split, progress)
    bundle = Bundle(place)
    try:
        return _bundle(bundle, checked, progress)
    except BaseException:
        bundle.close()
        raise


@contextmanager
def open_sides(
    a: Place, b: Place, architecture: Place | None, checked: bool, progress: Progress
) -> Iterator[tuple[Side, Side]]:
    """Two sides; a model beside a file of weights alone, which tells no sources, is cut by gates only, as that is.

    Raises:
        WexportError: as `open_side`.
    """
    with ExitStack() as stack:
        known: dict[str, Any] = {}
        opened = (open_side(path, architecture, checked=checked, progress=progress, known=known) for path in (a, b))
        sides = [stack.enter_context(side) for side in opened]
        bare = [not side.manifest["calls"] for side in sides]
        for i, path in enumerate((a, b)):
            if sides[i].what == "model" and bare[1 - i] and not bare[i]:
                sides[i] = stack.enter_context(open_side(path, architecture, split="gates", progress=progress))
        yield sides[0], sides[1]


def stated(*sides: Side) -> tuple[Side, ...]:
    """Those whose manifests were read, not made: nobody has held them against the schema."""
    return tuple(side for side in sides if side.what != "model")


def _is_bare_manifest(path: Path) -> bool:
    """Whether it is a manifest's text, and no data lie beside it."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
        is_text = b"\0" not in head and any(line.startswith(b"wexport:") for line in head.splitlines())
        if is_text:
            return path.name != MANIFEST or not any((path.parent / name).exists() for name in DATA_FILES)
    return False


def _complete(manifest: Manifest, path: Path) -> Manifest:
    """The manifest, if it has what a comparison looks at."""
    for name, item in manifest["tensors"].items():
        for key, kind in (("sha256", str), ("shape", list), ("dtype", str), ("role", str), ("at", dict)):
            if not isinstance(item.get(key), kind):
                raise BundleError(f"{path}: the tensor {name!r} has no {key!r}; export again")
    return manifest


def _model(path: Path, architecture: Path | None, split: Split, progress: Progress) -> Side:
    from wexport.bundle import fingerprint
    from wexport.describe import describe
    from wexport.digest import digests, planned
    from wexport.planning import make_plan
    from wexport.readers import open_model

    model = open_model(path, architecture)
    try:
        plan = make_plan(model, split)
        items = planned(plan)
        sums = digests(items, progress)
    except BaseException:
        model.close()
        raise
    manifest = describe(plan)
    for name, found in sums.items():
        manifest["tensors"][name]["sha256"] = found.sha256
        manifest["stats"][name] = found.stats
    manifest["sketches"] = {name: found.sketches for name, found in sums.items() if found.sketches}
    manifest["model"]["fingerprint"] = fingerprint(manifest["tensors"])
    size = sum(item.size for item in items)
    return Side(path, "model", manifest, plan.warnings, {item.name: item for item in items}, size, plan.close)


def _bundle(bundle: Bundle, checked: bool, progress: Progress) -> Side:
    """A bundle whose data say that they belong to its manifest; where they do not, every checksum is held to them."""
    from wexport.digest import bundled

    side = Side(bundle.path, "bundle", _complete(bundle.manifest, bundle.path), close=bundle.close)
    side.items = {item.name: item for item in bundled(bundle)}
    digest = hashlib.sha256(bundle.text).hexdigest()
    fits = all(
        data.get("manifest_sha256") == digest and data.get("version") == str(VERSION) for data in bundle.metadata
    )
    if checked or not fits:
        _check(side, progress)
        if not fits:
            text = "its data do not say that they belong to this manifest (one of both was edited); the checksums hold"
            side.warnings = (f"{bundle.path}: {text}",)
    return side


def _check(side: Side, progress: Progress) -> None:
    """Hold every tensor against its checksum.

    Raises:
        BundleError: a tensor has other bytes.
    """
    from wexport.digest import digests

    found = digests(list(side.items.values()), progress)
    side.read += sum(item.size for item in side.items.values())
    edited = [name for name, sums in found.items() if sums.sha256 != side.manifest["tensors"][name]["sha256"]]
    if edited:
        raise unfit(side, edited[0], len(edited))


def unfit(side: Side, name: str, count: int = 1) -> WexportError:
    """A bundle's tensor is not what the manifest's checksum says."""
    more = f" (and {count - 1:,} more)" if count > 1 else ""
    return BundleError(
        f"{side.path}: the data of {name!r}{more} do not have the checksum that the manifest states; if they were "
        f"edited on purpose, `wexport verify --update {side.path}` takes them over; else export again"
    )


def chunks(side: Side, name: str) -> Iterator[Any]:
    """A tensor's elements in C order, as flat arrays of unsigned integers; those of a bundle must fit their checksum.

    Raises:
        BundleError: a bundle's tensor is not what the manifest's checksum says.
        SourceError: the file ends early, or cannot be read.
    """
    from wexport.stream import pieces

    item = side.items[name]
    digest = hashlib.sha256()
    for piece in pieces(item.array, item.view):
        if side.what == "bundle":
            digest.update(memoryview(piece).cast("B"))
        yield piece
    if side.what == "bundle" and digest.hexdigest() != side.manifest["tensors"][name]["sha256"]:
        raise unfit(side, name)
