"""Golden values: a bundle's own inputs and all that it computes from them, for whoever writes the model in another
language, layer by layer.

`golden.safetensors` in the bundle's folder holds `in.<input>`, `value.<value>` for every value that a call gives, and
`out.<output>`, in the types that the manifest states (float32 where it states none, or one that safetensors lacks).
Text and sequences have no place in such a file and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import GOLDEN, Bundle
from wexport.errors import BundleError, SourceError, UsageError, WorkError
from wexport.evaluate import evaluate
from wexport.layers.step import Items
from wexport.ports import checked, plain, stated_types
from wexport.storage import SourceFile
from wexport.tensorfile import Entry, data_of, header, read_header
from wexport.trust import trusting
from wexport.words import shape_text

Array = NDArray[Any]
Manifest = Mapping[str, Any]
Progress = Callable[[int], None]
VERSION = 1
_MOST = 10  # differences that are told

# How far a value may be from the one that was written, relative to its largest number. Sums are taken in another order
# on another machine, which changes the last of float64's 16 digits and, once in a long while, lets a number fall on the
# other side of a rounding to the stated type. float32: a few hundred roundings of 6e-8. Half types and less: four
# units in the last place. What rounds so, the values behind it inherit. Integers are the same.
_TOLERANCES = {
    "float64": 1e-10, "float32": 1e-5, "float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8, "float8_e4m3fn": 4 * 2.0**-4,
    "float8_e5m2": 4 * 2.0**-3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many arrays of a golden file were compared, and what differs; no `differences` is the proof."""

    compared: int
    differences: tuple[str, ...]


# -- made --------------------------------------------------------------------------------------------------------------


def write(
    bundle: Bundle, inputs: Iterator[dict[str, Array]], progress: Progress = lambda calls: None
) -> tuple[str, ...]:
    """Compute a bundle with the first inputs that can be, and write golden values beside it; gives warnings.

    Raises:
        UsageError: it could be computed with none of them.
    """
    given, values = _computed(bundle, inputs, progress)
    left = []
    entries: list[tuple[str, str, Array]] = []
    for name, value, dtype in _named(bundle.manifest, given, values):
        held = _held(value, dtype)
        if held is None:
            left.append(name)
        else:
            entries.append((name, *held))
    entries.sort(key=lambda entry: -dtypes.itemsize(entry[1]))  # so that each is aligned to its own width
    metadata = {
        "format": "wexport-golden",
        "version": str(VERSION),
        "fingerprint": bundle.manifest["model"]["fingerprint"],
    }
    with (bundle.path / GOLDEN).open("xb") as file:
        file.write(header([(n, dtypes.code(t), a.shape, a.nbytes) for n, t, a in entries], metadata))
        for _, _, array in entries:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return (f"{GOLDEN}: left out {', '.join(left)}: text and sequences have no place there",) if left else ()


