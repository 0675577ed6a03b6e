"""Optimizers: pairs (start, step) composed by ``chain``, their state in Buffers, and learning-rate schedules."""

from shohin.optim.optimizer import Optimizer
from shohin.optim.rules import adam, adamw, lion, momentum_trace, rmsprop, scale_by_adam, sgd
from shohin.optim.schedules import Schedule, constant, cosine, linear_warmup, one_cycle
from shohin.optim.transform import Transform, add_decayed_weights, chain, clip_by_global_norm, scale_by_rate

__all__ = [
    "Optimizer", "Schedule", "Transform", "chain",
    "adam", "adamw", "lion", "rmsprop", "sgd",
    "add_decayed_weights", "clip_by_global_norm", "momentum_trace", "scale_by_adam", "scale_by_rate",
    "constant", "cosine", "linear_warmup", "one_cycle",
]  # fmt: skip
