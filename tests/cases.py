"""The model files that the tests read, and the bundles that come of them.

`data/README.md` says what the files are and how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"
_ENDINGS = (".weights_only.h5", ".weights.h5", ".weights.json", ".keras", ".h5")
_NEEDS_ARCHITECTURE = (".weights_only.h5", ".weights.h5", ".weights.json")


@dataclass(frozen=True, slots=True)
class Case:
    """A model file; `golden` holds its weights (`w000` ...), inputs (`in_0` ...) and outputs (`out_0` ...)."""

    path: Path
    architecture: Path | None
    golden: Path

    @property
    def id(self) -> str:
        return f"{self.version}/{self.path.name}"

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def stem(self) -> str:
        return self.golden.name.removesuffix(".golden.npz")

    @property
    def ending(self) -> str:
        return self.path.name.removeprefix(self.stem)

    @property
    def weights(self) -> list[Any]:
        """`get_weights()`, in its order."""
        with np.load(self.golden, allow_pickle=False) as found:
            return [found[k] for k in sorted(k for k in found.files if k[0] == "w" and k[1:].isdigit())]

    def arrays(self, prefix: str) -> list[Any]:
        """The inputs (`in`) or outputs (`out`), in the model's order."""
        with np.load(self.golden, allow_pickle=False) as found:
            keys = [k for k in found.files if k.startswith(f"{prefix}_")]
            return [found[k] for k in sorted(keys, key=lambda k: int(k.rpartition("_")[2]))]


def cases() -> list[Case]:
    """Every model file, by version and name."""
    return sorted(_found(), key=lambda case: case.id)


def case(name: str) -> Case:
    """The case with this id."""
    return next(c for c in cases() if c.id == name)


def _found() -> Iterator[Case]:
    for golden in DATA.glob("*/*.golden.npz"):
        stem = golden.name.removesuffix(".golden.npz")
        architecture = next(iter(sorted(golden.parent.glob(f"{stem}.arch.*"))), None)
        for ending in _ENDINGS:
            path = golden.with_name(stem + ending)
            if path.exists():
                yield Case(path, architecture if ending in _NEEDS_ARCHITECTURE else None, golden)


def onnx_cases(group: str = "*") -> list[Case]:
    """Every ONNX file; beside some is a `.golden.npz` with inputs (`in_NAME`) and outputs (`out_NAME`)."""
    found = sorted((DATA / "onnx").glob(f"{group}/**/*.onnx"))
    return [Case(path, None, path.with_suffix(".golden.npz")) for path in found]
