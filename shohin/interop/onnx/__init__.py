"""``from_onnx``: a network of an ONNX file as an ordinary module. Needs the extra ``onnx``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

try:
    import onnx as _onnx  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("sh.from_onnx needs the package onnx: pip install 'shohin[onnx]'", name="onnx") from error

from shohin.interop.importing import bring_in
from shohin.interop.network import Imported
from shohin.interop.onnx import control, elements, layers, quant, recurrent, reductions, shapes  # noqa: F401  (their rules)
from shohin.interop.onnx.origin import Origin
from shohin.interop.onnx.read import ending, load, read
from shohin.interop.onnx.table import TABLE


def from_onnx(path_or_model: Any, check: Any = None, shape: Any = None, *, fixed: Mapping[str, Any] | None = None,
              outputs: Sequence[str] | None = None, examples_first: bool = False) -> Imported:  # fmt: skip
    """A network of an ONNX file: layers at places named from the file, functions between them, channels last inside.

    Inputs and outputs keep the file's order of dims. The network is trained, pruned, quantized, saved and exported like one's
    own; it comes in evaluation mode. ``print(net.imported)`` tells what it holds.

    Args:
        path_or_model: a path, the file's bytes, or an ``onnx.ModelProto``.
        check: real inputs (an array, a tuple of one for each input, a dict by name, or a data set): the results are compared
            with ONNX Runtime's, or where that is not installed with those of onnx's own evaluator.
        shape: extents of dims that the file leaves open: a tuple for a network of one input, else a dict by name. The number
            of examples need not be given.
        fixed: inputs by name that never change (``{"sr": 16000}``); they are no inputs of the network.
        outputs: names of the file's values to return instead of its outputs, the logits before a softmax, say.
        examples_first: put the dim that counts the examples in front of every input and output, where the file has it elsewhere (a
            state of (2, n, 128)): calibration, files without a class and artefacts take networks of this kind. Nothing is moved.

    Raises:
        ForeignError: all operators that cannot be brought in, each with its place; or a damaged file.

    >>> import numpy as np
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    >>> model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x], [y]))
    >>> net = from_onnx(model)
    >>> net(np.array([[-1, 2]], np.float32)).tolist()
    [[0.0, 2.0]]
    """
    model = load(path_or_model) if outputs is None else ending(load(path_or_model), outputs)
    origin = path_or_model if isinstance(path_or_model, str) else getattr(path_or_model, "name", None) or "an ONNX model"
    return bring_in(read(model), TABLE, str(origin), check=check, shape=shape, fixed=fixed, run=Origin(model), examples_first=examples_first)


__all__ = ["from_onnx"]
