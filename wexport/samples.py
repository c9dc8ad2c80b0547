"""Inputs to try a model with: lengths for its free axes, and numbers that each input can take, alike on every machine.

Numbers come from NumPy's `RandomState`, whose streams never change (NEP 19), seeded by the input's name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import hint
from wexport.errors import UsageError
from wexport.evaluate import needed, unsupported
from wexport.layers.lookups import Pool
from wexport.npz import Archive
from wexport.ports import checked, from_archive
from wexport.reach import reach
from wexport.words import shape_text

Array = NDArray[Any]
Manifest = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
BATCH = 2
# Lengths of free axes behind the first: of the first, second and third (name, or place in the shape). Different ones
# tell axes apart; a model that needs equal ones, or more for its windows, gets them.
_LENGTHS = ((7, 6, 5), (8, 8, 8), (16, 16, 16), (32, 32, 32), (64, 64, 64), (224, 224, 224), (1, 1, 1))
_SMALL = 8  # integers of which nothing is known are below
_MOST = 1 << 28  # elements of all inputs together, of 8 bytes or more each
_MOST_GUESSED = 1 << 25  # the same of the further tries, whose lengths nobody asked for


@dataclass(frozen=True, slots=True)
class Wish:
    """What golden values to make: for these inputs (arrays by name, or a `.npz` file), or for random ones of so many
    examples, with the shapes of inputs or lengths of named dimensions that are given."""

    batch: int | None = None
    shapes: Mapping[str, Sequence[int]] | None = None
    inputs: Mapping[str, Any] | Path | None = None


def prepare(manifest: Manifest, wish: Wish) -> tuple[Iterator[dict[str, Array]], tuple[str, ...]]:
    """Inputs to try, one after the other, and warnings; all that can be refused is refused before anything is written.

    Raises:
        UsageError: the model cannot be computed, takes text, or what is wished for does not fit it.
    """
    if reasons := unsupported(manifest):
        raise UsageError(f"no golden values can be computed: {'; '.join(reasons)}")
    used = needed(manifest)
    if text := [name for name, port in manifest["inputs"].items() if port["dtype"] == "string" and name in used]:
        raise UsageError(f"no golden values for input {text[0]!r}: it is text, which a safetensors file cannot hold")
    if wish.inputs is not None:
        if wish.batch is not None or wish.shapes:
            raise UsageError("golden inputs have their own shapes; leave out the number of examples and --golden-shape")
        return iter([_given(manifest, wish.inputs)]), ()
    choices = shapes(manifest, wish.batch, wish.shapes or {})
    return tries(manifest, choices), _warnings(manifest, wish, choices[0])


def _given(manifest: Manifest, inputs: Mapping[str, Any] | Path) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        return checked(manifest, inputs, "golden inputs")
    with Archive(inputs) as archive:
        return from_archive(manifest, archive)


def _warnings(manifest: Manifest, wish: Wish, found: Shapes) -> tuple[str, ...]:
    """A number of examples that was asked for, where no input's first axis is free to have it."""
    stated = {name: manifest["inputs"][name]["shape"] for name in found}
    leads = {name: shape[0] if isinstance(shape[0], int) else None for name, shape in stated.items() if shape}
    given = wish.shapes or {}
    if wish.batch is None or not leads or any(n in given or leads[n] in (None, wish.batch) for n in leads):
        return ()
    name = next(iter(leads))
    return (f"the batch is fixed: input {name!r} is {shape_text(found[name])}, not one of {wish.batch} examples",)


# -- shapes ------------------------------------------------------------------------------------------------------------


def shapes(manifest: Manifest, batch: int | None, given: Mapping[str, Sequence[int]]) -> list[Shapes]:
    """Shapes of all inputs, to be tried one after the other.

    Args:
        manifest: the model.
        batch: the length of free first axes.
        given: whole shapes of inputs, or the lengths of named free dimensions, by name.

    Raises:
        UsageError: what is given fits no input, or an input has no shape.
    """
    ports = {name: port for name, port in manifest["inputs"].items() if port["dtype"] != "string"}
    fixed = _known(ports, given)
    if batch is None:  # then one whole shape says it for the others
        open_ = (
            shape[0] for name, shape in given.items() if name in ports and (ports[name]["shape"] or (1,))[0] is None
        )
        batch = next(open_, BATCH)
    lead = {n: batch for port in ports.values() for n in (port["shape"] or ())[:1] if isinstance(n, str)}
    others = [n for n in _names(ports) if n not in lead]
    found: list[Shapes] = []
    for lengths in _LENGTHS:
        names: dict[str, int] = {**{n: lengths[i % 3] for i, n in enumerate(others)}, **lead, **fixed}
        ends = (batch, *lengths)
        one = {n: tuple(given[n] if n in given else _filled(p["shape"], names, ends)) for n, p in ports.items()}
        if one not in found and (not found or _elements(one) <= _MOST_GUESSED):
            found.append(one)
    if _elements(found[0]) > _MOST:
        name, shape = max(found[0].items(), key=lambda item: math.prod(item[1]))
        raise UsageError(f"input {name!r} would be {shape_text(shape)}, which is too large to try; give smaller shapes")
    return found


