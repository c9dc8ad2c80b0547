"""Element types: their names here, in safetensors, and how NumPy holds them.

Names are NumPy's, with those of `ml_dtypes` for what NumPy lacks. Bytes are moved as unsigned integers of the
same width, so that moving never needs to know the type; only statistics and computing do.

Sources: safetensors README (format, dtypes); OCP 8-bit Floating Point Specification (float8).
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
_ML = {"bfloat16", "float8_e4m3fn", "float8_e5m2"}


def is_stored(name: str) -> bool:
    """Whether a bundle can hold tensors of this type."""
    return name in _TABLE


def code(name: str) -> str:
    """The safetensors name: `F32` for `float32`."""
    return _TABLE[name][0]


def name_of(code: str) -> str | None:
    """The name for a safetensors one: `float32` for `F32`; None for one that is not known."""
    return _NAMES.get(code)


def itemsize(name: str) -> int:
    """Bytes an element."""
    return _TABLE[name][1]


def mover(name: str) -> np.dtype[Any]:
    """The unsigned integer type that moves elements of this type."""
    return np.dtype(f"u{itemsize(name)}")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type; bfloat16 and float8 come from `ml_dtypes`, which is loaded only for them."""
    if name in _ML:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    return np.dtype(name)


def is_float(name: str) -> bool:
    """Whether the type has NaN and infinity."""
    return name.startswith(("float", "bfloat", "complex"))


def widen(raw: NDArray[Any], name: str) -> NDArray[Any]:
    """Elements that were moved as unsigned integers, as numbers that NumPy can compute with."""
    if name == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if name in _ML:
        return raw.view(numpy_dtype(name)).astype(np.float32)
    return raw.view(np.dtype(name))
