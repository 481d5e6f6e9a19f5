"""pyACL, call by call: every code that a call returns is looked at.

A call returns a code, or a value and a code, or a value alone.  Which of them is written down here for each call that
is used, after the wrapper's own sources and documentation (CANN 6 to 8.5); an answer of another form is an error too.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgepose.errors import DeviceError

#: What a call returns: ``code``; ``value``, followed by a code; ``version``, three numbers and a code; ``handle``,
#: which is 0 where it failed; ``plain``, a number or a text that cannot fail.
CALLS: Mapping[str, str] = MappingProxyType(
    {
        "init": "code",
        "finalize": "code",
        "get_version": "version",
        "get_soc_name": "plain",
        "create_data_buffer": "handle",
        "destroy_data_buffer": "code",
        "rt.get_device_count": "value",
        "rt.set_device": "code",
        "rt.reset_device": "code",
        "rt.create_context": "value",
        "rt.destroy_context": "code",
        "rt.set_context": "code",
        "rt.get_run_mode": "value",
        "rt.malloc": "value",
        "rt.free": "code",
        "rt.memcpy": "code",
        "mdl.load_from_file": "value",
        "mdl.unload": "code",
        "mdl.create_desc": "handle",
        "mdl.get_desc": "code",
        "mdl.destroy_desc": "code",
        "mdl.get_num_inputs": "plain",
        "mdl.get_num_outputs": "plain",
        "mdl.get_input_name_by_index": "plain",
        "mdl.get_output_name_by_index": "plain",
        "mdl.get_input_size_by_index": "plain",
        "mdl.get_output_size_by_index": "plain",
        "mdl.get_input_dims": "value",
        "mdl.get_output_dims": "value",
        "mdl.get_cur_output_dims": "value",
        "mdl.get_input_data_type": "plain",
        "mdl.get_output_data_type": "plain",
        "mdl.get_dynamic_batch": "value",
        "mdl.get_dynamic_hw": "value",
        "mdl.set_dynamic_batch_size": "code",
        "mdl.set_dynamic_hw_size": "code",
        "mdl.create_dataset": "handle",
        "mdl.destroy_dataset": "code",
        "mdl.add_dataset_buffer": "value",
        "mdl.execute": "code",
    }
)
#: ``acl.init`` when another library of the process has called it before.
REPEATED_INIT = 100002
#: Codes of ``aclError`` -> what they mean and what mends it.
_MEANINGS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        100000: ("invalid parameter", ""),
        100001: ("not initialised", ""),
        REPEATED_INIT: ("initialised twice", ""),
        100003: ("the file cannot be used", ""),
        100011: ("invalid model id", ""),
        100012: ("the model cannot be deserialised", "Convert the checkpoint again for this device."),
        100013: ("the model cannot be parsed", "Convert the checkpoint again for this device."),
        100014: ("the model cannot be read", ""),
        100039: ("compiled against stub libraries", "Put the driver's libraries before the stubs: LD_LIBRARY_PATH."),
        107001: ("invalid device id", "npu-smi info lists the devices."),
        107002: ("no context is current", ""),
        107003: ("the stream belongs to another context", ""),
        145000: ("invalid parameter", ""),
        145002: ("invalid path of the model", ""),
        145013: ("invalid batch size", ""),
        145021: ("invalid shape", ""),
        200000: ("out of memory", "Close other processes that use the device (npu-smi info lists them)."),
        200001: ("not supported by this version", ""),
        207000: ("not supported on this device", ""),
        207001: ("out of device memory", "Close other processes that use the device (npu-smi info lists them)."),
        207004: ("no device", "Check the driver: npu-smi info."),
        207005: ("no resource left", "Close other processes that use the device (npu-smi info lists them)."),
        207006: ("no permission", "The user must be in the group that owns /dev/davinci*, HwHiAiUser usually."),
        245000: ("out of memory", "Close other processes that use the device (npu-smi info lists them)."),
        500000: ("internal error", ""),
        500001: ("failure", ""),
        500002: ("failure of the graph engine", "Convert the checkpoint again for this device and CANN version."),
        500003: ("failure of the runtime", ""),
        500004: ("failure of the driver", "Check the driver: npu-smi info."),
        507008: ("wrong SoC version", "Convert the checkpoint again for this device."),
        507011: ("the model failed", ""),
        507014: ("an AI Core took too long", ""),
        507015: ("an AI Core raised an exception", ""),
        507018: ("the AI CPU raised an exception", ""),
        507899: ("failure of the driver", "Check the driver: npu-smi info."),
        545001: ("the model cannot be loaded", "Convert the checkpoint again for this device and CANN version."),
    }
)
_INSTALL = (
    "Install CANN (nnrt is enough to run) and set its environment:"
    " source /usr/local/Ascend/ascend-toolkit/set_env.sh (or nnrt/set_env.sh)"
)


class AclError(DeviceError):
    """A call returned a code.

    Attributes
    ----------
    call
        Its name, ``acl.rt.malloc`` for instance.
    code
        What it returned; None if that was no answer of the expected form.
    """

    def __init__(self, call: str, code: int | None, purpose: str) -> None:
        self.call, self.code = f"acl.{call}", code
        meaning, remedy = _MEANINGS.get(code, ("", "")) if code is not None else ("", "")
        said = "gave no handle" if code is None else f"returned {code}" + (f" ({meaning})" if meaning else "")
        super().__init__(f"{purpose}: {self.call} {said}.", hint=remedy or None)


def is_installed() -> bool:
    """Whether the Python module ``acl`` is here, and is pyACL as far as can be told without importing it."""
    try:
        return importlib.util.find_spec("acl") is not None
    except (ImportError, ValueError):
        return False


def remedy() -> str:
    """How to get pyACL."""
    return _INSTALL


def load() -> Any:
    """The module ``acl``.

    Raises
    ------
    DeviceError
        If it is not here, cannot be imported, or is something else of that name.
    """
    try:
        module = importlib.import_module("acl")
        for part in ("acl.rt", "acl.mdl"):
            # Functions are in extension modules on some versions, in attributes of the package on others.
            if not hasattr(module, part.partition(".")[2]):
                importlib.import_module(part)
    except ImportError as error:
        raise DeviceError(f"pyACL cannot be imported: {error}.", hint=_INSTALL) from error
    if not hasattr(module, "init") or not hasattr(module, "mdl"):
        raise DeviceError(
            f"The module 'acl' ({getattr(module, '__file__', 'built in')}) is not pyACL.",
            hint=f"Uninstall it, or put pyACL before it on PYTHONPATH. {_INSTALL}",
        )
    return module


class Acl:
    """Calls of pyACL by name, their codes checked.

    Parameters
    ----------
    module
        The module ``acl``.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def has(self, name: str) -> bool:
        """Whether this version has the call ``name``."""
        return self._find(name) is not None

    def call(self, purpose: str, name: str, *arguments: Any) -> Any:
        """Call ``acl.<name>``.

        Parameters
        ----------
        purpose
            What could not be done if it fails, for the message.
        name
            One of :data:`CALLS`.
        arguments
            Passed on.

        Returns
        -------
        object
            The value if the call gives one, else None.

        Raises
        ------
        AclError
            If it returns a code other than 0, or no handle.
        DeviceError
            If this version has no such call, or it refuses its arguments.
        """
        function = self._find(name)
        if function is None:
            raise DeviceError(f"{purpose}: this pyACL has no acl.{name}.", hint="Install a newer CANN.")
        try:
            answer = function(*arguments)
        except (TypeError, ValueError, OverflowError, SystemError) as error:
            raise DeviceError(f"{purpose}: acl.{name} refuses its arguments: {error}.") from error
        return self._checked(purpose, name, answer)

    def _find(self, name: str) -> Any:
        found = self._module
        for part in name.split("."):
            found = getattr(found, part, None)
        return found

    @staticmethod
    def _checked(purpose: str, name: str, answer: Any) -> Any:
        form = CALLS[name]
        if form == "plain":
            return answer
        if form == "handle":
            if not answer:
                raise AclError(name, None, purpose)
            return answer
        values: tuple[Any, ...] = answer if isinstance(answer, tuple) else (answer,)
        expected = {"code": 1, "value": 2, "version": 4}[form]
        if len(values) != expected or not isinstance(values[-1], int):
            raise DeviceError(f"{purpose}: acl.{name} gave {answer!r}, which this edgepose does not understand.")
        if values[-1] != 0:
            raise AclError(name, values[-1], purpose)
        if form == "version":
            return values[:3]
        return values[0] if form == "value" else None
