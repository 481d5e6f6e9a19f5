"""Errors of edgepose.

Every error a user can cause says what happened, with which file or device, and what to do next; the command line
prints it without a traceback and ends with :attr:`EdgePoseError.exit_code`.  A traceback means a bug in edgepose.
"""

from __future__ import annotations


class EdgePoseError(Exception):
    """Base of all errors that edgepose raises on purpose.

    Parameters
    ----------
    message
        What happened, naming the file, array or device.
    hint
        What to do next; if a command mends it, the command.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class InputError(EdgePoseError):
    """A file, folder or value that was handed in cannot be used."""


class MediaError(InputError):
    """A picture or video cannot be read or written."""


class SpecError(InputError):
    """A PoseSpec is incomplete or contradicts itself."""


class BundleError(InputError):
    """A bundle is damaged, incomplete or of an unknown version."""


class CheckpointError(InputError):
    """A checkpoint is damaged or of an unknown format."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint would run code when loaded, and was not loaded."""


class ArchitectureError(InputError):
    """Named arrays do not fit the architecture they were given to."""


class GraphError(InputError):
    """An ONNX graph is invalid or cannot be transformed as asked."""


class ConversionError(EdgePoseError):
    """A converter refused or failed; nothing was written."""


class DecodeError(EdgePoseError):
    """Raw outputs of a network do not have the form that its decoder needs."""


class DeviceError(EdgePoseError):
    """A device or engine is not there, or cannot do what was asked."""


class PluginError(EdgePoseError):
    """No plug-in of that name is installed, or it cannot be loaded."""


class DependencyError(EdgePoseError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            hint=f'pip install "edgepose[{extra}]"',
        )
