"""Hashes against published numbers, of every range of lengths; bins against the frameworks' own."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case, cases
from conftest import Exported
from test_outputs import computed, golden, outputs

from wexport.layers import hashing
from wexport.layers.complete import KINDS
from wexport.layers.step import Step

# TensorFlow 2.21's tf.fingerprint of (3, 10, 17, ...) mod 256, by the number of bytes: each range of lengths that has
# a formula of its own, with its first and last, and whole and broken blocks.
FINGERPRINTS = {
    0: 0x9AE16A3B2F90404F, 1: 0xBEC09CC447469D8B, 2: 0x16F8263645A8ECF5, 3: 0x40B4412E33EEFD64,
    4: 0xF3C7EE05197A7B92, 5: 0x156112F7C93E5CB3, 7: 0x4FEF0B39C12AA9A4, 8: 0x0C97ECBC1E9D2626,
    9: 0xE51CF38098A5BFFF, 15: 0x2CA35F0A039B4F1B, 16: 0x7EDA0ED8C837A168, 17: 0xC9518FE63EBF6127,
    31: 0xBD5CA6EE28FC43CB, 32: 0xA53F806F23A314E8, 33: 0xC24F9D7CE864F0E9, 48: 0xA77873935894901F,
    63: 0x9643C13FC68D469C, 64: 0x0566266CB579ECA2, 65: 0x77E0867714E6B0E4, 127: 0xCAA19A12C8273B7E,
    128: 0x666823960B3AC271, 129: 0x98206B8579BCA083, 192: 0x3FB42D06DD42F727, 193: 0x9A1776A82B94F2B6,
    256: 0xE23028839AB705A1, 1000: 0xE021806CC1E3DC4C,
}  # fmt: skip
# BigQuery's reference, FARM_FINGERPRINT, as signed numbers.
PUBLISHED = {"1footrue": -1541654101129638711, "2applefalse": 2794438866806483259, "3true": -4880158226897771312}

# The test vectors of SipHash's authors: the key is 00 01 ... 0f, the data 00 01 ..., by the number of bytes.
SIPHASHES = {
    0: "310e0edd47db6f72", 1: "fd67dc93c539f874", 7: "37d1018bf50002ab", 8: "6224939a79f5f593",
    15: "e545be4961ca29a1", 16: "db9bc2577fcc2a3f", 63: "724506eb4c328a95",
}  # fmt: skip
KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)


@pytest.mark.parametrize("length", FINGERPRINTS)
def test_fingerprints(length: int) -> None:
    assert hashing.fingerprint(bytes((3 + 7 * i) % 256 for i in range(length))) == FINGERPRINTS[length]


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_fingerprints(text: str) -> None:
    assert hashing.fingerprint(text.encode()) == PUBLISHED[text] % 2**64


@pytest.mark.parametrize("length", SIPHASHES)
def test_siphashes(length: int) -> None:
    assert hashing.siphash(bytes(range(length)), KEY).to_bytes(8, "little").hex() == SIPHASHES[length]


def test_a_negative_salt_is_its_bits() -> None:
    assert hashing.siphash(b"x", (-1, -5)) == hashing.siphash(b"x", (2**64 - 1, 2**64 - 5))


def bins(*xs: np.ndarray, mask_value: object = None, salt: object = None, **settings: object) -> list[object]:
    attributes = {"bins": 3, "crossed": len(xs) > 1, "output_mode": "int", "mask_value": mask_value, "salt": salt}
    compute = KINDS["hashing"].computes
    assert compute is not None
    found = compute(Step({**attributes, **settings}, {}, {"x": xs if len(xs) > 1 else xs[0]}))
    return list(np.asarray(found).tolist())


def test_what_the_layers_documentation_says() -> None:
    """The examples in Keras' docstrings."""
    letters = np.array(["A", "B", "C", "D", "E"])
    assert bins(letters) == [1, 0, 1, 1, 2]
    assert bins(np.array(["A", "B", "", "C", "D"]), mask_value="") == [1, 1, 0, 2, 2]
    assert bins(letters, salt=[133, 137]) == [1, 2, 1, 0, 2]
    assert bins(letters, salt=133) == bins(letters, salt=[133, 133]) == [0, 0, 2, 1, 0]
    pairs = np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102])
    assert bins(*pairs, bins=5) == [1, 4, 1, 1, 3]


def test_one_axis_is_one_sample() -> None:
    """As `tf.math.bincount` has it: bins 1, 0, 1, 1, 2."""
    letters = np.array(["A", "B", "C", "D", "E"])
    assert bins(letters, output_mode="count") == [1, 3, 1]
    assert bins(letters, output_mode="multi_hot", bins=50) == [float(i in bins(letters, bins=50)) for i in range(50)]


HASHED = [c for c in cases() if c.stem in {"m5_hashing", "m5_crossing"}]


def differing(model: Case, exported: Exported) -> list[int]:
    """The outputs of whole numbers that are not exactly the framework's."""
    bundle = exported(model)
    found = outputs(bundle, computed(bundle, model))
    whole = [(i, f, w) for i, (f, w) in enumerate(zip(found, golden(model), strict=True)) if w.dtype.kind == "i"]
    assert len(whole) > 4
    return [i for i, f, w in whole if not np.array_equal(f, w)]


@pytest.mark.parametrize("model", HASHED, ids=lambda c: c.id)
def test_every_bin_is_exact(model: Case, exported: Exported) -> None:
    """Not near: the numbers of bins go up to 2**61, where a tolerance relative to the largest hides a lot."""
    assert differing(model, exported) == []


CONSTANTS = {"_K0": 1, "_K1": 1, "_K2": 1, "_SEED": 80, "_CROSS": 3, "_CROSS_KEY": 0, "_START": (1, 2, 3, 4)}


@pytest.mark.parametrize("name", CONSTANTS)
def test_another_constant_is_seen(name: str, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models' texts and numbers reach every constant."""
    monkeypatch.setattr(hashing, name, CONSTANTS[name])
    assert any(differing(model, exported) for model in HASHED)
