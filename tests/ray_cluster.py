"""A real Ray cluster on this machine, for tests: loopback only, a few CPUs, ended with the tests."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach it
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray


@contextmanager
def cluster(cpus: int = 2, **options: Any) -> Iterator[None]:
    """Start a cluster of one node in this process's hands, and end it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address="local", num_cpus=cpus, num_gpus=0, include_dashboard=False, log_to_driver=False,
            logging_level="error", object_store_memory=200 << 20, _node_ip_address="127.0.0.1", **options,
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()
