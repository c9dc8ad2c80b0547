"""A series of checkpoints: how far each layer and gate moved, through renames, and what came and went."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import case
from conftest import Exported
from jsonschema import Draft202012Validator
from safetensors.numpy import load_file, save_file

import wexport
from wexport import picture, report_log
from wexport.cli import main
from wexport.delta.series import Cell
from wexport.errors import BundleError, OutputError, UsageError
from wexport.manifest import dump, load
from wexport.sketch import METHOD, Sketch
from wexport.verbs import log as verb
from wexport.verbs.log import Log

MODEL = case("keras2.0.8-tf1.4/m1_stock.h5")
SCHEMA = Path(__file__).parents[2] / "schemas" / "log-1.schema.json"


class Model:
    """A manifest and its tensors, which a test trains by hand."""

    def __init__(self, path: Path) -> None:
        self.manifest = load((path / "manifest.yaml").read_bytes(), "manifest.yaml")
        self.data: dict[str, Any] = load_file(path / "model.safetensors")
        self.random = np.random.default_rng(0)

    def move(self, name: str, part: float) -> None:
        """Let a tensor move by a part of its length."""
        x = self.data[name]
        noise = self.random.standard_normal(x.shape)
        self.data[name] = (x + noise * part * np.linalg.norm(x) / np.linalg.norm(noise)).astype(x.dtype)

    def rename(self, old: str, new: str) -> None:
        text = json.dumps(self.manifest).replace(f'"{old}', f'"{new}').replace(f".from.{old}", f".from.{new}")
        self.manifest = json.loads(text)
        self.data = {
            name.replace(f"from.{old}", f"from.{new}") if not name.startswith(f"{old}.") else new + name[len(old) :]: x
            for name, x in self.data.items()
        }

    def insert(self, name: str) -> None:
        """Add a dense layer before the last one."""
        layers, calls, tensors = (self.manifest[key] for key in ("layers", "calls", "tensors"))
        layers[name] = {**layers["dense_2"], "units": 16}
        last = calls.pop()
        calls.append({**calls[-1], "layer": name, "args": {"x": "dense_2"}, "out": [{"value": name, "role": "y"}]})
        calls.append({**last, "args": {"x": name}})
        self.data[f"{name}.kernel"] = np.eye(16, dtype=np.float32)
        entry = {**tensors["dense_2.kernel"], "layer": name, "shape": [16, 16]}
        end = {key: tensors.pop(key) for key in ("dense_3.kernel", "dense_3.bias")}
        self.manifest["tensors"] = {**tensors, f"{name}.kernel": entry, **end}

    def lone(self, name: str) -> None:
        """Add a layer that nothing calls: only its bytes and its name tell what it is."""
        layers, tensors = self.manifest["layers"], self.manifest["tensors"]
        layers[name] = layers["dense_2"]
        tensors[f"{name}.kernel"] = {**tensors["dense_2.kernel"], "layer": name}
        self.data[f"{name}.kernel"] = self.random.standard_normal((4, 4)).astype(np.float32)

    def remove(self, name: str) -> None:
        """Take it away again."""
        del self.manifest["layers"][name], self.manifest["tensors"][f"{name}.kernel"], self.data[f"{name}.kernel"]
        self.manifest["calls"] = [call for call in self.manifest["calls"] if call["layer"] != name]
        self.manifest["calls"][-1]["args"] = {"x": "dense_2"}

    def widen(self) -> None:
        """Give the second dense layer more units."""
        for name, shape in (("dense_2.kernel", (64, 24)), ("dense_2.bias", (24,)), ("dense_3.kernel", (24, 1))):
            self.data[name] = self.random.standard_normal(shape).astype(np.float32)

    def save(self, path: Path, bare: bool = False) -> Path:
        """Write a bundle, or its manifest alone."""
        manifest = copy.deepcopy(self.manifest)
        for name, item in manifest["tensors"].items():
            x = np.ascontiguousarray(self.data[name])
            finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
            item |= {"shape": list(x.shape), "sha256": hashlib.sha256(x.tobytes()).hexdigest()}
            bad = int(np.count_nonzero(~np.isfinite(x)))
            stats = {"min": float(finite.min()), "max": float(finite.max()), "l2": float(np.linalg.norm(finite))}
            manifest["stats"][name] = {**stats, "nonfinite": bad}
            sketch = Sketch()
            sketch.add(x)
            manifest["sketches"][name] = {METHOD: sketch.result()}
        for section in ("stats", "sketches"):
            manifest[section] = {name: x for name, x in manifest[section].items() if name in manifest["tensors"]}
        text = dump(manifest)
        if bare:
            path.write_bytes(text)
            return path
        path.mkdir()
        (path / "manifest.yaml").write_bytes(text)
        metadata = {"manifest_sha256": hashlib.sha256(text).hexdigest(), "version": "1"}
        data = {name: np.ascontiguousarray(self.data[name]) for name in manifest["tensors"]}
        save_file(data, path / "model.safetensors", metadata)
        return path

    def gate(self, *ends: str) -> Any:
        """All tensors whose names hold these, as one vector."""
        return np.concatenate([x.reshape(-1) for name, x in sorted(self.data.items()) if all(e in name for e in ends)])


@pytest.fixture
def model(exported: Exported) -> Model:
    return Model(exported(MODEL).path)


def row(found: Log, layer: str, part: str = "") -> tuple[Cell, ...]:
    return next(row.cells for row in found.rows if (row.layer, row.part) == (layer, part))


def states(found: Log, layer: str, part: str = "") -> list[str]:
    return [cell.state for cell in row(found, layer, part)]


def relative(old: Any, new: Any) -> Any:
    old, new = (np.asarray(x, np.float64) for x in (old, new))
    return pytest.approx(float(np.linalg.norm(new - old) / np.linalg.norm(old)), rel=1e-4)


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_each_gate_of_each_step_is_measured(model: Model, tmp_path: Path) -> None:
    gates = ("", "input", "forget", "cell", "output")
    saved = [model.save(tmp_path / "0")]
    values = [{gate: model.gate("lstm_1.", gate) for gate in gates}]
    for step, moved in enumerate(({"forget": 0.2}, {"forget": 0.05, "input": 0.01}, {"output": 0.3}), 1):
        for gate, part in moved.items():
            for kind in ("kernel", "recurrent", "bias"):
                model.move(f"lstm_1.{gate}.{kind}", part)
        saved.append(model.save(tmp_path / str(step)))
        values.append({gate: model.gate("lstm_1.", gate) for gate in gates})
    found = wexport.log(saved)
    assert {r.layer for r in found.rows} == {"lstm_1"}
    assert [r.part for r in found.rows] == list(gates)
    for r in found.rows:
        for cell, old, new in zip(r.cells, values, values[1:], strict=False):
            still = bool(np.array_equal(old[r.part], new[r.part]))
            assert cell.state == ("same" if still else "moved")
            assert still or cell.relative == relative(old[r.part], new[r.part])
        # the way from the first to the last, which is not the sum of the steps
        still = bool(np.array_equal(values[0][r.part], values[-1][r.part]))
        assert still == (r.part == "cell") == (r.drift.state == "same")
        assert still or r.drift.relative == relative(values[0][r.part], values[-1][r.part])
    assert (found.layers, found.changed) == (4, 1)


def test_there_and_back_is_no_drift(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0")]
    old = model.data["dense_2.bias"]
    model.move("dense_2.bias", 0.5)
    saved.append(model.save(tmp_path / "1"))
    model.data["dense_2.bias"] = old
    saved.append(model.save(tmp_path / "2"))
    found = wexport.log(saved)
    assert states(found, "dense_2") == ["moved", "moved"]
    assert found.rows[0].drift.state == "same"


def test_the_same_checkpoint_over_again_moves_nothing(model: Model, tmp_path: Path) -> None:
    path = model.save(tmp_path / "0")
    found = wexport.log([path, path, path])
    assert found.rows == ()
    assert (found.layers, found.changed) == (4, 0)
    assert all(not step.facts and not step.unlike and not step.notes for step in found.steps)
    assert "no layer with tensors changed" in report_log.text(found, False, False)
    for r in wexport.log([path, path, path], layers="*").rows:
        assert [cell.state for cell in (*r.cells, r.drift)] == ["same"] * 3


def test_manifests_alone_give_estimates(model: Model, tmp_path: Path) -> None:
    saved, values = [model.save(tmp_path / "0.yaml", bare=True)], [model.gate("lstm_1.forget")]
    for step in (1, 2):
        model.move("lstm_1.forget.kernel", 0.5 / step)
        saved.append(model.save(tmp_path / f"{step}.yaml", bare=True))
        values.append(model.gate("lstm_1.forget"))
    found = wexport.log(saved)
    cells = row(found, "lstm_1", "forget")
    assert all(cell.change is not None and cell.change.estimated for cell in cells)
    for cell, old, new in zip(cells, values, values[1:], strict=False):
        exact = float(np.linalg.norm(new - old) / np.linalg.norm(old))
        assert cell.relative == pytest.approx(exact, rel=0.35)  # four standard errors
    assert row(found, "lstm_1", "input") == (Cell("same"),) * 2
    assert "estimated from sketches, with a relative standard error of 9%" in report_log.text(found, False, False)


def test_what_no_sketch_tells_is_unavailable(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0.yaml", bare=True)]
    model.move("dense_2.kernel", 0.5)
    path = model.save(tmp_path / "1.yaml", bare=True)
    manifest = load(path.read_bytes(), "1.yaml")
    del manifest["sketches"]["dense_2.kernel"]
    path.write_bytes(dump(manifest))
    found = wexport.log([*saved, path, path])
    assert row(found, "dense_2")[0].relative is None
    text = report_log.text(found, False, False)
    assert "dense_2       ?  ·       ?" in text
    assert "? is unavailable" in text
    assert "note: step 1: no sketch of 1 changed tensors" in text


def test_statistics_may_be_missing(model: Model, tmp_path: Path) -> None:
    saved = []
    for step in range(3):
        manifest = load(model.save(tmp_path / f"{step}.yaml", bare=True).read_bytes(), "manifest.yaml")
        manifest["stats"] = {name: {} for name in manifest["stats"]} if step else {}
        saved.append(tmp_path / f"{step}.yaml")
        saved[-1].write_bytes(dump(manifest))
        model.move("dense_2.kernel", 0.5)
    found = wexport.log(saved)
    assert states(found, "dense_2") == ["moved", "moved"]
    assert all(
        cell.change is not None and cell.change.moved and cell.relative is None for cell in row(found, "dense_2")
    )


def test_numbers_of_another_kind_are_said_to_be_some(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0.yaml", bare=True)]
    model.data["dense_2.kernel"] = (model.data["dense_2.kernel"] * 100).astype(np.int8)
    model.manifest["tensors"]["dense_2.kernel"]["dtype"] = "I8"
    saved.append(model.save(tmp_path / "1.yaml", bare=True))
    found = wexport.log(saved)
    assert states(found, "dense_2") == ["retyped"]
    assert found.steps[0].facts == {"tensor retyped": 1}
    assert "dense_2  retyped" in report_log.text(found, False, False)


def test_bundles_manifests_and_model_files_mix(model: Model, tmp_path: Path) -> None:
    model.move("dense_3.kernel", 0.1)
    moved = model.data["dense_3.kernel"]
    saved = [MODEL.path, model.save(tmp_path / "1"), model.save(tmp_path / "2.yaml", bare=True)]
    model.move("dense_3.kernel", 0.1)
    found = wexport.log([*saved, model.save(tmp_path / "3")])
    assert [side.what for side in found.checkpoints] == ["model", "bundle", "manifest", "bundle"]
    assert {r.layer for r in found.rows} == {"dense_3"}
    first, second, third = row(found, "dense_3")
    assert first.relative == pytest.approx(0.1, rel=1e-3)
    assert second.state == "same"
    assert third.change is not None
    assert third.change.estimated
    assert third.relative == relative(moved, model.data["dense_3.kernel"])  # a sketch of up to 64 elements is exact


# -- names, structure --------------------------------------------------------------------------------------------------


def test_a_layer_is_followed_through_names(model: Model, tmp_path: Path) -> None:
    """It moves in the very step in which it gets another name, with every tensor of it."""
    saved, values = [model.save(tmp_path / "0")], [model.gate("lstm_1.forget")]
    for step, (old, new) in enumerate((("lstm_1", "encoder"), ("encoder", "encoder"), ("encoder", "memory")), 1):
        model.rename(old, new)
        for name in model.data:
            if name.startswith(f"{new}.") or name == "dense_1.from.aux_input":
                model.move(name, 0.1)
        saved.append(model.save(tmp_path / str(step)))
        values.append(model.gate(f"{new}.forget"))
    found = wexport.log(saved)
    assert found.rows[0].names == ("lstm_1", "encoder", "encoder", "memory")
    assert [r.layer for r in found.rows if not r.part] == ["memory", "dense_1"]
    cells = row(found, "memory", "forget")
    assert [cell.relative for cell in cells] == [relative(a, b) for a, b in pairwise(values)]
    forget = next(r for r in found.rows if r.part == "forget")
    assert forget.drift.relative == relative(values[0], values[-1])
    assert [r.part for r in found.rows if r.layer == "dense_1"] == ["", "from.memory", "from.aux_input"]
    assert states(found, "dense_1", "from.memory") == ["same"] * 3
    assert "renamed: encoder since step 1, lstm_1 before; memory since step 3, encoder before" in report_log.text(
        found, False, False
    )
    by_old_name = wexport.log(saved, layers=["lstm*"])
    assert {r.layer for r in by_old_name.rows} == {"memory"}


def test_the_way_of_a_name_is_not_that_of_a_layer(model: Model, tmp_path: Path) -> None:
    """The first and the last checkpoint are compared by what the steps between them told."""
    model.lone("north")
    model.lone("south")
    saved, values = [model.save(tmp_path / "0")], [model.data["north.kernel"], model.data["south.kernel"]]
    model.rename("north", "east")
    saved.append(model.save(tmp_path / "1"))
    model.move("east.kernel", 0.1)
    model.move("south.kernel", 0.2)
    saved.append(model.save(tmp_path / "2"))
    model.rename("south", "north")
    saved.append(model.save(tmp_path / "3"))
    rows = {r.layer: r for r in wexport.log(saved).rows}
    assert [rows[name].names[0] for name in ("east", "north")] == ["north", "south"]
    assert rows["east"].drift.relative == relative(values[0], model.data["east.kernel"])
    assert rows["north"].drift.relative == relative(values[1], model.data["north.kernel"])


def test_by_names_alone_another_name_is_another_layer(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0")]
    model.rename("lstm_1", "encoder")
    saved.append(model.save(tmp_path / "1"))
    found = wexport.log(saved, match="name")
    assert states(found, "lstm_1") == ["gone"]
    assert states(found, "encoder") == ["new"]
    assert wexport.log(saved).rows == ()


def test_a_layer_comes_and_goes_and_comes_back(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0")]
    for step, way in enumerate((model.insert, None, model.remove, model.insert), 1):
        if way is None:
            model.move("extra.kernel", 0.25)
        else:
            way("extra")
        saved.append(model.save(tmp_path / str(step)))
    found = wexport.log(saved[:4])
    assert states(found, "extra") == ["new", "moved", "gone"]
    assert row(found, "extra")[1].relative == pytest.approx(0.25, rel=1e-4)
    assert found.rows[0].names == (None, "extra", "extra", None)
    assert found.rows[0].drift.state == "absent"
    assert [report_log.counted(step) for step in found.steps] == ["1 layer added", "", "1 layer removed"]
    assert f"step 1: 1 layer added; see wexport diff {saved[0]} {saved[1]}" in report_log.text(found, False, False)
    back = wexport.log(saved)
    assert states(back, "extra") == ["new", "moved", "gone", "new"]
    assert len(back.rows) == 1
    assert back.rows[0].drift.state == "new"
    assert [r.layer for r in wexport.log(saved, layers="*").rows if not r.part] == [
        "lstm_1", "dense_1", "dense_2", "extra", "dense_3",
    ]  # fmt: skip


def test_another_shape_is_said_to_be_one(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0")]
    model.widen()
    saved.append(model.save(tmp_path / "1"))
    model.move("dense_2.kernel", 0.1)
    saved.append(model.save(tmp_path / "2"))
    found = wexport.log(saved)
    assert states(found, "dense_2") == ["reshaped", "moved"]
    assert states(found, "dense_3") == ["reshaped", "same"]
    assert [r.drift.state for r in found.rows] == ["reshaped"] * 2
    assert found.steps[0].facts == {"tensor reshaped": 3}


def test_numbers_that_became_nan_are_marked(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0")]
    model.data["dense_2.kernel"][0, 0] = np.nan
    saved.append(model.save(tmp_path / "1"))
    found = wexport.log([*saved, saved[-1]])
    assert states(found, "dense_2") == ["moved", "same"]
    text = report_log.text(found, False, False)
    assert "dense_2    0 %!  ·    0 %!" in text
    assert "! NaN or infinite numbers came or went" in text


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_one_checkpoint_is_none_to_compare(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model.save(tmp_path / "0")
    for paths in ([], [path], str(path)):
        with pytest.raises(UsageError, match="log takes two checkpoints or more"):
            wexport.log(paths)
    assert main(["log", str(path)]) == 2
    assert "log takes two checkpoints or more" in capsys.readouterr().err


def test_words_that_mean_nothing_are_refused(model: Model, tmp_path: Path) -> None:
    path = model.save(tmp_path / "0")
    with pytest.raises(UsageError, match=r"--layers 'dense_9' means no layer .* did you mean dense_"):
        wexport.log([path, path], layers="dense_9")
    with pytest.raises(UsageError, match="match='bytes'"):
        wexport.log([path, path], match="bytes")
    with pytest.raises(UsageError, match="there is no such file"):
        wexport.log([path, tmp_path / "none"])


def test_data_that_do_not_fit_are_trouble(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0"), model.save(tmp_path / "1")]
    data = bytearray((saved[1] / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (saved[1] / "model.safetensors").write_bytes(data)
    assert wexport.log(saved).rows == ()  # equal checksums: nothing is read
    with pytest.raises(BundleError, match="do not have the checksum"):
        wexport.log(saved, verify=True)


def test_three_are_open_at_most_and_each_once(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, names, still, most = verb.open_side, [], set(), []

    def opened(path: Path, *args: Any, **options: Any) -> Any:
        side = real(path, *args, **options)
        close, number = side.close, len(names)
        names.append(path)
        still.add(number)
        most.append(len(still))

        def shut() -> None:
            still.discard(number)
            close()

        side.close = shut
        return side

    monkeypatch.setattr(verb, "open_side", opened)
    saved = []
    for step in range(6):
        model.move("dense_2.kernel", 0.1)
        saved.append(model.save(tmp_path / str(step)))
    wexport.log(saved)
    assert names == saved
    assert max(most) == 3
    assert not still
    with pytest.raises(UsageError):
        wexport.log([*saved[:3], tmp_path / "none"])
    assert not still


# -- what is shown -----------------------------------------------------------------------------------------------------


def trained(model: Model, folder: Path, steps: int, bare: bool) -> list[str]:
    """A series with most of what can happen, saved; its paths within the folder."""
    model.save(folder / "e0", bare)
    for step in range(1, steps):
        model.move("lstm_1.forget.kernel" if step < 3 else "encoder.forget.kernel", 0.2 / step**2)
        model.move("dense_1.from.aux_input", 0.001)
        if step == 2:
            model.rename("lstm_1", "encoder")
            model.insert("extra")
        if step == 3:
            model.move("dense_2.kernel", 0.5)
            model.remove("extra")
        model.save(folder / f"e{step}", bare)
    return [f"e{step}" for step in range(steps)]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["log", *words]) == 0
    return capsys.readouterr().out


def test_text_of_bundles(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = trained(model, tmp_path, 5, False)
    monkeypatch.chdir(tmp_path)
    assert shown(capsys, *names) == BUNDLES


def test_text_of_many_manifests(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = trained(model, tmp_path, 50, True)
    monkeypatch.chdir(tmp_path)
    assert shown(capsys, *names) == MANIFESTS
    monkeypatch.setattr("wexport.cli._is_plain", lambda: True)
    assert shown(capsys, *names[:4], "--layers", "dense_1", names[4]) == PLAIN


BUNDLES = """\
5 checkpoints, 4 steps: 4 of 5 layers with tensors changed
  start   e0
  step 1  e1
  step 2  e2
  step 3  e3
  step 4  e4

                     step 1          2          3          4  course    in all
