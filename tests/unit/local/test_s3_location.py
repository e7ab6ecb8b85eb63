import pytest

from local.s3_location import BadLocation, Location


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://b/a/c", "b", "a/c"),
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/a/", "b", "a/"),
    ],
)
def test_a_uri_is_a_bucket_and_a_key(uri: str, bucket: str, key: str) -> None:
    assert Location.parse(uri) == Location(bucket, key)


@pytest.mark.parametrize("uri", ["", "b/a", "file:///a", "s3:///a", "https://b/a"])
def test_anything_else_is_refused_and_named(uri: str) -> None:
    with pytest.raises(BadLocation, match="expected s3://bucket/prefix"):
        Location.parse(uri)


@pytest.mark.parametrize("uri", ["s3://b/a", "s3://b/a/"])
def test_a_location_below_is_joined_by_one_slash(uri: str) -> None:
    assert str(Location.parse(uri) / "c") == "s3://b/a/c"


def test_a_location_below_a_bucket() -> None:
    assert str(Location("b", "") / "c") == "s3://b/c"
