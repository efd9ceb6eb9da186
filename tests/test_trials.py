"""Trials of verification: which are made or listed, error rates, costs and their intervals."""

import itertools
from collections import Counter

import numpy as np
import pytest

from speech_pareto.data.corpus import Utterance
from speech_pareto.tasks import detection, trial_list, trials
from speech_pareto.tasks.detection import Trials, curve


def utterance(name, speaker="", split="test", corpus="own", language="en"):
    """Return an utterance without audio."""
    return Utterance(name, "", "", "", speaker, language, split, 0, 16_000, corpus)


def random_scores(seed, targets=40, others=60, digits=3):
    """Return scores of targets above those of others, some of them equal."""
    random = np.random.default_rng(seed)
    scores = np.concatenate([random.normal(1, 1, targets), random.normal(0, 1, others)])
    return scores.round(digits), np.arange(targets + others) < targets


def by_counting(scores, target, threshold):
    """Return shares of misses and of false alarms."""
    return np.mean(scores[target] < threshold), np.mean(scores[~target] >= threshold)


@pytest.mark.parametrize(
    ("targets", "others", "percent"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0),
        ([0.1, 0.2], [0.9, 0.8], 100),
        ([0.9, 0.3], [0.4, 0.1], 50),
        ([0.9, 0.8, 0.7, 0.2], [0.6, 0.1, 0.0, -0.1], 25),
        ([0.5, 0.5], [0.5, 0.5], 50),  # nothing is told apart
        # of equal scores all are accepted or none: no miss and one alarm of two, or one miss of
        # four and no alarm; the line between them crosses the diagonal at a sixth
        ([0.9, 0.8, 0.7, 0.6], [0.6, 0.1], 100 / 6),
    ],
)
def test_equal_error_rates_by_hand(targets, others, percent):
    scores = np.array([*targets, *others])
    target = np.arange(len(scores)) < len(targets)
    assert 100 * curve(scores, target).eer() == pytest.approx(percent)


@pytest.mark.parametrize(("seed", "digits"), [(0, 6), (1, 1), (2, 0)])
def test_equal_error_rates_are_those_of_scikit_learns_curve(seed, digits):
    metrics = pytest.importorskip("sklearn.metrics")
    optimize = pytest.importorskip("scipy.optimize")
    scores, target = random_scores(seed, digits=digits)
    alarms, hits, _ = metrics.roc_curve(target, scores, drop_intermediate=False)
    wanted = optimize.brentq(lambda x: 1 - x - np.interp(x, alarms, hits), 0, 1)
    assert curve(scores, target).eer() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.9])
def test_costs_of_detection_are_those_of_all_thresholds(p):
    scores, target = random_scores(3, digits=1)
    costs = []
    for threshold in [*np.unique(scores), np.inf]:
        misses, alarms = by_counting(scores, target, threshold)
        costs.append((p * misses + (1 - p) * alarms) / min(p, 1 - p))
    assert curve(scores, target).min_dcf(p) == pytest.approx(min(costs), abs=1e-12)
    # known by hand: 1 of 2 targets is above all others, so half of the misses and no false alarm
    half = curve(np.array([0.9, 0.1, 0.5, 0.4]), np.array([True, True, False, False]))
    assert half.min_dcf(0.01) == pytest.approx(0.5)
    nothing = curve(np.zeros(4), np.array([True, True, False, False]))
    assert nothing.min_dcf(p) == pytest.approx(1.0)


def test_the_threshold_is_where_errors_are_equal():
    for seed in range(5):
        scores, target = random_scores(seed, 50, 50)
        threshold = curve(scores, target).threshold()
        misses, alarms = by_counting(scores, target, threshold)
        assert abs(misses - alarms) <= 0.02 + 1e-9  # a trial more or less of 50
    far = curve(np.array([0.8, 0.2]), np.array([True, False]))
    assert far.threshold() == pytest.approx(0.5)  # in the middle: rounding turns no decision


