"""Logs of processes that run for long: each message on standard error with its time (UTC) and level."""

import logging
import time

_FORMAT, _TIME = "%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"


def log_to_stderr() -> None:
    """Log what this project reports, and the warnings of libraries, in this process and in those that it forks."""
    formatter = logging.Formatter(_FORMAT, _TIME)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("kobe_shot").setLevel(logging.INFO)
