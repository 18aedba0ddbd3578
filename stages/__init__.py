"""The stages, one file a step. `STAGES` is the table of contents: three tracks, each in order.

A name is resolved on use, so that `--help` and `plan` start without the libraries that only workers need. A run's YAML
may replace a stage, or add one, by `use: my_package.mine:MyStage`.
"""

import importlib
from typing import Any, Final

STAGES: Final[dict[str, dict[str, str]]] = {
    "sources": {
        "probe": "stages.probe:ProbeSource",
        "skeleton": "stages.skeleton:Skeleton",
        "prompt": "stages.prompt:MotionText",
    },
    "characters": {
        "probe": "stages.probe:ProbeCharacter",
        "skeleton": "stages.skeleton:CharacterSkeleton",
        "prompt": "stages.prompt:AppearanceText",
    },
    "pairs": {
        "prompt": "stages.prompt:Prompt",
        "render": "stages.render:Render",
        "measure": "stages.measure:Measure",
        "judge": "stages.judge:Judge",
    },
}


def resolve(name: str) -> Any:
    """Return the object that `package.module:Name` names.

    Raises:
        ValueError: the name has another form, or there is no such module or object.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} names no class; write it as my_package.my_module:MyClass")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"{name!r} cannot be loaded: there is no module {error.name!r} here") from error
    except AttributeError as error:
        raise ValueError(f"{name!r} cannot be loaded: {module_name} has no {attribute!r}") from error
