"""Exit codes of `diff`, without and with gates: 0 the same, 1 different, 2 trouble."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from twins import arrays, described, edited, manifest_of, without, write

from wexport.cli import main

Arrays = Mapping[str, NDArray[Any]]
BASE = arrays()
BASE["d1.bias"] /= np.float32(3)  # no half holds it
KERNEL, BIAS = BASE["d1.kernel"], BASE["d1.bias"]
MOVED = KERNEL * np.float32(1.25)  # relative 0.25, cosine 1, every element
TURNED = KERNEL * np.float32(-1)
FEW = np.where(np.arange(64).reshape(8, 8) < 16, KERNEL + np.float32(0.5), KERNEL).astype("f4")  # a quarter of them
FAULTY = np.where(np.arange(8) < 2, np.float32("nan"), BIAS).astype("f4")

OTHERS: dict[str, Arrays] = {
    "same": BASE,
    "values": edited(BASE, {"d1.kernel": MOVED}),
    "structure": {**arrays(4), **BASE},
    "names": {name.replace("d1", "late"): array for name, array in BASE.items()},
    "names and values": {n.replace("d1", "late"): a for n, a in edited(BASE, {"d1.kernel": MOVED}).items()},
    "lost": without(BASE, ["d1.bias"]),
    "turned": edited(BASE, {"d1.kernel": TURNED}),
    "few": edited(BASE, {"d1.kernel": FEW}),
    "faulty": edited(BASE, {"d1.bias": FAULTY}),
    "zeroed": edited(BASE, {"d1.kernel": KERNEL * np.float32(0)}),
    "half": edited(BASE, {"d1.bias": BIAS.astype("f2")}),
    "half and moved": edited(BASE, {"d1.kernel": (KERNEL * np.float32(1.25)).astype("f2")}),
    "nudged": edited(BASE, {"d1.kernel": KERNEL * np.float32(1 + 1e-6)}),
}
Ask = Callable[..., int]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    for name, tensors in OTHERS.items():
        manifest_of(write(folder / name, tensors), folder / f"{name}.yaml")
    return folder


@pytest.fixture
def ask(places: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The exit code of a comparison of the base with another; a line on stderr if and only if it is 2."""

    def run(other: str, *options: str, ending: str = "", base: str = "same") -> int:
        code = main(["diff", str(places / f"{base}{ending}"), str(places / f"{other}{ending}"), *options])
        out, err = capsys.readouterr()
        assert (err.count("\n"), bool(out)) == ((1, False) if code == 2 else (0, True)), err
        run.said = err or out  # type: ignore[attr-defined]
        return code

    return run


def said(ask: Ask) -> str:
    text: str = ask.said  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize("ending", ["", ".yaml"])
@pytest.mark.parametrize("other", [name for name in OTHERS if name != "same"])
def test_without_gates(other: str, ending: str, ask: Ask) -> None:
    assert ask(other, ending=ending) == 1
    assert ask(other, ending=ending, base=other) == 0
    assert ask("same", ending=ending, base=other) == 1
    assert ask("nowhere", ending=ending) == 2


CATEGORIES = {
    "values": {"values"},
    "structure": {"structure"},
    "names": {"names"},
    "names and values": {"names", "values"},
    "lost": {"structure"},
    "half": {"structure"},
    "half and moved": {"structure", "values"},
    "faulty": {"values"},
    "same": set(),
}


@pytest.mark.parametrize("ending", ["", ".yaml"])
@pytest.mark.parametrize(("other", "trip"), CATEGORIES.items())
def test_categories(other: str, trip: set[str], ending: str, ask: Ask) -> None:
    if (other, ending) == ("half and moved", ".yaml"):
        trip = {"structure"}  # whether more than rounding happened, manifests do not tell
    for gate in ("structure", "graph", "names", "values"):
        assert ask(other, "--fail-on", gate, ending=ending) == int(gate in trip), gate
        assert ("trips" in said(ask)) == (gate in trip)


