"""The networks of the benchmarks, on our side: how each is built and what it takes. Their PyTorch twins: ``torch_networks``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shohin.nn.models import DSCNN, KeywordTransformer, MobileNetV2, MobileNetV3Small, ResNet8, ResNet20


@dataclass(frozen=True)
class Network:
    """``shape``: one example, channels last; ``batch``: the training step's; ``convolutional``: has an int8 row."""

    name: str
    build: Callable[[], Any]
    shape: tuple[int, ...]
    classes: int
    batch: int
    convolutional: bool = True


NETWORKS = {
    n.name: n
    for n in (
        Network("ds-cnn", lambda: DSCNN(1, 12, kernel_size=(10, 4), padding=(5, 1)), (49, 10, 1), 12, 32),
        Network("resnet8", lambda: ResNet8(3, 10), (32, 32, 3), 10, 32),
        Network("resnet20", lambda: ResNet20(3, 10), (32, 32, 3), 10, 64),
        Network("mobilenetv2-0.35", lambda: MobileNetV2(3, 10, 0.35, p=0.0), (96, 96, 3), 10, 32),
        Network("mobilenetv2-1.0", lambda: MobileNetV2(3, 1000, 1.0, p=0.0), (224, 224, 3), 1000, 8),
        Network("mobilenetv3-small", lambda: MobileNetV3Small(3, 1000, p=0.0), (224, 224, 3), 1000, 16),
        Network("transformer", lambda: KeywordTransformer(), (128, 40), 35, 8, convolutional=False),
    )
}
TRAINED = ("ds-cnn", "resnet8", "resnet20", "mobilenetv2-0.35", "mobilenetv2-1.0", "transformer")
"""The rows of the training table."""
INFERRED = ("ds-cnn", "resnet8", "mobilenetv2-0.35", "mobilenetv2-1.0", "mobilenetv3-small", "transformer")
"""The rows of the inference table."""


def chosen(names: list[str], default: tuple[str, ...]) -> list[Network]:
    """The networks called ``names``, or the default rows."""
    unknown = [n for n in names if n not in NETWORKS]
    if unknown:
        raise SystemExit(f"no network is called {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    return [NETWORKS[n] for n in names or default]
