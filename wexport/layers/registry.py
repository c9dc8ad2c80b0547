"""The rooms' common desk: what a kind of layer is, and how a room signs in.

A room is one file for one family of layers. For each kind it declares the attributes, how features flow
through it (`@flow`), its equations (`@equations`) and what it computes (`@computes`); for each framework's
class, which kind it is and how its weights are stored (`@keras`, in `layers/keras.py`). Adding a layer
touches its room and its rows in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wexport.features import Dim, Value, source
from wexport.model import Const, Json

Attributes = Mapping[str, Json]

# JSON Schema for the attributes
ANY: Json = {}
BOOL: Json = {"type": "boolean"}
INT: Json = {"type": "integer"}
NUMBER: Json = {"type": ["number", "string"]}  # "inf", "-inf" and "nan" are strings
TEXT: Json = {"type": "string"}
INTS: Json = {"type": "array", "items": {"type": "integer"}}
NUMBERS: Json = {"type": "array"}
LAYER: Json = {"type": "object", "required": ["kind"]}
ACTIVATION: Json = {"type": "object", "required": ["name"]}
FORMAT: Json = {"enum": ["channels_last", "channels_first"]}
PADDING: Json = {"oneOf": [{"enum": ["valid", "same", "same_lower", "causal"]}, {"type": "array", "items": INTS}]}


def optional(schema: Json) -> Json:
    """An attribute that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


@dataclass(slots=True)
class Flow:
    """One call, as shapes and features: the layer's attributes, the arguments, the names of its outputs."""

    attributes: Attributes
    args: Mapping[str, Any]
    names: Mapping[str, str]

    @property
    def x(self) -> Value:
        """The value that the layer is applied to; the first one, if it takes several."""
        x = self.args["x"]
        return self.values("x")[0] if isinstance(x, tuple) else as_value(x)

    def values(self, role: str = "x") -> list[Value]:
        """An argument that is several values."""
        found = self.args.get(role)
        return [as_value(v) for v in (found if isinstance(found, tuple) else (found,))]

    def source(
        self, shape: Sequence[Dim] | None, role: str = "y", channel: int | None = None, dtype: str | None = None,
        axes: Sequence[str] = (),
    ) -> Value:  # fmt: skip
        """A value `[batch, ...]` (or with these axes) whose features start here; floats keep the argument's type."""
        name = self.names.get(role) or self.names.get("y") or ""
        return source(name, shape, dtype or self._dtype(), channel, axes)

    def _dtype(self) -> str | None:
        found = self.args.get("x") or next(iter(self.args.values()), None)
        first = found[0] if isinstance(found, tuple) and found else found
        return first.dtype if isinstance(first, Value | Const) else None


def as_value(arg: Any) -> Value:
    """An argument as a value; a constant has no features that one could follow."""
    if isinstance(arg, Value):
        return arg
    if isinstance(arg, Const):
        return Value(arg.shape, arg.dtype)
    return Value(None)


FlowRule = Callable[[Flow], Mapping[str, Value]]
AxisRule = Callable[[Attributes], int]


@dataclass(slots=True)
class Kind:
    """What wexport knows of a kind of layer.

    `feature_axis` gives the axis of x, the batch counted, that the `in` axis of its kernel reads. `moves` says that it
    only moves data: frameworks need different layers of this sort for the same model. `folds` says that exporters turn
    it into arithmetic, or work it into the weights of the layer before it.
    """

    name: str
    attributes: dict[str, Json] = field(default_factory=dict)
    optional: dict[str, Json] = field(default_factory=dict)
    feature_axis: AxisRule | None = None
    flow: FlowRule | None = None
    equations: Callable[..., Sequence[str]] | None = None
    computes: Callable[..., Any] | None = None
    moves: bool = False
    folds: bool = False


# attributes that tell how a framework lays its data out and hands them on, not what is computed
NOTATION = frozenset((
    "axes", "axis", "broadcast", "data_format", "fused", "kernel_axes", "keepdims", "mask_rule", "masked_output",
    "merge_mode", "output_padding", "output_size", "output_shape", "part", "parts", "reads", "return_sequences",
    "return_state", "time_distributed", "zero",
))  # fmt: skip

KINDS: dict[str, Kind] = {}
F = TypeVar("F", bound=Callable[..., Any])


def kind(
    *names: str,
    feature_axis: AxisRule | None = None,
    maybe: dict[str, Json] | None = None,
    moves: bool = False,
    folds: bool = False,
    **attributes: Json,
) -> None:
    """Declare kinds that have these attributes; `maybe` are those that need not be there."""
    for name in names:
        KINDS[name] = Kind(name, attributes, maybe or {}, feature_axis, moves=moves, folds=folds)


def flow(*names: str) -> Callable[[F], F]:
    """How shapes and features pass through these kinds."""
    return _signs("flow", names)


def equations(*names: str) -> Callable[[F], F]:
    """The equations of these kinds, in terms of their own tensors."""
    return _signs("equations", names)


def computes(*names: str) -> Callable[[F], F]:
    """What these kinds compute, in NumPy."""
    return _signs("computes", names)


def _signs(desk: str, names: Sequence[str]) -> Callable[[F], F]:
    def sign(function: F) -> F:
        for name in names:
            setattr(KINDS[name], desk, function)
        return function

    return sign
