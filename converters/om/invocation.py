"""The command line of ``atc``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepose.errors import ConversionError

AIR, ONNX = 1, 5
#: Precision -> ``--precision_mode``.  fp32 must be fp32: ``must_keep_origin_dtype`` fails where a kernel has half
#: precision only, while the other modes use that without a word.  What int8 leaves out is in half precision.
PRECISION_MODES: Mapping[str, str] = {
    "fp32": "must_keep_origin_dtype",
    "fp16": "force_fp16",
    "int8": "force_fp16",
}


@dataclass(frozen=True)
class Invocation:
    """What ``atc`` is told.

    Attributes
    ----------
    framework
        :data:`ONNX` or :data:`AIR`.
    model
        Name of the graph's file in the folder where it runs.
    soc
        For which SoC.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    shapes
        Input -> its shape, with -1 where a profile says.
    batches, sizes
        Profiles.
    aipp
        Name of the AIPP file; empty for none.
    layout
        ``NCHW`` if the inputs are pictures in planes; else the order of dimensions means nothing to ``atc``.
    """

    framework: int
    model: str
    soc: str
    precision: str
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    batches: Sequence[int] = ()
    sizes: Sequence[tuple[int, int]] = ()
    aipp: str = ""
    layout: str = "NCHW"

    def arguments(self) -> list[str]:
        """Without the program's name.

        Raises
        ------
        ConversionError
            If an input has a name that ``atc`` cannot be told.
        """
        given = [
            f"--framework={self.framework}",
            f"--model={self.model}",
            "--output=model",
            f"--soc_version={self.soc}",
            f"--precision_mode={PRECISION_MODES[self.precision]}",
            "--output_type=FP32",
        ]
        if self.shapes:
            for name in self.shapes:
                if any(mark in name for mark in ":;,\"'"):
                    raise ConversionError(
                        f"atc cannot be told the shape of the input '{name}': its name has a mark in it that"
                        " separates shapes.",
                        hint="Rename the input in the graph.",
                    )
            told = ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in self.shapes.items())
            given += [f"--input_format={self._format()}", f"--input_shape={told}"]
        if self.batches:
            given.append(f"--dynamic_batch_size={','.join(map(str, self.batches))}")
        if self.sizes:
            given.append(f"--dynamic_image_size={';'.join(f'{h},{w}' for h, w in self.sizes)}")
        if self.aipp:
            given.append(f"--insert_op_conf={self.aipp}")
        return [*given, "--log=error"]

    def script(self) -> str:
        """A shell script that runs it on a machine with CANN."""
        line = " \\\n  ".join(shlex.quote(a) for a in self.arguments())
        return (
            "#!/bin/sh\n# Compiles model.om here.  First: source /usr/local/Ascend/ascend-toolkit/set_env.sh\n"
            'cd "$(dirname "$0")" || exit 1\n'
            f"exec atc \\\n  {line}\n"
        )

    def _format(self) -> str:
        """For ONNX there are NCHW and ND; profiles go with NCHW, and those of the batch look at its N alone."""
        planes = self.layout == "NCHW" and all(len(shape) == 4 for shape in self.shapes.values())
        return "NCHW" if planes or self.batches else "ND"
