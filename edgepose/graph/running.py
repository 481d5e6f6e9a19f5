"""Running a graph in ONNX Runtime, to check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import GraphError
from .draft import Draft

Tensor = npt.NDArray[Any]


class Runner:
    """A graph loaded in ONNX Runtime on the CPU.

    ONNX Runtime's own rewriting is off: what is compared is the graph as it stands, and the weights are used where they
    lie instead of being copied.

    Parameters
    ----------
    model
        The graph.
    what
        What it is called in errors.

    Raises
    ------
    GraphError
        If ONNX Runtime refuses it.
    """

    def __init__(self, model: onnx.ModelProto | Draft, what: str = "graph") -> None:
        import onnxruntime as ort

        draft = model if isinstance(model, Draft) else Draft(model)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # its errors are raised, and told in our words
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        weights = dict(draft.held())
        self._weights = {name: ort.OrtValue.ortvalue_from_numpy(_aligned(array)) for name, array in weights.items()}
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        self._what = what
        try:
            self._session = ort.InferenceSession(
                draft.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its error classes share no base but this
            raise GraphError(f"ONNX Runtime {ort.__version__} refuses the {what}: {_brief(error)}") from error
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once.

        Raises
        ------
        GraphError
            If ONNX Runtime fails.
        """
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise GraphError(f"The {self._what} does not run on {shapes}: {_brief(error)}") from error
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))


def _aligned(array: Tensor) -> Tensor:
    """The array as ONNX Runtime can use it in place: in one piece, native byte order, writable or not."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
