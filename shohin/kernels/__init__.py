"""Hand-written kernels; importing this package registers all of them."""

from shohin.kernels import conv, conv_dw, depthwise, gemm, qconv, qdepthwise

__all__ = ["conv", "conv_dw", "depthwise", "gemm", "qconv", "qdepthwise"]