def test_trials_that_count_often_are_trials_that_stand_often():
    scores, target = random_scores(4)
    times = np.random.default_rng(0).integers(0, 3, len(scores))
    again = curve(np.repeat(scores, times), np.repeat(target, times))
    weighted = curve(scores, target, times.astype(float))
    assert weighted.eer() == pytest.approx(again.eer(), abs=1e-12)
    assert weighted.min_dcf(0.05) == pytest.approx(again.min_dcf(0.05), abs=1e-12)
    both = curve(scores, target, np.stack([times, np.ones_like(times)]).astype(float))
    assert both.eer() == pytest.approx([again.eer(), curve(scores, target).eer()], abs=1e-12)


def test_draws_are_of_utterances():
    places = np.arange(40)
    chain = Trials(places, (places + 1) % 40, places % 2 == 0)
    times = detection.draws(chain, 5000, np.random.default_rng(0))
    assert (times == np.round(times)).all()
    together = np.corrcoef(times.T)
    assert together[0, 1] > 0.2  # they share an utterance
    assert abs(together[0, 20]) < 0.1


def test_draws_without_either_sort_count_all_trials_once():
    few = Trials(np.array([0, 2]), np.array([1, 3]), np.array([True, False]))
    times = detection.draws(few, 1000, np.random.default_rng(0))
    assert (times.min(1) > 0).all() and ((times == 1).all(1)).sum() > 500
    values = detection.resampled(few, [np.array([0.9, 0.1])], [0.05])
    assert values.shape == (detection.RESAMPLES, 1, 2) and (values == 0).all()


def test_intervals_hold_what_another_sample_of_utterances_gives():
    """Voices and recordings vary: the bounds should hold the rate of all about 95 times of 100."""

    def sample(random, count=24, voices=8):
        speakers = np.arange(count) % voices
        bias = random.normal(0, 0.5, count)  # of a recording, in all its trials
        pairs = np.array(list(itertools.combinations(range(count), 2)))
        same = speakers[pairs[:, 0]] == speakers[pairs[:, 1]]
        scores = 2.0 * same + bias[pairs].sum(1) + random.normal(0, 1, len(pairs))
        return Trials(pairs[:, 0], pairs[:, 1], same), scores

    random, held, rates = np.random.default_rng(1), [], []
    for _ in range(40):
        pairs, scores = sample(random)
        drawn = detection.resampled(pairs, [scores])[:400, 0, 0]
        held.append(np.quantile(drawn, (0.025, 0.975)))
        rates.append(float(curve(scores, pairs.target).eer()))
    truth = np.mean(rates)
    inside = sum(low <= truth <= high for low, high in held)
    assert inside >= 34  # 38 of 40 expected; fewer than 34 would have a chance below 2 %


def test_resampling_repeats_and_does_not_tell_chunks():
    scores, target = random_scores(5, 20, 20)
    places = np.arange(40)
    pairs = Trials(places, (places + 1) % 40, target)
    values = detection.resampled(pairs, [scores, scores / 2])
    assert values.tobytes() == detection.resampled(pairs, [scores, scores / 2], chunk=77).tobytes()
    assert (values[:, 0] == values[:, 1]).all()  # halved scores stand in the same order


def corpus(sizes, split="test"):
    """Return utterances of speakers, as many as `sizes` says of each."""
    return [
        utterance(f"{name}/{i}", name, split) for name, size in sizes.items() for i in range(size)
    ]


def pairs_of(data, found):
    """Return made trials as a list of (names, target)."""
    return [
        (frozenset((data[a].id, data[b].id)), bool(target))
        for a, b, target in zip(*found, strict=True)
    ]


def made(data, most=10_000, seed=1):
    return trials.made(data, [one.speaker for one in data], most, seed)


