"""What each layer's quantisation costs by itself, in OKS of the final poses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .consistency import Reference, oks_loss, open_graph
from .emit import Quantised
from .placement import Layer

#: Share of the arithmetic that leaving any layer in float costs in addition, for the conversions around it.
_BORDER = 0.01
#: Inputs on which each layer is measured: there are many layers, and only their order is asked for.
_INPUTS = 32


@dataclass(frozen=True)
class Sensitivity:
    """A layer's cost.

    Attributes
    ----------
    stage
        Place of its network.
    layer
        The layer.
    loss
        OKS lost when this layer alone is quantised.
    share
        Its part of the multiplications of all networks.
    """

    stage: int
    layer: Layer
    loss: float
    share: float

    @property
    def urgency(self) -> float:
        """OKS that leaving it in float saves, for each unit of arithmetic that this costs."""
        return max(self.loss, 0.0) / (self.share + _BORDER)


def sensitivities(
    layers: Sequence[Sequence[Layer]],
    quantised: Callable[[int, Collection[str]], Quantised],
    references: Sequence[Reference],
    on_layer: Callable[[int, int], object] = lambda done, total: None,
) -> list[Sensitivity]:
    """Quantise each layer alone and compare the poses with the FP32 network's, in ONNX Runtime.

    Parameters
    ----------
    layers, references
        Quantisable layers and FP32 answers of each network.
    quantised
        Gives a network with some of its layers in float.
    on_layer
        Told how many layers are done, of how many.

    Returns
    -------
    list of Sensitivity
        The most urgent first; equal ones in the order of the graph.
    """
    total = sum(layer.macs for part in layers for layer in part) or 1
    count, found = sum(map(len, layers)), []
    for index, part in enumerate(layers):
        names = [layer.name for layer in part]
        for layer in part:
            alone = quantised(index, [n for n in names if n != layer.name])
            with TemporaryDirectory() as folder:
                stage = open_graph(alone.model, Path(folder))
                try:
                    loss = oks_loss(references[index].compare(stage, _INPUTS))
                finally:
                    stage.session.close()
            found.append(Sensitivity(index, layer, loss, layer.macs / total))
            on_layer(len(found), count)
    return sorted(found, key=lambda s: -s.urgency)
