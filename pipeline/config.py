"""One YAML, one frozen object: unknown keys are refused with the nearest known name, before any weight loads.

Configs are trusted: `use: my_package.mine:MyStage` loads code.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

from manifests.keys import digest
from manifests.schema import TABLES
from pipeline.pair_config import KeepConfig, PairsConfig
from pipeline.strict_yaml import ConfigError, nearest, read, validate
from stages import STAGES, judge, prompt, resolve
from stages.pack import PackConfig
from stages.stage import Stage, StageConfig

TRACK_OF: Final = {"source": "sources", "character": "characters"}  # the members of a pair


class RunConfig(BaseModel):
    """What a run does. `stages` holds, for each track and in order, a stage's name and its config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(min_length=1, description="folder or URL under which tables and artifacts lie")
    workers: int = Field(1, ge=1, description="worker processes on this machine")
    commit_every: int = Field(200, ge=1, description="outcomes in one commit of the ledger, at most")
    commit_every_s: float = Field(2.0, gt=0, le=3600, description="seconds until an outcome is committed, at most")
    stop_after_errors: int = Field(20, ge=1, description="errors of one class in a row that end the run")
    stall_timeout_s: float = Field(600.0, gt=0, description="on Ray: seconds without a result until it says where")
    wave_rows: int = Field(20_000, ge=1, description="on Ray: rows of a track that go through its stages at a time")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="what `plan` reckons with, in any currency")
    pairs: PairsConfig = Field(PairsConfig.model_validate({}), description="which pairs are made")
    keep: KeepConfig = Field(KeepConfig.model_validate({}), description="which pairs are kept")
    pack: PackConfig = Field(PackConfig.model_validate({}), description="how kept pairs are cut into shards")
    stages: dict[str, dict[str, dict[str, Any] | None]] = Field(description="track -> stage -> its config")


@dataclass(frozen=True)
class StageSpec:
    """One stage of one track, its config checked."""

    track: str
    name: str
    use: str  # where its class is found, as module:Class
    cls: type[Stage[Any]]
    config: StageConfig

    @property
    def recipe(self) -> dict[str, Any]:
        """All that shapes this stage's results, but for its inputs."""
        shipped = STAGES[self.track].get(self.name) == self.use
        return {
            "stage": self.name if shipped else self.use,
            "version": self.cls.version,
            "config": self.config.model_dump(mode="json", exclude=set(self.config.HOW)),
            "digests": self.cls.digests(self.config),
        }

    @property
    def digest(self) -> str:
        """The digest of the recipe: with the inputs, it gives the key."""
        return digest(self.recipe)


@dataclass(frozen=True)
class Run:
    """A config whose stages are resolved and fit together."""

    config: RunConfig
    tracks: dict[str, list[StageSpec]]


def load(path: str | Path, sets: Iterable[str] = ()) -> Run:
    """Read a YAML file, apply `a.b=c` settings, and check it as a whole.

    Raises:
        ConfigError: with one line for each mistake.
    """
    data = read(path, sets, hint="`bodydouble config template` prints one to start from")
    try:
        return build(data)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def build(data: Mapping[str, Any]) -> Run:
    """Check a config as a whole: its fields, its stages' fields, and that each stage's needs are met."""
    config = validate(RunConfig, data, "")
    tracks: dict[str, list[StageSpec]] = {}
    for track, listed in config.stages.items():
        if track not in STAGES:
            raise ConfigError(
                f"stages.{track}: unknown track{nearest(track, STAGES)}; the tracks are {', '.join(STAGES)}"
            )
        tracks[track] = [_spec(track, name, given or {}) for name, given in listed.items()]
    for track, specs in tracks.items():
        _check_order(track, specs, columns_of_members(tracks) if track == "pairs" else ())
    return Run(config, tracks)


def columns_of_members(tracks: Mapping[str, Sequence[StageSpec]]) -> dict[str, tuple[str, str]]:
    """Return what a pair sees of its members (`pipeline/members.py`): name -> (source or character, column there)."""
    seen: dict[str, tuple[str, str]] = {}
    own = {column for spec in tracks.get("pairs", []) for column in spec.cls.makes}
    for side, track in TRACK_OF.items():
        made = [column for spec in tracks.get(track, []) for column in spec.cls.makes]
        seen |= {f"{side}_{column}": (side, column) for column in (*TABLES[track].names, *made)}
        # by its plain name, where no stage of the pairs makes one: the source's, which came first, wins
        seen = {column: (side, column) for column in made if column not in own} | seen
    return seen


