"""Early exit: branches and entropies from the formula, who leaves where, and what that costs."""

import json

import pytest
import torch
from matplotlib.collections import LineCollection

import profile_student
from helpers import synthetic_results
from helpers.backbones import backbone, with_task_head
from helpers.compressing import compress
from helpers.figures import words
from helpers.formulas import linear
from helpers.results import RUN
from speech_pareto.compression import recipes
from speech_pareto.models import backbone as model
from speech_pareto.models import operations
from speech_pareto.models.hidden_states import states
from speech_pareto.models.layers.exit_branches import leaving
from speech_pareto.profiling import cost
from speech_pareto.profiling.exits import WHOLE, Depths, heard
from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.figures import fronts
from speech_pareto.reporting.tables import points, results_table, wording
from speech_pareto.runtime import result
from speech_pareto.study import cells
from speech_pareto.study.quantities import QUANTITIES
from speech_pareto.training import loop

KINDS = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
SMALL = {"steps": 1, "units": 6, "unit_seconds": 1.0}
LENGTHS = (4000, 2680, 3200, 1500)  # samples; 50, 33, 40 and 18 frames
SETTINGS = {"audio_seconds": 1, "batch": 1, "repeats": 2, "threads": 1, "cores": 1}


def audio():
    waves = torch.randn(4, 4000, generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(4000) < torch.tensor(LENGTHS)[:, None]).long()
    return waves * mask, mask


