"""Numbers, columns and paragraphs as text; a number that is not known (None, NaN) is a dash."""

MISSING = "–"


def missing(value: float | None) -> bool:
    """Return whether a number is not known."""
    return value is None or value != value  # NaN is not equal to itself


def short_count(value: float) -> str:
    """Return a count with three digits: 4.01 M, 310 M, 1.20 G, 20.0 T."""
    if missing(value):
        return MISSING
    units = ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
    for size, unit in units:
        if abs(value) >= 0.9995 * size:
            return three_digits(value / size) + unit
    return f"{value:.0f}"


def short_seconds(value: float) -> str:
    """Return a duration with three digits: 92.0 ms, 1.20 s."""
    if missing(value):
        return MISSING
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(value * 1e3)} ms"


def short_bytes(value: float) -> str:
    """Return a number of bytes with three digits: 6.00 MB."""
    if missing(value):
        return MISSING
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def three_digits(value: float) -> str:
    """Return `value` with three significant digits, never in powers of ten."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def two_digits(value: float) -> str:
    """Return `value` with two significant digits: 0.0092."""
    return MISSING if missing(value) else f"{value:#.2g}"


def times(value: float) -> str:
    """Return a factor: 1.52×."""
    return MISSING if missing(value) else f"{value:.2f}×"


def one_decimal(value: float) -> str:
    """Return a score in percent: 31.2."""
    return MISSING if missing(value) else f"{value:.1f}"


def two_decimals(value: float) -> str:
    """Return a share or a similarity: 0.26, −0.05."""
    return MISSING if missing(value) else f"{value:.2f}".replace("-", "−")


def three_decimals(value: float) -> str:
    """Return a share: 0.503."""
    return MISSING if missing(value) else f"{value:.3f}"


def whole(value: float) -> str:
    """Return the nearest whole number: 118."""
    return MISSING if missing(value) else f"{value:.0f}"


def shortest(value: float) -> str:
    """Return a number as short as it can be: 0, 0.5, 10."""
    return MISSING if missing(value) else f"{value:g}"


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
