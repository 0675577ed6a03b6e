"""A hook of mkdocs: the order of the pages, and a page of reference a namespace, made of docstrings when the site is built.

A new page needs no entry: it follows those of ``ORDER``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import shohin as sh

HERE = Path(__file__).parent
ORDER = """index ship import devices streaming quantization masks tables integers plans compare search cost state numerics new-op new-method
architecture decisions result""".split()
NAMESPACES = "nn optim data compress search train testing".split()


def pages() -> list[str]:
    """The pages by name: those of ``ORDER`` that are there, then the rest."""
    there = sorted(p.stem for p in HERE.glob("*.md"))
    return [*(n for n in ORDER if n in there), *(n for n in there if n not in ORDER)]


def reference() -> dict[str, str]:
    """The text of each page of reference, by its path in the site."""
    names = sorted([*sh._TABLE, *(n for n, (_, attribute) in sh._RENAMED.items() if attribute)])
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name in names:
        value = _found(sh, name)
        if value is not None:
            groups.setdefault(sh._TABLE.get(name) or sh._RENAMED[name][0], []).append((name, value))
    body = "\n".join(f"## {module}\n\n{_about(module)}\n\n{''.join(_entry(f'sh.{n}', v) for n, v in found)}" for module, found in sorted(groups.items()))
    made = {"api/shohin.md": f"# sh\n\nAll that `import shohin as sh` gives; functions of the array API standard stand among them.\n\n{body}"}
    for space in NAMESPACES:
        module = importlib.import_module(f"shohin.{space}")
        listed = [(n, v) for n in _public(module) if (v := _found(module, n)) is not None and not isinstance(v, ModuleType)]
        made[f"api/{space}.md"] = f"# sh.{space}\n\n{_text(module)}\n\n{''.join(_entry(f'{space}.{n}', v) for n, v in listed)}"
    return made


def on_config(config: Any) -> Any:
    """The navigation."""
    config.nav = [*(f"{n}.md" for n in pages()), {"Reference": [{n.split("/")[1].removesuffix(".md"): n} for n in reference()]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages of reference."""
    from mkdocs.structure.files import File

    for path, text in reference().items():
        files.append(File.generated(config, path, content=text))
    return files


def _found(module: ModuleType, name: str) -> Any:
    """A public value; None where it needs a package that is not here."""
    try:
        return getattr(module, name)
    except ImportError:
        return None


def _public(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")])


def _about(module: str) -> str:
    return _text(importlib.import_module(module)).split("\n\n")[0]


def _entry(name: str, value: Any) -> str:
    """A heading, the signature, the docstring; of a class its own public methods too."""
    if not (inspect.isclass(value) or callable(value)):
        return ""
    parts = [f"### {name}\n", f"```text\n{name}{_signature(value)}\n```\n", _text(value)]
    if inspect.isclass(value):
        own = [(n, f) for n, f in vars(value).items() if not n.startswith("_") and n != "forward" and inspect.isfunction(f) and f.__doc__]
        parts += [f"**`{n}{_signature(f)}`** {_text(f)}\n" for n, f in own]
    return "\n".join([*parts, "", ""])


def _signature(value: Any) -> str:
    try:
        return re.sub(r"<(?:function|object|class)[^>]*>", "...", str(inspect.signature(value)).replace("'", ""))
    except (TypeError, ValueError):
        return "(...)"


def _text(value: Any) -> str:
    """A docstring as Markdown: ``code`` with one backtick, examples and indented parts fenced."""
    return "\n".join(_blocks(re.sub(r"``(.+?)``", r"`\1`", re.sub(r":\w+:`(.+?)`", r"`\1`", inspect.getdoc(value) or ""))))


def _blocks(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        if block.lstrip().startswith(">>>"):
            yield f"\n```pycon\n{inspect.cleandoc(block)}\n```\n"
        elif all(line.startswith("    ") for line in block.splitlines()) and block.strip():
            yield f"\n```text\n{block}\n```\n"
        elif re.match(r"\w+:\n +", block):
            head, _, rest = block.partition("\n")
            yield f"\n**{head}**\n\n```text\n{inspect.cleandoc(rest)}\n```\n"
        else:
            yield f"{block}\n"
