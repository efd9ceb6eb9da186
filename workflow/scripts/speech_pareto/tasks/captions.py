"""Words with their times, and files of them: text, JSON, subtitles (SRT) and WebVTT."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

PAUSE = 1.0  # seconds without a word, after which a caption ends
LONGEST, WIDEST = 7.0, 84  # seconds and letters of a caption: two lines of 42


@dataclass(frozen=True)
class Word:
    """A word, or a phone, and when it is said, in seconds."""

    text: str
    start: float
    end: float


def captions(words: Iterable[Word]) -> list[list[Word]]:
    """Return words in groups that are shown together."""
    found: list[list[Word]] = []
    for word in words:
        own = found[-1] if found else []
        letters = sum(len(one.text) + 1 for one in own) + len(word.text)
        late = own and (word.start - own[-1].end > PAUSE or word.end - own[0].start > LONGEST)
        if not own or late or letters > WIDEST:
            found.append([word])
        else:
            own.append(word)
    return found


def text(words: list[Word]) -> str:
    """Return the words in a line."""
    return " ".join(word.text for word in words) + "\n"


def as_json(words: list[Word]) -> str:
    """Return captions with their words, each with `text`, `start` and `end`."""
    shown = [
        {"text": text(own).strip(), "start": own[0].start, "end": own[-1].end}
        | {"words": [asdict(word) for word in own]}
        for own in captions(words)
    ]
    return json.dumps({"captions": shown}, ensure_ascii=False, indent=1) + "\n"


def srt(words: list[Word]) -> str:
    """Return subtitles as SubRip has them."""
    blocks = [
        f"{number}\n{_span(own, ',')}\n{text(own)}" for number, own in enumerate(captions(words), 1)
    ]
    return "\n".join(blocks)


def vtt(words: list[Word]) -> str:
    """Return captions as WebVTT has them, whose text escapes &, < and >."""
    escaped = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    blocks = [f"{_span(own, '.')}\n{text(own).translate(escaped)}" for own in captions(words)]
    return "\n".join(["WEBVTT\n", *blocks])


def _span(words: list[Word], point: str) -> str:
    """Return when words begin and end: 00:00:01,250 --> 00:00:03,000."""
    return " --> ".join(_clock(x, point) for x in (words[0].start, words[-1].end))


def _clock(seconds: float, point: str) -> str:
    """Return seconds as hours, minutes, seconds and milliseconds."""
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


FORMATS: dict[str, Callable[[list[Word]], str]] = {
    "text": text,
    "json": as_json,
    "srt": srt,
    "vtt": vtt,
}