RULES = [
    ("values", "relative>0.2", 1), ("values", "relative>0.25", 0), ("values", "relative>=0.25", 1),
    ("values", "relative>0.3", 0), ("values", "relative<0.3", 1), ("values", "relative<0.2", 0),
    ("values", "relative<=0.25", 1), ("values", "relative <= 0.2", 0), ("zeroed", "relative>=1", 1),
    ("few", "share>0.2", 1), ("few", "share>=0.25", 1), ("few", "share>0.25", 0), ("few", "share<=0.25", 1),
    ("few", "share<0.25", 0),
    ("few", "max_abs>0.4", 1), ("few", "max_abs>0.6", 0), ("few", "max_abs<0.6", 1), ("few", "max_abs<=0.4", 0),
    ("few", "max_abs>=0.4", 1),
    ("turned", "cosine<0", 1), ("turned", "cosine<=-0.999", 1), ("turned", "cosine>0", 0), ("values", "cosine<0.9", 0),
    ("values", "cosine>=0.999", 1), ("zeroed", "cosine<0.5", 1),
    ("faulty", "nonfinite>0", 1), ("faulty", "nonfinite>=2", 1), ("faulty", "nonfinite>2", 0),
    ("faulty", "nonfinite<3", 1), ("faulty", "nonfinite<=1", 0), ("values", "nonfinite>0", 0),
    ("same", "relative>=0", 0), ("structure", "relative>=0", 0), ("names", "max_abs>=0", 0),
    ("half", "relative>0.01", 0), ("half", "relative>1e-5", 1), ("half and moved", "relative>0.2", 1),
]  # fmt: skip


@pytest.mark.parametrize(("other", "rule", "code"), RULES)
def test_rules(other: str, rule: str, code: int, ask: Ask) -> None:
    assert ask(other, "--fail-on", rule) == code
    assert f"gate {rule} trips: d1." in said(ask) if code else f"gates: {rule}: passed" in said(ask)


ESTIMATED = [
    ("values", "relative>0.05", 1), ("values", "relative>0.9", 0), ("values", "relative<0.9", 1),
    ("values", "relative<=0.05", 0), ("values", "relative>=0.05", 1), ("turned", "cosine<0", 1),
    ("values", "cosine>=0.5", 1), ("zeroed", "relative>=1", 1), ("zeroed", "max_abs>0", 1),
    ("faulty", "nonfinite>1", 1), ("values", "nonfinite>0", 0),
]  # fmt: skip


@pytest.mark.parametrize(("other", "rule", "code"), ESTIMATED)
def test_rules_on_estimates(other: str, rule: str, code: int, ask: Ask) -> None:
    assert ask(other, "--fail-on", rule, ending=".yaml") == code


@pytest.mark.parametrize("rule", ["max_abs>0.1", "share>0", "max_abs<=1e9", "share>=0"])
def test_what_manifests_do_not_tell_is_trouble(rule: str, ask: Ask) -> None:
    assert ask("few", "--fail-on", rule, ending=".yaml") == 2
    assert "cannot be told from manifests alone; compare the bundles" in said(ask)
    assert "'d1.kernel'" in said(ask)
    assert ask("few", "--fail-on", rule) == 1
    assert ask("structure", "--fail-on", rule, ending=".yaml") == 0  # nothing moved: there is nothing to tell


def test_without_sketches_nothing_is_guessed(places: Path, ask: Ask) -> None:
    for name in ("same", "values"):
        text = (places / f"{name}.yaml").read_text()
        (places / f"{name}.old.yaml").write_text(text.partition("sketches:")[0])
    old = {"ending": ".old.yaml"}
    assert ask("values", **old) == 1
    assert "no sketch of 1 changed tensors" in said(ask)
    for rule in ("relative>0.1", "cosine<0.9"):
        assert ask("values", "--fail-on", rule, **old) == 2
    assert ask("values", "--fail-on", "values", **old) == 1
    assert ask("values", "--tolerance", "0.9", **old) == 1  # it may have moved by more


def test_an_estimate_below_its_floor_is_no_number(places: Path, ask: Ask) -> None:
    """Two sketches that are equal, of tensors that are not: the change is below what float32 tells."""
    text = (places / "same.yaml").read_text()
    digest = next(line for line in text.splitlines() if '"d1.kernel": {"dtype"' in line).rpartition('": "')[2][:64]
    (places / "unlike.yaml").write_text(text.replace(digest, "0" * 64))
    assert ask("unlike", ending=".yaml") == 1
    assert ask("unlike", "--fail-on", "relative>0", ending=".yaml") == 2
    assert ask("unlike", "--fail-on", "relative>1e-9", ending=".yaml") == 2
    assert ask("unlike", "--fail-on", "relative>1e-5", ending=".yaml") == 0
    assert ask("unlike", "--fail-on", "relative<1e-5", ending=".yaml") == 1
    assert ask("unlike", "--tolerance", "1e-9", ending=".yaml") == 1
    assert ask("unlike", "--tolerance", "1e-5", ending=".yaml") == 0


