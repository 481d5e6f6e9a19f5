"""The picture that edgepose brings along, as a network is fed it."""

from __future__ import annotations

import numpy as np

from edgepose.fitting import fit, to_tensor
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import shape_of
from edgepose.graph.running import Tensor
from edgepose.model import PoseModel
from edgepose.sample import sample_picture


def sample_feeds(model: PoseModel) -> dict[str, Tensor]:
    """Real input for a graph: one picture or one person's crop, as often as its batch is large."""
    image, boxes = sample_picture()
    spec = model.spec.input
    tensor = to_tensor(fit(image, spec, boxes if model.spec.is_top_down else None).pixels, spec)[:1]
    batch = (shape_of(real_inputs(model.graph.graph)[0]) or (None,))[0]
    return {spec.name: np.repeat(tensor, batch, axis=0) if isinstance(batch, int) else tensor}
