"""A backbone that hears an utterance chunk by chunk: no frame reads beyond the end of its chunk.

What reads ahead in these models is changed, no weight is:

* attention: a frame reads those of its chunk and the `left` ones before it;
* position convolutions: frames behind the chunk are zeros, as those behind an utterance are;
* the group norm of a stem, and the standardisation of waves: mean and variance are those of all
  that was heard up to the end of the chunk.

With chunks of a whole utterance the model is the plain one. The stem's last frame of a chunk needs
some samples of the next one, 80 of the usual stem: so much later than its chunk it comes.

One pass over a whole utterance computes all chunks at once. `stream` feeds them one by one instead,
with a state, and gives the same.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from speech_pareto.models import architecture
from speech_pareto.models.layers.absent import AbsentAttention
from speech_pareto.models.layers.plain_attention import PlainAttention
from speech_pareto.models.layers.reused_attention import ReusedAttention
from speech_pareto.models.layers.wavlm_attention import PartialAttention
from speech_pareto.models.lookahead import overlap
from speech_pareto.models.padding import RealGroupNorm

EPSILON = 1e-7  # of standardised waves, as transformers' feature extractor has it


class Flow:
    """What the parts of one model share: its chunks, and the state of a stream while one runs.

    `chunk` and `left` are in frames; a chunk of 0 is a whole utterance. `lengths` (batch,) are the
    real samples of a batch, None if all are. While a stream is `on`, `before` maps what each part
    kept of the chunk before to tensors (batch, ...), `after` what it keeps for the next.
    """

    lengths: Tensor | None = None
    on = False

    def __init__(self, chunk: int, left: int) -> None:
        self.chunk, self.left = chunk, left
        self.before: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor) -> Tensor:
        """Return what a part kept, zeros as `like` before the first chunk, in its numbers."""
        return self.before.get(name, torch.zeros_like(like)).to(like.dtype)

    def joined(self, name: str, new: Tensor, kept: int, axis: int) -> Tensor:
        """Return the last `kept` places along an axis before the chunk, then those of the chunk."""
        shape = list(new.shape)
        shape[axis] = kept
        whole = torch.cat((self.take(name, new.new_zeros(shape)), new), axis)
        self.after[name] = whole.narrow(axis, whole.shape[axis] - kept, kept)
        return whole


class ChunkedNorm(RealGroupNorm):
    """A group norm (one group per channel) over all that was heard to the end of each chunk."""

    flow: Flow
    size: int  # places of a frame; those of a chunk begin `lead` places late
    lead: int

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (batch, channels, places), normalised."""
        if not self.flow.chunk:
            return super().forward(hidden)
        place = self.size, self.lead
        with torch.autocast(hidden.device.type, enabled=False):
            normalised = as_heard(self.flow, "norm", hidden, *place, self.real.frames, self.eps)
            normalised = torch.addcmul(
                self.bias.float()[:, None], normalised, self.weight.float()[:, None]
            )
        return normalised.to(hidden.dtype)


def convolve(convolution: nn.Conv1d, flow: Flow, name: str, hidden: Tensor) -> Tensor:
    """Return (batch, width, frames), as many frames as before: those behind a chunk are zeros."""
    (taps,), time, chunk = convolution.kernel_size, hidden.shape[-1], flow.chunk
    before = convolution.padding[0]
    if flow.on:
        windows = flow.joined(name, hidden, before, 2)
    elif not chunk:
        windows = functional.pad(hidden, (before, 0))
    else:
        padded = functional.pad(hidden, (before, -time % chunk))
        windows = padded.unfold(-1, before + chunk, chunk)  # (B, D, chunks, before + chunk)
        windows = windows.transpose(1, 2).flatten(0, 1)
    windows = functional.pad(windows, (0, taps - 1 - before))
    found = functional.conv1d(
        windows, convolution.weight, convolution.bias, groups=convolution.groups
    )
    found = found.unflatten(0, (len(hidden), -1)).transpose(1, 2).flatten(2)
    return found[..., :time].reshape(hidden.shape)  # as `as_heard` says


class ChunkedAttention(PlainAttention):
    """Attention of HuBERT, wav2vec 2.0 and data2vec over the frames that a frame may read."""

    flow: Flow
    name: str

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs
    ) -> tuple:
        """Return what it does without chunks; in a stream a map (B, heads, chunk, left + chunk)."""
        if self.flow.on:
            return attend(self, hidden_states)
        return super().forward(hidden_states, visible(self.flow, hidden_states, attention_mask))


