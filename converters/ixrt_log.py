"""What went wrong in ``ixrtexec``, out of what it wrote."""

from __future__ import annotations

import re

from edgepose.errors import ConversionError

_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_MODULE = re.compile(r"No module named '?([\w.]+)'?")
_ARGUMENTS = re.compile(r"error: ((?:unrecognized arguments|argument --\w+|ambiguous option).*)")
_NO_MEMORY = re.compile(r"out of memory|MemoryAllocation|MEM_ALLOC_FAILED|bad_alloc", re.IGNORECASE)
_CUDA = re.compile(r"CUDA error code=\s*(\w+)\(([^)]*)\)")
_OPERATOR = re.compile(
    r"(?:unsupported|not supported|no importer registered for|can(?:not|'t) find)[^\n]{0,40}?\bop(?:erator|_type)?\b"
    r"\s*:?\s*\W?(\w+)",
    re.IGNORECASE,
)
_PARSER, _BUILDER = "Failed to parse model", "Failed to build IxRT engine"
_EXCEPTION = re.compile(r"^(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
_TAIL = 5
_SIGNAL_KILL = -9
_ENVIRONMENT = "export LD_LIBRARY_PATH=/usr/local/corex/lib64:$LD_LIBRARY_PATH"


def failure(code: int | None, said: str, tool: str) -> ConversionError:
    """The error for a build that failed.

    Parameters
    ----------
    code
        How the program ended: its exit code, a signal's negative number, or None for one that took too long.
    said
        What it wrote.
    tool
        Its name.
    """
    cause, hint = _cause(code, said)
    lines = [" ".join(line.split())[:200] for line in said.splitlines() if line.strip()]
    tail = "".join(f"\n    | {line}" for line in lines[-_TAIL:])
    return ConversionError(f"{tool} does not build the engine: {cause}{tail}", hint=hint)


def _cause(code: int | None, said: str) -> tuple[str, str | None]:
    if code is None:
        return "it took too long and was ended.", "See with ixsmi whether the card answers."
    library, module, arguments = _LIBRARY.search(said), _MODULE.search(said), _ARGUMENTS.search(said)
    if library:
        return f"the library {library[1]} is not found.", _ENVIRONMENT
    if module:
        return (
            f"its Python lacks the module {module[1]}.",
            f"pip install {module[1].split('.')[0]}, where it is installed.",
        )
    if arguments:
        return f"it does not know what it was told: {arguments[1].strip()}.", "Leave the option via out."
    if _NO_MEMORY.search(said):
        return "the card has too little memory.", "Close what else uses it (ixsmi shows that), or take a smaller batch."
    cuda = _CUDA.search(said)
    if cuda:
        name = cuda[2].strip("b'\"") or cuda[1]
        return f"CUDA fails with {name}.", "ixsmi -L must list the card; in a container, pass /dev/iluvatar0 in."
    if _PARSER in said:
        operator = _OPERATOR.search(said)
        named = f" because of the operator {operator[1]}" if operator else ""
        return f"its parser does not take the graph{named}.", "Try --embed none, or --simplify."
    if _BUILDER in said:
        return "its builder does not find a way to compute the graph.", None
    raised = _EXCEPTION.findall(said)
    if raised:
        return f"{raised[-1][0]}: {raised[-1][1][:200]}", None
    if code == _SIGNAL_KILL:
        return "it was killed; there was not enough memory, most likely.", None
    if code < 0:
        return f"it ended by signal {-code}.", None
    return (f"exit code {code}." if code else "it wrote no engine."), None
