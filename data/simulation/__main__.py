"""The command ``python -m data.simulation``."""

from data.cli.config import run_command
from data.simulation.synthetic import SyntheticConfig, run

if __name__ == "__main__":
    run_command(SyntheticConfig, run)
