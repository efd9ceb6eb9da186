"""What is wrong with a long list: by kind, the first few of each, and how many more there are."""

from collections import defaultdict

SHOWN = 10


class Problems:
    """Collects sentences by kind; `str` gives `SHOWN` of each kind and counts the others."""

    def __init__(self) -> None:
        self.kinds, self.counts = defaultdict(list), defaultdict(int)

    def add(self, kind: str, sentence: str) -> None:
        """Add a sentence to those of its kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.kinds[kind].append(sentence)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        lines = []
        for kind, sentences in self.kinds.items():
            lines += sentences
            if more := self.counts[kind] - len(sentences):
                lines.append(f"... and {more:,} more: {kind}")
        return "\n".join(f"  {line}" for line in lines)
