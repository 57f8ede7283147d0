"""What a model runs on, in which numbers, from which seed, and what running out of its memory amounts to."""

from typing import Any, Final

import torch

from providers.spec import Ask, Result, Unreadable
from router.backend.engine import Loaded, Order, Run, Step

_DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SEEDS: Final = 2**63


def device_of(order: Order) -> str:
    """Raises ValueError where a GPU is asked for and there is none."""
    if order.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if order.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here")
    return order.device


def dtype_of(order: Order) -> Any:
    """Half precision on GPUs, where it is what they are fast in; full on CPUs, many of which have no half."""
    if order.dtype != "auto":
        return _DTYPES[order.dtype]
    if device_of(order) == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def seeded(seed: Any) -> Any:
    """A generator that makes the same of a seed on every machine: noise is drawn on the CPU."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not -SEEDS <= seed < SEEDS:
        raise Unreadable("parameters.seed", "`seed` must be an integer of at most 64 bits", status=400)
    return torch.Generator("cpu").manual_seed(seed)


def loaded(order: Order, run: Run) -> Loaded:
    """`run`, without gradients, and with one name for what is short of memory."""

    def guarded(ask: Ask, step: Step) -> Result:
        try:
            with torch.inference_mode():
                return run(ask, step)
        except torch.OutOfMemoryError as error:
            short = str(error)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            short = str(error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(short.partition(". ")[0])

    return Loaded(guarded, device_of(order))
