"""The graph that an artefact of a network holds."""

from __future__ import annotations

from collections.abc import Sequence

from shohin.compress.lowering import lower
from shohin.compress.palettize import pack_weights
from shohin.compress.quantized import Quantized
from shohin.core.graph import Graph
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.deploy.export import float_graph


def exported_graph(net: Module, avals: Sequence[Aval]) -> Graph:
    """The network in evaluation mode, its cells' values constants; integers and packed indices where it is compressed."""
    with mode(net, training=False):
        return pack_weights(lower(net, *avals).graph, net) if isinstance(net, Quantized) else float_graph(net, avals)


__all__ = ["exported_graph"]
