"""The contract that every method keeps on every kind of backbone."""

import copy

import pytest
import torch

from speech_pareto.compression import catalogue, method, recipes
from speech_pareto.models import architecture, sparsity
from speech_pareto.models import backbone as model
from speech_pareto.training import loop as training

KINDS = ("hubert", "wav2vec2", "wavlm")
RATIO = 0.2  # of the tiny backbones; those with transformers' defaults are in test_defaults.py
# Where numbers are rounded, differences of 1e-7 in what comes in can become whole steps.
ROUNDING = {"half_precision": 0.02, "int8": 0.1}
# Gates say which units go: the plan knows the size within half a row.
GATED = {"structured_self_pinching", "dphubert"}
ROW = architecture.Layer(tuple(range(6)), 160)
# Wide enough: oneDNN 3.12 gives noise for many 16-bit convolutions of under 32 channels on AMX.
SHAPE = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 160, "pos_conv": 8}
SHAPE |= {"num_conv_pos_embedding_groups": 2}
STEM = {"conv_dim": [32, 24], "conv_kernel": [10, 8], "conv_stride": [10, 8], "conv_bias": True}
BUCKETS = {"num_buckets": 16, "max_bucket_distance": 40}


def backbone(kind, **settings):
    """Return a tiny random backbone in which every parameter matters."""
    more = BUCKETS if kind == "wavlm" else {}
    config = model.tiny_config(**{**SHAPE, **STEM, **more, "model_type": kind, **settings})
    torch.manual_seed(5)
    made = model.new(config)
    for parameter in sparsity.prunable(made).values():  # transformers begins with biases at zero
        torch.nn.init.normal_(parameter, std=0.1)
    for layer in made.encoder.layers:
        if hasattr(layer.attention, "rel_attn_embed"):
            torch.nn.init.normal_(layer.attention.rel_attn_embed.weight)
    return made


def train(student, loss, steps, **settings):
    """Stand in for the training loop: a few steps on noise."""
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        torch.manual_seed(step)  # as the loop does: a loss may draw masks
        audio = torch.randn(2, 2400, generator=generator)
        loss({"input_values": audio, "attention_mask": torch.ones_like(audio).long()}).backward()
        optimiser.step()
        optimiser.zero_grad()


