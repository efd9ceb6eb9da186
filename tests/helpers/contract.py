"""The contract that every method keeps, whatever the backbone."""

import pytest
import torch

from helpers.compressing import compress
from speech_pareto.compression import recipes
from speech_pareto.models import architecture, sparsity
from speech_pareto.models import backbone as model
from speech_pareto.training import loop as training

# Where numbers are rounded, differences of 1e-7 in what comes in can become whole steps.
ROUNDING = {"half_precision": 0.02, "int8": 0.1}
# Gates, or scores, say what goes: the sizing knows the size within half a row.
GATED = {"structured_self_pinching", "dphubert", "block_drop"}
ROW = architecture.Layer(tuple(range(6)), 160)


def check_contract(step, ratio, teacher, audio, tmp_path, loop=None, slack=0):
    """Check all that every method promises, with the settings of `step`.

    `slack` is how many parameters the plan may be wrong by.
    """
    waves, mask = audio
    name = next(iter(step))
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    planned = recipes.solve([step], model.describe(teacher), ratio)
    student, solution = compress([step], teacher, ratio, loop=loop)
    student.eval()

    # The ratio is hit, as planned, and is what the module really holds.
    assert planned.reason is None and solution.reason is None
    held = sum(p.numel() for p in student.parameters())
    zeros = architecture.section(model.describe(student)).get("zeros", 0)
    total = sum(p.numel() for p in teacher.parameters())
    real = 1 - (held - zeros) / total
    if name in GATED:
        slack = architecture.row_parameters(model.describe(teacher), ROW) / 2
    assert real == pytest.approx(solution.ratio)
    assert abs(real - planned.ratio) * total <= slack + 0.01
    assert abs(real - ratio) <= recipes.TOLERANCE
    found = {n: int((p == 0).sum()) for n, p in sparsity.prunable(student).items()}
    if not zeros:  # a softmax ignores this bias, so a new student's stays at zero
        found = {n: number for n, number in found.items() if not n.endswith("k_proj.bias")}
    assert sum(found.values()) == zeros

    # The teacher is untouched; the student has its interface, layer by layer.
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])
    ours = student(waves, attention_mask=mask, output_hidden_states=True)
    theirs = teacher(waves, attention_mask=mask, output_hidden_states=True)
    assert ours.last_hidden_state.shape[:2] == theirs.last_hidden_state.shape[:2]
    assert ours.last_hidden_state.shape[2] == student.config.hidden_size
    assert len(ours.hidden_states) == len(student.encoder.layers) + 1
    assert ours.last_hidden_state.isfinite().all()

    # An utterance does not feel its batch mates or its padding.
    samples = int(mask[1].sum())
    alone = student(waves[1:, :samples]).last_hidden_state
    together = ours.last_hidden_state[1:, : alone.shape[1]]
    assert torch.allclose(alone, together, atol=ROUNDING.get(name, 1e-5))

    # It comes back from disk bit for bit.
    model.save(student, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(again(waves, attention_mask=mask).last_hidden_state, ours.last_hidden_state)
    assert model.describe(again) == model.describe(student)

    # The same seed gives the same student.
    twin, _ = compress([step], teacher, ratio, loop=loop)
    for key, value in twin.state_dict().items():
        assert torch.equal(value, student.state_dict()[key]), key

    # It can be trained: a gradient reaches every parameter that is used, but int8 numbers.
    with training.every_layer_runs(again.train()):
        again(waves, attention_mask=mask).last_hidden_state.square().sum().backward()
    used = {n: p for n, p in again.named_parameters() if n != "masked_spec_embed"}
    assert not [n for n, p in used.items() if p.requires_grad and p.grad is None]