@pytest.mark.parametrize("most", [10, 61, 10_000])
def test_made_trials_are_balanced_distinct_and_true(most):
    data = corpus({"a": 9, "b": 4, "c": 1, "d": 6})
    found = made(data, most)
    told = pairs_of(data, found)
    assert len(set(told)) == len(told) and all(len(names) == 2 for names, _ in told)
    assert all((len({name[0] for name in names}) == 1) == target for names, target in told)
    counts = Counter(target for _, target in told)
    # 9 * 8 / 2 + 4 * 3 / 2 + 6 * 5 / 2 pairs of one speaker there are
    assert counts[True] == counts[False] == min(most // 2, 57)


def test_made_trials_follow_from_names_and_seed_alone():
    data = corpus({"a": 20, "b": 20, "c": 20})
    told = set(pairs_of(data, made(data, 100)))
    assert told == set(pairs_of(data[::-1], made(data[::-1], 100)))
    assert told != set(pairs_of(data, made(data, 100, seed=2)))
    assert set(pairs_of(data, made(data, 60))) <= told  # fewer are a part of more


def test_few_trials_are_of_many_speakers():
    data = corpus({f"s{i}": 50 for i in range(40)})
    found = made(data, 200)
    own = [data[a].speaker for a, target in zip(found.first, found.target, strict=True) if target]
    assert len(set(own)) > 30  # of 100 pairs of 40 speakers


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"a": 5}, "5 utterances of 1 speaker has no non-target trial"),
        ({"a": 1, "b": 1, "c": 1}, "3 utterances of 3 speakers has no target trial"),
    ],
)
def test_a_split_without_either_sort_is_refused(sizes, said):
    with pytest.raises(ValueError, match=said):
        made(corpus(sizes))


def test_a_list_is_read_as_voxceleb_writes_it(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("1 a/1.wav a/2.wav\n\nnontarget a/1.wav b/1.wav\n")
    data = [utterance(name) for name in ("b/1.wav", "a/1.wav", "a/2.wav")]
    found = trials.listed(file, data, "test")
    told = [(frozenset(("a/1.wav", "a/2.wav")), True), (frozenset(("a/1.wav", "b/1.wav")), False)]
    assert pairs_of(data, found) == told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a a\n0 a b\n0 a c\n", "line 3: no usable utterance of test is 'c'"),
        ("1 a a\n0 a twice\n", "line 2: several corpora have 'twice'"),
        ("1 a a\n2 a b\n", "line 2: the label '2' must be one of 1, target"),
        ("1 a a\n0 a\n", "line 2: three fields expected"),
        ("1 a a\n", "no non-target trial: no pair of two speakers"),
        ("0 a b\n", "no target trial: no pair of one speaker"),
        ("", "no target trial"),
    ],
)
def test_mistakes_in_a_list_are_named(text, said, tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(text)
    data = [utterance(name) for name in ("a", "b", "twice", "twice")]
    with pytest.raises(ValueError, match=said):
        trials.listed(file, data, "test")


def test_a_list_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt: it is no UTF-8 text"):
        trial_list.read(tmp_path / "list.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        trial_list.read(tmp_path / "none.txt")


def test_rows_and_metrics_of_a_split():
    data = corpus({"a": 3, "b": 3}) + [utterance(f"c/{i}", "c", language="fr") for i in range(3)]
    found = made(data)
    scores = np.where(found.target, 0.9, 0.1)
    metrics, rows = trials.score(found, scores, data, [0.01, 0.05])
    assert metrics["eer"] == metrics["eer_high"] == metrics["min_dcf_0.01"] == 0
    assert metrics["utterances"] == 9 and metrics["trials"] == len(rows) == 18
    assert metrics["target_trials"] == 9
    assert metrics["by_language"] == {"en": {"eer": 0.0}}  # of `fr` there is one speaker
    assert {row["reference"] for row in rows} == {0, 1} and rows[0]["score"] == "0.900000"