encoder              2.16 %    0.548 %    0.244 %    0.137 %  ▆▄▄▃      2.26 %
  input                   ·          ·          ·          ·  ····           ·
  forget             2.78 %    0.704 %    0.313 %    0.176 %  ▆▅▄▃       2.9 %
  cell                    ·          ·          ·          ·  ····           ·
  output                  ·          ·          ·          ·  ····           ·
dense_1           0.00917 %  0.00917 %  0.00917 %  0.00917 %  ▁▁▁▁    0.0169 %
  from.encoder            ·          ·          ·          ·  ····           ·
  from.aux_input      0.1 %      0.1 %      0.1 %      0.1 %  ▃▃▃▃     0.184 %
dense_2                   ·          ·       50 %          ·  ··█·        50 %
extra                              new       gone              +x

renamed: encoder since step 2, lstm_1 before
step 2: 1 layer renamed, 1 layer added; see wexport diff e1 e2
step 3: 1 layer removed; see wexport diff e2 e3
course: a bar for each step, by powers of ten from 0.00917 % to 50 %
"""
MANIFESTS = """\
50 checkpoints, 49 steps: 4 of 5 layers with tensors changed
  start    e0
  step 1   e1
  step 2   e2
  …
  step 47  e47
  step 48  e48
  step 49  e49

                      step 1           2  …           47           48           49  course                        in all
