"""Every kind of layer and operator. Importing this module signs in what `wexport.layers` alone does not."""

from wexport.layers import (  # noqa: F401
    classic,
    control,
    dot_products,
    dynamic,
    elementwise,
    fused,
    indexing,
    moves,
    quantize,
    reduction,
    regions,
    resampling,
    scores,
    sequences,
    trees,
)
from wexport.layers.onnx import rooms  # noqa: F401
from wexport.layers.registry import KINDS

__all__ = ["KINDS"]
