"""The watchdog speaks when nothing is finished for too long, and names what stands still."""

import time

from pipeline.desk import Pulse
from pipeline.errands import Errand
from pipeline.watchdog import Watchdog

STAGE = ("sources", "render")
RENDERED = (*STAGE, "done", 1.0)


def pulse(results=(), oldest=None, in_flight=0):
    return Pulse(list(results), {STAGE: in_flight}, {STAGE: in_flight}, oldest, None, False)


def test_it_names_stage_row_worker_and_the_queues_of_a_run_that_stands_still(capsys):
    watchdog = Watchdog(stall_timeout_s=0.05)
    time.sleep(0.06)
    oldest = (Errand("sources", "render", "src_7", "key"), "c0ffee (process 4 on 10.0.0.2)", 61.4)
    waiting = {STAGE: 12, ("sources", "judge"): 0}
    said = watchdog.look(pulse(oldest=oldest, in_flight=3), waiting)
    assert said == (
        "nothing was finished for 0 s; "
        "sources.render has worked on src_7 for 61 s in worker c0ffee (process 4 on 10.0.0.2); "
        "sources.render 12 waiting, 3 in flight; sources.judge 0 waiting, 0 in flight"
    )
    assert capsys.readouterr().err == f"bodydouble: {said}\n"


def test_it_says_where_to_look_when_no_stage_has_anything_in_hand():
    watchdog = Watchdog(stall_timeout_s=0.05)
    time.sleep(0.06)
    assert "no row is in a stage's hands" in watchdog.look(pulse(), {STAGE: 12})


def test_it_speaks_once_for_each_time_out_and_is_silent_while_results_come():
    watchdog = Watchdog(stall_timeout_s=0.2)
    assert watchdog.look(pulse(), {}) is None
    time.sleep(0.21)
    assert watchdog.look(pulse(results=[RENDERED]), {}) is None
    time.sleep(0.11)
    assert watchdog.look(pulse(), {}) is None
    time.sleep(0.11)
    assert watchdog.look(pulse(), {}) is not None
    assert watchdog.look(pulse(), {}) is None
    time.sleep(0.21)
    assert watchdog.look(pulse(), {}).startswith("nothing was finished for 0 s")
