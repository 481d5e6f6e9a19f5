from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_samples import (
    encoded,
    exif,
    gif,
    gradient,
    jpeg_with_exif,
    png,
    png_chunk,
    png_rows,
    textured,
    tiff,
    webp_with_exif,
)

from edgepose.errors import MediaError
from edgepose.media.pictures import MAX_PIXELS, read_picture
from edgepose.media.quiet import codecs_quiet

# Where EXIF puts the stored row r and column c of an H x W upright picture (EXIF 2.32, tag 274: the side at which the
# 0th row lies, then that of the 0th column).
STORED: dict[int, Callable[[int, int, int, int], tuple[int, int]]] = {
    1: lambda r, c, h, w: (r, c),
    2: lambda r, c, h, w: (r, w - 1 - c),
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),
    4: lambda r, c, h, w: (h - 1 - r, c),
    5: lambda r, c, h, w: (c, r),
    6: lambda r, c, h, w: (c, w - 1 - r),
    7: lambda r, c, h, w: (h - 1 - c, w - 1 - r),
    8: lambda r, c, h, w: (h - 1 - c, r),
}


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    h, w = upright.shape[:2]
    shape = (w, h) if orientation >= 5 else (h, w)
    result = np.zeros((*shape, *upright.shape[2:]), upright.dtype)
    for r in range(shape[0]):
        for c in range(shape[1]):
            result[r, c] = upright[STORED[orientation](r, c, h, w)]
    return result


def write(tmp_path: Path, data: bytes, name: str = "picture.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


LOSSLESS_WEBP = (cv2.IMWRITE_WEBP_QUALITY, 101)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_lossless_formats_are_read_exactly_whatever_the_name(tmp_path: Path, suffix: str) -> None:
    options = LOSSLESS_WEBP if suffix == ".webp" else ()
    path = write(tmp_path, encoded(suffix, gradient(), *options), "picture.jpg")
    image = read_picture(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, gradient())


def test_gif(tmp_path: Path) -> None:
    indexes = bytes([0, 1, 2, 3, 3, 2, 1, 0])
    path = write(tmp_path, gif(4, 2, indexes, bytes([0, 0, 0, 250, 10, 20, 30, 240, 40, 50, 60, 230])))
    if int(cv2.__version__.split(".")[0]) < 5 and not cv2.haveImageReader(str(path)):
        with pytest.raises(MediaError, match="GIF"):
            read_picture(path)
        return
    image = read_picture(path)
    assert image[0].tolist() == [[0, 0, 0], [20, 10, 250], [40, 240, 30], [230, 60, 50]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int, order: str) -> None:
    upright = gradient(16, 24)
    turned = stored(upright, orientation)
    h, w = turned.shape[:2]
    block = exif(orientation, order)
    whole = encoded(".png", turned)
    lossless = {
        "png": whole[:33] + png_chunk(b"eXIf", block) + whole[33:],
        "webp": webp_with_exif(encoded(".webp", turned, *LOSSLESS_WEBP), w, h, block),
        "tiff": tiff(turned[..., ::-1], photometric=2, tags={274: orientation}),
    }
    for name, data in lossless.items():
        np.testing.assert_array_equal(read_picture(write(tmp_path, data, name)), upright, err_msg=name)
    jpeg = jpeg_with_exif(encoded(".jpg", turned, cv2.IMWRITE_JPEG_QUALITY, 100), block)
    assert np.abs(read_picture(write(tmp_path, jpeg)).astype(int) - upright).max() <= 6


@pytest.mark.parametrize("block", [b"", b"II*\0", exif(0), exif(9), exif(6)[:-8], b"MM\0*\xff\xff\xff\xff" + bytes(20)])
def test_broken_exif_is_no_orientation(tmp_path: Path, block: bytes) -> None:
    jpeg = encoded(".jpg", gradient())
    plain = read_picture(write(tmp_path, jpeg))
    np.testing.assert_array_equal(read_picture(write(tmp_path, jpeg_with_exif(jpeg, block))), plain)


@pytest.mark.parametrize("form", ["png", "tiff", "pgm"])
def test_16_bit_grey_keeps_black_and_white(tmp_path: Path, form: str) -> None:
    grey = np.linspace(0, 65535, 40 * 60).round().astype(np.uint16).reshape(40, 60)
    data = {
        "png": png(60, 40, 16, 0, png_rows(grey)),
        "tiff": tiff(grey, photometric=1),
        "pgm": b"P5 60 40 65535\n" + grey.astype(">u2").tobytes(),
    }[form]
    image = read_picture(write(tmp_path, data))
    expected = np.round(grey / 257.0)
    np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, -1))
    assert image.min() == 0
    assert image.max() == 255


