"""The two scores that sum up SUPERB's ten tasks.

Figures are as SUPERB states them: rates and accuracies in percent, QbE's MTWV as it is. A system's
figures are a dict: {"PR": 5.41, "SF_F1": 88.53, ...} with the keys of `REFERENCE`.
"""

from collections.abc import Mapping, Sequence

from speech_pareto.runtime.suggest import unknown

# What superb_s calls 1000: the best of each task when the challenge at SLT 2022 was held
# (arXiv 2210.08634), as STaR (arXiv 2312.09040) prints it.
REFERENCE = {
    "PR": 3.53,
    "ASR": 3.62,
    "KS": 96.66,
    "QbE": 0.0736,
    "SID": 90.33,
    "ASV": 5.11,
    "SD": 5.62,
    "IC": 98.76,
    "SF_F1": 89.81,
    "SF_CER": 21.76,
    "ER": 67.62,
}
# ... and 0: filter banks. Papers also print KS 8.63, SID 0.00085, SD 10.55, IC 9.1, ER 35.39; only
# these give the scores of the leaderboard.
FBANK = {
    "PR": 82.01,
    "ASR": 23.18,
    "KS": 41.38,
    "QbE": 0.0058,
    "SID": 20.06,
    "ASV": 9.56,
    "SD": 10.05,
    "IC": 9.65,
    "SF_F1": 69.64,
    "SF_CER": 52.94,
    "ER": 48.24,
}
ERRORS = ("PR", "ASR", "ASV", "SD", "SF_CER")  # less is better
TASKS = 10  # slot filling counts once, with the mean of its two figures


def parse(pairs: Sequence[str]) -> dict[str, float]:
    """Return the figures that "PR=5.41", "QbE=0.0736", ... state.

    ValueError for a task that SUPERB has not, and for a figure that is no number.
    """
    figures = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in REFERENCE:
            raise ValueError(unknown("task", key, list(REFERENCE)))
        try:
            figures[key] = float(value)
        except ValueError:
            raise ValueError(f"{pair}: {value!r} is not a number") from None
    return figures


def overall(figures: Mapping[str, float]) -> float:
    """Return the mean of the eleven figures in percent, of errors what they leave of 100.

    As ARMHuBERT (arXiv 2305.11685) and others print it. ValueError if a figure is missing.
    """
    _complete(figures)
    shares = {key: 100 - value if key in ERRORS else value for key, value in figures.items()}
    shares["QbE"] *= 100
    return sum(shares[key] for key in REFERENCE) / len(REFERENCE)


def superb_s(figures: Mapping[str, float]) -> float:
    """Return the leaderboard's score: 0 for filter banks, 1000 for the reference in all tasks.

    ValueError if a figure is missing.
    """
    _complete(figures)
    gains = {key: (figures[key] - FBANK[key]) / (REFERENCE[key] - FBANK[key]) for key in REFERENCE}
    slots = (gains.pop("SF_F1") + gains.pop("SF_CER")) / 2
    return 1000 * (sum(gains.values()) + slots) / TASKS


def _complete(figures: Mapping[str, float]) -> None:
    """Raise a ValueError that lists the figures that are missing."""
    if missing := [key for key in REFERENCE if key not in figures]:
        raise ValueError(f"SUPERB's score needs all figures, {', '.join(missing)} are missing")
