"""What to do next, derived from the numbers of a root: each line is a finding, and the command that acts on it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.plan import StageCount
from pipeline.report_charts import said

Step = dict[str, str | None]  # say, and do: a command line, or None where none helps
Funnel = Mapping[str, Sequence[StageCount]]


def next_steps(report: Mapping[str, Any], counts: Funnel, config: str) -> list[Step]:
    """Return what is to be done, the most urgent first.

    Args:
        report: A report's sections, as JSON.
        counts: The funnel.
        config: The run's YAML as it was named; it stands in the commands.
    """
    yaml, root = shlex.quote(config), shlex.quote(report["root"])
    return [
        {"say": say, "do": do}
        for part in (
            _imports(counts, yaml, root),
            _run(report, counts, yaml),
            _quarantine(counts, yaml),
            _rights(report, root),
            _losses(counts, root),
            _limits(report, yaml),
            _shards(report, yaml),
            _training(report),
        )
        for say, do in part
    ] or [{"say": "Nothing is left to do.", "do": None}]


Found = Iterator[tuple[str, str | None]]


def _imports(counts: Funnel, yaml: str, root: str) -> Found:
    """Rows and pairs that are missing."""
    for track, rows in (("sources", "clips"), ("characters", "pictures")):
        if not counts[track][0].entered:
            yield f"No {rows} were imported yet.", f"bodydouble import {track} LIST --root {root}"
    ready = all(counts[track][-1].done for track in ("sources", "characters"))
    if ready and not counts["pairs"][0].entered:
        yield "Sources and characters are ready, and there are no pairs yet.", f"bodydouble pair {yaml}"


def _run(report: Mapping[str, Any], counts: Funnel, yaml: str) -> Found:
    """Rows that wait for a run."""
    pending = {track: sum(line.pending for line in lines) for track, lines in counts.items()}
    told = ", ".join(_count(number, track[:-1]) for track, number in pending.items() if number)
    if report["state"]["lives"]:
        yield (
            f"A run is going on{f'; {told} are still on their way' if told else ''}.",
            (f"bodydouble status --root {yaml} --watch"),
        )
    elif told:
        unknown = report["left"]["cost"]["unknown"]
        if unknown:
            canary = report["left"]["cost"]["canary"]
            yield (
                f"What {', '.join(unknown)} will cost was not measured yet: try a few rows first.",
                (f"bodydouble run {yaml} --canary {canary}"),
            )
        yield f"Pending: {told}.", f"bodydouble run {yaml}"


def _quarantine(counts: Funnel, yaml: str) -> Found:
    """Rows that crashed, hung or met a bug."""
    found: dict[str, int] = {}
    for lines in counts.values():
        for line in lines[1:]:  # the import's line of pairs counts their members' quarantine again
            for reason, number in line.quarantined.items():
                found[reason] = found.get(reason, 0) + number
    if found:
        why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(found.items(), key=lambda each: -each[1]))
        yield (
            f"In quarantine: {sum(found.values()):,} ({why}). Their last words:",
            f"bodydouble quarantine --root {yaml}",
        )
        yield "Once the cause is mended, send them round again:", f"bodydouble requeue --root {yaml} --where true"


def _rights(report: Mapping[str, Any], root: str) -> Found:
    """Rows that may be in no pair by what was said of them."""
    for track, reasons in report["kept_out"].items():
        why = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        yield (
            f"{_count(sum(reasons.values()), track[:-1])} may be in no pair ({why}). What was said of them:",
            (f"bodydouble manifest list --root {root} --table {track} --columns id,file,licence,consent,tags"),
        )


def _losses(counts: Funnel, root: str) -> Found:
    """The most frequent reason for which a table lost rows, and who they are."""
    worst: list[tuple[int, str, str, str]] = []
    for track, lines in counts.items():
        for line in lines:
            worst += [(number, reason, track, line.stage) for reason, number in line.rejected.items()]
    if not worst:
        return
    number, reason, track, stage = max(worst)
    share = f"{number:,} of {counts[track][0].entered:,} {track} ({number / counts[track][0].entered:.0%})"
    say = f"Most rows were lost to “{reason}” in {track}, {stage}: {share}."
    if stage == "import" and track != "pairs":
        clause = _quoted(f"reject = '{reason}'")
        yield say, f"bodydouble manifest list --root {root} --table {track} --where {clause}"
    elif stage == "import":
        side, _, why = reason.partition("_")
        hint = {
            "no_licence": "give its licence and import it again",
            "no_consent": "give its consent and import it again",
        }
        yield f"{say} It is said of the {side}" + (f": {hint[why]}." if why in hint else "."), None
    else:
        yield (
            f"{say} If they were rejected wrongly, change the stage's limits, then send them round again:",
            (
                f"bodydouble requeue --root {root} --rejected --where "
                + _quoted(f"track = '{track}' and stage = '{stage}' and reason = '{reason}'")
            ),
        )


def _limits(report: Mapping[str, Any], yaml: str) -> Found:
    """What `keep` drops, and what other limits would."""
    pairs = report["pairs"]
    if pairs["problem"]:
        yield f"No pair can be kept: {pairs['problem']}.", None
        return
    if not pairs["finished"]:
        return
    if not pairs["limits"]:
        scored = next((score for score in report["scores"] if score["name"].startswith("judge")), None)
        if scored is not None:
            change = f"keep.min.{scored['name']}={said(scored['p10'])}"
            yield (
                "`keep` names no limit, so every finished pair counts as good. What one would drop:",
                (f"bodydouble whatif {yaml} --set {change}"),
            )
        return
    strictest = max(pairs["limits"], key=lambda line: line["alone"])
    if strictest["alone"]:
        score, side = strictest["score"], strictest["side"]
        say = f"The limit on {score} alone drops {_count(strictest['alone'], 'pair')} that all others would keep."
    else:
        strictest = max(pairs["limits"], key=lambda line: line["beyond"])
        score, side = strictest["score"], strictest["side"]
        say = f"{strictest['beyond']:,} of {pairs['finished']:,} finished pairs are beyond the limit on {score}."
    if strictest["beyond"]:
        field = side if strictest["percentile"] is None else f"{side}_percentile"
        yield f"{say} What would be kept without it:", f"bodydouble whatif {yaml} --set keep.{field}.{score}=null"


def _shards(report: Mapping[str, Any], yaml: str) -> Found:
    """Kept pairs that are in no shard."""
    shards = report["shards"]
    if shards["problem"] is None and shards["missing"]:
        missing = f"{shards['missing']:,} of {shards['planned']:,}"
        yield (
            f"{_count(shards['samples'], 'sample')} ready to be packed; shards still to be written: {missing}.",
            f"bodydouble pack {yaml}",
        )


def _training(report: Mapping[str, Any]) -> Found:
    """Shards that nothing has learned from, as far as this report knows."""
    shards = report["shards"]
    if shards["planned"] and not shards["missing"] and not report["training"]:
        yield (
            "The shards are complete. What a training of stage two on them will cost:",
            (
                "bodydouble train pipeline/configs/stage_two.yaml --dry-run --set "
                + shlex.quote(f"data.cuts={json.dumps([{'root': report['root'], 'cut': shards['cut']}])}")
            ),
        )


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def _quoted(clause: str) -> str:
    """Return SQL as one word of a shell; in double quotes, which read more easily, where they may be."""
    return shlex.quote(clause) if re.search(r'["$`\\!]', clause) else f'"{clause}"'
