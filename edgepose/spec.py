"""PoseSpec: the contract of a model, as plain data.

Everything that must be known to use a network correctly (how a picture becomes its input, how its outputs become
keypoints, which keypoints they are) is in its spec.  The spec is printable as JSON and is stored in the metadata of
every ONNX file and in the manifest of every bundle.  No code asks for a model's name to know what to do.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Union, get_args

from .errors import SpecError
from .keypoints import KeypointSet

SPEC_VERSION = 1

Layout = Literal["NCHW", "NHWC"]
DType = Literal["float32", "float16", "uint8", "int32"]
Color = Literal["RGB", "BGR"]
Interpolation = Literal["linear", "cubic", "area", "nearest"]
Anchor = Literal["center", "top-left"]
CropConvention = Literal["msra", "udp", "alphapose"]


def _choice(owner: str, name: str, value: object, allowed: Any) -> None:
    options = get_args(allowed)
    if value not in options:
        raise SpecError(f"{owner}: '{name}' is {value!r}, must be one of {', '.join(map(repr, options))}.")


def _positive(owner: str, name: str, value: float | None) -> None:
    if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise SpecError(f"{owner}: '{name}' is {value!r}, must be a positive number.")


@dataclass(frozen=True)
class Crop:
    """One crop per person box, aspect kept (top-down models).

    Attributes
    ----------
    padding
        Factor by which the box grows on each side ratio-wise (1.25 in the SimpleBaseline lineage).
    convention
        How box and crop correspond: ``msra`` (SimpleBaseline, GluonCV, mmpose), ``udp`` (unit intervals between
        pixel centres) or ``alphapose`` (integer boxes, own padding).
    """

    kind: ClassVar[str] = "crop"
    padding: float = 1.25
    convention: CropConvention = "msra"

    def __post_init__(self) -> None:
        _positive("crop", "padding", self.padding)
        _choice("crop", "convention", self.convention, CropConvention)


@dataclass(frozen=True)
class Letterbox:
    """The whole picture, resized with its aspect kept and padded.

    Attributes
    ----------
    long_side
        Length in pixels to which the longer side is brought, for networks of dynamic size; None if the network's
        input size is fixed.
    stride
        Network height and width are multiples of this (dynamic size only).
    anchor
        Where the picture lies in the padded input.
    pad_value
        Grey level 0..255 of the padding, before normalisation.
    upscale
        Whether pictures smaller than the input are enlarged.
    """

    kind: ClassVar[str] = "letterbox"
    long_side: int | None = None
    stride: int = 32
    anchor: Anchor = "center"
    pad_value: float = 114
    interpolation: Interpolation = "linear"
    upscale: bool = True

    def __post_init__(self) -> None:
        _positive("letterbox", "long_side", self.long_side)
        _positive("letterbox", "stride", self.stride)
        _choice("letterbox", "anchor", self.anchor, Anchor)
        _choice("letterbox", "interpolation", self.interpolation, Interpolation)


@dataclass(frozen=True)
class FixedHeight:
    """The whole picture brought to one height, padded to a multiple of the stride (OpenPose family).

    Attributes
    ----------
    height
        Height in pixels to which the picture is resized.
    stride
        Padded height and width are multiples of this.
    min_width
        Smallest padded width in pixels; None for no minimum.
    anchor, pad_value, interpolation
        As for :class:`Letterbox`.
    resize_after_normalise
        Resize the normalised float picture instead of the uint8 one (no rounding to grey levels in between).
    """

    kind: ClassVar[str] = "fixed-height"
    height: int = 256
    stride: int = 8
    min_width: int | None = None
    anchor: Anchor = "center"
    pad_value: float = 128
    interpolation: Interpolation = "linear"
    resize_after_normalise: bool = False

    def __post_init__(self) -> None:
        _positive("fixed-height", "height", self.height)
        _positive("fixed-height", "stride", self.stride)
        _positive("fixed-height", "min_width", self.min_width)
        _choice("fixed-height", "anchor", self.anchor, Anchor)
        _choice("fixed-height", "interpolation", self.interpolation, Interpolation)


@dataclass(frozen=True)
class Stretch:
    """The whole picture resized to the input size, aspect not kept.

    Attributes
    ----------
    long_side, short_side
        For networks of dynamic size: the input is ``long_side`` along the picture's longer axis and ``short_side``
        along the other.  None if the input size is fixed.
    """

    kind: ClassVar[str] = "stretch"
    long_side: int | None = None
    short_side: int | None = None
    interpolation: Interpolation = "linear"

    def __post_init__(self) -> None:
        _positive("stretch", "long_side", self.long_side)
        _positive("stretch", "short_side", self.short_side)
        _choice("stretch", "interpolation", self.interpolation, Interpolation)


Fit = Union[Crop, Letterbox, FixedHeight, Stretch]
_FITS: dict[str, type[Crop] | type[Letterbox] | type[FixedHeight] | type[Stretch]] = {
    c.kind: c for c in (Crop, Letterbox, FixedHeight, Stretch)
}


@dataclass(frozen=True)
class InputSpec:
    """What the network wants to be fed.

    Attributes
    ----------
    name
        Name of the graph input.
    height, width
        Input size in pixels; None where the network takes any multiple of the fit's stride.
    layout
        ``NCHW`` or ``NHWC``.
    dtype
        Element type of the graph input.
    color
        Channel order of the fed pixels.
    mean, std
        Normalisation ``(pixel - mean) / std`` with pixels 0..255, given by *position* in the fed channel order.
        (0, 0, 0) and (1, 1, 1) for a network that takes raw pixels.
    fit
        How a picture is fitted to the input.
    """

    name: str
    height: int | None
    width: int | None
    fit: Fit
    layout: Layout = "NCHW"
    dtype: DType = "float32"
    color: Color = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _choice("input", "layout", self.layout, Layout)
        _choice("input", "dtype", self.dtype, DType)
        _choice("input", "color", self.color, Color)
        _positive("input", "height", self.height)
        _positive("input", "width", self.width)
        if (self.height is None) != (self.width is None):
            raise SpecError("input: 'height' and 'width' are either both given or both null.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise SpecError(f"input: '{name}' must be three finite numbers.")
        if any(v <= 0 for v in self.std):
            raise SpecError("input: 'std' must be positive.")
        if self.dtype in ("uint8", "int32") and not self.is_raw:
            raise SpecError(f"input: a network that takes {self.dtype} pixels cannot have mean and std as well.")
        dynamic = self.height is None
        if dynamic and isinstance(self.fit, Crop):
            raise SpecError("input: a person crop needs a fixed 'height' and 'width'.")
        if dynamic and isinstance(self.fit, (Letterbox, Stretch)) and self.fit.long_side is None:
            raise SpecError(f"input: with a dynamic size, fit '{self.fit.kind}' needs 'long_side'.")

    @property
    def is_raw(self) -> bool:
        """Whether the network takes pixels as they are, without normalisation."""
        return self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class DecoderSpec:
    """How the outputs of a network become keypoints.

    Attributes
    ----------
    type
        Name of the decoder, ``heatmap`` or ``simcc`` for instance.
    outputs
        From the role that the decoder knows (``heatmaps``, ``pafs``, ``simcc_x``) to the name of the graph output.
    options
        Constants of the decoder where they differ from its defaults; plain JSON data.
    """

    type: str
    outputs: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.type:
            raise SpecError("decoder: 'type' is empty.")
        if not self.outputs or not all(isinstance(v, str) and v for v in self.outputs.values()):
            raise SpecError("decoder: 'outputs' must name at least one graph output.")


@dataclass(frozen=True)
class PoseSpec:
    """The contract of a model.

    Attributes
    ----------
    input
        What it is fed.
    decoder
        How its outputs are read.
    keypoints
        Which keypoints it finds; None for a detector that finds person boxes only.
    calibration
        Known activation ranges ``tensor name -> (min, max)``, when the checkpoint brought them along.
    """

    input: InputSpec
    decoder: DecoderSpec
    keypoints: KeypointSet | None
    calibration: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def is_top_down(self) -> bool:
        """Whether the model looks at one person's crop at a time and so needs boxes."""
        return isinstance(self.input.fit, Crop)

    def replace(self, **changes: Any) -> PoseSpec:
        """Return a copy with the given fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        fit = self.input.fit
        data: dict[str, Any] = {
            "version": SPEC_VERSION,
            "input": {
                **{f.name: getattr(self.input, f.name) for f in dataclasses.fields(self.input) if f.name != "fit"},
                "mean": list(self.input.mean),
                "std": list(self.input.std),
                "fit": {"kind": fit.kind, **dataclasses.asdict(fit)},
            },
            "decoder": {
                "type": self.decoder.type,
                "outputs": dict(self.decoder.outputs),
                "options": dict(self.decoder.options),
            },
            "keypoints": None if self.keypoints is None else self.keypoints.to_dict(),
        }
        if self.calibration:
            data["calibration"] = {name: list(r) for name, r in self.calibration.items()}
        return data

    def to_json(self, indent: int | None = None) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PoseSpec:
        """Build from plain data; unknown fields are refused so that a misspelt one is not silently ignored.

        Raises
        ------
        SpecError
            If a field is missing, unknown or of the wrong form.
        """
        try:
            return _spec_from_dict(data)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SpecError(f"The spec is not well formed: {_explain(error)}.") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> PoseSpec:
        """Build from JSON text.

        Raises
        ------
        SpecError
            If the text is not JSON or not a spec.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"The spec is not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise SpecError("The spec must be a JSON object.")
        return cls.from_dict(data)


