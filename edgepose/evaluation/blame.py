"""Which step of the chain makes two models differ.

The chain is walked on a picture: decoding the picture, fitting (crop), colour, normalisation, network, decoder, flip
test, mapping back.  Every step of both models is given the same input, that of the reference, so that a step differs
only by its own doing; what it does to the keypoints is found by giving the model that one step of the reference.
Where the networks differ, :mod:`.blame_network` finds the first node that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..artifact import Artifact
from ..devices import AUTO
from .blame_chain import Pair, walk
from .parity_run import opened, read_pictures, sample

#: Pictures that are walked until a step differs; a fault that needs more than these to show is in the decoder's rules.
PICTURES = 8

Status = Literal["same", "differs", "shared", "not compared"]


@dataclass(frozen=True)
class Step:
    """What was found out about a step.

    Attributes
    ----------
    stage
        ``detector`` or ``pose``; empty for the picture itself.
    name
        ``picture``, ``crop``, ``colour``, ``normalisation``, ``network``, ``decoder``, ``flip`` or ``mapping back``.
    status
        ``shared``: one code and one input for both.
    detail
        How large the difference is, in words, or why the step was not compared.
    cause
        Likely cause; empty if the step does not differ.
    pixels
        By how many pixels of the picture this step alone moves a joint at most; None if it does not differ, or no joint
        could be compared.
    """

    stage: str
    name: str
    status: Status
    detail: str = ""
    cause: str = ""
    pixels: float | None = None

    def to_text(self) -> str:
        """One line."""
        effect = "" if self.pixels is None else f", which moves joints by up to {self.pixels:.3g} px"
        place = f"{self.stage}, {self.name}" if self.stage else self.name
        return f"{place}: {self.status}" + (f" ({self.detail}{effect})" if self.detail else "")


@dataclass(frozen=True)
class Blame:
    """The steps of the chain in order.

    Attributes
    ----------
    steps
        What was found out about each.
    picture
        The picture on which they were walked.
    """

    steps: Sequence[Step]
    picture: str

    @property
    def first(self) -> Step | None:
        """The first step that differs; None if none does."""
        return next((s for s in self.steps if s.status == "differs"), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [vars(s) for s in self.steps]
        first = self.first
        return {"first": None if first is None else vars(first), "steps": rows, "picture": self.picture}

    def to_text(self) -> str:
        """The chain, a line a step, and the verdict."""
        lines = [f"  {step.to_text()}" for step in self.steps]
        first = self.first
        verdict = (
            "no step differs by more than its precision explains"
            if first is None
            else f"the first step that differs is {first.name}: {first.cause}"
        )
        return "\n".join([f"blame    on {self.picture}: {verdict}", *lines])


def find_blame(
    model: Artifact,
    reference: Artifact,
    *,
    images: Sequence[str | Path] = (),
    boxes: str | Path | None = None,
    device: str = AUTO,
    runtime: str | None = None,
) -> Blame:
    """Walk the chain of two models until a picture shows a step that differs.

    Parameters
    ----------
    model, reference
        The models.
    images, boxes, device, runtime
        As for :func:`.parity_run.verify`; of the pictures the first :data:`PICTURES` are used, without any the picture
        that edgepose brings along.

    Raises
    ------
    EdgePoseError
        If a model cannot be loaded or run, or the two cannot be compared.
    """
    pictures = read_pictures(images, boxes)[0][:PICTURES] or [sample()]
    with opened(model, reference, device, runtime) as both:
        true, ours = both.reference.stages, both.model.stages
        blame = Blame((), pictures[0].name)
        for picture in pictures:
            pairs = [Pair("pose", true[-1], ours[-1], reference.stages[-1], model.stages[-1])]
            if len(true) == len(ours) == 2:
                pairs.insert(0, Pair("detector", true[0], ours[0], reference.stages[0], model.stages[0]))
            steps = [Step("", "picture", "shared", "one reader for both models")]
            for pair in pairs:
                is_top_down = pair.reference.spec.is_top_down or pair.model.spec.is_top_down
                boxes_in_it = both.boxes(picture) if is_top_down else None
                if boxes_in_it is not None and not len(boxes_in_it):
                    steps.append(Step(pair.name, "crop", "not compared", "there is nobody in the picture"))
                    continue
                steps += [Step(pair.name, *found) for found in walk(pair, picture.image, boxes_in_it)]
            blame = Blame(steps, picture.name)
            if blame.first is not None:
                break
        return blame
