import pytest
import yaml

from pipeline.config import ConfigError, build, load, template
from tests.rows import config_of, write_config

CHAIN = {"first": "First", "second": "Second"}


def changed(tmp_path, path, value):
    data = config_of(tmp_path, CHAIN)
    *parents, last = path.split(".") if "/" not in path else ("stages", "sources", path.split(".", 2)[2])
    here = data
    for parent in parents:
        here = here[parent]
    here[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("wrokers", 2, "wrokers: unknown field; did you mean 'workers'?"),
        ("workers", 0, "workers: input should be greater than or equal to 1, found 0"),
        ("stages.sources.first.vlaue", 2, "stages.sources.first.vlaue: unknown field; did you mean 'value'?"),
        ("stages.sources.first.value", "x", "stages.sources.first.value: input should be a valid integer"),
        ("stages.sources.skeletn", {}, "stages.sources.skeletn: unknown stage; did you mean 'skeleton'?"),
        ("stages.source", {}, "stages.source: unknown track; did you mean 'sources'?"),
        ("stages.sources.first.use", "json:dumps", "'json:dumps' is no Stage"),
        ("stages.sources.first.use", "no.such:Thing", "there is no module 'no'"),
        ("stages.sources.first.use", "stages.stage:Nothing", "stages.stage has no 'Nothing'"),
        ("stages.sources.first.use", "Nothing", "write it as my_package.my_module:MyClass"),
        ("stages.sources.first.use", "stages.stage:Stage", "Stage declares no `needs`"),
        ("stages.sources.first.use", 5, "stages.sources.first.use: "),
        ("stages.sources.first.use", "..x:Y", "stages.sources.first.use: "),
        ("stages.sources.n/../../x", {"use": "tests.stage_samples:NoOp"}, "a stage's name is letters, digits and _"),
        ("root", "", "root: string should have at least 1 character"),
        ("commit_every_s", float("inf"), "commit_every_s: input should be less than or equal to 3600"),
        ("stages.sources.first.timeout_s", 1e30, "timeout_s: input should be less than or equal to 1000000"),
        ("stages", [], "stages: input should be a valid dictionary"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_known(tmp_path, path, value, said):
    with pytest.raises(ConfigError) as error:
        build(changed(tmp_path, path, value))
    assert said in str(error.value)


def test_all_mistakes_of_one_level_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        build(config_of(tmp_path, CHAIN) | {"workers": 0, "commit_every": 0})
    assert len(str(error.value).splitlines()) == 2


def test_a_stage_whose_needs_nobody_makes_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.sources\.second: needs array, word, which no earlier stage makes"):
        build(config_of(tmp_path, {"second": "Second"}))


def test_a_setting_changes_one_value_and_is_checked_like_the_file(tmp_path):
    path = write_config(tmp_path / "run.yaml", tmp_path, CHAIN)
    run = load(path, ["stages.sources.first.value=3", "workers=2"])
    assert run.config.workers == 2
    assert run.tracks["sources"][0].config.value == 3
    for setting, said in (
        ("workers", "write it as"),
        ("root.x=1", "'root' holds a value"),
        ("stages.sources.first.vlaue=1", "did you mean 'value'"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(path, [setting])


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "is no YAML"), ("- 1", "holds no mapping"), ("", "holds no mapping")]
)
def test_a_file_that_is_no_config_gets_one_line(tmp_path, text, said):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_gets_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_the_template_is_a_config_and_holds_the_defaults():
    run = build(yaml.safe_load(template()))
    assert run.tracks.keys() == {"sources", "characters", "pairs"}
    for specs in run.tracks.values():
        for spec in specs:
            assert spec.config == spec.cls.Config()


def test_every_field_of_the_template_says_what_it_means():
    bare = [line for line in template().splitlines() if "#" not in line and not line.rstrip().endswith(":")]
    assert bare == []


def test_a_column_has_one_maker(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.sources\.again: makes array, word, which the manifest"):
        build(config_of(tmp_path, {"first": "First", "again": "First"}))
