"""The tables of operators in docs/import.md: ``python -m tests.interop.page`` writes them anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shohin.interop.onnx.table import BECOMES
from shohin.interop.pytorch import rules

PAGE = Path(__file__).parents[2] / "docs" / "import.md"
END = "<!-- end -->"
TABLES: dict[str, Mapping[str, str]] = {"<!-- operators -->\n": BECOMES, "<!-- aten -->\n": rules.BECOMES}


def table(becomes: Mapping[str, str]) -> str:
    """A row for what operators become, those that become the same in one."""
    rows: dict[str, list[str]] = {}
    for name in sorted(becomes):
        rows.setdefault(becomes[name], []).append(name.removesuffix(".default"))
    lines = [f"| {', '.join(names)} | {what} |" for what, names in rows.items()]
    return "\n".join([f"{len(becomes)} operators:", "", "| operator | becomes |", "|---|---|", *lines, ""])


def page(text: str) -> str:
    """The page with the tables of now."""
    for start, becomes in TABLES.items():
        head, _, rest = text.partition(start)
        text = f"{head}{start}{table(becomes)}{END}{rest.partition(END)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
