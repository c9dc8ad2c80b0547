"""The rooms: one file for each family of layers. Importing this package signs in those of a model made of layers;
`complete` adds the operators of graphs, which take as long again to load."""

from wexport.layers import (  # noqa: F401
    activation,
    attention,
    conv,
    conv_lstm,
    dense,
    embedding,
    hashing,
    keras_ops,
    local,
    merge,
    norm,
    ops,
    pool,
    preprocess,
    recurrent,
    recurrent_equations,
    resizing,
    shape,
    spectrogram,
    unknown,
    wrappers,
)
from wexport.layers.registry import KINDS, Flow, Kind

__all__ = ["KINDS", "Flow", "Kind"]
