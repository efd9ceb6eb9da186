"""Hard-concrete gates on a backbone."""

import torch

from speech_pareto.compression.parts import hard_concrete_gates


def gating_of(gated, rate=0.02, drops=(0.2, 0.5), stem=None):
    """Return hard-concrete gates on a backbone, whose `stem` may have some already."""
    generator = torch.Generator().manual_seed(0)

    def gates(layer, kind, count):
        return hard_concrete_gates.Gates(count, drops[kind], rate, generator)

    return hard_concrete_gates.Gating(gated, gates, rate, stem)
