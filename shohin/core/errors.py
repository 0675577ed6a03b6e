"""Every error that Shohin raises on purpose.

A message names the op or the place, the argument, what came, what was expected, and what to do.
Where Python has a fitting built-in class (``TypeError``, ``ValueError`` ...) the error is that as well.
"""

from __future__ import annotations


class ShohinError(Exception):
    """Base of all errors raised on purpose."""


class ShapeError(ShohinError, ValueError):
    """Shapes do not fit each other, or a relation of axes."""


class DtypeError(ShohinError, TypeError):
    """An operand's dtype is not accepted, or two dtypes do not promote."""


class AttrError(ShohinError, ValueError):
    """An op's attribute is unknown, missing or out of range."""


class RecordError(ShohinError, TypeError):
    """An op record is not total: a field is missing or contradicts another one."""


class IRError(ShohinError):
    """A graph or loop program does not verify, or its text does not parse."""


class CaptureError(ShohinError):
    """A program reads state that no argument reaches (state.md 4)."""


class LeakError(ShohinError):
    """A tensor or cell is used after the frame in which it lived has ended (state.md 3)."""


class StateError(ShohinError):
    """A cell, module or optimizer is used in a way that the rules of state forbid."""


class TraceError(ShohinError, TypeError):
    """A traced value was used where only a concrete one can be (a Python branch, ``float()``, NumPy)."""


class GradientError(ShohinError):
    """Something that has no gradient was differentiated."""


class BatchError(ShohinError, ValueError):
    """``vmap`` met something that has no batched meaning."""


class DataError(ShohinError, ValueError):
    """A data set, file or label is not what it should be."""


class ForeignError(ShohinError, ValueError):
    """A network of another framework, or its file, cannot be brought in."""


class CheckpointError(ShohinError):
    """A checkpoint is corrupt, truncated, or belongs to something else."""


class NonFiniteError(ShohinError, ArithmeticError):
    """A loss or value became NaN or infinite."""


class BuildError(ShohinError):
    """A C compiler is missing or failed."""


class TargetError(ShohinError, ValueError):
    """An unknown device, or one that cannot do what was asked of it."""


class EmulatorMissing(TargetError):
    """A device can be built for but not run here."""


class QuantizationError(ShohinError):
    """A place has no quantization rule, or a range cannot be proved (docs/quantization.md Q5)."""


class PlanError(ShohinError, ValueError):
    """A compression plan does not fit the network."""


class DeployError(ShohinError):
    """An artefact is incomplete or corrupt."""


class BudgetError(ShohinError):
    """Nothing meets the budget; says what came closest."""
