"""An artefact as a ``torch.nn.Module``, so that an evaluation loop written for PyTorch runs on what is shipped. Needs torch."""

from __future__ import annotations

import torch  # type: ignore[import-not-found]

from shohin.deploy.artefact import Artefact


class TorchArtefact(torch.nn.Module):
    """float32 (n, ...) on the CPU in, float32 (n, ...) out, by the artefact's C on this machine; no gradients."""

    def __init__(self, art: Artefact) -> None:
        super().__init__()
        self.artefact = art

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.artefact(x.detach().cpu().numpy())).to(x.device)

    def extra_repr(self) -> str:
        return f"{self.artefact.name} for {self.artefact.device}"


def as_torch(art: Artefact) -> TorchArtefact:
    """The artefact as a PyTorch module in evaluation mode."""
    return TorchArtefact(art).eval()


__all__ = ["TorchArtefact", "as_torch"]
