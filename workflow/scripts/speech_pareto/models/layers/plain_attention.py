"""Attention of HuBERT, wav2vec 2.0 and data2vec for heads of any width, whose maps can be read."""

from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class PlainAttention(nn.Module):
    """The forward pass of transformers' attention, for its class.

    transformers' own gives the map after dropout, and wants queries, keys and values of one width.
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Return output (B, T, D) and the map (B, heads, T, T) before dropout."""
        query, key, value = (
            project(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = query @ key.transpose(2, 3) * self.scaling
        maps = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
        dropped = nn.functional.dropout(maps, self.dropout, self.training)
        return self.out_proj((dropped @ value).transpose(1, 2).flatten(2)), maps


def use_plain_attention(attention: nn.Module) -> None:
    """Give an attention module this forward pass, if it is one of these models' own."""
    if hasattr(attention, "q_proj") and not isinstance(attention, WavLMAttention):
        attention.__class__ = PlainAttention
