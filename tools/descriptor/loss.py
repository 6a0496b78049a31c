"""The contrastive loss with an entropy regulariser."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(
    first: Tensor, second: Tensor, *, temperature: float = 0.06, entropy: float = 0.3
) -> tuple[Tensor, float]:
    """InfoNCE between two views of each picture, all other views in the batch being negatives, plus KoLeo entropy.

    Args:
        first, second: float[n, dim] of length 1: row i of both is the same picture.
        temperature: of the softmax.
        entropy: weight of the regulariser, which drives each descriptor away from its nearest other picture.
    Returns:
        The loss, and the share of second views whose nearest view is their first.
    Source: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", 2022 (SSCD).
    """
    n = len(first)
    both = torch.cat([first, second])
    scores = both @ both.T
    itself = torch.eye(2 * n, dtype=torch.bool, device=both.device)
    partner = torch.arange(2 * n, device=both.device).roll(n)
    logits = scores.masked_fill(itself, -2.0) / temperature
    loss = F.cross_entropy(logits, partner)
    other = scores.masked_fill(itself | itself.roll(n, 1), -2.0)
    distance = (2.0 - 2.0 * other.max(1).values).clamp(min=1e-4).sqrt()
    hits = (logits[n:].argmax(1) == partner[n:]).float().mean().item()
    return loss - entropy * distance.log().mean(), hits
