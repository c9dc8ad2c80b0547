"""The first verb: a model file becomes a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wexport.bundle import GOLDEN, Bundle
from wexport.describe import describe
from wexport.digest import planned as items_of
from wexport.errors import UsageError
from wexport.output import folder
from wexport.planning import Plan, Split, make_plan
from wexport.readers import open_model
from wexport.write import Progress, write_bundle

if TYPE_CHECKING:
    from wexport.samples import Wish

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
    golden: bool | int = False,
    golden_shapes: Mapping[str, int | Sequence[int]] | None = None,
    golden_inputs: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    progress: Progress = lambda size: None,
) -> Plan:
    """Export a model file to a bundle: a folder with `model.safetensors` and `manifest.yaml`.

    The folder appears whole or not at all. Gives the plan that was carried out, its files closed.

    Args:
        model, architecture, split, strict: as for `plan`.
        out: the folder to make.
        force: replace what is at `out`, whole.
        max_shard_size: bytes above which the data become several files.
        golden: write `golden.safetensors`, too: random inputs of so many examples (`True`: two) and every value that
            the bundle computes from them. If it cannot be computed, nothing is written at all.
        golden_shapes: whole shapes of inputs, or lengths of named free dimensions; means `golden`.
        golden_inputs: arrays by the names of inputs, or a `.npz` file, instead of random ones; means `golden`.
        progress: called with the number of bytes written, from several threads.

    Raises:
        SourceError, PlanError: as for `plan`.
        UsageError: there can be no golden values, or what was asked for them does not fit the model.
        OutputError: `out` exists already, or cannot be written.
    """
    wish = _wish(golden, golden_shapes, golden_inputs)
    planned = plan(model, architecture=architecture, split=split, strict=strict)
    try:
        manifest = describe(planned)
        warnings: tuple[str, ...] = ()
        if wish is not None:
            from wexport.golden import write  # what computes takes long to load
            from wexport.samples import prepare

            inputs, warnings = prepare(manifest, wish)
        read = [model, architecture, None if isinstance(golden_inputs, Mapping) else golden_inputs]
        sources = [*(file.path for file in planned.model.files), *(Path(p) for p in read if p is not None)]
        with folder(Path(out), force, sources) as place:
            write_bundle(place, manifest, items_of(planned), max_shard_size, progress)
            if wish is not None:
                with Bundle(place) as bundle:
                    warnings += write(bundle, inputs)
        return replace(planned, warnings=(*planned.warnings, *warnings))
    finally:
        planned.close()


def _wish(
    golden: bool | int,
    shapes: Mapping[str, int | Sequence[int]] | None,
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None,
) -> Wish | None:
    """What golden values are asked for; None if none are."""
    if golden is False and not shapes and inputs is None:
        return None
    from wexport.samples import Wish

    if not isinstance(golden, bool) and golden < 1:
        raise UsageError(f"golden: {golden} is no number of examples; expected one or more")
    whole = {name: (s,) if isinstance(s, int) else tuple(s) for name, s in (shapes or {}).items()}
    given = inputs if inputs is None or isinstance(inputs, Mapping) else Path(inputs)
    return Wish(None if isinstance(golden, bool) else golden, whole, given)


def golden_summary(out: str | os.PathLike[str]) -> dict[str, int] | None:
    """How many inputs, values and outputs the golden file of a bundle holds, and its bytes; None if there is none."""
    path = Path(out) / GOLDEN
    if not path.exists():
        return None
    from wexport.golden import summary

    return summary(path)
