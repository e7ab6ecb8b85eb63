"""Decodes pictures of every common format, and describes those that are not supported."""

import struct
import subprocess
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from container.errors import BadImage
from container.images.decode import decode, use_image
from container.images.geometry import Geometry
from tests.unit.container.conftest import encoded, picture
from tests.unit.container.images.lossless import lossless_jpeg

READ = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "MPO"]
EXACT: dict[str, dict[str, Any]] = {
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def whole(kind: str, pixels: np.ndarray, **options: Any) -> bytes:
    return encoded(pixels, kind, **EXACT.get(kind, {}), **options)


def exif(value: int, size: int = 2, order: str = "<", count: int = 1) -> bytes:
    """Return an EXIF block whose Orientation is an integer of `size` bytes."""
    kind = {1: 1, 2: 3, 4: 4}[size]
    name = b"Exif\0\0" + (b"II*\0" if order == "<" else b"MM\0*")
    number = struct.pack(order + {1: "B", 2: "H", 4: "I"}[size], value).ljust(4, b"\0")
    return name + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, count) + number + bytes(4)


class TestFormats:
    @pytest.mark.parametrize("kind", READ)
    def test_are_read_by_their_bytes_whatever_the_name(self, kind: str) -> None:
        pixels = decode(whole(kind, picture()), name="x.jpg")
        assert np.abs(pixels.astype(int) - picture()).mean() < 9

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
    def test_the_first_of_several_frames_is_decoded(self, kind: str) -> None:
        first, *others = (Image.fromarray(picture(seed=seed)) for seed in (1, 2, 3))
        data = whole(kind, np.asarray(first), save_all=True, append_images=others)
        assert np.abs(decode(data).astype(int) - picture(seed=1)).mean() < 9

    @pytest.mark.parametrize(
        ("kind", "mode"),
        [
            ("PNG", "1"),
            ("PNG", "P"),
            ("PNG", "LA"),
            ("PNG", "I;16"),
            ("PPM", "1"),
            ("PPM", "L"),
            ("PPM", "I;16"),
            ("GIF", "L"),
            ("GIF", "P"),
            ("TIFF", "1"),
            ("TIFF", "CMYK"),
            ("TIFF", "I;16"),
            ("AVIF", "L"),
            ("JPEG2000", "L"),
            ("JPEG2000", "LA"),
            ("JPEG2000", "RGBA"),
            ("JPEG2000", "I;16"),
        ],
    )
    def test_every_mode_becomes_rgb(self, kind: str, mode: str) -> None:
        image = Image.fromarray(picture()[:, :, 1])
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        elif mode != "L":
            image = image.convert(mode)
        pixels = decode(encoded(image, kind))
        wanted = image if mode != "I;16" else Image.fromarray(picture()[:, :, 1])
        assert np.abs(pixels.astype(int) - np.asarray(wanted.convert("RGB"))).mean() < 2

    @pytest.mark.parametrize(
        ("head", "samples"),
        [
            (b"P5\n4 1\n100\n", bytes([0, 50, 100, 200])),
            (b"P5 4 1 1000 ", struct.pack(">4H", 0, 500, 1000, 2000)),
            (b"P2\n4 1\n100\n", b"0 50 100 100"),
        ],
    )
    def test_a_netpbm_with_any_maximum_value(self, head: bytes, samples: bytes) -> None:
        assert decode(head + samples)[0, :, 0].tolist() == [0, 128, 255, 255]
        colour = head.replace(b"P5", b"P6").replace(b"P2", b"P3").replace(b"4 1", b"1 1")
        assert decode(colour + samples)[0, 0].tolist() == [0, 128, 255]
        with pytest.raises(BadImage, match="cut short"):
            decode(head + samples[:2])

    def test_a_large_netpbm_is_not_read_sample_by_sample(self) -> None:
        assert decode(b"P6 2000 1500 999\n" + bytes(18_000_000)).shape == (1500, 2000, 3)
        with pytest.raises(BadImage, match="9,000,000 samples written as text"):
            decode(b"P3 2000 1500 255\n" + b"0 " * 9_000_000)

    def test_a_run_length_encoded_bmp_is_read_unless_it_is_endless(self) -> None:
        head = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 1, 0, 0, 0, 2, 0)
        colours = bytes([0, 0, 0, 0, 30, 20, 10, 0])
        runs = bytes([3, 1, 1, 0, 0, 1])
        start = 14 + len(head) + len(colours)
        data = struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start) + head + colours + runs
        assert decode(data)[0].tolist() == [[10, 20, 30]] * 3 + [[0, 0, 0]]
        with pytest.raises(BadImage, match="bytes of run-length encoded BMP"):
            decode(data + bytes(4_000_000))

    def test_a_transparent_gif_is_laid_on_white(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        data = encoded(image, "GIF", transparency=1)
        assert decode(data)[0].tolist() == [[10, 20, 30], [255, 255, 255]]

    @pytest.mark.parametrize("kind", [kind for kind in READ if kind != "JPEG"])
    def test_bytes_after_the_picture_are_ignored(self, kind: str) -> None:
        data = whole(kind, picture())
        behind = b"\xff\xc3\xff\xda" * 200 + b"PK\3\4" + bytes(range(256)) * 8
        assert np.array_equal(decode(data + behind), decode(data))

    @pytest.mark.parametrize("progressive", [False, True])
    def test_bytes_after_a_jpeg_are_ignored(self, progressive: bool) -> None:
        data = encoded(picture(), progressive=progressive)
        other = encoded(picture(seed=2), progressive=True)
        for behind in (other * 12, b"\xff\xda" * 200, b"\xff\xc3\0\x11" + bytes(20), b"\xff"):
            assert np.array_equal(decode(data + behind), decode(data))

    @pytest.mark.parametrize("share", [0.5, 0.9])
    @pytest.mark.parametrize("kind", READ)
    def test_a_truncated_picture_is_refused(self, kind: str, share: float) -> None:
        data = encoded(picture(), kind)
        with pytest.raises(BadImage, match=r"^cut: cut short or damaged"):
            decode(data[: int(len(data) * share)], name="cut")


class TestWhatIsNotRead:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEI"),
            (b"\xff\x0a" + bytes(20), "JPEG XL"),
            (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
            (b"8BPS" + bytes(20), "Photoshop"),
            (b"II\xbc\x01" + bytes(20), "JPEG XR"),
            (b"qoif" + bytes(20), "QOI"),
        ],
    )
    def test_is_named(self, data: bytes, name: str) -> None:
        with pytest.raises(BadImage, match=rf"^a\.jpg: .*{name}.*convert it to JPEG") as caught:
            decode(data, name="a.jpg")
        assert "damaged" not in str(caught.value)
        assert "bytes starting" not in str(caught.value)

    @pytest.mark.parametrize(
        ("marker", "precision", "name"),
        [
            (0xC1, 12, "12-bit JPEG"),
            (0xC3, 16, "16-bit lossless JPEG"),
            (0xC5, 8, "hierarchical JPEG"),
            (0xCB, 8, "lossless JPEG"),
            (0xF7, 8, "JPEG-LS"),
        ],
    )
    def test_unsupported_kinds_of_jpeg_are_refused(
        self, marker: int, precision: int, name: str
    ) -> None:
        data = bytearray(encoded(picture()))
        at = data.index(b"\xff\xc0")
        data[at + 1], data[at + 4] = marker, precision
        with pytest.raises(BadImage, match=rf"^x: {name}.* is not read here; convert"):
            decode(bytes(data), name="x")


