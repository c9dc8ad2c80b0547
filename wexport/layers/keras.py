"""How Keras writes a layer down, in every version.

`Keras` is one layer of a config; `Stored` is what a room makes of it: the kind, the attributes in wexport's
words, and a `Slot` for each variable, in the order in which Keras creates them. `@keras("Dense")` signs a
class in. Class names and module paths from a file are keys into this table and nothing else.

Sources: keras/legacy/interfaces.py (2.2.4) for Keras 1's names; keras/src/saving/serialization_lib.py (3.15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from wexport.errors import LayoutError
from wexport.layout import Rule, Step
from wexport.model import Json

_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Era:
    """Which Keras wrote the file.

    `theano`: its convolutions flip their kernels. `channels_first`: what layers mean that do not say.
    """

    major: int = 2
    tf: bool = False
    version: tuple[int, ...] = ()
    theano: bool = False
    channels_first: bool = False

    def since(self, *version: int) -> bool:
        """Whether the writer is this version or a later one; a Keras 3 that does not say is taken for a late one."""
        return self.version >= version if self.version else self.major >= 3


@dataclass(frozen=True, slots=True)
class Keras:
    """One layer, as a config has it."""

    name: str
    class_name: str
    config: Mapping[str, Json]
    era: Era = Era()
    build: Mapping[str, Json] = field(default_factory=dict)
    known_class: bool = True  # whether the class is the framework's own
    assets: Mapping[str, Sequence[str]] = field(default_factory=dict)  # an archive's text files for it, by line

    def get(self, *names: str, default: Json = None) -> Json:
        """The first of these keys that the config has."""
        for name in names:
            if name in self.config:
                return self.config[name]
        return default

    def need(self, *names: str) -> Json:
        """The first of these keys that the config has.

        Raises:
            LayoutError: it has none of them.
        """
        found = self.get(*names, default=_REQUIRED)
        if found is _REQUIRED:
            raise LayoutError(f"{self.name}: the {self.class_name} config has no {names[0]!r}")
        return found

    def integer(self, *names: str) -> int:
        """A whole number."""
        found = self.need(*names)
        if isinstance(found, bool) or not isinstance(found, int | float) or found != int(found):
            raise LayoutError(f"{self.name}: {self.class_name} config: {names[0]} is {found!r}, not a whole number")
        return int(found)

    def flag(self, *names: str, default: bool) -> bool:
        """A truth value."""
        return bool(self.get(*names, default=default))

    def number(self, *names: str, default: float | None = None) -> Json:
        """A number, or the items of a Keras 3 tensor literal."""
        found = self.get(*names, default=default)
        return float(found) if isinstance(found, int | float) else plain(found)

    def numbers(self, n: int, *names: str, default: Json = _REQUIRED) -> list[int]:
        """A tuple of n whole numbers, written as such or as one number for all of them."""
        found = plain(self.get(*names, default=default) if default is not _REQUIRED else self.need(*names))
        items = list(found) if isinstance(found, list | tuple) else [found] * n
        if len(items) != n or not all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
            raise LayoutError(f"{self.name}: {self.class_name} config: {names[0]} is {found!r}, expected {n} numbers")
        return [int(i) for i in items]

    @property
    def data_format(self) -> str:
        """`channels_last` or `channels_first`; Keras 1 says `tf` or `th`."""
        found = self.get("data_format", "dim_ordering")
        if found is None:
            return "channels_first" if self.era.channels_first else "channels_last"
        return "channels_first" if found in ("channels_first", "th") else "channels_last"

    def child(self, config: Json) -> Keras:
        """A layer inside this one's config."""
        if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
            raise LayoutError(
                f"{self.name}: {self.class_name} config: a layer was expected, found {str(config)[:60]!r}"
            )
        inner = config.get("config")
        if not isinstance(inner, Mapping):
            inner = {"layers": inner}
        build = config.get("build_config")
        return Keras(
            str(inner.get("name") or config["class_name"].lower()),
            config["class_name"],
            inner,
            self.era,
            build if isinstance(build, Mapping) else {},
            is_builtin(config),
        )


Shapes = Mapping[str, tuple[int, ...]]  # of a layer's arrays, by their names in Keras
Ruling = Rule | Callable[[tuple[int, ...], Shapes], Rule]  # of the array's own shape, and of all shapes


