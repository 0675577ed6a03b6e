"""GRU and LSTM (Q12 f, g, h): sigmoid and tanh by interpolation, the state int16 on 2^-15, an LSTM's cell int32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shohin.compress import definitions as d
from shohin.compress.operators.facts import Array, config, f32, parameter, positions
from shohin.compress.steps import Definition, Fixed, Probe, Site, Whole
from shohin.compress.walk import STATES, Walk, module_of, rule
from shohin.core.errors import QuantizationError
from shohin.core.graph import Node
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import fixed, linear, math, move, qlinear, quant, reduce
from shohin.transforms.control import scan

STATE: Fixed = (2.0**-15, 0, 16)
SIGMOID, TANH = 2.0**-14, 2.0**-15
SUM, BIAS, CELL, TOP = 2**21, 2.0**20, 2**22 - 1, 32767


# ---------------------------------------------------------------------------------------------------- the walk


def _state(w: Walk, node: Node, k: int) -> tuple[str, int]:
    """The grid of operand k, if it is a state: h on 2^-15, a cell on its own."""
    argument = next(a for a, i in positions(node).items() if i == k)
    if argument == 1:
        w.fixed[node.place] = STATE
        return node.place, 16
    return f"{node.place} cell", 32


STATES["Q12 gru"] = lambda w, node, k: _state(w, node, k) if k == positions(node)[1] else None
STATES["Q12 lstm"] = lambda w, node, k: _state(w, node, k) if k in (positions(node)[1], positions(node)[2]) else None


@rule("Q12 gru")
def gru(w: Walk, node: Node) -> None:
    if config(node)["reset_after"]:
        _recurrent(w, node, Gru(), 2, f"{node.place} new", 16, [0, 0])
    else:
        _recurrent(w, node, GruBefore(), 2, "", 0, [0, 0])


@rule("Q12 lstm")
def lstm(w: Walk, node: Node) -> None:
    inner = f"{node.place} cell"
    _recurrent(w, node, Lstm(), 3, inner, 32, [0, 0, 1])


def _recurrent(w: Walk, node: Node, cell: _Cell, first: int, inner: str, bits: int, results: Sequence[int]) -> None:
    """``first`` is the argument that holds the input's weights; ``results`` says which have the state's grid, which the inner, if there is one."""
    at = positions(node)
    for k, name in enumerate(("input weights", "state weights", "input bias", "state bias")):
        if first + k in at:
            parameter(w, node, at[first + k], name)
    facts = {"reverse": config(node)["reverse"], "weights": (at[first], at[first + 1]), "biases": (at.get(first + 2), at.get(first + 3)),
             "bits": w.format(module_of(node.place)).w}  # fmt: skip
    w.fixed[node.place] = STATE
    if inner:
        w.probes[inner] = Probe(lambda operands, values: cell.see(facts, operands, values), node.operands, node.results, bits)
    inputs = {at[0]: w.value(node.operands[at[0]])}
    inputs |= {at[s]: w.state(node, at[s], *_state(w, node, at[s])) for s in range(1, first)}
    w.whole(node, cell, inputs, facts, [((node.place, 16), (inner, 32))[k] for k in results], (inner,) if inner else ())


# ---------------------------------------------------------------------------------------------------- constants


class _Cell(Definition):
    """Pre-activations ``P = clip(u + bias + v, -(2^18-1), 2^18-1)``, u of the input and v of the state by Q3, each with
    weights of its own scale."""

    gates: tuple[float, ...]
    """The grid of each gate's pre-activation."""

    def see(self, facts: Mapping[str, Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> Tensor:
        """What the inner grid is made for."""
        raise NotImplementedError(f"{type(self).__name__}.see")

    def fold(self, step: Whole, params: Mapping[int, Tensor], x: Sequence[Any], y: Sequence[Any]) -> dict[str, Tensor]:
        (i, h), top = step.facts["weights"], float(d.most(step.facts["bits"]))
        grids = move.asarray(np.repeat(np.asarray(self.gates, f32), params[i].shape[0] // len(self.gates)))
        found: dict[str, Tensor] = {}
        for name, w, s in (("x", params[i], x[0].s), ("h", params[h], f32(TANH))):
            s_w = math.maximum(reduce.max(math.abs(w), axis=1) / top, 2.0**-40)
            found[f"w{name}"] = math.astype(quant.quantize(w, move.expand_dims(s_w, axis=1), -top, top), np.int8)
            found[f"s{name}"] = s * s_w
        return {k: v for k, v in found.items() if k[0] == "w"} | self.scaled(step, params, found, grids, as_tensor(y[-1].s))

    def scaled(self, step: Whole, params: Mapping[int, Tensor], units: Mapping[str, Tensor], grids: Tensor, inner: Tensor) -> dict[str, Tensor]:
        """Multipliers and biases, of the products' ``units`` and the gates' ``grids``."""
        raise NotImplementedError(f"{type(self).__name__}.scaled")

    def prove(self, step: Whole, c: Mapping[str, Array]) -> None:
        for name, what, most in (("wx", "input", 255), ("wh", "state", TOP)):
            sums = np.abs(c[name].astype(np.int64)).sum(1)
            if most * int(sums.max()) >= d.EXACT_INT:
                k = int(sums.argmax())
                raise QuantizationError(f"{step.place}: the {what}'s weights of row {k} sum to {int(sums[k])}, an int32 holds the sums of products up to a "
                                        f"sum of {(d.EXACT_INT - 1) // most}; make the layer narrower or prune it")  # fmt: skip


def _wide(M: Tensor) -> Tensor:
    return math.where(math.abs(M) < 2.0**-40, 0.0, math.clip(M, -d.WIDE, d.WIDE))


def _bias(b: Tensor, grid: Any) -> Tensor:
    """``int(rhe(clip(b/g, -2^20, 2^20)))``."""
    return math.astype(quant.quantize(b, grid, -BIAS, BIAS), np.int32)


def _both(step: Whole, params: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
    zero = move.zeros((params[step.facts["weights"][0]].shape[0],))
    a, b = (zero if k is None else params[k] for k in step.facts["biases"])
    return a, b


# -------------------------------------------------------------------------------------- integers, and reference


def _q3(acc: Tensor, M: Any, most: int) -> Tensor:
    return quant.requant(acc, M, lo=-most, hi=most, dtype=np.int32)


def _split(x: Any, count: int) -> list[Any]:
    n = x.shape[-1] // count
    return [x[..., k * n : (k + 1) * n] for k in range(count)]


def _first(site: Site, k: int, dtype: Any) -> Tensor:
    """The first state of every example."""
    state = math.astype(site.q(k), dtype)
    return move.broadcast_to(state, (site.q(0).shape[0], state.shape[-1]))


def _p(x: Tensor) -> Tensor:
    return math.clip(x, -fixed.LIMIT, fixed.LIMIT)


def _wide_int(x: Tensor) -> Tensor:
    return math.astype(x, np.int32)


def _turns(step: Whole, site: Site, turn: Callable[[Any, Tensor], tuple[Any, Tensor]], state: Any) -> tuple[Any, Tensor]:
    """u for all steps of time at once, then ``turn`` after ``turn``."""
    u = _q3(site.product(0, site.c["wx"]), site.c["Mx"], SUM) + site.c["b"]
    last, ys = scan(turn, state, move.permute_dims(u, (1, 0, 2)), reverse=step.facts["reverse"])
    return last, move.permute_dims(ys, (1, 0, 2))


def _r3(acc: Array, M: Any, most: int) -> Array:
    return d.requant(acc, M, 0, -most, most).astype(np.int64)


def _interpolated(P: Array) -> Array:
    a, t = np.abs(P), fixed.TANH.astype(np.int64)
    i, f = a >> 9, a & 511
    return np.sign(P) * ((t[i] * (512 - f) + t[i + 1] * f + 256) >> 9)


def _limited(P: Array) -> Array:
    return np.clip(P, 1 - 2**18, 2**18 - 1)


def _order(step: Whole, length: int) -> range:
    return range(length - 1, -1, -1) if step.facts["reverse"] else range(length)


def _inputs(q: Array, z: int, c: Mapping[str, Array]) -> Array:
    return _r3((q.astype(np.int64) - z) @ c["wx"].T.astype(np.int64), c["Mx"], SUM) + c["b"]


def _before(facts: Mapping[str, Any], ys: Tensor, h: Tensor) -> Tensor:
    """The state before each step, (n, l, hidden)."""
    h = move.expand_dims(h, axis=1)
    return move.concat([ys[:, 1:], h], axis=1) if facts["reverse"] else move.concat([h, ys[:, :-1]], axis=1)


class Gru(_Cell):
    """``n = th(clip(u_n + bias + Q3(r v_n, 2^(-1-kv), 2^21)))``, ``h' = clip(Q3(z h, 2^-16) + Q3((65536 - z) n, 2^-16))``; v_n, what the
    state gives to n, is int16 on 2^-kv with its bias."""

    gates = (SIGMOID, SIGMOID, TANH)

    def see(self, facts: Mapping[str, Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> Tensor:
        w = _rows(operands[facts["weights"][1]], 2, 3)
        v = linear.matmul(_before(facts, results[0], operands[1]), w, transpose_b=True)
        return v if facts["biases"][1] is None else v + _rows(operands[facts["biases"][1]], 2, 3)

    def scaled(self, step: Whole, params: Mapping[int, Tensor], units: Mapping[str, Tensor], grids: Tensor, inner: Tensor) -> dict[str, Tensor]:
        b_i, b_h = _both(step, params)
        n = b_i.shape[0] // 3
        state = move.concat([units["sh"][: 2 * n] / grids[: 2 * n], units["sh"][2 * n :] / inner], axis=0)
        bias = move.concat([(b_i + b_h)[: 2 * n], b_i[2 * n :]], axis=0)
        return {"Mx": _wide(units["sx"] / grids), "Mh": _wide(state), "b": _bias(bias, grids), "bn": _bias(b_h[2 * n :], inner), "Mn": _wide(inner * 0.5)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        c = site.c

        def turn(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            acc, wide = _split(qlinear.qmatmul(h, c["wh"], zero=0), 3), _wide_int(h)
            u_r, u_z, u_n = _split(u, 3)
            M_r, M_z, M_n = _split(c["Mh"], 3)
            r, z = (fixed.sigmoid(_p(a + _q3(b, M, SUM))) for a, b, M in ((u_r, acc[0], M_r), (u_z, acc[1], M_z)))
            v = math.clip(_q3(acc[2], M_n, TOP) + c["bn"], -TOP, TOP)
            n = fixed.tanh(_p(u_n + _q3(r * v, c["Mn"], SUM)))
            new = math.clip(_q3(z * wide, f32(2.0**-16), TOP) + _q3((65536 - z) * n, f32(2.0**-16), TOP), -TOP, TOP)
            new = math.astype(new, np.int16)
            return new, new

        last, ys = _turns(step, site, turn, _first(site, 1, np.int16))
        return [ys, last]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        u, h = _inputs(q[0], x[0].z, c), q[1].astype(np.int64)
        ys = np.zeros((*u.shape[:2], h.shape[-1]), np.int64)
        for t in _order(step, u.shape[1]):
            a_r, a_z, a_n = _split(h @ c["wh"].T.astype(np.int64), 3)
            M_r, M_z, M_n = _split(c["Mh"], 3)
            u_r, u_z, u_n = _split(u[:, t], 3)
            r = 32768 + _interpolated(_limited(u_r + _r3(a_r, M_r, SUM)))
            z = 32768 + _interpolated(_limited(u_z + _r3(a_z, M_z, SUM)))
            v = np.clip(_r3(a_n, M_n, TOP) + c["bn"], -TOP, TOP)
            n = _interpolated(_limited(u_n + _r3(r * v, c["Mn"], SUM)))
            h = np.clip(_r3(z * h, f32(2.0**-16), TOP) + _r3((65536 - z) * n, f32(2.0**-16), TOP), -TOP, TOP)
            ys[:, t] = h
        return [ys, h]


def _rows(x: Tensor, k: int, count: int) -> Tensor:
    n = x.shape[0] // count
    return x[k * n : (k + 1) * n]


class GruBefore(_Cell):
    """The reset before the product: ``rh = Q3(r h, 2^-16)``, ``n = th(clip(u_n + bias + Q3(acc_n(rh), (s_h s_w)/2^-15)))``; the rest as ``Gru``."""

    gates = (SIGMOID, SIGMOID, TANH)

    def scaled(self, step: Whole, params: Mapping[int, Tensor], units: Mapping[str, Tensor], grids: Tensor, inner: Tensor) -> dict[str, Tensor]:
        b_i, b_h = _both(step, params)
        return {"Mx": _wide(units["sx"] / grids), "Mh": _wide(units["sh"] / grids), "b": _bias(b_i + b_h, grids)}

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        c = site.c
        cut = c["wh"].shape[0] // 3 * 2

        def turn(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            wide, (u_r, u_z, u_n) = _wide_int(h), _split(u, 3)
            v = _q3(qlinear.qmatmul(h, c["wh"][:cut], zero=0), c["Mh"][:cut], SUM)
            r, z = (fixed.sigmoid(_p(a + b)) for a, b in zip((u_r, u_z), _split(v, 2), strict=True))
            rh = math.astype(_q3(r * wide, f32(2.0**-16), TOP), np.int16)
            n = fixed.tanh(_p(u_n + _q3(qlinear.qmatmul(rh, c["wh"][cut:], zero=0), c["Mh"][cut:], SUM)))
            new = math.clip(_q3(z * wide, f32(2.0**-16), TOP) + _q3((65536 - z) * n, f32(2.0**-16), TOP), -TOP, TOP)
            new = math.astype(new, np.int16)
            return new, new

        last, ys = _turns(step, site, turn, _first(site, 1, np.int16))
        return [ys, last]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        u, h, w = _inputs(q[0], x[0].z, c), q[1].astype(np.int64), c["wh"].astype(np.int64)
        ys, cut = np.zeros((*u.shape[:2], h.shape[-1]), np.int64), len(w) // 3 * 2
        for t in _order(step, u.shape[1]):
            u_r, u_z, u_n = _split(u[:, t], 3)
            v_r, v_z = _split(_r3(h @ w[:cut].T, c["Mh"][:cut], SUM), 2)
            r, z = (32768 + _interpolated(_limited(a)) for a in (u_r + v_r, u_z + v_z))
            rh = _r3(r * h, f32(2.0**-16), TOP)
            n = _interpolated(_limited(u_n + _r3(rh @ w[cut:].T, c["Mh"][cut:], SUM)))
            h = np.clip(_r3(z * h, f32(2.0**-16), TOP) + _r3((65536 - z) * n, f32(2.0**-16), TOP), -TOP, TOP)
            ys[:, t] = h
        return [ys, h]


class Lstm(_Cell):
    """``c' = clip(Q3(c, f 2^-16) + Q3(i g, 2^(-9-kc)))`` to 23 bits on 2^(kc-22), ``h' = Q3(o th(Q3(c', 2^(kc-7), 2^18-1)), 2^-16)``."""

    gates = (SIGMOID, SIGMOID, TANH, SIGMOID)

    def see(self, facts: Mapping[str, Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> Tensor:
        (i, h), biases = facts["weights"], [operands[k] for k in facts["biases"] if k is not None]
        total = linear.matmul(operands[0], operands[i], transpose_b=True)
        total = total + linear.matmul(_before(facts, results[0], operands[1]), operands[h], transpose_b=True)
        for b in biases:
            total = total + b
        enter, forget, new, _ = _split(move.permute_dims(total, (1, 0, 2)), 4)

        def turn(c: Tensor, parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            c = parts[0] * c + parts[1]
            return c, c

        cell = operands[2]
        _, cells = scan(turn, cell, (math.sigmoid(forget), math.sigmoid(enter) * math.tanh(new)), reverse=facts["reverse"])
        return move.concat([move.reshape(cells, (-1,)), move.reshape(cell, (-1,))], axis=0)

    def scaled(self, step: Whole, params: Mapping[int, Tensor], units: Mapping[str, Tensor], grids: Tensor, inner: Tensor) -> dict[str, Tensor]:
        b_i, b_h = _both(step, params)
        return {"Mx": _wide(units["sx"] / grids), "Mh": _wide(units["sh"] / grids), "b": _bias(b_i + b_h, grids),
                "Mi": _wide(2.0**-31 / inner), "Mc": _wide(inner * 2.0**15)}  # fmt: skip

    def integers(self, step: Whole, site: Site) -> Sequence[Tensor]:
        c = site.c

        def turn(state: tuple[Tensor, Tensor], u: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h, cell = state
            i, f, g, o = _split(_p(u + _q3(qlinear.qmatmul(h, c["wh"], zero=0), c["Mh"], SUM)), 4)
            i, f, o = fixed.sigmoid(i), fixed.sigmoid(f), fixed.sigmoid(o)
            # float32(c) (f 2^-16) and (float32(c) f) 2^-16 are the same number
            kept = _q3(math.astype(cell, np.float32) * math.astype(f, np.float32), f32(2.0**-16), CELL)
            cell = math.clip(kept + _q3(i * fixed.tanh(g), c["Mi"], CELL), -CELL, CELL)
            new = _q3(o * fixed.tanh(_q3(cell, c["Mc"], fixed.LIMIT)), f32(2.0**-16), TOP)
            new = math.astype(new, np.int16)
            return (new, cell), new

        (last, cell), ys = _turns(step, site, turn, (_first(site, 1, np.int16), _first(site, 2, np.int32)))
        return [ys, last, cell]

    def reference(self, step: Whole, q: Sequence[Array], c: Mapping[str, Array], x: Sequence[Any], y: Sequence[Any]) -> Sequence[Array]:
        u, h, cell = _inputs(q[0], x[0].z, c), q[1].astype(np.int64), q[2].astype(np.int64)
        ys = np.zeros((*u.shape[:2], h.shape[-1]), np.int64)
        for t in _order(step, u.shape[1]):
            i, f, g, o = (_interpolated(p) for p in _split(_limited(u[:, t] + _r3(h @ c["wh"].T.astype(np.int64), c["Mh"], SUM)), 4))
            i, f, o = i + 32768, f + 32768, o + 32768
            cell = np.clip(_r3(cell, f.astype(f32) * f32(2.0**-16), CELL) + _r3(i * g, c["Mi"], CELL), -CELL, CELL)
            h = _r3(o * _interpolated(_r3(cell, c["Mc"], 2**18 - 1)), f32(2.0**-16), TOP)
            ys[:, t] = h
        return [ys, h, cell]
