"""The command ``python -m serving.client``."""

from data.cli.config import run_command
from serving.client.cli import ClientConfig, run

if __name__ == "__main__":
    run_command(ClientConfig, run)
