"""How PyTorch names what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

#: What wrappers put before every name: DataParallel and DistributedDataParallel; torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
_MOST_WRAPPERS = 4
COUNTER_REASON = "number of training batches seen, which inference does not use"


def is_counter(name: str) -> bool:
    """Whether the name is of a batch norm's counter, which is saved among the weights and is none."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def unwrapped(values: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Values under their names without what wrappers put before every one of them, and what that was."""
    wrapper = ""
    named = dict(values)
    for _ in range(_MOST_WRAPPERS):
        prefix = next((p for p in _WRAPPERS if named and all(name.startswith(p) for name in named)), None)
        if prefix is None:
            break
        named = {name[len(prefix) :]: value for name, value in named.items()}
        wrapper += prefix
    return named, wrapper
