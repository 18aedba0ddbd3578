"""The commands as a user types them."""

import json
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

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


def test_every_command_has_help_with_an_example():
    def commands(group, words):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, [*words, name])
            else:
                yield [*words, name]

    for words in commands(main, []):
        told = call(*words, "--help").output
        assert f"bodydouble {' '.join(words)}" in told.split("Options:")[0].replace("Usage: bodydouble", "", 1) or (
            words == ["demo"]
        ), words


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


def test_a_root_without_tables_is_empty_and_no_error(tmp_path):
    config = write_config(tmp_path / "run.yaml", tmp_path / "nothing", {"first": "First"})
    lines = call_json("run", config, "--quiet")["tables"]["sources"]
    assert [line["in"] for line in lines] == [0, 0]
