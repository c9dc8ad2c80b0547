"""The published schema is what the rooms declare, every bundle keeps to it, and what breaks it is seen."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import Case, case, cases
from conftest import Exported
from jsonschema import Draft202012Validator

from wexport.layers.complete import KINDS
from wexport.schema import schema, violations

PUBLISHED = Path(__file__).parents[2] / "schemas/manifest-1.schema.json"
CASES = cases()


def test_the_published_schema_is_this_one() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == schema(), "run `make schema`"
    Draft202012Validator.check_schema(schema())


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_every_bundle_keeps_to_it(model: Case, exported: Exported, validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(exported(model).manifest)] == []


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        *way, last = path
        for key in way:
            manifest = manifest[key]
        del manifest[last]

    return change


def _set(value: Any, *path: Any) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        *way, last = path
        for key in way:
            manifest = manifest[key]
        manifest[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_drop("layers", "lstm_1", "units"), "layers > lstm_1"),
        (_set("128", "layers", "lstm_1", "units"), "layers > lstm_1"),
        (_set("tanh", "layers", "lstm_1", "activation"), "layers > lstm_1"),
        (_drop("layers", "dense_1", "kind"), "layers > dense_1"),
        (_drop("calls", 0, "out"), "calls > 0"),
        (_set({"const": 1}, "calls", 0, "args", "x"), "calls > 0"),
        (_set("F33", "tensors", "dense_1.bias", "dtype"), "tensors > dense_1.bias"),
        (_set("x", "tensors", "dense_1.bias", "sha256"), "tensors > dense_1.bias"),
        (_drop("weights", "dense_1/dense_1/bias:0", "layout"), "weights > dense_1/dense_1/bias:0"),
        (_drop("model", "fingerprint"), "model"),
        (_drop("stats", "dense_1.bias", "l2"), "stats > dense_1.bias"),
        (_set("AAAA", "sketches", "dense_1.bias", "count64"), "sketches > dense_1.bias"),
    ],
)
def test_what_breaks_it_is_seen(change: Callable[[Any], None], place: str, exported: Exported) -> None:
    manifest = copy.deepcopy(exported(case("keras2.0.8-tf1.4/m1_stock.h5")).manifest)
    assert violations(manifest) == []
    change(manifest)
    found = violations(manifest)
    assert found
    assert found[0].startswith(place)


def test_fields_that_nobody_knows_are_allowed(exported: Exported) -> None:
    manifest = copy.deepcopy(exported(case("keras2.0.8-tf1.4/m1_stock.h5")).manifest)
    for entry in (
        manifest,
        manifest["model"],
        manifest["layers"]["lstm_1"],
        manifest["calls"][0],
        manifest["tensors"]["dense_1.bias"],
    ):
        entry["new"] = {"a": 1}
    manifest["layers"]["later"] = {"kind": "of_the_future", "class": None}
    assert violations(manifest) == []


def test_manifests_from_before_sketches_keep_to_it(exported: Exported) -> None:
    manifest = dict(exported(case("keras2.0.8-tf1.4/m1_stock.h5")).manifest)
    del manifest["sketches"]
    assert violations(manifest) == []
    manifest["sketches"] = {"dense_1.bias": {"another": "method"}}
    assert violations(manifest) == []


def test_every_kind_is_in_it() -> None:
    kinds = {item["if"]["properties"]["kind"]["const"] for item in schema()["$defs"]["layer"]["allOf"]}
    assert kinds == set(KINDS)
