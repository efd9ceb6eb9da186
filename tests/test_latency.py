"""Tables of latencies: what sums of their parts are, how they are measured, and who reads them."""

import csv
import math

import pytest

from helpers.commands import command
from speech_pareto.models import architecture, latency
from speech_pareto.models.latency import EXACT, SIZES, NotInTable, Piece, Table, pieces
from speech_pareto.profiling import latency_parts, latency_table

# A table as if a part took 1 ns for the product of its sizes: what lies between follows exactly.
PRODUCT = {
    "linear": ("inputs", "outputs", "frames"),
    "map": ("heads", "dims", "frames"),
    "reused_map": ("heads", "dims", "frames"),
    "gelu": ("outputs", "frames"),
    "norm": ("outputs", "frames"),
    "log_mel": ("frames",),
    "position": ("outputs", "frames", "kernel", "groups"),
    "layer": (),
    "pass": (),
}
KIND = {"kernel": (32,), "groups": (4,)}
GRID = {"inputs": (16, 192, 768), "outputs": (16, 192, 768), "heads": (1, 6), "dims": (8, 32)}
GRID |= {"frames": (10, 100, 500)} | KIND


def rows_of(part):
    """Return the rows of a part: 1 ns for the product of its sizes."""
    found = [{}]
    for column in PRODUCT[part]:
        found = [row | {column: size} for row in found for size in GRID[column]]
    empty = dict.fromkeys((*SIZES, *EXACT), "")
    return [
        empty
        | {key: str(size) for key, size in row.items()}
        | {"part": part, "seconds": str(1e-9 * math.prod(row.values()))}
        for row in found
    ]


@pytest.fixture(scope="module")
def table():
    return Table([row for part in PRODUCT for row in rows_of(part)], "made-1-threads")


def of(part, **sizes):
    return Piece(part, tuple(sizes.items()))


def test_between_and_beyond_points_a_power_of_each_size_holds(table):
    for sizes in ((16, 192, 10), (64, 336, 49), (768, 1536, 1999)):
        named = dict(zip(("inputs", "outputs", "frames"), sizes, strict=True))
        assert table.of(of("linear", **named)) == pytest.approx(1e-9 * math.prod(sizes))


def test_channels_and_rows_are_rounded_up_to_what_kernels_compute(table):
    told = table.of(of("linear", inputs=177, outputs=2, frames=33))
    assert told == pytest.approx(1e-9 * 192 * 16 * 33)


def test_a_pass_is_the_sum_of_its_parts_worked_out_by_hand(table):
    config = architecture.tiny(layers=2)  # 192 wide, 6 heads of 32, 768 rows, log-mel
    frames = 49  # of a second: (16000 - 560) // 320 + 1
    layer = 4 * 192 * 192 + 2 * 192 * 768 + 6 * 32 + 768 + 2 * 192
    ends = 1 + 160 * 192 + 32 * 4 * 192 + 192  # stem, projection, positions, norm
    units = frames * (2 * layer + ends)
    assert table.seconds(config, 1.0) == pytest.approx(1e-9 * (units + 2 * 1 + 1), rel=1e-6)
    twice = table.seconds(config, 1.0, batch=2)
    assert twice == pytest.approx(1e-9 * (2 * units + 2 * 1 + 1), rel=1e-6)


