"""When kernels and folds that take a chain of ops along are computed: as soon as all that they read is there."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from shohin.core.graph import Graph, Node, Var


def late_nodes(graph: Graph, chains: Mapping[Node, Sequence[Node]], stored: Container[Var], roots: Callable[[Var], frozenset[Var]],
               taken: Mapping[Node, Var]) -> dict[Node, list[Node]]:  # fmt: skip
    """The nodes behind which the heads of ``chains`` are computed: where their last operand is made (``roots``: the stored
    values that a value is read from), so that what a weight's gradient reads is free before the optimizer's turn; and
    behind the last other reader of an input whose memory the last node of a chain takes (``taken``)."""
    position = {n: i for i, n in enumerate(graph.nodes)}
    made = {v: n for n in graph.nodes for v in n.results}
    users = graph.users()
    head = {n: start for start, chain in chains.items() for n in (start, *chain)}
    moments: dict[Node, int] = {}
    late: dict[Node, list[Node]] = {}

    def there(v: Var) -> int:
        node = made.get(v)
        return 0 if node is None else moment(head[node]) if node in head else position[node]

    def read(v: Var, start: Node) -> int:
        """The last place where others than ``start``'s chain read ``v``, by themselves or through what is not stored."""
        others = (u for u in users.get(v, ()) if head.get(u) is not start)
        return max((position[u] if u in head or u.results[0] in stored else read(u.results[0], start) for u in others), default=0)

    def moment(start: Node) -> int:
        if start not in moments:
            steps = (start, *chains[start])
            inside = {v for n in steps for v in n.results}
            reads = {x for n in steps for v in n.operands if v not in inside for x in roots(v)}
            free = read(taken[steps[-1]], start) if steps[-1] in taken else 0
            moments[start] = max(position[start], free, *map(there, reads))
            late.setdefault(graph.nodes[moments[start]], []).append(start)
        return moments[start]

    for start in sorted(chains, key=lambda n: position[n]):
        moment(start)
    return late


__all__ = ["late_nodes"]
