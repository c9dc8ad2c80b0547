"""The manifest: what it holds, and reading and writing it.

Every entry below a top-level key is one line, `  "key": JSON` or `  - JSON`, so that people read it, `git diff` works
by line and a language without a YAML library reads it with a JSON parser. YAML 1.1 and 1.2 read it alike: all strings
and keys are quoted, floats have a dot, everything that a YAML reader might refuse is escaped. The one exception to a
line an entry: YAML limits keys to 1,024 characters, so longer ones are two lines, `  ? "key"` and `  : JSON`; inside of
an entry they are cut.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wexport.errors import BundleError

VERSION = 1
Json = Any
Manifest = dict[str, Any]

SECTIONS = (
    "model", "inputs", "outputs", "layers", "calls", "equations", "weights", "tensors", "aliases", "left_out", "stats",
    "sketches",
)  # fmt: skip
LATER = {"sketches"}  # manifests from before these sections lack them
_LISTS = {"calls"}
_RECORDS = ("inputs", "outputs", "layers", "weights", "tensors", "aliases", "left_out", "stats", "sketches")
_LONG_KEY = 1000
_DEEPEST = 100
_LARGEST = 1 << 30  # bytes
# what YAML 1.1 readers refuse or fold even in quotes: controls, line separators, byte order marks, surrogates
_ESCAPED = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff"\\\\]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dump(manifest: Mapping[str, Json]) -> bytes:
    """The manifest in its canonical form."""
    lines = [f"wexport: {VERSION}"]
    for section in SECTIONS:
        content = manifest.get(section)
        if not content:
            lines.append(f"{section}: {'[]' if section in _LISTS else '{}'}")
        elif section in _LISTS:
            lines.append(f"{section}:")
            lines += [f"  - {encode(item)}" for item in content]
        else:
            lines.append(f"{section}:")
            for key, item in content.items():
                lines += _entry(key, encode(item))
    return ("\n".join(lines) + "\n").encode("utf-8")


def _entry(key: str, text: str) -> list[str]:
    name = quote(key)
    return [f"  {name}: {text}"] if len(name.encode("utf-8")) <= _LONG_KEY else [f"  ? {name}", f"  : {text}"]


def quote(text: str) -> str:
    """A string in double quotes, as JSON and every YAML read it alike."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"


def encode(value: Json) -> str:
    """A value on one line: JSON, with a dot in every float; what is not finite becomes a string.

    Raises:
        TypeError: the value is no JSON.
    """
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_inner_key(str(k))}: {encode(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join([encode(v) for v in value]) + "]"
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _inner_key(key: str) -> str:
    """A key inside of a line, where YAML has no form for a long one: it is cut, and told apart by its checksum."""
    name = quote(key)
    if len(name.encode("utf-8")) <= _LONG_KEY:
        return name
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return quote(f"{key[:100]}...{digest[:16]}")


def _float(value: float) -> str:
    if not math.isfinite(value):
        return '"nan"' if value != value else '"inf"' if value > 0 else '"-inf"'
    text = repr(value)
    if "." in text:
        return text
    head, e, tail = text.partition("e")
    return f"{head}.0{e}{tail}"


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> bytes:
    """The bytes of a manifest's file.

    Raises:
        BundleError: it cannot be read, or is larger than any manifest.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise BundleError(f"{path}: has {size:,} bytes; expected a manifest, which has at most {_LARGEST:,}")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def load(data: bytes, name: str, known: dict[str, Json] | None = None) -> Manifest:
    """A manifest's content; the canonical form is read by line, anything else (edited by hand) as YAML.

    Args:
        data: the manifest.
        name: what messages call it.
        known: sections of others, by their text: what is alike is not parsed again, but shared.

    Raises:
        BundleError: it is no manifest, or one of a version that this program does not know.
    """
    try:
        if b"\0" in data:  # no YAML may have one, and a file full of them need not be taken apart
            raise ValueError("it has null bytes")
        text = data.decode("utf-8")
    except ValueError as error:
        raise BundleError(f"{name}: is not UTF-8 text: {error}") from error
    found = _by_line(text, {} if known is None else known)
    if found is None:
        found = _by_yaml(text, name)
    version = found.get("wexport")
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError(f'{name}: has no "wexport: {VERSION}" at its top; expected a manifest')
    if version > VERSION:
        raise BundleError(f"{name}: is of format version {version}, this program knows up to {VERSION}; upgrade it")
    missing = [section for section in SECTIONS if section not in found and section not in LATER]
    for section in SECTIONS:
        want = list if section in _LISTS else dict
        if not isinstance(found.setdefault(section, want()), want):
            raise BundleError(f"{name}: the section {section!r} is not a {want.__name__}")
    for section in _RECORDS:
        for key, item in found[section].items():
            if not isinstance(item, dict):
                raise BundleError(f"{name}: the entry {key!r} of {section!r} is not a mapping; export again")
    if missing:  # what is cut off between two lines can be read to its end
        raise BundleError(f"{name}: lacks the section {missing[0]!r}; if it was cut off, export again")
    return found


def _by_line(text: str, known: dict[str, Json]) -> Manifest | None:
    """The canonical form; None for anything else. A section is parsed as one text: half the time of line by line."""
    found: Manifest = {}
    try:
        for section, (rest, lines) in _sections(text).items():
            start, end = "[]" if section in _LISTS else "{}"
            if lines and rest.strip():
                return None
            content = rest if rest.strip() else f"{start}{','.join(lines)}{end}"
            found[section] = known[content] if lines and content in known else json.loads(content)
            if lines and len(found[section]) != len(lines):
                return None  # two entries in a line, or one twice: YAML's reader says what that means
            known[content] = found[section]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found


def _sections(text: str) -> dict[str, tuple[str, list[str]]]:
    """For each section, what stands behind its name, and its lines as they stand in JSON."""
    found: dict[str, tuple[str, list[str]]] = {}
    lines: list[str] = []
    long_key = ""
    for line in text.splitlines() if "\x85" not in text else text.split("\n"):
        if line.startswith('  "'):
            lines.append(line)
        elif line.startswith("  - "):
            lines.append(line[4:])
        elif line.startswith("  ? "):
            long_key = line[4:]
        elif line.startswith("  : "):
            lines.append(f"{long_key}: {line[4:]}")
        elif line:
            section, _, rest = line.partition(":")
            if not section.isidentifier() or section in found:
                raise ValueError(line)
            lines = []
            found[section] = (rest, lines)
    return found


def _by_yaml(text: str, name: str) -> Manifest:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(yaml.parse(text, loader))
        found = yaml.load(text, loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{name}: cannot be read as YAML: {reason}") from error
    if not isinstance(found, dict):
        raise BundleError(f"{name}: is not a manifest")
    return {str(k): {} if v is None and k not in _LISTS else [] if v is None else v for k, v in found.items()}


def _check_depth(events: Iterable[Any]) -> None:
    """Refuse what would overflow the C loader's stack (it recurses), and aliases, which can grow without bounds."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if kind == "AliasEvent":
            raise ValueError("it has aliases, which no manifest needs")
