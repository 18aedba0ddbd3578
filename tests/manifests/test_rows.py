"""Ids that come from content, and the merging of two rows that have one."""

import itertools

import pyarrow as pa
import pytest

from manifests.entries import Entry, Given, Span
from manifests.facts import FilmFacts
from manifests.inspection import PictureFacts
from manifests.rows import Found, Row, character_row, contradicts, id_of_picture, id_of_segment, merge, rejected_row
from manifests.rows import source_row as make_source_row
from manifests.schema import CHARACTERS, SOURCES
from manifests.segments import Segment

FACTS = FilmFacts(640, 480, 0, 25.0, 100, 4.0, False, "h264", "yuv420p", False)
SHA = "ab" * 32


def source_row(
    file: str = "/a.mp4", segment: Segment | None = None, crop: tuple[int, int, int, int] | None = None, **given: object
) -> Row:
    entry = Entry(file, given=Given(**given), span=Span(crop=crop))  # type: ignore[arg-type]
    return make_source_row(Found(file, SHA, 9), entry, FACTS, segment or Segment(0.0, 25.0, 100))


def gone(_file: str) -> bool:
    return False


def there(_file: str) -> bool:
    return True


def test_rows_fit_their_tables_in_full() -> None:
    picture = character_row(Found("/a.png", SHA, 9), Entry("/a.png"), PictureFacts(10, 20, True, "PNG"))
    for row, schema in ((source_row(), SOURCES), (picture, CHARACTERS)):
        assert set(row) == set(schema.names)
        assert pa.Table.from_pylist([row], schema=schema).to_pylist() == [row]
    for kind, schema in (("sources", SOURCES), ("characters", CHARACTERS)):
        row = rejected_row(kind, Entry("/a"), "missing", "there is no file /a")
        assert pa.Table.from_pylist([row], schema=schema).to_pylist() == [row]


def test_an_id_depends_on_content_and_segment_and_on_nothing_else() -> None:
    row = source_row()
    assert row["id"] == source_row("/elsewhere.mp4", licence="MIT", tags=("x",))["id"]
    others = [
        source_row(segment=Segment(0.04, 25.0, 100)),
        source_row(segment=Segment(0.0, 24.0, 100)),
        source_row(segment=Segment(0.0, 25.0, 99)),
        source_row(crop=(0, 0, 64, 48)),
    ]
    assert len({row["id"], *(other["id"] for other in others)}) == 5
    assert id_of_segment("cd" * 32, Segment(0.0, 25.0, 100), None) != row["id"]
    assert id_of_picture(SHA, None) != id_of_picture(SHA, [0, 0, 1, 1])


def test_ids_do_not_hang_on_the_last_bits_of_a_float() -> None:
    third = Segment(0.1 + 0.2, 30_000 / 1001, 5)
    same = Segment(0.3, 29.97003, 5)
    assert id_of_segment(SHA, third, None) == id_of_segment(SHA, same, None)
    assert id_of_segment(SHA, Segment(-0.0, 25, 5), None) == id_of_segment(SHA, Segment(0, 25.0, 5), None)


def test_ids_stay_what_they_are() -> None:
    """Ids are in users' lists and ledgers: a change of the rule would orphan them."""
    assert id_of_segment(SHA, Segment(0.0, 25.0, 100), None) == "src_51adc641daee2ee7c4ac55c3cd0b189f"
    assert id_of_picture(SHA, [1, 2, 3, 4]) == "chr_7a57aed4b027f6f0eecf846e9d01f6c3"


def test_a_crop_of_the_whole_picture_is_no_crop_and_one_beyond_it_is_a_reason() -> None:
    assert source_row(crop=(0, 0, 640, 480)) == source_row()
    beyond = source_row(crop=(600, 0, 41, 480))
    assert (beyond["reject"], beyond["crop"]) == ("crop_outside_picture", [600, 0, 41, 480])


def test_one_file_with_two_licences_has_the_strictest_and_keeps_both_in_any_order() -> None:
    rows = [
        source_row("/a.mp4", licence="cc by 4.0", consent="granted", origin="page", tags=("a", "b")),
        source_row("/b.mp4", licence="CC-BY-NC-4.0", consent="unknown", tags=("c",)),
        source_row("/c.mp4", origin="owner"),
    ]
    ends = []
    for order in itertools.permutations(rows):
        row: Row | None = None
        for each in order:
            row = merge(row, each, there)
        assert row is not None
        ends.append({name: value for name, value in row.items() if name != "file"})
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["licence"], ends[0]["licences"]) == ("CC-BY-NC-4.0", ["CC-BY-4.0", "CC-BY-NC-4.0"])
    assert (ends[0]["consent"], ends[0]["consents"]) == ("unknown", ["granted", "unknown"])
    assert (ends[0]["origins"], ends[0]["tags"]) == (["owner", "page"], ["a", "b", "c"])


def test_merging_a_row_with_itself_changes_nothing() -> None:
    row = source_row(licence="MIT", consent="granted", identity="anna", tags=("a",))
    assert merge(row, row, there) == row


def test_a_file_stays_where_it_was_as_long_as_it_is_there() -> None:
    old, new = source_row("/old.mp4"), source_row("/new.mp4")
    assert merge(old, new, there)["file"] == "/old.mp4"
    assert merge(old, new, gone)["file"] == "/new.mp4"


def test_the_first_identity_stands_and_a_later_one_is_a_contradiction() -> None:
    anna, bert, nobody = source_row(identity="anna"), source_row(identity="bert"), source_row()
    assert merge(anna, bert, there)["identity"] == "anna"
    assert merge(nobody, bert, there)["identity"] == "bert"
    assert [contradicts(anna, bert), contradicts(anna, nobody), contradicts(nobody, anna)] == [True, False, False]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_was_usable_once_stays_usable(order: tuple[int, int]) -> None:
    rows = [source_row(), source_row(segment=Segment(0.0, 25.0, 100, "too_short", "wanted more"))]
    assert merge(rows[order[0]], rows[order[1]], there)["reject"] is None


def test_the_last_words_of_a_decoder_that_differ_do_not_make_a_new_row() -> None:
    first = rejected_row("sources", Entry("/a.mp4"), "decoder_crashed", "at 0x7f01")
    again = rejected_row("sources", Entry("/a.mp4"), "decoder_crashed", "at 0x7f02")
    assert merge(first, again, there) == first
    assert merge(first, rejected_row("sources", Entry("/a.mp4"), "missing", "gone"), there)["reject"] == "missing"