@dataclass(frozen=True, slots=True)
class Slot:
    """One variable of a layer, listed in the order in which archives number a layer's own variables.

    `name` is its name in Keras, `path` the sub-object that owns it, `rule` what it holds (or a function of its
    shape). `splits`: its `in` axis may be split by source. `trainable` orders `.h5` files, `tracked` (the same
    unless the layer changed it later) orders `get_weights()`. `copy_of`: archives store it as an alias of this
    path and name; `.h5` files do not. `merged`: archives do not store it, it is part of the kernel there.
    """

    name: str
    rule: Ruling
    splits: bool = False
    trainable: bool = True
    tracked: bool | None = None
    path: str = ""
    copy_of: str | None = None
    merged: bool = False

    def rule_for(self, shape: tuple[int, ...], shapes: Shapes) -> Rule:
        """The rule for an array of this shape, among the layer's other arrays."""
        return self.rule if isinstance(self.rule, Rule) else self.rule(shape, shapes)

    def mapped(self, change: Callable[[Rule], Rule]) -> Slot:
        """The same slot with another rule."""
        rule = self.rule
        if isinstance(rule, Rule):
            return replace(self, rule=change(rule))
        made = rule
        return replace(self, rule=lambda shape, shapes: change(made(shape, shapes)))

    def below(self, path: str) -> Slot:
        """The same slot, owned by a sub-object's sub-object."""
        inner = f"{path}/{self.path}" if self.path else path
        copy = self.copy_of and f"{path}/{self.copy_of}"
        return replace(self, path=inner, copy_of=copy)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph among the arguments of a call."""

    value: str


Bound = tuple[str, dict[str, Json], dict[str, Any]]  # kind, attributes and arguments of an operation


@dataclass(frozen=True, slots=True)
class Stored:
    """What a room makes of a Keras layer.

    `call` are the names of the positional arguments of a call, in wexport's words; a trailing `*` takes all
    that are left, several words in one name are the roles of the items of one list. `mask` says what becomes of an
    implicit mask, see `readers/keras/masks.py`; `takes_mask` that computing uses it. `roles` are the outputs. `derive`
    gives attributes that only the arrays tell, `bind` what an operation is, from the arguments of its call (None:
    unknown after all). `ghosts` counts entries of `get_weights()` that no array stands for.
    """

    kind: str
    attributes: Mapping[str, Json] = field(default_factory=dict)
    slots: tuple[Slot, ...] = ()
    call: tuple[str, ...] = ("x",)
    roles: tuple[str, ...] = ("y",)
    mask: str = "stop"
    takes_mask: bool = False
    known: bool = True
    derive: Callable[[Shapes], dict[str, Json]] | None = None
    bind: Callable[[Sequence[Any], Mapping[str, Any]], Bound | None] | None = None
    ghosts: int = 0


Room = Callable[[Keras], Stored]
ROOMS: dict[str, Room] = {}
# what a config leaves out and the arrays' names or number tell: further config entries
Told = Callable[[Keras, Shapes], dict[str, Json]]
TOLD: list[Told] = []
R = TypeVar("R", bound=Room)


def keras(*classes: str) -> Callable[[R], R]:
    """Sign in a room for these class names."""

    def sign(room: R) -> R:
        for name in classes:
            ROOMS[name] = room
        return room

    return sign


def stored(layer: Keras) -> Stored:
    """What a layer stores; of a class that is not in the table, nothing is known.

    Raises:
        LayoutError: the config lacks what its class needs.
    """
    room = ROOMS.get(layer.class_name) if layer.known_class else None
    return room(layer) if room else unknown(layer)


def told(layer: Keras, shapes: Shapes) -> Keras | None:
    """The layer with what its arrays tell of its config; None if they tell nothing.

    Some versions wrote configs that lack an option; the arrays show that it was used.
    """
    found: dict[str, Json] = {}
    for tell in TOLD:
        found |= tell(layer, shapes)
    return replace(layer, config={**layer.config, **found}) if found else None


def unknown(layer: Keras) -> Stored:
    """A layer that wexport does not know: its config is data, shown as it is, without code."""
    return Stored("unknown", {"config": plain(layer.config, code=True)}, known=False)


def is_builtin(config: Mapping[str, Json]) -> bool:
    """Whether an envelope names one of Keras' own classes; a registered name has a package before it."""
    registered = config.get("registered_name")
    module = config.get("module")
    if isinstance(registered, str) and ">" in registered:
        return registered.startswith("Keras>")
    return (
        not isinstance(module, str)
        or module.startswith(("keras.", "tf_keras.", "tensorflow."))
        or module
        in {
            "keras",
            "builtins",
        }
    )


def rule(
    text: str,
    *steps: Step,
    at: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    **labels: Sequence[str],
) -> Rule:
    """A layout rule with its labels, steps and sizes."""
    return replace(Rule.parse(text, **labels), at=at or {}, sizes=sizes or {}, steps=steps)


def plain(found: Json, code: bool = False, depth: int = 0) -> Json:
    """A config value as plain JSON: Keras' wrapped tuples, slices, tensors and type names unwrapped.

    With `code`, marshalled functions are replaced by a note: code in a model is never shown nor run.
    """
    if depth > 60:
        return None
    if isinstance(found, Mapping):
        name, inner = found.get("class_name"), found.get("config")
        if name in {"__tuple__", "TensorShape"} and "items" in found:
            return [plain(i, code, depth + 1) for i in found["items"] or ()]
        if name in {"__tensor__", "__numpy__"} and isinstance(inner, Mapping):
            return plain(inner.get("value"), code, depth + 1)
        if code and name == "__lambda__":
            return "code (not read)"
        return {
            str(k): "code (not read)"
            if code and k in {"function", "mode", "output_shape", "mask", "fn"} and _is_code(v)
            else plain(v, code, depth + 1)
            for k, v in found.items()
        }
    if isinstance(found, list | tuple):
        return [plain(i, code, depth + 1) for i in found]
    return found


def _is_code(found: Json) -> bool:
    """Marshalled bytes: a list of text, defaults and closure, or one long string."""
    head = found[0] if isinstance(found, list | tuple) and found else found
    return isinstance(head, str) and len(head) > 40


def dtype_name(found: Json) -> tuple[str, str]:
    """The types of a policy: variables, computing. `mixed_float16` keeps its variables in float32."""
    name = policy_name(found)
    if name.startswith("mixed_"):
        return "float32", name[len("mixed_") :]
    if "_from_" in name:
        source = name.split("_from_")[1]
        return dtype_name(source)
    return name, name


def policy_name(found: Json) -> str:
    """The name of a dtype policy, however it is written."""
    if isinstance(found, Mapping):
        inner = found.get("config")
        if isinstance(inner, Mapping):
            return str(inner.get("name") or inner.get("source_name") or "float32")
        return "float32"
    return str(found) if isinstance(found, str) else "float32"