def entropies(student):
    """Return E (layers - 1, utterances) in float64 for `audio`, from the states of all layers."""
    waves, mask = audio()
    exits, rows = student.encoder.early_exit, []
    with torch.no_grad(), leaving(student, len(student.encoder.layers)):
        found = states(student, {"input_values": waves, "attention_mask": mask})
    for branch, hidden in enumerate(found[1:-1]):
        logits = hidden.double() @ exits.weight[branch].double().T + exits.bias[branch].double()
        p = logits.softmax(-1)
        each = -torch.special.xlogy(p, p).sum(-1)
        rows.append([own[: n // 80].mean() for own, n in zip(each, LENGTHS, strict=True)])
    return torch.tensor(rows)


def student_of(kind, **settings):
    """Return a student whose branches are sharp and random, so that utterances differ."""
    student, solution = compress([{"early_exit": SMALL}], backbone(kind, **settings), 0.0)
    assert solution.reason is None and solution.ratio == 0
    exits = student.encoder.early_exit
    generator = torch.Generator().manual_seed(1)
    exits.weight.normal_(0, 0.4, generator=generator)
    return student.eval()


def between(values):
    """Return a threshold between the numbers (n,) of a tensor, in the middle half's widest gap."""
    ranked = values.sort().values
    gaps = ranked[1:] - ranked[:-1]
    skipped = len(gaps) // 4
    place = skipped + int(gaps[skipped : len(gaps) - skipped].argmax())
    return float((ranked[place] + ranked[place + 1]) / 2)


def first_below(values, threshold):
    """Return behind which layer each utterance leaves, written from the definition."""
    number = len(values) + 1
    return [
        next((k for k, own in enumerate(column, 1) if own <= threshold), number)
        for column in values.T.tolist()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_each_leaves_behind_the_first_layer_that_is_sure(kind):
    student = student_of(kind)
    values = entropies(student)
    threshold = student.encoder.early_exit.threshold = between(values[0])
    expected = first_below(values, threshold)
    assert len(set(expected)) > 1
    waves, mask = audio()
    with torch.no_grad():
        with leaving(student, 3):
            whole = states(student, {"input_values": waves, "attention_mask": mask})
        found = states(student, {"input_values": waves, "attention_mask": mask})
        assert student.encoder.early_exit.depths == expected
        for row, (depth, samples) in enumerate(zip(expected, LENGTHS, strict=True)):
            frames = samples // 80
            for layer, hidden in enumerate(found):  # what is not run repeats what was last
                own = whole[min(layer, depth)][row, :frames]
                assert torch.allclose(hidden[row, :frames], own, atol=1e-5), (row, layer)
            alone = student(waves[row : row + 1, :samples]).last_hidden_state[0]
            assert student.encoder.early_exit.depths == [depth]
            assert torch.allclose(alone, found[-1][row, :frames], atol=1e-5)


def test_layers_run_for_those_that_stay_alone():
    student = student_of("wavlm")
    values = entropies(student)
    student.encoder.early_exit.threshold = between(values[0])
    expected, seen = first_below(values, student.encoder.early_exit.threshold), []
    for layer in student.encoder.layers:
        layer.attention.register_forward_hook(lambda m, args, out: seen.append(len(out[0])))
    with torch.no_grad():
        student(audio()[0], attention_mask=audio()[1])
    there = [sum(depth > index for depth in expected) for index in range(3)]
    assert seen == [number for number in there if number]


def test_a_task_trains_through_the_exits_and_leaves_the_branches():
    student = student_of("hubert")
    values = entropies(student)
    student.encoder.early_exit.threshold = between(values[0])
    deepest = max(first_below(values, student.encoder.early_exit.threshold))
    before = student.encoder.early_exit.weight.clone()
    with loop.every_layer_runs(student):
        student(audio()[0], attention_mask=audio()[1]).last_hidden_state.square().sum().backward()
    reached = [layer.feed_forward.output_dense.weight.grad for layer in student.encoder.layers]
    assert [grad is not None for grad in reached] == [index < deepest for index in range(3)]
    torch.optim.SGD(student.parameters(), 0.1).step()
    assert torch.equal(student.encoder.early_exit.weight, before)


def test_branches_learn_what_the_whole_teacher_says():
    """The loss is the formula, and training lowers it and the entropy; the backbone stays."""
    teacher = backbone("hubert")
    step = recipes.make({"early_exit": {"first": 2, "units": 4}})
    torch.manual_seed(0)
    head = torch.nn.Linear(48, 4)
    branches = torch.nn.ModuleList([torch.nn.Linear(48, 4)])
    waves, mask = audio()
    batch = {"input_values": waves, "attention_mask": mask}
    found = step.loss(branches, teacher, teacher, head, batch).item()
    with torch.no_grad():
        hidden = [x.double() for x in states(teacher, batch)]
    real = torch.arange(50) < torch.tensor([n // 80 for n in LENGTHS])[:, None]
    wanted = linear(head, hidden[3]).argmax(-1)
    logs = linear(branches[0], hidden[2]).log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
    assert found == pytest.approx(-logs[real].mean().item(), rel=1e-5)
    made = [compress([{"early_exit": SMALL | {"steps": n}}], teacher, 0.0)[0] for n in (1, 60)]
    short, long = (entropies(student.eval()).mean() for student in made)
    assert long < short
    for name, parameter in made[1].named_parameters():
        assert torch.equal(parameter, teacher.state_dict()[name])


CHAINS = (["early_exit"], ["low_rank", "early_exit", "int8"], ["frame_pooling", "early_exit"])


@pytest.mark.parametrize("names", CHAINS)
def test_it_comes_back_from_disk(names, tmp_path):
    steps = [{"early_exit": SMALL} if name == "early_exit" else name for name in names]
    student, solution = compress(steps, backbone("wavlm"), 0.2 if "low_rank" in steps else 0.0)
    assert solution.reason is None
    student.encoder.early_exit.weight.normal_(generator=torch.Generator().manual_seed(1))
    model.save(student.eval(), tmp_path / "student")
    again, (waves, mask) = model.load(tmp_path / "student"), audio()
    with torch.no_grad():
        for own in (student, again):
            own.encoder.early_exit.threshold = between(entropies(student)[0])
        found = [own(waves, attention_mask=mask).last_hidden_state for own in (student, again)]
    assert torch.equal(*found)
    assert student.encoder.early_exit.depths == again.encoder.early_exit.depths
    assert len(set(again.encoder.early_exit.depths)) > 1
    assert "early_exit.weight" not in " ".join(name for name, _ in again.named_parameters())


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            [{"early_exit": {"first": 12}}],
            "first is 12, and behind the last of 12 layers all leave",
        ),
        (["early_exit", "layer_drop"], "utterances leave the model early already"),
        (["early_exit", "gptq"], "utterances leave the model early already"),
        (["early_exit", "frame_pooling"], "pool frames before that"),
        ([{"attention_reuse": {"ratio": 0.07}}, "early_exit"], "needs all its utterances"),
        ([{"fithubert": {"ratio": 0.3}}, "early_exit"], "brings back the frames"),
    ],
)
def test_what_nothing_can_leave_is_said(steps, said):
    config = {"model_type": "hubert"}
    assert said in recipes.solve(steps, config, 0.3).reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_macs_of_each_depth_are_planned_as_they_are_measured(kind, depth):
    student = student_of(kind)
    config, wave = model.describe(student), cost.noise(0.25)
    with leaving(student, depth):
        measured = cost.macs(student, wave)
    assert operations.macs(config, 0.25, depth)["total"] == measured
    assert student.encoder.early_exit.depths == [depth]


def test_means_and_percentiles_are_over_utterances():
    depths = Depths({1: 0.25, 2: 0.7, 3: 0.05}, 20)
    found = {1: 10.0, 2: 20.0, 3: 100.0}
    assert depths.mean(found) == pytest.approx(2.5 + 14 + 5)
    assert depths.high(found) == 20.0  # nineteen of twenty cost no more
    assert Depths({1: 0.94, 3: 0.06}, 100).high(found) == 100.0
    timed = {
        d: {"seconds": x, "teacher_seconds": 60.0, "speedup": 60 / x, "energy_source": "RAPL"}
        | {"speedup_low": 50 / x, "speedup_high": 70 / x}
        for d, x in found.items()
    }
    over = cost.over_utterances(timed, depths)
    assert over["seconds"] == pytest.approx(21.5) and over["energy_source"] == "RAPL"
    assert over["speedup"] == pytest.approx(60 / 21.5)
    assert (over["seconds_p95"], over["speedup_p95"]) == (20.0, 3.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A teacher and its student with exits, fine-tuned, as far as a profile can tell."""
    root = tmp_path_factory.mktemp("exits")
    torch.manual_seed(0)
    teacher = model.new(model.tiny_config(hidden=48, layers=4, heads=4, ffn=96, pos_conv=16))
    model.save(teacher, root / "teacher")
    student, _ = compress([{"early_exit": SMALL}], teacher, 0.0)
    student.encoder.early_exit.weight.normal_(0, 0.4, generator=torch.Generator().manual_seed(1))
    settings = with_task_head(student, root / "student", unit="phones", symbols=["a", "b"])
    (root / "student" / "provenance.json").write_text(json.dumps({"task": settings}))
    return root


def test_a_profile_is_a_distribution(folders, prompts_en, tmp_path):
    student = model.load(folders / "student")
    found = heard(student, folders / "student", [prompts_en])
    assert found.utterances > 20 and sum(found.shares.values()) == pytest.approx(1)
    assert heard(model.load(folders / "teacher"), folders / "teacher", [prompts_en]) is WHOLE
    assert heard(student, folders / "student", []) == Depths({4: 1.0})  # as a rehearsal has it
    config = json.loads((folders / "student" / "config.json").read_text())
    config["compression"]["early_exit"]["threshold"] = middle(student, prompts_en)
    (folders / "student" / "config.json").write_text(json.dumps(config))
    file = tmp_path / "profile.json"
    folder = folders / "student"
    profile_student.main(SETTINGS, folders / "teacher", folder, RUN, file, corpora=[prompts_en])
    found = result.read(file)["cost"]
    shares = {int(depth): share for depth, share in found["exits"]["layers"].items()}
    assert len(shares) > 1 and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    macs = {d: operations.macs(config, 1, d)["total"] for d in shares}
    mean = sum(share * macs[d] for d, share in shares.items())
    assert found["macs_per_second"] == pytest.approx(mean, rel=1e-4)
    assert found["macs"]["1"]["total"] == pytest.approx(mean, rel=1e-4)
    assert found["exits"]["macs_per_second_p95"] in macs.values()
    assert found["exits"]["macs_per_second_p95"] > found["macs_per_second"]
    assert found["exits"]["mean_layers"] == pytest.approx(
        sum(d * share for d, share in shares.items()), rel=1e-4
    )
    numbers = found["parameters"]
    branches = 3 * 6 * (48 + 1)
    assert (found["ratio"], numbers["exits"]) == (0, branches)
    assert numbers["with_heads"] == numbers["total"] + numbers["task_head"] + branches
    assert found["bytes_fp32"] == found["bytes"]
    assert found["wall_clock"]["seconds_p95"] > 0 and found["wall_clock"]["speedup_p95"] > 0


def middle(student, corpus):
    """Return a threshold at which some of a corpus's utterances leave early, and some do not."""
    from speech_pareto.data.corpus import read

    exits, found = student.encoder.early_exit, []
    with torch.no_grad(), leaving(student, 4):
        for utterance in read(corpus)[:10]:
            wave = torch.from_numpy(utterance.wave())[None]
            hidden = student(wave, output_hidden_states=True).hidden_states[1:4]
            real = torch.ones(1, hidden[0].shape[1]).bool()
            found.append([exits.entropy(x, k, real).item() for k, x in enumerate(hidden, 1)])
    return between(torch.tensor(found)[:, 0])


def test_costs_of_a_task_are_known_of_its_own_utterances():
    study = {"recipes": {"exit": [{"early_exit": {}}], "cut": [{"low_rank": {}}]}}
    study["tasks"] = {"phones": {"start": "backbone"}}
    assert cells.scope_of(study, "exit", "phones") == "phones"
    assert cells.scope_of(study, "cut", "phones") == "any"


def test_tables_and_figures_show_mean_and_percentile(tmp_path):
    metrics, profiles = synthetic_results.write(tmp_path)
    for file in (file for file in profiles if "low-rank" in file.parts):
        value = json.loads(file.read_text())
        own = value["cost"]
        own["exits"] = {"utterances": 9, "layers": {"2": 0.5, "6": 0.5}, "mean_layers": 4.0}
        own["exits"]["macs_per_second_p95"] = 1.5 * own["macs_per_second"]
        slow = {"seconds_p95": 2 * own["wall_clock"]["seconds"]}
        own["wall_clock"] |= slow | {"speedup_p95": own["wall_clock"]["speedup"] / 2}
        result.write(file, value)
    read = (results_table.read_results(files) for files in (metrics, profiles))
    table = results_table.build(*read)
    columns = ["mean_layers", "macs_per_second_p95", "seconds_p95", "paired_seconds_p95"]
    assert table.loc[table["recipe"] != "low-rank", columns].isna().all(axis=None)
    rows = table[table["recipe"] == "low-rank"]
    assert rows["paired_seconds_p95"].tolist() == pytest.approx(2 * rows["paired_seconds"])
    summary = results_table.summarise(table)
    row = summary[summary["recipe"] == "low-rank"].iloc[0]
    assert row["macs_per_second_p95"] == pytest.approx(1.5 * row["macs_per_second"])
    printed = points.texts(row)
    for name in ("macs_per_second", "seconds"):
        one = QUANTITIES[name]
        text = f"{one.form(row[one.column])} (p95 {one.form(row[one.high])})"
        assert printed[name] == text and text in leaderboard.markdown(table)
        figure = fronts.pareto(summary, "phones", name)
        assert wording.SPREAD_TEXT in " ".join(words(figure).split())
        ends = [bar.get_segments()[0] for bar in figure.axes[0].collections if is_whisker(bar)]
        drawn = summary[(summary["recipe"] == "low-rank") & (summary["task"] == "phones")]
        found = {(round(a, 9), round(b, 9)) for (a, _), (b, _) in ends}
        pairs = zip(drawn[one.column], drawn[one.high], strict=True)
        assert found == {(round(a, 9), round(b, 9)) for a, b in pairs}
    assert wording.SPREAD_TEXT in leaderboard.markdown(table)
    assert wording.SPREAD_TEXT in " ".join(leaderboard.front_text(table).split())
    assert wording.SPREAD_TEXT not in words(fronts.pareto(summary, "phones", "parameters"))


def is_whisker(bar):
    """Return whether a collection of a figure is one level line, as that of an error bar."""
    if not isinstance(bar, LineCollection) or len(bar.get_segments()) != 1:
        return False
    (_, first), (_, second) = bar.get_segments()[0]
    return first == second
