"""Readers: a model file of any known container, as a `Model`. The content decides, never the file's ending."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wexport.errors import SourceError, UsageError
from wexport.model import Model
from wexport.storage import SourceFile

if TYPE_CHECKING:
    from wexport.readers.keras.source import Source


def open_model(path: Path, architecture: Path | None = None) -> Model:
    """A model file, read as far as names and shapes go; its arrays stay in the file until asked for.

    Args:
        path: the file (or folder, or map of shards).
        architecture: what `model.to_json()` or `to_yaml()` gave, for a file that holds weights only.

    Raises:
        SourceError: the file is missing, damaged, or of no kind that is known.
        UsageError: an architecture was given for a file that has its own.
    """
    try:
        path.stat()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: does not exist") from error
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if (found := _open_onnx(path)) is not None:
        if architecture is not None:
            found.close()
            raise UsageError(f"{path}: holds its own graph; --architecture is for files with weights only")
        return found
    from wexport.readers.keras.source import read_architecture

    source = _source(path)
    if architecture is not None:
        if source.config is not None:
            _close(source)
            raise UsageError(f"{path}: holds its own architecture; --architecture is for files with weights only")
        config = read_architecture(architecture)
        source.config, source.architecture = config, architecture
        stated = config.get("keras_version") if isinstance(config, Mapping) else None
        if isinstance(stated, str):
            source.version = stated
    from wexport.readers.keras.model import build

    try:
        model = build(source)
        if source.config is None and not any(layer.weights for layer in model.layers):
            raise SourceError(f"{path}: names no layer that has an array; expected a file with weights")
        return model
    except BaseException:
        _close(source)
        raise


def _open_onnx(path: Path) -> Model | None:
    """A model in an ONNX file; None for any other file."""
    from wexport.readers.onnx.wire import is_onnx

    if not path.is_file():
        return None
    file = SourceFile(path)
    try:
        if not is_onnx(file) and path.suffix != ".onnx":
            file.close()
            return None
        from wexport.readers.onnx.build import build
        from wexport.readers.onnx.container import open_container

        container = open_container(path, file)
    except BaseException:
        file.close()
        raise
    try:
        return build(container)
    except BaseException as error:
        container.close()
        if isinstance(error, ArithmeticError | AttributeError | LookupError | TypeError | ValueError):
            raise SourceError(
                f"{path}: its graph contradicts itself ({type(error).__name__}: {error}); check the file with "
                "onnx.checker, and if that is content, please report this with the file"
            ) from error
        raise


def _close(source: Source) -> None:
    for file in source.files:
        file.close()


def _source(path: Path) -> Source:
    from wexport.readers.keras import archive

    if path.is_dir():
        return archive.read_folder(path)
    file = SourceFile(path)
    try:
        return _sniffed(path, file)
    except BaseException:
        file.close()
        raise


def _sniffed(path: Path, file: SourceFile) -> Source:
    from wexport.readers.keras import archive

    head = file.read(0, 4096)
    if head.startswith(archive.ZIP_MAGIC):
        return archive.read_archive(path, file)
    from wexport.readers.hdf5 import is_hdf5

    if is_hdf5(file):
        return _hdf5(path, file)
    if archive.is_shard_map(head):
        file.close()
        return archive.read_shards(path)
    raise SourceError(_not_a_model(path, file, head))


def _hdf5(path: Path, file: SourceFile) -> Source:
    from wexport.readers.hdf5 import read_hdf5
    from wexport.readers.keras.legacy import weights_group
    from wexport.readers.keras.source import Source, parse_json

    root = read_hdf5(file)
    config = root.attrs.get("model_config")
    if isinstance(config, str):
        if weights_group(root) is None:
            raise SourceError(f"{path}: has an architecture but no group of weights; it is damaged or incomplete")
        return Source(path, "keras-hdf5", root, (file,), parse_json(config, f"{path}: model_config"))
    if weights_group(root) is not None:
        return Source(path, "keras-hdf5-weights", root, (file,))
    if any(
        "vars" in g.groups or name in {"layers", "_layer_checkpoint_dependencies", "vars"}
        for name, g in root.groups.items()
    ):
        return Source(path, "keras-weights", root, (file,))
    has = ", ".join([*root.groups, *root.arrays][:5]) or "nothing"
    raise SourceError(f"{path}: is an HDF5 file but no Keras model (no layer_names, no layers group); it holds {has}")


def _not_a_model(path: Path, file: SourceFile, head: bytes) -> str:
    if not file.size:
        return f"{path}: is empty; expected a model file"
    if head.lstrip()[:1] in (b"{", b"[") and b"class_name" in head:
        return f"{path}: holds an architecture only; give the file with the weights, and this one with --architecture"
    return (
        f"{path}: is not a model file that wexport knows; "
        "expected a Keras .h5, .keras or .weights.h5 file, or an ONNX file"
    )
