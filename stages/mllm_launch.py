"""Become another program that the kernel ends with the process that started this one.

Run as a script, `python -I mllm_launch.py COMMAND ...`: the wish must be told to the kernel between fork and exec, and
Python can do that in a large process (threads, Lance, Ray) only by forking all of it, which is not safe.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h; outlives exec

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
