"""How well sketches tell how far a tensor has moved: the error of ||sketch(d)|| for changes d of many structures.

    python benchmarks/sketch.py [--trials N] [--seed N]

For each structure and shape, the root mean square of the relative error over the trials, and the largest one. For 64
buckets theory gives a root mean square of 1 / sqrt(2 * 64) = 8.8 % for changes of many elements, less for a few.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from wexport.sketch import BUCKETS, Sketch, decode, norm

Shape = tuple[int, int]
Random = np.random.Generator
Change = Callable[[Any, Random], None]  # puts a change into an array of zeros
SHAPES: tuple[Shape, ...] = (
    (8, 8), (64, 64), (128, 128), (100, 300), (16, 4096), (4096, 16), (512, 512), (3, 65536), (1000, 1000),
    (30522, 32), (5, 131072), (64, 65536), (2048, 2048), (1024, 8192),
)  # fmt: skip


def _column(d: Any, random: Random) -> None:
    d[:, random.integers(d.shape[1])] = random.normal(size=len(d))


def _flat_column(d: Any, random: Random) -> None:
    d[:, random.integers(d.shape[1])] = 0.1


def _row(d: Any, random: Random) -> None:
    d[random.integers(len(d))] = random.normal(size=d.shape[1])


def _flat_row(d: Any, random: Random) -> None:
    d[random.integers(len(d))] = 0.1


def _gate(d: Any, random: Random) -> None:
    units = d.shape[1] // 4
    start = units * int(random.integers(4))
    d[:, start : start + units] = random.normal(size=(len(d), units))


def _block(d: Any, random: Random) -> None:
    rows, columns = (max(1, n // 4) for n in d.shape)
    top, left = (int(random.integers(n - max(1, n // 4) + 1)) for n in d.shape)
    d[top : top + rows, left : left + columns] = random.normal(size=(rows, columns))


def _flat_block(d: Any, random: Random) -> None:
    rows, columns = (max(1, n // 4) for n in d.shape)
    top, left = (int(random.integers(n - max(1, n // 4) + 1)) for n in d.shape)
    d[top : top + rows, left : left + columns] = 0.1


def _every(d: Any, random: Random) -> None:
    near = int(2 ** random.integers(1, math.log2(d.size) - 3)) + int(random.integers(-1, 2))
    k = max(1, near)
    d.reshape(-1)[random.integers(k) :: k] = 0.1


def _diagonal(d: Any, random: Random) -> None:
    lanes = np.arange(min(d.shape))
    d[lanes, (lanes + random.integers(d.shape[1])) % d.shape[1]] = random.normal()


def _shift(d: Any, random: Random) -> None:
    d[: random.integers(len(d) // 2, len(d)) + 1] = 0.1


def _rank(rank: int) -> Change:
    def change(d: Any, random: Random) -> None:
        d += random.normal(size=(d.shape[0], rank)) @ random.normal(size=(rank, d.shape[1]))

    return change


def _steps(d: Any, random: Random) -> None:
    d += np.where(random.random((len(d), 1)) < 0.5, 0.1, -0.1)


def _few(count: int) -> Change:
    def change(d: Any, random: Random) -> None:
        d.reshape(-1)[random.choice(d.size, count, replace=False)] = random.normal(size=count)

    return change


def _neighbours(d: Any, random: Random) -> None:
    start = random.integers(d.size - 8)
    d.reshape(-1)[start : start + 9] = random.normal(size=9)


def _one_in_100(d: Any, random: Random) -> None:
    chosen = random.random(d.shape) < 0.01
    d[chosen] = random.normal(size=int(chosen.sum()))


def _all(d: Any, random: Random) -> None:
    d += random.normal(size=d.shape)


CHANGES: dict[str, Change] = {
    "one column": _column,
    "one column, constant": _flat_column,
    "one row": _row,
    "one row, constant": _flat_row,
    "one gate of four": _gate,
    "a block": _block,
    "a block, constant": _flat_block,
    "every k-th, constant": _every,
    "a diagonal, constant": _diagonal,
    "a shift of all": _shift,
    "plus or minus, by row": _steps,
    "rank 1": _rank(1),
    "rank 4": _rank(4),
    "1 element": _few(1),
    "2 elements": _few(2),
    "5 elements": _few(5),
    "9 elements": _few(9),
    "9 neighbours": _neighbours,
    "one in 100": _one_in_100,
    "all, at random": _all,
}


def errors(change: Change, shape: Shape, trials: int, random: Random) -> Iterator[float]:
    """The relative errors of the estimated length of so many changes."""
    for _ in range(trials):
        d = np.zeros(shape)
        change(d, random)
        length = float(np.linalg.norm(d))
        if length:
            yield estimate(d) / length - 1


def estimate(d: Any) -> float:
    """The length of a change, by its sketch."""
    return norm(taken(d))


def taken(x: Any) -> str:
    """The sketch of an array."""
    sketch = Sketch()
    sketch.add(x)
    return sketch.result() or ""


def rounding(shape: Shape, random: Random) -> float:
    """What float32 leaves of the difference of two tensors that differ by next to nothing, as a part of their norms."""
    x = random.normal(size=shape)
    nearly = x * (1 + 1e-5)
    a, b, d = taken(x), taken(nearly), taken(nearly - x)
    off = np.array(decode(b)) - np.array(decode(a)) - np.array(decode(d))
    return float(np.linalg.norm(off)) / norm(a)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the error of sketches.")
    parser.add_argument("--trials", type=int, default=100, help="changes of each structure and shape (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where the random numbers begin (%(default)s)")
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    start = time.perf_counter()
    theory = 100 / math.sqrt(2 * BUCKETS)
    print(f"relative error of ||sketch(d)|| in per cent, rms / worst of {args.trials}; theory {theory:.1f}")
    print(f"{'':24}" + "".join(f"{f'{a}x{b}':>14}" for a, b in SHAPES) + f"{'all':>14}")
    for name, change in CHANGES.items():
        row = [list(errors(change, shape, _fewer(args.trials, shape), random)) for shape in SHAPES]
        row.append([e for found in row for e in found])
        print(f"{name:24}" + "".join(f"{_cell(found):>14}" for found in row), flush=True)
    floors = [rounding((512, 512), random) for _ in range(args.trials)]
    print(f"\nrounding to float32, as a part of the norm: rms {_rms(floors):.1e}, worst {max(floors):.1e}")
    print(f"took {time.perf_counter() - start:.0f} s")


def _fewer(trials: int, shape: Shape) -> int:
    """Large changes take long."""
    return max(10, trials // 4) if math.prod(shape) > 2**21 else trials


def _cell(found: list[float]) -> str:
    return f"{100 * _rms(found):.1f} / {100 * max(map(abs, found)):.0f}" if found else "-"


def _rms(found: list[float]) -> float:
    return math.hypot(*found) / math.sqrt(len(found))


if __name__ == "__main__":
    main()
