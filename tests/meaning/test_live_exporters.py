"""Models as PyTorch exports them, against onnxruntime on inputs of their own: an encoder with masks, stacked LSTMs.

Batches and lengths differ from run to run where the file leaves them free.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import DATA
from onnx_bert import INPUTS, LAYERS, PLACES, WORDS, encoder
from onnx_files import Array, assert_close, computed, exported, runtime

FILES = [
    *(f"A2_rnn/bilstm2.{style}" for style in ("dynamo", "dynamo_noopt", "legacy", "legacy13", "legacy_nofold")),
    *(f"A4_attn/transformer.{style}" for style in ("dynamo", "dynamo_dynbatch", "dynamo_opset23", "legacy14")),
]


def port_inputs(proto: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Random numbers for a file's inputs, or numbers of words; free lengths are drawn."""
    rng, free, found = np.random.default_rng(seed), dict[str, int](), {}
    for port in proto.graph.input:
        dims = port.type.tensor_type.shape.dim
        shape = [d.dim_value or free.setdefault(d.dim_param, int(rng.integers(1, 6))) for d in dims]
        whole = port.type.tensor_type.elem_type == onnx.TensorProto.INT64
        found[port.name] = rng.integers(0, 11, shape) if whole else rng.normal(size=shape).astype(np.float32)
    return found


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    proto = onnx.load(DATA / "onnx" / f"{name}.onnx")
    with exported(proto, tmp_path) as bundle:
        for seed in range(3):
            inputs = port_inputs(proto, seed)
            assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))


def sentences(batch: int, length: int, seed: int) -> dict[str, Array]:
    """Words, two kinds of them, and a mask that hides the end of each sentence but the longest."""
    rng = np.random.default_rng(seed)
    ends = np.append(rng.integers(1, length + 1, batch - 1), length)
    mask = (np.arange(length) < ends[:, None]).astype(np.int64)
    kinds = (np.arange(length) >= rng.integers(0, length + 1, (batch, 1))).astype(np.int64)
    return dict(zip(INPUTS, (rng.integers(0, WORDS, (batch, length)), mask, kinds), strict=True))


@pytest.mark.parametrize("style", ["legacy", "dynamo"])
def test_bert(style: str, tmp_path: Path) -> None:
    proto = encoder(style)
    with exported(proto, tmp_path) as bundle:
        for seed, shape in enumerate([(1, 1), (1, 7), (3, 5), (2, PLACES)]):
            inputs = sentences(*shape, seed)
            assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))
            hidden = inputs["attention_mask"] == 0
            changed = {**inputs, "input_ids": np.where(hidden, 3, inputs["input_ids"])}
            other = computed(bundle, list(changed.values()))
            assert_close([other[1]], runtime(proto, inputs)[1:])  # what is hidden does not count
        tensors = bundle.manifest["tensors"]
        for i in range(LAYERS):
            for part in ("query", "key", "value"):
                path = f"bert.encoder.layer.{i}.attention.self.{part}"
                assert {tensors[f"{path}.kernel"]["axes"], tensors[f"{path}.bias"]["axes"]} == {"in out", "out"}
        assert tensors["bert.embeddings.word_embeddings.embedding"]["axes"] == "token dim"
