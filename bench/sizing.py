"""Number of machines for a load, from the measured results of ``docs/benchmarks.md``.

``python -m bench.sizing --shots_per_day 1000000 --requests_per_second 1000`` prints the table of
``docs/many-machines.md``.
"""

import math
import re

from pydantic import Field

from data.cli.config import CommandConfig, run_command
from data.cli.console import console
from data.paths import ROOT

BENCHMARKS = ROOT / "docs" / "benchmarks.md"
_DAY = 86_400
_MIN_INSTANCES = 2


class SizingConfig(CommandConfig):
    """Compute how many servers and cores a load needs."""

    shots_per_day: int = Field(default=1_000_000, ge=1, description="rows that are scored per day, at any time of it")
    requests_per_second: int = Field(default=1_000, ge=1, description="requests of one row at the busiest time")
    utilization: float = Field(
        default=0.5, gt=0, le=1, description="share of the measured throughput that is planned for"
    )


def measured() -> dict[str, float]:
    """Requests per second of one worker, and rows per second of a batch, as the page of benchmarks has them."""
    text = BENCHMARKS.read_text(encoding="utf-8")
    worker = re.search(r"^\| production server, 1 worker \| [^|]+ \| ([\d,]+) \|", text, flags=re.MULTILINE)
    batch = re.search(r"^\| `mode=batch` \| ([\d,]+) \(", text, flags=re.MULTILINE)
    table = re.search(r"^\| production server, 1 worker \|(?:[^|]+\|){3} ([\d,]+) \|", text, flags=re.MULTILINE)
    found = {"requests": worker, "batch": batch, "rows": table}
    if missing := [name for name, match in found.items() if match is None]:
        message = (
            f"{BENCHMARKS}: expected the results of the production server and of mode=batch; found none of {missing}"
        )
        raise ValueError(message)
    return {name: float(match[1].replace(",", "")) for name, match in found.items() if match}


def table(config: SizingConfig) -> str:
    """The table of the page, as Markdown."""
    speed = measured()
    workers = math.ceil(config.requests_per_second / (speed["requests"] * config.utilization))
    average = config.shots_per_day / _DAY
    seconds = config.shots_per_day / (speed["rows"] * config.utilization)
    batch = config.shots_per_day / (speed["batch"] * config.utilization)
    share = config.requests_per_second / (speed["requests"] * max(workers, _MIN_INSTANCES))
    instances = max(workers, _MIN_INSTANCES)
    needed = f"{workers} worker{'s' if workers > 1 else ''} of one core; {instances} instances, so that one may fail"
    shots = f"{config.shots_per_day:,} rows"
    rows = [
        (
            "one-row requests",
            f"{config.requests_per_second:,} requests/s",
            f"{needed}, use {share:.0%} of their maximum",
        ),
        ("the same shots, evenly over the day", f"{average:.1f} rows/s", "the same instances"),
        ("the same shots, once a day over REST", shots, f"{seconds:.0f} s of one worker"),
        ("the same shots, once a day with `mode=batch`", shots, f"{batch:.0f} s of one machine"),
    ]
    lines = ["| load | rate | needs |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def run(config: SizingConfig) -> None:
    """Print the table."""
    console.print(table(config), markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(SizingConfig, run)
