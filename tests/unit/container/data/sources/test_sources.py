import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from container.data.index import Index
from container.data.sources import SOURCES, Cifar10, Digits, Dogs, Folder
from container.data.sources.__main__ import main
from container.errors import DataError
from container.images.decode import decode
from tests.unit.container.data.sources.conftest import FileServer


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("digits") / "dest"
    Digits(seed=0).write(dest)
    return dest


class TestDigits:
    def test_every_digit_is_in_one_split(self, digits: Path) -> None:
        splits = {split: Index.from_folder(digits / split) for split in
                  ("train", "validation", "test")}  # fmt: skip
        counts = {split: len(index) for split, index in splits.items()}
        assert sum(counts.values()) == 1797
        assert abs(counts["validation"] - 270) < 5
        assert abs(counts["test"] - 270) < 5
        names = [path.split("/")[1] for index in splits.values() for path in index.paths]
        assert len(set(names)) == 1797
        for index in splits.values():
            assert index.classes == tuple("0123456789")
            assert index.counts().min() > 20

    def test_images_are_32_by_32_and_use_the_whole_range(self, digits: Path) -> None:
        index = Index.from_folder(digits / "test")
        pixels = np.stack([decode(index.read(at)) for at in range(len(index))])
        assert pixels.shape[1:] == (32, 32, 3)
        assert (pixels.min(), pixels.max()) == (0, 255)

    def test_the_seed_chooses_the_splits(self, digits: Path, tmp_path: Path) -> None:
        Digits(seed=1).write(tmp_path / "other")
        assert files(tmp_path / "other") != files(digits)


