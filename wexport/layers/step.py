"""What a room sees of one layer: `Terms` when it writes equations, `Step` when it computes.

Both know the layer by the names of its tensors and by its attributes alone, as the manifest has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers import computed
from wexport.layers.numerics import apply
from wexport.layers.scaling import numbers, term
from wexport.layout import parse_side
from wexport.model import Json
from wexport.names import part_name

Array = NDArray[Any]


class Items(tuple[Array, ...]):
    """A sequence: one value that is several arrays, where a plain tuple is several arguments."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """A layer's attributes, the names of its tensors (below the layer's own name), and those of its arguments.

    `several` says of an argument that is several values which of them are tensors of the layer: None is another value.
    The language is described in `docs/equations.md`.
    """

    attributes: Mapping[str, Json]
    names: frozenset[str]
    prefix: str = ""
    args: frozenset[str] = frozenset()
    several: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def below(self, prefix: str, attributes: Mapping[str, Json] | None = None) -> Terms:
        """The same layer seen from one of its directions, cells or blocks."""
        own = self.attributes if attributes is None else attributes
        return Terms(own, self.names, f"{self.prefix}{prefix}.", self.args, self.several)

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name; a part of an argument counts as one."""
        return self.prefix + name in self.names or self._computed(name) is not None

    def _computed(self, name: str) -> str | None:
        """A tensor that is a part of an argument, as it stands in an equation."""
        return computed.terms(self.attributes.get("computed") or {}).get(self.prefix + name)

    def arg(self, role: str) -> list[str]:
        """An argument's values, as they stand in an equation."""
        found = self.several.get(role, ())
        return [f"{role}[{i}]" if name is None else self.ref(name) for i, name in enumerate(found)] or [role]

    def own(self) -> list[str]:
        """The tensors below here."""
        names = {*self.names, *computed.terms(self.attributes.get("computed") or {})}
        return [n[len(self.prefix) :] for n in names if n.startswith(self.prefix)]

    def takes(self, name: str) -> bool:
        """Whether there is a tensor of this name, or an argument."""
        return self.has(name) or name in self.args

    def ref(self, name: str) -> str:
        """A tensor, as it stands in an equation: dequantized where it holds integers; or an argument of this name."""
        if name in self.args and not self.has(name):
            return name
        return self._computed(name) or term(self.attributes, self.names, self.prefix + name)

    def plus(self, *names: str) -> str:
        """These tensors or arguments, where they exist, as further summands."""
        return "".join(f" + {self.ref(n)}" for n in names if self.takes(n))

    def product(self, name: str, form: str = "{x} @ {w}", x: str = "x") -> str:
        """What a kernel does to x: one product, or one for each part of x that it reads."""
        reads = self.attributes.get("reads") or ()
        if self.takes(name):
            seen = f"{x}[`{reads[0]['from']}`]" if reads and x == "x" else x
            return form.format(x=seen, w=self.ref(name))
        parts = [(f"{x}[`{r['from']}`]", self.ref(part_name(name, r["from"]))) for r in reads]
        return " + ".join(form.format(x=seen, w=w) for seen, w in parts)

    def activation(self, key: str, text: str) -> str:
        """An activation applied to a term; the linear one is not written."""
        found = self.attributes.get(key) or {"name": "linear"}
        if found["name"] == "linear":
            return text
        rest = "".join(f", {k}={v}" for k, v in found.items() if k not in {"name", "source"})
        name = found.get("source", "?") if found["name"] == "unknown" else found["name"]
        return f"{name}({text}{rest})"


def unread(terms: Terms, *names: str) -> str:
    """A remark that these tensors (or all below here) are not read."""
    found = [f"`{terms.prefix}{n}`" for n in names or sorted(terms.own()) if terms.has(n)]
    return f"  # {', '.join(found)} {'is' if len(found) == 1 else 'are'} not read" if found else ""


@dataclass(slots=True)
class Step:
    """One call: the layer's attributes and tensors (float64, with their axes), and the arguments' values."""

    attributes: Mapping[str, Json]
    tensors: Mapping[str, tuple[str, Array]]
    args: Mapping[str, Any]
    out: Sequence[Mapping[str, Json]] = ()
    prefix: str = ""
    kind: str = ""
    run: Callable[[str, Sequence[Any]], list[Any]] = lambda label, inputs: []  # a body of control flow

    @property
    def x(self) -> Array:
        """The value that the layer is applied to."""
        x = self.args["x"]
        return x[0] if type(x) is tuple else x

    @property
    def xs(self) -> list[Array]:
        """Several values that the layer is applied to."""
        x = self.args["x"]
        return list(x) if type(x) is tuple else [x]

    def below(self, prefix: str, attributes: Mapping[str, Json] | None = None, **args: Any) -> Step:
        """The same call seen from one of the layer's directions, cells or blocks."""
        merged = {**self.args, **args}
        prefix = f"{self.prefix}{prefix}."
        return Step(
            self.attributes if attributes is None else attributes, self.tensors, merged, self.out, prefix, self.kind
        )

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self.prefix + name in self.tensors

    def get(self, name: str) -> Array | None:
        """A tensor, or None; one that the layer lists as zero counts as absent."""
        return self.weight(name) if self.has(name) else None

    def operand(self, name: str) -> Array | None:
        """A tensor, or else the argument of this name, or None."""
        found = self.get(name)
        return self.args.get(name) if found is None else found

    def weight(self, name: str) -> Array:
        """A tensor that the layer must have: numbers, where it holds integers that stand for them."""
        return numbers(self.attributes, self.tensors, self.prefix + name)

    def kernel(self, name: str = "kernel") -> Array:
        """A kernel with its rows in the order of x's features, put together from its parts."""
        reads = self.attributes.get("reads") or ()
        whole = self.tensors.get(self.prefix + name)
        if whole is not None and not (
            (reads and name in {"kernel", "depthwise", "lora_a"}) or (reads and _is_kernel(name))
        ):
            return self.weight(name)
        found = (
            [whole] if whole is not None else [self.tensors[self.prefix + part_name(name, r["from"])] for r in reads]
        )
        total = sum(int(np.prod(r["sizes"])) for r in reads)
        result: Array | None = None
        for read, (axes, tensor) in zip(reads, found, strict=True):
            place = parse_side(axes).index(tuple(read["axes"]))
            if result is None:
                result = np.zeros((*tensor.shape[:place], total, *tensor.shape[place + 1 :]))
            rows = read["start"] + sum(
                np.arange(n).reshape((-1,) + (1,) * (len(read["sizes"]) - 1 - i)) * s
                for i, (n, s) in enumerate(zip(read["sizes"], read["strides"], strict=True))
            )
            result[(slice(None),) * place + (np.asarray(rows).reshape(-1),)] = tensor
        assert result is not None
        return result

    def bias(self, y: Array, *names: str) -> Array:
        """y plus these tensors or arguments, where they exist."""
        for name in names:
            if (b := self.operand(name)) is not None:
                y = y + b
        return y

    def activate(self, key: str, y: Array) -> Array:
        """An activation among the attributes, applied."""
        return apply(self.attributes.get(key) or {"name": "linear"}, y)


def _is_kernel(name: str) -> bool:
    return name.rpartition(".")[2] in {"kernel", "depthwise", "lora_a"}
