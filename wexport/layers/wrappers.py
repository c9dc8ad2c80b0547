"""TimeDistributed: a layer applied at every step of x's first axis behind the batch.

The kind is the layer's own; `time_distributed` counts the wrappers. Around a whole model, the reader marks each of
its layers instead (readers/keras/graph.py).
Source: keras/src/layers/rnn/time_distributed.py (3.15.1).
"""

from __future__ import annotations

from dataclasses import replace

from wexport.layers.keras import Keras, Stored, keras, stored, unknown


@keras("TimeDistributed")
def _distributed(layer: Keras) -> Stored:
    inner = stored(layer.child(layer.need("layer")))
    if not inner.known or inner.bind is not None:
        return unknown(layer)
    attributes = {**inner.attributes, "time_distributed": inner.attributes.get("time_distributed", 0) + 1}
    slots = tuple(s.below("layer") for s in inner.slots)
    return replace(inner, attributes=attributes, slots=slots, mask="pass", takes_mask=False)
