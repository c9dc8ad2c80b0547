"""Quantized and low-rank kernels, shared by the rooms whose layers can have them (Keras 3).

    int8     kernel  "in out" (int8), bias, kernel_scale "out":  W = q / scale
    int4     kernel  two values a byte, low nibble first, along `in` (3.11-3.13) or `out` (3.14 on); per channel
             W = q / scale; in blocks W = (q - zero[g]) * scale[g] with kernel_scale, kernel_zero "group out"
             and g_idx "in"
    float8   kernel in float32, rounded to float8_e4m3fn by inputs_scale and kernel_scale when it is used
    gptq     bias first, kernel "out in" (uint8, two values a byte for 4 bits), scale and zero "out group", g_idx
    awq      as gptq with 4 bits, and a scale of every input
    lora     lora_a "in rank", lora_b "rank out":  W = kernel + alpha / rank * a @ b

Sources: keras/src/layers/core/dense.py, embedding.py, einsum_dense.py and quantizers/ (3.3 to 3.15.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.keras import TOLD, Keras, Ruling, Shapes, Slot, rule
from wexport.layers.registry import ANY, optional
from wexport.layers.rounding import fitted
from wexport.layers.step import Step, Terms
from wexport.layout import Packed, Rule
from wexport.model import Json

Array = NDArray[Any]

# attributes that a layer with a quantized or low-rank kernel has besides its own
MAYBE: dict[str, Json] = {"dequantize": optional(ANY), "quantize_input": optional(ANY), "lora": optional(ANY)}


@dataclass(frozen=True, slots=True)
class Policy:
    """How a Keras 3 layer's kernel is stored; `block` is the number of inputs that share a scale."""

    mode: str | None = None
    bits: int = 8
    block: int | None = None
    inputs: Json = None
    rank: int | None = None
    alpha: float = 1.0

    @property
    def splits(self) -> bool:
        """Whether the kernel may be split by source: a quantized one may not."""
        return self.mode in (None, "float8")

    def attributes(self) -> dict[str, Json]:
        """The layer's attributes about it."""
        found: dict[str, Json] = {}
        if self.mode in {"int8", "int4"} and self.block is None:
            found["dequantize"] = {"rule": "divide", "bits": self.bits}
        elif self.mode == "float8":
            found["dequantize"] = {"rule": "round", "type": "float8_e4m3fn"}
        elif self.mode is not None:
            found["dequantize"] = {"rule": "multiply", "bits": self.bits, "block": self.block}
        if self.inputs is not None:
            found["quantize_input"] = self.inputs
        if self.rank is not None:
            found["lora"] = {"rank": self.rank, "alpha": self.alpha}
        return found


def policy(layer: Keras) -> Policy:
    """The policy that a layer's config states, in the ways in which versions write it."""
    dtype = layer.get("dtype")
    inner = dtype.get("config") if isinstance(dtype, Mapping) else None
    mode = inner.get("mode") if isinstance(inner, Mapping) else None
    if mode is None and isinstance(dtype, str) and "_from_" in dtype:
        mode = dtype.split("_from_")[0]
    rank = layer.get("lora_rank")
    alpha = layer.get("lora_alpha")
    low = {"rank": rank, "alpha": float(rank if alpha is None else alpha)} if rank else {}
    if mode is None:
        return Policy(**low)
    name, *rest = str(mode).split("/")
    numbers = [int(r) for r in rest if r.lstrip("-").isdigit()]
    bits = 4 if name in {"int4", "awq"} else 8
    block = numbers[-1] if numbers and numbers[-1] > 0 else None
    if name in {"gptq", "awq"}:
        bits = numbers[0] if numbers else bits
        block = block or -1
    return Policy(name, bits, block, _inputs(layer, name, block), **low)


def _lora_told(layer: Keras, shapes: Shapes) -> dict[str, Json]:
    """Keras 3.0 and 3.1 did not write the rank down."""
    found = next((s for n, s in shapes.items() if n.startswith("lora_") and n.endswith("_a")), None)
    return {"lora_rank": found[-1]} if found and not layer.get("lora_rank") else {}


TOLD.append(_lora_told)


