"""The chain of one network, walked step by step: see :mod:`.blame`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..artifact import StageSource
from ..decoding import Decoder
from ..errors import DecodeError, SpecError
from ..estimator import Stage
from ..fitting import Fitted, fit, to_tensor
from ..fitting.base import apply
from ..spec import InputSpec, PoseSpec
from .blame_causes import OTHER_ENGINE, TOLERANCES, fit_causes, graph_has_input_side, option_causes, statistics_cause
from .blame_network import blame_network
from .parity import TensorError, compare, tensor_error
from .parity_people import Outputs, Readout, look

Array = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Positions that differ by less, in pixels, are the same.
SAME_PLACE = 1e-3
#: Crops of random maps that are given to both decoders: their rules differ at borders, where few joints lie.
PROBES = 8


class Found(NamedTuple):
    """What was found out about a step; the fields are those of :class:`.blame.Step` after ``stage``."""

    name: str
    status: Literal["same", "differs", "shared", "not compared"]
    detail: str = ""
    cause: str = ""
    pixels: float | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """The same network of two models: loaded, and where it came from."""

    name: str
    reference: Stage
    model: Stage
    reference_source: StageSource
    model_source: StageSource

    @property
    def tolerance(self) -> float:
        """Largest relative difference of tensors that the models' precisions explain."""
        sources = (self.reference_source, self.model_source)
        largest = max(TOLERANCES.get(s.precision, TOLERANCES["fp32"]) for s in sources)
        # Another engine sums up in another order.
        return largest if sources[0].target == sources[1].target else max(largest, OTHER_ENGINE)


def walk(pair: Pair, image: Image, boxes: Array | None) -> Iterator[Found]:
    """Compare each step of the two chains on one picture."""
    chain = _Chain(pair, image, boxes)
    yield chain.crop()
    yield from chain.input_side()
    yield chain.network()
    yield chain.decoder()
    yield chain.flip()
    yield chain.mapping_back()


