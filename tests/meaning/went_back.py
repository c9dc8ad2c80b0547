"""A random model's bundle goes back into its file: unedited it is the source, edited all of it is what was written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import wexport
from wexport import dtypes


def same_file(bundle: Path, source: Path, architecture: Path | None = None) -> None:
    """Proved against its source, and restored unedited, bit for bit."""
    found = wexport.verify(bundle, source, architecture=architecture)
    assert found.differences == ()
    new = bundle.parent / "same" / source.name
    assert wexport.restore(bundle, new, into=source, architecture=architecture, force=True).edited == {}
    assert new.read_bytes() == source.read_bytes()


@contextmanager
def edited_file(bundle: Path, source: Path) -> Iterator[tuple[wexport.Bundle, Path]]:
    """The bundle with three quarters of each float, and the file that it was restored into."""
    place = Path(shutil.copytree(bundle, bundle.parent / "edited"))
    with wexport.open(place) as opened:
        for name, item in opened.manifest["tensors"].items():
            dtype = dtypes.numpy_dtype(dtypes.name_of(item["dtype"]) or "")
            if item["layer"] is None or item["dtype"] not in {"F16", "F32", "F64"}:
                continue
            data = (opened[name] * np.asarray(0.75, dtype)).astype(dtype)
            with opened.ranges[name].file.path.open("r+b") as file:
                file.seek(opened.ranges[name].offset)
                file.write(data.tobytes())
        new = bundle.parent / "new" / source.name
        wexport.restore(place, new, into=source)
        yield opened, new
