"""Comparisons of what is damaged: a line and exit code 2, whichever side it is on, however the result is printed."""

from __future__ import annotations

import base64
import copy
import functools
import json
import operator
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from broken import one_line, refused
from cases import case

import wexport
from wexport import report_diff
from wexport.manifest import SECTIONS, dump, load

MODELS = ["keras2.0.8-tf1.4/m1_stock.h5", "keras2.2.4-tf1.13/m2_stateful.weights_only.h5"]
PRINTED: dict[str, Callable[[Any], str]] = {
    "coloured": lambda found: report_diff.text(found, True, True),
    "all": lambda found: report_diff.text(found, True, False),
    "summary": lambda found: report_diff.text(found, False, False),
    "json": report_diff.json_text,
    "markdown": lambda found: report_diff.markdown(found, False),
}
WAYS: tuple[dict[str, Any], ...] = ({}, {"match": "name"}, {"top": 3, "fail_on": ["values", "relative>0.1"]})


def compared(a: Path, b: Path) -> list[str]:
    """The lines with which a comparison of the two was refused, or the printing of what it found."""
    said = []
    for options in WAYS:
        try:
            found = wexport.diff(a, b, **options)
        except wexport.WexportError as error:
            said.append(str(error))
            continue
        for way, text in PRINTED.items():
            try:
                lines = text(found).split("\n")
            except wexport.WexportError as error:
                said.append(str(error))
                continue
            assert way in ("json", "coloured") or all(map(one_line, lines))
    assert all(one_line(text) and len(text) < 2000 for text in said), ascii(said)
    return said


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, and beside each a copy of its manifest."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, model in zip("ab", map(case, MODELS), strict=True):
        wexport.export(model.path, folder / name, architecture=model.architecture)
        (folder / f"{name}.yaml").write_bytes((folder / name / "manifest.yaml").read_bytes())
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a manifest, as the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


WRONG = (
    None, True, -1, 0, 10**15, 10**400, 1.5, 1e308, float("inf"), "x", "", "\ud800\x1b[31m\u202e", [], [[1]], {},
    {"a": 1}, ["x", None, 3], {"name": 3},
)  # fmt: skip


def mutated(manifest: dict[str, Any], random: Random, changes: int) -> dict[str, Any]:
    """A manifest with places deleted, replaced, or overwritten with what stands elsewhere, keys swapped."""
    made: dict[str, Any] = copy.deepcopy(manifest)
    sections = {key: made[key] for key in SECTIONS if key != "equations"}
    for _ in range(changes):
        every = list(places(sections))
        section = random.choice(list(sections))
        mine = [place for place in every if len(place) > 1 and place[0] == section] or every
        *path, last = random.choice([place for place in mine if len(place) > 1])
        parent = functools.reduce(operator.getitem, path, sections)
        what = random.randrange(4)
        if what == 0:
            del parent[last]
        elif what == 1:
            parent[last] = copy.deepcopy(random.choice(WRONG))
        elif what == 2 or not isinstance(parent, dict):
            parent[last] = copy.deepcopy(functools.reduce(operator.getitem, random.choice(every), sections))
        else:
            parent[random.choice(("", "x", *parent))] = parent.pop(last)
    return made


