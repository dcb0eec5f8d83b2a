"""What a scoring server reports about itself."""

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import mlflow
import pytest

from serving.client.probe import EndpointInfo, endpoint_info
from tests.project import ProductionServer, free_port


def test_the_production_server_reports_its_version_and_since_when(production_server: ProductionServer) -> None:
    found = endpoint_info(f"{production_server.url}/invocations")
    assert found is not None
    assert (found.url, found.version, found.mlflow) == (production_server.url, "1", mlflow.__version__)
    assert found.since is not None
    assert time.time() - found.since.timestamp() < 3_600


def test_the_mlflow_server_reports_no_version_of_the_model(mlflow_server_url: str) -> None:
    found = endpoint_info(mlflow_server_url)
    assert found == EndpointInfo(mlflow_server_url, None, None, mlflow.__version__, None)


@pytest.mark.parametrize("url", ["", "foo", "http://", "http://["])
def test_where_no_server_can_respond_there_is_no_endpoint(url: str) -> None:
    assert endpoint_info(url) is None
    assert endpoint_info(f"http://127.0.0.1:{free_port()}") is None


def test_another_kind_of_server_is_no_endpoint() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert endpoint_info(f"http://127.0.0.1:{server.server_port}") is None
        server.shutdown()