encoder              ~2.24 %    ~0.573 %  …  ~0.000941 %  ~0.000934 %  ~0.000758 %  ▆▅▄▄▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁    ~2.38 %
  input                    ·           ·  …            ·            ·            ·  ·························          ·
  forget             ~2.88 %    ~0.737 %  …   ~0.00121 %    ~0.0012 %  ~0.000975 %  ▇▅▄▄▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁    ~3.07 %
  cell                     ·           ·  …            ·            ·            ·  ·························          ·
  output                   ·           ·  …            ·            ·            ·  ·························          ·
dense_1           ~0.00917 %  ~0.00917 %  …   ~0.00916 %   ~0.00916 %   ~0.00916 %  ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂  ~0.0666 %
  from.encoder             ·           ·  …            ·            ·            ·  ·························          ·
  from.aux_input      ~0.1 %      ~0.1 %  …       ~0.1 %       ~0.1 %       ~0.1 %  ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄   ~0.726 %
dense_2                    ·           ·  …            ·            ·            ·  ·█·······················    ~43.4 %
extra                                new  …                                         +x

renamed: encoder since step 2, lstm_1 before
step 2: 1 layer renamed, 1 layer added; see wexport diff e1 e2
step 3: 1 layer removed; see wexport diff e2 e3
course: a bar for the largest of 2 steps, by powers of ten from 0.000758 % to 43.4 %
~ where there are no data: changes are estimated from sketches, with a relative standard error of 9%
"""
PLAIN = """\
5 checkpoints, 4 steps: 4 of 5 layers with tensors changed
  start   e0
  step 1  e1
  step 2  e2
  step 3  e3
  step 4  e4

                      step 1           2           3           4     in all
