"""What a run will cost: numbers worked out by hand, against other implementations, and by simulation."""

import io
import json
import math
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console
from scipy import stats

from manifests import ledger
from manifests.ledger import Committer, Outcome, fold
from manifests.schema import OUTCOMES
from manifests.tables import Tables
from pipeline.__main__ import main
from pipeline.cost import cost_of
from pipeline.cost_page import as_table
from pipeline.plan import plan_run, plan_track
from pipeline.projection import Projection, Yield
from pipeline.timings import SAMPLE, Timing
from tests.rows import go, put_sources, run_of, write_config

CHAIN = {"first": ("First", {"cpus": 2}), "second": ("Second", {"cpus": 1, "gpus": 0.5})}


def cost_at(run):
    tables = Tables(run.config.root)
    return cost_of(run, plan_run(run, tables, fold(tables)), tables)


def tell(run, ended, epoch=1, **made_with):
    """Write outcomes as a worker would: (stage, row, state, seconds)."""
    tables = Tables(run.config.root)
    (plan,) = plan_run(run, tables, ledger.Fold())
    names = [spec.name for spec in plan.specs]
    committer = Committer(tables, epoch)
    for stage, row, state, seconds in ended:
        number = names.index(stage)
        provenance = {"recipe": plan.specs[number].digest, "batch": 1, "device": "cpu x86_64"} | made_with
        key, item = plan.keys[number][row], plan.rows["id"][row].as_py()
        committer.add(Outcome(key, "sources", item, stage, state, seconds=seconds, made_with=provenance))
    committer.flush()


def stage_of(cost, name):
    return next(stage for stage in cost.stages if stage.stage == name)


def test_a_cost_worked_out_by_hand(tmp_path):
    put_sources(tmp_path, [f"n{n:02}" for n in range(60)])
    run = run_of(tmp_path, CHAIN, price_per_gpu_hour=3.0, workers=2)
    tell(run, [("first", n, "done", 10.0) for n in range(16)] + [("first", n, "rejected", 20.0) for n in range(16, 20)])
    tell(run, [("second", n, "done", 1200.0 if n % 3 else 600.0) for n in range(12)], epoch=2)
    cost = cost_at(run)
    first, second = cost.stages
    assert (first.now, first.at_most, first.items.value) == (40, 40, 40)
    assert (second.now, second.at_most) == (4, 44)
    items = 4 + 40 * 16.5 / 21
    assert second.items.value == pytest.approx(items)
    assert first.work_s.value == pytest.approx(40 * 12)
    assert second.work_s.value == pytest.approx(items * 1000)
    assert cost.cpu_hours.value == pytest.approx((2 * 480 + items * 1000) / 3600)
    assert cost.gpu_hours.value == pytest.approx(0.5 * items * 1000 / 3600)
    assert cost.money.value == pytest.approx(3 * 0.5 * items * 1000 / 3600)
    assert cost.wall_s.value == pytest.approx((480 + items * 1000) / 2)
    assert cost.yields["sources"].value == pytest.approx(items * 12.5 / 13)
    for each in (first.work_s, second.work_s, cost.money, cost.wall_s):
        assert each.low < each.value < each.high


def test_wilsons_interval_is_that_of_scipy():
    for passed, ended in ((0, 1), (1, 1), (3, 7), (20, 20), (990, 1000)):
        theirs = stats.binomtest(passed, ended).proportion_ci(method="wilson")
        assert Yield(passed, ended).interval() == pytest.approx((theirs.low, theirs.high))


def test_the_share_that_passes_is_the_mean_of_jeffreys_posterior():
    for passed, ended in ((0, 3), (20, 20), (990, 1000)):
        assert Yield(passed, ended).share == pytest.approx(stats.beta(passed + 0.5, ended - passed + 0.5).mean())


def projected_at(blank, tables, canary, passed, seconds, batch, chance):
    """Project what is left of a run of two stages whose first rows were measured, as the ledger would tell it."""
    folded, timings = ledger.Fold(), {}
    for row in range(canary):
        key = blank.keys[0][row]
        folded.state[key] = "done" if passed[row] else "rejected"
        folded.reason[key] = "marked"
        if passed[row]:
            folded.state[blank.keys[1][row]] = "done"
    for spec, times, came in zip(blank.specs, seconds, (np.ones_like(passed), passed), strict=True):
        timing = Timing()
        timing.add(times[:canary][came[:canary]], batch, "cpu", chance)
        timings["sources", spec.name] = {spec.digest: timing}
    plan = plan_track(blank.specs, "sources", tables, folded)
    return Projection(plan, timings, chance)


