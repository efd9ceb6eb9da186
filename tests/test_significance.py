"""The statistics do what they promise: right numbers, right coverage, few false alarms."""

import math

import numpy as np
import pytest
from scipy import stats

from speech_pareto.reporting.tables.significance import (
    ALPHA,
    holm,
    interval,
    matched_pairs,
    resampled_rates,
)


def corpus(random, count, rate, other_rate):
    """Return errors of two systems and reference lengths; hard utterances are hard for both."""
    lengths = random.integers(5, 40, count)
    hardness = random.uniform(0.5, 1.5, count)  # mean 1, whatever the length
    errors = [random.binomial(lengths, r * hardness) for r in (rate, other_rate)]
    return np.array(errors), lengths


def test_z_by_hand():
    # differences 1, 0, 2, -1, 1, 0: mean 1/2, squared deviations 7 - 6/4 = 5.5, variance 5.5 / 5
    z, p = matched_pairs([3, 2, 4, 0, 1, 5], [2, 2, 2, 1, 0, 5])
    assert z == pytest.approx(0.5 / math.sqrt(1.1 / 6), rel=1e-14)
    assert p == pytest.approx(2 * stats.norm.sf(1.1677484162422844), rel=1e-12)
    assert matched_pairs([2, 2, 2, 1, 0, 5], [3, 2, 4, 0, 1, 5]) == (-z, p)


@pytest.mark.parametrize(("count", "tolerance"), [(200, 2e-2), (20_000, 2e-4)])
def test_a_paired_t_test_in_the_limit(count, tolerance):
    errors, _ = corpus(np.random.default_rng(1), count, 0.3, 0.3)
    errors = errors.astype(float)
    z, p = matched_pairs(*errors)
    expected = stats.ttest_rel(*errors)
    assert z == pytest.approx(expected.statistic, rel=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=tolerance)


def test_nothing_to_tell_apart():
    assert matched_pairs([1, 2, 3], [1, 2, 3]) == (0.0, 1.0)
    assert matched_pairs([1, 2], [2, 1]) == (0.0, 1.0)
    assert matched_pairs([2, 3, 4], [1, 2, 3]) == (math.inf, 0.0)
    assert matched_pairs([7], [1])[1] == 1.0


def test_holm_by_hand():
    # .005 × 4, .01 × 3, .03 × 2, then .04 × 1, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_false_alarms_are_as_many_as_promised():
    random = np.random.default_rng(2)
    families, size = 300, 10
    p = np.empty((families, size))
    for family in range(families):
        for k in range(size):
            p[family, k] = matched_pairs(*corpus(random, 100, 0.2, 0.2)[0])[1]
    # 3,000 tests: 5 % with a standard deviation of 0.4; 300 families: 5 % with one of 1.3
    assert (p < ALPHA).mean() == pytest.approx(ALPHA, abs=0.012)
    assert (p < ALPHA).any(axis=1).mean() > 0.3  # 1 - 0.95 ** 10 = 0.4
    assert np.mean([(holm(row) < ALPHA).any() for row in p]) < ALPHA + 0.03


def test_intervals_hold_the_true_difference():
    random = np.random.default_rng(3)
    held, rejected = [], []
    for simulation in range(300):
        errors, lengths = corpus(random, 150, 0.25, 0.20)
        rates = resampled_rates(errors, lengths, resamples=400, seed=simulation)
        low, high = interval(rates[:, 0] - rates[:, 1])
        held.append(low < 5.0 < high)
        rejected.append(not low < 0 < high)
    # 95 % with a standard deviation of 1.3
    assert np.mean(held) == pytest.approx(1 - ALPHA, abs=0.035)
    assert np.mean(rejected) > 0.9


def test_pairs_are_drawn_together():
    errors, lengths = corpus(np.random.default_rng(4), 200, 0.3, 0.3)
    rates = resampled_rates(errors, lengths)
    paired = np.std(rates[:, 0] - rates[:, 1])
    # what is drawn for one system does not depend on the others
    assert (resampled_rates(errors[1:], lengths)[:, 0] == rates[:, 1]).all()
    alone = resampled_rates(errors[:1], lengths, seed=7)[:, 0]
    assert paired < 0.95 * np.std(alone - rates[:, 1])


def test_rates_by_their_definition():
    errors, lengths = corpus(np.random.default_rng(5), 30, 0.3, 0.4)
    draws = np.random.default_rng(9).integers(30, size=(8, 30))
    expected = [[100 * e[d].sum() / lengths[d].sum() for e in errors] for d in draws]
    found = resampled_rates(errors, lengths, resamples=8, seed=9)
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_the_same_bytes_for_a_seed():
    errors, lengths = corpus(np.random.default_rng(6), 101, 0.3, 0.4)
    rates = resampled_rates(errors, lengths, resamples=250)
    assert rates.tobytes() == resampled_rates(errors, lengths, resamples=250).tobytes()
    assert rates.tobytes() == resampled_rates(errors, lengths, resamples=250, chunk=33).tobytes()
    assert rates.tobytes() != resampled_rates(errors, lengths, resamples=250, seed=2).tobytes()