def _explain(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def _known(owner: str, data: Mapping[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(data) - allowed)
    if unknown:
        raise SpecError(
            f"{owner}: unknown field {', '.join(map(repr, unknown))}.",
            hint=f"Known fields: {', '.join(sorted(allowed))}.",
        )


def _triple(values: Any) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _spec_from_dict(data: Mapping[str, Any]) -> PoseSpec:
    _known("spec", data, {"version", "input", "decoder", "keypoints", "calibration"})
    version = data.get("version", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise SpecError(
            f"The spec has version {version!r}; this edgepose reads version {SPEC_VERSION}.",
            hint="Upgrade with: pip install --upgrade edgepose",
        )
    given = dict(data["input"])
    _known("input", given, {f.name for f in dataclasses.fields(InputSpec)})
    fit_data = dict(given.pop("fit"))
    kind = fit_data.pop("kind")
    if kind not in _FITS:
        raise SpecError(f"fit: 'kind' is {kind!r}, must be one of {', '.join(map(repr, _FITS))}.")
    fit_type = _FITS[kind]
    _known(f"fit {kind}", fit_data, {f.name for f in dataclasses.fields(fit_type)})
    for name in ("mean", "std"):
        if name in given:
            given[name] = _triple(given[name])
    for name in ("height", "width"):
        size = given[name]
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise SpecError(f"input: '{name}' is {size!r}, must be a whole number or null.")
    decoder = data["decoder"]
    _known("decoder", decoder, {"type", "outputs", "options"})
    keypoints = data["keypoints"]
    return PoseSpec(
        input=InputSpec(fit=fit_type(**fit_data), **given),
        decoder=DecoderSpec(str(decoder["type"]), dict(decoder["outputs"]), dict(decoder.get("options", {}))),
        keypoints=None if keypoints is None else KeypointSet.from_dict(keypoints),
        calibration={str(k): (float(v[0]), float(v[1])) for k, v in dict(data.get("calibration", {})).items()},
    )
