"""The stem of a backbone by itself, with its projection: from waveforms to the first layers' input.

It trains and runs without the layers behind it, and can take the place of another stem.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from speech_pareto.models import architecture
from speech_pareto.models.backbone import build, new
from speech_pareto.models.padding import ignore_padding_in_stem

PARTS = ("feature_extractor.", "feature_projection.")


class Stem(nn.Module):
    """The stem and the feature projection of `backbone`, which are still its own as well."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.feature_extractor = backbone.feature_extractor
        self.feature_projection = backbone.feature_projection
        self.config, self.preprocessor = backbone.config, backbone.preprocessor
        ignore_padding_in_stem(self)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the projected features (batch, frames, dim) of waveforms (batch, samples)."""
        projected = self.feature_projection(self.feature_extractor(input_values).transpose(1, 2))
        return projected[0] if isinstance(projected, tuple) else projected

    def train(self, mode: bool = True) -> "Stem":
        """Set the mode of all but the projection's dropout, which would blur the output itself."""
        super().train(mode)
        self.feature_projection.dropout.eval()
        return self


def with_stem(backbone: nn.Module, config: Mapping) -> nn.Module:
    """Return the model of `config`, which has another stem than `backbone` and is else the same.

    Stem and projection are random, after torch's seed; all other weights are those of `backbone`
    itself, not copies.
    """
    kept = {k: v for k, v in architecture.section(config).items() if k in architecture.FRONT}
    fresh = new({**config, "num_hidden_layers": 1, "compression": kept}).state_dict()
    home = next(backbone.parameters()).device
    weights = {name: x.to(home) for name, x in fresh.items() if name.startswith(PARTS)}
    weights |= {n: x for n, x in backbone.state_dict().items() if not n.startswith(PARTS)}
    made = build(config)
    made.load_state_dict(weights, assign=True)
    for name in ("preprocessor", "readout"):
        if hasattr(backbone, name):
            setattr(made, name, getattr(backbone, name))
    return made.to(home)
