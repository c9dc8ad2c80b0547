"""A copy of a model file, in its own format, with new bytes for some of its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from wexport.model import Model
from wexport.storage import Storage


def rewrite(
    path: Path, model: Model, changed: Mapping[str, Storage], place: Path, name: str, home: Path | None = None
) -> None:
    """Write the copy; all that is not changed stays as it is.

    Args:
        path: the source.
        model: what was read from it, still open.
        changed: new bytes by the arrays' keys, as many as the arrays have.
        place: a folder, in which the copy is called `name`; files that belong to it stand beside it.
        home: where the copy will be moved to; in the source's own folder, files beside it get names after the copy's.

    Raises:
        SourceError: an array cannot be written.
    """
    if model.source["format"] == "onnx":
        from wexport.readers.onnx.rewrite import rewrite as write_onnx

        shared = home is not None and home.resolve() == path.parent.resolve()
        write_onnx(path, changed, place, name, (lambda old: _renamed(old, path.name, name)) if shared else str)
    else:
        from wexport.readers.keras.rewrite import rewrite as write_keras

        write_keras(path, model, changed, place, name)


def _renamed(old: str, source: str, copy: str) -> str:
    """The name of a file beside the copy: `model.onnx.data` of `model.onnx` becomes `new.onnx.data` of `new.onnx`."""
    place = PurePosixPath(old)
    for one, two in ((source, copy), (PurePosixPath(source).stem, PurePosixPath(copy).stem)):
        if place.name.startswith(f"{one}."):
            return str(place.with_name(two + place.name.removeprefix(one)))
    return str(place.with_name(f"{copy}.{place.name}"))
