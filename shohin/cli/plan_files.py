"""Plans as commands take them: ``--plan FILE`` for each candidate, or one made of ``--rule 'PLACE: METHOD(field=value)'``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from shohin.compress import Plan
from shohin.core.errors import PlanError
from shohin.shipping.run import WHOLE

RULE = re.compile(r"(?P<place>.+?)\s*:\s*(?P<method>\w+)\s*(?:\((?P<fields>.*)\))?\s*")


def plans_of(files: Sequence[Path], rules: Sequence[str]) -> dict[str, Plan]:
    """Plans by the names of their files; that of the rules is ``rules``.

    Raises:
        PlanError: no plan, two files of one name, or a text that says none.
    """
    found: dict[str, Plan] = {}
    for file in files:
        if file.stem in (WHOLE, "rules", *found):
            raise PlanError(f"--plan {file}: a candidate {file.stem!r} is there already; candidates have the names of their files, rename one")
        found[file.stem] = Plan.from_toml(file)
    if rules:
        found["rules"] = Plan([rule for text in rules for rule in rule_of(text).rules])
    if not found:
        raise PlanError("no plan: give --plan plan.toml (several are compared), or --rule '*: Quantize(w=8)' (docs/plans.md)")
    return found


def rule_of(text: str) -> Plan:
    """One rule: ``PLACE`` is a glob, ``re:...`` or ``@`` and a layer type; fields are as in TOML; ``none`` clears the place.

    >>> rule_of("@Conv2d: Prune(sparsity=0.5, pattern='2:4')").rules[0][1].scheme
    '50% zeros by magnitude, 2:4'
    >>> rule_of("head: none")
    Plan('head': None)
    """
    found = RULE.fullmatch(text)
    if not found:
        raise PlanError(f"--rule {text!r}: expected PLACE: METHOD(field=value, ...), as '*: Quantize(w=4)' or '@Conv2d: Prune(sparsity=0.5)'")
    place, key = (found["place"][1:], "layer") if found["place"].startswith("@") else (found["place"], "place")
    fields = (found["fields"] or "").strip()
    entries = [f"{key} = {json.dumps(place)}", f"method = {json.dumps(found['method'])}", *([fields] if fields else [])]
    try:
        return Plan.from_toml(f"rule = [{{{', '.join(entries)}}}]")
    except PlanError as error:
        raise PlanError(f"--rule {text!r}: {error}") from error


__all__ = ["plans_of", "rule_of"]