SHAPES = {
    "steady": lambda chance, size: 1 + 0.1 * chance.standard_normal(size),
    "long tail": lambda chance, size: chance.lognormal(0, 0.7, size),
    "two kinds": lambda chance, size: np.where(chance.random(size) < 0.25, 5, 1) * chance.uniform(0.9, 1.1, size),
}


@pytest.mark.parametrize(("shape", "batch"), [("steady", 1), ("long tail", 1), ("long tail", 8), ("two kinds", 1)])
def test_the_projected_range_holds_the_truth_in_nine_of_ten_simulations(tmp_path, shape, batch):
    """Worlds are drawn: how many pass, how long each item takes. The first rows are measured, the rest is the truth."""
    rows, sims, canary = 400, 60, 30 if batch == 1 else 160
    chance = np.random.default_rng(7)
    put_sources(tmp_path, [f"n{n:03}" for n in range(rows)])
    tables = Tables(tmp_path)
    (blank,) = plan_run(run_of(tmp_path, CHAIN), tables, ledger.Fold())
    held = 0
    for _ in range(sims):
        passed = chance.random(rows) < chance.uniform(0.6, 1.0)
        own = [SHAPES[shape](chance, rows) for _ in CHAIN]
        shared = [np.repeat(times.reshape(-1, batch).mean(1), batch) for times in own]
        known = projected_at(blank, tables, canary, passed, shared, batch, chance)
        truth = own[0][canary:].sum() + own[1][canary:][passed[canary:]].sum()
        low, high = np.quantile(sum(draws for _, draws in known.work), (0.025, 0.975))
        held += low <= truth <= high
    assert held / sims >= 0.9


def test_many_measurements_give_the_range_that_the_normal_distribution_gives(tmp_path):
    chance = np.random.default_rng(3)
    put_sources(tmp_path, [f"n{n:04}" for n in range(2000)])
    run = run_of(tmp_path, {"first": "First"})
    seconds = chance.gamma(4.0, 2.0, 1000)
    tell(run, [("first", row, "done", took) for row, took in enumerate(seconds)])
    (first,) = cost_at(run).stages
    own = math.sqrt(1000) * seconds.std(ddof=1)
    half = 1.96 * math.hypot(own, 1000 * seconds.std(ddof=1) / math.sqrt(1000))
    assert first.work_s.value == pytest.approx(1000 * seconds.mean())
    assert first.work_s.high - first.work_s.low == pytest.approx(2 * half, rel=0.08)


def test_what_was_never_measured_is_named_and_not_guessed(tmp_path):
    put_sources(tmp_path, "abcdefgh")
    cost = cost_at(run_of(tmp_path, CHAIN))
    assert cost.unknown == ["sources.first", "sources.second"]
    assert cost.work_s.value == 0
    assert stage_of(cost, "second").items is None  # how many pass `first` is not known either
    assert stage_of(cost, "second").at_most == 8


def test_a_stage_that_no_row_has_reached_asks_for_a_larger_canary(tmp_path):
    put_sources(tmp_path, [f"n{n:03}" for n in range(400)])
    run = run_of(tmp_path, CHAIN)
    tell(run, [("first", row, "rejected", 1.0) for row in range(20)])
    cost = cost_at(run)
    assert (cost.unknown, cost.canary) == (["sources.second"], 100)
    tell(run, [("first", row, "done", 1.0) for row in range(20, 22)], epoch=2)
    assert cost_at(run).canary == 22  # two rows stand before it already


def test_no_number_is_cut_on_a_narrow_terminal(tmp_path):
    put_sources(tmp_path, [f"n{n:04}" for n in range(3000)])
    run = run_of(tmp_path, CHAIN)
    tell(run, [("first", row, "done", 1.0 + row) for row in range(30)])
    tell(run, [("second", row, "done", 100.0 + row) for row in range(30)], epoch=2)
    for width, shown in ((80, "2,922"), (200, "2,922 (2,")):
        console = Console(width=width, file=io.StringIO())
        console.print(as_table(cost_at(run)))
        told = console.file.getvalue()
        assert shown in told
        assert "…" not in told


