import os
import threading
from pathlib import Path
from typing import Any

import pytest

from local.client import upload as subject
from local.client.target import Target
from local.client.upload import scan_folder, upload_files
from local.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(6):
        path = root / "train" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"png" + bytes([number]) * 100)
    return root


def keys(target: Target, prefix: str = "") -> list[str]:
    listed = target.client("s3").list_objects_v2(Bucket=target.bucket, Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", ())]


def test_every_file_is_sent_once(moto_target: Target, photos: Path) -> None:
    s3 = moto_target.client("s3")
    done = upload_files(s3, scan_folder(photos), "bucket", "data/photos/")
    assert (done.sent, done.unchanged, done.bytes, done.extra) == (6, 0, 6 * 103, ())
    assert keys(moto_target) == [
        f"data/photos/train/class {n % 2}/{n}.png" for n in (0, 2, 4, 1, 3, 5)
    ]
    body = s3.get_object(Bucket="bucket", Key="data/photos/train/class 1/5.png")["Body"].read()
    assert body == b"png" + bytes([5]) * 100
    again = upload_files(s3, scan_folder(photos), "bucket", "data/photos/")
    assert (again.sent, again.unchanged, again.bytes) == (0, 6, 0)


def test_only_changed_files_are_sent(moto_target: Target, photos: Path) -> None:
    s3 = moto_target.client("s3")
    upload_files(s3, scan_folder(photos), "bucket", "p/")
    changed = photos / "train" / "class 0" / "2.png"
    changed.write_bytes(b"PNG" + bytes([2]) * 100)  # of the same length
    (photos / "train" / "class 0" / "new.png").write_bytes(b"new")
    done = upload_files(s3, scan_folder(photos), "bucket", "p/")
    assert (done.sent, done.unchanged, done.bytes) == (2, 5, 106)
    body = s3.get_object(Bucket="bucket", Key="p/train/class 0/2.png")["Body"].read()
    assert body.startswith(b"PNG")


def test_a_multipart_file_is_recognised_as_unchanged(
    moto_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PART", 5 * 1024**2)
    large = tmp_path / "weights" / "big.bin"
    large.parent.mkdir()
    large.write_bytes(os.urandom(1024) * 6 * 1024)
    s3 = moto_target.client("s3")
    assert upload_files(s3, scan_folder(large.parent), "bucket", "w/").sent == 1
    head = s3.head_object(Bucket="bucket", Key="w/big.bin")
    assert head["ETag"].endswith('-2"')
    assert head["ContentType"] == "application/octet-stream"
    assert upload_files(s3, scan_folder(large.parent), "bucket", "w/").unchanged == 1
    data = bytearray(large.read_bytes())
    data[-1] ^= 1
    large.write_bytes(data)
    assert upload_files(s3, scan_folder(large.parent), "bucket", "w/").sent == 1


def test_an_object_of_another_tool_with_the_same_bytes_is_kept(
    moto_target: Target, photos: Path
) -> None:
    s3 = moto_target.client("s3")
    path = photos / "train" / "class 0" / "0.png"
    s3.put_object(Bucket="bucket", Key="p/train/class 0/0.png", Body=path.read_bytes())
    done = upload_files(s3, scan_folder(photos), "bucket", "p/")
    assert (done.sent, done.unchanged) == (5, 1)


def test_uploads_run_side_by_side(photos: Path) -> None:
    """Three uploads wait for each other: they only finish if they run at the same time."""
    together = threading.Barrier(3, timeout=10)

    class Slow:
        def get_paginator(self, *_: Any) -> Any:
            return self

        def paginate(self, **_: Any) -> list[dict[str, Any]]:
            return [{}]

        def put_object(self, **_: Any) -> None:
            together.wait()

    assert upload_files(Slow(), scan_folder(photos), "bucket", "", workers=3).sent == 6


def test_objects_missing_from_the_folder_are_named_and_deleted_on_request(
    moto_target: Target, photos: Path
) -> None:
    s3 = moto_target.client("s3")
    upload_files(s3, scan_folder(photos), "bucket", "p/")
    s3.put_object(Bucket="bucket", Key="p2/other.png", Body=b"")
    (photos / "train" / "class 0" / "0.png").unlink()
    extra = ("p/train/class 0/0.png",)
    assert upload_files(s3, scan_folder(photos), "bucket", "p/").extra == extra
    assert len(keys(moto_target, "p/")) == 6
    assert upload_files(s3, scan_folder(photos), "bucket", "p/", delete=True).extra == extra
    assert len(keys(moto_target, "p/")) == 5
    assert keys(moto_target, "p2/") == ["p2/other.png"]


def test_a_kms_key_is_used(moto_target: Target, photos: Path) -> None:
    s3 = moto_target.client("s3")
    upload_files(s3, scan_folder(photos), "bucket", "p/", kms_key="key-1")
    head = s3.head_object(Bucket="bucket", Key="p/train/class 0/0.png")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("key-1")


def test_an_error_stops_the_upload(photos: Path) -> None:
    class Full:
        def get_paginator(self, *_: Any) -> Any:
            return self

        def paginate(self, **_: Any) -> list[dict[str, Any]]:
            return [{}]

        def put_object(self, **_: Any) -> None:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        upload_files(Full(), scan_folder(photos), "bucket", "")


def test_junk_and_hidden_files_are_not_sent(photos: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", ".hidden/x.png"):
        path = photos / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert len(scan_folder(photos).paths) == 6


def test_links_inside_are_followed(photos: Path) -> None:
    (photos / "train" / "again.png").symlink_to(photos / "train" / "class 0" / "0.png")
    (photos / "more").symlink_to(photos / "train" / "class 1")
    assert {"train/again.png", "more/1.png"} <= scan_folder(photos).paths.keys()


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("secret.png", "/etc/hostname", "secret.png: a link to /etc/hostname, which is outside"),
        ("folder", "/etc", "folder: a link to /etc, which is outside"),
        ("broken.png", "nowhere.png", "broken.png: a broken link to nowhere.png"),
        ("loop", ".", "loop: a link to a folder that contains it"),
    ],
)
def test_links_outside_the_folder_are_refused(
    photos: Path, link: str, target: str, message: str
) -> None:
    (photos / link).symlink_to(target)
    with pytest.raises(UserError, match=message):
        scan_folder(photos)


def test_a_shard_may_be_larger_than_an_image(photos: Path) -> None:
    for name in ("0.tar", "1.TAR"):
        with (photos / "train" / name).open("wb") as file:
            file.truncate(2 << 20)
    assert {"train/0.tar", "train/1.TAR"} <= scan_folder(photos, largest=1 << 20).paths.keys()


def test_files_that_cannot_be_sent_are_left_out_and_reported(photos: Path) -> None:
    os.mkfifo(photos / "train" / "pipe.png")
    (photos / "train" / "secret").symlink_to("/etc")
    (photos / "train" / "gone.png").symlink_to("nowhere.png")
    (photos / "train" / "itself.png").symlink_to("itself.png")
    (photos / "train" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (photos / "train" / "__pycache__").mkdir()
    with (photos / "train" / "sparse.png").open("wb") as file:
        file.truncate(2 << 30)
    files = scan_folder(photos, strict=False, largest=1 << 20)
    assert len(files.paths) == 6
    text = "\n".join(files.left_out)
    for name in ("pipe.png", "secret", "gone.png", "itself.png", r"caf\xe9.png", "sparse.png"):
        assert text.count(f"left out: {photos}/train/{name}: ") == 1
    assert text.endswith("left out (left by a tool): __pycache__")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("1.png", b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png"),
        ("named wrongly.png", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("no ending", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.gif", b"GIF89a", "image/gif"),
        ("b.tif", b"II*\0", "image/tiff"),
        ("c.bmp", b"BM" + bytes(16), "image/bmp"),
        ("d.avif", b"\0\0\0\x1cftypavif\0\0\0\0mif1", "image/avif"),
        ("e.heic", b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "image/heic"),
        ("f.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
        ("g.ppm", b"P6\n1 1\n255\n", "image/x-portable-pixmap"),
        ("labels.csv", b"path,label\n", "text/csv"),
        ("classes.json", b"{}", "application/json"),
        ("damaged.jpg", b"nothing", "application/octet-stream"),
        ("empty.jpg", b"", "application/octet-stream"),
        ("model.tar.gz", b"\x1f\x8b", "application/gzip"),
    ],
)
def test_an_object_has_its_content_type(
    moto_target: Target, tmp_path: Path, name: str, data: bytes, kind: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_bytes(data)
    s3 = moto_target.client("s3")
    upload_files(s3, scan_folder(tmp_path / "x"), "bucket", "t/")
    assert s3.head_object(Bucket="bucket", Key=f"t/{name}")["ContentType"] == kind


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="empty: found no files"):
        scan_folder(tmp_path / "empty")
    with pytest.raises(UserError, match="not a folder"):
        scan_folder(tmp_path / "nowhere")


def test_a_socket_is_not_a_file(photos: Path) -> None:
    os.mkfifo(photos / "pipe")
    with pytest.raises(UserError, match="pipe: neither a file nor a folder"):
        scan_folder(photos)
