"""A transformer as generated code: the same mathematics in fewer passes over memory.

A small model spends its time not in matrices but between them. On one core of a CPU with AMX the embedded teacher's
step takes a third of the time (docs/LOG.md). Code is generated at the first step, which takes a minute or two, for the
shapes and the precision of training alone: what is drawn or validated in between runs as written.
"""

import os
import shutil
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import nn

from manifests.errors import UserError


class NoCompilerError(UserError):
    """`compile` was asked for, and this machine cannot."""


def put_on(transformer: nn.Module, device: torch.device) -> None:
    """Let a module's forward be generated code from its next call on; names of weights stay as they are.

    Raises:
        NoCompilerError: The code is C++, and there is no compiler for it.
    """
    if device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise NoCompilerError(
            "training.compile: no C++ compiler was found; install g++, name one in CXX, or leave it out"
        )
    transformer.compile()


def as_written() -> AbstractContextManager[None]:
    """Inside, nothing that was compiled is used, and nothing is compiled anew."""
    return cast(AbstractContextManager[None], torch.compiler.set_stance("force_eager"))
