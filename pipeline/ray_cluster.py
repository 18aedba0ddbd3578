"""The cluster that is there: joining it, and saying at once what it cannot hold."""

import os
from collections.abc import Sequence
from typing import Any

import ray

from manifests.errors import UserError
from pipeline.config import StageSpec


class ClusterError(UserError):
    """There is no cluster, or it is too small for this run."""


def join() -> None:
    """Join the cluster of RAY_ADDRESS (a job has it set), or the one on this machine.

    Raises:
        ClusterError: there is none.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ClusterError(
            f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, "
            "or submit the run to one with `ray job submit`, or leave out `--on ray`"
        ) from error


def check_room(track: str, specs: Sequence[StageSpec]) -> None:
    """Refuse stages whose first workers find no room: Ray would wait for ever, and say nothing.

    Raises:
        ClusterError: what is wanted, and what there is.
    """
    nodes: list[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for unit in ("CPU", "GPU"):
        each = {spec.name: spec.config.cpus if unit == "CPU" else spec.config.gpus for spec in specs}
        least = {spec.name: each[spec.name] * spec.config.min_workers for spec in specs}
        there = sum(node.get(unit, 0) for node in nodes)
        if sum(least.values()) > there:
            parts = " + ".join(f"{name} {least[name]:g}" for name in least if least[name])
            raise ClusterError(
                f"the cluster has {there:g} {unit}s, and the first workers of {track} want {sum(least.values()):g} "
                f"({parts}); add nodes, or lower min_workers or {unit.lower()}s of a stage: "
                f"`--set stages.{track}.{max(least, key=lambda n: least[n])}.{unit.lower()}s=...`"
            )
        largest = max((node.get(unit, 0) for node in nodes), default=0)
        for name, wanted in each.items():
            if wanted > largest:
                raise ClusterError(
                    f"a worker of {track}.{name} wants {wanted:g} {unit}s, and no node has more than {largest:g}; "
                    f"lower {unit.lower()}s of this stage, or add a larger node"
                )