def test_few_measurements_give_a_number_and_no_range(tmp_path):
    put_sources(tmp_path, [f"n{n:03}" for n in range(40)])
    run = run_of(tmp_path, {"first": "First"})
    tell(run, [("first", row, "done", 1.0 + row) for row in range(3)])
    cost = cost_at(run)
    assert cost.work_s.value == pytest.approx(37 * 2.0)
    assert cost.work_s.low is None


def test_another_recipe_of_the_stage_serves_until_the_present_one_is_measured(tmp_path):
    put_sources(tmp_path, [f"n{n:02}" for n in range(30)])
    old = run_of(tmp_path, {"first": ("First", {"value": 1})})
    older = run_of(tmp_path, {"first": ("First", {"value": 2})})
    tell(older, [("first", row, "done", 50.0) for row in range(15)])
    tell(old, [("first", row, "done" if row % 2 else "rejected", 5.0) for row in range(20)], epoch=2)
    run = run_of(tmp_path, {"first": "First"})
    (first,) = cost_at(run).stages
    assert not first.own_recipe
    assert first.timing.mean_s == 5.0  # of the newest that was measured
    assert (first.passes.passed, first.passes.ended) == (10, 20)
    tell(run, [("first", row, "done", 7.0) for row in range(12)], epoch=3)
    (first,) = cost_at(run).stages
    assert first.own_recipe
    assert first.timing.mean_s == 7.0
    assert (first.passes.passed, first.passes.ended) == (12, 12)


def test_adopted_outcomes_and_rows_without_a_worker_do_not_count(tmp_path):
    put_sources(tmp_path, [f"n{n:02}" for n in range(30)])
    run = run_of(tmp_path, {"first": "First"})
    tell(run, [("first", row, "done", 2.0) for row in range(5)])
    tell(run, [("first", row, "done", 2.0) for row in range(5)], epoch=2, adopted=True)
    tell(run, [("first", 9, "quarantined", 900.0)], epoch=3)
    (first,) = cost_at(run).stages
    assert (first.timing.count, first.timing.total_s) == (5, 10.0)
    assert (first.passes.passed, first.passes.ended) == (5, 6)


def test_where_all_were_adopted_they_are_what_was_measured(tmp_path):
    put_sources(tmp_path, [f"n{n:02}" for n in range(30)])
    run = run_of(tmp_path, {"first": "First"})
    tell(run, [("first", row, "done", 2.0) for row in range(5)], adopted=True)
    assert cost_at(run).stages[0].timing.count == 5


def test_rows_that_are_done_behind_a_changed_stage_or_ended_there_cost_nothing_again(tmp_path):
    put_sources(tmp_path, ["a", "b", "reject_me"])
    stages = {"noop": "NoOp", "first": "First", "second": "Second"}
    go(run_of(tmp_path, stages))
    changed = run_of(tmp_path, stages | {"noop": ("NoOp", {"value": 9})})  # the others do not hang on it
    cost = cost_at(changed)
    assert [stage.at_most for stage in cost.stages] == [3, 0, 0]
    assert cost.yields["sources"].value == pytest.approx(2 * 3.5 / 4)


def test_rows_that_share_a_key_are_one_item(tmp_path):
    put_sources(tmp_path, [f"n{n}" for n in range(6)])
    run = run_of(tmp_path, {"shared": ("Shared", {"log": str(tmp_path / "log")})})
    assert cost_at(run).stages[0].items.value == 1


def test_pools_wait_for_their_slowest_stage(tmp_path):
    put_sources(tmp_path, [f"n{n:03}" for n in range(220)])
    stages = {
        "first": ("First", {"max_workers": 2, "batch_size": 1}),
        "second": ("Second", {"max_workers": 50, "batch_size": 1}),
    }
    run = run_of(tmp_path, stages)
    tell(run, [("first", row, "done", 3.0) for row in range(20)] + [("second", row, "done", 20.0) for row in range(20)])
    cost = cost_at(run)
    assert cost.slowest == "sources.first"
    assert cost.pools_s.value == pytest.approx(200 * 3.0 / 2)
    without = run_of(tmp_path, stages | {"second": "Second"})  # as many as find room: nobody knows how many
    assert cost_at(without).pools_s is None


