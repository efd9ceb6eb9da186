"""Beam search with a language model: against all hypotheses there are, and on real prompts."""

import csv
import gzip
import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

import evaluate
from helpers.checkout import ROOT
from helpers.results import SCORED
from speech_pareto.data.corpus import read
from speech_pareto.data.text import characters
from speech_pareto.tasks.beam_search import BeamSearch, words_of

SETTINGS = {"weight": 2.0, "word_score": -1.0, "beam": 1000}


def write_arpa(path, sentences):
    """Write a bigram model of sentences (lists of words), discounted by half; return its scores."""
    pairs = [pair for s in sentences for pair in itertools.pairwise(["<s>", *s, "</s>"])]
    two, before = Counter(pairs), Counter(first for first, _ in pairs)
    ones = Counter(second for _, second in pairs)
    total = sum(ones.values()) + 1
    log = {("<unk>",): math.log10(1 / total), ("<s>",): -99.0}
    log |= {(word,): math.log10(count / total) for word, count in ones.items()}
    log |= {pair: math.log10((count - 0.5) / before[pair[0]]) for pair, count in two.items()}
    followers = Counter(first for first, _ in two)
    back = {word: math.log10(0.5 * n / before[word]) for word, n in followers.items()}
    lines = ["\\data\\", f"ngram 1={sum(len(k) == 1 for k in log)}", f"ngram 2={len(two)}"]
    for order in (1, 2):
        lines += ["", f"\\{order}-grams:"]
        for words, score in log.items():
            if len(words) == order:
                more = f"\t{back.get(words[0], 0.0):.6f}" if order == 1 else ""
                lines.append(f"{score:.6f}\t{' '.join(words)}{more}")
    text = "\n".join([*lines, "", "\\end\\", ""])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)

    def score(words):
        """log10 of a sentence, as ARPA files are to be read."""
        pairs = itertools.pairwise(["<s>", *words, "</s>"])
        return sum(
            log.get((a, b), back.get(a, 0.0) + log.get((b,), log[("<unk>",)])) for a, b in pairs
        )

    return score


def best_path(scores, target, pause):
    """Return the log-probability of the best CTC path for symbols; scores (frames, outputs).

    More pauses than one may stand before the first word and after each.
    """
    silent = np.maximum(scores[:, 0], scores[:, pause])
    states, columns = [0], [silent]
    for symbol in target:
        states += [symbol, 0]
        columns += [scores[:, symbol], silent if symbol == pause else scores[:, 0]]
    emissions = np.stack(columns, axis=1)  # (frames, states)
    now = np.full(len(states), -np.inf)
    now[:2] = emissions[0, :2]
    for frame in emissions[1:]:
        before = now
        now = np.full(len(states), -np.inf)
        for i, symbol in enumerate(states):
            skip = i > 1 and symbol and symbol != states[i - 2]
            came = max(before[max(0, i - 1) : i + 1].max(), before[i - 2] if skip else -np.inf)
            now[i] = came + frame[i]
    return now[-2:].max()


def test_it_finds_the_best_of_all_hypotheses_of_words(tmp_path):
    symbols = [" ", "a", "b", "t"]
    index = {symbol: i for i, symbol in enumerate(symbols, start=1)}
    sentences = [["at", "bat"], ["at", "a", "bat"], ["tab"], ["a", "tab"], ["bat", "at"]]
    lm = write_arpa(tmp_path / "lm.arpa", sentences)
    vocabulary = sorted({word for sentence in sentences for word in sentence})
    search = BeamSearch(SETTINGS | {"path": str(tmp_path / "lm.arpa")}, symbols, "characters")
    generator = torch.Generator().manual_seed(1)
    logits = 1.5 * torch.randn(6, 9, len(symbols) + 1, generator=generator)
    lengths = torch.tensor([9, 8, 7, 9, 6, 9])
    found = search.decode(logits, lengths)
    hypotheses = [h for n in range(4) for h in itertools.product(vocabulary, repeat=n)]
    for own, length, text in zip(logits, lengths.tolist(), found, strict=True):
        scores = own[:length].log_softmax(-1).double().numpy()
        end = np.full((1, len(symbols) + 1), -np.inf)  # the pause after the last word
        end[0, index[" "]] = 0.0

        def value(words, scores=scores, end=end):
            target = [index[c] for word in words for c in f"{word} "]
            path = best_path(np.concatenate([scores, end]), target, index[" "])
            return path + 2.0 * lm(words) - 1.0 * len(words)

        best = max(hypotheses, key=value)
        assert value(text.split()) == pytest.approx(value(best), abs=1e-3), (text, best)
    assert len(set(found)) > 1
    alone = [search.decode(logits[i : i + 1], lengths[i : i + 1])[0] for i in range(6)]
    assert alone == found


