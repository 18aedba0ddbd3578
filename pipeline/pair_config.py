"""The parts of a run's config that say which pairs are made, and which are kept."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from manifests.schema import DOMAINS

Domain = Literal["human", "cartoon", "animal", "object"]
Framing = Literal["full", "half", "portrait"]


class PairsConfig(BaseModel):
    """How sources meet characters (manifests/pairs.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_source: int = Field(1, ge=1, le=1000, description="characters of each source")
    domains: dict[Domain, float] = Field(
        {"human": 0.4, "cartoon": 0.3, "animal": 0.2, "object": 0.1},
        description="weight of each domain of characters; one that is not named has none",
    )
    crossed_share: float = Field(0.1, ge=0, le=1, description="share of sources that are crossed, of those that can be")
    crossings: tuple[tuple[Framing, Framing], ...] = Field(
        (("half", "full"),), description="what crossed means: framing of the source, of the character"
    )
    quotas: dict[str, int] = Field({}, description="tag: pairs at most whose source or character carries it")
    held_out: tuple[str, ...] = Field((), description="identities that no pair may have, kept for evaluation")
    unknown_identity: Literal["pair", "other_domain"] = Field(
        "pair", description="without a known identity: pair freely, or only across domains"
    )
    reject_tags: tuple[str, ...] = Field(("minor",), description="tags of sources and characters that stay out")
    allow_unknown_licence: tuple[str, ...] = Field(
        (), description='ids or origins that may go without licence or consent; "*" for all'
    )
    seed: int = Field(0, description="another seed, other pairs")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        wrong = {name: weight for name, weight in self.domains.items() if not 0 <= weight < 1e9}
        if wrong or not any(self.domains.values()):
            raise ValueError(f"domains is {self.domains}, wanted weights from 0, one of them above 0")
        negative = {tag: most for tag, most in self.quotas.items() if most < 0}
        if negative:
            raise ValueError(f"quotas is {self.quotas}, wanted numbers of pairs from 0")
        return self

    def weights(self) -> dict[str, float]:
        """Return the share of pairs that each domain with a weight is to have."""
        total = sum(self.domains.values())
        return {name: self.domains[name] / total for name in DOMAINS if self.domains.get(name)}


class KeepConfig(BaseModel):
    """Which pairs are kept (manifests/verdicts.py). A score in a column of fields is named `column.field`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: dict[str, FiniteFloat] = Field({}, description="score: least number")
    max: dict[str, FiniteFloat] = Field({}, description="score: greatest number")
    min_percentile: dict[str, FiniteFloat] = Field(
        {}, description="score: percentile 0..100 that becomes the least number"
    )
    max_percentile: dict[str, FiniteFloat] = Field({}, description="score: percentile 0..100 that becomes the greatest")
    at: int | str | None = Field(
        None, description="version or tag of table outcomes at which percentiles become numbers"
    )
    labels: str | None = Field(None, description="JSONL of people's words: id, keep, and optionally by and why")

    @field_validator("min", "max", "min_percentile", "max_percentile", mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        """Take `{judge: {motion: 4}}` as `judge.motion: 4`, as `--set keep.min.judge.motion=4` gives it; drop nulls."""
        return dict(flattened(given, "")) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        percentiles = {**self.min_percentile, **self.max_percentile}
        if any(not 0 <= percent <= 100 for percent in percentiles.values()):
            raise ValueError(f"percentiles are {percentiles}, wanted numbers from 0 to 100")
        if percentiles and self.at is None:
            raise ValueError(
                "percentiles need `at`: the version or tag of table outcomes over which they become numbers; "
                "`bodydouble manifest tag NAME --table outcomes` names the newest"
            )
        for side, other in ((self.min, self.min_percentile), (self.max, self.max_percentile)):
            both = sorted(side.keys() & other.keys())
            if both:
                raise ValueError(f"{both[0]} has both a number and a percentile; keep one, set the other to null")
        return self


def flattened(given: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    """Return the values of nested mappings, each under its path joined by dots; nulls are left out."""
    pairs: list[tuple[str, Any]] = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            pairs += flattened(value, f"{prefix}{name}.")
        elif value is not None:
            pairs.append((f"{prefix}{name}", value))
    return pairs
