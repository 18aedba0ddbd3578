"""Named points at which the tests kill this process for real (tests/faults/).

`BODYDOUBLE_FAULT=step[:stage][:n]` sends SIGKILL to this process at the n-th passing (the first if not given) of that
step; with `BODYDOUBLE_FAULT_GROUP=1` to its whole process group. Unset, a point costs one dictionary look-up.
"""

import os
import signal

STEPS = ("before_artifact", "after_artifact", "before_commit", "after_commit")

_passed: dict[str, int] = {}


def point(step: str, stage: str = "") -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("BODYDOUBLE_FAULT")
    if wanted is None:
        return
    name, _, rest = wanted.partition(":")
    of_stage, _, nth = rest.partition(":")
    if name != step or (of_stage and stage and of_stage != stage):
        return
    _passed[wanted] = _passed.get(wanted, 0) + 1
    if _passed[wanted] == int(nth or 1):
        if os.environ.get("BODYDOUBLE_FAULT_GROUP"):
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