class ChunkedWavLMAttention(PartialAttention):
    """Attention of WavLM; `table` holds the module that has the table of positions."""

    flow: Flow
    name: str
    table: tuple[nn.Module]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        index: int = 0,
        **kwargs,
    ) -> tuple:
        """Return what it does without chunks; in a stream a map (B, heads, chunk, left + chunk)."""
        if not self.flow.on:
            mask = visible(self.flow, hidden_states, attention_mask)
            return super().forward(hidden_states, mask, position_bias)
        span = self.flow.left + hidden_states.shape[1]
        bias = self.table[0].compute_bias(span, span)[:, self.flow.left :]  # of all heads
        bias = self.gates(hidden_states) * bias[list(self.heads)]
        return *attend(self, hidden_states, bias), position_bias


class ChunkedReusedAttention(ReusedAttention):
    """The map of the layer before, on values of the frames that a frame may read."""

    flow: Flow
    name: str

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs,
    ) -> tuple:
        """Return what it does without chunks; in a stream a map (B, heads, chunk, left + chunk)."""
        if self.flow.on:
            mask = heard(self.flow, hidden_states)
        else:
            mask = visible(self.flow, hidden_states, attention_mask)
        return super().forward(hidden_states, mask, position_bias)

    def values(self, hidden_states: Tensor) -> Tensor:
        """Return the values (B, heads, T, dim); in a stream, `left` frames before the chunk too."""
        found, flow = super().values(hidden_states), self.flow
        return flow.joined(f"{self.name}.values", found, flow.left, 2) if flow.on else found


