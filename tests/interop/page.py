"""The table of operators in docs/import.md: ``python -m tests.interop.page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from shohin.interop.onnx.table import BECOMES

PAGE = Path(__file__).parents[2] / "docs" / "import.md"
START, END = "<!-- operators -->\n", "<!-- end -->"


def table() -> str:
    """A row for what operators become, those that become the same in one."""
    rows: dict[str, list[str]] = {}
    for name in sorted(BECOMES):
        rows.setdefault(BECOMES[name], []).append(name)
    lines = [f"| {', '.join(names)} | {becomes} |" for becomes, names in rows.items()]
    return "\n".join([f"{len(BECOMES)} operators:", "", "| operator | becomes |", "|---|---|", *lines, ""])


def page(text: str) -> str:
    """The page with the table of now."""
    head, _, rest = text.partition(START)
    return f"{head}{START}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