def _elements(one: Shapes) -> int:
    return sum(math.prod(shape) for shape in one.values())


def _names(ports: Manifest) -> list[str]:
    """The named dimensions."""
    return list(dict.fromkeys(n for port in ports.values() for n in port["shape"] or () if isinstance(n, str)))


def _filled(shape: Sequence[int | str | None], names: Mapping[str, int], lengths: Sequence[int]) -> Iterator[int]:
    for i, n in enumerate(shape):
        yield n if isinstance(n, int) else names[n] if isinstance(n, str) else lengths[i and (i - 1) % 3 + 1]


def _known(ports: Manifest, given: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The lengths of named dimensions that follow from what is given."""
    names = _names(ports)
    found: dict[str, int] = {}
    for key, shape in given.items():
        if key in ports:
            stated = ports[key]["shape"]
            if stated is not None and len(stated) != len(shape):
                raise UsageError(f"--golden-shape {key}: has {len(shape)} lengths, the input is {shape_text(stated)}")
            for n, m in zip(stated or (), shape, strict=False):
                if isinstance(n, int) and n != m:
                    raise UsageError(f"--golden-shape {key}: {shape_text(shape)} is not {shape_text(stated)}")
                if isinstance(n, str) and found.setdefault(n, m) != m:
                    raise UsageError(f"--golden-shape {key}: makes {n} {m}, but it is {found[n]} already")
        elif key in names and len(shape) == 1:
            if found.setdefault(key, shape[0]) != shape[0]:
                raise UsageError(f"--golden-shape {key}: is {found[key]} already")
        else:
            known = [*ports, *names]
            what = "is one length" if key in names else f"is no input or named dimension{hint(key, known)}"
            raise UsageError(f"--golden-shape {key}: {what}; there are {', '.join(known) or 'none'}")
    if lost := [name for name, port in ports.items() if port["shape"] is None and name not in given]:
        raise UsageError(f"input {lost[0]!r} has no stated shape; say it with --golden-shape {lost[0]}=...")
    return found


# -- numbers -----------------------------------------------------------------------------------------------------------


def tries(manifest: Manifest, choices: Sequence[Shapes]) -> Iterator[dict[str, Array]]:
    """Random inputs of each of these shapes, with ever fewer different integers."""
    pools = reach(manifest)
    integers = [n for n in choices[0] if n in pools or np.dtype(_kind(manifest, n)).kind in "iu"]
    for shape in choices:
        for most in (None, 2, 1) if integers else (None,):
            yield {
                name: _sample(name, _kind(manifest, name), own, pools.get(name), most) for name, own in shape.items()
            }


def _kind(manifest: Manifest, name: str) -> np.dtype[Any]:
    stated = manifest["inputs"][name]["dtype"] or "float32"
    if stated.startswith("complex"):
        return np.dtype(np.complex64)
    return np.dtype(np.float64) if dtypes.is_float(stated) else dtypes.numpy_dtype(stated)


def _sample(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], own: Pool | None, most: int | None) -> Array:
    seed = hashlib.sha256(f"wexport golden {name}".encode("utf-8", "backslashreplace")).digest()[:4]
    random = np.random.RandomState(int.from_bytes(seed, "little"))
    mask = dtype.kind == "b" or (dtype.kind in "iu" and own is None and "mask" in name.lower())
    if mask:
        x = random.random_sample(shape) < 0.5
        if x.ndim:
            x[..., :1] = True  # a row of which nothing is seen has no answer
        return np.asarray(x).astype(dtype)
    if own is None and dtype.kind not in "iu":
        real = np.asarray(random.standard_normal(shape))
        return real + 1j * np.asarray(random.standard_normal(shape)) if dtype.kind == "c" else real
    few = range(_SMALL) if own is None else own
    if most is not None:
        few = few[:2][-most:]  # the smallest two, and then not zero
    places = np.asarray(random.randint(0, len(few), shape))
    return (places + few.start if isinstance(few, range) else np.asarray(few)[places]).astype(dtype)
