"""The command ``python -m serving.server``."""

import os
import sys

from data.cli.config import run_command
from serving.server.supervisor import ServerConfig, serve

if __name__ == "__main__":
    run_command(ServerConfig, serve)
    # All is closed; to tear down what was imported takes a busy machine seconds, and a supervisor waits.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
