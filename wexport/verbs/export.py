"""The first verb: a model file becomes a bundle."""

from __future__ import annotations

import os
from pathlib import Path

from wexport.describe import describe
from wexport.output import folder
from wexport.planning import Plan, Split, make_plan
from wexport.readers import open_model
from wexport.write import Item, Progress, write_bundle

SHARD_SIZE = 5_000_000_000  # as the Hugging Face libraries cut


def plan(
    model: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    split: Split = "all",
    strict: bool = False,
) -> Plan:
    """What an export of a model file would write: names, shapes and layouts; no weights are read.

    Args:
        model: the file (or folder, or map of shards).
        architecture: what `model.to_json()` or `to_yaml()` gave, for a file that holds weights only.
        split: `all`, `gates` (gates, directions and parts, but not sources) or `none` (a tensor an array).
        strict: make unknown layers and doubtful names errors instead of warnings.

    Raises:
        SourceError: the file cannot be read.
        PlanError: something in the model cannot be named; every reason is given.
    """
    opened = open_model(Path(model), Path(architecture) if architecture is not None else None)
    try:
        return make_plan(opened, split, strict)
    except BaseException:
        opened.close()
        raise


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    split: Split = "all",
    strict: bool = False,
    force: bool = False,
    max_shard_size: int = SHARD_SIZE,
    progress: Progress = lambda size: None,
) -> Plan:
    """Export a model file to a bundle: a folder with `model.safetensors` and `manifest.yaml`.

    The folder appears whole or not at all. Gives the plan that was carried out, its files closed.

    Args:
        model, architecture, split, strict: as for `plan`.
        out: the folder to make.
        force: replace what is at `out`, whole.
        max_shard_size: bytes above which the data become several files.
        progress: called with the number of bytes written, from several threads.

    Raises:
        SourceError, PlanError: as for `plan`.
        OutputError: `out` exists already, or cannot be written.
    """
    planned = plan(model, architecture=architecture, split=split, strict=strict)
    try:
        sources = [file.path for file in planned.model.files]
        with folder(Path(out), force, sources) as place:
            items = [Item(t.name, t.dtype, t.shape, t.array, t.view) for t in planned.tensors]
            write_bundle(place, describe(planned), items, max_shard_size, progress)
        return planned
    finally:
        planned.close()
