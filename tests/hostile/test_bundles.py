"""Bundles whose parts lie about each other."""

from __future__ import annotations

import copy
import functools
import json
import operator
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from broken import one_line, refused
from cases import case

import wexport
from wexport.manifest import dump, load

MODEL = case("keras2.2.4-tf1.13/m2_stateful.weights_only.h5")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    wexport.export(MODEL.path, tmp_path / "out", architecture=MODEL.architecture)
    return tmp_path / "out"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the safetensors header."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def set_first(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        next(item for name, item in header.items() if name != "__metadata__")[key] = value

    return change


def shift(header: dict[str, Any]) -> None:
    for name, item in header.items():
        if name != "__metadata__":
            item["data_offsets"] = [n + 4 for n in item["data_offsets"]]


def overlap(header: dict[str, Any]) -> None:
    names = [n for n in header if n != "__metadata__"]
    header[names[1]] = header[names[0]]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another type": set_first("dtype", "F64"),
    "an unknown type": set_first("dtype", "X9"),
    "another shape": set_first("shape", [1]),
    "a huge shape": set_first("shape", [1 << 40, 1 << 40]),
    "a negative shape": set_first("shape", [-1, -2]),
    "a shape of text": set_first("shape", ["a"]),
    "no shape": set_first("shape", None),
    "offsets beyond the end": set_first("data_offsets", [0, 1 << 40]),
    "negative offsets": set_first("data_offsets", [-8, 0]),
    "one offset": set_first("data_offsets", [0]),
    "offsets of text": set_first("data_offsets", "0,8"),
    "true offsets": set_first("data_offsets", [False, True]),
    "a hole": shift,
    "an overlap": overlap,
    "another name": lambda h: h.update(other=h.pop(next(n for n in h if n != "__metadata__"))),
    "a tensor less": lambda h: h.pop(next(n for n in h if n != "__metadata__")),
    "no mapping": lambda h: h.update(x=3),
    "metadata of text": lambda h: h.update(__metadata__="x"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_headers(lie: Callable[[dict[str, Any]], Any], bundle: Path) -> None:
    rewrite(bundle, lie)
    with refused("model.safetensors"):
        wexport.open(bundle)


@pytest.mark.parametrize("length", [0, 1, 7, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 1])
def test_header_lengths(length: int, bundle: Path) -> None:
    path = bundle / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + data[8:])
    with refused("model.safetensors"):
        wexport.open(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\0" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x04" + b"\0" * 7 + b"null"]
)
def test_no_data_file(content: bytes, bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(content)
    with refused("model.safetensors"):
        wexport.open(bundle)


def test_a_deep_header(bundle: Path) -> None:
    text = b'{"a":' + b"[" * 100_000
    (bundle / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with refused("its header cannot be read"):
        wexport.open(bundle)


def test_data_that_are_cut(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) // 2, 100, 9, 8, 3):
        path.write_bytes(data[:length])
        with refused("model.safetensors"):
            wexport.open(bundle)
    path.write_bytes(data + b"\0")
    with refused("the file holds"):
        wexport.open(bundle)


def test_parts_that_are_missing(bundle: Path) -> None:
    shutil.copytree(bundle, bundle.parent / "copy")
    (bundle / "model.safetensors").unlink()
    with refused("the bundle is incomplete"):
        wexport.open(bundle)
    (bundle.parent / "copy" / "manifest.yaml").unlink()
    with refused("no manifest.yaml in it"):
        wexport.open(bundle.parent / "copy")
    with refused("is no bundle"):
        wexport.open(bundle / "nowhere")
    with refused("is no bundle"):
        wexport.open(MODEL.path)


INDICES = [
    b"",
    b"[]",
    b"{}",
    b'{"weight_map": []}',
    b'{"weight_map": {}}',
    b'{"weight_map": {"a": 3}}',
    b'{"weight_map": {"a": ".."}}',
    b'{"weight_map": {"a": "/etc/passwd"}}',
    b'{"weight_map": {"a": "../model.safetensors"}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("index", INDICES, ids=lambda i: i[:40].decode())
def test_an_index_that_lies(index: bytes, bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    (bundle / "model.safetensors.index.json").write_bytes(index)
    with refused():
        wexport.open(bundle)


MANIFESTS = {
    "empty": lambda t: b"",
    "binary": lambda t: b"\x00\xff\xfe",
    "half": lambda t: t[: len(t) // 2],
    "a new version": lambda t: t.replace(b"wexport: 1", b"wexport: 2"),
    "no version": lambda t: t.replace(b"wexport: 1\n", b""),
    "tensors of numbers": lambda t: t[: t.index(b"tensors:")] + b'tensors:\n  "a": 3\n',
    "tensors in a list": lambda t: t[: t.index(b"tensors:")] + b"tensors: [1]\n",
    "no tensors": lambda t: t[: t.index(b"tensors:")],
    "another shape": lambda t: t.replace(b'"shape": [2], "axes"', b'"shape": [3], "axes"'),
    "deep": lambda t: t + b'x:\n  "a": ' + b"[" * 100_000 + b"\n",
    "code": lambda t: b"!!python/object/apply:os.system ['true']\n" + t,
    "null": lambda t: b"null",
}


@pytest.mark.parametrize("lie", MANIFESTS.values(), ids=MANIFESTS)
def test_manifests(lie: Callable[[bytes], bytes], bundle: Path) -> None:
    path = bundle / "manifest.yaml"
    text = path.read_bytes()
    assert lie(text) != text
    path.write_bytes(lie(text))
    with refused():
        wexport.open(bundle)


ALIASES = {
    "of nothing": '{"tensor": "nothing"}',
    "of itself": '{"tensor": "alias"}',
    "no mapping": "3",
    "without a tensor": "{}",
    "of a list": '{"tensor": ["a"]}',
}


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_aliases_that_lead_nowhere(alias: str, bundle: Path) -> None:
    path = bundle / "manifest.yaml"
    path.write_text(path.read_text().replace("aliases: {}", f'aliases:\n  "alias": {alias}'))
    with refused():
        wexport.open(bundle)["alias"]


def test_a_name_that_is_none(bundle: Path) -> None:
    with wexport.open(bundle) as opened:
        assert "gru_1.nothing" not in opened
        with pytest.raises(KeyError):
            opened["gru_1.nothing"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a manifest, as the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


WRONG = (None, -1, 10**15, 1.5, "x", [], [[1]], {"a": 1})


def mutated(manifest: dict[str, Any], random: Random) -> dict[str, Any]:
    """A manifest with one place deleted, replaced, or overwritten with what stands elsewhere."""
    made: dict[str, Any] = copy.deepcopy(manifest)
    sections = {key: made[key] for key in ("inputs", "outputs", "layers", "calls", "weights", "tensors")}
    every = list(places(sections))
    *path, last = random.choice([place for place in every if len(place) > 1])
    parent = functools.reduce(operator.getitem, path, sections)
    what = random.randrange(3)
    if what == 0:
        del parent[last]
    elif what == 1:
        parent[last] = random.choice(WRONG)
    else:
        parent[last] = copy.deepcopy(functools.reduce(operator.getitem, random.choice(every), sections))
    return made


VERBS: dict[str, Callable[[Path], Any]] = {
    "verify": lambda out: wexport.verify(out),
    "verify_model": lambda out: wexport.verify(out, MODEL.path, architecture=MODEL.architecture),
    "arrays": lambda out: wexport.restore(out, out.with_name("w.npz"), force=True),
    "restore": lambda out: wexport.restore(
        out, out.with_name("m.h5"), into=MODEL.path, architecture=MODEL.architecture, force=True
    ),
    "update": lambda out: wexport.update(out),
    "run": lambda out: wexport.run(out, {"lstm_1_input": np.ones((2, 4, 2))}),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_manifest_with_a_wrong_place(verb: str, bundle: Path) -> None:
    """Every verb ends well or with one line; no manifest makes it fall over."""
    random, said = Random(verb), []
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    manifest = load(before["manifest.yaml"], "")
    for _ in range(150):
        (bundle / "manifest.yaml").write_bytes(dump(mutated(manifest, random)))
        try:
            VERBS[verb](bundle)
        except wexport.WexportError as error:
            said.append(str(error))
        for name, data in before.items():
            (bundle / name).write_bytes(data)
    assert all(map(one_line, said))
    assert len(said) > (0 if verb.startswith("verify") else 30)
