"""Pictures of a tensor: a histogram in the terminal, a histogram and a heat map in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.errors import OutputError, UsageError

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


def draw(name: str, axes: str, array: NDArray[Any], path: str) -> None:
    """Write a figure with a histogram and, for more than one axis, a heat map (the last axis across).

    Raises:
        UsageError: matplotlib is not installed, or does not know the file's ending.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot needs matplotlib; install it with: pip install 'wexport[plot]'") from error
    figure = Figure(figsize=(10, 4) if array.ndim > 1 else (6, 4), layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in known:
        raise UsageError(f"{path}: ends in {ending or 'nothing'!r}; expected .png, .svg or .pdf")
    words = axes.replace("(", "").replace(")", "").split()
    title = f"{name}  {tuple(array.shape)}".replace("$", r"\$")
    left = figure.add_subplot(1, 2 if array.ndim > 1 else 1, 1)
    finite = array[np.isfinite(array)]
    left.hist(finite.reshape(-1), bins=64)
    left.set(title=title, xlabel="value", ylabel="elements")
    if array.ndim > 1 and array.size:
        _heat(figure, array, words)
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if ending == "svg" else None)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def _heat(figure: Any, array: NDArray[Any], words: Sequence[str]) -> None:
    right = figure.add_subplot(1, 2, 2)
    flat = array.reshape(-1, array.shape[-1])
    with np.errstate(invalid="ignore"):
        top = float(np.nanmax(np.abs(np.where(np.isfinite(flat), flat, 0)))) or 1.0
    image = right.imshow(flat, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-top, vmax=top)
    right.set(xlabel=words[-1], ylabel=" x ".join(words[:-1]))
    figure.colorbar(image, ax=right)