def visible(flow: Flow, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return what is added to scores (B or 1, 1, T, T), so that a frame reads what it may.

    `attention_mask` is of real frames: (B, T), or added to scores (B, 1, T, T).
    """
    seen = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool, device=hidden.device)
    if flow.chunk:
        place = torch.arange(hidden.shape[1], device=hidden.device)
        begin = place // flow.chunk * flow.chunk  # of its chunk
        seen = (place < (begin + flow.chunk)[:, None]) & (place >= (begin - flow.left)[:, None])
    seen = seen[None, None]
    if attention_mask is not None:
        flat = attention_mask.dim() == 2
        seen = seen & (attention_mask[:, None, None].bool() if flat else attention_mask >= 0)
    nothing = torch.zeros(seen.shape, dtype=hidden.dtype, device=hidden.device)
    # Not the least number: a frame of padding may read none, and -inf for all of them gives NaN.
    return nothing.masked_fill(~seen, torch.finfo(hidden.dtype).min / 2)


def heard(flow: Flow, hidden: Tensor) -> Tensor:
    """Return what is added to scores (B, 1, 1, left + chunk) where the stream had not begun."""
    place = torch.arange(-flow.left, flow.chunk, device=hidden.device)
    begun = (place >= -flow.before["chunks"] * flow.chunk)[:, None, None]
    nothing = torch.zeros(begun.shape, dtype=hidden.dtype, device=hidden.device)
    return nothing.masked_fill(~begun, torch.finfo(hidden.dtype).min)


def attend(
    attention: nn.Module, hidden: Tensor, bias: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return output (B, chunk, D) and map of a stream's chunk; `bias` is added to its scores."""
    flow, name = attention.flow, attention.name
    query, key, value = (
        project(hidden).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    key = flow.joined(f"{name}.keys", key, flow.left, 2)  # (B, heads, left + chunk, dim)
    value = flow.joined(f"{name}.values", value, flow.left, 2)
    scores = query @ key.transpose(2, 3) * attention.scaling + bias
    maps = (scores + heard(flow, hidden)).softmax(-1)
    return attention.out_proj((maps @ value).transpose(1, 2).flatten(2)), maps


def as_heard(
    flow: Flow,
    name: str,
    values: Tensor,
    size: int,
    lead: int,
    real: Tensor | None,
    eps: float,
) -> Tensor:
    """Return values (batch, channels, places) with mean 0 and variance 1, in float32.

    Both are those of all values up to the end of each one's chunk, of which the first `real`
    (batch,) are no padding. A frame has `size` places; the first chunk has `lead` more, and in a
    stream the first `lead` places belong to the chunk before.
    """
    size, time, values = size * flow.chunk, values.shape[-1], values.float()
    if flow.on:
        mean, variance = _so_far(flow, name, values, size, lead)
        return (values - mean) / (variance + eps).sqrt()
    if real is not None:
        values = values * (torch.arange(time, device=values.device) < real[:, None, None])
    more = size - lead  # so that all parts are alike: the first `lead` places, and each chunk's
    parts = functional.pad(values, (more, (lead - time) % size)).unflatten(-1, (-1, size))
    total, square = (x.sum(-1).double().cumsum(-1) for x in (parts, parts.square()))
    ends = size * torch.arange(1, total.shape[-1] + 1, device=values.device) - more
    most = ends.new_full((len(values),), time) if real is None else real
    number = torch.minimum(ends, most[:, None])[:, None]  # (B, 1, parts)
    mean = total / number
    variance = (square / number - mean.square()).clamp_min(0)
    # The first places belong to the first chunk, if there is more of it.
    first = min(1, total.shape[-1] - 1)
    mean, variance = (
        torch.cat((x[..., first : first + 1], x[..., 1:]), -1).float() for x in (mean, variance)
    )
    found = (parts - mean[..., None]) / (variance[..., None] + eps).sqrt()
    # The shape is the same; said so, an export does not carry a formula of it through the model.
    return found.flatten(2)[..., more : more + time].reshape(values.shape)


def _so_far(flow: Flow, name: str, values: Tensor, size: int, lead: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance (batch, channels, places) at each place of a stream's chunk."""
    chunks = flow.before["chunks"][..., None]  # (B, 1, 1)
    seen = torch.where(chunks > 0, lead + size * chunks, 0.0)
    none = values.new_zeros(*values.shape[:2], 1)
    mean, variance = flow.take(f"{name}.mean", none), flow.take(f"{name}.variance", none)
    place = torch.arange(values.shape[-1], device=values.device)
    fresh = ((chunks == 0) | (place >= lead)).float()  # not counted with the chunk before
    added = fresh.sum(-1, keepdim=True)
    own = (values * fresh).sum(-1, keepdim=True) / added
    spread = ((values - own).square() * fresh).sum(-1, keepdim=True) / added
    share = added / (seen + added)
    middle = mean + share * (own - mean)
    whole = variance + share * (spread - variance) + share * (1 - share) * (own - mean).square()
    flow.after |= {f"{name}.mean": middle, f"{name}.variance": whole}
    return torch.where(fresh > 0, middle, mean), torch.where(fresh > 0, whole, variance)


def stream_chunks(model: nn.Module, chunk: int | None, left: int) -> None:
    """Let a model hear chunks of so many frames, each with `left` frames before it.

    Its layers have the shapes that they will have. Waves are standardised as they are heard, if
    the stem has convolutions.
    """
    config = model.config.to_dict()
    flow = model.flow = Flow(chunk or 0, left)
    model.register_forward_pre_hook(_begin, with_kwargs=True)
    model.register_forward_hook(_end, always_call=True)
    if architecture.convolutional(config):
        model.feature_extractor.flow = flow
        model.feature_extractor.size = architecture.reach(config)[1]
        model.feature_extractor.lead = overlap(config)
        model.feature_extractor.register_forward_pre_hook(_standardise)
        first = model.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), RealGroupNorm):
            (kernel,), (stride,) = first.conv.kernel_size, first.conv.stride
            norm = first.layer_norm
            norm.__class__, norm.flow = ChunkedNorm, flow
            norm.size = model.feature_extractor.size // stride
            norm.lead = (overlap(config) - kernel) // stride + 1
    position = model.encoder.pos_conv_embed
    embeddings = getattr(position, "layers", [position])  # data2vec has several
    for index, embedding in enumerate(embeddings):
        embedding.padding = nn.Identity()  # what an even kernel makes too much is not made
        embedding.conv.forward = partial(convolve, embedding.conv, flow, f"position{index}")
    for index, layer in enumerate(model.encoder.layers):
        attention = layer.attention
        if isinstance(attention, AbsentAttention):
            continue
        if isinstance(attention, ReusedAttention):
            attention.__class__ = ChunkedReusedAttention
        elif isinstance(attention, PartialAttention):
            attention.__class__ = ChunkedWavLMAttention
            attention.table = (model.encoder.layers[0].attention,)  # a reference, no submodule
        else:
            attention.__class__ = ChunkedAttention
        attention.flow, attention.name = flow, f"layer{index}"


def _begin(model: nn.Module, inputs: tuple, named: dict) -> None:
    """Note how many samples of each utterance are real."""
    mask = named.get("attention_mask", inputs[1] if len(inputs) > 1 else None)
    model.flow.lengths = None if mask is None else mask.sum(1)


def _end(model: nn.Module, *_) -> None:
    """Forget the pass."""
    model.flow.lengths = None


def _standardise(stem: nn.Module, inputs: tuple) -> tuple:
    """Give waves (batch, samples) mean 0 and variance 1, after what was heard of them."""
    flow, waves = stem.flow, inputs[0][:, None].float()  # (B, 1, S)
    inside = 1.0
    if flow.lengths is not None:
        place = torch.arange(waves.shape[-1], device=waves.device)
        inside = (place < flow.lengths[:, None, None]).float()
    if not flow.chunk:
        count = waves.shape[-1] if flow.lengths is None else flow.lengths[:, None, None]
        centred = waves - (waves * inside).sum(-1, keepdim=True) / count
        variance = (centred * inside).square().sum(-1, keepdim=True) / count
        waves = centred / (variance + EPSILON).sqrt()
    else:
        waves = as_heard(flow, "wave", waves, stem.size, stem.lead, flow.lengths, EPSILON)
    return ((waves * inside)[:, 0].to(inputs[0].dtype),)
