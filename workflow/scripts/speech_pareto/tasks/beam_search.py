"""CTC beam search with an n-gram language model, as a second reading of what a model gives.

Of characters, words of a lexicon are searched and the model is one of words; of phones, each phone
is a word of the model. The score of a hypothesis is

    log p(CTC) + weight * log10 p(language model) + word_score * words

as in Collobert et al., arXiv 1609.03193, section 3; flashlight's decoder searches, KenLM scores.
"""

import gzip
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from torch import Tensor

from speech_pareto.data.text import characters
from speech_pareto.runtime.extras import extra

THRESHOLD = 50.0  # hypotheses so much worse than the best are dropped
SURE, NEVER = 0.0, -1e9  # log-probabilities of the pause that ends the last word
NO_WORDS = ("<s>", "</s>", "<unk>", "<UNK>")
ARPA = b"\\data\\"


class BeamSearch:
    """Searches with `settings`, those of `language_model` in the config.

    `symbols` are what the outputs from 1 on stand for; output 0 is the blank. Raises ValueError for
    a language model without words that these symbols spell.
    """

    def __init__(self, settings: Mapping, symbols: Sequence[str], unit: str) -> None:
        with extra("lm"):
            from flashlight.lib.text import decoder
            from flashlight.lib.text.decoder.kenlm import KenLM
            from flashlight.lib.text.dictionary import Dictionary

        path, self.outputs = str(Path(settings["path"]).expanduser()), len(symbols) + 1
        common = {"beam_size": settings["beam"], "beam_size_token": self.outputs}
        common |= {"beam_threshold": THRESHOLD, "lm_weight": settings["weight"], "sil_score": 0.0}
        common |= {"log_add": False, "criterion_type": decoder.CriterionType.CTC}
        if unit == "phones":
            self.texts, self.pause = ["", *symbols], None
            model = KenLM(path, Dictionary(["<blank>", *symbols]))
            options = decoder.LexiconFreeDecoderOptions(**common)
            self.search = decoder.LexiconFreeDecoder(options, model, 0, 0, [])
            return
        index = {symbol: i for i, symbol in enumerate(symbols, start=1)}
        words = dict.fromkeys(words_of(path, settings.get("lexicon")))
        spelt = {word: "".join(characters(word)) for word in words}
        spelt = {word: text for word, text in spelt.items() if text and set(text) <= set(index)}
        if not spelt or " " not in index:
            raise ValueError(
                f"{path}: the language model has no word that the task's symbols spell"
            )
        self.texts, self.pause = list(spelt.values()), index[" "]
        dictionary = Dictionary([*spelt, "<unk>"])
        model = KenLM(path, dictionary)
        trie = decoder.Trie(self.outputs, self.pause)
        for number, text in enumerate(self.texts):
            _, score = model.score(model.start(False), number)
            trie.insert([index[symbol] for symbol in text] + [self.pause], number, score)
        trie.smear(decoder.SmearingMode.MAX)
        own = {"word_score": settings["word_score"], "unk_score": -np.inf}
        options = decoder.LexiconDecoderOptions(**common, **own)
        unknown = dictionary.get_index("<unk>")
        self.search = decoder.LexiconDecoder(
            options, trie, model, self.pause, 0, unknown, [], False
        )

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Return the best hypothesis of each utterance; logits (batch, frames, outputs)."""
        scores = logits.float().log_softmax(-1).cpu().numpy()  # (B, T, outputs)
        return [
            self._one(own[:length]) for own, length in zip(scores, lengths.tolist(), strict=True)
        ]

    def _one(self, scores: np.ndarray) -> str:
        """Return the best hypothesis of log-probabilities (frames, outputs)."""
        if self.pause is not None:  # a word counts when the pause after it is there
            end = np.full((1, self.outputs), NEVER, np.float32)
            end[0, self.pause] = SURE
            scores = np.concatenate([scores, end])
        scores = np.ascontiguousarray(scores, dtype=np.float32)
        found = self.search.decode(scores.ctypes.data, *scores.shape)
        if not found:
            return ""
        if self.pause is None:
            path = [token for token, _ in groupby(found[0].tokens) if token]
            return " ".join(self.texts[token] for token in path)
        return " ".join(self.texts[word] for word in found[0].words if word >= 0)


def words_of(path: str | Path, lexicon: str | Path | None = None) -> list[str]:
    """Return the words of a lexicon, a line each, or else those of an ARPA file (also .gz).

    ValueError if there is no lexicon and the file is no ARPA file.
    """
    if lexicon:
        lines = Path(lexicon).expanduser().read_text(encoding="utf-8").splitlines()
        return [line.split()[0] for line in lines if line.strip()]
    words, inside, header = [], False, False
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        for line in file:
            line = line.strip()
            if not header:
                header = line == ARPA
                if line and not header:
                    break
            elif line == b"\\1-grams:":
                inside = True
            elif inside and line.startswith(b"\\"):
                return words
            elif inside and line and (word := line.split()[1].decode()) not in NO_WORDS:
                words.append(word)
    raise ValueError(
        f"{path} is no ARPA file: its words are unknown; name a file with them as `lexicon`"
    )
