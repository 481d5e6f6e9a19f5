"""A trained model keeps its accuracy on every target, in FP32 and in FP16."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from matrix_cells import PRECISIONS, RUNTIMES, missing
from matrix_networks import ultralight

from edgepose.conversion import convert
from edgepose.evaluation.coco import CocoAnnotations
from edgepose.evaluation.runner import evaluate
from edgepose.loading import load

pytestmark = pytest.mark.conformance

#: Of 100 AP.
BAR = 0.1


@pytest.fixture(scope="module")
def graph(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "ultralight.onnx"
    ultralight(reference).save(path)
    return path


@pytest.fixture(scope="module")
def accuracy(reference: Path) -> Callable[[Path, str, bool], float]:
    if importlib.util.find_spec("pycocotools") is None:
        pytest.skip('COCO accuracy needs pycocotools: pip install "edgepose[eval]"')
    folder = reference / "data/coco_keypoints"
    truth = CocoAnnotations(folder / "person_keypoints_val2017.json")

    def measured(model: Path, runtime: str, flip: bool) -> float:
        with load(model, device="cpu", runtime=runtime, detector=None, flip=flip) as pose:
            return 100 * evaluate(pose, truth, folder / "val2017", boxes="gt").statistics["AP"]

    return measured


@pytest.fixture(scope="module", params=[False, True], ids=["one look", "flip test"])
def expected(request: pytest.FixtureRequest, graph: Path, accuracy: Callable[..., float]) -> tuple[bool, float]:
    """Whether the mirrored input is looked at too, and the FP32 graph's accuracy in ONNX Runtime."""
    found = accuracy(graph, "onnxruntime", request.param)
    assert found > 46
    return request.param, found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("target", "runtime"), [(t, r) for t, runtimes in RUNTIMES.items() for r in runtimes])
def test_accuracy_stays(
    expected: tuple[bool, float], graph: Path, accuracy: Callable[..., float], tmp_path: Path, target: str,
    runtime: str, precision: str,
) -> None:  # fmt: skip
    absent = missing(target, runtime)
    if absent is not None:
        pytest.skip(absent)
    flip, reached = expected
    bundle = convert(graph, target, output=tmp_path / "bundle", precision=precision)
    assert accuracy(bundle.folder, runtime, flip) == pytest.approx(reached, abs=BAR)
