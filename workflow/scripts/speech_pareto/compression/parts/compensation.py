"""Changing weights one column after the other, while those not yet changed make up for the error.

    W[:, j:] ← W[:, j:] − (W[:, j] − Ŵ[:, j]) / U[j, j] · U[j, j:],  H⁻¹ = Uᵀ U,  H = XᵀX + λ I

X are the inputs of a matrix, λ a hundredth of the mean of the diagonal of XᵀX. GPTQ rounds so
(Frantar et al., ICLR 2023, https://arxiv.org/abs/2210.17323, algorithm 1), SparseGPT prunes so
(Frantar and Alistarh, ICML 2023, https://arxiv.org/abs/2301.00774, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK, DAMPING = 128, 0.01  # columns; share of the mean of the diagonal


def compensated(
    weights: Tensor,
    products: Tensor,
    choose: Callable[[Tensor, Tensor, int], Callable[[int, Tensor], Tensor]],
) -> Tensor:
    """Return weights (rows, columns), changed column by column, in float64.

    `products` is XᵀX (columns, columns). `choose(block, diagonal, start)` is asked once for each
    block of columns (rows, some), with the diagonal of U (some,): it returns a function from a
    column's place in the block, and the column (rows,) as it then is, to what becomes of it.
    """
    import torch

    left, inverse = weights.detach().double().clone(), upper(products)
    for start in range(0, left.shape[1], BLOCK):
        end = min(start + BLOCK, left.shape[1])
        own = inverse[start:end, start:end]
        block, errors = left[:, start:end], torch.zeros_like(left[:, start:end])
        change = choose(block, own.diagonal(), start)
        for index in range(end - start):
            column = block[:, index].clone()
            changed = change(index, column)
            errors[:, index] = (column - changed) / own[index, index]
            block[:, index:] -= errors[:, index, None] * own[index, index:]
            block[:, index] = changed
        left[:, end:] -= errors @ inverse[start:end, end:]
    return left


def upper(products: Tensor) -> Tensor:
    """Return U (columns, columns), the upper Cholesky factor of the inverse of XᵀX + λ I."""
    import torch

    damping = DAMPING * products.diagonal().mean().clamp_min(torch.finfo(torch.float64).eps)
    whole = products + damping * torch.eye(len(products)).to(products)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(whole))
    return torch.linalg.cholesky(inverse, upper=True)