def test_phones_are_the_words_of_their_model(tmp_path):
    """Both phones are as likely; the model says that b follows a."""
    write_arpa(tmp_path / "lm.arpa", [["a", "b"]] * 9 + [["a", "a"]])
    search = BeamSearch(SETTINGS | {"path": str(tmp_path / "lm.arpa")}, ["a", "b"], "phones")
    logits = torch.tensor([[[0.0, 9, 0], [9, 0, 0], [0, 4.1, 4]]])
    assert search.decode(logits, torch.tensor([3])) == ["a b"]
    free = SETTINGS | {"path": str(tmp_path / "lm.arpa"), "weight": 0.0}
    assert BeamSearch(free, ["a", "b"], "phones").decode(logits, torch.tensor([3])) == ["a a"]


def test_words_are_those_of_the_arpa_file_or_of_a_lexicon(tmp_path):
    write_arpa(tmp_path / "lm.arpa.gz", [["HELLO", "world"]])
    words = words_of(tmp_path / "lm.arpa.gz")
    assert words == ["HELLO", "world"]
    (tmp_path / "words.txt").write_text("hello h e l l o\n\nthere\n")
    assert words_of(tmp_path / "lm.arpa.gz", tmp_path / "words.txt") == ["hello", "there"]
    (tmp_path / "binary").write_bytes(b"mmap lm http://kheafield.com/code\n")
    with pytest.raises(ValueError, match="binary is no ARPA file.*`lexicon`"):
        words_of(tmp_path / "binary")
    settings = SETTINGS | {"path": str(tmp_path / "lm.arpa.gz")}
    symbols = sorted(set(" helowrd"))
    logits = torch.full((1, 6, len(symbols) + 1), -9.0)
    for frame, symbol in enumerate(
        ["h", "e", "l", None, "l", "o"]
    ):  # the blank between two of one letter
        logits[0, frame, symbols.index(symbol) + 1 if symbol else 0] = 9.0
    search = BeamSearch(settings, symbols, "characters")
    assert search.decode(logits, torch.tensor([6])) == ["hello"]
    with pytest.raises(ValueError, match="no word that the task's symbols spell"):
        BeamSearch(settings, ["x", " "], "characters")


@pytest.mark.slow
def test_real_prompts_are_scored_with_and_without_a_language_model(prompts_en, tmp_path):
    """The model is of the transcripts of training; none of the test split is among them."""
    texts = ["".join(characters(u.text)) for u in read(prompts_en) if u.split == "train"]
    write_arpa(tmp_path / "lm.arpa", [text.split() for text in texts if text])
    task = {"kind": "ctc", "unit": "characters", "protocol": "finetune", "metric": "wer"}
    searched = task | {"language_model": SETTINGS | {"path": str(tmp_path / "lm.arpa"), "beam": 50}}
    teacher = ROOT / "resources/teachers/tiny-characters"
    results = {}
    for name, settings in (("greedy", task), ("lm", searched)):
        files = tmp_path / f"{name}.json", tmp_path / f"{name}.tsv"
        evaluate.main(settings | {"precision": "fp32"}, teacher, [prompts_en], SCORED, *files)
        with files[1].open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        results[name] = json.loads(files[0].read_text()), rows
    (greedy, rows), (both, more) = results["greedy"], results["lm"]
    for section in ("valid_metrics", "metrics"):
        assert {k: both[section][k] for k in greedy[section]} == greedy[section]
        assert both[section]["lm_wer"] < greedy[section]["wer"] - 5
        assert both[section]["lm_cer"] < 100
    assert both["metric"] == greedy["metric"] == {"name": "wer", "better": "lower"}
    assert [{k: v for k, v in row.items() if k != "with_lm"} for row in more] == rows
    assert any(row["with_lm"] != row["hypothesis"] for row in more)
    known = {word for text in texts for word in text.split()}
    assert {word for row in more for word in row["with_lm"].split()} <= known
