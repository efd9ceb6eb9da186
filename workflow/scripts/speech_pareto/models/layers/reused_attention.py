"""Attention without queries and keys: a layer applies the attention map of the layer before.

    A_l = A_(l-1),  output = A_l V_l W_o

after Recycle-and-Distill (ARMHuBERT), Jang et al., Interspeech 2023,
https://arxiv.org/abs/2305.11685, section 2. What is reused is the map before dropout, and the layer
that reuses it has no attention dropout, as in the released code. In WavLM the gated position bias
is inside the map, so a layer that reuses one has no gate either.
"""

from typing import Any

from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from speech_pareto.models.layers.plain_attention import use_plain_attention


class Maps:
    """The map (B, heads, T, T) of the layer that ran last, before dropout, and its heads.

    It lives for one pass of the encoder, so that a model can be copied between passes.
    """

    last: Any = None  # a Tensor between two layers
    heads: tuple[int, ...] = ()

    def keep(self, attention: nn.Module, inputs: tuple, output: tuple) -> None:
        """Take the map from an attention module's output: a forward hook."""
        self.last, self.heads = output[1], attention.heads

    def clear(self, encoder: nn.Module, inputs: tuple, output: object) -> None:
        """Forget the map at the end of the encoder: a forward hook."""
        self.last, self.heads = None, ()


class ReusedAttention(nn.Module):
    """Values and output matrix of `attention` under the map that `maps` holds.

    `reuse` is one of `architecture.REUSE`.
    """

    def __init__(self, attention: nn.Module, maps: Maps, reuse: str) -> None:
        super().__init__()
        self.v_proj, self.out_proj = attention.v_proj, attention.out_proj
        self.head_dim, self.heads = attention.head_dim, attention.heads
        self.num_heads = attention.num_heads
        self.gated = isinstance(attention, WavLMAttention)
        self.maps, self.reuse = maps, reuse

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs,
    ) -> tuple:
        """Return output (B, T, D), map (B, heads, T, T) and, for WavLM, the bias it was given."""
        maps = self._map(attention_mask)
        output = self.out_proj((maps @ self.values(hidden_states)).transpose(1, 2).flatten(2))
        return (output, maps, position_bias) if self.gated else (output, maps)

    def values(self, hidden_states: Tensor) -> Tensor:
        """Return the values (B, heads, T, dim) to which the map is applied."""
        return self.v_proj(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _map(self, attention_mask: Tensor | None) -> Tensor:
        """Return the map (B, heads, T, T) that this layer applies."""
        maps, heads = self.maps.last, self.maps.heads
        if self.reuse == "released":  # it holds (heads, B, T, T) and reads it as (B, heads, T, T)
            maps = maps.transpose(0, 1).reshape(maps.shape)
        if heads != self.heads:
            maps = maps[:, [heads.index(head) for head in self.heads]]
        if self.reuse == "map":
            return maps
        if attention_mask is None:
            return maps.softmax(-1)
        if attention_mask.dim() == 2:  # WavLM: (B, T), true on real frames
            return maps.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf")).softmax(-1)
        return (maps + attention_mask).softmax(-1)  # else (B, 1, T, T), added


def reuse_map(model: nn.Module, layer: nn.Module, reuse: str) -> None:
    """Take queries and keys from a layer of `model`; it applies the map of the layer before."""
    maps = getattr(model.encoder, "maps", None)
    if maps is None:
        maps = model.encoder.maps = Maps()
        model.encoder.register_forward_hook(maps.clear)
        for other in model.encoder.layers:
            use_plain_attention(other.attention)  # WavLM's gives its map as it is
            other.attention.register_forward_hook(maps.keep)
    layer.attention = ReusedAttention(layer.attention, maps, reuse)
    layer.attention.register_forward_hook(maps.keep)
