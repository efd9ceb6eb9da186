"""Published models against built ones, to the last parameter, as the page docs/sizes.md."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from generate.systems import SOURCES, SUPERB_CLIPS, SYSTEMS
from speech_pareto.compression.recipes import make
from speech_pareto.models import architecture, operations
from speech_pareto.models.architecture import SAMPLE_RATE

UNITS = {"": 1, "M": 10**6, "G": 10**9}
LENGTHS = (1, 5, 10, 30)  # seconds
STEMS = (  # method, settings, ratio
    ("channel_pruning", {}, 0.025),
    ("channel_pruning", {}, 0.04),
    ("stem_distillation", {"form": "slim"}, 0.047),
    ("stem_distillation", {"form": "two_layer"}, 0.0335),
    ("stem_distillation", {"form": "two_layer"}, 0.045),
    ("stem_distillation", {"form": "log_mel"}, 0.047),
)

PAGE = """\
# Sizes and MACs: published against built

Made by `make pages` from the list in [systems.py](generate/systems.py); a test fails when it is out
of date. Models are built on torch's meta device, without weights.

## Parameters

Ratios in this project count the backbone alone. Publications often count heads too: what predicts
units in pretraining, or projects hidden states in distillation. `difference` is what is built,
rounded as the published number is, less the published number.

{parameters}

Heads:

{heads}

## What a cut saves

On HuBERT Base:

{cuts}

## What a smaller stem saves

On HuBERT Base; MACs are those of 10 s, as shares of the whole model's own:

{stems}

## MACs

Products of matrices, convolutions and Fourier transforms count, each once per time it is computed,
also where two layers share one module. Attention grows with the square of the length, so MACs per
second of audio depend on it (G per second):

{lengths}

SUPERB publishes the sum over {clips} recordings of LibriSpeech, {seconds:.2f} s in all, from a fork
of DeepSpeed's profiler. For attention that counts more than products: the biases and the scaling of
queries, keys and values (4 T D in each layer, for T frames of width D), and for each of a head's
T² weights the mask, two for softmax and, where its rate is above 0, dropout. With these, HuBERT
Base comes out as published to the last MAC. The profiler is said to add up shared modules
repeatedly (s3prl/s3prl, issue 366); none of the models below has any.

{superb}

Per second of audio is that total / {seconds:.2f} s:

{per_second}

## Notes

{notes}

## Sources

{sources}
"""


def page() -> str:
    """Return the text of docs/sizes.md; builds every system on the meta device."""
    notes = {}
    for system in SYSTEMS:
        notes.setdefault(system.note, []).append(system.name)
    heads = [
        f"- {system.name}: " + ", ".join(f"{name} {n:,}" for name, n in system.heads.items())
        for system in SYSTEMS
        if system.heads
    ]
    return PAGE.format(
        parameters=_parameters(),
        heads="\n".join(heads),
        cuts=_cuts(),
        stems=_stems(),
        lengths=_lengths(),
        clips=len(SUPERB_CLIPS),
        seconds=sum(SUPERB_CLIPS) / SAMPLE_RATE,
        superb=_superb(),
        per_second=_per_second(),
        notes="\n".join(f"- {'; '.join(names)}: {note}" for note, names in notes.items() if note),
        sources="\n".join(f"- {name}: {where}" for name, where in SOURCES.items()),
    )


def built(config: Mapping) -> int:
    """Return the parameters of the module that `config` describes, on the meta device."""
    from speech_pareto.models.backbone import build

    return sum(parameter.numel() for parameter in build(config).parameters())


def difference(value: float, printed: str) -> str:
    """Return `value` less a printed number, in its unit and to its last digit: "+0.01 M"."""
    digits, _, unit = printed.replace(",", "").partition(" ")
    number = Decimal(digits)
    rounded = (Decimal(value) / UNITS[unit]).quantize(number)
    gap = rounded - number
    return f"{gap:+,} {unit}".rstrip() if gap else "0"


def superb_macs(config: Mapping) -> int:
    """Return the MACs of the clips as SUPERB's tool counts them."""
    return sum(as_profiled(config, samples / SAMPLE_RATE) for samples in SUPERB_CLIPS)


def superb_macs_per_second(config: Mapping) -> float:
    """Return `superb_macs` per second of the clips."""
    return superb_macs(config) / (sum(SUPERB_CLIPS) / SAMPLE_RATE)


