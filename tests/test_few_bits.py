"""Few bits: grids, packing, GPTQ and SparseGPT from their formulas; files, loading and training."""

import copy

import numpy as np
import pytest
import torch

from helpers.backbones import backbone, cut
from helpers.compressing import batches, compress
from speech_pareto.compression import calibration, recipes
from speech_pareto.compression.methods import gptq, intx, sparse_gpt, weight_clustering
from speech_pareto.compression.parts import compensation
from speech_pareto.models import architecture, packed, quantisation, storage, surgery
from speech_pareto.models import backbone as model
from speech_pareto.profiling import cost
from speech_pareto.training import loop

KINDS = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
BASE = {"model_type": "hubert"}
STEP = {"batches": 3, "batch_seconds": 0.4}


@pytest.fixture
def wave():
    return torch.randn(2, 3000, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def weights():
    return torch.randn(5, 150, generator=torch.Generator().manual_seed(3)) ** 3 + 0.1


def on_the_grid(row, bits, zero_point):
    """Return scale and zero point of one group (columns,), in float64 but for the scale's fp16."""
    low, high = min(row.min(), 0.0), max(row.max(), 0.0)
    if not zero_point:
        low, high = -max(-low, high), max(-low, high)
    scale = float(np.float16((high - low) / (2**bits - 1)))
    return scale, round(-low / scale) if zero_point else 2 ** (bits - 1)


def nearest(value, scale, zero, bits):
    """Return the value of the grid that is nearest to one number."""
    return scale * (min(max(round(value / scale + zero), 0), 2**bits - 1) - zero)


@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_grid_is_the_formula(bits, zero_point, weights):
    linear = torch.nn.Linear(150, 5)
    linear.weight.data = weights.clone()
    packed.round_weights(linear, packed.grid(weights, bits, 64, zero_point))
    assert linear.scale.shape == (5, 3)  # 50 columns each
    for row, found in zip(weights.double().numpy(), linear.weight.double().numpy(), strict=True):
        for start in range(0, 150, 50):
            own = row[start : start + 50]
            scale, zero = on_the_grid(own, bits, zero_point)
            expected = [nearest(value, scale, zero, bits) for value in own]
            assert found[start : start + 50] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bits", range(2, 9))
def test_numbers_are_packed_without_a_gap(bits):
    for number in (1, 7, 8, 9, 1000):
        numbers = torch.randint(0, 2**bits, (number,), dtype=torch.uint8)
        small = packed.pack(numbers, bits)
        assert small.dtype == torch.uint8 and len(small) == storage.packed_bytes(number, bits)
        assert number * bits / 8 <= len(small) < number * bits / 8 + 3
        assert torch.equal(packed.unpack(small, bits, numbers.shape), numbers)


def test_hqq_is_the_formula(weights):
    bits, own = 3, packed.grid(weights, 3, None, True)
    found = intx.half_quadratic(weights, own)
    for index, row in enumerate(weights.double().numpy()):
        scale, zero = on_the_grid(row, bits, True)
        beta, best, least = 10.0, None, np.inf
        for _ in range(20):
            numbers = np.clip(np.round(row / scale + zero), 0, 7)
            error = row - scale * (numbers - zero)
            if (loss := (np.abs(error) ** 0.7).mean()) < least:
                best, least = zero, loss
            shrunk = np.maximum(np.abs(error) - np.maximum(np.abs(error), 1e-8) ** -0.3 / beta, 0)
            kept = np.sign(error) * shrunk
            zero = float(np.float16((numbers - (row - kept) / scale).mean()))
            beta *= 1.01
        assert found.zero[index, 0].item() == pytest.approx(best, abs=2e-3)
    assert not torch.equal(found.zero, own.zero)


def test_clusters_are_those_of_lloyd(weights):
    levels = weight_clustering.clusters(weights, 2)
    book = packed.Codebook(2, levels)
    found = book.weights(book.numbers(weights)).double().numpy()
    for index, row in enumerate(weights.double().numpy()):
        own = row.min() + (np.arange(4) + 0.5) / 4 * (row.max() - row.min())
        for _ in range(50):
            places = np.abs(row[:, None] - own).argmin(1)
            means = [row[places == k].mean() if (places == k).any() else own[k] for k in range(4)]
            own = np.sort(means)
        assert levels[index].double().numpy() == pytest.approx(own, rel=2e-3, abs=1e-4)
        nearest = own[np.abs(row[:, None] - own).argmin(1)]
        assert found[index] == pytest.approx(nearest, rel=2e-3, abs=1e-4)
    grid = packed.grid(weights, 2, None, True)
    even = grid.weights(grid.numbers(weights))
    assert ((found - weights.numpy()) ** 2).mean() < 0.7 * (even - weights).square().mean().item()


def brain_surgeon(weights, products, change):
    """Change columns in order; those that follow take what is best for ‖W X − Ŵ X‖², by inverses.

    `change(index, column)` in float64; the inverse of what is left is made anew for each column.
    """
    left, columns = weights.copy(), weights.shape[1]
    whole = products + 0.01 * products.diagonal().mean() * np.eye(columns)
    for index in range(columns):
        inverse = np.linalg.inv(whole[index:, index:])
        column = left[:, index].copy()
        changed = change(index, column)
        error = (column - changed) / inverse[0, 0]
        left[:, index:] -= error[:, None] * inverse[0]
        left[:, index] = changed
    return left


@pytest.fixture
def products():
    torch.manual_seed(4)
    frames = torch.randn(400, 40) @ torch.randn(40, 150) + torch.randn(400, 150)  # correlated
    return frames.double().T @ frames.double()


def test_gptq_is_the_greedy_update(weights, products):
    own = packed.grid(weights, 3, 64, True)
    choose = lambda *given: gptq.rounding(own, 150, *given)  # noqa: E731
    found = compensation.compensated(weights, products, choose)
    rows = weights.double().numpy()
    grids = [[on_the_grid(row[s : s + 50], 3, True) for s in (0, 50, 100)] for row in rows]

    def change(index, column):
        pairs = zip(column, grids, strict=True)
        return np.array([nearest(value, *own[index // 50], 3) for value, own in pairs])

    expected = brain_surgeon(rows, products.numpy(), change)
    assert found.numpy() == pytest.approx(expected, abs=1e-5)

    def error(changed):
        gap = changed - weights.double()
        return float((gap @ products * gap).sum())

    plain = own.weights(own.numbers(weights)).double()
    assert error(found) < 0.8 * error(plain)


def test_sparse_gpt_is_the_greedy_update(weights, products):
    choose = sparse_gpt.zeroing(300, (5, 150))  # 256 of the first 128 columns, 44 of the last 22
    found = compensation.compensated(weights, products, choose)
    whole = products.numpy() + 0.01 * products.diagonal().mean().item() * np.eye(150)
    sizes = [1 / np.linalg.inv(whole[i:, i:])[0, 0] for i in range(150)]
    gone = np.zeros((5, 150), dtype=bool)

    def change(index, column):
        return np.where(gone[:, index], 0.0, column)

    left = weights.double().numpy()
    for start, end, number in ((0, 128, 256), (128, 150, 44)):
        # What the columns before have left of the weights: all changes up to here, made again.
        now = brain_surgeon(left, products.numpy(), change) if start else left
        scores = now[:, start:end] ** 2 * np.array(sizes[start:end])
        lowest = np.argsort(scores.flatten(), kind="stable")[:number]
        gone[:, start:end] = np.isin(np.arange(scores.size), lowest).reshape(scores.shape)
    expected = brain_surgeon(left, products.numpy(), change)
    assert found.numpy() == pytest.approx(expected, abs=1e-8)
    assert int((found == 0).sum()) == 300


@torch.no_grad()
def test_products_are_those_of_real_frames():
    teacher, audio = backbone("hubert"), batches(2, 0.4)
    modules = surgery.linears(teacher.encoder.layers[1])
    products = calibration.input_products(teacher, modules, audio)
    norms = calibration.input_norms(teacher, modules, audio)
    for name in modules:
        assert torch.allclose(products[name].diagonal().sqrt(), norms[name])
    assert torch.equal(products["q_proj"], products["v_proj"])
    frames = [teacher(**x, output_hidden_states=True).hidden_states[1] for x in audio]
    real = [teacher._get_feature_vector_attention_mask(x.shape[1], b["attention_mask"])
            for x, b in zip(frames, audio, strict=True)]  # fmt: skip
    rows = torch.cat([x[mask] for x, mask in zip(frames, real, strict=True)]).double()
    assert torch.allclose(products["q_proj"], rows.T @ rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_named(kind):
    teacher = backbone(kind)
    found = {
        name: (len(module.weight), module.weight[0].numel())
        for name, module in teacher.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d) and "gru_rel_pos" not in name
    }
    assert storage.weights(model.describe(teacher)) == found


SHAPES = {
    "tied": lambda: compress([{"layer_tying": {"steps": 0}}], backbone("hubert"), 0.3)[0],
    "cut": lambda: cut(backbone("hubert", hidden=32, heads=4, ffn=48)),
    "time": lambda: compress([{"fithubert": {"steps": 0}}], backbone("hubert"), 0.3)[0],
    "log_mel": lambda: model.new(model.tiny_config(hidden=48, layers=2, heads=6, ffn=50)),
    "wavlm": lambda: backbone("wavlm"),
    "data2vec": lambda: backbone("data2vec-audio"),
}
FORMS = [{"intx": {"bits": 3, "group": 20}}, {"intx": {"bits": 5, "group": None, "stem": 8}}]
FORMS += [{"intx": {"zero_point": False}}, {"gptq": {"bits": 3, **STEP}}]
FORMS += [{"weight_clustering": {"bits": 3}}]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_folder_is_as_small_as_planned_and_comes_back(shape, wave, tmp_path):
    torch.manual_seed(1)
    teacher = SHAPES[shape]()
    for number, step in enumerate(FORMS):
        if shape == "time" and "gptq" in step:
            continue  # it needs all frames
        student, solution = compress([step], teacher, 0.0)
        assert solution.reason is None
        model.save(student, tmp_path / str(number))
        file = tmp_path / str(number) / "model.safetensors"
        header = 8 + int.from_bytes(file.open("rb").read(8), "little")
        assert file.stat().st_size - header == storage.stored_bytes(solution.config)
        again = model.load(tmp_path / str(number))
        assert model.describe(again) == solution.config
        with torch.no_grad():
            ours, theirs = (x(wave).last_hidden_state for x in (student.eval(), again))
        assert torch.equal(ours, theirs)


def test_base_fits_into_an_eighth():
    whole = storage.stored_bytes(BASE)
    sizes = {}
    for bits in (2, 3, 4):
        config = recipes.solve([{"intx": {"bits": bits, "group": None}}], BASE, 0).config
        sizes[bits] = whole / storage.stored_bytes(config)
    assert sizes == pytest.approx({2: 15.5, 3: 10.4, 4: 7.87}, abs=0.1)


@torch.no_grad()
def test_more_bits_are_nearer_and_calibration_helps(wave):
    teacher = backbone("hubert")
    audio = batches(3, 0.4)

    def error(step):
        student, _ = compress([step], teacher, 0.0)
        return sum(
            (student(**x).last_hidden_state - teacher(**x).last_hidden_state).square().mean()
            for x in audio
        ).item()

    plain = [error({"intx": {"bits": bits}}) for bits in (2, 3, 4, 8)]
    assert plain == sorted(plain, reverse=True)
    assert error({"intx": {"bits": 3, "rounding": "hqq"}}) < 0.95 * plain[1]
    assert error({"gptq": {"bits": 3, **STEP}}) < 0.8 * plain[1]


@torch.no_grad()
def test_sparse_gpt_is_nearer_than_wanda():
    teacher, audio = backbone("hubert"), batches(3, 0.4)

    def error(step):
        student, solution = compress([step], teacher, 0.4)
        assert solution.reason is None
        return sum(
            (student(**x).last_hidden_state - teacher(**x).last_hidden_state).square().mean()
            for x in audio
        ).item()

    assert error({"sparse_gpt": STEP}) < 0.7 * error({"wanda": STEP})


@pytest.mark.parametrize("step", [FORMS[0], FORMS[-1], {"intx": {"bits": 3, "rounding": "hqq"}}])
def test_few_bits_train_and_stay_few(step, wave, tmp_path):
    student, _ = compress([step], backbone("hubert"), 0.0)
    old = copy.deepcopy(student.state_dict())

    def loss(batch):
        return (student(batch).last_hidden_state - 1).square().mean(), {}

    before = loss(wave)[0].item()
    settings = loop.Training(steps=5, learning_rate=3e-2, precision="fp32")
    with quantisation.trainable(student):
        with torch.no_grad():
            assert loss(wave)[0].item() == pytest.approx(before, rel=1e-5)
        loop.train(student, lambda step, generator: wave, loss, settings, seed=1)
        trained = loss(wave)[0].item()
    assert trained < 0.9 * before
    assert loss(wave)[0].item() == pytest.approx(trained, rel=1e-4)  # rounding changes nothing
    new = student.state_dict()
    assert {k: (v.dtype, v.shape) for k, v in new.items()} == {
        k: (v.dtype, v.shape) for k, v in old.items()
    }
    key = "encoder.layers.1.feed_forward.intermediate_dense"
    for name in ("levels",) if "weight_clustering" in step else ("numbers", "scale"):
        assert not torch.equal(new[f"{key}.{name}"], old[f"{key}.{name}"])
    model.save(student, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(again(wave).last_hidden_state, student(wave).last_hidden_state)


def test_zeros_stay_zeros(wave, tmp_path):
    student, solution = compress(["weight_pruning", "intx"], backbone("hubert"), 0.3)
    assert solution.reason is None
    zeros = sum(cost.zero_weights(student))
    assert zeros >= 0.95 * architecture.section(solution.config)["zeros"]  # biases are some
    with quantisation.trainable(student):
        student(wave).last_hidden_state.square().mean().backward()
        torch.optim.Adam(student.parameters(), lr=1e-2).step()
    assert sum(cost.zero_weights(student)) >= zeros
    assert quantisation.computed_in(student) == "fp32, unpacked in each pass"
    sizes = cost.parameters(student)
    assert sizes["total"] - sizes["nonzero"] == architecture.section(solution.config)["zeros"]
    rounded, _ = compress([{"intx": {"bits": 2}}], backbone("hubert"), 0.0)
    assert sum(cost.zero_weights(rounded)) > 1000
    assert cost.parameters(rounded)["nonzero"] == cost.parameters(rounded)["total"]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (["weight_pruning", {"intx": {"rounding": "hqq"}}], "it would undo the zeros"),
        (["weight_pruning", "weight_clustering"], "it would undo the zeros"),
        (["intx", "int8"], "the weights before it are intx already"),
    ],
)
def test_what_cannot_be_rounded_is_said(recipe, said):
    assert said in recipes.solve(recipe, BASE, 0.3).reason


def test_mistakes_are_named():
    for settings, said in (
        ({"bits": 1}, "bits: 1 must be a whole number, at least 2"),
        ({"rounding": "hqq", "zero_point": False}, "there are none"),
        ({"group": 1}, "group: 1 must be"),
    ):
        with pytest.raises(ValueError, match=said):
            recipes.make({"intx": settings})
