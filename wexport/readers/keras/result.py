"""The model that a reader gives, with what its file says of itself."""

from __future__ import annotations

from wexport.model import Json, Layer, LeftOut, Model
from wexport.readers.keras.graph import Graph
from wexport.readers.keras.source import Source


def model_of(
    source: Source, name: str, graph: Graph, layers: list[Layer], left: list[LeftOut], warnings: list[str]
) -> Model:
    """The model with what its file says of itself."""
    described: dict[str, Json] = {
        "file": source.path.name,
        "format": source.format,
        "bytes": sum(f.size for f in source.files),
    }
    if source.architecture is not None:
        described["architecture"] = source.architecture.name
    return Model(
        name,
        "keras",
        source.version,
        described,
        graph.inputs,
        graph.outputs,
        tuple(layers),
        tuple(graph.calls),
        tuple(left),
        graph.known,
        tuple(warnings),
        source.files,
        named=source.config is not None,
    )
