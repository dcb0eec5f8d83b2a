"""Generation of ``docs/environment-variables.md``: ``python -m tools.environment_variables``.

The limits of the servers and the settings of DuckDB come from the code; the others are described here, and a test finds
every variable of the code in the page.
"""

import os
import re
from dataclasses import fields

from data.cli.console import info
from data.paths import ROOT
from data.storage import duckdb
from data.storage.files import write_text
from monitor import alerts
from serving.server_limits import PREFIX, Limits

PAGE = ROOT / "docs" / "environment-variables.md"
EXAMPLE = ROOT / "deploy" / ".env.example"

PROJECT = {
    "KOBE_SHOT_MODEL": ("every command", "`kobe_shot`", "name of the registered model; two models share a store"),
    "KOBE_SHOT_DATASET": (
        "servers, monitor",
        "the dataset of the command",
        "description of the dataset, a name or a TOML file",
    ),
    "KOBE_SHOT_OUTPUT": (
        "both servers",
        "`records`",
        "form of predictions for requests without one: `label`, `probability`, `probabilities`",
    ),
    "KOBE_SHOT_COMPILED": (
        "both servers",
        "`on`",
        "`off` scores single rows with scikit-learn's pipeline, not with its compiled form",
    ),
    "KOBE_INFERENCE_LOG": (
        "servers, monitor, scheduler",
        "SQLite in the project",
        "SQLAlchemy URL of the inference log; `off` writes none",
    ),
    "KOBE_ENDPOINT": ("monitor", "`http://127.0.0.1:5001`", "server that the Playground requests predictions from"),
    "KOBE_LOCK_WAIT_SECONDS": ("commands that write", "by command", "seconds to wait for another process that writes"),
}
"""Where each variable of the project is used, its default, and its meaning."""

ALERTS = {
    "WEBHOOK": "URL that alerts of the status are posted to",
    "EMAIL": "recipients, separated by commas",
    "SMTP_HOST": "mail server",
    "SMTP_PORT": "its port",
    "SMTP_USER": "its account, if it requires one",
    "SMTP_PASSWORD": "password of the account",
    "SENDER": "sender of the e-mail",
    "FROM_STATUS": "the least severe status that is reported: `warning` or `retraining recommended`",
    "LINK": "URL of the monitor, for the message",
}
"""Settings of alerts, after their prefix."""

DUCKDB = {
    "MEMORY_LIMIT": ("`1GB`", "memory of DuckDB; the process needs about 0.4 GB more"),
    "THREADS": ("the number of cores", "threads of DuckDB"),
    "TEMPORARY_FOLDER": ("the folder of the output", "existing folder for what does not fit into memory"),
}
"""Default and meaning of the settings of DuckDB, after their prefix."""

DEPLOYMENT = {
    "KOBE_VERSION": "tag of the images",
    "KOBE_BIND": "IP address of the machine that ports are published on",
    "KOBE_MODEL_PORT": "port of the production server",
    "KOBE_MONITOR_PORT": "port of the monitor",
    "KOBE_SOURCE": "source of the shots of the first model",
    "KOBE_SCHEDULE": "cron expression or interval of the scheduler",
    "KOBE_WORKERS": "workers of the production server",
}
"""Variables of ``deploy/.env``."""

