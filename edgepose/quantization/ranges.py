"""Ranges of activations: what calibration finds and every quantised form is made from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import write_whole

if TYPE_CHECKING:
    import onnx

FORMAT = "edgepose.ranges"
VERSION = 1
#: A file of ranges is a few hundred kilobytes for the largest network.
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Ranges:
    """The smallest and largest value of each activation that int8 must be able to express.

    Attributes
    ----------
    tensors
        Name of the tensor in the float graph -> (min, max); finite, min <= max.
    method
        How they were found: ``naive``, ``entropy``, ``percentile``, ``mse``, ``sqnr``, or where they come from.
    graph
        Fingerprint of the float graph (:func:`fingerprint`); empty if they come from elsewhere.
    data
        The calibration set, plain JSON data: ``source``, ``images``, ``sha256``.
    """

    tensors: Mapping[str, tuple[float, float]]
    method: str
    graph: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InputError(f"The range of '{name}' is [{low}, {high}]; it must be finite and in order.")

    def merge(self, other: Ranges) -> Ranges:
        """The smallest ranges that hold both.

        Raises
        ------
        InputError
            If they belong to different graphs.
        """
        if self.graph and other.graph and self.graph != other.graph:
            raise InputError("These ranges belong to different networks; they cannot be merged.")
        merged = dict(self.tensors)
        for name, (low, high) in other.tensors.items():
            mine = merged.get(name, (low, high))
            merged[name] = (min(mine[0], low), max(mine[1], high))
        method = self.method if self.method == other.method else f"{self.method}+{other.method}"
        sets = [*self.data.get("merged", [dict(self.data)]), *other.data.get("merged", [dict(other.data)])]
        return Ranges(merged, method, self.graph or other.graph, {"merged": sets})

    def check(self, graph: onnx.ModelProto, where: str = "ranges") -> None:
        """Refuse ranges of another network.

        Raises
        ------
        InputError
            If they were made for a graph of another fingerprint, or name no tensor of this one.
        """
        if self.graph and self.graph != fingerprint(graph):
            raise InputError(
                f"The {where} were calibrated on another network than this one.",
                hint="Calibrate again: --calibration FOLDER.",
            )
        names = {o for n in graph.graph.node for o in n.output} | {i.name for i in graph.graph.input}
        if not names & set(self.tensors):
            raise InputError(
                f"The {where} name no tensor of this network.", hint="Calibrate again: --calibration FOLDER."
            )

    def save(self, path: str | Path) -> Path:
        """Write as JSON, whole or not at all."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method,
            "graph": self.graph,
            "data": dict(self.data),
            "tensors": {name: list(r) for name, r in sorted(self.tensors.items())},
        }
        write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Ranges:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If the file cannot be read or is not one of ranges.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"'{path}' is too large for a file of ranges.")
            data = json.loads(path.read_bytes())
            if data["format"] != FORMAT or data["version"] != VERSION:
                raise InputError(f"'{path}' is {data['format']} {data['version']}, not {FORMAT} {VERSION}.")
            tensors = {str(k): (float(low), float(high)) for k, (low, high) in data["tensors"].items()}
            return cls(tensors, str(data["method"]), str(data["graph"]), dict(data["data"]))
        except OSError as error:
            raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise InputError(
                f"'{path}' is not a file of ranges.", hint="It is written by: edgepose calibrate MODEL ... -o FILE"
            ) from error


def fingerprint(graph: onnx.ModelProto) -> str:
    """Identity of a float graph, sha256: its operators, wiring and weights, not its metadata or documentation."""
    digest = hashlib.sha256()
    for node in graph.graph.node:
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            digest.update(attribute.SerializeToString(deterministic=True))
        digest.update(repr((node.op_type, list(node.input), list(node.output))).encode())
    for tensor in sorted(graph.graph.initializer, key=lambda t: t.name):
        digest.update(tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()
