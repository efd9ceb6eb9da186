"""Splits where a source names none: no text in two of them, or no speaker."""

from dataclasses import replace

import numpy as np
import pytest

from speech_pareto.data.recording import SPLITS, Recording
from speech_pareto.data.splits import assign_splits
from speech_pareto.data.text import fingerprint


def many(count=600):
    """Return recordings of two languages in which every fifth text stands twice."""
    generator = np.random.default_rng(1)
    recordings = [
        Recording(f"{i}", None, f"text {i - (i % 5 == 0 and i > 0)}", "ab"[i % 2])
        for i in range(count)
    ]
    return recordings, generator.gamma(2, 1.5, count).tolist()


def test_splits_share_no_text_and_keep_shares_of_each_language_and_duration():
    recordings, seconds = many()
    splits = assign_splits(recordings, seconds, valid=0.1, test=0.2)
    by_text = {}
    for recording, split in zip(recordings, splits, strict=True):
        assert by_text.setdefault(fingerprint(recording.text), split) == split
    seconds = np.array(seconds)
    median = np.median(seconds)
    for language in "ab":
        for long in (False, True):
            inside = [
                i
                for i, r in enumerate(recordings)
                if r.language == language and (seconds[i] > median) == long
            ]
            share = sum(seconds[i] for i in inside if splits[i] == "test") / sum(seconds[inside])
            assert 0.14 < share < 0.26


def test_splits_do_not_depend_on_the_order_of_files():
    recordings, seconds = many()
    order = np.random.default_rng(2).permutation(len(recordings))
    shuffled = assign_splits([recordings[i] for i in order], [seconds[i] for i in order])
    assert [shuffled[list(order).index(i)] for i in range(50)] == assign_splits(
        recordings, seconds
    )[:50]


def test_named_splits_are_kept_whatever_the_words():
    rows = [Recording("1", None, "one", split="test"), Recording("2", None, "One!", split="train")]
    assert assign_splits(rows, [1, 1]) == ["test", "train"]
    rows.append(Recording("3", None, "one"))
    assert assign_splits(rows, [1, 1, 1]) == ["test", "train", "train"]
    rows[1].text = "two"
    assert assign_splits(rows, [1, 1, 1]) == ["test", "train", "test"]


@pytest.mark.parametrize("repeated", [False, True])
def test_a_part_of_training_becomes_the_validation_split_that_is_missing(repeated):
    rows = [
        Recording(str(i), None, f"word {i % 4 if repeated else i}", speaker=str(i % 10))
        for i in range(100)
    ]
    for row in rows[:20]:
        row.split = "test"
    for row in rows[20:]:
        row.split = "train"
    splits = assign_splits(rows, [1.0] * 100, valid=0.1)
    assert splits[:20] == ["test"] * 20 and set(splits[20:]) == {"train", "valid"}
    assert 4 <= splits.count("valid") <= 12
    held = {row.speaker for row, split in zip(rows, splits, strict=True) if split == "valid"}
    taught = {row.speaker for row, split in zip(rows, splits, strict=True) if split == "train"}
    assert not repeated or not held & taught
    only_taught = [replace(row, split="train") for row in rows]  # nothing of it is scored
    assert assign_splits(only_taught, [1.0] * 100) == ["train"] * 100


def test_recordings_without_a_sample_are_no_division_by_zero():
    rows = [Recording(str(i), None, f"text {i}") for i in range(4)]
    assert set(assign_splits(rows, [0.0] * 4)) <= set(SPLITS)


WORDS = ("yes", "no", "up", "down", "left", "right")


def commands(speakers, labels=True, texts=True):
    """Return a recording of each word by each speaker."""
    return [
        Recording(f"{speaker}-{word}", None, word * texts, "en", speaker, word * labels)
        for speaker in speakers
        for word in WORDS
    ]


@pytest.mark.parametrize(("labels", "texts"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("count", [3, 4, 11, 40])
def test_fixed_vocabularies_are_divided_by_speaker(labels, texts, count):
    rows = commands([f"speaker {i}" for i in range(count)], labels, texts)
    splits = assign_splits(rows, [1.0] * len(rows))
    by_speaker = {}
    for row, split in zip(rows, splits, strict=True):
        assert by_speaker.setdefault(row.speaker, split) == split
    assert set(splits) == set(SPLITS)
    held = {split: list(by_speaker.values()).count(split) for split in SPLITS}
    assert held["test"] == max(1, np.ceil(0.12 * count)) and held["valid"] <= held["test"]


def test_whoever_speaks_most_is_not_held_out():
    rows = commands(["anna", "bert", "carl", "dora"])
    seconds = [50.0 if row.speaker == "carl" else 1.0 for row in rows]
    splits = assign_splits(rows, seconds)
    assert {s for row, s in zip(rows, splits, strict=True) if row.speaker == "carl"} == {"train"}


@pytest.mark.parametrize("speakers", [["anna"], ["anna", "bert"]])
def test_too_few_speakers_stand_in_several_splits_and_no_word_is_new(speakers, caplog):
    rows = [row for n in range(20) for row in commands(speakers)]
    for index, row in enumerate(rows):
        row.id = str(index)
    splits = assign_splits(rows, [1.0] * len(rows))
    assert "too few speakers" in caplog.text and set(splits) == set(SPLITS)
    assert 0.07 < splits.count("test") / len(splits) < 0.18
    taught = {row.label for row, split in zip(rows, splits, strict=True) if split == "train"}
    assert taught == set(WORDS)


def test_labels_that_are_speakers_are_known_in_training():
    rows = [
        Recording(f"{name}-{i}", None, f"sentence {name} {i}", "en", name, name)
        for name in "abcdef"
        for i in range(20)
    ]
    splits = assign_splits(rows, [1.0] * len(rows))
    assert {row.label for row, s in zip(rows, splits, strict=True) if s == "train"} == set("abcdef")
    assert set(splits) == set(SPLITS)