dense_1           ~0.00917 %  ~0.00917 %  ~0.00917 %  ~0.00917 %  ~0.0169 %
  from.encoder             -           -           -           -          -
  from.aux_input      ~0.1 %      ~0.1 %      ~0.1 %      ~0.1 %   ~0.184 %

step 2: 1 layer renamed, 1 layer added; see wexport diff e1 e2
step 3: 1 layer removed; see wexport diff e2 e3
~ where there are no data: changes are estimated from sketches, with a relative standard error of 9%
"""


def test_large_tables_keep_to_what_moved_most(model: Model, tmp_path: Path) -> None:
    """In the model's order, and with all rows on request."""
    for i in range(60):
        model.lone(f"more_{i}")
    saved = [model.save(tmp_path / "0.yaml", bare=True)]
    for i in range(60):
        model.move(f"more_{i}.kernel", 0.01 if i % 6 else 0.1)
    model.move("lstm_1.forget.kernel", 0.5)
    found = wexport.log([*saved, model.save(tmp_path / "1.yaml", bare=True)])
    lines = report_log.text(found, False, False).splitlines()
    table = [line.split()[0] for line in lines if line.startswith(("more_", "lstm_1", "  forget"))]
    assert table[:2] == ["lstm_1", "forget"]
    assert len(table) == 21
    assert {f"more_{i}" for i in range(0, 60, 6)} <= set(table)
    assert table[2:] == sorted(table[2:], key=lambda name: int(name[5:]))
    assert "... 41 more layers moved, too; --all shows them, --layers GLOB chooses" in lines
    everything = report_log.text(found, True, False)
    assert all(f"more_{i} " in everything for i in range(60))
    assert "more layers" not in everything