def _inputs(layer: Keras, mode: str, block: int | None) -> Json:
    """How the input is rounded before the product: to int8 by its largest magnitude, unless switched off."""
    if mode not in {"int8", "int4"} or block is not None:
        return None
    config = layer.get("quantization_config")
    inner = config.get("config") if isinstance(config, Mapping) else None
    if isinstance(inner, Mapping) and inner.get("activation_quantizer") is None:
        return None
    if mode == "int4" and layer.era.since(3, 14):
        return None
    return {"rule": "absmax", "range": [-127, 127], "epsilon": 1e-7}


def dense_slots(layer: Keras, how: Policy, bias: bool, sizes: Mapping[str, int]) -> tuple[Slot, ...]:
    """The variables of a Dense layer, in the order in which an archive has them."""
    offset = (Slot("bias", rule("out -> bias: out")),) if bias else ()
    if how.mode in {"gptq", "awq"}:
        return offset + _grouped_slots(how, sizes)
    low = lora_slots(how, "kernel", "in", "out")
    if how.mode is None or how.mode == "float8":
        kernel = Slot("kernel", rule("in out -> kernel: in out"), splits=True, trainable=how.rank is None, tracked=True)
        return (kernel, *offset, *low, *(_float8_slots() if how.mode else ()))
    kernel = Slot("kernel", _packed(sizes) if how.mode == "int4" else rule("in out -> kernel: in out"), trainable=False)
    block = how.block is not None
    scale = "group out -> kernel_scale: group out" if block else "out -> kernel_scale: out"
    found = [kernel, *offset, *low, Slot("kernel_scale", rule(scale), trainable=False)]
    if block:
        found.append(Slot("kernel_zero", rule("group out -> kernel_zero_point: group out"), trainable=False))
        found.append(Slot("g_idx", rule("in -> kernel_group: in"), trainable=False))
    return tuple(found)


def _packed(sizes: Mapping[str, int]) -> Ruling:
    """An int4 kernel: packed along `out` if it has half as many columns as there are units, else along `in`."""

    def make(shape: tuple[int, ...], _: Shapes) -> Rule:
        axis = "out" if shape[-1] != sizes["out"] else "in"
        return rule("in out -> kernel: in out", Packed(axis), sizes=sizes if axis == "in" else {"out": sizes["out"]})

    return make


def _grouped_slots(how: Policy, sizes: Mapping[str, int]) -> tuple[Slot, ...]:
    steps = (Packed("out", signed=False),) if how.bits == 4 else ()
    found = [
        Slot(
            "quantized_kernel",
            rule("out in -> kernel: in out", *steps, sizes=sizes if steps else None),
            trainable=False,
        ),
        Slot("kernel_scale", rule("out group -> kernel_scale: group out"), trainable=False),
        Slot("kernel_zero", rule("out group -> kernel_zero_point: group out"), trainable=False),
    ]
    if how.mode == "awq":
        found.append(Slot("awq_scales", rule("in -> input_scale: in"), trainable=False))
    return (*found, Slot("g_idx", rule("in -> kernel_group: in"), trainable=False))


def _float8_slots() -> tuple[Slot, ...]:
    names = {"inputs": "input", "kernel": "kernel", "outputs_grad": "gradient"}
    slots = []
    for name, role in names.items():
        slots.append(Slot(f"{name}_scale", rule(f" -> {role}_scale:")))
        slots.append(Slot(f"{name}_amax_history", rule(f"step -> {role}_amax_history: step")))
    return tuple(slots)


def float8_slots(how: Policy) -> tuple[Slot, ...]:
    """The scales of a float8 layer; none for any other."""
    return _float8_slots() if how.mode == "float8" else ()


def lora_slots(how: Policy, name: str, inner: str, outer: str) -> tuple[Slot, ...]:
    """The two low-rank factors: they stand in `.h5` files; archives store the kernel with them merged in."""
    if how.rank is None:
        return ()
    return (
        Slot(f"lora_{name}_a", rule(f"{inner} rank -> lora_a: {inner} rank"), splits=inner == "in", merged=True),
        Slot(f"lora_{name}_b", rule(f"rank {outer} -> lora_b: rank {outer}"), merged=True),
    )


# -- computing ---------------------------------------------------------------------------------------------------------