ROUNDS = int(os.environ.get("DIFF_FUZZ_ROUNDS", "60"))


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_manifest_with_wrong_places(name: str, bundles: Path, tmp_path: Path) -> None:
    """No manifest makes a comparison fall over: with itself as it was, with another model, on either side."""
    random, said = Random(f"diff {name}"), 0
    manifest = load((bundles / f"{name}.yaml").read_bytes(), "")
    bad = tmp_path / "bad.yaml"
    for round_ in range(ROUNDS):
        bad.write_bytes(dump(mutated(manifest, random, 1 + round_ % 3)))
        for other in (bundles / "a.yaml", bundles / "b.yaml", bad):
            for pair in ((bad, other), (other, bad)):
                said += len(compared(*pair))
    assert said > ROUNDS


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_bundle_whose_manifest_has_wrong_places(name: str, bundles: Path, tmp_path: Path) -> None:
    random, said = Random(f"bundle {name}"), 0
    text = (bundles / f"{name}.yaml").read_bytes()
    manifest = load(text, "")
    try:
        for round_ in range(ROUNDS // 4):
            (bundles / name / "manifest.yaml").write_bytes(dump(mutated(manifest, random, 1 + round_ % 2)))
            for other in (bundles / "a", bundles / "b.yaml"):
                said += len(compared(bundles / name, other) + compared(other, bundles / name))
    finally:
        (bundles / name / "manifest.yaml").write_bytes(text)
    assert said


# -- lies about the graph ----------------------------------------------------------------------------------------------


def out(value: str | None) -> dict[str, Any]:
    return {"value": value, "role": "y", "shape": [None, 8], "dtype": "float32"}


def call(layer: str, x: Any, value: str | None = None) -> dict[str, Any]:
    return {"layer": layer, "args": {"x": x}, "out": [out(value or layer)]}


def _loop(m: dict[str, Any]) -> None:
    m["calls"] = [call("dense_1", "dense_2"), call("dense_2", "dense_1"), call("dense_3", "dense_3")]


def _forward(m: dict[str, Any]) -> None:
    m["calls"].reverse()


def _twice(m: dict[str, Any]) -> None:
    m["calls"] += copy.deepcopy(m["calls"])


def _nothing(m: dict[str, Any]) -> None:
    m["calls"][0]["args"]["x"] = "nowhere"
    m["outputs"] = {"dense_3": {"value": "neither"}}


def _many_calls(m: dict[str, Any]) -> None:
    m["calls"] += [call("dense_3", "dense_2", f"v{i}") for i in range(5000)]


def _wide(m: dict[str, Any]) -> None:
    m["calls"].append(call("merge_1", ["dense_2"] * 5000, "wide"))


def _ladder(m: dict[str, Any]) -> None:
    """Each layer reads the one before it twice: 2**60 ways from the top to the bottom."""
    for i in range(60):
        m["layers"][f"add_{i}"] = {"kind": "add", "class": "Add"}
        below = f"add_{i - 1}" if i else "dense_2"
        m["calls"].append({"layer": f"add_{i}", "args": {"x": below, "y": below}, "out": [out(f"add_{i}")]})
    m["calls"].append(call("dense_3", "add_59", "end"))
    m["outputs"]["dense_3"] = {"value": "end"}


def _deep(m: dict[str, Any]) -> None:
    inner: Any = []
    for _ in range(70):
        inner = [{**call("dense_2", "dense_1"), "bodies": {"then": {"inputs": [], "calls": inner, "outputs": []}}}]
    m["calls"] += inner


def _huge(m: dict[str, Any]) -> None:
    for item in m["tensors"].values():
        item["shape"] = [10**18] * len(item["shape"])
    for item in m["stats"].values():
        item.update(l2=1e308, min=-1e308, max=1e308, nonfinite=10**18)


def _sketches(values: list[float]) -> Callable[[dict[str, Any]], None]:
    def change(m: dict[str, Any]) -> None:
        text = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        for name in m["tensors"]:
            m["sketches"][name] = {"count64": text}

    return change


def _segments(m: dict[str, Any]) -> None:
    for item in m["weights"].values():
        item["segments"] = {"in": [{"from": "x", "size": 1}] * 3}
    for item in m["tensors"].values():
        item["at"] = {"in": 10**9}


def _same_place(m: dict[str, Any]) -> None:
    for item in m["tensors"].values():
        item.update(at={}, role="kernel", layer="dense_1")


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a loop": _loop, "used before it is there": _forward, "every call twice": _twice, "values of nothing": _nothing,
    "thousands of calls": _many_calls, "thousands of arguments": _wide, "a ladder": _ladder, "deep bodies": _deep,
    "huge numbers": _huge, "short sketches": _sketches([1.0] * 63), "sketches of nan": _sketches([float("nan")] * 64),
    "huge sketches": _sketches([3e38] * 64), "segments that are not there": _segments,
    "tensors of one place": _same_place, "no layers": lambda m: m.update(layers={}),
    "no tensors": lambda m: m.update(tensors={}), "no stats": lambda m: m.update(stats={}, sketches={}),
    "an alias of nothing": lambda m: m.update(aliases={"x": {"tensor": "y", "layer": "z", "role": "kernel"}}),
    "an alias of itself": lambda m: m.update(aliases={"x": {"tensor": "x", "layer": "x", "role": "x"}}),
    "one checksum": lambda m: [item.update(sha256="0" * 64) for item in m["tensors"].values()],
    "zero everywhere": lambda m: [layer.update(zero=["kernel", "bias", 3, None]) for layer in m["layers"].values()],
}  # fmt: skip
TOLD = {"short sketches": "has 252 bytes", "sketches of nan": "not finite"}


@pytest.mark.parametrize("name", LIES)
def test_a_graph_that_lies(name: str, bundles: Path, tmp_path: Path) -> None:
    """Whatever a manifest claims, the comparison ends soon, well or with a line."""
    manifest = load((bundles / "a.yaml").read_bytes(), "")
    LIES[name](manifest)
    mine = [tmp_path / f"{i}.yaml" for i in range(3)]
    mine[0].write_bytes(dump(manifest))
    for i, item in enumerate(manifest["tensors"].values()):
        item["sha256"] = f"{i:064}"
    mine[1].write_bytes(dump(manifest))
    manifest["model"]["framework"] = "another"  # graphs of two frameworks are looked through
    mine[2].write_bytes(dump(manifest))
    started, said = time.process_time(), []
    for other in (bundles / "a.yaml", bundles / "b.yaml", *mine):
        for one in mine:
            said += compared(one, other) + compared(other, one)
    assert time.process_time() - started < 40
    if name in TOLD:
        assert any(TOLD[name] in text for text in said), said