def batches(number, seconds):
    """Stand in for calibration audio: noise, two utterances of unlike length in each batch."""
    generator = torch.Generator().manual_seed(0)
    length = round(seconds * 8000)
    mask = (torch.arange(length) < torch.tensor([[length], [length * 2 // 3]])).long()
    waves = [torch.randn(2, length, generator=generator) * mask for _ in range(number)]
    return [{"input_values": wave, "attention_mask": mask} for wave in waves]


def tune(student, penalty, steps, **settings):
    """Stand in for the fine-tuning on a task: a few steps towards silence."""
    step = iter(range(steps))

    def loss(batch):
        more = penalty(next(step))
        return student(**batch).last_hidden_state.square().mean() + more

    train(student, loss, steps)


def compress(steps, teacher, ratio, seed=1, loop=None):
    """Return the student and the solution of a recipe; `loop` is what trains."""
    student = copy.deepcopy(teacher)
    context = method.Context(seed, teacher, loop or train, batches, tune)

    def apply(step, plan):
        nonlocal student
        student = step.compress(student, plan, context)
        return model.describe(student)

    config = model.describe(teacher)
    solution = recipes.walk(recipes.make_all(steps), config, ratio, apply)
    return student, solution


def example(name):
    """Return a step with a method's smallest settings."""
    return {name: dict(catalogue.load(name).example)}


def ratio_of(name, ratio, config):
    """Return `ratio`, or what a method removes that leaves little choice."""
    if name in ("semi_structured", "attention_reuse", "lighthubert"):
        return recipes.solve([name], config, ratio).ratio
    return ratio if catalogue.load(name).removes else 0.0


@pytest.fixture(scope="module", params=KINDS)
def teacher(request):
    return backbone(request.param)


@pytest.fixture
def audio():
    """Return two utterances of unlike length, padded, and their attention mask."""
    waves, mask = (
        torch.randn(2, 4000, generator=torch.Generator().manual_seed(7)),
        torch.ones(2, 4000).long(),
    )
    waves[1, 2600:], mask[1, 2600:] = 0, 0
    return waves, mask


@pytest.mark.parametrize("name", catalogue.names())
def test_contract(name, teacher, audio, tmp_path):
    ratio = ratio_of(name, RATIO, model.describe(teacher))
    check_contract(example(name), ratio, teacher, audio, tmp_path)


def check_contract(step, ratio, teacher, audio, tmp_path, loop=None):
    """Check all that every method promises, with the settings of `step`."""
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
    slack = architecture.row_parameters(model.describe(teacher), ROW) if name in GATED else 0
    assert real == pytest.approx(solution.ratio)
    assert abs(real - planned.ratio) * total <= slack / 2 + 0.01
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


@pytest.mark.parametrize(
    "name", [name for name in catalogue.names() if catalogue.load(name).removes]
)
def test_what_cannot_be_reached_is_said(name, teacher):
    solution = recipes.solve([example(name)], model.describe(teacher), 0.99)
    assert "not 0.99" in solution.reason
    assert 0 < solution.ratio < 0.98
    at_bound = recipes.solve([example(name)], model.describe(teacher), solution.ratio)
    assert at_bound.reason is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", catalogue.names())
@pytest.mark.parametrize("size", ["base", "large"])
def test_published_sizes_are_solved_to_the_point(name, kind, size):
    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
    }
    config = {"model_type": kind, **(large if size == "large" else {})}
    for ratio in (0.1, 0.25, 0.5, 0.75):
        solution = recipes.solve([name], config, ratio_of(name, ratio, config))
        if solution.reason is None:
            assert abs(solution.ratio - ratio_of(name, ratio, config)) <= 0.005
    bounds = {"head_pruning": 0.28 if size == "base" else 0.31, "ffn_pruning": 0.62}
    if name in bounds:
        assert recipes.solve([name], config, 0.9).ratio == pytest.approx(bounds[name], abs=0.03)


@pytest.mark.parametrize("name", catalogue.names())
def test_pre_norm_and_log_mel_models_are_served_too(name):
    torch.manual_seed(5)
    teacher = model.new(model.tiny_config(**SHAPE, do_stable_layer_norm=True))
    ratio = ratio_of(name, 0.25, model.describe(teacher))
    student, solution = compress([example(name)], teacher, ratio)
    assert solution.reason is None
    assert student(torch.randn(1, 3000)).last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    "steps",
    [
        [{"layer_drop": {"ratio": 0.3}}, "head_pruning"],
        [{"low_rank": {"ratio": 0.2}}, "ffn_pruning", "identity"],
        [{"head_pruning": {"ratio": 0.05}}, {"low_rank": {"ratio": 0.2}}, "random_pruning"],
        ["low_rank", {"ffn_pruning": {"ratio": 0.1}}],
        [
            {"distillation": {"steps": 1, "ratio": 0.3}},
            {"ffn_pruning": {"ratio": 0.1}},
            "weight_pruning",
        ],
        [{"head_pruning": {"ratio": 0.1}}, "low_rank", "int8"],
        [{"ffn_pruning": {"ratio": 0.1}}, {"wanda": {"batch_seconds": 0.4}}, "half_precision"],
    ],
    ids=lambda steps: "-".join(next(iter(s)) if isinstance(s, dict) else s for s in steps),
)
def test_chains_end_at_the_asked_ratio(steps, teacher, audio, tmp_path):
    student, solution = compress(steps, teacher, 0.42)
    assert solution.reason is None
    model.save(student, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(
        again(audio[0]).last_hidden_state, student.eval()(audio[0]).last_hidden_state
    )


@pytest.mark.parametrize("thin", ["masking_distillation", "fithubert"])
@pytest.mark.parametrize(
    "name", [name for name in catalogue.names() if catalogue.load(name).removes]
)
def test_what_follows_a_thin_student_works_or_says_why_not(name, thin):
    torch.manual_seed(5)
    teacher = model.new(model.tiny_config(**SHAPE))
    steps = [{thin: {"steps": 0, "ratio": 0.3}}, example(name)]
    planned = recipes.solve(steps, model.describe(teacher), 0.5)
    if "the steps before it leave" in str(planned.reason):
        assert catalogue.load(name).full_rate or name == "distillation"
        return
    student, solution = compress(steps, teacher, 0.5)
    assert solution.reason == planned.reason
    assert student(torch.randn(1, 3000)).last_hidden_state.isfinite().all()


def test_only_what_compares_hidden_states_needs_them_alike():
    steps = [{"fithubert": {"steps": 0, "ratio": 0.3}}, {"distillation": {"steps": 1}}]
    reason = recipes.solve(steps, {"model_type": "hubert"}, 0.5).reason
    assert reason == "distillation: the steps before it leave fewer frames than the teacher has"
    steps[1] = {"distillation": {"steps": 0}}
    assert recipes.solve(steps, {"model_type": "hubert"}, 0.5).reason is None


def test_steps_with_their_own_ratio_must_add_up():
    steps = [{"layer_drop": {"ratio": 0.3}}, {"ffn_pruning": {"ratio": 0.2}}]
    config = {"model_type": "hubert"}
    assert recipes.solve(steps, config, 0.44).reason is None  # 1 - 0.7 * 0.8
    assert "can remove 0.4" in recipes.solve(steps, config, 0.6).reason
    too_much = recipes.solve([{"layer_drop": {"ratio": 0.5}}, "ffn_pruning"], config, 0.3)
    assert too_much.ratio == pytest.approx(0.5, abs=0.01) and too_much.reason


@pytest.mark.parametrize("name", [name for name in catalogue.names() if name != "identity"])
def test_nothing_follows_rounding(name):
    for last in ("int8", "half_precision"):
        solution = recipes.solve([last, name], {"model_type": "hubert"}, 0.5)
        assert f"{name}: the weights before it are" in solution.reason


def test_nothing_follows_zeros():
    solution = recipes.solve(
        [{"weight_pruning": {"ratio": 0.3}}, "low_rank"], {"model_type": "hubert"}, 0.5
    )
    assert "low_rank: it would undo the zeros" in solution.reason


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["head_prunning"], "did you mean 'head_pruning'"),
        ([{"low_rank": {"part": "ffn"}}], "did you mean 'parts'"),
        (
            [{"low_rank": {"parts": "all"}}],
            "parts: 'all' must be one of both, attention, ffn",
        ),
        ([{"distillation": {"steps": 1.5}}], "steps: 1.5 must be a whole number, at least 0"),
        ([{"distillation": {"layers": 0}}], "layers: 0 must be a whole number, at least 1"),
        ([{"head_pruning": {"ratio": 1.0}}], "ratio: 1.0 must be a number, at least 0 and below 1"),
        ([{"head_pruning": {}, "low_rank": {}}], "one method"),
        (["head_pruning", "low_rank"], "all but one of these need a ratio"),
        ([], "at least one step"),
    ],
)
def test_mistakes_in_a_recipe_are_named(steps, message):
    with pytest.raises(ValueError, match=message):
        recipes.make_all(steps)
