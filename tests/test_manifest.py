"""Your own list of recordings: every mistake is a sentence with its line, however long the list."""

import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech_pareto.data.corpora import manifest
from speech_pareto.data.recording import SPLITS


def table(folder, *rows):
    """Write rows as a TSV file."""
    path = folder / "mine.tsv"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def listed(path):
    """Return the recordings of a list."""
    return manifest.recordings({"languages": ["en"]}, path)


def refused(path):
    """Return what is said of a list that is refused."""
    with pytest.raises(ValueError, match="mine.tsv") as caught:
        listed(path)
    return str(caught.value)


def files(folder, *names):
    """Make files of these names; a list looks for them, it does not read them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_every_bad_row_is_named_with_its_line(tmp_path):
    files(tmp_path, "a.wav")
    path = table(
        tmp_path,
        ("path", "text", "split", "colour"),
        ("a.wav", "good", "train", "red"),
        ("gone.wav", "no file", "train", "red"),
        ("a.wav", "twice", "tset", "red"),
        ("a.wav", "too short"),
    )
    message = refused(path)
    for part in ("unknown column 'colour'", "line 3: no such recording: gone.wav"):
        assert part in message
    for part in (
        "line 4: split 'tset'",
        "line 5: 4 columns expected",
        "line 4: a.wav: listed twice, in line 2",
    ):
        assert part in message


def test_of_each_kind_the_first_ten_are_named(tmp_path):
    rows = [(f"{i}.wav", "tset") for i in range(1_000)]
    message = refused(table(tmp_path, ("path", "split"), *rows))
    assert message.count("\n") == 22
    assert "and 990 more: rows without a recording" in message
    assert "and 990 more: rows with an unknown split" in message


@pytest.mark.slow
def test_a_list_of_a_hundred_thousand_rows_is_read(tmp_path):
    for folder in range(100):
        (tmp_path / str(folder)).mkdir()
    names = [f"{i % 100}/{i}.wav" for i in range(20_000)]
    for name in names:
        os.mknod(tmp_path / name)
    rows = [(name, f"sentence {i}") for i, name in enumerate(names)]
    rows += [("gone.wav", "")] * 80_000
    # Work that grows with the square of the rows would not end here.
    assert "and 79,990 more: rows" in refused(table(tmp_path, ("path", "text"), *rows))
    assert len(listed(table(tmp_path, ("path", "text"), *rows[:20_000]))) == 20_000


@pytest.mark.parametrize("spelling", ["./0.wav", "../here/0.wav", "link.wav", "hard.wav"])
def test_the_same_recording_under_two_names_is_refused(tmp_path, spelling):
    here = tmp_path / "here"
    files(here, "0.wav")
    (here / "link.wav").symlink_to("0.wav")
    (here / "hard.wav").hardlink_to(here / "0.wav")
    path = table(here, ("path", "split"), ("0.wav", "train"), (spelling, "test"))
    assert f"line 3: {spelling}: listed twice, in line 2 too, there as 0.wav" in refused(path)


@pytest.mark.parametrize("name", ["path", "text"])
def test_a_column_named_twice_is_refused(tmp_path, name):
    path = table(tmp_path, ("path", "text", name), ("a", "b", "c"))
    assert f"line 1: the column {name!r} is named twice" in refused(path)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_list", ["NFC", "NFD"])
def test_accents_in_file_names_may_be_written_either_way(tmp_path, on_disk, in_list):
    files(tmp_path, unicodedata.normalize(on_disk, "été.wav"))
    path = table(tmp_path, ("path",), (unicodedata.normalize(in_list, "été.wav"),))
    assert listed(path)[0].path.is_file()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("path\ttext\na.wav\tété\n".encode("latin-1"), r"line 2: this is not UTF-8 \(byte 0xe9"),
        ("path\ttext\na.wav\tété\n".encode("utf-16"), "line 1: this is UTF-16, not UTF-8"),
        (b"path\ttext\na.wav\tx\0\0\n", "line 2: this is no text file"),
        (b"path\ttext\na.wav\t" + b"word " * 40_000, "line 2: text has 200,000 characters"),
        (b"", "no column 'path' .found: none"),
        (b"path\n", "lists no recordings"),
        (b"path,text\na.wav,x\n", "no column 'path' .found: 'path,text'"),
        (b"path\n" + b"x" * 5_000, "line 2: no such recording"),
    ],
    ids=["latin-1", "utf-16", "binary", "long", "empty", "header", "commas", "long-name"],
)
def test_what_is_no_list_is_one_sentence(tmp_path, data, said):
    files(tmp_path, "a.wav")
    (tmp_path / "mine.tsv").write_bytes(data)
    with pytest.raises(ValueError, match=rf"mine\.tsv.*(?s:.*){said}"):
        listed(tmp_path / "mine.tsv")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["unix", "windows", "old-mac"])
def test_lists_of_all_systems_are_read(tmp_path, start, end):
    files(tmp_path, "a.wav", "b.wav")
    (tmp_path / "mine.tsv").write_bytes(
        start + end.join([b"path\ttext", b"a.wav\tone", b"", b"b.wav\ttwo", b""])
    )
    assert [(r.id, r.text) for r in listed(tmp_path / "mine.tsv")] == [
        ("a.wav", "one"),
        ("b.wav", "two"),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a few recordings, one of them linked."""
    folder = tmp_path_factory.mktemp("lists")
    files(folder, "0.wav", "1.wav", "2.wav")
    (folder / "link.wav").symlink_to("0.wav")
    return folder


FIELDS = st.one_of(
    st.sampled_from(["0.wav", "1.wav", "./1.wav", "link.wav", "gone.wav", "", *SPLITS, "tset"]),
    st.text(st.characters(blacklist_characters="\t\n\r", codec="utf-8"), max_size=20),
)
HEADERS = st.lists(st.sampled_from([*manifest.COLUMNS, "colour"]), max_size=6)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(header=HEADERS, rows=st.lists(st.lists(FIELDS, max_size=6), max_size=8))
def test_any_list_is_read_or_refused_in_words(folder, header, rows):
    check(folder, "\n".join("\t".join(row) for row in [header, *rows]).encode())


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"path\n", b"path\ttext\n"]))
def test_any_bytes_are_read_or_refused_in_words(folder, data, start):
    check(folder, start + data)


def check(folder, data):
    """Read a list of these bytes: each recording once, in files that are there; or a sentence."""
    path = folder / "mine.tsv"
    path.write_bytes(data)
    try:
        found = listed(path)
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error)
        return
    assert found and all(one.path.is_file() and one.split in ("", *SPLITS) for one in found)
    assert len({one.path.resolve() for one in found}) == len(found)
