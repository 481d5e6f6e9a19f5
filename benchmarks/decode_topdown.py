"""Heatmap and SimCC decoders against loops over the joints, side by side in one run.

    python benchmarks/decode_topdown.py

The loops are what the training frameworks do after the network: for each person and joint an argmax, then the
refinement with OpenCV and scalars.  Both sides decode the same outputs and must agree before they are timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from edgepose.decoding import Decoder, build_decoder
from edgepose.decoding.simcc import blur_width
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

SIZE = (256, 192)
CELLS = (64, 48)
KERNEL = 11
SIGMA = (4.9, 5.66)
PEOPLE = (1, 5, 64)
ROUNDS = 9


def rows() -> list[tuple[str, float, float]]:
    """(name, milliseconds of edgepose, milliseconds of the loop), medians of interleaved rounds."""
    measured = []
    for people in PEOPLE:
        heatmaps, vectors = synthetic(people)
        for name, decoder, outputs, loop in (
            ("heatmap, quarter step", heatmap_decoder("quarter"), heatmaps, loop_quarter),
            ("heatmap, DARK", heatmap_decoder("dark"), heatmaps, loop_dark),
            ("heatmap, UDP-DARK", heatmap_decoder("udp-dark"), heatmaps, loop_udp),
            ("SimCC", simcc_decoder(dark=False), vectors, loop_simcc),
            ("SimCC, DARK", simcc_decoder(dark=True), vectors, loop_simcc_dark),
        ):
            ours, naive = measure(decoder, outputs, loop)
            measured.append((f"{name}, {people} {'person' if people == 1 else 'people'}", ours, naive))
    return measured


def measure(decoder: Decoder, outputs: dict[str, np.ndarray], loop: Callable[..., np.ndarray]) -> tuple[float, float]:
    """Milliseconds of both sides, after checking that they find the same."""
    found = np.concatenate([f.keypoints for f in decoder.decode(outputs, SIZE)])
    np.testing.assert_allclose(found, loop(*outputs.values()), atol=2e-2)
    ours, naive = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        decoder.decode(outputs, SIZE)
        middle = time.perf_counter()
        loop(*outputs.values())
        ours.append(middle - start)
        naive.append(time.perf_counter() - middle)
    return statistics.median(ours) * 1e3, statistics.median(naive) * 1e3


def synthetic(people: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs like a network's: Gaussians of various heights in noise."""
    rng = np.random.default_rng(people)
    x, y = rng.uniform(4, CELLS[1] - 5, (people, 17)), rng.uniform(4, CELLS[0] - 5, (people, 17))
    height = rng.uniform(0.2, 1, (people, 17, 1))

    def bell(centre: np.ndarray, length: int, sigma: float) -> np.ndarray:
        return np.asarray(np.exp(-np.square(np.arange(length) - centre[..., None]) / (2 * sigma**2)))

    maps = (bell(y, CELLS[0], 2) * height)[..., None] * bell(x, CELLS[1], 2)[..., None, :]
    maps += rng.random(maps.shape) * 0.01
    along_x = bell(x * 8, SIZE[1] * 2, SIGMA[0]) * height
    along_y = bell(y * 8, SIZE[0] * 2, SIGMA[1]) * height
    vectors = {"simcc_x": along_x.astype(np.float32), "simcc_y": along_y.astype(np.float32)}
    return {"heatmaps": maps.astype(np.float32)}, vectors


def heatmap_decoder(refine: str) -> Decoder:
    """Decoder of a 64 x 48 heatmap model."""
    return decoder_of("heatmap", ("heatmaps",), refine=refine)


def simcc_decoder(*, dark: bool) -> Decoder:
    """Decoder of a 256 x 192 SimCC model."""
    return decoder_of("simcc", ("simcc_x", "simcc_y"), dark=dark, sigma=SIGMA)


def decoder_of(kind: str, outputs: tuple[str, ...], **options: Any) -> Decoder:
    """A decoder by its spec."""
    spec = DecoderSpec(kind, {name: name for name in outputs}, options)
    return build_decoder(PoseSpec(InputSpec("input", *SIZE, Crop()), spec, COCO_17))


def each_map(maps: np.ndarray, refine: Callable[[np.ndarray, int, int], tuple[float, float]]) -> np.ndarray:
    """Argmax and refinement, joint by joint."""
    found = np.zeros((*maps.shape[:2], 3), np.float32)
    for n in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            joint = maps[n, k]
            y, x = divmod(int(np.argmax(joint)), CELLS[1])
            dx, dy = refine(joint, x, y)
            found[n, k] = (x + dx) * 4, (y + dy) * 4, joint[y, x]
    return found