class _Chain:
    def __init__(self, pair: Pair, image: Image, boxes: Array | None) -> None:
        self._pair, self._image, self._boxes = pair, image, boxes
        self._true, self._ours = pair.reference, pair.model
        self._fitted = self._fit(self._true.spec)
        self._other_fit = self._fit(self._ours.spec)
        self._outputs = self._true.infer(self._fitted.pixels)
        self._same_size = self._fitted.pixels.shape == self._other_fit.pixels.shape

    def _fit(self, spec: PoseSpec) -> Fitted:
        return fit(self._image, spec.input, self._boxes if spec.is_top_down else None)

    # ---- the input side ----

    def crop(self) -> Found:
        """Pixels of the network input."""
        causes = fit_causes(self._true.spec.input, self._ours.spec.input)
        if not self._same_size:
            sizes = [f"{f.pixels.shape[0]} of {f.size[0]} x {f.size[1]}" for f in (self._fitted, self._other_fit)]
            return self._differs("crop", f"inputs are {sizes[1]}, in the reference {sizes[0]}", causes, self._own_fit)
        error = tensor_error(self._fitted.pixels, self._other_fit.pixels)
        if not error.largest:
            return Found("crop", "same", f"on this picture, though {causes}" if causes else "")
        size = f"pixels differ by {error.mean:.2g} grey levels in the mean, {error.largest:.3g} at most"
        return self._differs("crop", size, causes, self._own_fit)

    def input_side(self) -> Iterator[Found]:
        """Colour order and normalisation of the same pixels."""
        true, ours = self._true.spec.input, self._ours.spec.input
        apart = self._tensor_error(true, ours)
        if apart <= 1e-6:
            yield Found("colour", "same")
            yield Found("normalisation", "same")
            return
        if self._input_side_is_inside:
            inside = "one of the graphs does it inside; compared as a part of the network"
            yield Found("colour", "not compared", inside)
            yield Found("normalisation", "not compared", inside)
            return
        yield self._input_field(
            "colour",
            {"color": true.color},
            f"the channels are swapped: the model is fed {ours.color}, the reference {true.color}",
        )
        yield self._input_field("normalisation", {"mean": true.mean, "std": true.std}, statistics_cause(true, ours))

    def _input_field(self, name: str, fields: Mapping[str, Any], cause: str) -> Found:
        ours = self._ours.spec.input
        mended = dataclasses.replace(ours, **fields)
        apart = self._tensor_error(mended, ours)
        if apart <= 1e-6:
            return Found(name, "same")
        spec = self._ours.spec.replace(input=mended)
        return self._differs(name, f"values differ by up to {apart:.3g}", cause, lambda: self._look_with(spec))

    def _tensor_error(self, first: InputSpec, second: InputSpec) -> float:
        """Largest difference of what the network is fed, layout and element type aside."""
        tensors = [to_tensor(self._fitted.pixels, _planes(s)) for s in (first, second)]
        return tensor_error(*tensors).largest

    @functools.cached_property
    def _input_side_is_inside(self) -> bool:
        """Whether one of the graphs takes raw pixels and makes of them what the other one is fed."""
        true, ours = self._true.spec.input, self._ours.spec.input
        if true.is_raw == ours.is_raw:
            return False
        sources = (self._pair.reference_source, self._pair.model_source)
        if any(graph_has_input_side(s) for s in sources):
            return True
        mine = self._ours.infer(self._fitted.pixels)
        errors = _common(self._outputs, mine)
        return bool(errors) and all(e.relative <= self._pair.tolerance for e in errors.values())

    # ---- the network ----

    def network(self) -> Found:
        """Raw outputs for the same input."""
        ours = self._on_the_reference_input()
        if ours is None:
            return Found("network", "not compared", "the two take inputs of different sizes")
        mine = ours.infer(self._fitted.pixels)
        errors = _common(self._outputs, mine)
        if not errors:
            return self._decoded_network(ours, mine)
        role, worst = max(errors.items(), key=lambda item: item[1].relative)
        size = f"'{role}' differs by up to {worst.largest:.3g} where values go up to {worst.scale:.3g}"
        if worst.relative <= self._pair.tolerance:
            within = f"{size}, within what {self._pair.model_source.precision} explains ({self._pair.tolerance:g})"
            return Found("network", "same", within if worst.largest else "")
        cause = blame_network(
            (self._pair.reference_source, self._pair.model_source),
            tuple({s.spec.input.name: to_tensor(self._fitted.pixels[:1], s.spec.input)} for s in (self._true, ours)),
            self._pair.tolerance,
        )
        return Found("network", "differs", size, cause, self._effect(self._readout(self._outputs), self._readout(mine)))

    def _on_the_reference_input(self) -> Stage | None:
        """The model, fed as the reference is, except where its own graph does that."""
        if not self._same_size:
            return None
        true, ours = self._true.spec.input, self._ours.spec.input
        if self._tensor_error(true, ours) <= 1e-6 or self._input_side_is_inside:
            return self._ours
        entry = dataclasses.replace(ours, color=true.color, mean=true.mean, std=true.std)
        return dataclasses.replace(self._ours, spec=self._ours.spec.replace(input=entry))

    def _decoded_network(self, ours: Stage, mine: Outputs) -> Found:
        """Network and decoder in one, where one of the graphs has the decoder inside."""
        readout = Readout(ours.spec, ours.decoder, mine, self._fitted.size, self._fitted.to_image)
        pixels = self._effect(self._readout(self._outputs), readout)
        if pixels is None:
            return Found("network", "not compared", "the outputs are of different kinds, and no joint can be compared")
        detail = f"compared after decoding, which one of the graphs does inside: joints differ by up to {pixels:.3g} px"
        limit = {"fp16": 0.5, "int8": 5.0}.get(self._pair.model_source.precision, 0.05)
        if pixels <= limit:
            return Found("network", "same", detail)
        return Found("network", "differs", detail, "the network, or the decoder inside the graph", pixels)

    # ---- the output side ----

    def decoder(self) -> Found:
        """Positions and scores from the same outputs."""
        ours = self._ours.decoder
        if set(self._true.spec.decoder.outputs) != set(self._ours.spec.decoder.outputs):
            return Found("decoder", "not compared", "the two read different outputs; compared as a part of the network")
        real = self._distance(ours, self._outputs)
        probed = max(
            (self._distance(ours, o) for o in self._probes()), default=Distance(0.0, 0.0), key=lambda d: d.place
        )
        if max(real.place, probed.place) <= SAME_PLACE and max(real.score, probed.score) <= 1e-5:
            return Found("decoder", "same")

        def distance(decoder: Decoder) -> float:
            return max(max(self._distance(decoder, o)) for o in (self._outputs, *self._probes()))

        cause = option_causes(self._true, self._ours, distance)
        detail = f"from the same outputs, joints lie up to {real.place:.3g} px of the input apart"
        if real.place <= SAME_PLACE < probed.place:
            detail += f" on this picture, up to {probed.place:.3g} px where random maps have their peaks"
        if max(real.score, probed.score) > 1e-5:
            detail += f"; scores differ by up to {max(real.score, probed.score):.3g}"
        mended = Readout(self._true.spec, self._true.decoder, self._outputs, self._fitted.size, self._fitted.to_image)
        return Found("decoder", "differs", detail, cause, self._effect(mended, self._readout(self._outputs, ours)))

    def flip(self) -> Found:
        """What the outputs and those of the mirrored input are merged to."""
        mirrored = self._true.infer(self._fitted.pixels[:, :, ::-1])

        def merged(decoder: Decoder) -> Outputs:
            return decoder.merge_flip(self._outputs, mirrored)

        try:
            true, mine = merged(self._true.decoder), merged(self._ours.decoder)
        except DecodeError as error:
            return Found("flip", "not compared", error.message.rstrip("."))
        errors = _common(true, mine)
        if not errors:
            return Found("flip", "not compared", "the two read different outputs")
        role, worst = max(errors.items(), key=lambda item: item[1].relative)
        if worst.relative <= 1e-6:
            return Found("flip", "same")

        def distance(decoder: Decoder) -> float:
            return max(e.relative for e in _common(true, merged(decoder)).values())

        pairs = [s.spec.keypoints.flip_pairs if s.spec.keypoints else () for s in (self._true, self._ours)]
        cause = (
            f"the flip pairs differ: {list(pairs[1])} in the model, {list(pairs[0])} in the reference"
            if pairs[0] != pairs[1]
            else option_causes(self._true, self._ours, distance)
        )
        size = f"with the flip test, '{role}' differs by up to {worst.largest:.3g}, values up to {worst.scale:.3g}"
        return Found("flip", "differs", size, cause, self._effect(self._readout(true), self._readout(mine)))

    def mapping_back(self) -> Found:
        """Where the corners of the input lie in the picture."""
        if not self._same_size or not np.array_equal(self._fitted.pixels, self._other_fit.pixels):
            return Found("mapping back", "not compared", "it belongs to the crop, which differs")
        height, width = self._fitted.size
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
        maps = zip(self._fitted.to_image, self._other_fit.to_image, strict=True)
        apart = max(float(np.abs(apply(a, corners) - apply(b, corners)).max()) for a, b in maps)
        if apart <= SAME_PLACE:
            return Found("mapping back", "same")
        detail = f"corners of the input lie up to {apart:.3g} px of the picture apart"
        return Found("mapping back", "differs", detail, fit_causes(self._true.spec.input, self._ours.spec.input), apart)

    # ---- what a step does to the keypoints ----

    def _differs(self, name: str, detail: str, cause: str, mended: Callable[[], Readout]) -> Found:
        try:
            pixels = self._effect(mended(), look(self._ours, self._image, self._boxes))
        except (DecodeError, SpecError):
            pixels = None  # the reference's step and the model's do not fit together at all
        return Found(name, "differs", detail, cause or "the cause is not in the specs", pixels)

    def _own_fit(self) -> Readout:
        """The model's own network and decoder on the reference's crop."""
        entry, true = self._ours.spec.input, self._true.spec.input
        mended = dataclasses.replace(entry, height=true.height, width=true.width, fit=true.fit)
        return self._look_with(self._ours.spec.replace(input=mended))

    def _look_with(self, spec: PoseSpec) -> Readout:
        if (spec.input.height, spec.input.width) != (self._ours.spec.input.height, self._ours.spec.input.width):
            raise SpecError("The network takes inputs of another size.")
        return look(Stage(spec, self._ours.session, self._ours.decoder), self._image, self._boxes)

    def _readout(self, outputs: Outputs, decoder: Decoder | None = None) -> Readout:
        return Readout(
            self._true.spec, decoder or self._true.decoder, outputs, self._fitted.size, self._fitted.to_image
        )

    def _effect(self, true: Readout, found: Readout) -> float | None:
        shifts = compare(true, found, "").shifts
        return float(shifts.max()) if len(shifts) else None

    def _distance(self, decoder: Decoder, outputs: Outputs) -> Distance:
        """How far joints and boxes of two decoders lie apart, and their scores; infinite if they find other people."""
        true = self._true.decoder.decode(outputs, self._fitted.size)
        mine = decoder.decode(outputs, self._fitted.size)
        if [d.keypoints.shape for d in true] != [d.keypoints.shape for d in mine]:
            return Distance(np.inf, np.inf)
        place = score = 0.0
        for a, b in zip(true, mine, strict=True):
            place = max(place, float(np.abs(a.keypoints[..., :2] - b.keypoints[..., :2]).max(initial=0)))
            score = max(score, float(np.abs(a.keypoints[..., 2] - b.keypoints[..., 2]).max(initial=0)))
            if a.boxes is not None and b.boxes is not None:
                place = max(place, float(np.abs(a.boxes - b.boxes).max(initial=0)))
        return Distance(place, score)

    def _probes(self) -> Iterator[Outputs]:
        """Random outputs for decoders that find one person each: peaks everywhere, and maps without any."""
        if not self._true.spec.is_top_down:
            return
        rng = np.random.default_rng(0)
        noise = {role: rng.standard_normal((PROBES, *a.shape[1:]), np.float32) for role, a in self._outputs.items()}
        yield noise
        yield {role: -1 - np.abs(a) for role, a in noise.items()}


class Distance(NamedTuple):
    """Largest distance of joints in pixels of the input, and of their scores."""

    place: float
    score: float


def _planes(spec: InputSpec) -> InputSpec:
    return dataclasses.replace(spec, layout="NCHW", dtype="float32")


def _common(reference: Outputs, model: Outputs) -> dict[str, TensorError]:
    """Errors of the outputs that both have; none if one of them has others, or in other shapes."""
    if {r: a.shape for r, a in reference.items()} != {r: a.shape for r, a in model.items()}:
        return {}
    return {role: tensor_error(array, model[role]) for role, array in reference.items()}
