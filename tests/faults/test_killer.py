"""An item that takes the driver down with its worker, each time it is tried."""

import pytest

from manifests.ledger import STARTED, fold
from manifests.tables import Tables
from pipeline.config import load
from pipeline.local_runner import LONE_ATTEMPTS
from tests.faults.test_kills import finish, start
from tests.rows import lines_of, put_sources, write_config


@pytest.mark.faults
def test_an_item_that_kills_the_driver_each_time_is_found_and_its_neighbours_are_done(tmp_path):
    root = tmp_path / "root"
    put_sources(root, [*(f"n{number}" for number in range(6)), "the_killer"])
    config = write_config(tmp_path / "run.yaml", root, {"trouble": ("Trouble", {"batch_size": 4})}, commit_every=1)
    codes = []
    while not codes or codes[-1] == -9:
        codes.append(finish(start(config)))
        assert len(codes) < 8
    assert codes == [-9] * (1 + LONE_ATTEMPTS) + [0]  # in a batch, then alone as often as it takes
    assert lines_of(load(config))["trouble"]["quarantined"] == {"crashed": 1}
    assert lines_of(load(config))["trouble"]["done"] == 6
    started = Tables(root).read("outcomes", where=f"state = '{STARTED}'")["item"].to_pylist()
    assert started.count("src_the_killer") == LONE_ATTEMPTS
    assert fold(Tables(root)).attempts.get("n0", 0) == 0
