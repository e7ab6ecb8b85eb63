import io
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from container.errors import BadImage
from container.images.decode import MAX_PIXELS, decode, sniff
from container.images.orientation import exif_orientation

LOSSLESS = ["PNG", "BMP", "TIFF", "WebP"]


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class TestFormats:
    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_lossless_formats_give_the_same_pixels(
        self, kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        options = {"lossless": True} if kind == "WebP" else {}
        pixels = decode(encoded(picture(), kind, **options))
        assert np.array_equal(pixels, picture())

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"quality": 95, "subsampling": 0},
            {"subsampling": 1},
            {"progressive": True},
            {"restart_marker_blocks": 2},
            {"keep_rgb": True},
        ],
    )
    def test_the_fast_jpeg_decoder_agrees_with_pillow(
        self,
        options: dict[str, bool] | dict[str, int],
        picture: Callable[..., Any],
        encoded: Callable[..., Any],
    ) -> None:
        data = encoded(picture(75, 101), **options)
        difference = np.abs(decode(data).astype(int) - pillow(data))
        assert difference.max() <= 1

    def test_the_result_is_contiguous_uint8_rgb(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        for kind in ["JPEG", *LOSSLESS]:
            pixels = decode(encoded(picture(), kind))
            assert (pixels.dtype, pixels.shape) == (np.dtype(np.uint8), (48, 64, 3))
            assert pixels.flags.c_contiguous
            assert pixels.flags.writeable

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
    def test_grey_becomes_three_equal_channels(
        self, kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture()[:, :, 0], kind)
        pixels = decode(data)
        assert np.array_equal(pixels, pillow(data))
        assert (pixels[:, :, :1] == pixels).all()

    def test_one_bit_images_become_black_and_white(self, encoded: Callable[..., Any]) -> None:
        image = Image.new("1", (9, 5))
        image.putpixel((3, 2), 1)
        pixels = decode(encoded(image, "PNG"))
        assert pixels[2, 3].tolist() == [255, 255, 255]
        assert pixels.sum() == 3 * 255

    def test_a_jpeg_followed_by_a_second_picture_gives_the_first(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        first, second = Image.fromarray(picture(seed=1)), Image.fromarray(picture(seed=2))
        data = encoded(first, "MPO", save_all=True, append_images=[second])
        assert np.abs(decode(data).astype(int) - picture(seed=1)).mean() < 4

    def test_an_animation_gives_its_first_frame(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        frames = [Image.fromarray(picture(seed=seed)) for seed in (1, 2)]
        data = encoded(frames[0], "WebP", save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(decode(data), picture(seed=1))

    def test_bytes_after_the_end_of_a_jpeg_are_ignored(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture())
        assert np.array_equal(decode(data + b"camera notes"), decode(data))

    def test_stray_bytes_between_segments_are_ignored(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture())
        start = data.index(b"\xff\xdb")
        strayed = data[:start] + b"\x00\x00" + data[start:]
        assert np.array_equal(decode(strayed), decode(data))


class TestCmyk:
    def test_adobe_cmyk_is_inverted(self, encoded: Callable[..., Any]) -> None:
        ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        pixels = decode(encoded(ink, quality=100))
        assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3

    def test_cmyk_without_the_adobe_marker_is_not_inverted(
        self, encoded: Callable[..., Any]
    ) -> None:
        data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=100)
        at = data.index(b"\xff\xee")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        plain = data[:at] + data[at + 2 + length :]
        # The stored samples are the complement: no magenta, no yellow, full cyan and black.
        assert np.abs(decode(plain).astype(int)).max() <= 3

    def test_cmyk_tiff(self, encoded: Callable[..., Any]) -> None:
        data = encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF")
        assert decode(data)[0, 0].tolist() == [0, 255, 255]


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_all_eight_are_set_upright(
        self, orientation: int, kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        exact: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WebP": {"lossless": True}}
        data = encoded(picture(), kind, exif=exif.tobytes(), **exact.get(kind, {}))
        upright = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: np.rot90(a, -1),
            7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
            8: lambda a: np.rot90(a, 1),
        }[orientation](picture())
        pixels = decode(data)
        assert pixels.shape == upright.shape
        assert np.abs(pixels.astype(int) - upright).mean() < 4

    def test_at_least_refers_to_the_upright_picture(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(picture(100, 400), exif=exif.tobytes())
        assert decode(data, at_least=(200, 50)).shape == (200, 50, 3)

    @pytest.mark.parametrize("order", ["II*\0", "MM\0*"])
    def test_both_byte_orders(self, order: str) -> None:
        endian = "<" if order == "II*\0" else ">"
        block = order.encode() + struct.pack(endian + "IHHHIHH", 8, 1, 0x0112, 3, 1, 8, 0)
        assert exif_orientation(block) == 8

    @pytest.mark.parametrize(
        "block",
        [
            b"",
            b"II*\0",
            b"MM\0*\xff\xff\xff\xff",
            b"II*\0" + struct.pack("<IH", 8, 65535),
            b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 9, 0),
            b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 0, 0),
        ],
    )
    def test_a_damaged_exif_block_means_upright(
        self, block: bytes, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        assert exif_orientation(block) == 1
        data = encoded(picture(), exif=b"Exif\0\0" + block)
        assert decode(data).shape == (48, 64, 3)


class TestTransparency:
    def test_alpha_is_laid_on_white(self, encoded: Callable[..., Any]) -> None:
        image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
        image.putpixel((1, 0), (255, 0, 0, 0))
        image.putpixel((2, 0), (0, 0, 0, 51))
        for kind, options in (("PNG", {}), ("TIFF", {}), ("WebP", {"lossless": True})):
            pixels = decode(encoded(image, kind, **options))
            assert pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]

    def test_grey_with_alpha(self, encoded: Callable[..., Any]) -> None:
        image = Image.new("LA", (2, 1), (0, 255))
        image.putpixel((1, 0), (0, 51))
        assert decode(encoded(image, "PNG"))[0, :, 0].tolist() == [0, 204]

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
    def test_transparent_palette_entries_become_white(
        self, transparency: bytes | int, encoded: Callable[..., Any]
    ) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        pixels = decode(encoded(image, "PNG", transparency=transparency))
        assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]

    def test_a_transparent_colour_key_becomes_white(self, encoded: Callable[..., Any]) -> None:
        image = Image.new("RGB", (2, 1), (1, 2, 3))
        image.putpixel((1, 0), (9, 9, 9))
        pixels = decode(encoded(image, "PNG", transparency=(9, 9, 9)))
        assert pixels[0].tolist() == [[1, 2, 3], [255, 255, 255]]


class TestSixteenBits:
    def test_sixteen_bit_grey_keeps_its_high_byte(self) -> None:
        rows = b"\0" + struct.pack(">4H", 0, 255, 0x80FF, 0xFFFF)
        pixels = decode(png(4, 1, 16, 0, rows))
        assert pixels[0, :, 0].tolist() == [0, 0, 0x80, 255]
        assert (pixels[:, :, :1] == pixels).all()

    def test_sixteen_bit_colour_keeps_its_high_byte(self) -> None:
        rows = b"\0" + struct.pack(">3H", 0x10FF, 0x80FF, 0xFFFF)
        assert decode(png(1, 1, 16, 2, rows))[0, 0].tolist() == [0x10, 0x80, 255]

    def test_grey_with_a_transparent_value(self) -> None:
        transparent = b"\0\0\0\x02tRNS\x12\x34" + struct.pack(">I", zlib.crc32(b"tRNS\x12\x34"))
        rows = b"\0" + struct.pack(">2H", 0x1234, 0x1235)
        pixels = decode(png(2, 1, 16, 0, rows, transparent))
        assert pixels[0, :, 0].tolist() == [255, 0x12]

    def test_grey_tiff_of_either_byte_order(self, encoded: Callable[..., Any]) -> None:
        samples = np.array([[0, 0x7F01, 0xFFFF]], dtype=np.uint16)
        little = encoded(Image.fromarray(samples), "TIFF")
        assert decode(little)[0, :, 0].tolist() == [0, 0x7F, 255]
        big = encoded(Image.fromarray(samples.astype(">u2")), "TIFF")
        assert decode(big)[0, :, 0].tolist() == [0, 0x7F, 255]

    def test_floating_point_pixels_are_refused(self, encoded: Callable[..., Any]) -> None:
        data = encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
        with pytest.raises(BadImage, match="mode F has no agreed range"):
            decode(data)


class TestReducedScale:
    @pytest.mark.parametrize("target", [(1, 1), (47, 60), (50, 50), (94, 125), (100, 10), (300, 9)])
    def test_is_the_smallest_power_of_two_that_is_large_enough(
        self, target: tuple[int, int], picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        pixels = decode(encoded(picture(375, 500)), at_least=target)
        sizes = [(-(-375 // s), -(-500 // s)) for s in (8, 4, 2, 1)]
        expected = next(size for size in sizes if size[0] >= target[0] and size[1] >= target[1])
        assert pixels.shape[:2] == expected

    def test_never_enlarges(self, picture: Callable[..., Any], encoded: Callable[..., Any]) -> None:
        assert decode(encoded(picture()), at_least=(1000, 1000)).shape == (48, 64, 3)

    def test_holds_for_the_fuller_decoder_too(self, encoded: Callable[..., Any]) -> None:
        data = encoded(Image.new("CMYK", (400, 200)))
        assert decode(data, at_least=(50, 100)).shape == (50, 100, 3)

    def test_other_formats_are_decoded_at_full_size(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        assert decode(encoded(picture(), "PNG"), at_least=(4, 4)).shape == (48, 64, 3)

    def test_looks_like_the_whole_picture_made_smaller(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(96, 128), quality=95)
        small = decode(data, at_least=(48, 64)).astype(int)
        whole = Image.fromarray(decode(data)).resize((64, 48), Image.Resampling.BOX)
        assert np.abs(small - np.asarray(whole)).mean() < 2


class TestRefusals:
    def test_empty(self) -> None:
        with pytest.raises(BadImage, match=r"^a\.jpg: empty \(0 bytes\), expected a JPEG, PNG"):
            decode(b"", name="a.jpg")

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"%PDF-1.7", "a PDF"),
            (b"  <svg xmlns=''/>", "HTML, XML or SVG text"),
            (b"PK\x03\x04" + bytes(30), "a zip archive"),
            (b"\x93NUMPY\x01\0", "a NumPy array"),
            (b'{"a": 1}', "JSON text"),
            (b"\0\0\0\x18ftypisom", "a video (MP4 or QuickTime)"),
            (b"hello", "5 bytes starting 68 65 6c 6c 6f"),
        ],
    )
    def test_a_file_that_is_not_an_accepted_image_is_described(
        self, data: bytes, found: str
    ) -> None:
        with pytest.raises(BadImage) as caught:
            decode(data, name="x")
        assert str(caught.value) == (
            f"x: not an accepted image: found {found}, "
            "expected JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or JPEG 2000"
        )

    @pytest.mark.parametrize("kind", ["JPEG", *LOSSLESS])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_a_truncated_file_is_refused_and_not_padded_with_grey(
        self, kind: str, share: float, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(75, 101), kind)
        with pytest.raises(BadImage, match=f"^cut: cut short or damaged {kind}: ") as caught:
            decode(data[: int(len(data) * share)], name="cut")
        assert "\n" not in str(caught.value)

    def test_a_progressive_jpeg_truncated_anywhere_is_refused(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(), progressive=True)
        for length in range(2, len(data) - 1, 37):
            with pytest.raises(BadImage):
                decode(data[:length])

    def test_a_truncated_jpeg_with_an_end_marker_is_refused(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture())
        with pytest.raises(BadImage, match="premature end of data segment"):
            decode(data[: len(data) * 3 // 4] + b"\xff\xd9")

    def test_a_truncated_jpeg_is_refused_at_reduced_scale_too(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(375, 500))
        with pytest.raises(BadImage, match="Premature end"):
            decode(data[:-200], at_least=(1, 1))

    def test_a_truncated_cmyk_jpeg_is_refused(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(Image.fromarray(picture()).convert("CMYK"))
        with pytest.raises(BadImage, match="truncated"):
            decode(data[: len(data) // 2])

    @pytest.mark.parametrize("length", [3, 4, 10, 20, 40])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WebP"])
    def test_a_bare_header_is_refused(
        self, kind: str, length: int, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        with pytest.raises(BadImage):
            decode(encoded(picture(), kind)[:length])

    def test_random_damage_never_raises_another_error(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        random = np.random.default_rng(0)
        refused = 0
        for kind in ["JPEG", "PNG", "BMP", "WebP"]:
            data = encoded(picture(), kind)
            for _ in range(60):
                damaged = bytearray(data)
                for at in random.integers(0, len(data), 8):
                    damaged[at] = random.integers(256)
                try:
                    decode(bytes(damaged), max_pixels=100_000)
                except BadImage:
                    refused += 1
        assert refused > 60

    def test_names_are_kept_to_one_line(self) -> None:
        with pytest.raises(BadImage) as caught:
            decode(b"", name="a\nb\udcff.jpg")
        assert str(caught.value).startswith("a b .jpg: empty")


class TestBounds:
    @pytest.mark.parametrize("kind", ["JPEG", *LOSSLESS])
    def test_the_pixel_limit_is_exact(
        self, kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(), kind)
        assert decode(data, max_pixels=48 * 64).shape == (48, 64, 3)
        with pytest.raises(BadImage, match=r"64 x 48 = 3,072 pixels, expected at most 3,071"):
            decode(data, max_pixels=48 * 64 - 1)

    def test_lossy_and_plain_webp_headers_are_read(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        for options in ({"quality": 50}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*"}):
            with pytest.raises(BadImage, match="64 x 48"):
                decode(encoded(picture(), "WebP", **options), max_pixels=10)

    def test_a_png_bomb_is_refused_from_its_header(self) -> None:
        bomb = png(60_000, 60_000, 8, 2, b"")
        with pytest.raises(BadImage, match="3,600,000,000 pixels, expected at most 64,000,000"):
            decode(bomb)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
    def test_pillows_own_limit_neither_warns_nor_refuses(
        self,
        kind: str,
        picture: Callable[..., Any],
        encoded: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        data = encoded(picture(), kind)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(data))
        assert decode(data).shape == (48, 64, 3)
        assert Image.MAX_IMAGE_PIXELS == 100

    def test_a_second_frame_header_cannot_declare_a_larger_size(
        self, encoded: Callable[..., Any]
    ) -> None:
        data = encoded(Image.new("CMYK", (16, 16)))
        at = data.index(b"\xff\xc0")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        frame = bytearray(data[at : at + 2 + length])
        frame[5:9] = struct.pack(">HH", 60_000, 60_000)
        with pytest.raises(BadImage, match="two frame headers"):
            decode(data[: at + 2 + length] + bytes(frame) + data[at + 2 + length :])

    def test_a_jpeg_of_too_many_scans_is_refused(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(), progressive=True)
        at = data.rindex(b"\xff\xda")
        scan = data[at:-2]
        with pytest.raises(BadImage, match="more than 100 JPEG scans"):
            decode(data[:-2] + scan * 100 + data[-2:])

    def test_zero_height_is_refused(
        self, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = bytearray(encoded(picture()))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 7] = b"\0\0"
        with pytest.raises(BadImage, match="64 x 0 pixels"):
            decode(bytes(data))

    def test_the_default_limit(self) -> None:
        assert MAX_PIXELS == 64_000_000


def test_sniff_names_the_format(picture: Callable[..., Any], encoded: Callable[..., Any]) -> None:
    for kind in ["JPEG", *LOSSLESS]:
        assert sniff(encoded(picture(), kind)) == kind
    assert sniff(b"RIFF\0\0\0\0WAVE") is None


def test_threads_do_not_disturb_each_other(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    files = [encoded(picture(seed=seed), kind) for seed in range(8) for kind in ["JPEG", "PNG"]]
    expected = [decode(data) for data in files]
    results: list[list[np.ndarray]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda out=out: out.extend(decode(data) for data in files))
        for out in results
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert all(map(np.array_equal, result, expected))
