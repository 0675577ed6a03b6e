"""``python -m bench QUESTION [arguments]``; ``python -m bench`` asks all of them and rewrites the page."""

from __future__ import annotations

import importlib
import sys

QUESTIONS = ("train", "infer", "kernels", "compile", "cost", "report")
ALONE = ("compress", "search")
"""Asked only by name: they train for long."""

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] not in QUESTIONS + ALONE:
        raise SystemExit(f"no question is called {sys.argv[1]}; there are {', '.join(QUESTIONS + ALONE)}")
    for question in sys.argv[1:2] or QUESTIONS:
        importlib.import_module(f"bench.{question}").main(sys.argv[2:])
