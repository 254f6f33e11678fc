"""What every attention of the model does between its projections."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(q: Tensor, k: Tensor, v: Tensor, *, heads: int, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(h)) V of H heads, side by side: (B, L, H*h), (B, K, H*h) and (B, K, H*h) -> (B, L, H*h).

    Keys whose `mask`, bool (B, 1, 1, K), is False are not attended to.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
