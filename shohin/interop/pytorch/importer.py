"""``from_torch``: a network of PyTorch as an ordinary module. Needs the extra ``torch``, for the import only."""

from __future__ import annotations

from typing import Any

try:
    import torch as _torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("sh.from_torch needs the package torch: pip install 'shohin[torch]'", name="torch") from error

from shohin.core.errors import ForeignError
from shohin.interop.importing import bring_in
from shohin.interop.network import Imported
from shohin.interop.pytorch.export import Origin, called_with, exported, lowered
from shohin.interop.pytorch.read import array, read
from shohin.interop.pytorch.rules import TABLE


def from_torch(module: Any, example: Any = None) -> Imported:
    """A network of PyTorch: layers at the paths of its modules, their parameters under the same names, channels last inside.

    The module goes through ``torch.export`` in evaluation mode (and is left as it was); what the table of operators knows stays
    whole, the rest is taken apart by PyTorch's own decompositions. Inputs and outputs keep PyTorch's order of dims. The network
    is trained, pruned, quantized, saved and exported like one's own, and needs torch no more. ``print(net.imported)`` tells what
    it holds, and the worst difference from the module's results on the example.

    Args:
        module: a ``torch.nn.Module`` on the CPU, or a ``torch.export.ExportedProgram``.
        example: what the module is called with: a tensor, a tuple of them, or a dict by the names of arguments. The number of
            examples in it does not matter unless the module depends on it. An exported program has its own.

    Raises:
        ForeignError: all operators that cannot be brought in, each with its place; or what torch.export says.
    """
    if isinstance(module, _torch.export.ExportedProgram):
        given = module.example_inputs if example is None else called_with(example)
        program, run = lowered(module), module.module()
    elif isinstance(module, _torch.nn.Module):
        if example is None:
            raise ForeignError("from_torch needs an example of the module's inputs: sh.from_torch(module, example)")
        given = called_with(example)
        program, run = exported(module, given), module
    else:
        raise ForeignError(f"from_torch got {type(module).__name__}; expected a torch.nn.Module or an ExportedProgram. "
                           "A state dict goes into a network of the same names: sh.load_state_dict(net, state)")  # fmt: skip
    foreign = read(program)
    leaves = [v for v in _torch.utils._pytree.tree_leaves(given) if isinstance(v, _torch.Tensor)]
    names = [i.name for i in foreign.inputs]
    check = {n: array(v) for n, v in zip(names, leaves, strict=True)}
    return bring_in(foreign, TABLE, f"{type(module).__name__} of PyTorch {_torch.__version__}", check=check, shape=None, fixed=None, run=Origin(run, given, names))


__all__ = ["from_torch"]