def loop_quarter(maps: np.ndarray) -> np.ndarray:
    """A quarter of a cell towards the higher neighbour."""

    def refine(joint: np.ndarray, x: int, y: int) -> tuple[float, float]:
        if 1 < x < CELLS[1] - 1 and 1 < y < CELLS[0] - 1:
            return (
                0.25 * float(np.sign(joint[y, x + 1] - joint[y, x - 1])),
                0.25 * float(np.sign(joint[y + 1, x] - joint[y - 1, x])),
            )
        return 0.0, 0.0

    return each_map(maps, refine)


def blurred(joint: np.ndarray) -> np.ndarray:
    """Gaussian blur that keeps the maximum."""
    half = KERNEL // 2
    wide = cv2.GaussianBlur(np.pad(joint, half), (KERNEL, KERNEL), 0)[half:-half, half:-half]
    return np.asarray(wide * (joint.max() / wide.max()))


def newton(gradient: tuple[float, float], xx: float, xy: float, yy: float) -> tuple[float, float]:
    """Minus the inverse Hessian times the gradient."""
    step = -np.linalg.inv(np.array([[xx, xy], [xy, yy]], np.float64)) @ np.array(gradient, np.float64)
    return float(step[0]), float(step[1])


def loop_dark(maps: np.ndarray) -> np.ndarray:
    """DARK with differences over two cells."""

    def refine(joint: np.ndarray, x: int, y: int) -> tuple[float, float]:
        h = np.log(np.maximum(blurred(joint), 1e-10))
        return newton(
            (0.5 * (h[y, x + 1] - h[y, x - 1]), 0.5 * (h[y + 1, x] - h[y - 1, x])),
            0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2]),
            0.25 * (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1]),
            0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x]),
        )

    return each_map(maps, refine)


def loop_udp(maps: np.ndarray) -> np.ndarray:
    """DARK with differences over one cell."""

    def refine(joint: np.ndarray, x: int, y: int) -> tuple[float, float]:
        h = np.log(np.clip(blurred(joint), 1e-3, 50))
        c, e, w, s, n = h[y, x], h[y, x + 1], h[y, x - 1], h[y + 1, x], h[y - 1, x]
        mixed = 0.5 * (h[y + 1, x + 1] - e - s + 2 * c - w - n + h[y - 1, x - 1])
        return newton((0.5 * (e - w), 0.5 * (s - n)), e - 2 * c + w, mixed, s - 2 * c + n)

    return each_map(maps, refine)


def loop_simcc(along_x: np.ndarray, along_y: np.ndarray, dark: bool = False) -> np.ndarray:
    """Argmax of each axis, joint by joint."""
    found = np.zeros((*along_x.shape[:2], 3), np.float32)
    for n in range(along_x.shape[0]):
        for k in range(along_x.shape[1]):
            tops = []
            for axis, (vector, sigma) in enumerate(zip((along_x[n, k], along_y[n, k]), SIGMA, strict=True)):
                bin_ = int(np.argmax(vector))
                tops.append(vector[bin_])
                found[n, k, axis] = (bin_ + (dark_step(vector, bin_, sigma) if dark else 0)) / 2
            found[n, k, 2] = min(tops)
    return found


def loop_simcc_dark(along_x: np.ndarray, along_y: np.ndarray) -> np.ndarray:
    """The same with DARK along each axis."""
    return loop_simcc(along_x, along_y, dark=True)


def dark_step(vector: np.ndarray, bin_: int, sigma: float) -> float:
    """Newton step along one axis."""
    kernel = blur_width(sigma)
    half = kernel // 2
    smooth = cv2.GaussianBlur(np.pad(vector, half)[None], (kernel, 1), 0)[0, half:-half]
    h = np.pad(np.log(np.clip(smooth * (vector.max() / smooth.max()), 1e-3, 50)), 2, mode="edge")
    i = bin_ + 2
    return float(-0.5 * (h[i + 1] - h[i - 1]) / (1e-9 + 0.25 * (h[i + 2] - 2 * h[i] + h[i - 2])))


def main() -> None:
    """Measure and print a table."""
    print(f"{'decoder':<36}{'edgepose':>12}{'loop':>12}{'ratio':>9}")
    for name, ours, naive in rows():
        print(f"{name:<36}{ours:>9.3f} ms{naive:>9.3f} ms{naive / ours:>8.1f}x")


if __name__ == "__main__":
    main()