def test_what_was_cut_takes_no_time(table):
    base = architecture.tiny(layers=3)
    ranks = {"q_proj": 48}
    layers = [
        architecture.Layer((0, 2), 320, ranks, qk=16),
        architecture.Layer((0, 2), 0, reuse="map"),
        architecture.Layer((), 768),
    ]
    config = architecture.with_layers(base, layers)
    whole = table.seconds(architecture.with_layers(base, []), 1.0)
    first = 192 * 48 + 48 * 32 + 192 * 32 + 2 * 192 * 64 + 2 * (16 + 32) / 2 + 2 * 192 * 320 + 320
    second = 2 * 192 * 64 + 2 * 32
    third = 2 * 192 * 768 + 768
    units = 49 * (first + second + third + 6 * 192) + 3
    assert table.seconds(config, 1.0) - whole == pytest.approx(1e-9 * units, rel=1e-6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "hubert"}, "convolution group norm with kernel 10, stride 5"),
        (architecture.tiny(hidden=4096, heads=8), "linear of 4096 outputs, where it has 16 to 768"),
        (architecture.tiny(pos_conv=31), "position with kernel 31, groups 4"),
        (architecture.tiny(model_type="wavlm"), "position bias"),
        (architecture.with_number_format(architecture.tiny(), "int8"), "weights in int8"),
    ],
)
def test_what_was_not_measured_is_said_in_words(table, config, said):
    with pytest.raises(NotInTable, match=f"^not in the table: {said}"):
        table.seconds(config, 1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-1], "the sizes of gelu are no whole grid"),
        (lambda rows: [], "it has no rows"),
        (lambda rows: [rows[0] | {"seconds": "0"}], "cannot take 0.0 s"),
        (lambda rows: [rows[0] | {"frames": "ten"}], "'ten'"),
    ],
)
def test_a_broken_table_is_refused_with_its_name(change, said, tmp_path):
    file = tmp_path / "bad.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, latency.COLUMNS)
        writer.writeheader()
        writer.writerows(change(rows_of("gelu")))
    with pytest.raises(ValueError, match=f"bad.csv is no table of latencies: .*{said}"):
        latency.read(str(file))


def test_all_parts_of_the_models_at_hand_are_measured():
    """The grid has whatever a pass is made of, whatever the teacher."""
    measured = {own.part for own, _ in latency_parts.grid(3072, 10.0)} | {*latency_table.UNITS}
    reduced = architecture.tiny(layers=3, compression={"stem": "kaldi_fbank", "time_reduction": 2})
    configs = [{"model_type": kind} for kind in architecture.MODEL_TYPES]
    pooling = {"stem": "log_mel", "frame_pooling": {"factor": 1.5, "after": 2}}
    configs.append(architecture.tiny(compression=pooling))
    configs += [
        {"model_type": "hubert", "feat_extract_norm": "layer"},
        architecture.tiny(),
        reduced,
    ]
    for reuse in architecture.REUSE:
        layers = [architecture.Layer((0,), 16), architecture.Layer((0,), 16, reuse=reuse)]
        configs.append(architecture.with_layers(architecture.tiny(), layers))
    for config in configs:
        assert {own.part for own in pieces(config, 1.0)} <= measured


@pytest.mark.parametrize("file", latency.tables().values())
@pytest.mark.parametrize("kind", architecture.MODEL_TYPES)
def test_shipped_tables_tell_of_models_from_tiny_to_large(file, kind):
    table = latency.read(file)
    wide = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    shapes = [{}, {"num_hidden_layers": 24, "feat_extract_norm": "layer", **wide}]
    for seconds in (0.5, 10.0, 30.0):
        base, large = (table.seconds({"model_type": kind, **own}, seconds) for own in shapes)
        assert 0 < base < large < 1000 * seconds
    if kind in ("hubert", "wav2vec2"):
        assert table.seconds(architecture.tiny(model_type=kind), 10.0) < 0.3 * base


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["latency", "--device", "My Pi"], "--device: 'My Pi' is not lower-case words"),
        (["recommend", "<= 20 ms on epyk-1-threads"], "unknown device 'epyk'; did you mean 'epyc'"),
        (["recommend", "<= 20 ms on epyc-9-threads"], "unknown table of .* Known: epyc-1-threads"),
        (["recommend", "at most 20 ms"], "is not a limit such as '<= 20 ms on"),
        (["recommend", "<= 20 MB on epyc"], "'20 MB' is not a number with ms, s or nothing"),
    ],
)
def test_mistakes_are_said(arguments, said):
    with pytest.raises(SystemExit, match=said):
        command(*arguments)
