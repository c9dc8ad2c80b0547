"""What the hostile tests have in common: a small model file to break, and what a refusal looks like."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import wexport


def one_line(text: str) -> bool:
    """Whether a text is one line that does nothing to a terminal: no controls, separators or changes of direction."""
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


@contextmanager
def refused(match: str | None = None, seconds: float = 5.0) -> Iterator[None]:
    """The block must end with one of the program's own errors: one printable line, soon."""
    started = time.process_time()
    with pytest.raises(wexport.WexportError, match=match) as caught:
        yield
    assert time.process_time() - started < seconds
    text = str(caught.value)
    assert one_line(text), ascii(text)
    assert len(text) < 2000


def refuse(path: Path, match: str | None = None, architecture: Path | None = None, seconds: float = 5.0) -> None:
    """Planning and exporting a file must be refused, and nothing may be left where the output would be."""
    place = path.parent / "place"
    place.mkdir(exist_ok=True)
    with refused(match, seconds):
        wexport.export(path, place / "out", architecture=architecture)
    assert list(place.iterdir()) == []


def dense(name: str, units: int = 2) -> dict[str, Any]:
    """The config of a Dense layer."""
    return {"class_name": "Dense", "config": {"name": name, "units": units, "activation": "linear", "use_bias": True}}


def sequential(names: Sequence[str]) -> dict[str, Any]:
    """The config of Dense layers in a row, for three features."""
    layers = [dense(name) for name in names]
    layers[0]["config"]["batch_input_shape"] = [None, 3]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}


@contextmanager
def model_file(path: Path, names: Sequence[str] = ("first", "second"), config: Any = None) -> Iterator[h5py.File]:
    """A whole model as Keras 2 writes it, open for more."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config or sequential(names))
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [n.encode() for n in names]
        weights.attrs["keras_version"] = "2.2.4"
        weights.attrs["backend"] = "tensorflow"
        for i, name in enumerate(names):
            group = weights.require_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"] = np.arange((3 if i == 0 else 2) * 2, dtype="f4").reshape(-1, 2)
            group[f"{name}/bias:0"] = np.ones(2, "f4")
        yield file
