"""SparseGPT: single weights go, and those that stay make up for them; one shot, no training.

    score(i, j) = W[i, j]² / U[j, j]²,  compared within each block of 128 columns

where W is what the columns before have left of the weights, and U as in `parts/compensation.py`.
Every matrix loses the same share, every block of it, too; biases stay. Layers are pruned in order,
each seeing what the pruned ones before it give. Tensors keep their size, as in weight pruning.
Frantar and Alistarh, ICML 2023, https://arxiv.org/abs/2301.00774, sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.methods.wanda import Wanda, zeros_of_rows
from speech_pareto.compression.parts.compensation import BLOCK

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def zeroing(zeros: int, shape: tuple[int, int]) -> Callable:
    """Return `choose` of `compensated` that zeroes so many weights of a matrix (rows, columns)."""
    import torch

    rows, columns = shape
    shares = allocation.proportional(
        zeros, [rows * min(BLOCK, columns - start) for start in range(0, columns, BLOCK)]
    )

    def choose(block: Tensor, diagonal: Tensor, start: int) -> Callable:
        scores = (block / diagonal).square().flatten()
        gone = torch.zeros_like(scores, dtype=torch.bool)
        gone[scores.argsort(stable=True)[: shares[start // BLOCK]]] = True
        gone = gone.reshape(block.shape)
        return lambda index, column: column.masked_fill(gone[:, index], 0.0)

    return choose


@dataclass(frozen=True, kw_only=True)
class SparseGpt(Wanda):
    """Zeroes single weights, and changes the others so that outputs stay as they were."""

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with zeros, exactly as many as planned."""
        from speech_pareto.compression.calibration import input_products
        from speech_pareto.compression.parts.compensation import compensated
        from speech_pareto.models.sparsity import state_zeros
        from speech_pareto.models.surgery import linears

        shares = map(sum, zeros_of_rows(sizing.config, sizing.knobs["zeros"]))
        batches = self.audio(context)
        for layer in model.encoder.layers:
            modules = linears(layer)
            products = input_products(model, modules, batches)
            for name, module in modules.items():
                choose = zeroing(next(shares), tuple(module.weight.shape))
                found = compensated(module.weight, products[name], choose)
                module.weight.data.copy_(found)
        state_zeros(model, sizing.config)
        return model
