"""The tensor: an immutable value of some frame, with the methods of the Python array API.

At the base a tensor holds a NumPy array; inside a transformation it holds what that frame put there. Operators
are looked up in ``METHODS``, which the ops fill: the core knows no op by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from shohin.core import interp
from shohin.core.axes import Shape
from shohin.core.dtypes import DType, kind, of_scalar
from shohin.core.errors import LeakError, ShapeError, StateError, TraceError
from shohin.core.op import Aval

if TYPE_CHECKING:
    from shohin.core.cells import Cell

Array = np.ndarray[Any, Any]
METHODS: dict[str, Callable[..., Any]] = {}


class Tensor:
    """An n-dimensional value with ``shape`` and ``dtype``.

    Value semantics: ``x[i] = v`` and ``x += y`` rebind the handle ``x``; no other tensor changes.
    ``weak`` marks what came from a Python number; ``cell`` is the cell that it was just read from, if any.
    """

    __slots__ = ("__weakref__", "aval", "cell", "frame", "payload", "weak")
    aval: Aval
    frame: interp.Frame | None
    payload: Any
    cell: Cell | None
    weak: bool
    __array_priority__ = 1000

    def __init__(self, *_: Any) -> None:
        raise TypeError("write shohin.asarray(data) to make a tensor")

    @classmethod
    def _make(cls, array: Any, frame: interp.Frame | None, payload: Any, aval: Aval | None) -> Tensor:
        self = object.__new__(cls)
        if frame is None:
            if not isinstance(array, np.ndarray):
                array = np.asarray(array)
            payload, aval = array, aval or Aval(array.shape, array.dtype)
        assert aval is not None
        self.aval, self.frame, self.payload, self.cell, self.weak = aval, frame, payload, None, False
        return self

    # -- what it is
    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.aval.shape, dtype=np.int64))

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def data(self) -> Array:
        """The NumPy array of a concrete tensor (do not write to it)."""
        if self.frame is not None:
            raise TraceError(
                f"a tensor {self.aval} inside {self.frame.kind} has no concrete value: a Python branch, a number or a "
                "NumPy array cannot be made of it; use sh.where or sh.cond, or do it outside the transformation"
            )
        return self.payload

    def concrete(self) -> Array:
        """The value as NumPy sees it, also inside an online frame (grad, vmap) whose value is concrete."""
        t = self
        while t.frame is not None:
            if not t.frame.open:
                t.frame.admit(t)
            inner = t.frame.peek(t)
            if inner is None:
                return t.data
            t = inner
        return t.payload

    def numpy(self) -> Array:
        """A NumPy array that owns its data."""
        return self.concrete().copy()

    def item(self) -> bool | int | float:
        if self.size != 1:
            raise ShapeError(f"item() takes a tensor of one element, this one is {self.aval}")
        return self.concrete().item()

    def tolist(self) -> Any:
        return self.concrete().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.concrete()
        return np.array(array, dtype=dtype, copy=True if copy is None else copy)

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.numpy().__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return METHODS["__namespace__"]()

    def to_device(self, device: str, /, *, stream: Any = None) -> Tensor:
        if device != "cpu":
            raise ValueError(f"tensors live on 'cpu', not {device!r}; networks are moved with sh.export(device=...)")
        return self

    def _scalar(self) -> Any:
        if self.ndim != 0:
            raise TypeError(f"only a tensor without dims converts to a Python number, this one is {self.aval}")
        return self.concrete()

    def __bool__(self) -> bool:
        return bool(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __index__(self) -> int:
        if kind(self.dtype) != "int":
            raise TypeError(f"only an integer tensor is an index, this one is {self.aval}")
        return int(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dims has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        try:
            text = np.array2string(self.concrete(), separator=", ", prefix="Tensor(", threshold=64, precision=5)
        except (TraceError, LeakError):
            return f"Tensor({self.aval} in {self.frame.kind if self.frame else 'eager'})"
        return f"Tensor({text}, {self.dtype.name})"

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self

    # -- indexing
    def __getitem__(self, index: Any) -> Tensor:
        return METHODS["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.cell is not None:
            raise StateError(
                f"items of a value just read from cell {self.cell} cannot be set: the cell would not change; assign the whole: "
                "y = sh.asarray(m.x, copy=True); y[i] = v; m.x = y"
            )
        new = METHODS["setitem"](self, index, value)
        self.aval, self.frame, self.payload, self.cell, self.weak = new.aval, new.frame, new.payload, None, False

    if TYPE_CHECKING:  # set below from METHODS; here for readers and type checkers

        def _of_two(self, other: Any, /) -> Tensor: ...
        def _of_one(self) -> Tensor: ...

        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _of_two
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = _of_two
        __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __rand__ = __ror__ = __rxor__ = __rlshift__ = __rrshift__ = _of_two
        __lt__ = __le__ = __gt__ = __ge__ = _of_two
        __neg__ = __pos__ = __abs__ = __invert__ = _of_one

    # -- methods that are functions of one tensor
    @property
    def T(self) -> Tensor:
        return METHODS["matrix_transpose"](self)

    @property
    def mT(self) -> Tensor:
        return METHODS["matrix_transpose"](self)

    def __getattr__(self, name: str) -> Any:
        if name in _PLAIN_METHODS and name in METHODS:
            function = METHODS[name]
            return lambda *args, **keywords: function(self, *args, **keywords)
        raise AttributeError(f"a tensor has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *_PLAIN_METHODS})


class Constant(Tensor):
    """A concrete tensor that never changes and that a compiled function may look up (``sh.const``)."""

    __slots__ = ()


_PLAIN_METHODS = frozenset(
    "reshape sum mean max min prod any all argmax argmin astype abs exp log sqrt tanh var std squeeze flatten "
    "transpose permute_dims clip round expand_dims broadcast_to sort argsort cumulative_sum".split()
)
_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}
_NUMBERS = (Tensor, bool, int, float, complex, np.ndarray, np.generic)


def _operator(name: str, reflected: bool) -> Callable[..., Any]:
    def method(self: Tensor, other: Any) -> Any:
        if not isinstance(other, _NUMBERS):
            return NotImplemented
        return METHODS[name](other, self) if reflected else METHODS[name](self, other)

    return method


def _unary(name: str) -> Callable[..., Any]:
    return lambda self: METHODS[name](self)


for _short, _name in {**_BINARY, **_COMPARE}.items():
    setattr(Tensor, f"__{_short}__", _operator(_name, False))
for _short, _name in _BINARY.items():
    setattr(Tensor, f"__r{_short}__", _operator(_name, True))
for _short, _name in _UNARY.items():
    setattr(Tensor, f"__{_short}__", _unary(_name))

interp._tensor_class.append(Tensor)


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """A tensor of the current frame's constants for a number or array; tensors pass.

    A Python number is weak and takes the dtype of ``like`` where kinds allow it.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return interp.current().constant(np.array(value))
    if isinstance(value, bool | int | float | complex):
        array = np.asarray(value, of_scalar(value))
        tensor = interp.current().constant(array)
        tensor.weak = not isinstance(value, bool)
        return tensor
    if isinstance(value, list | tuple):
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return interp.current().constant(array)
    raise TypeError(f"{type(value).__name__} is not a tensor, an array or a number")
