"""What a Keras file says of itself, before any layer is looked at: its config, its era, its arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wexport.errors import SourceError
from wexport.layers.keras import Era
from wexport.model import Array, Json, LeftOut
from wexport.readers.hdf5 import Attribute, Group, H5Array
from wexport.readers.keras.bind import Found
from wexport.storage import SourceFile

MAX_CONFIG = 256 << 20


@dataclass(slots=True)
class Source:
    """A Keras file (or archive, or weights with an architecture), opened.

    `config` is the model's config, None where there is none; `version` what the writer calls itself.
    """

    path: Path
    format: str
    root: Group
    files: tuple[SourceFile, ...]
    config: Json = None
    version: str | None = None
    backend: str | None = None
    assets: Mapping[str, list[str]] = field(default_factory=dict)
    architecture: Path | None = None


def era_of(source: Source, first: bool, weight_names: list[str]) -> Era:
    """Which Keras wrote a file.

    `first`: its weights group carries no version, which only Keras 1's do. Theano's weight names lack the `:0`.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", source.version or "")
    numbers = tuple(int(g or 0) for g in match.groups()) if match else ()
    major = numbers[0] if numbers else (1 if first else 2)
    text = source.version or ""
    tf = major == 2 and ("-tf" in text or numbers >= (2, 4))
    theano = source.backend == "theano"
    if major <= 1:
        theano = bool(weight_names) and not any(re.search(r":\d+$", n) for n in weight_names)
    return Era(max(major, 1), tf, numbers, theano, says_channels_first(source.config))


def says_channels_first(config: Json) -> bool:
    """Whether the layers that name a data format name `channels_first`."""
    found = data_formats(config)
    return bool(found & {"channels_first", "th"}) and not found & {"channels_last", "tf"}


def data_formats(config: Json) -> set[str]:
    """The data formats that layers name, in the words of any version."""
    return {v for k, v in _pairs(config, 0) if k in {"data_format", "dim_ordering"}}


def _pairs(config: Json, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > 200:
        return
    if isinstance(config, Mapping):
        for k, v in config.items():
            if isinstance(v, str):
                yield k, v
            else:
                yield from _pairs(v, depth + 1)
    elif isinstance(config, list):
        for v in config:
            yield from _pairs(v, depth + 1)


def parse_json(text: str | bytes, what: str) -> Json:
    """JSON as Python writes it (NaN and Infinity included).

    Raises:
        SourceError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise SourceError(f"{what}: is nested too deeply") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise SourceError(f"{what}: is not valid JSON: {error}") from error


def read_architecture(path: Path) -> Json:
    """A file that `to_json()` or `to_yaml()` gave.

    Raises:
        SourceError: it is neither, or holds no model.
    """
    with SourceFile(path) as file:
        if file.size > MAX_CONFIG:
            raise SourceError(f"{path}: {file.size:,} bytes are too many for an architecture")
        data = file.read(0, file.size)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not text; expected what model.to_json() or to_yaml() gave") from error
    is_json = text.lstrip().startswith(("{", "["))
    config = parse_json(text, str(path)) if is_json else _parse_yaml(text, path)
    if not isinstance(config, Mapping) or "class_name" not in config:
        raise SourceError(f'{path}: has no "class_name"; expected what model.to_json() or to_yaml() gave')
    return config


def _parse_yaml(text: str, path: Path) -> Json:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain data, and Python tuples (which to_yaml wrote) as lists."""

    plain: Any = Loader
    plain.add_constructor("tag:yaml.org,2002:python/tuple", Loader.construct_sequence)
    plain.add_constructor("tag:yaml.org,2002:python/unicode", Loader.construct_scalar)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SourceError(f"{path}: cannot be read as YAML (code in it is refused): {reason}") from error


# -- arrays ------------------------------------------------------------------------------------------------------------


def text_list(attrs: Mapping[str, Attribute], name: str) -> list[str] | None:
    """A list attribute, put together from its chunks (`name0`, `name1`, ...) where it was too long for one."""
    found = attrs.get(name)
    if found is None and f"{name}0" not in attrs:
        return None
    if found is not None:
        return found if isinstance(found, list) else [str(found)] if isinstance(found, str) else []
    result: list[str] = []
    number = 0
    while isinstance(part := attrs.get(f"{name}{number}"), list):
        result += part
        number += 1
    return result


def member(group: Group, path: str, what: str) -> H5Array:
    """The array at a path below a group.

    Raises:
        SourceError: the path leaves the group, or there is no array.
    """
    parts = path.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise SourceError(f"{what}: the weight name {path!r} is no path below its layer")
    found = group.find(path)
    if not isinstance(found, H5Array):
        raise SourceError(
            f"{what}: the file names a weight {path!r} but holds no such array; it is damaged or incomplete"
        )
    return found


def as_found(key: str, name: str, array: H5Array) -> Found | LeftOut:
    """An array of the file with its key there; one that holds no numbers is left out."""
    if array.dtype is None:
        return LeftOut(key, array.shape, "its elements are no numbers that a tensor can hold")
    return Found(key, name, Array(key, array.shape, array.dtype, array.storage))


def with_index(found: Found, index: Mapping[str, int]) -> Found:
    """The same array with its place in the framework's own list."""
    return replace(found, array=replace(found.array, index=index.get(found.key)))
