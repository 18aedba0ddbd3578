"""The commands as a user types them."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from manifests.ledger import Committer, Outcome
from manifests.store import Store, as_record
from manifests.tables import Tables
from pipeline.__main__ import main
from tests.rows import put_sources, write_config

CHAIN = {"first": "First", "second": "Second", "trouble": "Trouble"}


@pytest.fixture
def config(tmp_path):
    put_sources(tmp_path / "root", ["a", "b", "reject_me", "raise_me"])
    return str(write_config(tmp_path / "run.yaml", tmp_path / "root", CHAIN))


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def call_json(*arguments):
    return json.loads(call(*arguments, "--json").stdout)


def commands(group, words):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, [*words, name])
        else:
            yield [*words, name]


@pytest.mark.parametrize("words", [*commands(main, [])], ids=" ".join)
def test_every_command_has_help_with_an_example_and_json(words):
    about, _, options = call(*words, "--help").output.partition("Options:")
    assert f"\n  bodydouble {' '.join(words)}" in about  # an example
    assert ("--json" in options) == (words != ["config", "template"])  # which prints YAML


def test_no_line_of_the_first_help_is_cut_on_a_narrow_terminal():
    told = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert all(name in told for name in main.commands)
    assert "..." not in told.split("Commands:")[1]


def test_help_and_a_wrong_word_answer_in_under_two_seconds():
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", "--help"], check=True, capture_output=True)
    assert time.perf_counter() - started < 2  # measured 0.3 s on an idle machine
    imports = [sys.executable, "-X", "importtime", "-m", "pipeline", "--help"]
    told = subprocess.run(imports, check=True, capture_output=True, text=True)
    for heavy in ("torch", "lance", "mediapipe", "decord", "av"):
        assert f" {heavy}\n" not in told.stderr, f"--help imports {heavy}"


def test_plan_run_funnel_and_plan_again(config):
    before = call_json("plan", config)["tables"]["sources"]
    assert before[0] == {"stage": "first", "cached": 0, "to_do": 4, "later": 0, "rejected": 0, "quarantined": 0}
    assert before[1]["later"] == 4
    lines = call_json("run", config, "--quiet")["tables"]["sources"]
    assert [line["stage"] for line in lines] == ["import", "first", "second", "trouble"]
    assert lines == call_json("funnel", config)["tables"]["sources"]
    for line in lines:
        rest = line["done"] + line["pending"] + sum(line["rejected"].values()) + sum(line["quarantined"].values())
        assert line["in"] == rest
    assert lines[1]["rejected"] == {"marked": 1}
    assert lines[3]["quarantined"] == {"KeyError": 1}
    after = call_json("plan", config)["tables"]["sources"]
    assert [line["to_do"] for line in after] == [0, 0, 0]
    for command in ("plan", "funnel"):
        assert "sources" in call(command, config).stdout


def test_limit_and_until_do_only_so_much(config):
    call("run", config, "--quiet", "--limit", 2, "--until", "first")
    lines = call_json("funnel", config)["tables"]["sources"]
    assert [line["done"] for line in lines] == [4, 2, 0, 0]
    assert (
        "there is no such stage in this run; its stages are first" in call("run", config, "--until", "x", code=2).output
    )


def test_quarantine_tells_why_and_requeue_sends_round_again(config, tmp_path):
    call("run", config, "--quiet")
    (row,) = call_json("quarantine", "--root", config)
    assert (row["item"], row["stage"], row["reason"]) == ("src_raise_me", "trouble", "KeyError")
    assert "no such thing in raise_me" in call("quarantine", "--root", tmp_path / "root").stdout
    assert call_json("quarantine", "--root", config, "--where", "reason = 'crashed'") == []
    assert "does not fit table outcomes" in call("requeue", "--root", config, "--where", "raeson = 'x'", code=2).output
    assert call("requeue", "--root", config, "--where", "true").stdout.startswith("1 requeued")
    assert call_json("plan", config)["tables"]["sources"][2]["to_do"] == 1


def test_trace_takes_the_beginning_of_an_id(config):
    call("run", config, "--quiet")
    told = call_json("trace", "src_a", "--root", config)
    assert [each["stage"] for each in told["outcomes"]] == ["first", "second", "trouble"]
    assert "artifacts/first/" in call("trace", "src_a", "--root", config).stdout
    assert "several ids begin with 'src_'" in call("trace", "src_", "--root", config, code=2).output
    assert "has an id that begins with 'src_zzz'" in call("trace", "src_zzz", "--root", config, code=2).output
    assert "is no id" in call("trace", "x' OR 'a'='a", "--root", config, code=2).output


def test_plan_diff_names_the_fields_that_make_stages_run_again(config, tmp_path):
    other = write_config(tmp_path / "other.yaml", tmp_path / "root", CHAIN | {"first": ("First", {"value": 3})})
    told = call("plan", config, "--diff", other).stdout.splitlines()
    assert told[0] == "sources.first runs again: config.value: 0 -> 3"
    assert told[1] == "sources.second runs again: upstream stage first runs again"
    assert len(told) == 2  # trouble does not hang on first
    assert "nothing runs again" in call("plan", config, "--diff", config).stdout


def test_a_root_may_come_from_the_environment(config, tmp_path, monkeypatch):
    monkeypatch.setenv("BODYDOUBLE_ROOT", str(tmp_path / "root"))
    assert call_json("quarantine") == []


def test_a_config_is_validated_and_a_mistake_is_one_line(config, tmp_path):
    assert "is sound: sources.first" in call("config", "validate", config).stdout
    told = call("config", "validate", config, "--set", "stages.sources.first.vlaue=1", code=2).output
    assert told.strip().endswith("unknown field; did you mean 'value'?")
    assert len(told.strip().splitlines()) == 1


def test_look_at_a_row_without_a_skeleton_says_why(config):
    assert "no stage has seen it yet" in call("look", "src_a", "--root", config, code=2).output
    call("run", config, "--quiet")
    assert (
        "stage trouble ended it as quarantined KeyError: "
        in call("look", "src_raise_me", "--root", config, code=2).output
    )
    assert "name an ID, or --all" in call("look", "--root", config, code=2).output


@pytest.mark.parametrize("command", ["run", "plan", "funnel", "quarantine", "requeue"])
def test_a_root_where_nothing_was_imported_is_no_error_and_says_what_comes_first(tmp_path, command):
    root = tmp_path / "nothing"
    config = write_config(tmp_path / "run.yaml", root, {"first": "First"})
    of_a_root = {"quarantine": ["--root", config], "requeue": ["--root", config, "--where", "true"]}
    result = call(command, *of_a_root.get(command, [config]), "--json")
    assert result.stderr == f"nothing was imported under {root} yet: bodydouble import sources LIST --root {root}\n"
    assert "src_" not in result.stdout
    json.loads(result.stdout)
    assert command == "run" or not root.exists()  # asking makes nothing


def test_a_root_may_be_a_url(config, tmp_path):
    told = call("config", "validate", config, "--set", "root=s3://bucket/mine/").stdout
    assert told.endswith(" under s3://bucket/mine\n")
    told = call("look", "--all", "--root", "memory://mine", code=2).stderr
    assert told == (
        "bodydouble: memory://mine is a URL, and pictures are drawn into a folder: name one with --out FOLDER\n"
    )


def test_look_at_a_row_whose_file_is_gone_says_so(tmp_path):
    put_sources(tmp_path, ["gone.mp4"])
    skeleton = as_record(Store(str(tmp_path)).put("s", "k", "skeleton", np.zeros((5, 1, 133, 3), np.float32)))
    committer = Committer(Tables(tmp_path), epoch=1)
    committer.add(Outcome("k", "sources", "src_gone.mp4", "s", "done", artifacts=[skeleton]))
    committer.flush()
    told = call("look", "--all", "--root", tmp_path, code=2).stderr
    assert told.startswith("bodydouble: src_gone.mp4 cannot be drawn: missing")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "CONFIG", "--limit", 2**64], "is not in the range"),
        (["plan", "CONFIG", "--limit", 0], "is not in the range"),
        (["plan", "CONFIG", "--set", "stages"], "write it as"),
        (["quarantine", "--root", ""], "is empty"),
        (["run", "EMPTY"], "holds no mapping"),
        (["funnel", "LIST"], "holds no mapping"),
        (["config", "validate", "BINARY"], "is no YAML"),
        (["funnel", "MISSING"], "cannot be read"),
        (["trace", "", "--root", "ROOT"], "is no id"),
        (["trace", "src_%", "--root", "ROOT"], "is no id"),
    ],
)
def test_odd_input_is_one_sentence(config, tmp_path, arguments, says):
    files = {"EMPTY": b"", "LIST": b"- a", "BINARY": bytes(range(128, 256))}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    places = {"CONFIG": config, "ROOT": tmp_path / "root", **{name: tmp_path / name for name in [*files, "MISSING"]}}
    told = call(*(places.get(each, each) for each in arguments), code=2).stderr
    assert says in told.splitlines()[-1]


def test_an_id_may_hold_letters_of_any_script(tmp_path):
    put_sources(tmp_path, ["日本", "日本語"])
    assert (
        call_json("trace", "src_日本", "--root", tmp_path)["row"]["file"] == "日本"
    )  # whole, and the beginning of another
    assert call_json("trace", "src_日本語", "--root", tmp_path)["row"]["file"] == "日本語"
