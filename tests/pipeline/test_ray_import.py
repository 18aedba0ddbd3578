"""A list imported on a Ray cluster is the list imported here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manifests.lists import open_list
from manifests.tables import Tables
from pipeline.importing import import_list
from pipeline.intake import ImportOptions, Intake
from tests.clips import stamped, write_clip

pytestmark = pytest.mark.ray
UNEQUAL = {"added_at", "updated_at"}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    from tests import ray_cluster

    with ray_cluster.cluster(2):
        yield


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        write_clip(folder / f"{number}.mp4", stamped(12 + number), fps=25)
    whole = (folder / "0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("no film at all")
    (folder / "twin.mp4").write_bytes(whole)
    return folder


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    found = Tables(root).read(table).sort_by("id").to_pylist()
    return [{name: value for name, value in row.items() if name not in UNEQUAL} for row in found]


def test_films_give_the_same_rows_and_reasons_here_and_on_ray(films: Path, tmp_path: Path) -> None:
    here = import_list("sources", str(films), str(tmp_path / "here"))
    there = import_list("sources", str(films), str(tmp_path / "ray"), ImportOptions(on="ray"))
    assert rows(tmp_path / "ray", "sources") == rows(tmp_path / "here", "sources")
    assert here.decoded == there.decoded == 8  # the twin is known by its content
    assert here.rejected == there.rejected
    assert here.rejected.total() == 2


def test_what_the_table_knows_is_not_decoded_again(films: Path, tmp_path: Path) -> None:
    import_list("sources", str(films), str(tmp_path), ImportOptions(on="ray"))
    again = import_list("sources", str(films), str(tmp_path), ImportOptions(on="ray"))
    assert (again.decoded, again.new, again.merged) == (2, 0, 0)  # the two that cannot be read are tried again


def test_pictures_too_and_more_of_them_than_are_on_their_way_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (40 + number, 64), (number, 30, 40)).save(folder / f"{number:02}.png")
    intake = Intake(open_list(str(folder), "characters"), str(tmp_path / "root"), ImportOptions(on="ray"))
    assert sum(intake.steps()) == 60
    assert [row["width"] for row in sorted(rows(tmp_path / "root", "characters"), key=lambda row: row["file"])] == list(
        range(40, 100)
    )
