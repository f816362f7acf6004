"""A real S3 endpoint on loopback: moto's server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deferred import Deferred

boto3 = Deferred("boto3")
ThreadedMotoServer = Deferred("moto.server:ThreadedMotoServer")
BUCKET = "team"
# boto3 asks for some, moto takes any.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Endpoint:
    """A running server with one empty bucket.

    Attributes:
        url: of the server.
    """

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def object_names(self) -> list[str]:
        """The names of all objects."""
        listed = client(self.url).list_objects_v2(Bucket=BUCKET)
        return sorted(each["Key"] for each in listed.get("Contents", []))


def client(url: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - boto3 makes its classes at run time
    """A client of the server."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )


@contextmanager
def s3_endpoint() -> Iterator[Endpoint]:
    """Serve S3 on loopback for the duration of a block."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log every request
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = Endpoint(f"http://{host}:{port}")
        client(endpoint.url).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()