def test_no_number_of_workers_is_faster_than_one_row_is_through_all_stages(tmp_path):
    put_sources(tmp_path, [f"n{n:03}" for n in range(30)])
    run = run_of(tmp_path, {"first": ("First", {"batch_size": 1})}, workers=1000)
    tell(run, [("first", row, "done", 60.0) for row in range(20)])
    assert cost_at(run).wall_s.value == 60.0


def test_half_a_million_outcomes_are_read_in_seconds_and_little_memory(tmp_path):
    rows = 500_000
    chance = np.random.default_rng(0)
    seconds = chance.gamma(2.0, 0.5, rows)
    made_with = json.dumps(
        {"recipe": "abc", "batch": 1, "device": "cpu x86_64", "libraries": {"numpy": "2.4.6"}, "word": "x" * 200}
    )
    columns = {
        "track": pa.repeat("sources", rows), "stage": pa.repeat("first", rows),
        "state": pa.repeat("done", rows), "seconds": pa.array(seconds), "made_with": pa.repeat(made_with, rows),
        "written_at": pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), rows),
    }  # fmt: skip
    arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in OUTCOMES]
    Tables(tmp_path).append("outcomes", pa.Table.from_arrays(arrays, schema=OUTCOMES))
    del columns, arrays
    script = (
        "import resource, sys, time\n"
        "from manifests.tables import Tables\n"
        "from pipeline.timings import read_timings\n"
        "tables = Tables(sys.argv[1])\n"
        "tables.count('outcomes')\n"
        "before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()\n"
        "timing = read_timings(tables, [('sources', 'first')])['sources', 'first']['abc']\n"
        "took = time.perf_counter() - started\n"
        "print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, timing.count, timing.total_s)\n"
    )
    told = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    took_s, grew_kib, count, total_s = map(float, told.stdout.split())
    assert count == rows
    assert total_s == pytest.approx(seconds.sum())
    assert took_s < 15  # measured 1.5 s beside other work
    assert grew_kib < 120 * 1024  # the columns that are read are 170 MB


def test_the_sample_has_the_quantiles_of_the_whole():
    chance = np.random.default_rng(1)
    whole, timing = chance.lognormal(0, 1, 50_000), Timing()
    for part in np.array_split(whole, 60):
        timing.add(part, 1, "cpu", chance)
    assert len(timing.seconds) == SAMPLE
    assert set(timing.seconds) <= set(whole)
    for share in (0.1, 0.5, 0.9):
        assert np.mean(whole <= np.quantile(timing.seconds, share)) == pytest.approx(share, abs=0.02)
    assert timing.mean_s == pytest.approx(whole.mean())


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_canary_measures_on_real_workers_and_its_rows_stay_done(tmp_path):
    put_sources(tmp_path / "root", [f"n{n:02}" for n in range(40)])
    stages = {"trouble": ("Trouble", {"sleep_s": 0.02, "batch_size": 1}), "first": "First"}
    config = write_config(tmp_path / "run.yaml", tmp_path / "root", stages, price_per_gpu_hour=1.5)
    told = call("plan", config).stdout
    assert f"not measured yet: sources.trouble, sources.first; `bodydouble run {config} --canary 20` measures" in told
    told = json.loads(call("run", config, "--canary", 12, "--quiet", "--json").stdout)
    assert [line["in"] for line in told["tables"]["sources"]] == [12, 12, 12]
    trouble = told["cost"]["stages"][0]
    assert (trouble["now"], trouble["seconds"]["measured"]) == (28, 12)
    assert 28 * 0.02 < trouble["work_s"]["value"] < 28 * 0.1
    planned = json.loads(call("plan", config, "--json").stdout)
    assert planned["cost"] == told["cost"]  # the same ledger, the same numbers
    assert "the first 40 rows of each table" in call("run", config, "--canary", 40, "--quiet").stdout
    assert Tables(tmp_path / "root").count("outcomes") == 80
    assert "nothing is left to do" in call("plan", config).stdout
    assert "name one of them" in call("run", config, "--canary", 2, "--limit", 2, code=2).output
