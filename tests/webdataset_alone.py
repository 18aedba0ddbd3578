"""Shards as plain `webdataset` reads them: nothing of ours looks at a tar here."""

import gc
import warnings
from collections.abc import Sequence
from pathlib import Path

import webdataset


def plainly_read(tars: Sequence[Path]) -> list[dict]:
    """Return all samples of these tars, in order.

    webdataset leaves it to the garbage collector to close a tar, and a warning of that may come in any later test:
    so they are collected here, where it is expected.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False, empty_check=False))
        gc.collect()
    return samples
