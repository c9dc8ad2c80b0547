"""The way back: a bundle's tensors, edited or not, in a copy of the file that they came from, or as plain arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import Bundle
from wexport.compare import Comparison, Progress, compare
from wexport.errors import BundleError, OutputError, UsageError
from wexport.model import Array, Model, unpacking
from wexport.npz import write_npz
from wexport.output import beside, new_file, vacant
from wexport.readers import open_model
from wexport.readers.rewrite import rewrite
from wexport.rebuild import BLOCK_BYTES, Rebuilder, counted
from wexport.trust import trusting
from wexport.view import Unpack


@dataclass(frozen=True, slots=True)
class Restored:
    """What was written: `edited` are the tensors that differ from the model's, with the number of such elements."""

    path: Path
    model: Path | None
    weights: int
    constants: int
    bytes: int
    edited: Mapping[str, int]


def restore(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str] | None = None,
    architecture: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress = lambda size: None,
) -> Restored:
    """Put a bundle's tensors back into a copy of the model file, or write the arrays that it stored to an .npz file.

    Tensors may have been edited: names, shapes and types must be as they were, checksums need not be. All else of the
    copy is as in the model file. Where any was edited, each array of the copy is read again and compared before it
    appears.

    Args:
        bundle: the bundle's folder.
        out: the file (or folder) to write.
        into: the model file that the bundle was made from; without it, `out` becomes an .npz file with the arrays of
            `get_weights()` as `w000`, `w001` ..., or under their own names where the file tells no order.
        architecture: as for `export`.
        force: replace what is at `out`.
        progress: called with the number of bytes that were looked at, from several threads.

    Raises:
        BundleError: the bundle does not fit the model, or contradicts itself.
        SourceError: the model file cannot be read, or not be written in its format.
        OutputError: `out` exists already, or cannot be written.
    """
    with Bundle(bundle) as opened, trusting(opened):
        rebuilder = Rebuilder(opened)
        if into is None:
            return _arrays(rebuilder, Path(out), force, progress)
        model = open_model(Path(into), Path(architecture) if architecture is not None else None)
        try:
            found = compare(rebuilder, model, progress)
            _check_fit(rebuilder, model, found, Path(into))
            sources = [Path(into), *(file.path for file in model.files), *opened.parts()]
            sources += [Path(architecture)] if architecture is not None else []
            _check_place(Path(out), Path(into), force, sources)
            with beside(Path(out), force, sources) as place:
                changed = {key: rebuilder.find(key).storage for key in found.edited}
                name = Path(os.path.abspath(out)).name
                rewrite(Path(into), model, changed, place, name, Path(os.path.abspath(out)).parent)
                if changed:  # else it is a copy, bit for bit
                    _check_written(rebuilder, place / name, architecture, progress)
        finally:
            model.close()
        own = {key: counts for key, counts in found.edited.items() if "copy_of" not in rebuilder.weights[key]}
        edited = {name or key: n for key, counts in own.items() for name, n in counts.items()}
        return Restored(Path(out), Path(into), *counted(opened), found.bytes, edited)


def _check_place(out: Path, into: Path, force: bool, sources: list[Path]) -> None:
    """Refuse a file in the place of a folder, and a folder inside of the one that is copied."""
    if not into.is_dir():
        vacant(out, force, sources)
    elif into.resolve() in Path(os.path.abspath(out)).resolve().parents:
        raise OutputError(f"{out}: lies inside of {into}, which is copied there; choose another place")


def _check_fit(rebuilder: Rebuilder, model: Model, found: Comparison, into: Path) -> None:
    """Refuse a model whose weights are not those of the bundle; what is left out may differ."""
    arrays = model.arrays()
    wrong = {k: v for k, v in found.missing.items() if k in arrays or k in rebuilder.weights} | found.unfit
    if wrong:
        source = rebuilder.bundle.manifest["model"].get("source", {}).get("file")
        key, reason = next(iter(wrong.items()))
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise BundleError(
            f"{rebuilder.bundle.path}: does not fit {into}: {key!r}: {reason}{more}; "
            f"restore into the file that the bundle was made from, {source}"
        )


def _check_written(
    rebuilder: Rebuilder, path: Path, architecture: str | os.PathLike[str] | None, progress: Progress
) -> None:
    model = open_model(path, Path(architecture) if architecture is not None else None)
    try:
        found = compare(rebuilder, model, progress)
    finally:
        model.close()
    if found.edited or found.unfit:
        key = next(iter(found.edited or found.unfit))
        raise OutputError(f"{path.name}: {key!r} reads otherwise than it was written; please report this with the file")


# -- arrays ------------------------------------------------------------------------------------------------------------


def _arrays(rebuilder: Rebuilder, out: Path, force: bool, progress: Progress) -> Restored:
    if out.suffix != ".npz":
        raise UsageError(
            f"{out}: without a model file to restore into, arrays are written to an .npz file; "
            "name one, or give the model file (--into MODEL)"
        )
    stated = rebuilder.bundle.manifest["tensors"].values()
    constants = {t["weight"] for t in stated if t["layer"] is None}
    keys = [k for k, w in rebuilder.weights.items() if not ({"copy_of", "constant"} & set(w) or k in constants)]
    indices = [rebuilder.weights[key]["index"] for key in keys]
    if None not in indices:
        keys = [key for _, key in sorted(zip(indices, keys, strict=True))]
    names = keys if None in indices else [f"w{i:03d}" for i in sorted(indices)]
    total = 0

    def members() -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], Iterator[NDArray[Any]]]]:
        nonlocal total
        for name, key in zip(names, keys, strict=True):
            array = rebuilder.find(key)
            total += array.nbytes
            yield name, np.dtype(_plain(array.dtype)), array.shape, _chunks(array, progress)

    with new_file(out, force, rebuilder.bundle.parts()) as file:
        write_npz(file, members())
    return Restored(out, None, *counted(rebuilder.bundle), total, {})


def _plain(dtype: str) -> str:
    """The type that an .npz file can have: short floats become float32, which holds each of them."""
    return dtypes.widen(np.zeros(0, dtypes.mover(dtype)), dtype).dtype.name


def _chunks(array: Array, progress: Progress) -> Iterator[NDArray[Any]]:
    if (step := unpacking(array)) is not None:
        raw = np.frombuffer(array.bytes(), np.uint8)
        yield dtypes.widen(Unpack(array.shape, None, step.signed, step.bits).take(raw).view(np.uint8), array.dtype)
        return
    for start in range(0, array.nbytes, BLOCK_BYTES):
        block: NDArray[Any] = np.empty(min(BLOCK_BYTES, array.nbytes - start), np.uint8)
        array.storage.read_into(memoryview(block), start)
        progress(len(block))
        yield dtypes.widen(block.view(dtypes.mover(array.dtype)), array.dtype)
