"""Layout strings: how an array is stored, and which named tensors it holds.

    "in (gate unit)"  ->  "{gate}.kernel: in unit"

The left side has one word or parenthesis for each dimension of the stored array; parentheses are axes packed
into one dimension, the last one fastest; `1` is an axis of length one that drops out. Every axis of the left
side stands exactly once on the right: in braces, where its labels are spent in the tensor's name, or behind
the colon, where it stays an axis of the tensor. So a rule is a bijection, and nobody writes its inverse.

`Flip`, `Refold` and `Unpack` are the only steps that a layout string cannot say; `Leaf` is a part of an axis.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from wexport.errors import LayoutError
from wexport.view import Unpack, View, c_strides
from wexport.words import shape_text

Group = tuple[str, ...]
_TOKEN = re.compile(r"\s*(?:\(([^()]*)\)|([A-Za-z_]\w*|1))")
_LABEL = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Flip:
    """Kernel axes that are stored backwards (a framework that convolves instead of correlating)."""

    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refold:
    """A block that was flattened with these axes slowest, though its shape says they are first."""

    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """Numbers of 2, 4 or 6 bits that share bytes along the stored dimension that holds `axis`, lowest bits first.

    Without an axis, the flattened array is packed, and the array's shape is the one after unpacking.
    """

    axis: str | None
    signed: bool = True
    bits: int = 4


Step = Flip | Refold | Packed


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of an axis: elements `start + sum(index * strides)`, seen as `axes` of `sizes`.

    `label` names where the part comes from; `features` is the run of that source's features it holds, if
    they are not all.
    """

    label: str
    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    start: int = 0
    features: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.sizes)

    @property
    def plain(self) -> bool:
        """Whether the part is one run of the axis, in order."""
        return self.strides == c_strides(self.sizes)


@dataclass(frozen=True, slots=True)
class Rule:
    """A layout string, its other side, and what the strings leave open.

    `labels` are the labels of the axes in braces; `at` gives labels that are no axis of the array and hold
    for all of it; `sizes` gives axis lengths that the array's shape cannot tell.
    """

    layout: str
    target: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    at: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    @staticmethod
    def parse(text: str, **labels: Sequence[str]) -> Rule:
        """A rule from `"layout -> target"` and the labels of its named axes."""
        left, arrow, right = text.partition("->")
        if not arrow:
            raise LayoutError(f'layout "{text}" has no "->"')
        return Rule(left.strip(), right.strip(), {k: tuple(v) for k, v in labels.items()})

    @property
    def role(self) -> str:
        """What the tensors are, where the rule says it for all of them: the last word of the name."""
        return self.target.partition(":")[0].rpartition(".")[2]

    def prefixed(self, axis: str, label: str) -> Rule:
        """The same rule one level down: the label stands before the name (a direction, a cell)."""
        return replace(self, target=f"{{{axis}}}.{self.target}", at={**self.at, axis: label})

    def with_steps(self, *steps: Step) -> Rule:
        """The same rule with further steps."""
        return replace(self, steps=(*self.steps, *steps))

    def with_axis(self, axis: str, leaf: Leaf) -> Rule:
        """The same rule with an axis spelled as the several that a leaf, all of the axis, packs into it."""
        order = sorted(range(len(leaf.axes)), key=lambda i: -leaf.strides[i])
        stored, written = " ".join(leaf.axes[i] for i in order), " ".join(leaf.axes)
        sizes = {**self.sizes, **dict(zip(leaf.axes, leaf.sizes, strict=True))}
        sizes.pop(axis, None)
        left = _respell(self.layout, axis, stored)
        name, _, axes = self.target.partition(":")
        return replace(self, layout=left, target=f"{name}: {_respell(axes, axis, written)}", sizes=sizes)


