"""What layers are called: by the framework's own module path, where an exporter left it somewhere.

    torch, TorchScript exporter   nodes are `/scope/Op`, parameters `scope.weight`; a Sequential repeats itself
                                  (`/seq/seq.2`); the second call of a module ends in `_1`
    torch, dynamo exporter        metadata `pkg.torch.onnx.name_scopes` of a node; `folded_from` of a folded constant
    tf2onnx                       `model_1/dense_1_1/MatMul`; Keras 3 adds one `_N` to each of its own scopes

Sources: torch/onnx (2.13), tf2onnx 1.17 and keras/src/export (3.15), by what they write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wexport.readers.onnx.ops import Graph, Op

_SCOPES = "pkg.torch.onnx.name_scopes"
_RULE = "pkg.onnxscript.rewriter.rule_name"
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_PARAMETER = re.compile(
    r"(weight|bias|in_proj|out_proj|running_|num_batches|gamma|beta|kernel|alpha|scale|embedding|embed|q_|k_|v_)\w*$"
    r"|[wb]_\d+$"  # PaddlePaddle's
)
_INLINED = re.compile(r"^(\w*?__Inline_\d+__)+")  # what ONNX' inliner puts before the names of a function or body
_KERAS_SCOPE = re.compile(r"(.+)_\d+$")
_OPERATION = re.compile(r"(Cast|ReadVariableOp|MatMul|BiasAdd|Add|Squeeze|Reshape|Tensordot|while)(_\d+)?$")
_PARTS = re.compile(r"(.*)_l(\d+)(_reverse)?$")


@dataclass(frozen=True, slots=True)
class Style:
    """What an exporter does to names: `keras` scopes are separated by slashes, `suffixed` ones end in `_N`, and all
    of them may stand in one `root`."""

    keras: bool = False
    suffixed: bool = False
    root: str = ""


def style_of(producer: str, graph: Graph) -> Style:
    """The style of a whole file."""
    names = [
        n.removeprefix("StatefulPartitionedCall/") for n in (*graph.stored, *(op.name for op in graph.ops)) if "/" in n
    ]
    if producer != "tf2onnx" or not names:
        return Style()
    heads = [n.partition("/")[0] for n in names if not n.startswith("/")]
    common = max(set(heads), key=heads.count) if heads else ""
    root = common if heads.count(common) * 2 > len(heads) else ""
    suffixed = any("/Cast/ReadVariableOp" in n or "/Cast_" in n for n in graph.stored) or _suffixed(names, root)
    return Style(True, suffixed, root)


def _suffixed(names: Sequence[str], root: str) -> bool:
    inner = {n.split("/")[1] for n in names if n.startswith(f"{root}/") and n.count("/") > 1}
    return bool(root) and bool(_KERAS_SCOPE.match(root)) and bool(inner) and all(_KERAS_SCOPE.match(i) for i in inner)


def module_of(op: Op, arrays: Iterable[str], graph: Graph, style: Style) -> str:
    """The module path of an operator that takes these arrays; empty where nothing tells it."""
    keys = list(arrays)
    for key in keys:
        for name in (key, *_folded(graph.meta.get(key, {}))):
            if found := _of_parameter(name, style):
                return found
    if style.keras:
        return _keras_scope([*keys, op.name], style)
    if scopes := _scopes(op):
        return scopes[-2] if len(scopes) > 1 else ""
    return _slashes(op.name)


def inlined(op: Op) -> bool:
    """Whether an operator was in a function or body that was put in its place, so that its module may stand twice."""
    return _INLINED.match(op.name) is not None


def surroundings(op: Op) -> str:
    """The calls and bodies that an operator stands in."""
    return ".".join(w for w in op.path.split("/") if w and not _INLINED.fullmatch(w))


def own_name(op: Op, style: Style) -> str:
    """A name for an operator that is no module of its own."""
    if scopes := _scopes(op):
        return ".".join(s for s in scopes[-2:] if s)
    if style.keras:
        words = op.name.partition(";")[0].removeprefix("StatefulPartitionedCall/").split("/")
        words = words[1:] if len(words) > 1 and words[0] == style.root else words
        return ".".join(_unsuffixed(w) if style.suffixed and i < len(words) - 1 else w for i, w in enumerate(words))
    name = _INLINED.sub("", op.name)
    return _joined(name.strip("/").split("/")) if name.startswith("/") else name.strip("/")


def fused_into(op: Op, arrays: Sequence[str], producer: str) -> list[str]:
    """What was folded into an operator's kernel: the module's name, or `batch_norm` where only that much is known.

    The dynamo exporter notes the rule that did it; the TorchScript exporter renames what it changes, and it changes a
    convolution's bias for nothing else; tf2onnx leaves a name in the normalization's scope.
    """
    rule = op.meta.get(_RULE, "")
    if rule.startswith("FuseBatchNorm"):
        scopes = _scopes(op)
        return [scopes[-2] if len(scopes) > 1 and scopes[-2] else "batch_norm"]
    renamed = [a for a in arrays if a.startswith(f"onnx::{op.type}_")]  # a kernel and the bias that folding gives
    if producer == "pytorch" and op.type.startswith("Conv") and len(renamed) > 1:
        return ["batch_norm"]
    names = [a.split("/") for a in (*arrays, op.name)] if producer == "tf2onnx" else []
    found = next((w[w.index("batchnorm") - 1] for w in names if "batchnorm" in w[1:]), None)
    return [] if found is None else [_unsuffixed(found)]


def names_parameter(key: str, op: Op, style: Style) -> bool:
    """Whether a stored array is called as the framework's own parameter, not by an exporter's number for it.

    The dynamo exporter calls what it folds by words, too: there a module's path must be before it.
    """
    word = key.rpartition(".")[2]
    return not style.keras and word.isidentifier() and ("." in key or not _scopes(op)) and not re.search("[/:]", key)


def _scopes(op: Op) -> list[str]:
    return [a or b for a, b in _QUOTED.findall(op.meta.get(_SCOPES, ""))]


def _folded(meta: Mapping[str, str]) -> list[str]:
    text = meta.get(_FOLDED, "")
    return [a or b for a, b in _QUOTED.findall(text)] or [w.strip(" []") for w in text.split(",") if w.strip(" []")]


def _of_parameter(name: str, style: Style) -> str:
    """The module of a parameter `a.b.weight`."""
    if "/" in name or "::" in name:
        return ""
    head, _, last = _INLINED.sub("", name).rpartition(".")
    if re.fullmatch(r"original\d", last):
        head = head.rpartition(".parametrizations.")[0] or head.rpartition("parametrizations.")[0]
        return head.rstrip(".")
    if not head or not _PARAMETER.match(last):
        return ""
    part = _PARTS.match(last)
    return f"{head}#{part[2]}" if part else head


def _slashes(name: str) -> str:
    """The scope of a node `/encoder/layer.0/query/MatMul`."""
    name = _INLINED.sub("", name)
    words = name.strip("/").split("/")
    return _joined(words[:-1]) if name.startswith("/") else ""


def _joined(words: Sequence[str]) -> str:
    kept: list[str] = []
    for word in words:
        if kept and word.startswith(f"{kept[-1]}."):
            kept[-1] = word
        else:
            kept.append(word)
    return ".".join(kept)


def _unsuffixed(word: str) -> str:
    found = _KERAS_SCOPE.match(word)
    return found[1] if found else word


def _unfused(names: Sequence[str]) -> list[str]:
    """Names, and those that TFLite joined for operators it made one, the one that has the bias first."""
    parts = [part for name in names for part in name.split(";")]
    return sorted(parts, key=lambda n: 0 if "/BiasAdd" in n else 1 if re.search(r"/(Conv|MatMul)", n) else 2)


def _keras_scope(names: Sequence[str], style: Style) -> str:
    for name in _unfused(names) if any(";" in n for n in names) else names:
        words = name.removeprefix("StatefulPartitionedCall/").split("/")
        if len(words) < 2 + bool(style.root):
            continue
        if style.root:
            if words[0] != style.root:
                continue
            words = words[1:]
        kept = []
        for word in words[:-1]:
            if style.suffixed and not _KERAS_SCOPE.match(word):
                break
            if re.match(r"(forward|backward)_", word) or _OPERATION.match(word):
                break
            kept.append(_unsuffixed(word) if style.suffixed else word)
            if not style.suffixed:
                break
        if kept:
            return ".".join(kept)
    return ""