def test_samples_of_10_bits_are_scaled_by_their_declared_white(tmp_path: Path) -> None:
    grey = np.array([[0, 341, 682, 1023]], np.uint16)
    image = read_picture(write(tmp_path, b"P5\n# ten bits\n4 1\n1023\n" + grey.astype(">u2").tobytes()))
    assert image[0, :, 0].tolist() == [0, 85, 170, 255]


def test_16_bit_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    for data in (png(7, 9, 16, 2, png_rows(rgb)), tiff(rgb, photometric=2)):
        np.testing.assert_array_equal(read_picture(write(tmp_path, data)), np.round(rgb[..., ::-1] / 257.0))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rgba = rng.integers(0, 256, (33, 21, 4), dtype=np.uint8)
    rgba[0, 0] = (9, 9, 9, 0)
    alpha = rgba[..., 3:] / 255.0
    expected = (rgba[..., :3] * alpha + 255 * (1 - alpha))[..., ::-1]
    bgra = rgba[..., [2, 1, 0, 3]]
    files = {
        "png": png(21, 33, 8, 6, png_rows(rgba)),
        "tiff": tiff(rgba, photometric=2, tags={338: 2}),
        "webp": encoded(".webp", bgra, *LOSSLESS_WEBP),
    }
    for name, data in files.items():
        image = read_picture(write(tmp_path, data, name))
        assert np.abs(image - expected).max() <= 1.01, name
        assert image[0, 0].tolist() == [255, 255, 255], name


def test_16_bit_transparency(tmp_path: Path) -> None:
    rgba = np.random.default_rng(2).integers(0, 65536, (8, 8, 4), dtype=np.uint16)
    alpha = rgba[..., 3:] / 65535.0
    expected = ((rgba[..., :3] * alpha + 65535 * (1 - alpha)) / 257)[..., ::-1]
    image = read_picture(write(tmp_path, png(8, 8, 16, 6, png_rows(rgba))))
    assert np.abs(image - expected).max() <= 1.5


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = png_chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    data = png(2, 1, 8, 3, b"\0\0\x01", palette, png_chunk(b"tRNS", b"\0"))
    assert read_picture(write(tmp_path, data)).tolist() == [[[255, 255, 255], [50, 100, 200]]]