def kernel_term(terms: Terms, name: str = "kernel") -> str | None:
    """The kernel of an equation, dequantized and with its low-rank part; None where it is just the tensor."""
    form, low = _numbers_form(terms, name), terms.attributes.get("lora")
    text = form.format(w=terms.ref(name))
    if low is not None and terms.has("lora_b"):
        return f"({text} + {low['alpha'] / low['rank']} * {terms.ref('lora_a')} @ {terms.ref('lora_b')})"
    return text if "dequantize" in terms.attributes else None


def _numbers_form(terms: Terms, name: str) -> str:
    """How a kernel `{w}` becomes numbers."""
    word = (terms.attributes.get("dequantize") or {"rule": None})["rule"]
    if word == "divide":
        return f"({{w}} / {terms.ref(f'{name}_scale')})"
    if word == "round":
        return f"float8({{w}}, {terms.ref(f'{name}_scale')})"
    divides = word is not None and terms.has("input_scale") and name == "kernel"
    return f"({{w}} / {terms.ref('input_scale')})" if divides else "{w}"


def product(terms: Terms) -> str:
    """What a dense kernel does to x; a low-rank part is applied to x before it is rounded."""
    text = terms.product("kernel", f"{rounded_term(terms, '{x}')} @ {_numbers_form(terms, 'kernel')}")
    low = terms.attributes.get("lora")
    if low is None or not terms.has("lora_b"):
        return text
    return f"{text} + {low['alpha'] / low['rank']} * ({terms.product('lora_a')}) @ {terms.ref('lora_b')}"


def rounded_term(terms: Terms, x: str, axes: tuple[int, ...] = (-1,)) -> str:
    """The input as the layer's own rounding leaves it."""
    if terms.attributes.get("quantize_input") is not None:
        over = "" if axes == (-1,) else f", over={axes if len(axes) > 1 else axes[0]}"
        return f"rounded({x}{over})"
    how = terms.attributes.get("dequantize") or {}
    return f"float8({x}, {terms.ref('input_scale')})" if how.get("rule") == "round" else x


def plus_bias(terms: Terms) -> str:
    """The bias as a further summand; a float8 layer rounds it to bfloat16."""
    how = terms.attributes.get("dequantize") or {}
    text = terms.plus("bias")
    return f" + bfloat16({text[3:]})" if text and how.get("rule") == "round" else text


def dequantized(step: Step, name: str = "kernel") -> Array:
    """The kernel `[in, out]` as numbers, without its low-rank part."""
    how = step.attributes.get("dequantize")
    q = step.kernel(name)
    if how is None:
        return q
    if how["rule"] == "divide":
        scale = step.weight(f"{name}_scale")
        return q / (scale[:, None] if name == "embedding" else scale)
    if how["rule"] == "round":
        return float8(q, float(step.weight(f"{name}_scale")))
    return q / step.weight("input_scale")[:, None] if step.has("input_scale") and name == "kernel" else q


def rounded_input(step: Step, x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """The input as the layer's own rounding leaves it."""
    how = step.attributes.get("quantize_input")
    if how is not None and how["rule"] == "range":
        q, step_size, zero = fitted(x, how["type"])
        return (q - zero) * np.float64(step_size)
    if how is not None:
        low, high = how["range"]
        scale = high / (np.abs(x).max(axis=axes, keepdims=True) + how["epsilon"])
        return np.asarray(np.clip(np.round(x * scale), low, high) / scale)
    rounding = step.attributes.get("dequantize") or {}
    return float8(x, float(step.weight("input_scale"))) if rounding.get("rule") == "round" else x


def rounded_bias(step: Step) -> Array | None:
    """The bias; a float8 layer rounds it to bfloat16."""
    bias = step.get("bias")
    if bias is not None and (step.attributes.get("dequantize") or {}).get("rule") == "round":
        import ml_dtypes

        return bias.astype(ml_dtypes.bfloat16).astype(np.float64)
    return bias


def low_rank(step: Step) -> Array | None:
    """`alpha / rank * a @ b`, or None where the file has no factors."""
    low = step.attributes.get("lora")
    if low is None or not step.has("lora_b"):
        return None
    return np.asarray(low["alpha"] / low["rank"] * (step.kernel("lora_a") @ step.weight("lora_b")))


def float8(x: Array, scale: float) -> Array:
    """x rounded to what float8_e4m3fn can hold of x / scale."""
    import ml_dtypes

    top = 448.0  # the largest float8_e4m3fn
    return np.clip(x / scale, -top, top).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
