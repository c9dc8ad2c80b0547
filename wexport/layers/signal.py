"""Signals: spectra, windows, and the bands that ears hear.

    window         `hann`, `hamming` or `blackman`, of `size` positions; `periodic`: it goes on behind its end
    dft            x, whose last axis is (real,) or (real, imaginary), along `axis`, cut or filled up to `length`;
                   `one_sided`: the half that says it all of a real x, or (inverse) a real result of such a half
    stft           the spectrum of every frame `[batch, frame, bin, 2]`, frames `step` apart, each times the window
    mel_weights    triangles over the bins of a spectrum, `[bin, band]`, even on the mel scale

Sources: onnx/docs/Operators.md (DFT-20, STFT-17, MelWeightMatrix-17, HannWindow-17); O'Shaughnessy 1987 (mel).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.dynamic import setting
from wexport.layers.flows import opaque, typed
from wexport.layers.registry import BOOL, INT, TEXT, computes, kind
from wexport.layers.step import Step

Array = NDArray[Any]

kind("window", function=TEXT, periodic=BOOL, type=TEXT)
kind("dft", maybe={"axis": INT}, inverse=BOOL, one_sided=BOOL)
kind("stft", one_sided=BOOL)
kind("mel_weights", type=TEXT)
opaque("dft", "stft")
typed("window", "mel_weights")

_COSINES = {"hann": (0.5, 0.5, 0.0), "hamming": (25 / 46, 21 / 46, 0.0), "blackman": (0.42, 0.5, 0.08)}


def _scalar(step: Step, name: str) -> Any:
    found = step.args.get(name)
    return None if found is None else np.asarray(found).reshape(-1)[0]


@computes("window")
def _compute_window(step: Step) -> Array:
    n, (a, b, c) = int(_scalar(step, "size")), _COSINES[step.attributes["function"]]
    turn = 2 * np.pi * np.arange(n) / max(n if step.attributes["periodic"] else n - 1, 1)
    return np.asarray(a - b * np.cos(turn) + c * np.cos(2 * turn))


def _complex(x: Array) -> Array:
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0].astype(complex)


def _parts(y: Array) -> Array:
    return np.stack([y.real, y.imag], axis=-1)


@computes("dft")
def _compute_dft(step: Step) -> Array:
    a, x = step.attributes, step.x
    axis = int(np.asarray(setting(step, "axis")).reshape(-1)[0]) % x.ndim
    length = _scalar(step, "length")
    n = None if length is None else int(length)
    if not a["inverse"]:
        y = np.fft.fft(_complex(x), n, axis)
        kept = y.shape[axis] // 2 + 1 if a["one_sided"] else y.shape[axis]
        return _parts(np.take(y, range(kept), axis))
    if a["one_sided"]:
        return np.fft.irfft(_complex(x), n, axis)[..., None]
    return _parts(np.fft.ifft(_complex(x), n, axis))


@computes("stft")
def _compute_stft(step: Step) -> Array:
    x, window, length = step.x, step.args.get("window"), _scalar(step, "length")
    n = int(length) if length is not None else len(np.asarray(window))
    starts = range(0, x.shape[1] - n + 1, int(_scalar(step, "step")))
    frames = np.stack([_complex(x[:, s : s + n]) for s in starts], axis=1)
    y = np.fft.fft(frames if window is None else frames * window, axis=-1)
    return _parts(y[..., : n // 2 + 1] if step.attributes["one_sided"] else y)


@computes("mel_weights")
def _compute_mel(step: Step) -> Array:
    bands, length = int(_scalar(step, "bands")), int(_scalar(step, "length"))
    low, high = (2595 * np.log10(1 + _scalar(step, k) / 700) for k in ("low", "high"))
    edges = low + np.arange(bands + 2) * (high - low) / (bands + 2)
    bins = ((length + 1) * (700 * (10 ** (edges / 2595) - 1)) // _scalar(step, "rate")).astype(int)
    y = np.zeros((length // 2 + 1, bands))
    for i, (first, middle, last) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        rise, fall = np.arange(first, middle), np.arange(middle, last)
        y[rise, i] = (rise - first) / max(middle - first, 1)
        y[fall, i] = (last - fall) / max(last - middle, 1)
        y[middle, i] = 1
    return y