def test_one_bit_and_grey_with_alpha(tmp_path: Path) -> None:
    assert read_picture(write(tmp_path, png(8, 1, 1, 0, b"\0\xa5")))[0, :, 0].tolist() == [
        255,
        0,
        255,
        0,
        0,
        255,
        0,
        255,
    ]
    grey_alpha = png(2, 1, 8, 4, bytes([0, 100, 255, 100, 0]))
    assert read_picture(write(tmp_path, grey_alpha)).tolist() == [[[100, 100, 100], [255, 255, 255]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow writes CMYK")
    path = tmp_path / "cmyk.jpg"
    pil.fromarray(gradient()[..., ::-1].copy()).convert("CMYK").save(path, quality=98)
    assert np.abs(read_picture(path).astype(int) - gradient()).max() <= 8


@pytest.mark.parametrize("progressive", [0, 1])
def test_truncated_jpeg_is_refused_at_every_length(tmp_path: Path, progressive: int) -> None:
    data = encoded(".jpg", textured(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert read_picture(write(tmp_path, data)).shape == (120, 160, 3)
    for end in {*range(3, len(data), 97), len(data) - 1, len(data) - 2}:
        with pytest.raises(MediaError, match="cut short"):
            read_picture(write(tmp_path, data[:end]))


def test_thumbnail_does_not_hide_a_truncated_jpeg(tmp_path: Path) -> None:
    thumbnail = encoded(".jpg", gradient())
    data = jpeg_with_exif(encoded(".jpg", textured()), exif(1) + thumbnail)
    assert read_picture(write(tmp_path, data)).shape == (120, 160, 3)
    with pytest.raises(MediaError, match="cut short"):
        read_picture(write(tmp_path, data[: len(data) * 2 // 3]))


def test_jpeg_with_lost_pixels_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(".jpg", textured(240, 320)))
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)
    with pytest.raises(MediaError, match="damaged"):
        read_picture(write(tmp_path, bytes(data)))


def test_data_behind_the_end_of_a_jpeg_do_not_matter(tmp_path: Path) -> None:
    data = encoded(".jpg", textured())
    plain = read_picture(write(tmp_path, data))
    np.testing.assert_array_equal(read_picture(write(tmp_path, data + b"\0" * 500 + b"trailer")), plain)


def _bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _resized(data: bytes, form: str, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    assert data.count(struct.pack(form, *old)) == 1
    return data.replace(struct.pack(form, *old), struct.pack(form, *new))


HUGE = {
    "png": png(60000, 60000, 8, 2, b"\0"),
    "png-in-the-limit": png(16000, 16000, 8, 2, b"\0"),
    "jpeg": _resized(encoded(".jpg", gradient()), ">HH", (40, 60), (65500, 65500)),
    "jpeg-in-the-limit": _resized(encoded(".jpg", gradient()), ">HH", (40, 60), (16000, 16000)),
    "bmp": _bmp_header(100_000, 100_000) + bytes(100),
    "bmp-negative": _bmp_header(100_000, -100_000) + bytes(100),
    "bmp-most-negative": _bmp_header(-(2**31), -(2**31)) + bytes(100),
    "tiff": _resized(tiff(np.zeros((2, 2), np.uint8), photometric=1), "<HHII", (257, 4, 1, 2), (257, 4, 1, 2**31)),
    "tiff-in-the-limit": _resized(encoded(".tiff", gradient()), "<HHII", (257, 3, 1, 40), (257, 3, 1, 65000)),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + gif(2, 1, b"\0\1", bytes(12))[25:],
    "webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6 + bytes(8),
    "ppm": b"P6 999999999 999999999 255\n" + bytes(30),
    "ppm-ascii": b"P3 99999 99999 255\n1 2 3",
    "pbm": b"P4 60000 60000\n" + bytes(30),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_declared_sizes_are_refused_before_decoding(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, HUGE[name])
    start = time.perf_counter()
    with pytest.raises(MediaError, match=r"cut short|declares|cannot come out"):
        read_picture(path)
    assert time.perf_counter() - start < 0.5


def test_the_cap_is_on_pixels(tmp_path: Path) -> None:
    side = 1 << 15  # a real picture of 2^30 pixels: 128 MiB of one-bit rows, which compress to almost nothing
    compressed = png(side, side, 1, 0, (b"\0" + bytes(side // 8)) * side)
    with pytest.raises(MediaError, match=f"{MAX_PIXELS:,}"):
        read_picture(write(tmp_path, compressed))


def test_very_large_picture(tmp_path: Path) -> None:
    width, height = 12_000, 9_000
    row = b"\0" + bytes(width // 8 - 1) + b"\x01"
    image = read_picture(write(tmp_path, png(width, height, 1, 0, row * height)))
    assert image.shape == (height, width, 3)
    assert image[:, -1].all()
    assert not image[0, :-1].any()


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"v/1\x01\x02\0\0\0", "OpenEXR"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"%PDF-1.7", "PDF"),
        (b"PF\n2 2\n-1.0\n", "PFM"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, head: bytes, word: str) -> None:
    with pytest.raises(MediaError, match=word):
        read_picture(write(tmp_path, head + bytes(100), "picture.png"))


def test_float_and_32_bit_tiff_are_refused_by_reason(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="floating-point"):
        read_picture(write(tmp_path, tiff(np.ones((4, 4), np.float32), photometric=1, sample_format=3)))
    with pytest.raises(MediaError, match="32 bits"):
        read_picture(write(tmp_path, tiff(np.ones((4, 4), np.uint32), photometric=1)))


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    for path, reason in [
        (tmp_path / "missing.png", "no such file"),
        (tmp_path / "dangling.png", "link"),
        (tmp_path / "pipe.png", "pipe"),
        (tmp_path / "empty.png", "empty"),
        (tmp_path, "folder"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "a\0b.png", "null"),
        (tmp_path / ("n" * 300 + ".png"), "too long"),
        (write(tmp_path, b"just some text, long enough to be looked at"), "neither"),
    ]:
        with pytest.raises(MediaError, match=reason) as caught:
            read_picture(path)
        assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = write(tmp_path, encoded(".png", gradient()))
    path.chmod(0)
    with pytest.raises(MediaError, match="ermission"):
        read_picture(path)


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(path).write_bytes(encoded(".png", gradient()))
    np.testing.assert_array_equal(read_picture(path), gradient())


def test_codecs_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noisy = bytearray(encoded(".jpg", textured(240, 320)))
    noisy[len(noisy) // 2 : len(noisy) // 2 + 1000] = bytes(1000)
    crc = bytearray(encoded(".png", textured()))
    crc[len(crc) // 2] ^= 0xFF
    profile = png_chunk(b"iCCP", b"bad\0\0" + b"no zlib data")
    header = encoded(".png", gradient())
    strange = header[:33] + profile + header[33:]
    cut = tiff(gradient(), photometric=2)
    for data in (bytes(noisy), bytes(crc), strange, cut[:-20], HUGE["gif"]):
        try:
            read_picture(write(tmp_path, data))
        except MediaError:
            continue
    assert capfd.readouterr() == ("", "")


def test_other_output_on_stderr_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with codecs_quiet() as said:
        os.write(2, b"from a thread\nCorrupt JPEG data: premature end of data segment\nand more")
    assert capfd.readouterr().err == "from a thread\nand more"
    assert "premature" in said.text


def test_stderr_is_given_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), codecs_quiet():
        raise ValueError("inside")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_threads_may_read_at_once(tmp_path: Path) -> None:
    paths = [write(tmp_path, encoded(".png", textured(seed=i)), f"{i}.png") for i in range(8)]
    results: dict[int, np.ndarray] = {}

    def read(i: int) -> None:
        for _ in range(5):
            results[i] = read_picture(paths[i])

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        np.testing.assert_array_equal(results[i], textured(seed=i))


WHOLE = {
    "jpeg": encoded(".jpg", textured(48, 64)),
    "png": encoded(".png", textured(24, 32)),
    "bmp": encoded(".bmp", textured(12, 16)),
    "webp": encoded(".webp", textured(48, 64)),
    "tiff": encoded(".tiff", textured(24, 32)),
    "ppm": encoded(".ppm", textured(12, 16)),
    "gif": gif(4, 2, bytes([0, 1, 2, 3, 3, 2, 1, 0]), bytes(range(12))),
}


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0.02, 1),
)
def test_damaged_files_give_a_picture_or_a_media_error(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(WHOLE[kind])
    for place, value in changes:
        data[int(place * min(len(data), 200))] = value
    try:
        image = read_picture(write(tmp_path, bytes(data[: max(1, int(keep * len(data)))])))
    except MediaError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([d[:12] for d in WHOLE.values()]), rest=st.binary(max_size=300))
def test_noise_behind_a_good_beginning(tmp_path: Path, head: bytes, rest: bytes) -> None:
    try:
        image = read_picture(write(tmp_path, head + rest))
    except MediaError:
        return
    assert image.shape[2] == 3
