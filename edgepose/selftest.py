"""Golden self-test: an engine must give on this device what the reference gave when the bundle was made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .bundle import Bundle
from .errors import BundleError, DeviceError
from .estimator import Stage
from .evaluation.parity import Comparison, compare
from .evaluation.parity_people import look_at_golden, recorded
from .golden import GOLDEN, read_golden

#: Pixels of the picture that a joint may be off, by precision.  A sound engine stays within a tenth of this on trained
#: networks; one with swapped channels, another layout or broken kernels moves most joints by tens of pixels.
TOLERANCE = {"fp32": 1.0, "fp16": 3.0, "int8": 10.0}
#: Part of the joints that may be off by more: one map with two nearly equal peaks is no broken engine.
OUTLIERS = 0.05
#: Largest error of an output, as a part of its largest value, for frames in which no joint can be compared.
TENSOR_TOLERANCE = {"fp32": 1e-2, "fp16": 5e-2, "int8": 0.5}


def self_test(stages: Sequence[Stage], bundle: Bundle) -> None:
    """Run the golden frames of a bundle and compare with the outputs stored beside them.

    A joint may be off by :data:`TOLERANCE`, or by twice what the conversion itself measured (``measured["parity"]`` of
    the manifest, 99th percentile) where that is more.  At most :data:`OUTLIERS` of the joints may be off by more; a
    lost person or joint counts as off.  Which joints count says :mod:`.evaluation.parity_people`.

    Parameters
    ----------
    stages
        The bundle's own stages as they were loaded, from the first on; not a detector from elsewhere.
    bundle
        The bundle.

    Raises
    ------
    DeviceError
        If an engine gives something else here; it must not be used then.
    BundleError
        If the bundle has no golden frames, or they do not belong to it.
    """
    name = bundle.folder.name
    if GOLDEN not in bundle.manifest.files:
        raise BundleError(
            f"The bundle '{bundle.folder}' has no golden frames, so it cannot be tested.",
            hint="Convert the checkpoint again, or load it with self_test=False.",
        )
    frames = [f for f in read_golden(bundle.path(GOLDEN)) if f.stage < len(stages)]
    measured = _measured(bundle)
    for index in range(len(stages)):
        stage, precision = stages[index], bundle.manifest.stages[index].precision
        results = [
            compare(recorded(stage.spec, stage.decoder, f), look_at_golden(stage, f), f"golden frame {i}")
            for i, f in enumerate(frames)
            if f.stage == index
        ]
        tolerance = max(TOLERANCE.get(precision, TOLERANCE["fp32"]), 2 * measured)
        tensor_tolerance = TENSOR_TOLERANCE.get(precision, TENSOR_TOLERANCE["fp32"])
        wrong = problem(results, tolerance, tensor_tolerance, len(stage.spec.keypoints or ()) or 1)
        if wrong:
            raise DeviceError(
                f"The self-test of '{name}' failed on {stage.session.placement}: {wrong}.",
                hint="Look closer with: edgepose verify; convert the checkpoint again on or for this device.",
            )


def problem(results: Sequence[Comparison], tolerance: float, tensor_tolerance: float, joints: int) -> str:
    """What is wrong with the answers to the golden frames of one stage; empty if nothing is.

    Parameters
    ----------
    results
        One for each frame.
    tolerance
        Pixels of the picture that a joint may be off.
    tensor_tolerance
        Largest error of an output, as a part of its largest value, where no joint can be compared.
    joints
        How many joints a person has.
    """
    broken = {role for r in results for role, error in r.tensors.items() if not math.isfinite(error.largest)}
    if broken:
        return f"the outputs {', '.join(sorted(broken))} are not finite"
    people = sum(r.missing + r.extra for r in results)
    lost = sum(r.lost for r in results) + joints * people
    moved = sum(int((r.shifts > tolerance).sum()) for r in results)
    compared = sum(len(r.shifts) for r in results) + lost
    if compared and moved + lost > OUTLIERS * compared:
        farthest = max((float(r.shifts.max(initial=0)) for r in results), default=0.0)
        return (
            f"{moved} of {compared} joints are off by more than {tolerance:g} px (up to {farthest:.3g} px),"
            f" {people} people and {lost - joints * people} joints are lost or too many"
        )
    if not compared:
        for result in results:
            for role, error in result.tensors.items():
                if error.relative > tensor_tolerance:
                    return f"the output '{role}' is off by {error.largest:.3g}, its values go up to {error.scale:.3g}"
    return ""


def _measured(bundle: Bundle) -> float:
    """The 99th percentile in pixels that the conversion measured; 0 if it did not."""
    parity = bundle.manifest.measured.get("parity")
    pixels = parity.get("pixels") if isinstance(parity, dict) else None
    value = pixels.get("p99") if isinstance(pixels, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0.0
    return max(float(value), 0.0)
