"""Numbers, columns and paragraphs as text; a number that is not known (None, NaN) is a dash."""

from collections.abc import Callable, Mapping

MISSING = "–"


def missing(value: float | None) -> bool:
    """Return whether a number is not known."""
    return value is None or value != value  # NaN is not equal to itself


def known_as(pattern: str) -> Callable[[float], str]:
    """Return the function that writes a number as `pattern` of `str.format` says."""
    return lambda value: MISSING if missing(value) else pattern.format(value)


two_digits = known_as("{:#.2g}")  # 0.0092
times = known_as("{:.2f}×")  # 1.52×
one_decimal = known_as("{:.1f}")  # a score in percent: 31.2
three_decimals = known_as("{:.3f}")  # a share: 0.503
whole = known_as("{:.0f}")  # 118
shortest = known_as("{:g}")  # 0, 0.5, 10


def two_decimals(value: float) -> str:
    """Return a share or a similarity: 0.26, −0.05."""
    return known_as("{:.2f}")(value).replace("-", "−")


def short_count(value: float) -> str:
    """Return a count with three digits: 4.01 M, 310 M, 1.20 G, 20.0 T."""
    return _with_unit(value, {" E": 1e18, " P": 1e15, " T": 1e12, " G": 1e9, " M": 1e6, " k": 1e3})


def short_seconds(value: float) -> str:
    """Return a duration with three digits: 92.0 ms, 1.20 s."""
    if missing(value):
        return MISSING
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(value * 1e3)} ms"


def short_joules(value: float) -> str:
    """Return an energy with three digits: 920 mJ, 1.20 J."""
    if missing(value):
        return MISSING
    return f"{three_digits(value)} J" if value >= 1 else f"{three_digits(value * 1e3)} mJ"


def short_bytes(value: float) -> str:
    """Return a number of bytes with three digits: 6.00 MB."""
    return _with_unit(value, {" GB": 1e9, " MB": 1e6, " kB": 1e3}, " B")


def _with_unit(value: float, units: Mapping[str, float], none: str = "") -> str:
    """Return three digits of a number and the largest unit that it fills, or `none` of them."""
    if missing(value):
        return MISSING
    for unit, size in units.items():
        if abs(value) >= 0.9995 * size:
            return three_digits(value / size) + unit
    return f"{value:.0f}{none}"


def three_digits(value: float) -> str:
    """Return `value` with three significant digits, never in powers of ten."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def in_percent(value: float) -> str:
    """Return a number that counts percent, as short as it can be: 37.5 %."""
    return f"{shortest(value)} %"


def factor(value: float) -> str:
    """Return a factor as short as it can be: 1.5 ×."""
    return f"{shortest(value)} ×"


def with_spread(value: float, spread: float) -> str:
    """Return a mean with its standard deviation, if there is one: 31.2 ± 0.4."""
    if missing(value) or missing(spread):
        return one_decimal(value)
    return f"{one_decimal(value)} ± {one_decimal(spread)}"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a difference with its interval: +2.7 [+2.3, +3.2]."""
    if missing(value):
        return MISSING
    middle, least, most = (f"{one:+z.1f}".replace("-", "−") for one in (value, low, high))
    return f"{middle} [{least}, {most}]"


def aligned(cells: list[list[str]], width: int) -> list[str]:
    """Return a header and rows of text as `columns`, with a line below the header."""
    lines = columns(cells, width)
    lines.insert(1, "  " + "─" * (max(map(len, lines)) - 2))
    return lines


def columns(cells: list[list[str]], width: int) -> list[str]:
    """Return rows of text in aligned columns: the first and last to the left, others right."""
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sizes[0] = max(10, min(sizes[0], width - sum(sizes[1:]) - 2 * len(sizes)))
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= sizes[0] else row[0][: sizes[0] - 1] + "…"
        middle = [cell.rjust(size) for cell, size in zip(row[1:-1], sizes[1:-1], strict=True)]
        lines.append("  ".join(["", first.ljust(sizes[0]), *middle, row[-1]]).rstrip())
    return lines


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f} %"


def filled(notes: list[str], width: int) -> list[str]:
    """Return the notes in lines of at most `width` letters, none broken."""
    lines = [""]
    for note in notes:
        joined = f"{lines[-1]}  ·  {note}" if lines[-1] else note
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(note)
    return lines


def trimmed(text: str) -> str:
    """Return a number without idle zeros: 1.00 M becomes 1 M."""
    number, _, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".strip()
