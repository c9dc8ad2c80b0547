"""What changed over a series of checkpoints: how far each layer and gate moved in each step, and in all."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wexport.delta.difference import Difference, difference
from wexport.delta.series import Counts, Parts, Row, Series, step_of
from wexport.delta.side import Progress, Side, open_side
from wexport.errors import UsageError

Place = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One of a series: its path, `what` it is (`bundle`, `manifest`, `model`), and whose model it is."""

    path: Path
    what: str
    name: str | None
    framework: str | None
    format: str | None
    tensors: int
    layers: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """A series of checkpoints: step k leads from checkpoint k - 1 to checkpoint k, counted from 0.

    `rows` are the layers that ever moved, came or went, in the model's order, each followed by its gates, directions
    and sources; of all `layers` with tensors that there ever were, `changed` did. `steps` say what else changed.
    """

    checkpoints: tuple[Checkpoint, ...]
    steps: tuple[Counts, ...]
    rows: tuple[Row, ...]
    layers: int
    changed: int


def log(
    paths: Sequence[Place],
    *,
    layers: str | Sequence[str] = (),
    match: str = "all",
    verify: bool = False,
    architecture: Place | None = None,
    plot: Place | None = None,
    progress: Progress = lambda size: None,
) -> Log:
    """Follow the layers of a model over checkpoints; no more than three of them are open at a time.

    Args:
        paths: two or more, the oldest first: bundles' folders, manifests, model files, also mixed.
        layers: a glob, or several, of the layers to give, by any name that they ever had; none gives all.
        match: `all`, or `name` to match by names alone.
        verify: hold every tensor of a bundle against its checksum first.
        architecture: as for `export`; for model files that hold weights only.
        plot: a file to draw into; its ending says the kind (png, svg, pdf).
        progress: called with the number of bytes read, from several threads.

    Raises:
        WexportError: a checkpoint cannot be read, or a bundle's data do not fit its manifest.
        UsageError: there are fewer than two, a glob means no layer, or nothing can be drawn to `plot`.
        OutputError: `plot` cannot be written.
    """
    if isinstance(paths, str | os.PathLike) or len(paths) < 2:
        raise UsageError("log takes two checkpoints or more, the oldest first; expected wexport log A B C ...")
    if match not in ("all", "name"):
        raise UsageError(f"match={match!r}: expected 'all' or 'name'")
    if plot is not None:
        from wexport.picture import check

        check(os.fspath(plot))
    reading = _Reading(match == "name", verify, architecture, progress)
    steps, rows = reading.read(paths)
    moving = [layer for layer in rows if layer[0].moves]
    chosen = moving if not layers else _chosen(rows, [layers] if isinstance(layers, str) else layers)
    kept = tuple(row for layer in chosen for row in layer)
    found = Log(tuple(reading.checkpoints), tuple(steps), kept, len(rows), len(moving))
    if plot is not None:
        _draw(found, os.fspath(plot))
    return found


class _Reading:
    """Checkpoints opened one after the other, each once."""

    def __init__(self, by_name: bool, verify: bool, architecture: Place | None, progress: Progress) -> None:
        self.by_name, self.verify, self.architecture, self.progress = by_name, verify, architecture, progress
        self.checkpoints: list[Checkpoint] = []

    def read(self, paths: Sequence[Place]) -> tuple[list[Counts], list[list[Row]]]:
        """Compare each with the one before, and the last with the first; gives the steps, and each layer's rows."""
        series, steps = Series(), []
        layers: Mapping[str, Parts] | None = None  # of the earlier side, which was the later one a step before
        with self._open(paths[0]) as first:
            before = first
            try:
                for path in paths[1:]:
                    after = self._open(path)
                    try:
                        step = step_of(self._difference(before, after), layers)
                    finally:
                        if before is not first:
                            before.close()
                        before = after
                    series.add(step)
                    steps.append(step.counts)
                    layers = step.new
                drift = step_of(self._difference(first, before, series.known())) if len(steps) > 1 else step
            finally:
                if before is not first:
                    before.close()
        return steps, list(series.layers(drift))

    def _open(self, path: Place) -> Side:
        side = open_side(path, self.architecture, checked=self.verify, progress=self.progress)
        about: Any = side.manifest["model"]
        self.checkpoints.append(
            Checkpoint(
                side.path,
                side.what,
                about.get("name"),
                about.get("framework"),
                about.get("source", {}).get("format"),
                len(side.manifest["tensors"]),
                len(side.manifest["layers"]),
                side.warnings,
            )
        )
        return side

    def _difference(self, a: Side, b: Side, known: Sequence[tuple[str, str]] = ()) -> Difference:
        return difference(a, b, by_name=self.by_name, known=known, progress=self.progress)


def _chosen(layers: Sequence[list[Row]], globs: Sequence[str]) -> list[list[Row]]:
    """The layers that globs mean, whether they moved or not."""
    names = [{name for name in rows[0].names if name is not None} for rows in layers]
    meant: set[int] = set()
    for glob in globs:
        found = {i for i, known in enumerate(names) if glob in known}
        found = found or {i for i, known in enumerate(names) if any(fnmatch.fnmatchcase(name, glob) for name in known)}
        if not found:
            from wexport.bundle import hint

            close = hint(glob, sorted(set().union(*names)))
            raise UsageError(f"--layers {glob!r} means no layer with tensors of any checkpoint{close}")
        meant |= found
    return [rows for i, rows in enumerate(layers) if i in meant]


def _draw(found: Log, path: str) -> None:
    """Draw how far each layer and part moved in each step."""
    from wexport.picture import draw_series

    series = [(row.layer, row.part, [cell.relative for cell in row.cells]) for row in found.rows]
    about = any(cell.change is not None and cell.change.estimated for row in found.rows for cell in row.cells)
    draw_series(series, len(found.steps), "relative change" + (" (estimated)" if about else ""), path)
