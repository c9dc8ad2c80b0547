"""All rooms that know ONNX' operators. Importing this module signs them in."""

from wexport.layers.onnx import (  # noqa: F401
    attention,
    contrib_quantized,
    control,
    conv,
    dense,
    elementwise,
    index,
    loss,
    ml,
    ml_models,
    norm,
    placing,
    pool,
    quantized,
    recurrent,
    reduce,
    sequence,
    shape,
    signal,
    text,
)
