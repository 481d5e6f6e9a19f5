"""A pose network as one ONNX graph that carries its PoseSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, SpecError
from .files import write_whole
from .spec import PoseSpec

if TYPE_CHECKING:
    import onnx

SPEC_KEY = "edgepose.spec"
PROVENANCE_KEY = "edgepose.provenance"


@dataclass
class PoseModel:
    """An ONNX graph with its contract.

    Attributes
    ----------
    graph
        The ONNX model.
    spec
        Its contract.
    provenance
        Where the weights came from: plain JSON data such as ``architecture``, ``checkpoint``, ``sha256``,
        ``license``, ``tools``.
    """

    graph: onnx.ModelProto
    spec: PoseSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The ONNX file, spec and provenance in its metadata."""
        import onnx

        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        kept = [p for p in graph.metadata_props if p.key not in (SPEC_KEY, PROVENANCE_KEY)]
        del graph.metadata_props[:]
        graph.metadata_props.extend(kept)
        for key, text in (
            (SPEC_KEY, self.spec.to_json()),
            (PROVENANCE_KEY, json.dumps(self.provenance, sort_keys=True)),
        ):
            graph.metadata_props.add(key=key, value=text)
        data: bytes = graph.SerializeToString(deterministic=True)
        return data

    def save(self, path: str | Path) -> Path:
        """Write the ONNX file, whole or not at all."""
        path = Path(path)
        write_whole(path, self.to_bytes())
        return path

    @classmethod
    def from_onnx(cls, path: str | Path, spec: PoseSpec | None = None) -> PoseModel:
        """Read an ONNX file.

        Parameters
        ----------
        path
            The file.
        spec
            The contract of a foreign graph; for one that edgepose wrote it may be left out.

        Raises
        ------
        InputError
            If the file cannot be read or is not ONNX.
        SpecError
            If the file carries no spec and none is given.
        """
        import onnx
        from google.protobuf.message import DecodeError as ProtobufError

        path = Path(path)
        try:
            graph = onnx.load_model_from_string(path.read_bytes())
        except OSError as error:
            raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
        except (ProtobufError, ValueError, TypeError) as error:
            raise InputError(f"'{path}' is not an ONNX file.") from error
        if not graph.graph.node:
            raise InputError(f"'{path}' is not an ONNX file, or has an empty graph.")
        metadata = {p.key: p.value for p in graph.metadata_props}
        if spec is None:
            if SPEC_KEY not in metadata:
                raise SpecError(
                    f"'{path}' carries no PoseSpec, so its input and outputs cannot be interpreted.",
                    hint="Give one with --spec FILE.json.",
                )
            spec = PoseSpec.from_json(metadata[SPEC_KEY])
        try:
            provenance = json.loads(metadata.get(PROVENANCE_KEY, "{}"))
        except (ValueError, RecursionError):
            provenance = {}
        return cls(graph, spec, provenance if isinstance(provenance, dict) else {})