def as_profiled(config: Mapping, seconds: float) -> int:
    """Return MACs plus what SUPERB's tool adds to attention, see the page."""
    counted = operations.macs(config, seconds)
    frames, per_place = counted["frames"], 4 if config.get("attention_dropout", 0.1) else 3
    added = sum(
        len(layer.heads) * (4 * frames * architecture.head_dim(config) + per_place * frames**2)
        for layer in architecture.layers_of(config)
    )
    return counted["total"] + added


def _parameters() -> str:
    """Return the table of parameters, a row per published number."""
    rows = []
    for system in SYSTEMS:
        backbone = built(system.config)
        whole = backbone + sum(system.heads.values())
        for printed, size, what in (
            (system.backbone, backbone, "backbone"),
            (system.whole, whole, "with heads"),
        ):
            if printed:
                gap = difference(size, printed)
                rows.append(
                    [
                        system.name,
                        f"{backbone:,}",
                        f"{whole:,}",
                        f"{printed} {what}",
                        gap,
                        system.source,
                    ]
                )
    header = ["model", "backbone, built", "with heads, built", "published", "difference", "source"]
    return _table(header, rows)


def _cuts() -> str:
    """Return the table of what single cuts save."""
    config = {"model_type": "hubert"}
    layer, layers = architecture.layers_of(config)[0], len(architecture.layers_of(config))
    head = architecture.head_parameters(config, layer)
    row = architecture.row_parameters(config, layer)
    full = architecture.layer_parameters(config, layer)["ffn"]
    one = architecture.head_dim(config) - 1
    whole, *fewer = (
        architecture.layer_parameters(config, x)["attention"]
        for x in (layer, replace(layer, qk=one), replace(layer, vo=one))
    )
    rows = [
        ["one attention head", f"{head:,}"],
        [f"one head in each of {layers} layers", f"{layers * head:,}"],
        ["one dimension of all heads' queries and keys in a layer", f"{whole - fewer[0]:,}"],
        ["one dimension of all heads' values and output in a layer", f"{whole - fewer[1]:,}"],
        ["the attention of a layer", f"{whole:,}"],
        ["the feed-forward part of a layer", f"{full:,}"],
        ["one row of a feed-forward part", f"{row:,}"],
        [f"128 rows in each of {layers} layers", f"{128 * layers * row:,}"],
    ]
    return _table(["cut", "parameters"], rows)


def _stems() -> str:
    """Return the table of what smaller stems save."""
    config = {"model_type": "hubert"}
    before, rows = operations.macs(config, 10), []
    for name, settings, ratio in STEMS:
        after = make({name: settings}).solve(config, ratio).config
        macs = operations.macs(after, 10)
        shares = [macs[part] / before[part] for part in ("stem", "total")]
        form = settings.get("form", "slim")
        channels = " ".join(map(str, after["conv_dim"]))
        removed = architecture.remaining(config) - built(after)
        ratio = f"{architecture.ratio(config, after):.4f}"
        cells = [f"{removed:,}", ratio, *(f"{share:.1%}" for share in shares)]
        rows.append([f"`{name}`", form, channels, *cells])
    header = [
        "method",
        "form",
        "channels",
        "parameters less",
        "ratio",
        "MACs of the stem",
        "of all",
    ]
    return _table(header, rows)


def _lengths() -> str:
    """Return the table of MACs per second at several lengths."""
    rows = []
    for system in SYSTEMS:
        per_second = (operations.macs(system.config, s)["total"] / s for s in LENGTHS)
        rows.append([system.name, *(f"{value / 1e9:.3f}" for value in per_second)])
    return _table(["model", *(f"{seconds} s" for seconds in LENGTHS)], rows)


def _superb() -> str:
    """Return the table of MACs over SUPERB's clips."""
    rows = []
    for system in SYSTEMS:
        if printed := system.superb_macs:
            clips = (samples / SAMPLE_RATE for samples in SUPERB_CLIPS)
            plain = sum(operations.macs(system.config, seconds)["total"] for seconds in clips)
            counted = superb_macs(system.config)
            gap = difference(counted, printed)
            rows.append([system.name, f"{plain:,}", f"{counted:,}", printed, gap, system.source])
    header = ["model", "MACs", "as the tool counts", "published", "difference", "source"]
    return _table(header, rows)


def _per_second() -> str:
    """Return the table of MACs per second against those published."""
    rows = []
    for system in SYSTEMS:
        if printed := system.macs_per_second:
            value = superb_macs_per_second(system.config)
            gap = difference(value, printed)
            rows.append([system.name, f"{value / 1e9:.3f} G", printed, gap, system.source])
    return _table(["model", "as the tool counts", "published", "difference", "source"], rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