def element_type(dtype: str, steps: Sequence[Step]) -> str:
    """The type of a tensor's elements, for an array of this type: shorter integers where its bytes hold several."""
    packed = next((s for s in steps if isinstance(s, Packed) and s.axis is not None), None)
    return dtype if packed is None else f"{'int' if packed.signed else 'uint'}{packed.bits}"


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a rule: its name below the layer, its axes and where its elements lie.

    `axes` is a string like a layout's side; `shape` has one number for each of its words. `at` gives the
    label of every named axis, and the leaf's number for every axis that is split.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    at: Mapping[str, str | int]
    view: View
    leaf: Leaf | None = None

    @property
    def role(self) -> str:
        """What the tensor is: the last word of its name."""
        return self.name.rpartition(".")[2]


def expand(rule: Rule, shape: Sequence[int], leaves: Mapping[str, Sequence[Leaf]] | None = None) -> list[Piece]:
    """The tensors that an array of this shape holds.

    Raises:
        LayoutError: the shape does not fit the layout string.
    """
    groups = parse_side(rule.layout)
    template, axes_text = _target(rule)
    sizes = axis_sizes(rule, tuple(shape))
    kept = parse_side(axes_text)
    _check_bijection(rule, groups, kept, template)
    view = _unfolded(rule, tuple(shape), groups, sizes)
    axes = [a for g in groups for a in g]
    named = [a for a in axes if a in rule.labels]
    pieces = []
    for combination in itertools.product(*(range(sizes[a]) for a in named)):
        at: dict[str, str | int] = dict(rule.at)
        at |= {a: rule.labels[a][i] for a, i in zip(named, combination, strict=True)}
        chosen, left = _select(view, axes, dict(zip(named, combination, strict=True)))
        chosen = _apply_steps(rule, chosen, left)
        name = fill(template, at)
        pieces += _split(name, at, chosen, left, kept, sizes, leaves or {})
    return pieces


