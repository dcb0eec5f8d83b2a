"""Both servers, each started once for all attacks, with a small trained and registered model."""

import pytest

from tests.attacks.support import Server
from tests.project import Operated


@pytest.fixture(scope="session")
def production_server(operated_door: Operated) -> Server:
    """A running production server with two workers and an inference log."""
    return Server("production", operated_door.address)


@pytest.fixture(scope="session")
def mlflow_scoring_server(front_door: str) -> Server:
    """A running ``mlflow models serve``."""
    return Server("mlflow", front_door)


@pytest.fixture(params=["production_server", "mlflow_scoring_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def servers(production_server: Server, mlflow_scoring_server: Server) -> tuple[Server, Server]:
    """Both servers, for bodies that take longer to make than to send."""
    return production_server, mlflow_scoring_server
