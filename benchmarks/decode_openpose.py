"""edgepose's PAF decoder beside a plain implementation of the original algorithm, on the same maps in one run.

    python benchmarks/decode_openpose.py [--repeat N]

The maps are those of a 368-pixel-high frame (46 x 82 cells) with 1 to 50 stick figures, drawn as the network's
training targets are (Gaussians of 7 pixels, fields one cell to each side of a limb), with the background noise of a
trained network (standard deviation 0.003).  The plain implementation does what Lightweight OpenPose does since its
limbs are scored with array operations: both maps are enlarged in full, candidates are suppressed pair by pair, each
limb copies its two channels of the field, people are searched from the first to the last.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgepose.decoding.openpose import OpenPoseDecoder
from edgepose.decoding.openpose_limbs import LIMBS
from edgepose.keypoints import OPENPOSE_18
from edgepose.spec import DecoderSpec, FixedHeight, InputSpec, PoseSpec

Array = npt.NDArray[Any]

STRIDE = 8
CELLS = (46, 82)
CROWDS = (1, 5, 10, 20, 50)
NOISE = 0.003

#: A standing figure; x and y of each keypoint in units of the torso's length, the neck at (0, 0).
FIGURE = np.array(
    [
        (0, -0.42), (0, 0), (-0.38, 0.03), (-0.5, 0.55), (-0.53, 1.02), (0.38, 0.03), (0.5, 0.55), (0.53, 1.02),
        (-0.23, 1.0), (-0.25, 1.75), (-0.26, 2.45), (0.23, 1.0), (0.25, 1.75), (0.26, 2.45),
        (-0.1, -0.52), (0.1, -0.52), (-0.22, -0.46), (0.22, -0.46),
    ]
)  # fmt: skip


def crowd(people: int, seed: int, cells: tuple[int, int] = CELLS) -> Array:
    """Keypoints [people, 18, 2] in pixels of the network input, anywhere in the frame."""
    random = np.random.default_rng(seed)
    height, width = cells[0] * STRIDE, cells[1] * STRIDE
    torso = random.uniform(30, 70, people)
    middle = np.stack([random.uniform(0, width, people), random.uniform(0.2, 0.6, people) * height], axis=1)
    bent = FIGURE + random.normal(0, 0.06, (people, *FIGURE.shape))
    return middle[:, None] + bent * torso[:, None, None]


def render(keypoints: Array, cells: tuple[int, int] = CELLS, visible: Array | None = None) -> tuple[Array, Array]:
    """Training targets of a frame: heatmaps [19, h, w] and part affinity fields [38, h, w].

    Parameters
    ----------
    keypoints
        [P, 18, 2] in pixels of the network input; what lies outside of it is not drawn.
    cells
        (h, w).
    visible
        bool [P, 18]: which keypoints are drawn; None for all.
    """
    rows, columns = np.mgrid[: cells[0], : cells[1]].astype(np.float64)
    heatmaps, pafs = np.zeros((19, *cells)), np.zeros((38, *cells))
    inside = np.all((keypoints >= 0) & (keypoints < np.array(cells[::-1]) * STRIDE), axis=2)
    drawn = inside if visible is None else np.logical_and(inside, visible)
    middle = (STRIDE - 1) / 2
    for person, seen in zip(keypoints, drawn, strict=True):
        for kind in np.flatnonzero(seen):
            squared = (columns * STRIDE + middle - person[kind, 0]) ** 2
            squared = squared + (rows * STRIDE + middle - person[kind, 1]) ** 2
            blob = np.exp(-squared / (2 * 7.0**2))
            heatmaps[kind] = np.minimum(heatmaps[kind] + np.where(blob > 0.01, blob, 0), 1)
        for a, b, channel in LIMBS:
            vector = (person[b] - person[a]) / STRIDE
            length = float(np.hypot(*vector))
            if not (seen[a] and seen[b]) or length < 1e-6:
                continue
            unit = vector / length
            x, y = columns - person[a, 0] / STRIDE, rows - person[a, 1] / STRIDE
            along, across = x * unit[0] + y * unit[1], x * unit[1] - y * unit[0]
            on_limb = (np.abs(across) <= 1) & (along >= -1) & (along <= length + 1)
            pafs[channel][on_limb], pafs[channel + 1][on_limb] = unit
    heatmaps[18] = 1 - heatmaps[:18].max(axis=0)
    return heatmaps.astype(np.float32), pafs.astype(np.float32)


def frame(people: int, seed: int = 0) -> tuple[Array, Array]:
    """Maps of a crowd, with noise."""
    heatmaps, pafs = render(crowd(people, seed))
    random = np.random.default_rng(seed + 1)
    heatmaps += random.normal(0, NOISE, heatmaps.shape).astype(np.float32)
    pafs += random.normal(0, NOISE, pafs.shape).astype(np.float32)
    return heatmaps, pafs


def plain(heatmaps: Array, pafs: Array, upsample: int = 4) -> tuple[Array, Array]:
    """The original algorithm, step by step.

    Returns
    -------
    keypoints
        float [P, 4]: x, y in pixels of the enlarged maps, score, id.
    people
        float [N, 20]: 18 ids or -1, score, number of keypoints.
    """
    size = heatmaps.shape[2] * upsample, heatmaps.shape[1] * upsample
    large = cv2.resize(np.ascontiguousarray(heatmaps.transpose(1, 2, 0)), size, interpolation=cv2.INTER_CUBIC)
    fields = cv2.resize(np.ascontiguousarray(pafs.transpose(1, 2, 0)), size, interpolation=cv2.INTER_CUBIC)
    by_kind: list[Array] = []
    total = 0
    for kind in range(18):
        by_kind.append(_plain_peaks(large[:, :, kind], total))
        total += len(by_kind[-1])
    return np.concatenate(by_kind), _plain_people(by_kind, fields)


def _plain_peaks(heatmap: Array, first_id: int) -> Array:
    padded = np.pad(np.where(heatmap < 0.1, 0, heatmap), 2)
    centre = padded[1:-1, 1:-1]
    peak = (centre > padded[1:-1, 2:]) & (centre > padded[1:-1, :-2])
    peak &= (centre > padded[2:, 1:-1]) & (centre > padded[:-2, 1:-1])
    y, x = np.nonzero(peak[1:-1, 1:-1])
    spots = sorted(zip(x.tolist(), y.tolist(), strict=True), key=lambda spot: spot[0])
    dead = [False] * len(spots)
    kept: list[tuple[float, ...]] = []
    for i, (xi, yi) in enumerate(spots):
        if dead[i]:
            continue
        for j in range(i + 1, len(spots)):
            if ((xi - spots[j][0]) ** 2 + (yi - spots[j][1]) ** 2) ** 0.5 < 6:
                dead[j] = True
        kept.append((xi, yi, heatmap[yi, xi], first_id + len(kept)))
    return np.array(kept, np.float64).reshape(-1, 4)


def _plain_people(by_kind: list[Array], fields: Array) -> Array:
    every = np.concatenate(by_kind)
    people: list[Array] = []
    for limb, (a, b, channel) in enumerate(LIMBS):
        if not len(by_kind[a]) or not len(by_kind[b]):
            continue
        links = _plain_limbs(by_kind[a], by_kind[b], fields[:, :, channel : channel + 2])
        for i, j, score in links:
            if limb in (17, 18):
                for person in people:
                    if person[a] == i and person[b] == -1:
                        person[b] = j
                    elif person[b] == j and person[a] == -1:
                        person[a] = i
                continue
            holders = [person for person in people if person[a] == i]
            for person in holders:
                person[b] = j
                person[18] += every[j, 2] + score
                person[19] += 1
            if not holders:
                person = np.full(20, -1.0)
                person[[a, b]] = i, j
                person[18:] = every[i, 2] + every[j, 2] + score, 2
                people.append(person)
    return np.array([p for p in people if p[19] >= 3 and p[18] / p[19] >= 0.2]).reshape(-1, 20)


def _plain_limbs(ends_a: Array, ends_b: Array, field: Array) -> list[tuple[int, int, float]]:
    a, b = ends_a[:, :2].astype(np.float32), ends_b[:, :2].astype(np.float32)
    vector = (b[:, None] - a[None]).reshape(-1, 1, 2)
    steps = np.float32(1 / 9) * vector * np.arange(10, dtype=np.float32)[None, :, None]
    spots = (steps + np.tile(a, (len(b), 1))[:, None]).round().astype(np.int32)
    # The original copies the two channels so that reading them is fast.
    values = np.ascontiguousarray(field)[spots[..., 1], spots[..., 0]]
    unit = vector / (np.linalg.norm(vector, axis=-1, keepdims=True) + np.float32(1e-6))
    dots = (values * unit).sum(axis=-1)
    valid = dots > 0.05
    count = valid.sum(axis=1)
    affinity = (dots * valid).sum(axis=1) / (count + 1e-6)
    good = np.flatnonzero((affinity > 0) & (count > 8))
    used_a: set[int] = set()
    used_b: set[int] = set()
    links = []
    for place in good[np.argsort(affinity[good], kind="stable")[::-1]]:
        j, i = divmod(int(place), len(a))
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            links.append((int(ends_a[i, 3]), int(ends_b[j, 3]), float(affinity[place])))
    return links


def decoder() -> OpenPoseDecoder:
    """edgepose's decoder with its defaults."""
    network = InputSpec("data", None, None, FixedHeight(368), color="BGR", mean=(128,) * 3, std=(256,) * 3)
    outputs = {"heatmaps": "heatmaps", "pafs": "pafs"}
    return OpenPoseDecoder(PoseSpec(network, DecoderSpec("openpose", outputs), OPENPOSE_18))


