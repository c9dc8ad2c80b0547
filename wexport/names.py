"""Tensor names: `<layer>[.<direction>][.<cell>][.<block>].<role>[.from.<source>]`."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable

MANIFEST = "manifest.yaml"
DATA = "model.safetensors"
INDEX = "model.safetensors.index.json"
GOLDEN = "golden.safetensors"
DATA_FILES = (DATA, INDEX)

# the order in which a layer's tensors are stored: first by role, then by the labels before it
_ROLES = (
    "kernel", "depthwise", "pointwise", "embedding", "reverse_embedding", "recurrent", "scale", "alpha", "lora_a",
    "lora_b", "kernel_scale", "kernel_zero_point", "kernel_group", "bias", "recurrent_bias", "offset", "mean",
    "variance",
)  # fmt: skip
_LABELS = (
    "forward", "backward", "input", "forget", "cell", "update", "reset", "candidate", "query", "key", "value",
    "gate", "output",
)  # fmt: skip


def part_name(name: str, source: str) -> str:
    """The name of a kernel's part: `kernel` gives way to `from`, other roles keep their word."""
    head, _, last = name.rpartition(".")
    return ".".join(w for w in (head, "" if last == "kernel" else last, "from", source) if w)


def tensor_name(layer: str, name: str, source: str | None) -> str:
    """The full name of a tensor of a layer."""
    return f"{layer}.{name if source is None else part_name(name, source)}"


class Names(set[str]):
    """Names that are taken; how far the numbers behind each are used up is remembered, for thousands of equal ones."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        self.last: dict[str, int] = {}


def unique(name: str, taken: Container[str]) -> str:
    """The name, or the first of `name~2`, `name~3` ... that is free."""
    if name not in taken:
        return name
    number = taken.last.get(name, 1) if isinstance(taken, Names) else 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}~{number}"
    if isinstance(taken, Names):
        taken.last[name] = number
    return found


def role_rank(role: str) -> int:
    """The place of a role in the data."""
    return _ROLES.index(role) if role in _ROLES else len(_ROLES)


def label_rank(label: str) -> int:
    """The place of a gate, direction or part in the data."""
    if label.isdigit():
        return int(label)
    return _LABELS.index(label) if label in _LABELS else len(_LABELS)


def printable(text: str) -> str:
    """Text from a file, safe to print: control, format and direction characters are spelled out."""
    return "".join(c if _is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _is_plain(c: str) -> bool:
    return unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