def axis_sizes(rule: Rule, shape: tuple[int, ...]) -> dict[str, int]:
    """The length of every axis of the left side.

    Raises:
        LayoutError: the number of dimensions differs, or a packed dimension does not divide.
    """
    groups = parse_side(rule.layout)
    given = {**rule.sizes, **{a: len(labels) for a, labels in rule.labels.items()}}
    packed = {s.axis: s.bits for s in rule.steps if isinstance(s, Packed)}
    if len(groups) != len(shape):
        raise LayoutError(
            f'layout "{rule.layout}" has {_count(len(groups), "dimension")}, the array is {shape_text(shape)}'
        )
    sizes: dict[str, int] = {}
    for group, n in zip(groups, shape, strict=True):
        open_axes = [a for a in group if a not in given]
        known = math.prod(given[a] for a in group if a in given)
        if share := [packed[a] for a in group if a in packed]:
            fits = not open_axes and (known * share[0] + 7) // 8 == n
        elif open_axes:
            fits = len(open_axes) == 1 and known > 0 and n % known == 0
            sizes |= {open_axes[0]: n // known if known else 0}
        else:
            fits = known == n
        if not fits:
            said = " ".join(f"{a}={given[a]}" if a in given else a for a in group) or "1"
            raise LayoutError(f'layout "{rule.layout}" wants ({said}), the array is {shape_text(shape)}')
        sizes |= {a: given[a] for a in group if a in given}
    return {a: sizes[a] for group in groups for a in group}


def fill(template: str, at: Mapping[str, str | int]) -> str:
    """A name template with its labels; an empty label takes its dot with it."""
    words = [_LABEL.sub(lambda m: str(at[m[1]]), word) for word in template.split(".")]
    return ".".join(w for w in words if w)


@lru_cache(maxsize=4096)
def parse_side(text: str) -> tuple[Group, ...]:
    """One side of a layout string: a group of axes for each dimension; `1` is an empty group."""
    groups, end = [], 0
    for match in _TOKEN.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        words = (match[1] if match[2] is None else match[2]).split()
        groups.append(tuple(w for w in words if w != "1"))
    if text[end:].strip():
        raise LayoutError(f'layout "{text}" cannot be read from "{text[end:].strip()}" on')
    return tuple(groups)


def _target(rule: Rule) -> tuple[str, str]:
    template, _, axes = rule.target.partition(":")
    return template.strip(), axes.strip()


def _check_bijection(rule: Rule, groups: Sequence[Group], kept: Sequence[Group], template: str) -> None:
    left = [a for g in groups for a in g]
    right = [a for g in kept for a in g] + [a for a in _LABEL.findall(template) if a in rule.labels]
    if sorted(left) != sorted(right) or len(set(left)) != len(left):
        raise LayoutError(f'layout "{rule.layout} -> {rule.target}" does not name every axis once on each side')


def _unfolded(rule: Rule, shape: tuple[int, ...], groups: Sequence[Group], sizes: Mapping[str, int]) -> View:
    for step in rule.steps:
        if isinstance(step, Packed):
            axis = None if step.axis is None else next(i for i, g in enumerate(groups) if step.axis in g)
            logical = tuple(math.prod(sizes[a] for a in g) for g in groups)
            view = View.whole(logical, Unpack(logical, axis, step.signed, step.bits))
            break
    else:
        view = View.whole(shape)
    for i in reversed(range(len(groups))):
        inner = tuple(sizes[a] for a in groups[i])
        view = view.unfold(i, 0, inner, c_strides(inner)) if groups[i] else view.index(i, 0)
    return view


def _select(view: View, axes: Sequence[str], chosen: Mapping[str, int]) -> tuple[View, list[str]]:
    left = list(axes)
    for axis, i in chosen.items():
        view = view.index(left.index(axis), i)
        left.remove(axis)
    return view, left


def _apply_steps(rule: Rule, view: View, axes: Sequence[str]) -> View:
    for step in rule.steps:
        if isinstance(step, Flip):
            for axis in step.axes:
                view = view.flip(axes.index(axis))
        elif isinstance(step, Refold):
            if tuple(axes[: len(step.axes)]) != step.axes:
                raise LayoutError(f'layout "{rule.layout}": {step.axes} are not its first axes')
            view = view.refold(len(step.axes))
    return view


def _split(
    name: str,
    at: Mapping[str, str | int],
    view: View,
    axes: Sequence[str],
    kept: Sequence[Group],
    sizes: Mapping[str, int],
    leaves: Mapping[str, Sequence[Leaf]],
) -> list[Piece]:
    split = next((a for a in axes if a in leaves), None)
    if split is None:
        return [_piece(name, at, view, list(axes), kept, sizes, None)]
    pieces = []
    for number, leaf in enumerate(leaves[split]):
        place = axes.index(split)
        part = view.unfold(place, leaf.start, leaf.sizes, leaf.strides)
        inner = [*axes[:place], *leaf.axes, *axes[place + 1 :]]
        groups = tuple(_replace_axis(g, split, leaf.axes) for g in kept)
        leaf_sizes = {**sizes, **dict(zip(leaf.axes, leaf.sizes, strict=True))}
        pieces.append(_piece(name, {**at, split: number}, part, inner, groups, leaf_sizes, leaf))
    return pieces


def _piece(
    name: str,
    at: Mapping[str, str | int],
    view: View,
    axes: list[str],
    kept: Sequence[Group],
    sizes: Mapping[str, int],
    leaf: Leaf | None,
) -> Piece:
    view = view.permute(tuple(axes.index(a) for g in kept for a in g))
    shape = tuple(math.prod(sizes[a] for a in g) for g in kept)
    words = " ".join(g[0] if len(g) == 1 else f"({' '.join(g)})" for g in kept)
    return Piece(name, words, shape, at, view, leaf)


def _replace_axis(group: Group, axis: str, axes: Group) -> Group:
    return tuple(b for a in group for b in (axes if a == axis else (a,)))


def _respell(side: str, axis: str, axes: str) -> str:
    words = []
    for group in parse_side(side):
        spelled = " ".join(axes if a == axis else a for a in group) or "1"
        words.append(f"({spelled})" if len(spelled.split()) > 1 else spelled)
    return " ".join(words)


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
