import os
from pathlib import Path

import pytest

from serve.errors import BadRequest, one_line
from serve.models import folders
from serve.models.folders import model_folder
from tests.unit.serve.artifacts import write_artifact


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "models" / "one" / "model")
    write_artifact(tmp_path / "secret")
    return tmp_path / "models"


def refused(root: Path, url: str) -> str:
    with pytest.raises(BadRequest) as refusal:
        model_folder(root, url)
    assert refusal.value.status == 400
    message = str(refusal.value)
    assert "\n" not in message
    return message


def test_a_folder_below_the_root_is_found(root: Path) -> None:
    assert model_folder(root, f"{root}/one/model") == root / "one" / "model"
    assert model_folder(root, f"{root}//one/./model/") == root / "one" / "model"


def test_the_root_may_be_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    for url in (f"{linked}/one/model", f"{root}/one/model"):
        assert model_folder(linked, url) == linked / "one" / "model"


@pytest.mark.parametrize(
    "url",
    [
        "{root}",
        "{root}/",
        "{root}/..",
        "{root}/../secret",
        "{root}/one/../../secret",
        "{root}/one/model/../model",
        "{root}-other/model",
        "/etc",
        "one/model",
        "../secret",
        "file://{root}/one/model",
        "s3://bucket/one.tar.gz",
        "{root}/one/model/model.json",
        "{root}/none",
        "{root}/one/model\0",
        "{root}/one\nmodel",
        "{root}/" + "long" * 1000,
        "{root}/" + "deep/" * 150,
    ],
)
def test_any_other_url_is_refused_without_disclosing_paths(root: Path, url: str) -> None:
    sent = url.replace("{root}", str(root))
    message = refused(root, sent)
    assert message.startswith("url: found ")
    assert str(root) not in message.replace(one_line(sent), "")


def test_the_existence_of_outside_files_is_not_disclosed(root: Path) -> None:
    there, absent = f"{root}/../secret", f"{root}/../nothing"
    assert refused(root, there).replace(there, "") == refused(root, absent).replace(absent, "")


@pytest.mark.parametrize("place", ["one/linked", "linked/model", "linked"])
def test_links_in_the_path_of_a_model_are_refused(root: Path, place: str) -> None:
    link = root / place
    if place == "linked/model":
        link = root / "linked"
        (root.parent / "outer").mkdir()
        write_artifact(root.parent / "outer" / "model")
        link.symlink_to(root.parent / "outer")
    else:
        link.symlink_to(root.parent / "secret")
    assert refused(root, f"{root}/{place}").startswith("url: found ")


@pytest.mark.parametrize(
    "name", ["model.json", "model.safetensors", "openvino/model.bin", "extra", "openvino"]
)
def test_links_within_a_model_are_refused(root: Path, name: str) -> None:
    model = root / "one" / "model"
    if (model / name).is_dir():
        (model / name).rename(model.parent / "moved")
    else:
        (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(root.parent / "secret" / name)
    message = refused(root, str(model))
    assert name in message
    assert "symbolic link" in message
    assert "secret" not in message


def test_a_pipe_within_a_model_is_refused_without_being_opened(root: Path) -> None:
    model = root / "one" / "model"
    (model / "model.json").unlink()
    os.mkfifo(model / "model.json")
    assert "special file" in refused(root, str(model))


def test_a_model_of_too_many_files_or_too_large_a_description_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = root / "one" / "model"
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    assert "at most 3 files" in refused(root, str(model))
    monkeypatch.undo()
    with (model / "model.json").open("ab") as file:
        file.truncate(17 << 20)
    assert "at most 16,777,216" in refused(root, str(model))
