"""Hashing and HashedCrossing: values to bins, by a hash of the bytes of their text.

    Hashing        bin = fingerprint(text) mod bins; with a salt of two numbers: bin = siphash(text, salt) mod bins.
                   Whole numbers are hashed as their decimal text. The mask value has bin 0, the others begin at 1.
    HashedCrossing bin = cross(fingerprint or whole number, one of each argument) mod bins; neither salt nor mask.

All numbers are unsigned, of 64 bits, and little-endian where they are read from bytes.

Sources: keras/src/layers/preprocessing/hashing.py, hashed_crossing.py (3.15.1, 2.15); FarmHash's Fingerprint64 (the
`farmhashna` functions of farmhash.cc, 1.1); Aumasson and Bernstein, SipHash (2012); of TensorFlow (2.21)
kernels/sparse_cross_op.cc and `FingerprintCat64` of tsl/platform/fingerprint.h, the key of python/ops/sparse_ops.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.keras import Keras, Stored, keras, plain
from wexport.layers.preprocess import encode, encoded
from wexport.layers.registry import ANY, BOOL, INT, TEXT, Flow, computes, flow, kind
from wexport.layers.step import Step

Array = NDArray[Any]

kind("hashing", bins=INT, mask_value=ANY, salt=ANY, crossed=BOOL, output_mode=TEXT)


@keras("Hashing", "HashedCrossing")
def _hashing(layer: Keras) -> Stored:
    crossed = layer.class_name == "HashedCrossing"
    attributes = {
        "bins": layer.integer("num_bins"),
        "mask_value": layer.get("mask_value"),
        "salt": plain(layer.get("salt")),
        "crossed": crossed,
        "output_mode": str(layer.get("output_mode", default="int")),
    }
    return Stored("hashing", attributes, call=("x*",) if crossed else ("x",))


@flow("hashing")
def _hashing_flow(f: Flow) -> Mapping[str, Value]:
    shape, mode, bins = f.x.shape, f.attributes["output_mode"], f.attributes["bins"]
    if shape is None or len(shape) < 3 or mode != "one_hot":
        return encoded(f, bins)
    return {"y": f.source((*_squeezed(shape, 2), bins), dtype="float32")}


@computes("hashing")
def _compute_hashing(step: Step) -> Array:
    a = step.attributes
    found = _crossed(step.xs, a["bins"]) if a["crossed"] else _hashed(step.x, a["bins"], a["mask_value"], a["salt"])
    mode = a["output_mode"]
    if mode == "one_hot":
        return encode(found.reshape(_squeezed(found.shape, 1)), mode, a["bins"])
    if mode == "int" or found.ndim > 1:
        return encode(found, mode, a["bins"])
    return np.asarray(encode(found[None], mode, a["bins"])[0])  # a lone axis is one sample


def _squeezed(shape: Sequence[Any], times: int) -> tuple[Any, ...]:
    """A shape without a last axis of length 1: the layer takes one away, and its encoding another."""
    axes = tuple(shape)
    for _ in range(times):
        axes = axes[:-1] if len(axes) > 1 and axes[-1] == 1 else axes
    return axes


def _hashed(x: Array, bins: int, mask_value: Any, salt: Any) -> Array:
    """The bin of each element; the mask value has one of its own where there are two or more."""
    masked = mask_value is not None and bins > 1
    key = None if salt is None else (salt[0], salt[1]) if isinstance(salt, Sequence) else (salt, salt)
    codes = [fingerprint(text) if key is None else siphash(text, key) for text in map(_bytes, _elements(x))]
    found = np.array([code % (bins - masked) for code in codes], np.int64).reshape(x.shape)
    return np.where(x == mask_value, 0, found + 1) if masked else found


def _crossed(xs: Sequence[Array], bins: int) -> Array:
    """The bin of each combination of the elements at one place, which texts and whole numbers may have part in."""
    found = []
    for row in zip(*map(_elements, xs), strict=True):
        code = _CROSS_KEY
        for element in row:
            code = cross(code, element & _MASK if isinstance(element, int) else fingerprint(_bytes(element)))
        found.append(code % bins)
    return np.array(found, np.int64).reshape(xs[0].shape)


def _elements(x: Array) -> list[Any]:
    """An array's elements; of floats the whole part."""
    whole = x.astype(np.int64) if x.dtype.kind == "f" else x
    return list(whole.reshape(-1).tolist())


def _bytes(element: Any) -> bytes:
    if isinstance(element, bool):
        return b"true" if element else b"false"
    return element if isinstance(element, bytes) else str(element).encode()


# -- FarmHash ----------------------------------------------------------------------------------------------------------

_MASK = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_SEED = 81


def fingerprint(data: bytes) -> int:
    """Fingerprint64 of FarmHash, which has a formula for each of five ranges of lengths."""
    n = len(data)
    if n > 64:
        return _over_64(data)
    return _to_16(data) if n <= 16 else _to_32(data) if n <= 32 else _to_64(data)


def _word(data: bytes, start: int, size: int = 8) -> int:
    """The number in these bytes; a negative start counts from the end."""
    start %= len(data)
    return int.from_bytes(data[start : start + size], "little")


def _turn(x: int, bits: int) -> int:
    """Rotated to the right."""
    x &= _MASK
    return (x >> bits | x << (64 - bits)) & _MASK


