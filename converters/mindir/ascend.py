"""What MindSpore Lite's converter is told for a network that runs on Ascend alone.

``optimize=ascend_oriented`` compiles the network for the device while it converts, on a host with CANN.  Sections and
keys are those of the converter's documentation.  No such host was at hand: nothing here was run on hardware.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepose.errors import ConversionError

ORIENTED = "ascend_oriented"
CONFIG = "ascend.cfg"
OPTIONS = ("optimize", "soc_version")
#: Precision -> ``precision_mode``.  fp32 keeps the types of the graph, and fails where the device has half precision
#: only; ``enforce_fp32`` would take half precision there without a word.
_MODES = {"fp32": "enforce_origin", "fp16": "enforce_fp16"}
_SOC = re.compile(r"Ascend(310([PB][1-9])?|710)")


@dataclass(frozen=True)
class Target:
    """For which device, and in which precision.

    Attributes
    ----------
    soc
        As CANN names it; empty for that of the card in the host.
    mode
        One of the converter's precision modes.
    """

    soc: str
    mode: str

    def config(self, inputs: Mapping[str, Sequence[int]]) -> str:
        """The text of the converter's configuration file, for inputs of these names and shapes.

        Raises
        ------
        ConversionError
            If a name cannot stand in such a file.
        """
        for name in inputs:
            if not re.fullmatch(r"[\w./-]+", name):
                raise ConversionError(
                    f"The input {name!r} cannot stand in a configuration of MindSpore Lite's converter."
                )
        shapes = ";".join(f"{name}:[{','.join(map(str, shape))}]" for name, shape in inputs.items())
        lines = [
            "[ascend_context]",
            "input_format=NCHW",
            f"input_shape={shapes}",
            f"precision_mode={self.mode}",
            "output_type=FP32",
        ]
        if self.soc:
            lines += ["", "[acl_init_options]", f"ge.socVersion={self.soc}"]
        return "\n".join(lines) + "\n"


def chosen(options: Mapping[str, Any], via: str | None, precision: str) -> Target | None:
    """What the options say of Ascend; None if nothing.

    Raises
    ------
    ConversionError
        If they are of the wrong form or do not go together.
    """
    optimize, soc = options.get("optimize", "none"), str(options.get("soc_version", ""))
    if optimize not in ("none", ORIENTED):
        raise ConversionError(f"The option 'optimize' is {optimize!r}, must be 'none' or '{ORIENTED}'.")
    if optimize == "none":
        if soc:
            raise ConversionError(
                "The option 'soc_version' is for networks compiled for Ascend.",
                hint=f"Add --option optimize={ORIENTED}.",
            )
        return None
    if via != "mslite":
        raise ConversionError(
            f"The option optimize={ORIENTED} is of MindSpore Lite's converter.", hint="Add --option via=mslite."
        )
    if soc and not _SOC.fullmatch(soc):
        raise ConversionError(
            f"The option 'soc_version' is {soc!r}; edgepose compiles for the family of Ascend 310.",
            hint="For instance Ascend310, Ascend310P3 or Ascend310B4.",
        )
    if precision not in _MODES:
        raise ConversionError(
            f"For Ascend, {precision} is quantised by MindSpore Lite's converter on a host with CANN.",
            hint="Leave 'optimize' and 'via' out: the configuration for it is written beside the file then.",
        )
    return Target(soc, _MODES[precision])
