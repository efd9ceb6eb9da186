"""WavLM's attention for any subset of heads and any shape of matrices."""

import torch
from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class PartialAttention(WavLMAttention):
    """WavLM's attention over the heads that are left.

    transformers hands the four matrices to one function of torch that wants them square. The table
    of positions, made by layer 0 for all layers, stays whole: each layer reads its own heads from
    it.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        index: int = 0,
        **kwargs,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return output (B, T, D), maps (B, heads, T, T) and bias (B * all heads, T, T).

        The maps are those before dropout.
        """
        batch, time, _ = hidden_states.shape
        if position_bias is None:
            position_bias = self.compute_bias(time, time).repeat(batch, 1, 1)
        heads = self.heads
        bias = self.own(position_bias.view(batch, -1, time, time))
        query, key, value = (
            project(hidden_states).unflatten(-1, (len(heads), -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = query @ key.transpose(2, 3) * self.scaling + self.gates(hidden_states) * bias
        if attention_mask is not None:
            if attention_mask.dim() == 2:  # true on real frames (B, T); else it is added
                padding = attention_mask.ne(1)[:, None, None]
                scores = scores.masked_fill(padding, float("-inf"))
            else:
                scores = scores + attention_mask
        maps = scores.softmax(-1)
        dropped = torch.nn.functional.dropout(maps, self.dropout, self.training)
        return self.out_proj((dropped @ value).transpose(1, 2).flatten(2)), maps, position_bias

    def gates(self, hidden_states: Tensor) -> Tensor:
        """Return by how much each frame's bias counts: (B, heads, T, 1)."""
        # The gate of head h sees the h-th slice of the layer's input.
        slices = hidden_states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        gates = self.gru_rel_pos_linear(self.own(slices)).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        reset, update = gates.chunk(2, dim=-1)
        return reset * (update * self.gru_rel_pos_const - 1.0) + 2.0

    def own(self, heads: Tensor) -> Tensor:
        """Return of a tensor (B, all heads, ...) what belongs to the heads that are left.

        While all are left it is the tensor itself: copies of the bias in each layer would take
        4 GB for a batch of ten recordings of 16 s.
        """
        whole = list(range(heads.shape[1]))
        return heads if list(self.heads) == whole else heads[:, list(self.heads)]


def use_partial_attention(model: nn.Module) -> None:
    """Give every layer of a WavLM attention that can be cut, and whose maps can be read.

    All WavLM models here have it, teachers too, so that both are measured in the same code.
    """
    for layer in model.encoder.layers:
        layer.attention.__class__ = PartialAttention