def _mix(x: int) -> int:
    x &= _MASK
    return x ^ x >> 47


def _pair(u: int, v: int, factor: int) -> int:
    """Two numbers made one."""
    a = _mix((u ^ v) * factor)
    return _mix((v ^ a) * factor) * factor & _MASK


def _to_16(data: bytes) -> int:
    n = len(data)
    factor = _K2 + 2 * n
    if n >= 8:
        a, b = _word(data, 0) + _K2, _word(data, -8)
        return _pair(_turn(b, 37) * factor + a, (_turn(a, 25) + b) * factor, factor)
    if n >= 4:
        return _pair(n + (_word(data, 0, 4) << 3), _word(data, -4, 4), factor)
    if n:
        y, z = data[0] + (data[n // 2] << 8), n + (data[-1] << 2)
        return _mix(y * _K2 ^ z * _K0) * _K2 & _MASK
    return _K2


def _halves(data: bytes, a: int, factor: int) -> tuple[int, int]:
    """What the first 16 bytes and the last 16 give; a is made of the first 8."""
    b, c, d = _word(data, 8), _word(data, -8) * factor, _word(data, -16) * _K2
    return _turn(a + b, 43) + _turn(c, 30) + d, a + _turn(b + _K2, 18) + c


def _to_32(data: bytes) -> int:
    factor = _K2 + 2 * len(data)
    return _pair(*_halves(data, _word(data, 0) * _K1, factor), factor)


def _to_64(data: bytes) -> int:
    factor = _K2 + 2 * len(data)
    a = _word(data, 0) * _K2
    y, rest = _halves(data, a, factor)
    z = _pair(y, rest, factor)
    e, f = _word(data, 16) * factor, _word(data, 24)
    g, h = (y + _word(data, -32)) * factor, (z + _word(data, -24)) * factor
    return _pair(_turn(e + f, 43) + _turn(g, 30) + h, e + _turn(f + a, 18) + g, factor)


def _weak(data: bytes, start: int, a: int, b: int) -> tuple[int, int]:
    """Two numbers, with 32 bytes taken into them."""
    w, x, y, z = (_word(data, start + 8 * i) for i in range(4))
    a += w
    b = _turn(b + a + z, 21)
    return a + x + y + z, b + _turn(a + x + y, 44) + a


_State = tuple[int, int, int, tuple[int, int], tuple[int, int]]


def _block(data: bytes, start: int, state: _State, factor: int, weight: int = 1) -> _State:
    """The state, with 64 bytes taken into it; the last block weighs more."""
    x, y, z, v, w = state
    x = _turn(x + y + v[0] + _word(data, start + 8), 37) * factor
    y = _turn(y + v[1] + _word(data, start + 48), 42) * factor
    x ^= w[1] * weight
    y += v[0] * weight + _word(data, start + 40)
    z = _turn(z + w[0], 33) * factor
    v = _weak(data, start, v[1] * factor, x + w[0])
    w = _weak(data, start + 32, z + w[1], y + _word(data, start + 16))
    return z & _MASK, y & _MASK, x & _MASK, (v[0] & _MASK, v[1] & _MASK), (w[0] & _MASK, w[1] & _MASK)


def _over_64(data: bytes) -> int:
    """Blocks of 64 bytes; the last is the 64 at the end, which may have been seen in part."""
    y = _SEED * _K1 + 113
    state: _State = (_SEED * _K2 + _word(data, 0), y, _mix(y * _K2 + 113) * _K2, (0, 0), (0, 0))
    for start in range(0, len(data) - 64, 64):
        state = _block(data, start, state, _K1)
    x, y, z, v, w = state
    factor = _K1 + 2 * (z & 0xFF)
    w = (w[0] + (len(data) - 1) % 64, w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = _block(data, len(data) - 64, (x, y, z, v, w), factor, 9)
    return _pair(_pair(v[0], w[0], factor) + _mix(y) * _K0 + z, _pair(v[1], w[1], factor) + x, factor)


# -- crosses -----------------------------------------------------------------------------------------------------------

_CROSS_KEY, _CROSS = 0xDECAFCAFFE, 0xC6A4A7935BD1E995


def cross(code: int, other: int) -> int:
    """A code with another taken into it; their order matters."""
    found = (code ^ _CROSS ^ _mix(other * _CROSS) * _CROSS) * _CROSS
    return _mix(_mix(found) * _CROSS)


# -- SipHash -----------------------------------------------------------------------------------------------------------

_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4: two rounds for each word of the data, the last with the length in its highest byte, then four."""
    v = [start ^ key[i % 2] & _MASK for i, start in enumerate(_START)]
    whole = len(data) // 8 * 8
    words = [_word(data, i) for i in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        v = _round(_round(v))
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        v = _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _round(v: list[int]) -> list[int]:
    a, b, c, d = v
    a, c = (a + b) & _MASK, (c + d) & _MASK
    b, d, a = _turn(b, 64 - 13) ^ a, _turn(d, 64 - 16) ^ c, _turn(a, 32)
    c, a = (c + b) & _MASK, (a + d) & _MASK
    b, d, c = _turn(b, 64 - 17) ^ c, _turn(d, 64 - 21) ^ a, _turn(c, 32)
    return [a, b, c, d]
