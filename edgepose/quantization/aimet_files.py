"""AIMET's encodings files: ``<name>.encodings``, JSON, with the tensor names of the exported ONNX graph.

Versions: 0.5.x and 0.6.x (tables by name, a list of encodings for each), 1.0.0 (lists of records, without extremes),
and the flat table of parameters that ``set_and_freeze_param_encodings`` takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import write_whole
from .aimet_encodings import BITS, Encoding, Grid, tf_encoding
from .ranges import MAX_BYTES, Ranges

#: Versions that are written.
VERSIONS = ("0.5.1", "0.6.1", "1.0.0")


@dataclass(frozen=True)
class AimetEncodings:
    """The grids of a network.

    Attributes
    ----------
    activations
        Name of the tensor -> its grid.
    parameters
        Name of the weight -> its grids: one, or one for each output channel.
    untouched
        Names that the file lists as float, or with more than 16 bits (biases in 32).
    """

    activations: Mapping[str, Encoding]
    parameters: Mapping[str, tuple[Encoding, ...]] = field(default_factory=dict)
    untouched: frozenset[str] = frozenset()

    def ranges(self) -> Ranges:
        """The activations' extremes, as edgepose's own ranges.

        Raises
        ------
        InputError
            If there are none.
        """
        if not self.activations:
            raise InputError("These AIMET encodings have none for activations.")
        return Ranges({name: (e.minimum, e.maximum) for name, e in self.activations.items()}, "aimet")


def encodings_of(ranges: Ranges, grid: Grid | None = None) -> AimetEncodings:
    """Grids that hold ranges, by AIMET's rule ``tf``."""
    grid = grid or Grid()
    return AimetEncodings({name: tf_encoding(low, high, grid) for name, (low, high) in ranges.tensors.items()})


def read_encodings(path: str | Path) -> AimetEncodings:
    """Read an encodings file of any version.

    Raises
    ------
    InputError
        If it cannot be read, is no such file, or names modules of PyTorch instead of tensors.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"'{path}' is too large for a file of encodings.")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not JSON.") from error
    try:
        return _parse(data)
    except InputError as error:
        raise InputError(f"'{path}': {error.message}", hint=error.hint) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"'{path}' is not a file of AIMET encodings ({error}).",
            hint="AIMET writes it as <name>.encodings beside the ONNX file that it exports.",
        ) from error


def _parse(data: Any) -> AimetEncodings:
    if "activation_encodings" not in data and "param_encodings" not in data:
        data = {"param_encodings": data}
    activations, untouched = _table(data.get("activation_encodings", {}))
    parameters, more = _table(data.get("param_encodings", {}))
    for name, encodings in activations.items():
        if len(encodings) != 1:
            raise InputError(f"The activation '{name}' has {len(encodings)} encodings; there can be one only.")
    if not activations and not parameters and not untouched and not more:
        raise InputError("The file has no encodings.")
    single = {name: encodings[0] for name, encodings in activations.items()}
    return AimetEncodings(single, parameters, frozenset(untouched | more))


def _table(data: Any) -> tuple[dict[str, tuple[Encoding, ...]], set[str]]:
    found: dict[str, tuple[Encoding, ...]] = {}
    untouched: set[str] = set()
    for name, entries in _named(data):
        if name in found or name in untouched:
            raise InputError(f"'{name}' is listed twice.")
        floats = [str(e.get("dtype", "int")).lower() != "int" or int(e["bitwidth"]) > BITS[-1] for e in entries]
        if not entries or all(floats):
            untouched.add(name)
        elif any(floats):
            raise InputError(f"'{name}' is partly quantised.")
        else:
            found[name] = tuple(map(_entry, entries))
    return found, untouched


def _named(data: Any) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Name and entries of each tensor, in the form of version 0.5."""
    if isinstance(data, list):
        return [(str(record["name"]), _unpacked(record)) for record in data]
    named: list[tuple[str, Sequence[Mapping[str, Any]]]] = []
    for name, entries in data.items():
        if isinstance(entries, dict):
            raise InputError(
                f"The encodings of '{name}' are those of a PyTorch module, not of a tensor.",
                hint="Give the file without '_torch' in its name: its names are those of the ONNX graph.",
            )
        named.append((str(name), list(entries)))
    return named


def _unpacked(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries of a record of version 1.0, which has lists of scales and offsets."""
    shared = {"bitwidth": record["bw"], "dtype": record["dtype"], "is_symmetric": record.get("is_sym", False)}
    if str(record["dtype"]).lower() != "int":
        return [shared]
    scales, offsets = list(record["scale"]), list(record["offset"])
    if len(scales) != len(offsets) or not scales:
        raise InputError(f"'{record['name']}' has {len(scales)} scales and {len(offsets)} offsets.")
    return [{**shared, "scale": s, "offset": o} for s, o in zip(scales, offsets, strict=True)]


def _entry(entry: Mapping[str, Any]) -> Encoding:
    bits, scale, offset = int(entry["bitwidth"]), float(entry["scale"]), float(entry["offset"])
    if bits not in BITS or not offset.is_integer() or abs(offset) > 2 ** BITS[-1]:
        raise InputError(f"An encoding has {bits} bits and the offset {offset}.")
    symmetric = str(entry.get("is_symmetric", False)).lower() == "true"
    low = float(entry.get("min", scale * offset))
    high = float(entry.get("max", scale * (offset + (1 << bits) - 1)))
    return Encoding(low, high, scale, int(offset), bits, symmetric)


def write_encodings(path: str | Path, encodings: AimetEncodings, version: str = "0.6.1") -> Path:
    """Write an encodings file, whole or not at all.

    Parameters
    ----------
    path
        The file.
    encodings
        What to write.
    version
        One of :data:`VERSIONS`.

    Raises
    ------
    InputError
        If the version is another one or the file cannot be written.
    """
    if version not in VERSIONS:
        raise InputError(f"AIMET encodings of version {version!r} are not written.", hint=f"Use {', '.join(VERSIONS)}.")
    write = _records if version == "1.0.0" else _tables
    data: dict[str, Any] = {
        "version": version,
        "activation_encodings": write({name: (e,) for name, e in encodings.activations.items()}),
        "param_encodings": write(encodings.parameters),
        "excluded_layers": [],
    }
    if version != "0.5.1":
        data["quantizer_args"] = _arguments(encodings)
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
    return Path(path)


def _tables(named: Mapping[str, Sequence[Encoding]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {
                "bitwidth": e.bits,
                "dtype": "int",
                "is_symmetric": str(e.symmetric),
                "max": e.maximum,
                "min": e.minimum,
                "offset": e.offset,
                "scale": e.scale,
            }
            for e in encodings
        ]
        for name, encodings in named.items()
    }


def _records(named: Mapping[str, Sequence[Encoding]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "bw": encodings[0].bits,
            "dtype": "INT",
            "enc_type": "PER_TENSOR" if len(encodings) == 1 else "PER_CHANNEL",
            "is_sym": encodings[0].symmetric,
            "offset": [e.offset for e in encodings],
            "scale": [e.scale for e in encodings],
        }
        for name, encodings in named.items()
    ]


def _arguments(encodings: AimetEncodings) -> dict[str, Any]:
    weights = [e for group in encodings.parameters.values() for e in group]
    return {
        "activation_bitwidth": max((e.bits for e in encodings.activations.values()), default=8),
        "param_bitwidth": max((e.bits for e in weights), default=8),
        "dtype": "int",
        "is_symmetric": bool(weights) and all(e.symmetric for e in weights),
        "per_channel_quantization": any(len(group) > 1 for group in encodings.parameters.values()),
    }
