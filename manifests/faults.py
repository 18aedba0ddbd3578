"""Named points at which the tests kill this process for real (tests/faults/).

`BODYDOUBLE_FAULT=step[:stage][:n]` sends SIGKILL to this process at the n-th passing (the first if not given) of that
step, once in the life of the file `BODYDOUBLE_FAULT_MARK`, which the death leaves behind; with
`BODYDOUBLE_FAULT_GROUP=1` its whole process group dies. Unset, a point costs one dictionary look-up.
"""

import os
import signal

STEPS = ("before_artifact", "after_artifact", "before_commit", "after_commit")

_passed: dict[str, int] = {}


def point(step: str, *stages: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("BODYDOUBLE_FAULT")
    if wanted is None:
        return
    name, _, rest = wanted.partition(":")
    of_stage, _, nth = rest.partition(":")
    if name != step or (of_stage and of_stage not in stages):
        return
    _passed[wanted] = _passed.get(wanted, 0) + 1
    if _passed[wanted] == int(nth or 1) and _leave_mark():
        if os.environ.get("BODYDOUBLE_FAULT_GROUP"):
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _leave_mark() -> bool:
    try:
        os.close(os.open(os.environ["BODYDOUBLE_FAULT_MARK"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
