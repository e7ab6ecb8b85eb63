"""S3 locations in requests."""

from dataclasses import dataclass


class BadLocation(Exception):
    """A string is not an S3 URI; the message is one line with what was found."""


@dataclass(frozen=True)
class Location:
    """A bucket and a key or key prefix; the key may be empty."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> "Location":
        """Parse `s3://bucket/key`.

        Raises:
            BadLocation: it has another form.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise BadLocation(f"found {uri!r}, expected s3://bucket/prefix")
        return cls(bucket, key)

    def __truediv__(self, name: str) -> "Location":
        """The location `name` below this one."""
        return Location(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))

    def __str__(self) -> str:
        """The URI."""
        return f"s3://{self.bucket}/{self.key}"
