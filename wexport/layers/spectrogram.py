"""Spectrograms: frames of a signal, each taken apart by frequency.

    Keras  STFTSpectrogram  real_kernel, imag_kernel  "frame 1 frequency"  (windows times cosines and sines, as weights)
           MelSpectrogram   none: window and mel bands follow from its config

`config` holds the layer's own words. Floors under roots and logarithms are Keras' epsilon, 1e-7.
Sources: keras/src/layers/preprocessing/stft_spectrogram.py and mel_spectrogram.py, keras/src/backend/jax/math.py,
stft (3.15.1); the mel scale is HTK's, 1127 ln(1 + f / 700).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.keras import Keras, Slot, Stored, keras, plain, rule
from wexport.layers.registry import ANY, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms
from wexport.model import Json

Array = NDArray[Any]
_EPSILON = 1e-7

kind("spectrogram", "mel_spectrogram", config=ANY)


def _config(layer: Keras) -> dict[str, Json]:
    return {k: plain(v) for k, v in layer.config.items() if k not in {"name", "dtype", "trainable"}}


@keras("STFTSpectrogram")
def _spectrogram(layer: Keras) -> Stored:
    config = _config(layer)
    missing = {"real": "imag", "imag": "real"}.get(config.get("mode", "log"))
    slots = tuple(
        Slot(f"{part}_kernel", rule(f"frame 1 frequency -> {part}_kernel: frame frequency"), trainable=False)
        for part in ("real", "imag")
        if part != missing
    )
    return Stored("spectrogram", {"config": config}, slots)


@keras("MelSpectrogram")
def _mel(layer: Keras) -> Stored:
    return Stored("mel_spectrogram", {"config": _config(layer)})


@flow("spectrogram", "mel_spectrogram")
def _spectrogram_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(None)}


# -- with stored kernels -----------------------------------------------------------------------------------------------


@equations("spectrogram")
def _spectrogram_equations(terms: Terms) -> list[str]:
    mode = terms.attributes["config"].get("mode", "log")
    power = "real * real + imag * imag"
    forms = {
        "real": "real",
        "imag": "imag",
        "angle": "arctan2(imag, real)",
        "stft": "concat(real, imag)",
        "psd": f"one_sided({power})",
        "magnitude": f"sqrt(maximum({power}, {_EPSILON}))",
        "log": f"log(sqrt(maximum({power}, {_EPSILON})))",
    }
    parts = [f"{p} = frames(x) @ {terms.ref(f'{p}_kernel')}" for p in ("real", "imag") if terms.has(f"{p}_kernel")]
    return [*parts, f"y = as_spectrogram({forms[mode]})"]


@computes("spectrogram")
def _compute_spectrogram(step: Step) -> Array:
    config = step.attributes["config"]
    first, mode = config.get("data_format") == "channels_first", config.get("mode", "log")
    x = step.x if first else np.swapaxes(step.x, 1, 2)  # [batch, channel, time]
    size = config["frame_length"]
    taken = _frames(x, size, config.get("frame_step") or size // 2, config.get("padding", "valid"))
    real, imag = (taken @ k if (k := step.get(f"{p}_kernel")) is not None else None for p in ("real", "imag"))
    y = _of_mode(mode, real, imag)  # [batch, channel, frame, frequency]
    if config.get("expand_dims"):
        return y if first else np.transpose(y, (0, 2, 3, 1))
    batch, channels, count, bins = y.shape
    if first:
        return np.swapaxes(y, 2, 3).reshape(batch, channels * bins, count)
    return np.swapaxes(y, 1, 2).reshape(batch, count, channels * bins)


def _of_mode(mode: str, real: Any, imag: Any) -> Array:
    if mode in {"real", "imag"}:
        return np.asarray(real if mode == "real" else imag)
    if mode == "angle":
        return np.asarray(np.arctan2(imag, real))
    if mode == "stft":
        return np.concatenate([real, imag], axis=-1)
    power = real**2 + imag**2
    if mode == "psd":
        power[..., 1:-1] *= 2  # for the negative frequencies, too
        return np.asarray(power)
    magnitude = np.sqrt(np.maximum(power, _EPSILON))
    return np.asarray(np.log(magnitude) if mode == "log" else magnitude)


def _frames(x: Array, size: int, stride: int, padding: str = "valid") -> Array:
    """Pieces of the last axis: `[..., frame, place in the frame]`."""
    if padding == "same":
        missing = max((-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1], 0)
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(missing // 2, missing - missing // 2)])
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=-1)[..., ::stride, :]


# -- in mel bands ------------------------------------------------------------------------------------------------------


@computes("mel_spectrogram")
def _compute_mel(step: Step) -> Array:
    c = step.attributes["config"]
    window = _window(c)
    half = c["fft_length"] // 2
    x = np.pad(step.x, [(0, 0)] * (step.x.ndim - 1) + [(half, half)], mode="reflect")
    spectrum = np.abs(np.fft.rfft(_frames(x, c["fft_length"], c["sequence_stride"]) * window)) ** c["mag_exp"]
    y = spectrum @ _mel_bands(c, spectrum.shape[-1])
    if c["power_to_db"]:
        y = 10 * np.log10(np.maximum(y, c["min_power"]))
        y = y - 10 * np.log10(max(abs(c["ref_power"]), c["min_power"]))
        y = np.maximum(y, y.max() - c["top_db"])
    return np.swapaxes(y, -1, -2)


def _window(c: Mapping[str, Any]) -> Array:
    """The window in the middle of a frame; none at all lets the whole frame through."""
    form, size = c.get("window"), c["fft_length"]
    if form is None:
        return np.ones(size)
    length = c.get("sequence_length") or size
    if isinstance(form, str):
        floor = {"hann": 0.5, "hamming": 0.54}[form]
        form = floor - (1 - floor) * np.cos(2 * np.pi * np.arange(length) / length)
    left = (size - length) // 2
    return np.pad(np.asarray(form, np.float64), (left, size - length - left))


def _mel_bands(c: Mapping[str, Any], bins: int) -> Array:
    """Triangles `[bin, band]` that meet at their feet; in float32, as Keras makes them. The first bin is in none."""

    def mel(hertz: Array) -> Array:
        return np.float32(1127.0) * np.log(np.float32(1.0) + hertz / np.float32(700.0))

    top = np.float32(c.get("max_freq") or c["sampling_rate"] // 2)
    places = mel(np.linspace(0, np.float32(c["sampling_rate"]) / 2, bins, dtype=np.float32)[1:])[:, None]
    low, high = mel(np.asarray(c["min_freq"], np.float32)), mel(np.asarray(top))
    edges = np.linspace(low, high, c["num_mel_bins"] + 2, dtype=np.float32)
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.pad(np.maximum(0, np.minimum(rising, falling)), ((1, 0), (0, 0))).astype(np.float64)