class TestLosslessJpeg:
    @pytest.mark.parametrize("at_least", [None, (1, 1), (8, 8), (64, 64)])
    @pytest.mark.parametrize("side", [16, 130])
    def test_is_decoded_at_full_size_for_any_scale(
        self, side: int, at_least: tuple[int, int]
    ) -> None:
        pixels = picture(side, side)
        assert np.array_equal(decode(lossless_jpeg(pixels), at_least=at_least), pixels)

    def test_goes_through_the_geometry(self) -> None:
        pixels = picture(200, 200)
        geometry = Geometry(8, 8)
        assert np.array_equal(geometry.load(lossless_jpeg(pixels)), geometry.apply(pixels))

    @pytest.mark.parametrize("filler", [b"\xff", b"\xff\xff\xff", b"\0\0", b"\xff\0"])
    def test_is_recognised_behind_fill_bytes(self, filler: bytes) -> None:
        pixels = picture(130, 130)
        data = lossless_jpeg(pixels)
        at = data.index(b"\xff\xc3")
        assert np.array_equal(decode(data[:at] + filler + data[at:], at_least=(1, 1)), pixels)

    @pytest.mark.parametrize("place", ["before", "after", "behind the scan"])
    def test_behind_another_frame_is_refused(self, place: str) -> None:
        data = lossless_jpeg(picture(130, 130))
        at = data.index(b"\xff\xc3")
        frame = bytearray(data[at : at + 19])
        frame[1] = 0xC0
        cut = {"before": at, "after": at + 19, "behind the scan": len(data) - 2}[place]
        with pytest.raises(BadImage, match="two frame headers"):
            decode(data[:cut] + bytes(frame) + data[cut:], at_least=(1, 1))

    def test_a_thumbnail_is_not_a_second_frame(self) -> None:
        thumbnail = encoded(picture(16, 16))
        segment = b"\xff\xe5" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
        data = encoded(picture())
        assert np.array_equal(decode(data[:2] + segment + data[2:]), decode(data))

    def test_a_crash_of_the_decoder_is_reported_as_a_bad_image(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = lossless_jpeg(picture(16, 16))
        real = subprocess.run
        monkeypatch.setattr(
            subprocess,
            "run",
            lambda command, **options: real(
                [command[0], "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"],
                **options,
            ),
        )
        with pytest.raises(BadImage, match=r"^ants/7\.jpg: .*crashed \(SIGSEGV\)"):
            decode(data, name="ants/7.jpg")


class TestOrientation:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("size", [1, 2, 4])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_of_any_integer_type(self, kind: str, size: int, order: str) -> None:
        data = whole(kind, picture(), exif=exif(6, size, order))
        upright = np.rot90(picture(), -1)
        assert np.abs(decode(data).astype(int) - upright).mean() < 9

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_of_a_tiff_too(self, size: int, order: str) -> None:
        tags = [(256, 4), (257, 3), (258, 8), (259, 1), (262, 1), (273, 0), (274, 6), (277, 1)]
        tags += [(278, 3), (279, 12)]
        start = 8 + 2 + 12 * len(tags) + 4
        body = struct.pack(order + "H", len(tags))
        for tag, value in tags:
            width = size if tag == 274 else 4
            number = start if tag == 273 else value
            code = {1: "B", 2: "H", 4: "I"}[width]
            body += struct.pack(order + "HHI", tag, {1: 1, 2: 3, 4: 4}[width], 1)
            body += struct.pack(order + code, number).ljust(4, b"\0")
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
        data = head + body + bytes(4) + pixels.tobytes()
        assert np.array_equal(decode(data)[:, :, 0], np.rot90(pixels, -1))

    @pytest.mark.parametrize("value", range(1, 9))
    def test_of_an_avif_is_its_own(self, value: int) -> None:
        block = Image.Exif()
        block[0x0112] = value
        wanted = decode(whole("PNG", picture(), exif=block.tobytes()))
        pixels = decode(whole("AVIF", picture(), exif=block))
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).mean() < 9

    def test_of_a_jpeg_2000_file(self) -> None:
        data = encoded(picture(), "JPEG2000")
        body = b"JpgTiffExif->JP2" + exif(8).removeprefix(b"Exif\0\0")
        box = struct.pack(">I", 8 + len(body)) + b"uuid" + body
        at = data.index(b"jp2c") - 4
        pixels = decode(data[:at] + box + data[at:])
        assert np.array_equal(pixels, np.rot90(picture(), 1))

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
    def test_of_xmp_if_there_is_no_exif(self, kind: str) -> None:
        packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
        options: dict[str, object] = {"xmp": packet}
        if kind == "PNG":
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", packet.decode())
            options = {"pnginfo": info}
        pixels = decode(whole(kind, picture(), **options))
        assert np.abs(pixels.astype(int) - picture()[::-1, ::-1]).mean() < 9

    @pytest.mark.parametrize("value", [0, 9, 255])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_that_is_invalid_is_ignored(self, kind: str, value: int) -> None:
        pixels = decode(whole(kind, picture(), exif=exif(value)))
        assert np.abs(pixels.astype(int) - picture()).mean() < 9


