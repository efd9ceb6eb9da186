"""What stands in the place of a layer's attention or feed-forward part that was cut: nothing.

The residual connection passes what it would have read. Where norms follow the parts, they stay;
where a norm stands before each part (`do_stable_layer_norm`), it goes with its part.
"""

from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class AbsentAttention(nn.Module):
    """Attention without heads; WavLM's first layer keeps the table of positions for the others."""

    heads: tuple[int, ...] = ()
    num_heads = 0
    compute_bias = WavLMAttention.compute_bias
    _relative_positions_bucket = WavLMAttention._relative_positions_bucket

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.head_dim, self.gated = attention.head_dim, isinstance(attention, WavLMAttention)
        if hasattr(attention, "rel_attn_embed"):
            self.rel_attn_embed = attention.rel_attn_embed
            self.num_buckets, self.max_distance = attention.num_buckets, attention.max_distance

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs,
    ) -> tuple:
        """Return 0, a map (B, 0, T, T) and, for WavLM, the bias of positions for other layers."""
        batch, time, _ = hidden_states.shape
        nothing, maps = hidden_states.new_zeros(()), hidden_states.new_zeros(batch, 0, time, time)
        if not self.gated:
            return nothing, maps
        if position_bias is None:
            position_bias = self.compute_bias(time, time).repeat(batch, 1, 1)
        return nothing, maps, position_bias


class AbsentFeedForward(nn.Module):
    """A feed-forward part without rows."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return 0."""
        return hidden_states.new_zeros(())


def remove_attention(layer: nn.Module) -> None:
    """Leave a layer without attention."""
    layer.attention = AbsentAttention(layer.attention)
    if _norms_first(layer):
        layer.layer_norm = nn.Identity()


def remove_feed_forward(layer: nn.Module) -> None:
    """Leave a layer without a feed-forward part."""
    layer.feed_forward = AbsentFeedForward()
    if _norms_first(layer):
        layer.final_layer_norm = nn.Identity()


def _norms_first(layer: nn.Module) -> bool:
    """Return whether a norm stands before each part of a layer, not behind it."""
    return type(layer).__name__.endswith("StableLayerNorm")