def closed(schema: Any) -> Any:
    """The schema, with nothing allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(x) for key, x in schema.items()}
    return {"additionalProperties": False, **found} if "required" in schema else found


def test_json_is_as_its_schema_says(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = trained(model, tmp_path, 4, False)
    monkeypatch.chdir(tmp_path)
    found = json.loads(shown(capsys, "--json", *names))
    check = Draft202012Validator(closed(json.loads(SCHEMA.read_text())))
    check.check_schema(check.schema)
    check.validate(found)
    assert [side["path"] for side in found["checkpoints"]] == names
    assert [step["facts"] for step in found["steps"]] == [
        {}, {"layer renamed": 1, "layer added": 1}, {"layer removed": 1},
    ]  # fmt: skip
    rows = {(r["layer"], r["part"]): r for r in found["rows"]}
    assert [cell["state"] for cell in rows["extra", ""]["steps"]] == ["absent", "new", "gone"]
    forget = rows["encoder", "forget"]
    assert forget["names"] == ["lstm_1", "lstm_1", "encoder", "encoder"]
    old, new = (load_file(tmp_path / e / "model.safetensors") for e in ("e0", "e3"))
    kernels = [data[f"{name}.forget.kernel"] for data, name in ((old, "lstm_1"), (new, "encoder"))]
    assert forget["in_all"]["change"]["max_abs"] == pytest.approx(float(np.abs(kernels[1] - kernels[0]).max()))


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_figures_are_written(
    ending: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.rename("dense_2", "_$a_{$")  # what matplotlib would leave out, or read as mathematics
    model.manifest["calls"][-1]["args"] = {"x": "_$a_{$"}
    saved = [str(model.save(tmp_path / "0"))]
    for step in (1, 2):
        model.move("_$a_{$.kernel", 0.1)
        model.move("lstm_1.forget.kernel", 0.1)
        saved.append(str(model.save(tmp_path / str(step))))
    path = tmp_path / f"figure.{ending}"
    shown(capsys, *saved, "--plot", str(path))
    head = path.read_bytes()
    assert head.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
    if ending == "svg":
        text = head.decode()
        for word in ("step", "relative change of each layer", "lstm_1", "forget", " _$a_{$"):
            assert f"<!-- {word} -->" in text
        wexport.log(saved, plot=path)
        again = path.read_text()
        assert len(again) == len(text)


def test_figures_of_nothing_and_of_much(model: Model, tmp_path: Path) -> None:
    path = model.save(tmp_path / "0")
    wexport.log([path, path], plot=tmp_path / "nothing.png")
    rows = [(f"layer {i}", part, [i / 7, None, 0.0]) for i in range(150) for part in ("", "gate")]
    picture.draw_series(rows, 3, "relative change", str(tmp_path / "much.svg"))
    text = (tmp_path / "much.svg").read_text()
    assert text.count("<!-- ") < 200
    assert "<!-- layer 149 -->" in text
    assert "<!-- layer 2 -->" not in text


def test_figures_that_cannot_be_are_refused_first(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model.save(tmp_path / "0")
    with pytest.raises(OutputError, match="cannot be written"):
        wexport.log([path, path], plot=tmp_path / "none" / "a.png")
    monkeypatch.setattr(verb, "open_side", None)  # nothing is read before
    with pytest.raises(UsageError, match=r"ends in 'txt'; expected \.png, \.svg or \.pdf"):
        wexport.log([path, path], plot=tmp_path / "a.txt")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"--plot needs matplotlib; install it with: pip install 'wexport\[plot\]'"):
        wexport.log([path, path], plot=tmp_path / "a.png")


def test_manifests_are_compared_without_numpy(model: Model, tmp_path: Path) -> None:
    saved = [model.save(tmp_path / "0.yaml", bare=True)]
    model.move("lstm_1.forget.kernel", 0.1)
    saved.append(model.save(tmp_path / "1.yaml", bare=True))
    script = "import sys; from wexport.cli import main; main(sys.argv[1:]); print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "log", *map(str, saved)], check=True, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert "  forget" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
