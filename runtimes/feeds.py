"""Checking what a session is fed, for engines that would convert or misread it without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgepose.errors import DeviceError
from edgepose.plugins import Tensor, TensorInfo


def check_feeds(engine: str, inputs: Sequence[TensorInfo], feeds: Mapping[str, Tensor]) -> None:
    """Compare names, types and shapes with what the session declares.

    Raises
    ------
    DeviceError
        If one differs; the message names it.
    """
    wanted = {i.name for i in inputs}
    if set(feeds) != wanted:
        fed = ", ".join(sorted(feeds)) or "nothing"
        raise DeviceError(f"'{engine}' has the inputs {', '.join(sorted(wanted))} and was fed {fed}.")
    for info in inputs:
        array = feeds[info.name]
        fits = len(array.shape) == len(info.shape) and all(
            d is None or d == n for d, n in zip(info.shape, array.shape, strict=False)
        )
        if array.dtype.name != info.dtype or not fits:
            shape = ", ".join("?" if d is None else str(d) for d in info.shape)
            raise DeviceError(
                f"The input '{info.name}' of '{engine}' is {info.dtype} [{shape}]"
                f" and was fed {array.dtype.name} {list(array.shape)}."
            )
