"""Hand-written kernels; importing this package registers all of them."""

from shohin.kernels import (
    conv,
    conv_dw,
    depthwise,
    gemm,
    gemv,
    palette,
    panels,
    qcolumns,
    qconv,
    qdepthwise,
    qlookup,
    qpanels,
    qpool,
    sparse,
    sparse_tiles,
)

__all__ = ["conv", "conv_dw", "depthwise", "gemm", "gemv", "palette", "panels", "qcolumns", "qconv", "qdepthwise", "qlookup", "qpanels", "qpool", "sparse", "sparse_tiles"]
