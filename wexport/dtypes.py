"""Element types: their names here, in safetensors, and how NumPy holds them.

Names are NumPy's, with those of `ml_dtypes` for what NumPy lacks. Bytes are moved as unsigned integers of the
same width, so that moving never needs to know the type; only statistics and computing do.

Types that not every safetensors library reads stand in a bundle as I8 or U8, one element a byte, integers by their
value and floats by their bit pattern: old libraries refuse a whole file for one type that they do not know.

Sources: safetensors README (format, dtypes); OCP 8-bit Floating Point and Microscaling Formats Specifications.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# name -> (safetensors' name, bytes an element)
_TABLE: dict[str, tuple[str, int]] = {
    "float64": ("F64", 8),
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "complex64": ("C64", 8),
    "int64": ("I64", 8),
    "int32": ("I32", 4),
    "int16": ("I16", 2),
    "int8": ("I8", 1),
    "uint64": ("U64", 8),
    "uint32": ("U32", 4),
    "uint16": ("U16", 2),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}
_NAMES = {code: name for name, (code, _) in _TABLE.items()}
# name -> (the type that stands for it in a bundle, bits an element takes in the source)
_STAND_INS: dict[str, tuple[str, int]] = {
    "float8_e4m3fnuz": ("uint8", 8),
    "float8_e5m2fnuz": ("uint8", 8),
    "float8_e8m0fnu": ("uint8", 8),
    "float6_e2m3fn": ("uint8", 6),
    "float6_e3m2fn": ("uint8", 6),
    "float4_e2m1fn": ("uint8", 4),
    "int4": ("int8", 4),
    "uint4": ("uint8", 4),
    "int2": ("int8", 2),
    "uint2": ("uint8", 2),
}
_ML = {"bfloat16", "float8_e4m3fn", "float8_e5m2", *(n for n in _STAND_INS if n.startswith("float"))}


def is_stored(name: str) -> bool:
    """Whether a bundle can hold tensors of this type."""
    return name in _TABLE or name in _STAND_INS


def held_as(name: str) -> str:
    """The type of its tensors in a bundle: the type itself, or the one that stands in for it."""
    return _STAND_INS[name][0] if name in _STAND_INS else name


def code(name: str) -> str:
    """The safetensors name: `F32` for `float32`."""
    return _TABLE[held_as(name)][0]


def name_of(code: str) -> str | None:
    """The name for a safetensors one: `float32` for `F32`; None for one that is not known."""
    return _NAMES.get(code)


def itemsize(name: str) -> int:
    """Bytes an element, where each has its own."""
    return _TABLE[held_as(name)][1]


def bits(name: str) -> int:
    """Bits that an element takes in the source; below eight, several share a byte."""
    return _STAND_INS[name][1] if name in _STAND_INS else 8 * _TABLE[name][1]


def nbytes(name: str, count: int) -> int:
    """Bytes that so many elements take in the source."""
    return (count * bits(name) + 7) // 8


def mover(name: str) -> np.dtype[Any]:
    """The unsigned integer type that moves elements of this type."""
    return np.dtype(f"u{itemsize(name)}")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type, int8 or uint8 for shorter integers; short floats come from `ml_dtypes`, loaded only for them."""
    if name in _ML:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    return np.dtype(held_as(name))


def is_float(name: str) -> bool:
    """Whether the type has NaN and infinity."""
    return name.startswith(("float", "bfloat", "complex"))


def widen(raw: NDArray[Any], name: str) -> NDArray[Any]:
    """Elements that were moved as unsigned integers, as numbers that NumPy can compute with."""
    if name == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if name in _ML:
        return raw.view(numpy_dtype(name)).astype(np.float32)
    return raw.view(np.dtype(held_as(name)))