OTHERS = {
    "MLFLOW_TRACKING_URI": "store of runs, or URL of a tracking server",
    "MLFLOW_REGISTRY_URI": "store of registered models, if it is another one",
    "MLFLOW_TRACKING_USERNAME": "account on a tracking server",
    "MLFLOW_TRACKING_PASSWORD": "password of the account",
    "MLFLOW_EXPERIMENT_NAME": "experiment of `mlflow run`, instead of the dataset's",
    "MLFLOW_EXPERIMENT_ID": "the same, by id",
    "MLFLOW_DISABLE_TELEMETRY": "`true` sends no usage data; `make` and the steps set it",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "seconds per request to a tracking server",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "attempts after the first",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "wait between attempts",
    "MLFLOW_BACKEND_STORE_URI": "store of a tracking server that you start",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "host names that a tracking server responds to",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "`false` starts no job workers; `make ui` sets it",
    "MLFLOW_AUTH_CONFIG_PATH": "accounts of a tracking server",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "first password of its admin",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "key of its sessions",
    "PGHOST": "server of PostgreSQL",
    "PGPORT": "its port",
    "PGUSER": "account in PostgreSQL",
    "PGPASSWORD": "its password",
    "PGCONNECT_TIMEOUT": "seconds to connect; 5 by default",
    "JAVA_HOME": "Java of Spark",
    "SPARK_LOCAL_DIRS": "folder of Spark's temporary files",
    "PYSPARK_PYTHON": "Python of Spark's workers; the steps set it",
    "PYSPARK_DRIVER_PYTHON": "Python of Spark's driver; the steps set it",
    "PYSPARK_SUBMIT_ARGS": "options of Spark",
    "OMP_WAIT_POLICY": "`ACTIVE` lets waiting threads of LightGBM and scikit-learn spin; the project sets `PASSIVE`",
    "OMP_NUM_THREADS": "threads of LightGBM and scikit-learn; 1 with several processes on few cores",
    "XDG_STATE_HOME": "folder of the locks between processes; `~/.local/state` by default",
    "XDG_RUNTIME_DIR": "folder of the server's sockets",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "`false` sends no usage data; the project's configuration sets it",
    "STREAMLIT_SERVER_ADDRESS": "IP address that the app listens on; 127.0.0.1 by default",
}
"""Variables of other tools that the project reads or sets."""

_HEAD = """\
<!-- Generated by `python -m tools.environment_variables`; do not edit. -->

# Environment variables

Parameters of commands come from the command line only ([parameters.md](parameters.md)). Environment variables name what
is the same for several commands: the store, the registered model, accounts, limits. An invalid value raises an error
before any work. A variable that ends with `_FILE` names a file with the value (`deploy/with_secrets.py`): a secret is
then in no command line.
"""


def render() -> str:
    """Render the page."""
    lines = [_HEAD, "## The project", "", "| variable | read by | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {' | '.join(row)} |" for name, row in PROJECT.items()]
    lines += [
        "",
        "## Alerts",
        "",
        "When they are sent: [metrics-and-alerts.md](metrics-and-alerts.md#alerts-of-the-status).",
        "",
    ]
    lines += ["| variable | default | meaning |", "|---|---|---|"]
    for name, meaning in ALERTS.items():
        default = alerts.AlertSettings.model_fields[name.lower()].default
        lines.append(f"| `{alerts.PREFIX}{name}` | {f'`{default}`' if default else 'none'} | {meaning} |")
    lines += [
        "",
        "## Limits of the servers",
        "",
        "For one process, unless stated otherwise ([serving.md](serving.md)).",
        "",
    ]
    lines += ["| variable | default | meaning |", "|---|---|---|"]
    for limit in fields(Limits):
        unit, meaning = limit.metadata["unit"], limit.metadata["meaning"]
        lines.append(f"| `{PREFIX}{limit.name.upper()}` | {limit.default:,} {unit} | {meaning} |")
    lines += [
        "",
        "## DuckDB",
        "",
        "Resources of the local engine ([scale.md](scale.md)); no result depends on them.",
        "",
    ]
    lines += ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{duckdb.PREFIX}{name}` | {' | '.join(row)} |" for name, row in DUCKDB.items()]
    lines += ["", "## Deployment", "", "In the file `.env` of `deploy` ([deployment.md](deployment.md)).", ""]
    lines += ["| variable | default | meaning |", "|---|---|---|"]
    defaults = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines += [f"| `{name}` | `{defaults[name]}` | {meaning} |" for name, meaning in DEPLOYMENT.items()]
    lines += ["", "## Other tools", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in OTHERS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    write_text(render(), PAGE)
    info("wrote", os.path.relpath(PAGE))


if __name__ == "__main__":
    main()
