"""The published schema of a difference is what the code declares, and every difference keeps to it."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import case, onnx_cases
from jsonschema import Draft202012Validator
from twins import arrays, edited, manifest_of, without, write

from wexport.cli import main
from wexport.delta.gates import check
from wexport.delta.schema import schema

PUBLISHED = Path(__file__).parents[2] / "schemas/diff-1.schema.json"
KERAS_2 = case("keras2.0.8-tf1.4/m1_stock.h5").path
KERAS_3 = case("keras3.15.1/m1_stock.keras").path


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))


def test_the_published_schema_is_this_one() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == schema(), "run `make schema`"
    Draft202012Validator.check_schema(schema())


def printed(capsys: pytest.CaptureFixture[str], *args: Any) -> dict[str, Any]:
    """What `diff --json` prints."""
    main(["diff", *map(str, args), "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


NEW = {"d0.kernel": np.zeros((8, 8), "f4"), "d1.bias": np.full(8, np.nan, "f4"), "d2.kernel": np.ones((8, 8), "f2")}
OTHERS: dict[str, Mapping[str, Any]] = {
    "same": arrays(),
    "changed": edited(arrays(), {"d1.kernel": arrays(seed=1)["d1.kernel"]}),
    "zeroed, not finite, retyped": edited(arrays(), NEW),
    "reshaped": edited(arrays(), {"d2.kernel": np.ones((8, 3), "f4"), "d2.bias": np.ones(3, "f4")}),
    "a layer more": arrays(4),
    "a layer less": arrays(2),
    "a tensor less": without(arrays(), ["d1.bias"]),
    "renamed": {name.replace("d1", "late"): array for name, array in arrays().items()},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("bare", [False, True])
def test_differences_of_small_models(
    other: Mapping[str, Any],
    bare: bool,
    tmp_path: Path,
    validator: Draft202012Validator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places: Sequence[Path] = [write(tmp_path / "a", arrays()), write(tmp_path / "b", other)]
    if bare:
        places = [manifest_of(path, tmp_path / f"{path.name}.yaml") for path in places]
    for pair in (places, places[::-1]):
        for more in ((), ("--top", "3"), ("--match", "name"), ("--fail-on", "values", "--fail-on", "relative>0.1")):
            if bare and "relative>0.1" in more and other is OTHERS["zeroed, not finite, retyped"]:
                continue
            found = printed(capsys, *pair, *more)
            assert [error.message for error in validator.iter_errors(found)] == []


def test_differences_of_models(validator: Draft202012Validator, capsys: pytest.CaptureFixture[str]) -> None:
    exporters = [model.path for model in onnx_cases()][:40:8]
    pairs = [(KERAS_2, KERAS_3), (KERAS_3, KERAS_2), *itertools.pairwise(exporters)]
    pairs += [(KERAS_2, exporters[0]), (exporters[1], KERAS_3)]
    facts = set()
    for pair in pairs:
        found = printed(capsys, *pair, "--top", "2", "--fail-on", "structure")
        assert [error.message for error in validator.iter_errors(found)] == [], pair
        facts |= {fact["fact"] for fact in found["facts"]}
    assert len(facts) >= 10


def test_what_breaks_it_is_seen(
    tmp_path: Path, validator: Draft202012Validator, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write(tmp_path / "a", arrays()), write(tmp_path / "b", arrays(4, seed=1))
    found = printed(capsys, *pair, "--fail-on", "structure")
    lies: list[tuple[str, Any]] = [
        ("fact", "values swapped"), ("category", "value"), ("a", 3), ("detail", []), ("detail", {}),
        ("change", {}),
    ]  # fmt: skip
    added = next(i for i, fact in enumerate(found["facts"]) if fact["fact"] == "layer added")
    for key, value in lies:
        broken = copy.deepcopy(found)
        broken["facts"][added][key] = value
        assert not validator.is_valid(broken), key
    for path, value in (
        (("matches", "tensors", 0, "how"), "luck"),
        (("a", "what"), "folder"),
        (("groups", 0, "change", "cosine"), 2),
        (("groups", 0, "change", "unavailable"), ["colour"]),
        (("equal", "layers"), -1),
        (("wexport_diff",), 2),
    ):
        broken = copy.deepcopy(found)
        *way, last = path
        place: Any = broken
        for step in way:
            place = place[step]
        place[last] = value
        assert not validator.is_valid(broken), path
    found["facts"][0]["new"] = found["a"]["new"] = found["later"] = 1
    assert validator.is_valid(found)


def test_the_same_bytes_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads, hashes of strings and the order of reading leave no trace in what is printed."""
    random = np.random.default_rng(0)
    big = {name: random.normal(size=(700, 700)).astype("f4") for name in (f"d{i}.kernel" for i in range(8))}
    pair = write(tmp_path / "a", big), write(tmp_path / "b", {name: array * 1.5 for name, array in big.items()})
    texts = set()
    for seed in ("1", "2", "3"):
        found = subprocess.run(
            [sys.executable, "-m", "wexport", "diff", *map(str, pair), "--json", "--top", "2"],
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            timeout=60,
        )
        assert found.returncode == 1
        texts.add(found.stdout)
    assert len(texts) == 1


def test_every_category_of_the_schema_can_be_asked_for() -> None:
    check(schema()["$defs"]["fact"]["properties"]["category"]["enum"])