def test_names_given_twice(bundles: Path, tmp_path: Path) -> None:
    text = (bundles / "a.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith('  "dense_3": {"kind"'))
    (tmp_path / "twice.yaml").write_text(text.replace(line, f"{line}\n{line}"))
    for pair in ((tmp_path / "twice.yaml", bundles / "a.yaml"), (bundles / "a.yaml", tmp_path / "twice.yaml")):
        assert compared(*pair) == []


def test_the_damage_is_told_with_its_place(bundles: Path, tmp_path: Path) -> None:
    manifest = load((bundles / "a.yaml").read_bytes(), "")
    del manifest["calls"][2]["out"]
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(dump(manifest))
    text = r"bad\.yaml: its manifest is damaged: calls > 2: 'out' is a required property; export again$"
    for pair in ((bad, bundles / "a.yaml"), (bundles / "a.yaml", bad)):
        with refused(text):
            wexport.diff(*pair)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999"])
def test_numbers_that_json_does_not_have(number: str, bundles: Path, tmp_path: Path) -> None:
    """They can be compared, but not be printed as JSON."""
    text = (bundles / "a.yaml").read_text()
    (tmp_path / "bad.yaml").write_text(text.replace('"units": 64', f'"units": {number}'))
    found = wexport.diff(bundles / "a.yaml", tmp_path / "bad.yaml")
    with refused(r"bad\.yaml: its manifest is damaged: layers > dense_1 > units: "):
        report_diff.json_text(found)


# -- files that are no manifests ---------------------------------------------------------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(start: bytes, size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def _content(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (_fifo, "is not a regular file"),
    "a folder": (lambda path: path.mkdir(), r"is a folder without a manifest\.yaml; expected a bundle, a"),
    "nothing": (lambda path: None, "there is no such file or folder; expected"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "there is no such file or folder; expected"),
    "a link to itself": (lambda path: path.symlink_to(path), "one"),
    "empty": (_content(b""), "one"),
    "text": (_content(b"Dear reader,\n"), "one"),
    "binary": (_content(bytes(range(256)) * 50), "one"),
    "a manifest's first line": (_content(b"wexport: 1\n"), "lacks the section 'model'"),
    "half a manifest": (_content(b'wexport: 1\nmodel:\n  "name": "x'), "cannot be read as YAML"),
    "of the future": (_content(b"wexport: 99\n"), "of format version 99"),
    "of no version": (_content(b"wexport: new\n"), "has no"),
    "binary behind the head": (_content(b"wexport: 1\nmodel: {}\n" + b"#" * 5000 + bytes(200)), "null bytes"),
    "not utf-8": (_content(b"wexport: 1\nmodel: {}\n\xff"), "is not UTF-8"),
    "two gigabytes": (_sparse(b"wexport: 1\n" + b"#" * 5000, 2 << 30), "has 2,147,483,648 bytes; expected a manifest"),
    "two gigabytes of zeros": (_sparse(b"", 2 << 30), "one"),
    "a billion laughs": (_content(b"wexport: 1\na: &a [x, x]\nb: [*a, *a]\n"), "aliases"),
    "deep": (_content(b"wexport: 1\nlayers: " + b"[" * 100_000 + b"\n"), "nest"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["", ".yaml"])
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none(name: str, ending: str, bundles: Path, tmp_path: Path) -> None:
    make, text = FILES[name]
    place = tmp_path / f"manifest{ending}"
    make(place)
    for pair in ((place, bundles / "a.yaml"), (bundles / "a.yaml", place), (bundles / "a", place), (place, place)):
        with refused(None if text == "one" else text, seconds=10):
            wexport.diff(*pair)
    if name.startswith("two"):
        (tmp_path / "folder").mkdir()
        place.rename(tmp_path / "folder" / "manifest.yaml")
        with refused("bytes|null", seconds=10):
            wexport.diff(tmp_path / "folder", bundles / "a")


def test_a_name_that_no_file_has(bundles: Path) -> None:
    for name in ("x" * 300, "a\0b", ""):
        with refused():
            wexport.diff(name, bundles / "a.yaml")
        with refused():
            wexport.diff(bundles / "a.yaml", name)


def test_one_line_of_a_manifest_is_json(bundles: Path) -> None:
    """The fuzz writes what the program reads by line; were it read as YAML, it would test less than it says."""
    for line in (bundles / "a.yaml").read_text().splitlines():
        if line.startswith('  "'):
            json.loads("{" + line + "}")
