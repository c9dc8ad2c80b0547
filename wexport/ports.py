"""The arrays that go into a model, held against what its manifest says of its inputs; and those that come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import hint
from wexport.errors import UsageError
from wexport.evaluate import needed
from wexport.layers.step import Items
from wexport.npz import Archive
from wexport.words import shape_text

Array = NDArray[Any]
Manifest = Mapping[str, Any]


def from_archive(manifest: Manifest, archive: Archive) -> dict[str, Array]:
    """A model's inputs out of an archive; types and shapes are held against the manifest before data are read.

    Raises:
        UsageError: as for `checked`, or the archive is damaged.
    """
    where = str(archive.path)
    _check(manifest, {n: (e.dtype, e.shape) for n, e in archive.items()}, where)
    return checked(manifest, {name: archive.array(name) for name in archive}, where)


def checked(manifest: Manifest, arrays: Mapping[str, Any], where: str = "inputs") -> dict[str, Array]:
    """A model's inputs in their types, by name; one that nothing reads may be absent.

    Args:
        manifest: the model.
        arrays: what was given, by the names of inputs: arrays, or what NumPy makes arrays of.
        where: who gave them, for messages.

    Raises:
        UsageError: one is missing or unknown, or is not of the shape or type that the manifest states.
    """
    given = {name: np.asarray(a) for name, a in arrays.items()}
    _check(manifest, {name: (a.dtype, a.shape) for name, a in given.items()}, where)
    return {n: _typed(given[n], _dtype(manifest, n), f"{where}: {n!r}") for n in manifest["inputs"] if n in given}


def _dtype(manifest: Manifest, name: str) -> str | None:
    dtype: str | None = manifest["inputs"][name]["dtype"]
    return dtype


def _check(manifest: Manifest, given: Mapping[str, tuple[np.dtype[Any], Sequence[int]]], where: str) -> None:
    ports = manifest["inputs"]
    wrong = [f"has {name!r}, which is no input{hint(name, ports)}" for name in given if name not in ports]
    used = needed(manifest)
    wrong += [f"lacks the input {name!r} {_port(ports[name])}" for name in ports if name in used and name not in given]
    lengths: dict[str, tuple[int, str]] = {}  # of named dimensions, with the input that says it
    for name in ports:
        if name in given:
            wrong += _mismatches(name, ports[name], *given[name], lengths)
    if wrong:
        takes = ", ".join(f"{name} {_port(port)}" for name, port in ports.items()) or "nothing"
        raise UsageError(f"{where}: {'; '.join(wrong)}; the model takes {takes}")


def _port(port: Mapping[str, Any]) -> str:
    dtype, shape = port["dtype"] or "of any type", port["shape"]
    return dtype if shape is None else f"{dtype} {shape_text(shape)}"


def _mismatches(
    name: str, port: Mapping[str, Any], dtype: np.dtype[Any], shape: Sequence[int], lengths: dict[str, tuple[int, str]]
) -> Iterator[str]:
    stated = port["shape"]
    found = f"{name!r} is {dtype} {shape_text(shape)}"
    if not _may_be(dtype, port["dtype"]) or not _agrees(stated, shape):
        yield f"{found}, expected {_port(port)}"
        return
    for n, m in zip(stated or (), shape, strict=stated is not None):
        if isinstance(n, str) and lengths.setdefault(n, (m, name))[0] != m:
            yield f"{found}, where {n} is {m}, but {lengths[n][1]!r} makes it {lengths[n][0]}"


def _agrees(stated: Sequence[int | str | None] | None, shape: Sequence[int]) -> bool:
    if stated is None:
        return True
    return len(stated) == len(shape) and all(n == m for n, m in zip(stated, shape, strict=True) if isinstance(n, int))


def _may_be(dtype: np.dtype[Any], stated: str | None) -> bool:
    """Whether numbers of a type can stand for a stated one; whether they do is for the numbers to say."""
    if dtype.kind == "V":  # where NumPy keeps the types of ml_dtypes
        return dtypes.is_stored(dtype.name) and stated != "string"
    if stated is None or stated == "string":
        return dtype.kind in ("US" if stated else "fiubcUS")
    return dtype.kind in ("fiubc" if stated.startswith("complex") else "fiub")


def _typed(x: Array, stated: str | None, where: str) -> Array:
    """Numbers of the stated type; floats rounded to it and held as the evaluator holds them, in float64."""
    if x.dtype.kind in "US":
        return x if x.dtype.kind == "U" else np.char.decode(x, "utf-8", "replace")
    if x.dtype.kind == "V":
        x = x.astype(np.float64)
    if stated is None:
        return x
    target = dtypes.numpy_dtype(stated)
    with np.errstate(all="ignore"):
        cast = x.astype(target)
        if dtypes.is_float(stated):
            return cast if cast.dtype.kind == "c" else cast.astype(np.float64)
        wrong = ~((cast.astype(x.dtype) == x) & ((cast < 0) == (x < 0)))
    if wrong.any():
        raise UsageError(f"{where} holds {x[wrong].flat[0]}, which is no {stated}")
    return cast


# -- what comes out ----------------------------------------------------------------------------------------------------


def stated_types(manifest: Manifest) -> dict[str, str | None]:
    """The type that the manifest states for each input and each value of a call, bodies aside."""
    found: dict[str, str | None] = {name: port["dtype"] for name, port in manifest["inputs"].items()}
    for call in manifest["calls"]:
        found |= {out["value"]: out["dtype"] for out in call["out"] if out["value"] is not None}
    return found


def plain(x: Array, stated: str | None) -> Array:
    """A value in the stated type, in float32 where NumPy has none for it or nothing is stated; text as it is."""
    if x.dtype.kind not in "fiubc":
        return x.astype(str)
    if x.dtype.kind == "f":
        exact = stated in {"float64", "float32", "float16"}
        with np.errstate(all="ignore"):
            return x.astype(stated if exact else np.float32)
    if stated is None or dtypes.is_float(stated) or stated == "string":
        return x
    return x.astype(dtypes.numpy_dtype(stated))


def items(value: Any, name: str) -> Iterator[tuple[str, Array]]:
    """A value under its name; a sequence is several arrays, `name.0`, `name.1` ..."""
    if not isinstance(value, Items):
        yield name, np.asarray(value)
        return
    for i, item in enumerate(value):
        yield f"{name}.{i}", np.asarray(item)