def rows(repeat: int = 30) -> list[dict[str, float]]:
    """One row a crowd: ``people`` drawn, ``found``, ``plain_ms`` and ``edgepose_ms`` (best of the runs), ``ratio``.

    Raises
    ------
    AssertionError
        If the two do not find the same people.
    """
    ours = decoder()
    table = []
    for people in CROWDS:
        heatmaps, pafs = frame(people)
        outputs = {"heatmaps": heatmaps[None], "pafs": pafs[None]}
        size = heatmaps.shape[1] * STRIDE, heatmaps.shape[2] * STRIDE
        found = ours.decode(outputs, size)[0].scores
        expected = plain(heatmaps, pafs)[1]
        np.testing.assert_allclose(found, expected[:, 18] * (expected[:, 19] - 1), rtol=1e-5)
        slow, fast = _side_by_side(partial(plain, heatmaps, pafs), partial(ours.decode, outputs, size), repeat)
        table.append(
            {"people": people, "found": len(found), "plain_ms": slow, "edgepose_ms": fast, "ratio": slow / fast}
        )
    return table


def _side_by_side(first: Callable[[], object], second: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Best time of each in milliseconds; they take turns, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for work, spent in zip((first, second), times, strict=True):
            start = time.perf_counter()
            work()
            spent.append((time.perf_counter() - start) * 1e3)
    return min(times[0]), min(times[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="PAF decoding: edgepose beside the original algorithm.")
    parser.add_argument("--repeat", type=int, default=30, help="timed runs of each (default: 30)")
    print(f"{'people':>6} {'found':>6} {'plain ms':>9} {'edgepose ms':>12} {'ratio':>6}")
    for row in rows(max(1, parser.parse_args().repeat)):
        print(
            f"{row['people']:6.0f} {row['found']:6.0f} {row['plain_ms']:9.2f} {row['edgepose_ms']:12.2f}"
            f" {row['ratio']:6.1f}"
        )


if __name__ == "__main__":
    main()
