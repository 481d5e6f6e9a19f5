"""What went wrong in ``atc``, out of what it wrote."""

from __future__ import annotations

import re

from edgepose.errors import ConversionError

_UNKNOWN_OPERATOR = re.compile(r"No parser is registered for Op \[([^\]]*?), optype \[([^\]]*)\]\]")
_NO_KERNEL = re.compile(
    r"No supported Ops kernel.{0,80}?\[[^\]]*\], optype \[([^\]]*)\]|Optype \[([^\]]*)\].{0,80}? is unsupported",
    re.IGNORECASE,
)
_BAD_VALUE = re.compile(r"Value \[([^\]]*)\] for parameter \[-{0,2}([^\]]*)\] is invalid\.?\s*(.{0,200})")
_LIBRARY = re.compile(r"(?:loading shared libraries: )?(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_CODE = re.compile(r"^\s*(E[A-Z]?\d{4,5}): (.+)", re.MULTILINE)
_MODULE = re.compile(r"No module named '?([\w.]+)'?")
_TAIL = 5
_SIGNAL_KILL = -9


def failure(code: int | None, said: str, precision: str, tool: str, remedy: str) -> ConversionError:
    """The error for a compilation that failed.

    Parameters
    ----------
    code
        How the program ended: its exit code, a signal's negative number, or None for one that took too long.
    said
        What it wrote.
    precision
        What was asked for.
    tool
        Name and version of the program.
    remedy
        How to set its environment.
    """
    cause, hint = _cause(code, said, precision, remedy)
    return ConversionError(f"{tool} does not compile the graph: {cause}{_tail(said)}", hint=hint)


def _cause(code: int | None, said: str, precision: str, remedy: str) -> tuple[str, str | None]:
    if code is None:
        return "it took too long and was ended.", "Compile on a faster machine, with --option recipe=on."
    if code == _SIGNAL_KILL:
        return "it was killed; there was not enough memory, most likely.", "atc needs 8 GB and more for some networks."
    library, module = _LIBRARY.search(said), _MODULE.search(said)
    if library:
        return f"the library {library.group(1)} is not found.", f"Set the environment of CANN: {remedy}"
    if module:
        return (
            f"its Python lacks the module {module.group(1)}.",
            "CANN compiles operators with Python: pip install attrs cython decorator numpy sympy cffi protobuf psutil"
            " scipy requests absl-py",
        )
    unknown = list(dict.fromkeys(_UNKNOWN_OPERATOR.findall(said)))
    if unknown:
        kinds = sorted({kind.rpartition("::")[2] or kind for _, kind in unknown})
        opset = next((part for _, kind in unknown for part in kind.split("::") if part.isdigit()), "")
        told = f" of opset {opset}" if opset else ""
        first = unknown[0][0]
        return (
            f"this CANN knows no operator {', '.join(kinds)}{told} ('{first}' for instance).",
            "Choose another opset with --option opset=N, or a newer CANN.",
        )
    kernels = list(dict.fromkeys(a or b for a, b in _NO_KERNEL.findall(said)))
    if kernels and precision == "fp32" and _about_float(said):
        return (
            f"this device computes {', '.join(kernels)} in half precision only; fp32 is not possible here.",
            "Use --precision fp16.",
        )
    if kernels:
        return f"this device has no kernel for {', '.join(kernels)}.", "Leave it out of the graph, or use a newer CANN."
    value = _BAD_VALUE.search(said)
    if value:
        given, parameter, reason = value.groups()
        told = f"it refuses {given!r} for --{parameter}. {reason}".strip()
        hint = "This CANN does not compile for that SoC; 'Ascend' and the Name of npu-smi info is the right value."
        return told, hint if "soc_version" in parameter else None
    coded = _CODE.findall(said)
    if coded:
        return "; ".join(f"{number}: {' '.join(text.split())[:200]}" for number, text in coded[:2]) + ".", None
    if code < 0:
        return f"it ended by signal {-code}.", None
    return f"exit code {code}.", None


def _about_float(said: str) -> bool:
    return re.search(r"DT_FLOAT\b|float32|FP32|must_keep_origin_dtype", said, re.IGNORECASE) is not None


def _tail(said: str) -> str:
    """The last lines, briefly; they are what a search engine knows."""
    lines = [" ".join(line.split())[:200] for line in said.splitlines() if line.strip()]
    return "".join(f"\n    | {line}" for line in lines[-_TAIL:])
