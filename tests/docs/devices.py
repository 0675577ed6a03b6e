"""The table of devices in docs/devices.md: ``python -m tests.docs.devices`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from shohin.targets import get_target, target_names

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"
START, END = "<!-- devices -->\n", "<!-- end -->"


def page(text: str) -> str:
    """The page with the table of now; of the host only what no machine changes."""
    lines = ["| device | what | flash | RAM |", "|---|---|---|---|"]
    for target in map(get_target, target_names()):
        kinds = [", ".join(f"{m.name} {m.size:,}" for m in target.memories if m.kind == kind) or "no limits of its own" for kind in ("flash", "ram")]
        what = "this machine" if target.name == "host" else target.doc.strip().splitlines()[0]
        lines.append(f"| `{target.name}` | {what} | {kinds[0]} | {kinds[1]} |")
    head, _, rest = text.partition(START)
    return f"{head}{START}{chr(10).join(lines)}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
