"""Both servers, each started once for all attacks, with a small trained and registered model."""

import pytest

from tests.attacks.support import Server
from tests.project import ProductionServer


@pytest.fixture(scope="session")
def production_server(production_server: ProductionServer) -> Server:
    """A running production server with two workers and an inference log."""
    return Server("production", production_server.url)


@pytest.fixture(scope="session")
def mlflow_scoring_server(mlflow_server_url: str) -> Server:
    """A running ``mlflow models serve``."""
    return Server("mlflow", mlflow_server_url)


@pytest.fixture(params=["production_server", "mlflow_scoring_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def servers(production_server: Server, mlflow_scoring_server: Server) -> tuple[Server, Server]:
    """Both servers, for bodies that take longer to make than to send."""
    return production_server, mlflow_scoring_server