def _computed(
    bundle: Bundle, inputs: Iterator[dict[str, Array]], progress: Progress
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The first inputs with which the model computes outputs that have elements, or else computes, and its values."""
    first: UsageError | None = None
    empty: tuple[dict[str, Array], dict[str, Array]] | None = None
    for tried in inputs:
        given = checked(bundle.manifest, tried)
        try:
            values = evaluate(bundle.manifest, lambda name: bundle[name], given, progress)
        except WorkError:  # other inputs would take as long
            raise
        except UsageError as error:
            first = first or error
            continue
        if all(np.size(values[item["value"]]) for item in bundle.manifest["outputs"].values()):
            return given, values
        empty = empty or (given, values)
    if empty is not None:
        return empty
    assert first is not None
    raise UsageError(f"no golden values: {first}; give shapes (--golden-shape) or inputs (--golden-inputs)") from first


def _named(
    manifest: Manifest, given: Mapping[str, Array], values: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str | None]]:
    """What a golden file holds: name, array, and the type that the manifest states."""
    types = stated_types(manifest)
    for name, array in given.items():
        yield f"in.{name}", array, types[name]
    for call in manifest["calls"]:
        for out in call["out"]:
            if out["value"] is not None:
                yield f"value.{out['value']}", values[out["value"]], out["dtype"]
    for name, item in manifest["outputs"].items():
        yield f"out.{name}", values[item["value"]], types[item["value"]]


def _held(value: Any, stated: str | None) -> tuple[str, Array] | None:
    """An array in the type in which it is stored, with that type's name; None for text and sequences."""
    if isinstance(value, Items) or np.asarray(value).dtype.kind not in "fiubc":
        return None
    array = plain(np.asarray(value), stated)
    if array.dtype.kind == "c":
        array = array.astype(np.complex64)
    if array.dtype.kind == "f" and stated in _TOLERANCES:
        return stated, array.astype(dtypes.numpy_dtype(stated))
    return array.dtype.name, array


def summary(path: Path) -> dict[str, int]:
    """How many inputs, values and outputs a golden file holds, and its size in bytes."""
    with SourceFile(path) as file:
        entries, _, _ = read_header(file)
        count = {word: sum(name.startswith(head) for name in entries) for word, head in _HEADS.items()}
        return {**count, "bytes": file.size}


_HEADS = {"inputs": "in.", "values": "value.", "outputs": "out."}


# -- checked -----------------------------------------------------------------------------------------------------------


def check(bundle: Bundle, progress: Progress = lambda calls: None) -> Comparison:
    """Compute a bundle anew from the inputs of its golden file, and compare all that is there.

    What is wrong with the file itself is a difference, too.
    """
    try:
        with SourceFile(bundle.path / GOLDEN) as file, trusting(bundle):
            entries, metadata, start = read_header(file)
            if wrong := _metadata(metadata, bundle.manifest):
                return Comparison(0, (f"{GOLDEN}: {wrong}",))
            return _compare(bundle, {n: _read(file, start, n, e) for n, e in entries.items()}, progress)
    except (BundleError, SourceError, UsageError) as error:
        return Comparison(0, (f"{GOLDEN}: {error}",))


def renew(bundle: Bundle, old: Path) -> None:
    """Write golden values for a bundle whose tensors were edited, from the inputs of the old golden file.

    Raises:
        BundleError: the old file is damaged.
        UsageError: the bundle cannot be computed with them.
    """
    with SourceFile(old) as file:
        entries, _, start = read_header(file)
        given = {n[3:]: _read(file, start, n, e)[1] for n, e in entries.items() if n.startswith("in.")}
    write(bundle, iter([given]))


def _metadata(found: Mapping[str, str], manifest: Manifest) -> str | None:
    if found.get("format") != "wexport-golden" or found.get("version") != str(VERSION):
        return f"its header does not say that it holds golden values of version {VERSION}"
    if found.get("fingerprint") != manifest["model"]["fingerprint"]:
        return "was made from other tensors (its fingerprint is not the manifest's); export with --golden again"
    return None


def _read(file: SourceFile, start: int, name: str, entry: Entry) -> tuple[str, Array]:
    dtype = dtypes.name_of(entry.dtype)
    if dtype is None:
        raise BundleError(f"{name!r} is of type {entry.dtype}, which is not known")
    data = bytearray(entry.stop - entry.start)
    data_of(file, start, entry).read_into(memoryview(data), 0)
    if dtype == "bool" and data.strip(b"\0\1"):
        raise BundleError(f"{name!r} holds bytes that are no booleans")
    return dtype, np.frombuffer(data, dtypes.numpy_dtype(dtype)).reshape(entry.shape)


def _compare(bundle: Bundle, held: Mapping[str, tuple[str, Array]], progress: Progress) -> Comparison:
    manifest = bundle.manifest
    given = checked(manifest, {n[3:]: array for n, (_, array) in held.items() if n.startswith("in.")}, "its inputs")
    values = evaluate(manifest, lambda name: bundle[name], given, progress)
    wrong, seen, tolerance = [], set(), 0.0
    for name, value, stated in _named(manifest, given, values):
        wanted = _held(value, stated)
        if wanted is None:
            continue
        seen.add(name)
        tolerance = max(tolerance, _TOLERANCES.get(wanted[0], 0.0))
        difference = "is missing" if name not in held else _difference(*held[name], *wanted, tolerance)
        if difference:
            wrong.append(f"{GOLDEN}: {name}: {difference}")
    wrong += [f"{GOLDEN}: {name}: is nothing that the model gives" for name in held if name not in seen]
    told = wrong if len(wrong) <= _MOST else [*wrong[:_MOST], f"{GOLDEN}: and {len(wrong) - _MOST} more that differ"]
    return Comparison(len(seen & set(held)), tuple(told))


def _difference(dtype: str, found: Array, stated: str, wanted: Array, tolerance: float) -> str | None:
    if (dtype, found.shape) != (stated, wanted.shape):
        return f"is {dtype} {shape_text(found.shape)}, computed is {stated} {shape_text(wanted.shape)}"
    if found.dtype.kind in "iub":
        n = int(np.count_nonzero(found != wanted))
        return f"{n:,} of {found.size:,} elements are not those that are computed" if n else None
    wide = np.complex128 if found.dtype.kind == "c" else np.float64
    a, b = found.astype(wide), wanted.astype(wide)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return "has NaN or infinity at other places than computed"
    size = max(float(np.abs(b[finite]).max(initial=0.0)), 1e-30)
    apart = float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / size
    if apart <= tolerance:
        return None
    return f"differs from what is computed by {apart:.2g} of its largest number, allowed is {tolerance:.1g}"
