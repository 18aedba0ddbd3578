"""A report: its numbers against counts made by hand, what it does on roots half-way, and what it never does."""

import base64
import hashlib
import io
import json
import re
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from manifests import ledger, tombstones
from manifests.lease import Lease
from manifests.media import read_mp4
from manifests.store import Store
from manifests.tables import Tables
from manifests.verdicts import Limit
from pipeline import report as room
from pipeline.__main__ import main
from pipeline.config import load
from pipeline.packing import pack
from pipeline.report_films import HEIGHT_PX, film
from pipeline.report_pairs import margins_of
from pipeline.report_training import ReportError
from pipeline.takedown import impact
from pipeline.takedown_forget import forget
from tests import pack_samples
from tests.pipeline.small_pairs import put, put_pairs, settle, write_config

KEEP = {"min": {"motion": 0.35, "judge.identity": 2}}
VOID = {"meta", "link", "img", "input", "br", "col"}


class Page(HTMLParser):
    """A page as a program reads it: rows of tables by their `data-line`, all text, all tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self._row: list[list[str]] | None = None
        self._in_cell = False
        self.feed(text)
        assert self.open == []  # what was opened is closed

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.append((tag, told))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._row = [] if "data-line" in told else None
            if self._row is not None:
                self.rows.setdefault(told["data-line"], [])
                self.rows[told["data-line"]] = self._row
        if tag in ("td", "th") and self._row is not None:
            self._row.append([])
            self._in_cell = True

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.words.append(data)
        if self._row and self._in_cell:
            self._row[-1].append(data)

    def cells(self, line: str) -> list[str]:
        return [" ".join("".join(words).split()) for words in self.rows[line]]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pack_samples.make(tmp_path_factory.mktemp("made"))


def copied(made, folder):
    shutil.copytree(made.root, folder / "root")
    config = made.config | {"root": str(folder / "root"), "keep": KEEP}
    return pack_samples.Small(folder / "root", made.sources, made.characters, made.pairs, config)


@pytest.fixture
def small(made, tmp_path):
    return copied(made, tmp_path)


@pytest.fixture(scope="module")
def steady(made, tmp_path_factory):
    """A root that no test changes."""
    return copied(made, tmp_path_factory.mktemp("steady"))


def report(small, path, *words, code=0):
    found = CliRunner().invoke(main, ["report", str(small.write(path)), *words])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def told(steady):
    return json.loads(report(steady, steady.root.parent / "run.yaml", "--json"))


def page_of(told) -> Page:
    return Page(Path(told["page"]).read_text())


def kept_by_hand(small) -> set[int]:
    """Which pairs, by number, are within KEEP: `pack_samples` gives motion n / 10 and identity 1 + n % 5."""
    return {n for n in range(len(small.pairs)) if n / 10 >= 0.35 and 1 + n % 5 >= 2}


def test_its_numbers_are_those_counted_by_hand_out_of_the_ledger(steady, told):
    kept = kept_by_hand(steady)
    pairs = told["pairs"]
    assert (pairs["usable"], pairs["finished"], pairs["kept"]) == (12, 12, len(kept))
    low = [n for n in range(12) if n / 10 < 0.35]
    assert pairs["dropped"] == {
        "motion_low": len(low),
        "judge.identity_low": len([n for n in range(12) if n not in kept and n not in low]),
    }
    outcomes = Counter(
        (row["track"], row["stage"])
        for row in Tables(steady.root).read("outcomes").to_pylist()
        if row["state"] == "done"
    )
    for track, lines in told["tables"].items():
        for line in lines[1:]:
            assert line["done"] == outcomes[track, line["stage"]]
            assert line["in"] == line["done"] + line["pending"]
    rows = {row["id"]: row for row in Tables(steady.root).read("pairs").to_pylist()}
    for side in ("source", "character"):
        counted = Counter(rows[steady.pairs[n]][side] for n in kept)
        assert {line["name"]: line["kept"] for line in told["yield"][side]} == {
            name: counted[name] for name in getattr(steady, f"{side}s")
        }
    assert told["yield"]["character domain"] == [
        {"name": "cartoon", "pairs": 12, "finished": 12, "kept": len(kept), "share": len(kept) / 12}
    ]


def test_histograms_count_each_pair_once_on_the_right_side_of_the_limit(steady, told):
    scores = {line["name"]: line for line in told["scores"]}
    assert [line["name"] for line in told["scores"]][:2] == ["motion", "judge.identity"]  # those with a limit
    for name, values in (("motion", [n / 10 for n in range(12)]), ("judge.identity", [1 + n % 5 for n in range(12)])):
        line = scores[name]
        assert sum(line["counts"]) == line["count"] == 12
        (limit,) = line["limits"]
        beyond = sum(
            count
            for count, left, right in zip(line["counts"], line["edges"], line["edges"][1:], strict=False)
            if (left + right) / 2 < limit["value"]
        )
        assert beyond == sum(value < limit["value"] for value in values)


def test_the_page_says_the_numbers_of_the_json(steady, told):
    page = page_of(told)
    for track, lines in told["tables"].items():
        for line in lines:
            cells = page.cells(f"{track}.{line['stage']}")
            rejected, quarantined = (sum(line[state].values()) for state in ("rejected", "quarantined"))
            assert cells[2:7] == [str(n) for n in (line["in"], line["done"], rejected, quarantined, line["pending"])]
    for kind in ("character domain", "character", "source"):
        for line in told["yield"][kind]:
            cells = page.cells(line["name"])
            assert cells[1:4] == [str(line[name]) for name in ("pairs", "finished", "kept")]
            assert cells[4] == f"{line['share']:.0%}"
    assert f"{told['pairs']['kept']} of 12 finished pairs are kept" in page.text
    for step in told["next"]:
        assert step["say"].replace("`", "") in page.text
        assert step["do"] is None or step["do"] in page.text
    shown = [attributes["id"] for tag, attributes in page.tags if tag == "article" and "id" in attributes]
    assert shown == [pair["id"] for pair in told["shown"]["pairs"]]
    labels = [attributes.get("aria-label") or "" for tag, attributes in page.tags if tag == "svg"]
    assert all(any(label.startswith(f"{score['name']}: 12 pairs") for label in labels) for score in told["scores"])


def test_best_worst_borderline_and_random_pairs_are_what_they_are_called(steady, told):
    numbers = {pair: n for n, pair in enumerate(steady.pairs)}
    motion, identity = np.arange(12) / 10, 1 + np.arange(12) % 5
    margin = np.minimum((motion - 0.35) / motion.std(), (identity - 2) / identity.std())
    groups: dict[str, list[int]] = {}
    for pair in told["shown"]["pairs"]:
        number = numbers[pair["id"]]
        groups.setdefault(pair["group"], []).append(number)
        assert pair["margin"] == pytest.approx(margin[number])
        assert pair["kept"] == (number in kept_by_hand(steady))
        assert pair["scores"]["motion"] == pytest.approx(number / 10)
        assert pair["texts"]["prompt"] == f"a figure of kind {number}"
        assert (pair["source"]["licence"], pair["source"]["consent"]) == ("CC-BY-4.0", "granted")
    assert margin[groups["best"][0]] == margin.max()
    assert margin[groups["worst"][0]] == margin.min()
    assert abs(margin[groups["borderline"][0]]) == np.abs(margin).min()
    assert sorted(n for group in groups.values() for n in group) == list(range(12))  # each once: there are 12
    few = json.loads(
        report(
            steady,
            steady.root.parent / "run.yaml",
            "--json",
            "--films",
            "4",
            "-o",
            str(steady.root.parent / "few.html"),
        )
    )
    assert [pair["group"] for pair in few["shown"]["pairs"]] == ["best", "worst", "borderline", "random"]


def test_a_pair_shows_its_films_frame_for_frame_in_one_rate(steady, told, tmp_path):
    page = page_of(told)
    films = [attributes for tag, attributes in page.tags if tag == "video"]
    assert len(films) == 3 * 12
    lengths = [number["source"]["frames"] for number in told["shown"]["pairs"]]
    for place, attributes in enumerate(films):
        head, _, data = attributes["data-src"].partition(",")
        assert head == "data:video/mp4;base64"
        path = tmp_path / "film.mp4"
        path.write_bytes(base64.b64decode(data))
        with av.open(str(path)) as file:
            times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
            assert file.streams.video[0].codec_context.name == "h264"
        assert times == pytest.approx([n / pack_samples.FPS for n in range(lengths[place // 3])])


def test_a_film_is_made_small_and_keeps_its_form_and_what_it_shows(tmp_path):
    frames = np.zeros((7, 480, 854, 3), np.uint8)
    for n, frame in enumerate(frames):
        frame[:, : 122 * (n + 1)] = (200, 40, 40)
    part = film("source", iter(frames), 24000 / 1001)
    assert (part.height, part.frames) == (HEIGHT_PX, 7)
    assert abs(part.width - 854 * HEIGHT_PX / 480) <= 1
    (tmp_path / "film.mp4").write_bytes(part.data)
    seen = read_mp4(tmp_path / "film.mp4")
    assert seen.fps == pytest.approx(24000 / 1001)
    red = (seen.frames[:, :, :, 0] > 100).mean(axis=(1, 2))
    assert red == pytest.approx([122 * (n + 1) / 854 for n in range(7)], abs=0.01)
    assert len(part.data) < 20_000


def test_no_text_of_data_becomes_markup_and_nothing_is_asked_for_outside(small, tmp_path):
    evil = '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)>'
    row = Tables(small.root).read("characters", where=f"id = '{small.characters[0]}'").to_pylist()[0]
    put(small.root, "characters", [row | {"identity": evil, "origins": [evil], "domain": evil, "tags": [evil]}])
    run = small.run()
    made = {pair: {"prompt": evil, "seed": 1, evil: 3.5} for pair in small.pairs[:3]}
    settle(run, "pairs", "render", made)
    settle(run, "pairs", "judge", {pair: {"motion": 1.0, "judge": {"identity": 5, evil: evil}} for pair in small.pairs})
    page = page_of(json.loads(report(small, tmp_path / "run.yaml", "--json")))
    assert page.text.count('<script>alert("x")</script>') > 3  # it is there, as text
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data-src", "action", "poster", "srcset"):
            value = attributes.get(name) or "data:"
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    text = Path(tmp_path / "root/reports/report.html").read_text()
    (policy,) = [told["content"] for tag, told in page.tags if told.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "fetch(" not in text
    assert "XMLHttpRequest" not in text


def test_an_empty_root_and_one_without_pairs_say_so_in_each_section(tmp_path):
    path = write_config(tmp_path / "run.yaml", tmp_path / "root")
    told = room.write_report(load(path), path)
    assert told["next"][0]["do"] == f"bodydouble import sources LIST --root {tmp_path}/root"
    text = page_of(told).text
    for sentence in (
        "Nothing was imported under this root yet.", "There are no pairs yet, so there is no yield.",
        "No pair has a score yet", "No stage has worked yet", "No pair came through all stages yet",
        "No training was named", "Nothing can be packed yet",
    ):  # fmt: skip
        assert sentence in text
    put_pairs(tmp_path / "root", 5)
    told = room.write_report(load(path), path)
    assert told["pairs"] == {
        "usable": 5, "finished": 0, "kept": 0, "dropped": {}, "limits": [], "problem": None,
    }  # fmt: skip
    assert any("Pending: 7 characters, 5 pairs" in step["say"] for step in told["next"])


def test_percentiles_of_scores_that_are_still_to_come_are_no_error(tmp_path):
    put_pairs(tmp_path / "root", 5)
    keep = {"min_percentile": {"motion": 20}, "at": 1}
    path = write_config(tmp_path / "run.yaml", tmp_path / "root", keep=keep)
    settle(load(path), "characters", "frame", {f"chr_{n}": {"framing": "full"} for n in range(7)})
    told = room.write_report(load(path), path)
    assert "no pair has that score yet" in told["pairs"]["problem"]
    assert "No pair has a verdict yet" in page_of(told).text


def test_what_next_names_what_is_left_and_its_commands_exist(small, tmp_path):
    """Each command is one that `--help` knows, with options that it takes."""
    run = small.run(keep=KEEP)
    settle(run, "pairs", "judge", {small.pairs[3]: None}, ledger.QUARANTINED)
    settle(run, "pairs", "judge", {small.pairs[4]: None, small.pairs[5]: None}, ledger.REJECTED)
    settle(run, "pairs", "render", {small.pairs[6]: None}, ledger.REQUEUED)
    told = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    steps = {step["do"].split()[1]: step for step in told["next"] if step["do"]}
    assert steps["run"]["say"].startswith("Pending: 1 pair.")
    assert steps["quarantine"]["say"] == "In quarantine: 1 (tested 1). Their last words:"
    assert "Most rows were lost to “tested” in pairs, judge: 2 of 12 pairs (17%)." in " ".join(
        s["say"] for s in told["next"]
    )
    assert steps["whatif"]["do"].endswith("--set keep.min.motion=null")
    assert steps["pack"]["do"] == f"bodydouble pack {tmp_path}/run.yaml"
    for step in told["next"]:
        if step["do"] and step["do"].split()[1] not in ("run", "pack", "requeue"):
            found = CliRunner().invoke(main, shlex.split(step["do"])[1:])
            assert found.exit_code == 0, found.output
        elif step["do"]:
            command = main.commands[shlex.split(step["do"])[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in shlex.split(step["do"]) if word.startswith("--")} <= known


def test_rows_without_a_licence_are_told_with_the_command_that_shows_them(small, tmp_path):
    (row,) = Tables(small.root).read("sources", where=f"id = '{small.sources[0]}'").to_pylist()
    put(small.root, "sources", [row | {"licence": None, "licences": []}])
    told = json.loads(report(small, tmp_path / "run.yaml", "--json", "--films", "0"))
    assert told["kept_out"] == {"sources": {"no_licence": 1}}
    assert told["pairs"]["finished"] == 9  # its three pairs are out, as in the funnel's first line
    assert told["tables"]["pairs"][0]["rejected"] == {"source_no_licence": 3}
    assert "In no pair, by what was said of the sources: no_licence 1" in page_of(told).text
    step = next(each for each in told["next"] if "may be in no pair" in each["say"])
    assert CliRunner().invoke(main, shlex.split(step["do"])[1:]).exit_code == 0


def test_shards_that_stand_are_counted_and_then_stage_two_is_what_is_next(small, tmp_path):
    pack(small.run())
    told = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    kept = len(kept_by_hand(small))
    assert told["shards"]["missing"] == 0
    assert (
        told["shards"]["planned"] == told["shards"]["written"] == len(list((small.root / "shards/main").glob("*.tar")))
    )
    assert told["shards"]["kinds"]["pack"]["done"] == kept
    assert told["next"][-1]["do"].startswith("bodydouble train pipeline/configs/stage_two.yaml --dry-run --set ")


def test_a_film_that_is_gone_is_told_in_its_place(small, tmp_path):
    (row,) = Tables(small.root).read("outcomes", where=f"item = '{small.pairs[0]}' AND stage = 'render'").to_pylist()
    (small.root / row["artifacts"][0]["address"]).unlink()
    told = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    page = page_of(told)
    assert f"artifact {row['artifacts'][0]['address']} is missing" in page.text
    assert len([1 for tag, _ in page.tags if tag == "video"]) == 3 * 12 - 1


def test_pairs_for_which_there_is_no_room_are_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.report.MOST_BYTES", 60_000)
    told = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    shown = [pair["id"] for pair in told["shown"]["pairs"]]
    assert 0 < len(shown) < 12
    assert sorted(shown + told["shown"]["left_out"]) == sorted(small.pairs)
    assert f"For {12 - len(shown)} there was no room in the page" in page_of(told).text


def training(folder: Path, steps: int = 40) -> Path:
    (folder / "samples").mkdir(parents=True)
    lines = []
    for step in range(10, steps + 1, 10):
        lines.append({"step": step, "loss": 100 / step, "grad_norm": 1.0, "lr": 1e-3, "samples": 8 * step,
                      "seconds": 1.0, "tokens_per_s": 50.0, "mfu": None, "broken": int(step == 20)})  # fmt: skip
        looks = {name: {"0.5": 1.0, "mean": 10 / step + shift} for name, shift in (("raw", 0.5), ("ema", 0.0))}
        lines.append({"step": step, "validation": looks, "held_out": "x"})
    text = "\n".join(map(json.dumps, lines))
    (folder / "metrics.jsonl").write_text(text + '\n{"step": 50, "lo')  # the last line is being written
    for step, grey in ((20, 50), (40, 200)):
        Image.new("RGB", (300, 120), (grey, grey, grey)).save(folder / f"samples/step-{step:08d}.png")
    return folder


def test_trainings_show_their_curves_and_their_newest_samples(small, tmp_path):
    one, two = training(tmp_path / "one"), training(tmp_path / "two")
    state = {"mathematics": {"strategy": "rgb_driven"}}
    (two / "checkpoints/step-00000040").mkdir(parents=True)
    (two / "checkpoints/step-00000040/state.json").write_text(json.dumps(state))
    words = ["--json", "--training", str(one), "--training", str(two)]
    told = json.loads(report(small, tmp_path / "run.yaml", *words))
    assert [(each["steps"], each["loss"], each["broken"], each["sheet_step"]) for each in told["training"]] == [
        (40, 2.5, 1, 40), (40, 2.5, 1, 40),
    ]  # fmt: skip
    assert [each["of"] for each in told["training"]] == ["", "stage two: raw video drives"]
    assert told["training"][0]["validation"] == {"raw": 0.75, "ema": 0.25}
    page = page_of(told)
    (lines,) = [each for each in [[a["points"] for t, a in page.tags if t == "polyline"]] if each]
    x, y = (
        np.array([[float(n) for n in point.split(",")] for point in lines[0].split()])[:, place] for place in (0, 1)
    )
    assert np.corrcoef(x, [10, 20, 30, 40])[0, 1] == pytest.approx(1)
    assert np.corrcoef(y, [10, 5, 10 / 3, 2.5])[0, 1] == pytest.approx(-1, abs=1e-4)  # downwards is larger
    sheets = [a["src"] for t, a in page.tags if t == "img" and "sheet of held-out" in a["alt"]]
    assert len(sheets) == 2
    with Image.open(io.BytesIO(base64.b64decode(sheets[0].partition(",")[2]))) as sheet:
        assert abs(np.asarray(sheet).mean() - 200) < 2  # the newest, not the first
    (tmp_path / "none").mkdir()
    said = report(small, tmp_path / "run.yaml", "--training", str(tmp_path / "none"), code=2)
    assert "holds no metrics.jsonl" in said
    assert "Traceback" not in said


def test_forget_removes_every_report_under_the_root_and_impact_lists_them(small, tmp_path):
    told = json.loads(report(small, tmp_path / "run.yaml", "--json", "--films", "0"))
    other = small.root / "look/mine.html"
    report(small, tmp_path / "run.yaml", "-o", str(other), "--films", "12")
    foreign = small.root / "reports/foreign.html"
    foreign.write_text("<p>a page of somebody else, that names nobody</p>")
    assert impact(str(small.root), small.sources[0]).reports == ["look/mine.html", "reports/report.html"]
    forget(str(small.root), small.sources[0], "asked")
    assert not Path(told["page"]).exists()
    assert not other.exists()
    assert foreign.exists()
    again = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    assert again["pairs"]["usable"] == 9
    text = Path(again["page"]).read_text()
    assert not any(word in text for word in (small.sources[0], "person 0"))


def test_a_report_that_meets_a_takedown_leaves_no_page(small, tmp_path, monkeypatch):
    """The takedown comes between the reading and the writing: films of what is forgotten are in the page already."""
    path = small.write(tmp_path / "run.yaml")
    real = room.html

    def meanwhile(*words):
        forget(str(small.root), small.sources[0], "asked")
        return real(*words)

    monkeypatch.setattr(room, "html", meanwhile)
    with pytest.raises(ReportError, match="something was forgotten while the report was made"):
        room.write_report(load(path), str(path))
    assert list((small.root / "reports").glob("*")) == []
    monkeypatch.undo()
    (stone,) = tombstones.all_of(Tables(small.root))
    with_begun = tombstones.replace(stone, state=tombstones.BEGUN)
    tombstones.write(Tables(small.root), with_begun)
    with pytest.raises(ReportError, match="is being forgotten"):
        room.write_report(load(path), str(path))


def test_a_report_is_made_beside_a_run_that_holds_the_lease(small, tmp_path):
    with Lease.take(str(small.root), "bodydouble run", above=ledger.highest_epoch(Tables(small.root))):
        told = json.loads(report(small, tmp_path / "run.yaml", "--json"))
    assert told["state"]["lives"]
    assert "a run is going on" in page_of(told).text
    assert any(step["do"] and step["do"].startswith("bodydouble status") for step in told["next"])


def test_mistakes_are_one_sentence(small, tmp_path):
    (tmp_path / "file").write_text("x")
    said = report(small, tmp_path / "run.yaml", "-o", str(tmp_path / "file/report.html"), code=2)
    assert "the report cannot be written to" in said
    small.config["keep"] = {"min": {"motoin": 1}}
    assert "did you mean" in report(small, tmp_path / "run.yaml", code=2)


def test_margins_are_distances_in_deviations_and_nan_where_a_score_is_missing():
    scores = {"a": np.array([1.0, 2.0, 3.0, np.nan]), "b": np.array([10.0, 30.0, 20.0, 20.0])}
    margin, _ = margins_of(scores, [Limit("a", "min", 2.0), Limit("b", "max", 25.0)])
    deviations = np.std([1, 2, 3]), np.std([10, 30, 20, 20])
    assert margin[:3] == pytest.approx([-1 / deviations[0], -5 / deviations[1], 5 / deviations[1]])
    assert np.isnan(margin[3])


def test_the_store_is_only_read(small, tmp_path):
    def state():
        return {path: path.stat().st_mtime_ns for path in small.root.rglob("*") if path.is_file()}

    before = state()
    report(small, tmp_path / "run.yaml", "-o", str(tmp_path / "elsewhere.html"))
    assert state() == before
    assert Store(str(small.root)).page("reports/report.html") is None
    assert sorted(path.name for path in tmp_path.glob("elsewhere*")) == ["elsewhere.html"]
