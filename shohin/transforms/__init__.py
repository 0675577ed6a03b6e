"""Function transformations; importing this package installs the rules for ops that hold graphs."""

from shohin.transforms import bodies
from shohin.transforms.batch import vmap
from shohin.transforms.control import checkpoint, cond, custom_vjp, scan, while_loop
from shohin.transforms.forward import jvp
from shohin.transforms.grad import grad, value_and_grad, vjp

__all__ = ["bodies", "checkpoint", "cond", "custom_vjp", "grad", "jvp", "scan", "value_and_grad", "vjp", "vmap", "while_loop"]
