"""Writes `fates.json`: which of a PyTorch model's own arrays its ONNX files still hold.

    python make_fates.py FOLDER

FOLDER has, for every model file, what was noted when it was made: `NAME.json` with `state_fate`, where each array of
the `state_dict` went, found by comparing numbers. Kept here: the names of those that were found ("stored") and of
those that were not ("lost"), for the files that have a `MODEL.torch.npz` beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def fate(model: Path, noted: dict[str, Any]) -> dict[str, Any] | None:
    """What became of a model's arrays; None for one that is not compared."""
    stem, _, rest = model.stem.partition(".")
    states = [model.with_name(f"{stem}.{rest.rpartition('_')[2]}.torch.npz"), model.with_name(f"{stem}.torch.npz")]
    state = next((path for path in states if path.exists()), None)
    if state is None or not noted.get("state_fate"):
        return None
    with np.load(state) as arrays:
        names = arrays.files
    found = {name: not places[0].startswith("NOT FOUND") for name, places in noted["state_fate"].items()}
    assert sorted(found) == sorted(names), model
    entry: dict[str, Any] = {"state": state.name}
    entry["stored"] = [name for name in names if found[name]]
    entry["lost"] = [name for name in names if not found[name]]
    return entry


def main() -> None:
    """Write the file."""
    folder = Path(sys.argv[1])
    lines = []
    for model in sorted(HERE.glob("*/*.onnx")):
        name = str(model.relative_to(HERE))
        noted = (folder / name).with_suffix(".json")
        entry = fate(model, json.loads(noted.read_text(encoding="utf-8")))
        if entry is not None:
            lines.append(f"  {json.dumps(name)}: {json.dumps(entry)}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (HERE / "fates.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
