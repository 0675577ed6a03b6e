"""How much a channel matters: a score for each channel of a group, from all that goes with it.

An importance gives one number to every element of a parameter (or none to a parameter that it does not look at); a group sums them
channel by channel, over all its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shohin.compress.gradients import gradients
from shohin.core.cells import Param
from shohin.core.module import Module
from shohin.nn.norm import BatchNorm1d, BatchNorm2d
from shohin.transforms.channels import Group

Array = np.ndarray[Any, Any]
Elements = Mapping[str, Array]
Importance = Callable[[Module, Any], Elements]
"""Scores of elements by the parameter's path, from a network and its calibration data."""


def magnitude(power: int) -> Importance:
    """|w|^power. Source: Li et al. 2017 (arXiv:1608.08710; l1, one layer); Fang et al. 2023 (arXiv:2301.12900), section 3.3 (the
    whole group)."""
    return lambda net, calibration: {path: np.abs(p.read().numpy().astype(np.float64)) ** power for path, p in net.cells(Param).items()}


def batch_norm_scale(net: Module, calibration: Any) -> Elements:
    """|gamma| of batch norms. Source: Liu et al. 2017 (arXiv:1708.06519), section 3; we rank only: the L1 penalty on the scales is a
    term of the user's loss, and scales of one group are summed where they have one layer each."""
    norms = {path for path, m in net.modules().items() if isinstance(m, BatchNorm1d | BatchNorm2d)}
    cells = net.cells(Param)
    scales = (f"{path}.weight" if path else "weight" for path in norms)
    return {path: np.abs(cells[path].read().numpy().astype(np.float64)) for path in scales if path in cells}


def taylor(net: Module, calibration: Any) -> Elements:
    """(g w)^2, the squared change of the loss to first order if the element were zero, averaged over batches.

    Source: Molchanov et al. 2019 (arXiv:1906.10771), equation 8, the elements of a group summed; the network is as it is, where
    they score while they train.
    """
    values = {path: p.read().numpy().astype(np.float64) for path, p in net.cells(Param).items()}
    total = {path: np.zeros_like(v) for path, v in values.items()}
    count = 0
    for found in gradients(net, calibration, "PruneChannels(importance='taylor')"):
        count += 1
        for path, g in found.items():
            total[path] += np.square(g * values[path])
    return {path: t / max(count, 1) for path, t in total.items()}


def of_group(group: Group, elements: Elements) -> Array | None:
    """The score of each channel of a group, or None where no parameter of it has one.

    >>> from shohin import nn
    >>> from shohin.transforms.channels import channels
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> (group,) = (g for g in channels(net)(np.ones((1, 2), np.float32)).groups if g.prunable)
    >>> of_group(group, {"0.weight": np.array([[1.0, 2.0], [0.0, 0.5], [4.0, 0.0]])}).tolist()
    [3.0, 0.5, 4.0]
    """
    total, found = np.zeros(group.size), False
    for s in group.slices:
        if s.path in elements:
            each = np.moveaxis(elements[s.path], s.dim, 0)
            here = s.index >= 0
            np.add.at(total, s.index[here], each.reshape(len(each), -1).sum(1)[here])
            found = True
    return total if found else None


IMPORTANCE: dict[str, Importance] = {"l1": magnitude(1), "l2": magnitude(2), "bn": batch_norm_scale, "taylor": taylor}

__all__ = ["IMPORTANCE", "Elements", "Importance", "batch_norm_scale", "magnitude", "of_group", "taylor"]