def _spec(track: str, name: str, given: dict[str, Any]) -> StageSpec:
    where = f"stages.{track}.{name}"
    fields = dict(given)
    if not re.fullmatch(r"[A-Za-z]\w*", name):  # it becomes a folder's name
        raise ConfigError(f"{where}: a stage's name is letters, digits and _, beginning with a letter")
    use = fields.pop("use", None) or _adapter(track, name, fields, where) or STAGES[track].get(name)
    if use is None:
        raise ConfigError(
            f"{where}: unknown stage{nearest(name, STAGES[track])}; it has {', '.join(STAGES[track]) or 'none'}; "
            "one of your own is named by `use: my_package.mine:MyStage`"
        )
    try:
        cls = resolve(use)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}.use: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Stage)):
        raise ConfigError(f"{where}.use: {use!r} is no Stage (stages/stage.py)")
    return StageSpec(track, name, use, cls, validate(cls.Config, fields, f"{where}."))


def _adapter(track: str, name: str, fields: dict[str, Any], where: str) -> str | None:
    """Return the class that `adapter` names, where each adapter is a stage of its own: it needs other columns."""
    among = {"judge": judge.ADAPTERS, "prompt": prompt.ADAPTERS.get(track, {})}.get(name)
    if among is None or (chosen := fields.pop("adapter", None)) is None:
        return None
    if chosen not in among:
        raise ConfigError(f"{where}.adapter: unknown adapter {chosen!r}{nearest(str(chosen), among)}")
    return among[chosen]


def _check_order(track: str, specs: Sequence[StageSpec], of_members: Iterable[str]) -> None:
    known = {"sources": {"source"}, "characters": {"character"}, "pairs": {"source", "character"}}[track]
    known |= {"key", *TABLES[track].names, *of_members}
    for spec in specs:
        if not getattr(spec.cls, "needs", ()):
            raise ConfigError(
                f"stages.{track}.{spec.name}: {spec.use} declares no `needs`, so all its rows would share a key"
            )
        others = {*TABLES[track].names, *(name for name in of_members if name.startswith(("source_", "character_")))}
        missing = [need for need in spec.cls.needs if need not in known]
        if missing:
            raise ConfigError(
                f"stages.{track}.{spec.name}: needs {', '.join(missing)}, which no earlier stage makes and the "
                f"manifest does not hold; earlier stages make {', '.join(sorted(known - others)) or 'nothing'}"
            )
        twice = [column for column in spec.cls.makes if column in known]
        if twice:
            raise ConfigError(
                f"stages.{track}.{spec.name}: makes {', '.join(twice)}, which the manifest or an earlier stage holds "
                "already; a column has one maker"
            )
        known |= set(spec.cls.makes)


def template() -> str:
    """Return a YAML with every stage and field, its default and what it means."""
    lines = ["# A run of bodydouble: every field with its default.", *_described(RunConfig, "", {"root": "runs/mine"})]
    lines.append("stages:                                # a track's stages, in order")
    for track, listed in STAGES.items():
        if not listed:
            continue
        lines.append(f"  {track}:")
        for name, use in listed.items():
            lines.append(f"    {name}:")
            lines += _described(resolve(use).Config, "      ", {})
    return "\n".join(lines) + "\n"


def _described(model: type[BaseModel], indent: str, values: dict[str, Any]) -> list[str]:
    lines = []
    for name, about in model.model_fields.items():
        if name == "stages":
            continue
        default = values[name] if name in values else about.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            lines += [f"{f'{indent}{name}:':<38} # {about.description}", *_described(type(default), f"{indent}  ", {})]
            continue
        if isinstance(default, tuple):
            default = list(default)
        shown = (
            yaml.safe_dump(default, default_flow_style=True, width=float("inf"))
            .removesuffix("\n")
            .removesuffix("\n...")
        )
        lines.append(f"{f'{indent}{name}: {shown}':<38} # {about.description or ''}".rstrip(" #"))
    return lines