class TestSize:
    def test_a_huge_jpeg_is_decoded_at_reduced_size(self) -> None:
        data = encoded(picture(1500, 2000), quality=30)
        geometry = Geometry(64, 64)
        pixels = geometry.load(data, max_pixels=800_000)
        assert np.abs(pixels.astype(int) - geometry.apply(picture(1500, 2000))).mean() < 9
        with pytest.raises(BadImage, match="3,000,000 pixels, expected at most 800,000"):
            decode(data, max_pixels=800_000)

    def test_a_huge_jpeg_2000_is_decoded_at_reduced_size(self) -> None:
        data = encoded(picture(480, 640), "JPEG2000", num_resolutions=4)
        seen = use_image(data, lambda image: image.size, at_least=(100, 100), max_pixels=80_000)
        assert seen == (160, 120)
        with pytest.raises(BadImage, match="307,200 pixels, expected at most 80,000"):
            decode(data, max_pixels=80_000)

    def test_a_jpeg_2000_that_declares_two_sizes_is_refused(self) -> None:
        data = bytearray(encoded(picture(), "JPEG2000"))
        at = data.index(b"\xff\x51") + 6
        data[at : at + 8] = struct.pack(">II", 60_000, 60_000)
        with pytest.raises(BadImage, match="3,600,000,000 pixels"):
            decode(bytes(data))

    def test_a_line_of_pixels_is_refused(self) -> None:
        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + bytes(4)

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 63_000_000, 8, 0, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b""))
        check = zlib.crc32(header[4:-4])
        data = data.replace(header, header[:-4] + struct.pack(">I", check))
        with pytest.raises(BadImage, match="1 x 63000000 pixels, expected at most 100,000"):
            decode(data)

    def test_a_picture_above_the_memory_budget_is_refused_from_its_header(self) -> None:
        header = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/\xfe\xff\xce\x03\x07\x10\x11\xfd\x0fDD\xff\x03"
        with pytest.raises(BadImage, match=r"pixels of WebP, which take [\d,]+ MB to decode"):
            decode(header)

    def test_a_refused_picture_is_not_kept_in_memory(self) -> None:
        data = encoded(picture(), "TIFF")
        with pytest.raises(BadImage) as caught:
            decode(data[:-100])
        assert caught.value.__context__ is None
