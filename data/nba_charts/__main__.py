"""The command ``python -m data.nba_charts``."""

from data.cli.config import run_command
from data.nba_charts.chart import ShotChartConfig, run

if __name__ == "__main__":
    run_command(ShotChartConfig, run)
