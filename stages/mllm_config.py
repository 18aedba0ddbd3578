"""Where an MLLM is asked, and how patiently."""

import os
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from stages.mllm_errors import MllmSettingError
from stages.stage import StageConfig


class Endpoint(BaseModel):
    """One server. Its secret key is never in a config: `key_env` names the variable that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="base of the API, as https://host/v1")
    key_env: str | None = Field(None, description="environment variable that holds the secret key, on every worker")
    slots: int | None = Field(None, ge=1, le=1024, description="requests at once here; null: the stage's `slots`")

    @field_validator("url")
    @classmethod
    def _is_a_base(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("wanted the base of an API, as https://host:8000/v1")
        if parts.username or parts.password:
            raise ValueError("an address with a password in it would be stored with the run; use key_env")
        return url.rstrip("/")

    @property
    def host(self) -> str:
        """The host as it stands in the address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port, 80 or 443 if none is said."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def secret(self) -> str | None:
        """Return the secret key.

        Raises:
            MllmSettingError: the variable is not set.
        """
        if self.key_env is None:
            return None
        found = os.environ.get(self.key_env, "").strip()
        if not found:
            raise MllmSettingError(
                f"the environment variable {self.key_env}, which holds the key for {self.host}, is not set here: set "
                "it for every worker, or leave key_env out"
            )
        return found


class MllmConfig(StageConfig):
    """Of every stage that asks an MLLM. What may shape an answer is part of the key; where it is asked is not."""

    batch_size: int = Field(16, ge=1, description="rows at once; a worker waits for the last of them")
    timeout_s: float = Field(3600.0, gt=0, le=1e6, description="seconds for a row, on average over its batch")
    model: str = Field(min_length=1, description="its name at the endpoints; all must serve the same one")
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, description="servers of that model: url, key_env, slots")
    slots: int = Field(8, ge=1, le=1024, description="requests at once, of one worker at one endpoint")
    attempts: int = Field(3, ge=1, le=20, description="answers that do not count until the row is quarantined")
    failures: int = Field(4, ge=1, le=20, description="requests that fail (5xx, cut off, too slow), likewise")
    answer_timeout_s: float = Field(180.0, gt=0, le=3600, description="seconds for one answer")
    patience_s: float = Field(
        600.0, ge=0, le=86400, description="seconds of 429, 503 or silence from all endpoints until the run ends"
    )
    allow_external: bool = Field(
        False, description="frames that may show real people (domain human or unknown) may leave the private network"
    )
    key_in_schema: bool = Field(
        False, description="the schema holds the key, so that a small model need not copy it; a schema for each request"
    )
    options: dict[str, JsonValue] = Field(
        {"temperature": 0, "max_tokens": 1500}, description="further fields of the request, as the server knows them"
    )

    HOW: ClassVar[frozenset[str]] = StageConfig.HOW | {
        "endpoints", "slots", "attempts", "failures", "answer_timeout_s", "patience_s", "allow_external",
    }  # fmt: skip

    @field_validator("options")
    @classmethod
    def _leave_ours(cls, options: dict[str, Any]) -> dict[str, Any]:
        ours = {"model", "messages", "response_format", "stream", "n"} & set(options)
        if ours:
            raise ValueError(f"{', '.join(sorted(ours))} is said by the stage itself")
        return options

    @model_validator(mode="after")
    def _time_suffices(self) -> Self:
        longest_s = (self.attempts + self.failures) * self.answer_timeout_s + self.patience_s
        if longest_s > self.timeout_s:
            raise ValueError(
                f"a row may take {longest_s:g} s (attempts, failures and patience together), and its worker is ended "
                f"after timeout_s, {self.timeout_s:g} s: raise timeout_s"
            )
        return self
