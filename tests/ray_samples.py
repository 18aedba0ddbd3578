"""Stages for the tests of the Ray engine, beside those of stage_samples."""

import os
import resource
import time
from collections.abc import Sequence

from pydantic import Field

from stages.stage import Reject, Row, Stage, StageConfig


class Who(Stage[StageConfig]):
    """Says which process worked on a row, and which one made that process."""

    needs = ("file",)
    makes = ("process", "parent", "threads")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        threads = int(os.environ["OMP_NUM_THREADS"])
        return [{"process": os.getpid(), "parent": os.getppid(), "threads": threads} for _ in rows]


class HungryConfig(StageConfig):
    limit_bytes: int = Field(1 << 30, description="of address space, beyond what the process has at the start")


class Hungry(Stage[HungryConfig]):
    """Takes memory for a row whose name says so, until the system gives no more. The limit is the process's own."""

    Config = HungryConfig
    needs = ("file",)
    makes = ("eaten",)

    def __init__(self, config: HungryConfig) -> None:
        super().__init__(config)
        with open("/proc/self/statm") as sizes:
            now = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + config.limit_bytes, now + config.limit_bytes))

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"eaten": self._eat() if "hungry" in row["file"] else 0} for row in rows]

    def _eat(self) -> int:
        plates = []
        while True:
            plates.append(bytearray(64 << 20))


class SleepConfig(StageConfig):
    sleep_s: float = 0.1
    log: str = Field(description="a file to which each row's process and moment (monotonic seconds) are added")


class Sleep(Stage[SleepConfig]):
    """Takes its time, and writes down when."""

    Config = SleepConfig
    needs = ("file",)
    makes = ("slept",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        with open(self.config.log, "a") as log:
            log.writelines(f"{os.getpid()} {time.monotonic()}\n" for _ in rows)
        time.sleep(self.config.sleep_s * len(rows))
        return [{"slept": self.config.sleep_s} for _ in rows]
