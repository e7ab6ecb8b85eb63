from pathlib import Path

import pytest

from local.errors import UserError
from local.requests.hyperparameter_files import read_hyperparameters, read_search, write_best
from local.requests.tuning import Range


def written(folder: Path, text: str) -> Path:
    path = folder / "file"
    path.write_text(text)
    return path


def test_train_reads_the_file_written_by_tune(tmp_path: Path) -> None:
    values = {"learning_rate": "0.003", "optimizer": "sgd", "freeze": "true", "name": "1e-3"}
    best = {"tuning_job": "search", "objective": {"name": "a", "value": 0.5}}
    for path in write_best(tmp_path / "new", best | {"hyperparameters": values}):
        assert read_hyperparameters(path) == values


def test_a_plain_map_of_values(tmp_path: Path) -> None:
    text = "epochs: 3\nfreeze: true\nlearning_rate: 0.003\nhead_hidden: [512, 256]\narch: vgg11\n"
    assert read_hyperparameters(written(tmp_path, text)) == {
        "epochs": "3",
        "freeze": "true",
        "learning_rate": "0.003",
        "head_hidden": "[512, 256]",
        "arch": "vgg11",
    }


def test_a_search(tmp_path: Path) -> None:
    text = (
        "ranges:\n"
        "  learning_rate: 0.001:0.1:log\n"
        "  epochs: 2:8\n"
        "  momentum: 0:0.9\n"
        "  batch_size: [32, 64]\n"
        "  head_hidden: ['512,256', '512']\n"
        "hyperparameters: {freeze: true}\n"
    )
    search = read_search(written(tmp_path, text))
    assert search.ranges == (
        Range("learning_rate", "continuous", "0.001", "0.1", "Logarithmic"),
        Range("epochs", "integer", "2", "8"),
        Range("momentum", "continuous", "0", "0.9"),
        Range("batch_size", "categorical", values=("32", "64")),
        Range("head_hidden", "categorical", values=("512,256", "512")),
    )
    assert search.hyperparameters == {"freeze": "true"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "found list, expected a map of names to values"),
        ("a: [", "neither JSON nor YAML"),
        ("", "found NoneType"),
        ("hyperparameters: 3", "expected a map of names to values"),
        ("!!python/object/apply:os.system [ls]", "neither JSON nor YAML"),
    ],
)
def test_files_without_hyperparameters(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read_hyperparameters(written(tmp_path, text))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate: 1:2", "found learning_rate, expected ranges"),
        ("ranges: {a: []}", "expected one or more values"),
        ("ranges: {a: '1,,2'}", "--range: found 'a=1,,2'"),
        ("ranges: {a: 0.1:1}\njobs: 3", "found ranges, jobs"),
    ],
)
def test_files_without_a_search(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read_search(written(tmp_path, text))
    assert words in str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such file"):
        read_hyperparameters(tmp_path / "none")


def test_a_list_may_hold_one_value(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text("ranges: {arch: [resnet18]}")
    assert read_search(path).ranges == (Range("arch", "categorical", values=("resnet18",)),)
