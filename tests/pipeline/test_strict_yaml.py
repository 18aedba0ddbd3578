"""A mistake in a config is named with its place and the name that was meant, however deep it lies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from manifests.errors import UserError
from pipeline import config, train, train_pose, train_vae
from pipeline.strict_yaml import ConfigError, read, validate

CONFIGS = Path(__file__).parents[2] / "pipeline" / "configs"
READERS: dict[str, Callable[[Path], Any]] = {
    "cluster.yaml": config.load,
    "cluster_stage_two.yaml": lambda path: train.load(path, []),
    "demo.yaml": config.load,
    "demo_stage_two.yaml": lambda path: train.load(path, []),
    "pairs.yaml": config.load,
    "pose.yaml": lambda path: train_pose.load(path, []),
    "stage_two.yaml": lambda path: train.load(path, []),
    "teacher.yaml": lambda path: train.load(path, []),
    "vae.yaml": lambda path: train_vae.load(path, []),
}


class HeavyError(UserError):
    """What a dataclass says of a value that it cannot use."""


@dataclass(frozen=True)
class Wheel:
    spokes: int = 20
    size_px: float = 1.0
    turns: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.spokes > 99:
            raise HeavyError(f"spokes: is {self.spokes}; it must be at most 99")


@dataclass(frozen=True)
class Frame:
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    colour: Literal["red", "blue"] = "red"


class Rider(BaseModel):
    model_config = ConfigDict(extra="forbid")
    height_px: int = Field(3, ge=1)
    bike: Frame = Frame()

    @model_validator(mode="after")
    def _fits(self) -> "Rider":
        if self.height_px == 13:
            raise ValueError("thirteen is no height: take another")
        return self


class Race(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = "race"
    riders: list[Rider] = []
    judge: Rider | None = None
    notes: dict[str, Any] = {}


def said(data: Any, model: Any = Race, prefix: str = "race.yaml: ") -> list[str]:
    """Return the lines of the error that `data` ends in."""
    with pytest.raises(ConfigError) as error:
        validate(model, data, prefix)
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"titel": "x"}, "titel: unknown field; did you mean 'title'?"),
        ({"judge": {"hight_px": 3}}, "judge.hight_px: unknown field; did you mean 'height_px'?"),
        ({"judge": {"bike": {"color": "red"}}}, "judge.bike.color: unknown field; did you mean 'colour'?"),
        ({"riders": [{}, {"bik": {}}]}, "riders.1.bik: unknown field; did you mean 'bike'?"),
        ({"judge": {"bike": {"spare": {"spoke": 3}}}}, "judge.bike.spare.spoke: unknown field; did you mean 'spokes'?"),
        (
            {"riders": [{"bike": {"wheels": [{}, {"sizepx": 2}]}}]},
            "riders.0.bike.wheels.1.sizepx: unknown field; did you mean 'size_px'?",
        ),
        ({"judge": {"bike": {"spare": {"zzz": 3}}}}, "judge.bike.spare.zzz: unknown field; known are spokes, size_px"),
        ({"judge": {"bike": {"spare": {"turns": 3}}}}, "judge.bike.spare.turns: unknown field; known are spokes, size"),
        ({"judge": {7: 1}}, "judge.7: unknown field; known are height_px, bike"),
        ({"model_config": {}}, "model_config: unknown field; known are title, riders, judge, notes"),
    ],
)
def test_an_unknown_field_is_named_with_its_place_and_the_nearest_known_one(data: Any, line: str) -> None:
    (only,) = said(data)
    assert only.startswith(f"race.yaml: {line}")


def test_mistakes_of_both_kinds_are_told_at_once_each_on_its_own_line() -> None:
    wrong = {
        "titel": "x",
        "riders": [{"height_px": 0, "hat": 1}, {"bike": {"colour": "green", "wheel": 2}}],
        "judge": {"bike": {"spare": {"spokes": "many", "size": 1}}},
    }
    lines = said(wrong)
    places = {line.removeprefix("race.yaml: ").split(": ")[0] for line in lines}
    assert places == {
        "titel", "riders.0.hat", "riders.0.height_px", "riders.1.bike.wheel", "riders.1.bike.colour",
        "judge.bike.spare.size", "judge.bike.spare.spokes",
    }  # fmt: skip
    assert len(lines) == 7
    assert any(line.endswith("judge.bike.spare.spokes: input should be a valid integer, unable to parse string as an "
                             "integer, found 'many'") for line in lines)  # fmt: skip


def test_a_rule_over_several_fields_is_told_in_its_own_words() -> None:
    assert said({"judge": {"height_px": 13}}) == ["race.yaml: judge: thirteen is no height: take another"]
    assert said({"height_px": 13}, Rider) == ["race.yaml: thirteen is no height: take another"]
    assert said({"height_px": 13}, Rider, "judge.") == ["judge: thirteen is no height: take another"]


def test_what_a_dataclass_says_of_itself_is_told_with_the_file() -> None:
    assert said({"judge": {"bike": {"spare": {"spokes": 100}}}}) == ["race.yaml: spokes: is 100; it must be at most 99"]


def test_what_is_free_to_hold_anything_is_left_alone() -> None:
    race = validate(Race, {"notes": {"anything": {"spoke": 1}}, "riders": []}, "")
    assert race.notes == {"anything": {"spoke": 1}}


def test_a_known_config_becomes_frozen_dataclasses_and_tuples() -> None:
    race = validate(Race, {"judge": {"bike": {"wheels": [{"spokes": 4}], "spare": None}}}, "")
    assert race.judge.bike == Frame((Wheel(4),))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_that_is_shipped_can_be_read(path: Path) -> None:
    assert READERS[path.name](path)


@pytest.mark.parametrize("name", ["teacher.yaml", "vae.yaml"])
def test_any_field_of_a_shipped_training_misspelt_is_named(name: str, tmp_path: Path) -> None:
    """Every key of the file in turn, at every depth, gets a letter too many: it must be named, and what was meant."""
    text = yaml.safe_load((CONFIGS / name).read_text())
    path, tried = tmp_path / "wrong.yaml", 0
    for place in _places(text):
        path.write_text(yaml.safe_dump(_misspelt(text, place)))
        with pytest.raises(ConfigError) as error:
            READERS[name](path)
        where = ".".join(map(str, place))
        assert f"{path}: {where}x: unknown field; did you mean {place[-1]!r}?" in str(error.value).splitlines()
        tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [", "is no YAML"), ("3", "holds no mapping; look at x"), ("a: 1\na: [}", "is no YAML")],
)
def test_a_file_that_holds_no_config_is_said_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read(path, [], "look at x")
    assert str(error.value).startswith(f"{path}: {line}")
    assert "\n" not in str(error.value)


def test_a_setting_reaches_a_field_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("judge:\n")
    race = validate(Race, read(path, ["judge.bike.spare.spokes=7", "title=a=b"], ""), "")
    assert race.judge.bike.spare == Wheel(7)
    assert race.title == "a=b"


def _places(data: Any) -> list[tuple[Any, ...]]:
    if isinstance(data, dict):
        return [place for key in data for place in [(key,), *((key, *rest) for rest in _places(data[key]))]]
    if isinstance(data, list):
        return [(number, *rest) for number, each in enumerate(data) for rest in _places(each)]
    return []


def _misspelt(data: Any, place: tuple[Any, ...]) -> Any:
    first, *rest = place
    if isinstance(data, list):
        return [_misspelt(each, tuple(rest)) if number == first else each for number, each in enumerate(data)]
    if rest:
        return {key: _misspelt(value, tuple(rest)) if key == first else value for key, value in data.items()}
    return {f"{key}x" if key == first else key: value for key, value in data.items()}