class TestCifar10:
    def make(self, path: Path, members: dict[str, bytes]) -> Path:
        with tarfile.open(path, "w:gz") as bundle:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))
        return path

    def test_a_tar_of_class_folders(
        self, tmp_path: Path, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> None:
        data = encoded(picture(32, 32))
        archive = self.make(
            tmp_path / "c.tar.gz", {"cifar10/train/cat/0.jpg": data, "cifar10/test/dog/1.jpg": data}
        )
        Cifar10(archive).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == ["test/dog/1.jpg", "train/cat/0.jpg"]

    def test_the_official_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchvision.datasets import CIFAR10

        pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        content = {"data": pixels.reshape(4, -1), "labels": [0, 1, 1, 0]}
        batches = {"data_batch_1": content, "test_batch": content}
        batches["batches.meta"] = {"label_names": ["cat", "dog"]}
        members = {
            f"cifar-10-batches-py/{name}": pickle.dumps(batch) for name, batch in batches.items()
        }
        archive = self.make(tmp_path / "official.tar.gz", members)
        with pytest.raises(DataError, match=r"found MD5 \w+, expected c58f3010\w+, the official"):
            Cifar10(archive).write(tmp_path / "dest")
        from torchvision.datasets.utils import calculate_md5

        monkeypatch.setattr(CIFAR10, "tgz_md5", calculate_md5(archive))
        monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
        monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
        monkeypatch.setattr(
            CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None}
        )
        Cifar10(archive).write(tmp_path / "dest")
        per_split = ["cat/00000.png", "cat/00003.png", "dog/00001.png", "dog/00002.png"]
        assert files(tmp_path / "dest") == [
            f"{split}/{name}" for split in ("test", "train") for name in per_split
        ]
        first = decode((tmp_path / "dest/train/dog/00002.png").read_bytes())
        assert np.array_equal(first, pixels[2].transpose(1, 2, 0))
        assert archive.exists()

    def test_archives_with_other_contents(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no pictures, expected"):
            Cifar10(self.make(tmp_path / "x.tar.gz", {"a.txt": b"x"})).write(tmp_path / "dest")
        (tmp_path / "y").write_bytes(b"not a tar")
        with pytest.raises(DataError, match="y: not a tar archive"):
            Cifar10(tmp_path / "y").write(tmp_path / "dest")
        with pytest.raises(DataError, match="z: not found"):
            Cifar10(tmp_path / "z").write(tmp_path / "dest")
        assert not (tmp_path / "dest").exists()


class TestDogs:
    @pytest.fixture
    def archive(
        self, tmp_path: Path, picture: Callable[..., Any], encoded: Callable[..., Any]
    ) -> Path:
        path = tmp_path / "dogImages.zip"
        data = encoded(picture(400, 600), quality=95)
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("dogImages/train/001.Affenpinscher/Affenpinscher_00001.jpg", data)
            bundle.writestr("dogImages/valid/001.Affenpinscher/Affenpinscher_00038.jpg", data)
            bundle.writestr("dogImages/test/002.Afghan_hound/Afghan_hound_00116.jpg", data)
            bundle.writestr("__MACOSX/dogImages/train/._001.Affenpinscher", b"junk")
        return path

    WRITTEN = (
        "test/002.Afghan_hound/Afghan_hound_00116.jpg",
        "train/001.Affenpinscher/Affenpinscher_00001.jpg",
        "validation/001.Affenpinscher/Affenpinscher_00038.jpg",
    )

    def test_a_given_archive_is_kept(self, archive: Path, tmp_path: Path) -> None:
        Dogs(archive).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == list(self.WRITTEN)
        assert archive.exists()

    def test_a_download_is_resumed_and_then_deleted(
        self, archive: Path, server: FileServer, tmp_path: Path
    ) -> None:
        server.content = archive.read_bytes()
        server.cuts = [1 << 15]
        Dogs(url=server.url).write(tmp_path / "new" / "dest")
        assert files(tmp_path / "new") == [f"dest/{name}" for name in self.WRITTEN]
        assert server.requests[1]["Range"] == f"bytes={1 << 15}-"

    def test_an_unsafe_archive_leaves_no_files(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("dogImages/train/a/1.jpg", b"x")
            bundle.writestr("../train/a/evil.jpg", b"x")
        with pytest.raises(DataError, match="unsafe path"):
            Dogs(path).write(tmp_path / "dest")
        assert files(tmp_path) == ["evil.zip"]

    def test_an_archive_without_photographs(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.zip"
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("readme.txt", b"x")
        with pytest.raises(DataError, match="no photographs"):
            Dogs(path).write(tmp_path / "dest")


class TestFolder:
    def test_class_folders_are_split(self, make_folder: Callable[..., Any], tmp_path: Path) -> None:
        root = make_folder({"a": 10, "b": 10})
        Folder(root, validation_split=0.25, test_split=0.2, seed=3).write(tmp_path / "dest")
        counts = {
            split: Index.from_folder(tmp_path / "dest" / split).counts().tolist()
            for split in ("train", "validation", "test")
        }
        assert counts == {"train": [6, 6], "validation": [2, 2], "test": [2, 2]}
        copied = {path.read_bytes() for path in (tmp_path / "dest").rglob("*.jpg")}
        assert copied == {path.read_bytes() for path in root.rglob("*.jpg")}

    def test_existing_splits_are_kept(
        self, make_folder: Callable[..., Any], tmp_path: Path
    ) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "val/a": 1})
        Folder(root).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == [
            "train/a/000.jpg",
            "train/a/001.jpg",
            "train/b/000.jpg",
            "train/b/001.jpg",
            "validation/a/000.jpg",
        ]

    def test_a_destination_inside_the_source(self, make_folder: Callable[..., Any]) -> None:
        root = make_folder({"a": 2, "b": 2})
        with pytest.raises(DataError, match="holds the destination"):
            Folder(root).write(root / "dest")
        assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


class TestDestination:
    def test_is_never_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(DataError, match="already there, expected a new or empty folder"):
            Digits().write(tmp_path)
        assert files(tmp_path) == ["mine.txt"]

    def test_may_be_empty(self, make_folder: Callable[..., Any], tmp_path: Path) -> None:
        (tmp_path / "dest").mkdir()
        Folder(make_folder({"a": 2, "b": 2})).write(tmp_path / "dest")
        assert len(files(tmp_path / "dest")) == 4

    def test_an_unfinished_folder_is_replaced(
        self, make_folder: Callable[..., Any], tmp_path: Path
    ) -> None:
        (tmp_path / "dest.unfinished" / "old").mkdir(parents=True)
        Folder(make_folder({"a": 2, "b": 2})).write(tmp_path / "dest")
        assert not (tmp_path / "dest.unfinished").exists()
        assert not (tmp_path / "dest" / "old").exists()


class TestCommand:
    def test_writes_and_counts(
        self, make_folder: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = make_folder({"a": 4, "b": 4})
        dest = tmp_path / "dest"
        options = ["--from", str(root), "--validation-split", "0.5"]
        assert main(["folder", str(dest), *options]) == 0
        assert capsys.readouterr().out == (
            f"{dest / 'train'}: 4 images, 2 classes\n{dest / 'validation'}: 4 images, 2 classes\n"
        )

    def test_errors_are_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["cifar10", str(tmp_path / "d"), "--archive", str(tmp_path / "none")]) == 1
        error = capsys.readouterr().err
        assert error == f"error: {tmp_path / 'none'}: not found, expected an archive\n"

    @pytest.mark.parametrize("name", SOURCES)
    def test_every_source_has_help(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert "DEST" in capsys.readouterr().out


def test_png_files_are_written_without_loss(tmp_path: Path) -> None:
    from container.data.sources.datasets import write_images

    class Pictures:
        data = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        targets: list[int] = [1, 0, 1]  # noqa: RUF012
        classes: Sequence[str] = ("cat", "dog")

    write_images(Pictures(), tmp_path / "train")
    assert files(tmp_path) == ["train/cat/00001.png", "train/dog/00000.png", "train/dog/00002.png"]
    written = np.asarray(Image.open(tmp_path / "train/dog/00002.png"))
    assert np.array_equal(written, Pictures.data[2])