def test_several_gates(ask: Ask) -> None:
    assert ask("values", "--fail-on", "structure", "--fail-on", "names") == 0
    assert "gates: structure, names: passed" in said(ask)
    assert ask("values", "--fail-on", "structure", "--fail-on", "relative>0.2", "--fail-on", "values") == 1
    assert "gate relative>0.2 trips: d1.kernel (0.25)" in said(ask)
    assert "gate values trips: d1.kernel" in said(ask)
    assert "gate structure" not in said(ask)
    assert ask("few", "--fail-on", "values", "--fail-on", "share>0", ending=".yaml") == 2


def test_tolerance(ask: Ask) -> None:
    assert ask("values", "--tolerance", "0.2") == 1
    assert ask("values", "--tolerance", "0.26") == 0
    assert "the same, within the tolerance" in said(ask)
    assert ask("values", "--tolerance", "0") == 1
    assert ask("structure", "--tolerance", "9") == 1
    assert ask("names", "--tolerance", "9") == 1
    assert ask("names and values", "--tolerance", "9") == 1
    assert ask("nudged", "--tolerance", "1e-5") == 0
    assert ask("nudged", "--tolerance", "1e-5", ending=".yaml") == 0


def test_tolerance_with_gates(ask: Ask) -> None:
    assert ask("values", "--tolerance", "0.2", "--fail-on", "values") == 1
    assert ask("values", "--tolerance", "0.26", "--fail-on", "values") == 0
    assert ask("values", "--tolerance", "0.26", "--fail-on", "relative>0.1") == 0
    assert ask("names and values", "--tolerance", "0.26", "--fail-on", "names") == 1
    assert ask("names and values", "--tolerance", "0.2", "--fail-on", "structure") == 0
    assert ask("half", "--tolerance", "0.26", "--fail-on", "structure") == 1


@pytest.mark.parametrize("ending", ["", ".yaml"])
def test_no_tolerance_takes_nan_for_a_number(ending: str, ask: Ask) -> None:
    assert ask("faulty", "--tolerance", "9", ending=ending) == 1


def test_rounding_is_told_from_moving(ask: Ask) -> None:
    ask("half")
    assert "float32 -> float16, rounded by" in said(ask) or "F32 -> F16, rounded by" in said(ask)
    ask("half and moved")
    assert "moved by 25" in said(ask)


def test_layers_that_one_framework_alone_writes(tmp_path: Path, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = described(BASE, "one"), described(BASE, "two")
    b["layers"]["cast"] = {"kind": "of_its_own", "class": "Cast"}
    b["calls"].append({
        "layer": "cast", "args": {"x": "d0"},
        "out": [{"value": "cast", "role": "y", "shape": [None, 8], "dtype": "float32"}],
    })  # fmt: skip
    pair = [str(write(tmp_path / "a", BASE, a)), str(write(tmp_path / "b", BASE, b))]
    assert main(["diff", *pair]) == 1
    assert [main(["diff", *pair, "--fail-on", gate]) for gate in ("structure", "graph", "names", "values")] == [
        0, 1, 0, 0,
    ]  # fmt: skip
    capsys.readouterr()


BAD = [
    ["--fail-on", "everything"], ["--fail-on", ""], ["--fail-on", "relative"], ["--fail-on", "relative>"],
    ["--fail-on", "relative>x"], ["--fail-on", "relative>nan"], ["--fail-on", "relative=1"], ["--fail-on", "size>1"],
    ["--fail-on", "relative>0.1,names"], ["--fail-on", "values", "--fail-on", "colour"], ["--fail-on", "relative!=1"],
    ["--tolerance", "x"], ["--tolerance", "-1"], ["--tolerance", "nan"], ["--tolerance", "inf"], ["--tolerance", ""],
    ["--top", "0"], ["--top", "x"], ["--match", "luck"], ["--fail-on"], ["--colour"],
]  # fmt: skip


@pytest.mark.parametrize("options", BAD, ids=" ".join)
def test_bad_options(options: list[str], places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = main(["diff", str(places / "same"), str(places / "values"), *options])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("wexport: error: ")


def test_a_bad_gate_is_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "nowhere", "nothing", "--fail-on", "relative>lots"]) == 2
    assert "'relative>lots': is no gate; expected structure, graph, names, values, or one of" in capsys.readouterr().err


def test_nothing_is_near_to_nan(ask: Ask) -> None:
    """A tensor whose finite elements did not move is far from what it was, all the same."""
    assert ask("faulty", "--fail-on", "relative>1000") == 1
    assert ask("faulty", "--fail-on", "max_abs>1000") == 1
    assert ask("few", "--fail-on", "relative>1000") == 0
