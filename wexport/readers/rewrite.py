"""A copy of a model file, in its own format, with new bytes for some of its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wexport.model import Model
from wexport.storage import Storage


def rewrite(path: Path, model: Model, changed: Mapping[str, Storage], place: Path, name: str) -> None:
    """Write the copy; all that is not changed stays as it is.

    Args:
        path: the source.
        model: what was read from it, still open.
        changed: new bytes by the arrays' keys, as many as the arrays have.
        place: a folder, in which the copy is called `name`; files that belong to it stand beside it.

    Raises:
        SourceError: an array cannot be written.
    """
    if model.source["format"] == "onnx":
        from wexport.readers.onnx.rewrite import rewrite as write_onnx

        write_onnx(path, changed, place, name)
    else:
        from wexport.readers.keras.rewrite import rewrite as write_keras

        write_keras(path, model, changed, place, name)
