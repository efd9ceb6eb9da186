"""How sure a difference is: matched pairs, McNemar's test, a paired bootstrap, corrected p-values.

All of it counts errors per utterance.  The models are taken as they are: what another seed of
training would change is in none of these numbers, and utterances count as independent.
"""

import math

import numpy as np

ALPHA = 0.05
RESAMPLES = 2000
SEED = 1


def matched_pairs(errors, others) -> tuple[float, float]:
    """Return z and the two-sided p-value of the mean difference of two systems' errors (n,).

        z = mean(d) / (std(d) / √n),  d = errors - others,  p = 2 (1 - Φ(|z|))

    Gillick & Cox, ICASSP 1989; NIST's MAPSSWE, except that segments are whole utterances and not
    the stretches between words that both systems get right.  Φ needs some 50 utterances.
    """
    differences = np.asarray(errors, dtype=float) - np.asarray(others, dtype=float)
    if len(differences) < 2:
        return math.nan, 1.0  # one utterance shows nothing
    mean = differences.mean()
    spread = differences.std(ddof=1) / math.sqrt(len(differences))
    if mean == 0:
        return 0.0, 1.0
    z = mean / spread if spread else math.copysign(math.inf, mean)
    return float(z), math.erfc(abs(z) / math.sqrt(2))


def mcnemar(errors, others) -> tuple[float, float]:
    """Return z and the two-sided mid-p value of two systems that are right or wrong (n,), 0 or 1.

        b, c: utterances that one alone, that the other alone gets wrong;  X ~ Binomial(b + c, 1/2)
        z = (b - c) / √(b + c),  p = 2 P(X ≤ min(b, c)) - P(X = min(b, c))

    McNemar, Psychometrika 1947; mid-p: Fagerland, Lydersen & Laake, BMC Medical Research
    Methodology 2013, for which few utterances are enough.
    """
    errors, others = np.asarray(errors, dtype=bool), np.asarray(others, dtype=bool)
    b, c = int((errors & ~others).sum()), int((~errors & others).sum())
    if not b + c:
        return 0.0, 1.0
    below, term = 0, 1  # of 2 ** (b + c); whole numbers, so that no term is lost
    for k in range(min(b, c)):
        below += term
        term = term * (b + c - k) // (k + 1)
    return (b - c) / math.sqrt(b + c), (2 * below + term) / 2 ** (b + c)


def holm(p) -> np.ndarray:
    """Return p-values (n,) corrected so that any false rejection among them is rarer than alpha.

    Holm, Scandinavian Journal of Statistics 1979: the k-th smallest of n times n + 1 - k, never
    below the one before.
    """
    p = np.asarray(p, dtype=float)
    order = p.argsort(kind="stable")
    corrected = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def resampled_rates(
    errors, lengths, resamples: int = RESAMPLES, seed: int = SEED, chunk: int = 100
) -> np.ndarray:
    """Return error rates in percent (resamples, systems) over utterances drawn with replacement.

    `errors` (systems, utterances) and reference `lengths` (utterances,); a rate is the sum of one
    over the sum of the other.  All systems see the same draws, so that two columns may be
    subtracted: Bisani & Ney, ICASSP 2004.  Whole numbers give the same bytes everywhere.
    """
    errors, lengths = np.asarray(errors, dtype=float), np.asarray(lengths, dtype=float)
    count = len(lengths)
    random = np.random.default_rng(seed)
    rates = np.empty((resamples, len(errors)))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        # how often each utterance is drawn: (size, utterances)
        drawn = random.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        times = times.astype(float)
        rates[start : start + size] = 100 * (times @ errors.T) / (times @ lengths)[:, None]
    return rates


def interval(values) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of resampled values (resamples,)."""
    low, high = np.quantile(values, (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)
