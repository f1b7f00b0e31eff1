"""torch.compile, one decoder block at a time: all blocks share one compilation, where a whole model takes minutes."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from genai.log import get_logger

_log = get_logger(__name__)


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """The decoder's blocks: the longest list of modules in `model` (adapters and experts lie inside a block or are
    fewer).
    """
    lists: list[nn.ModuleList] = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=_num_parameters, default=nn.ModuleList()))


def _num_parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def compile_blocks(model: nn.Module, *, device: torch.device | str, deterministic: bool = False) -> bool:
    """Have each decoder block compiled at its first call; False, and one log line, where there is no compiler.

    Args:
        model: changed in place; parameter names stay as they are.
        device: where the model lies.
        deterministic: compile to kernels that give the same bits at each run; it holds for the whole process.
    """
    if torch.device(device).type == "cpu" and not has_cpp_compiler():
        _log.warning("compile: no C++ compiler was found (g++ or clang++); going on without compilation")
        return False
    if deterministic:
        # Read by the compiler: without it, several threads add partial sums in the order in which they finish.
        torch.use_deterministic_algorithms(True)
    blocks = decoder_blocks(model)
    for block in blocks:
        block.compile()
    return bool(blocks)


def eagerly() -> AbstractContextManager[Any]:
    """Within it compiled blocks run as they are written.

    For passes of ever new shapes: each would be compiled anew, and from the ninth on torch compiles none any more, not
    even those of training.
    """
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def has_cpp_compiler() -> bool:
    """Whether inductor finds a C++ compiler for its CPU kernels."""
    from torch._inductor import config

    chosen: Any = config.cpp.cxx
    candidates = chosen if isinstance(chosen, tuple) else (chosen,)
    return any(name is not None and shutil.which(name) is not None for name in (*candidates, "g++", "clang++"))
