"""Every kind of layer and operator. Importing this module signs in what `wexport.layers` alone does not."""

from wexport.layers import (  # noqa: F401
    classic,
    control,
    dot_products,
    dynamic,
    elementwise,
    fused,
    indexing,
    losses,
    moves,
    placing,
    quantize,
    reduction,
    regions,
    resampling,
    scores,
    sequences,
    signal,
    text,
    trees,
)
from wexport.layers.onnx import rooms  # noqa: F401
from wexport.layers.registry import KINDS

__all__ = ["KINDS"]
