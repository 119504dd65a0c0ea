"""An S3 server of this machine, with a bucket."""

import boto3
import pytest
from moto.server import ThreadedMotoServer


class Store:
    """An S3 server that can go away; what it holds stays in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = ThreadedMotoServer(port=0, verbose=False)
        self.server.start()
        host, self.port = self.server.get_host_and_port()
        settings = {"ENDPOINT_URL": f"http://{host}:{self.port}", "DEFAULT_REGION": "us-east-1"}
        settings |= {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
        for name, value in settings.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="sweeps")

    def go_away(self) -> None:
        self.server.stop()

    def come_back(self) -> None:
        self.server = ThreadedMotoServer(port=self.port, verbose=False)
        self.server.start()
