"""Conformance checks for what users declare: the same ones that Shohin's own records pass."""

from shohin.testing.conformance import CHECKS, Problem, check_op
from shohin.testing.method import check_method
from shohin.testing.primitive import Report, check_primitive

__all__ = ["CHECKS", "Problem", "Report", "check_method", "check_op", "check_primitive"]
