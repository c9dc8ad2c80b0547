"""What a manifest's equations say, evaluated from their text on real values, is what the layers compute."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import test_onnx_outputs
import test_outputs
from cases import Case, cases, onnx_cases
from checked_equations import WrongEquationError, checked, compared
from conftest import Exported
from equation_rows import Row, rows
from equations import FUNCTIONS
from equations.attention import BY_NAME

from wexport.layers.complete import KINDS
from wexport.layers.step import Step, Terms

MODELS = [*test_outputs.COMPARED, *test_onnx_outputs.COMPARED]
ROWS = rows()

# Kinds whose layers may own tensors and have no equations.
NO_EQUATIONS = {
    "unknown": "nothing is known of what it computes",
    "scan": "its body's calls, in the manifest, are what it computes",
}


@pytest.fixture(scope="module")
def evaluated_kinds(exported: Exported) -> Callable[[Case], set[str]]:
    """Computes a model, once, with its equations: the kinds of which one was evaluated."""
    found: dict[str, set[str]] = {}

    def compute(model: Case) -> set[str]:
        if model.id not in found:
            bundle = exported(model)
            with checked() as seen:
                if model in test_outputs.COMPARED:
                    test_outputs.computed(bundle, model)
                else:
                    names = list(bundle.manifest["inputs"])
                    test_onnx_outputs.computed(bundle, test_onnx_outputs.arrays(model, "in_", names))
            found[model.id] = {kind for kind, _ in seen}
        return found[model.id]

    return compute


@pytest.mark.parametrize("model", MODELS, ids=lambda c: c.id)
def test_texts_give_what_is_computed(
    model: Case, exported: Exported, evaluated_kinds: Callable[[Case], set[str]]
) -> None:
    manifest = exported(model).manifest
    called = {call["layer"] for call in manifest["calls"]} & set(manifest["equations"])
    assert {manifest["layers"][name]["kind"] for name in called} <= evaluated_kinds(model)


def compare(row: Row, text: list[str]) -> list[str]:
    compute = KINDS[row.kind].computes
    assert compute is not None
    result = compute(Step(row.attributes, row.tensors, row.args, kind=row.kind))
    entry, wanted = {"kind": row.kind, **row.attributes}, result if isinstance(result, dict) else {"y": result}
    return compared(text, entry, row.tensors, row.args, wanted)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_rows(row: Row) -> None:
    assert set(compare(row, lines(row))) & {"y", "scores", "labels"}


def test_every_kind_is_evaluated(exported: Exported, evaluated_kinds: Callable[[Case], set[str]]) -> None:
    """Kinds whose layers own tensors in the models, and all that have equations."""
    done = {row.kind for row in ROWS}.union(*map(evaluated_kinds, MODELS))
    owners = set()
    for model in cases() + onnx_cases():
        manifest = exported(model).manifest
        owners |= {
            manifest["layers"][t["layer"]]["kind"] for t in manifest["tensors"].values() if t["layer"] is not None
        }
    assert owners - done - set(NO_EQUATIONS) == set()
    assert {name for name, kind in KINDS.items() if kind.equations} - done == set()
    assert not [name for name in NO_EQUATIONS if KINDS[name].equations]


def lines(row: Row) -> list[str]:
    write = KINDS[row.kind].equations
    assert write is not None
    return list(write(Terms(row.attributes, frozenset(row.tensors), "", frozenset(row.args), row.several)))


def test_any_two_tensors_swapped_in_a_text_are_seen() -> None:
    first = {row.kind: row for row in reversed(ROWS)}
    count = 0
    for row in first.values():
        text = lines(row)
        shown = set(re.findall("`([^`]+)`", "\n".join(line.partition("  # ")[0] for line in text)))
        for a, b in combinations(sorted(shown), 2):
            one, two = (row.tensors[n][1] for n in (a, b))
            if one.shape != two.shape or np.array_equal(one, two):
                continue
            other = {f"`{a}`": f"`{b}`", f"`{b}`": f"`{a}`"}
            swapped = [re.sub("`[^`]+`", lambda m, other=other: other.get(m[0], m[0]), line) for line in text]
            with pytest.raises(WrongEquationError):
                compare(row, swapped)
            count += 1
    assert count > 150


def test_every_function_is_evaluated(exported: Exported) -> None:
    texts = [line for model in MODELS for found in exported(model).manifest["equations"].values() for line in found]
    texts += [line for row in ROWS for line in lines(row)]
    used = {name for text in texts for name in re.findall(r"(\w+)\(", text)}
    assert used == {*FUNCTIONS, *BY_NAME, "float32"}


def test_every_function_is_described() -> None:
    """The page says what the interpreter knows, and nothing else."""
    page = Path(__file__).parents[2] / "docs" / "equations.md"
    cells = re.findall(r"^\| (.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    described = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    assert described == {*FUNCTIONS, *BY_NAME, "float32"}
