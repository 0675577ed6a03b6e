"""Shohin: networks that have to live on a device, from training to the measured artefact.

Names are loaded when first used; ``import shohin`` costs little more than NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from shohin.core.provided import provide
from shohin.core.version import __version__ as __version__

_MODULES = "compress data deploy nn optim search testing train"
_NAMES = {
    "shohin.ops.math": "abs add astype atan2 bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor ceil clip "
    "cos divide equal erf exp expm1 floor floor_divide full_like greater greater_equal isfinite isnan less less_equal log log1p logical_and "
    "logical_not logical_or logical_xor maximum minimum multiply negative not_equal ones_like pow reciprocal relu relu6 remainder round round_ste "
    "sigmoid sign sin sqrt square subtract tanh trunc where zeros_like",
    "shohin.ops.move": "arange asarray broadcast_to concat empty expand_dims eye flatten flip full iota linspace matrix_transpose moveaxis ones pad "
    "permute_dims reshape roll squeeze stack transpose zeros",
    "shohin.ops.reduce": "all any argmax argmin cumulative_sum max mean min moments prod std sum var",
    "shohin.ops.linear": "avg_pool2d conv2d conv_transpose2d matmul max_pool2d tensordot",
    "shohin.ops.index": "argsort one_hot quantile sort take take_along_axis",
    "shohin.ops.extra": "acos acosh asin asinh atan atanh broadcast_arrays can_cast copysign cosh count_nonzero diff empty_like finfo hypot iinfo "
    "isdtype isinf log10 log2 logaddexp meshgrid nonzero positive repeat result_type searchsorted signbit sinh tan tile tril triu unique_all "
    "unique_counts unique_inverse unique_values unstack vecdot",
    "shohin.core.dtypes": "bfloat16 complex128 complex64 float16 float32 float64 int16 int2 int32 int4 int64 int8 uint16 uint2 uint32 uint4 uint64 uint8",
    "shohin.core.module": "copy mode",
    "shohin.core.tensor": "Tensor",
    "shohin.core.errors": "BatchError BudgetError BuildError CaptureError CheckpointError DataError DeployError DtypeError EmulatorMissing "
    "ForeignError GradientError LeakError NonFiniteError PlanError QuantizationError RecordError ShapeError ShohinError StateError TargetError TraceError",
    "shohin.transforms.batch": "vmap",
    "shohin.transforms.control": "checkpoint cond custom_vjp scan while_loop",
    "shohin.transforms.forward": "jvp",
    "shohin.transforms.grad": "grad value_and_grad vjp",
    "shohin.transforms.higher": "hessian jacobian",
    "shohin.transforms.trace": "const trace",
    "shohin.compiler.jit": "jit",
    "shohin.train.fit": "evaluate fit",
    "shohin.train.task": "Task",
    "shohin.deploy.stored": "load save",
    "shohin.interop.onnx": "from_onnx",
    "shohin.interop.pytorch.importer": "from_torch",
    "shohin.interop.state_dict": "load_state_dict",
    "shohin.transforms.channels": "channels",
    "shohin.costs.cost": "cost",
    "shohin.deploy.export": "export",
    "shohin.deploy.measure": "compare measure",
    "shohin.deploy.profile": "profile",
    "shohin.deploy.torch_module": "as_torch",
    "shohin.deploy.coreai": "CoreAI to_coreai",
    "shohin.deploy.onnx_runtime": "onnx_runtime",
    "shohin.shipping.ship": "Shipment ship",
    "shohin.report.page": "write_report",
    "shohin.report.explored": "write_explored",
}
_TABLE = {name: module for module, names in _NAMES.items() for name in names.split()}
_RENAMED = {"bool": ("shohin.core.dtypes", "bool_"), "seed": ("shohin.ops.random", "seed"), "random": ("shohin.ops.random", None),
            "loop": ("shohin.core.loop", None), "tree": ("shohin.core.trees", None), "primitive": ("shohin.ops.primitive", "primitive")}  # fmt: skip
pi, e, inf, nan, newaxis = 3.141592653589793, 2.718281828459045, float("inf"), float("nan"), None

provide("meter", lambda: import_module("shohin.costs.meter").meter)  # a budget of channels asks for it, below
provide("assignment", lambda: import_module("shohin.compress.assignment"))  # needs SciPy, which not everyone has
provide("tpe", lambda: import_module("shohin.search.parzen").suggest)  # needs Optuna
provide("ray", lambda: import_module("shohin.search.cluster").Cluster)  # needs Ray


def __getattr__(name: str) -> Any:
    if name in _TABLE:
        if name == "jit":  # the host's kernels come with the compiler
            import_module("shohin.kernels")
        value = getattr(import_module(_TABLE[name]), name)
    elif name in _RENAMED:
        module, attribute = _RENAMED[name]
        value = import_module(module) if attribute is None else getattr(import_module(module), attribute)
    elif name in _MODULES.split():
        value = import_module(f"shohin.{name}")
    else:
        raise AttributeError(f"module 'shohin' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_TABLE, *_RENAMED, *_MODULES.split()})
