"""What the pages show is run. A block's mark says how:

    python              runs, top to bottom, in one namespace a page
    python skip: WHY    is only compiled
    sh                  ``shohin`` commands are parsed with their options, not run
    text, c             output, listings, excerpts: nothing is asked of them
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from shohin.cli import app
from tests.docs import devices

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
MARKS = re.compile(r"python|python skip: .+|sh|text|c")


def blocks(page: Path, mark: str) -> list[tuple[int, str, str]]:
    """(line, mark, text) of the blocks whose mark begins so."""
    text = page.read_text()
    return [(text.count("\n", 0, b.start(2)), b[1], b[2]) for b in BLOCK.finditer(text) if b[1].split(" ")[0] == mark]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": page.stem}
    for line, mark, text in blocks(page, "python"):
        code = compile("\n" * line + text, str(page), "exec")
        if mark == "python":
            exec(code, space)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_blocks_have_marks_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    found = list(BLOCK.finditer(text))
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(found), "a block is not closed"
    for block in found:
        assert MARKS.fullmatch(block[1]), f"line {text.count(chr(10), 0, block.start()) + 1}: a block is marked {block[1]!r}"
    assert not re.search(r"\n\n    \S", BLOCK.sub("", text)), "an indented block has no mark: fence it"
    commands = typer.main.get_command(app)
    for line, _, script in blocks(page, "sh"):
        for words in (shlex.split(row, comments=True) for row in script.replace("\\\n", " ").splitlines()):
            if words[:1] == ["shohin"]:
                name, command, rest = commands.resolve_command(commands.make_context("shohin", words[1:], resilient_parsing=True), words[1:])  # type: ignore[attr-defined]
                assert command is not None, f"line {line}: {words}"
                command.make_context(name, list(rest))


def test_the_table_of_devices_is_current() -> None:
    text = devices.PAGE.read_text()
    assert text == devices.page(text), "write it anew: python -m tests.docs.devices"


def test_the_site_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is in the navigation, also one that nobody listed; links hold; public names have their place in the reference."""
    build, config = pytest.importorskip("mkdocs.commands.build"), pytest.importorskip("mkdocs.config")
    pytest.importorskip("material")
    loaded = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
    build.build(loaded)
    front = (tmp_path / "site" / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f'href="{page.stem}/"' in front, page
    text = (tmp_path / "site" / "api" / "shohin" / "index.html").read_text()
    assert all(f'id="sh{n}"' in text for n in ("export", "ship", "grad", "jit", "conv2d"))
