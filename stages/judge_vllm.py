"""The judge `vllm`: the judge `mllm`, by an engine that each worker starts beside itself (`stages/mllm_engine.py`)."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from manifests.keys import digest
from stages.judge_mllm import JudgeByMllm, MllmJudgeConfig
from stages.mllm_config import Endpoint
from stages.mllm_engine import Engine, files_digest_parts
from stages.mllm_errors import MllmSettingError
from stages.stage import StageConfig


class VllmJudgeConfig(MllmJudgeConfig):
    """Which engine, and with which weights."""

    endpoints: tuple[Endpoint, ...] = Field((), max_length=0, description="none: the worker starts its own")
    python: str = Field(min_length=1, description="interpreter of the environment in which vLLM is installed")
    weights: str = Field(min_length=1, description="folder of the model, in the layout of transformers")
    arguments: tuple[str, ...] = Field((), description="further arguments of the server, as --max-model-len 8192")
    environment: dict[str, str] = Field({}, description="variables of its environment; no secrets")
    start_timeout_s: float = Field(900.0, gt=0, le=1500, description="seconds until the engine answers")
    restarts: int = Field(3, ge=0, description="how often it is started again when it dies")

    HOW: ClassVar[frozenset[str]] = MllmJudgeConfig.HOW | {
        "python", "weights", "environment", "start_timeout_s", "restarts",
    }  # fmt: skip


class JudgeByVllm(JudgeByMllm):
    """Source, character and pseudo video to scores, by an engine of the worker's own."""

    Config: ClassVar[type[StageConfig]] = VllmJudgeConfig

    def __init__(self, config: VllmJudgeConfig) -> None:
        python = shutil.which(config.python)
        if python is None:
            raise MllmSettingError(f"there is no interpreter {config.python!r}: name that of vLLM's environment")
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(_folder(config))]
        command += ["--served-model-name", config.model, *config.arguments]
        self.engine = Engine(command, config.environment, config.start_timeout_s, config.restarts)
        super().__init__(config.model_copy(update={"endpoints": (Endpoint.model_validate({"url": self.engine.url}),)}))

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return digests of the instructions, of the schema, and of the weights' files by name and size."""
        return {**super().digests(config), "weights": digest(files_digest_parts(_folder(config)))}


def _folder(config: VllmJudgeConfig) -> Path:
    folder = Path(config.weights)
    if not (folder / "config.json").is_file():
        raise MllmSettingError(f"{folder} holds no config.json: name the folder of a model in transformers' layout")
    return folder
