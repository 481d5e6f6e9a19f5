"""Which of the things in a PyTorch checkpoint are the weights, and under which names.

Training scripts save a dict of the weights themselves, or one that holds it beside the optimizer and counters.  The
weights are looked for in this order:

1. under a key that means averaged weights in projects that evaluate those: :data:`AVERAGED_KEYS`;
2. under a key that means the weights: :data:`WEIGHT_KEYS`;
3. in the dict itself, if it holds tensors;
4. under its only other key that holds tensors; if there are several (``backbone``, ``head``), all of them, the names
   joined by dots.

What was found is searched in the same way (``ema`` often holds a dict with ``module``).  ``ema_state_dict`` comes last
of all known keys: mmengine, whose key it is, swaps the two when it saves, so that ``state_dict`` has the average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .base import Checkpoint
from .elements import Array
from .mapped_file import MappedFile
from .pickle_records import Opaque, Tensor
from .torch_names import COUNTER_REASON, is_counter, unwrapped
from .torch_tensors import TensorReader

AVERAGED_KEYS = ("state_dict_ema", "model_ema", "ema")
WEIGHT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params_ema",
    "params",
    "module",
    "ema_state_dict",
)
#: Keys that hold tensors which are no weights.
_TRAINING_KEYS = {
    "amp", "callbacks", "criterion", "grad_scaler", "loss", "lr_scheduler", "lr_schedulers", "message_hub", "meta",
    "optim", "optimizer", "optimizer_state", "optimizer_state_dict", "optimizer_states", "optimizers", "rng_state",
    "scaler", "scheduler", "scheduler_state_dict",
}  # fmt: skip
_TRAINING = "state of the training"
_DEPTH = 4
_BYTES_PER_VISIT = 64
_LONGEST_NOTE = 1000
_MOST_NOTES = 500


def checkpoint_of(
    file: MappedFile, container: str, root: object, reader: TensorReader, metadata: Mapping[str, Any]
) -> Checkpoint:
    """What ``torch.save`` was given -> its weights.

    Parameters
    ----------
    file, container, metadata
        Of the checkpoint; ``container`` is its :attr:`Checkpoint.format`.
    root
        The object that was saved, as records.
    reader
        Gives the arrays of tensor records.

    Raises
    ------
    CheckpointError
        If it holds no named tensors.
    """
    if not isinstance(root, dict):
        raise file.error(f"holds {_kind(root)}, not named weights.", hint=_SAVE_HINT)
    path = _find(file, root, 0)
    if path is None:
        raise file.error("holds no tensors.", hint=_SAVE_HINT)
    notes: dict[str, Any] = {}
    set_aside: dict[str, str] = {}
    weights: dict[Any, Any] = root
    for depth, key in enumerate(path):
        _note_others(weights, key, path[:depth], notes, set_aside)
        weights = weights[key]
    tensors = _named_tensors(file, weights, set_aside)
    tensors, wrapper = unwrapped(tensors)
    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if is_counter(name):
            set_aside[name] = COUNTER_REASON
            continue
        array = reader.read(tensor, name)
        if isinstance(array, str):
            set_aside[name] = array
        else:
            arrays[name] = array
    found = {"weights": ".".join(path), "wrapper": wrapper, "entries": notes}
    return Checkpoint(file.path, container, arrays, set_aside, {**metadata, **found})


_SAVE_HINT = "Save the weights where the model was trained: torch.save(model.state_dict(), 'weights.pth')."


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return "a single tensor"
    return f"an object of '{value.name:.100}'" if isinstance(value, Opaque) else f"a {type(value).__name__}"


def _find(file: MappedFile, mapping: dict[Any, Any], depth: int) -> tuple[str, ...] | None:
    """Keys that lead to the dict with the weights; None if there are no tensors."""
    if depth == _DEPTH:
        return None
    file.memory.take(_BYTES_PER_VISIT * (1 + len(mapping)), "the pickle")
    for key in (*AVERAGED_KEYS, *WEIGHT_KEYS):
        value = mapping.get(key)
        if isinstance(value, dict) and (path := _find(file, value, depth + 1)) is not None:
            return (key, *path)
    if any(isinstance(value, Tensor) for value in mapping.values()):
        return ()
    found: list[tuple[str, ...]] = []
    for key, value in mapping.items():
        if isinstance(key, str) and isinstance(value, dict) and key not in _TRAINING_KEYS:
            path = _find(file, value, depth + 1)
            if path is not None:
                found.append((key, *path))
    return found[0] if len(found) == 1 else () if found else None


def _named_tensors(file: MappedFile, weights: dict[Any, Any], set_aside: dict[str, str]) -> dict[str, Tensor]:
    """Name -> tensor, the names of nested dicts joined by dots."""
    tensors: dict[str, Tensor] = {}
    nested = not any(isinstance(value, Tensor) for value in weights.values())

    def collect(prefix: str, depth: int, mapping: dict[Any, Any]) -> None:
        for key, value in mapping.items():
            name = f"{prefix}{key}" if isinstance(key, str | int) else f"{prefix}?"
            file.memory.take(_BYTES_PER_VISIT + 4 * len(name), "the names of the weights")
            if isinstance(value, Tensor):
                tensors[name] = value
            elif nested and isinstance(value, dict) and depth < _DEPTH and key not in _TRAINING_KEYS:
                collect(f"{name}.", depth + 1, value)
            else:
                set_aside[name] = _TRAINING if key in _TRAINING_KEYS else "no tensor"

    collect("", 0, weights)
    return tensors


def _note_others(
    mapping: dict[Any, Any], taken: str, path: tuple[str, ...], notes: dict[str, Any], set_aside: dict[str, str]
) -> None:
    """Say what else stands beside the weights: plain values as they are, of the rest only what it is."""
    for key, value in mapping.items():
        if not isinstance(key, str) or key == taken:
            continue
        name = ".".join((*path, key))
        if _is_plain(value):
            if len(notes) < _MOST_NOTES:
                notes[name] = value
        elif key in (*AVERAGED_KEYS, *WEIGHT_KEYS):
            set_aside[name] = f"another set of weights; '{taken}' was taken"
        else:
            set_aside[name] = _TRAINING


def _is_plain(value: object) -> bool:
    """Whether JSON can hold the value, and it is short."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int) or (isinstance(value, str) and len(value) <= _LONGEST_NOTE)
