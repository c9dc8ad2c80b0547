"""All rooms that know ONNX' operators. Importing this module signs them in."""

from wexport.layers.onnx import (  # noqa: F401
    attention,
    contrib_quantized,
    control,
    conv,
    dense,
    elementwise,
    index,
    ml,
    ml_models,
    norm,
    pool,
    quantized,
    recurrent,
    reduce,
    sequence,
    shape,
)
