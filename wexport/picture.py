"""Pictures of a tensor: a histogram in the terminal, a histogram and a heat map in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.errors import OutputError, UsageError
from wexport.names import printable

_LABELLED = 10  # layers that a figure of a series names
_HEATED = 80  # rows of its heat map
_LONGEST = 36  # characters of a name in it
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bars(edges: Sequence[float], counts: Sequence[int], width: int = 48, plain: bool = False) -> list[str]:
    """A histogram as lines of text: where a bin starts, a bar, its count. `plain` keeps to ASCII."""
    top = max(counts, default=0) or 1
    labels = _labels(edges[: len(counts)])
    pad = max((len(label) for label in labels), default=0)
    lines = []
    for label, count in zip(labels, counts, strict=True):
        lines.append(f"{label:>{pad}} {'|' if plain else '│'}{_bar(count / top * width, plain)} {count:,}")
    return lines


def _labels(numbers: Sequence[float]) -> list[str]:
    """The numbers with as many digits as tell them apart."""
    for digits in range(3, 17):
        found = [f"{x:.{digits}g}" for x in numbers]
        if len(set(found)) == len(found):
            break
    return found


def _bar(length: float, plain: bool) -> str:
    if plain:
        return "#" * max(round(length), 1 if length else 0)
    eighths = max(round(length * 8), 1 if length else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def check(path: str) -> None:
    """Say so if nothing can be drawn to a file.

    Raises:
        UsageError: matplotlib is not installed, or does not know the file's ending.
    """
    _figure((1, 1), path)


def _figure(size: tuple[float, float], path: str) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot needs matplotlib; install it with: pip install 'wexport[plot]'") from error
    figure = Figure(figsize=size, layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if _ending(path) not in known:
        raise UsageError(f"{path}: ends in {_ending(path) or 'nothing'!r}; expected .png, .svg or .pdf")
    return figure


def _ending(path: str) -> str:
    return Path(path).suffix.lstrip(".").lower()


def _save(figure: Any, path: str) -> None:
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if _ending(path) == "svg" else None)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def draw(name: str, axes: str, array: NDArray[Any], path: str) -> None:
    """Write a figure with a histogram and, for more than one axis, a heat map (the last axis across).

    Raises:
        UsageError: matplotlib is not installed, or does not know the file's ending.
        OutputError: the file cannot be written.
    """
    figure = _figure((10, 4) if array.ndim > 1 else (6, 4), path)
    words = axes.replace("(", "").replace(")", "").split()
    title = f"{name}  {tuple(array.shape)}".replace("$", r"\$")
    left = figure.add_subplot(1, 2 if array.ndim > 1 else 1, 1)
    finite = array[np.isfinite(array)]
    left.hist(finite.reshape(-1), bins=64)
    left.set(title=title, xlabel="value", ylabel="elements")
    if array.ndim > 1 and array.size:
        _heat(figure, array, words)
    _save(figure, path)


def _heat(figure: Any, array: NDArray[Any], words: Sequence[str]) -> None:
    right = figure.add_subplot(1, 2, 2)
    flat = array.reshape(-1, array.shape[-1])
    with np.errstate(invalid="ignore"):
        top = float(np.nanmax(np.abs(np.where(np.isfinite(flat), flat, 0)))) or 1.0
    image = right.imshow(flat, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-top, vmax=top)
    right.set(xlabel=words[-1], ylabel=" x ".join(words[:-1]))
    figure.colorbar(image, ax=right)


# -- a series ----------------------------------------------------------------------------------------------------------

Course = tuple[str, str, Sequence[float | None]]  # a layer, a part of it, a number for each step


def draw_series(rows: Sequence[Course], steps: int, what: str, path: str) -> None:
    """Write a figure with a line for each layer and a heat map of all rows, over steps, on a scale of logarithms.

    Args:
        rows: layers, each followed by its parts.
        steps: how many there are.
        what: what the numbers are.
        path: the file; its ending says the kind.

    Raises:
        UsageError: matplotlib is not installed, or does not know the file's ending.
        OutputError: the file cannot be written.
    """
    layers = [row for row in rows if not row[1]]
    order = [row[0] for row in sorted(layers, key=_largest, reverse=True)]
    kept, warm = set(order[:_LABELLED]), set(order[:_HEATED])
    shown = rows if len(rows) <= _HEATED else [row for row in layers if row[0] in warm]
    figure = _figure((13, max(4.5, 1.5 + 0.17 * len(shown))), path)
    left, right = figure.subplots(1, 2)
    lines = []
    for layer, _, numbers in layers:
        style = {"marker": ".", "markersize": 4} if layer in kept else {"color": "0.8", "linewidth": 0.6, "zorder": 1}
        lines += [(line, layer) for line in left.plot(range(1, steps + 1), _numbers(numbers), **style)]
    left.set(title=f"{what} of each layer", xlabel="step", yscale="log")
    named = [(line, _short(layer)) for line, layer in lines if layer in kept and np.isfinite(line.get_ydata()).any()]
    if named:
        left.legend(*zip(*named, strict=True), fontsize=7)
    _heat_series(figure, right, shown, steps, what)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def _heat_series(figure: Any, axes: Any, rows: Sequence[Course], steps: int, what: str) -> None:
    from matplotlib.colors import LogNorm

    grid = np.array([_numbers(numbers) for *_, numbers in rows]).reshape(len(rows), steps)
    axes.set_facecolor("0.9")  # where there is no number
    ends = (np.nanmin(grid), np.nanmax(grid)) if np.isfinite(grid).any() else (0.1, 1.0)
    norm = LogNorm(min(ends[0], ends[1] / 10), ends[1])
    extent = (0.5, steps + 0.5, len(rows) - 0.5, -0.5)
    if rows:
        image = axes.imshow(grid, aspect="auto", interpolation="nearest", cmap="viridis", norm=norm, extent=extent)
        figure.colorbar(image, ax=axes, label=what)
    names = [_short(layer) if not part else _short(part) for layer, part, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    for label, (_, part, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(color="0.35" if part else "black", fontweight="normal" if part else "bold")
    axes.set(title="layers, and their gates and sources" if any(row[1] for row in rows) else "layers", xlabel="step")


def _largest(row: Course) -> float:
    return max((x for x in row[2] if x is not None), default=0.0)


def _numbers(numbers: Sequence[float | None]) -> list[float]:
    """Numbers that a scale of logarithms has a place for; NaN for the others."""
    return [x if x is not None and 0 < x < np.inf else np.nan for x in numbers]


def _short(name: str) -> str:
    """A name as a label, which no sign in it changes; matplotlib leaves out those that begin with an underscore."""
    text = printable(name)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2 - 2]}...{text[-_LONGEST // 2 + 1 :]}"
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")
