# Needs Python 3.11, make and a package registry; everything else is put into .venv.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPARK_READY := $(VENV)/.ready-spark
UV_VERSION := $(shell sed -n 's/^    "uv==\(.*\)",$$/\1/p' pyproject.toml)

SOURCE ?= auto
ARGUMENTS ?=

# The activated environment, for every command below: MLflow finds uvicorn on PATH. Neither MLflow nor Streamlit phones home.
# CURDIR, as abspath takes a path with spaces for several.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export MLFLOW_DISABLE_TELEMETRY := true
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false
# Without compiled bytecode `import mlflow` takes twice as long wherever Python may not write it itself.
export UV_COMPILE_BYTECODE := 1
export UV_NO_PROGRESS := 1

# `mlflow run` would wait four minutes for a tracking server that is away, and makes a new store of an empty file.
ASK = case "$$MLFLOW_TRACKING_URI" in ""|sqlite:*|file:*|/*) ;; *) python -m serving.registry.reachability ;; esac; \
	if [ -z "$$MLFLOW_TRACKING_URI" ] && [ -e mlflow.db ] && [ ! -s mlflow.db ]; then \
		echo "Expected the database of an MLflow store in mlflow.db; found an empty file (0 bytes). Put a copy of it back," \
			"or move it away to begin anew with an empty store." >&2; exit 1; fi

.DEFAULT_GOAL := help
.PHONY: help env main test test-slow lint docs format bench bench-serving bench-monitor bench-pages serve monitor ui lock clean
.PHONY: retrain roll-back verify relocate history operation spark sbom audit bench-loop bench-scale fuzz

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make main SOURCE=FOLDER takes the raw files from a folder; ARGUMENTS='-P models=lr,ada' passes parameters on."

env: $(READY) ## Build the environment in .venv

$(READY): pyproject.toml uv.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Expected Python 3.11; found $$("$(PYTHON)" --version 2>&1) at $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv.txt
	@echo "Building $(VENV): 1.7 GB, about a minute with a fast registry"
	$(BIN)/uv sync --frozen --quiet --python $(BIN)/python
	@touch $@

spark: $(SPARK_READY) ## Add Spark to the environment, for engine=spark (needs Java 17)

$(SPARK_READY): $(READY)
	@echo "Adding PySpark to $(VENV): 470 MB"
	$(BIN)/uv sync --frozen --quiet --extra spark --python $(BIN)/python
	@touch $@

main: env ## Acquire, prepare, train, register, serve, apply and look (SOURCE=auto)
	@$(ASK)
	mlflow run . -e main --env-manager local -P source="$(SOURCE)" $(ARGUMENTS)

test: spark ## Run the tests, but for those that can only be long
	python -m pytest -n 3 --dist worksteal -m "not slow" $(ARGUMENTS)

test-slow: spark ## Run the long tests: kills, outages, both engines through the commands, the tour, the services of a deployment
	python -m pytest -n 2 --dist worksteal -m slow $(ARGUMENTS)

lint: env ## Check style, types and the files of the deployment
	ruff format --check .
	ruff check .
	mypy
	check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	hadolint deploy/Dockerfile

docs: env ## Write the generated pages of docs/
	python -m tools.parameters
	python -m tools.openapi

format: env ## Put the code into shape
	ruff format .
	ruff check --fix .

bench: env ## Measure stage times and peak memory of main (SOURCE=FOLDER)
	python -m bench.main --source "$(SOURCE)" $(ARGUMENTS)

bench-serving: env ## Measure both doors beside FastAPI, BentoML and the stock flavour (after make main)
	python -m bench.serving $(ARGUMENTS)

fuzz: env ## Send 200,000 broken bodies to each server (after make main)
	python -m bench.fuzz $(ARGUMENTS)

bench-pages: env ## Measure how soon the pages of the monitor show figures (after make main)
	python -m bench.pages $(ARGUMENTS)

bench-monitor: env ## Measure false alarms, power and the coverage of the estimate (after make main)
	python -m bench.monitor $(ARGUMENTS)

serve: env ## Serve the champion on 127.0.0.1, and the next champions (PORT=5001 WORKERS=2 OUTPUT=label)
	python -m serving.server --port $(or $(PORT),5001) --workers $(or $(WORKERS),2) $(if $(OUTPUT),--output $(OUTPUT))

monitor: env ## Open the monitor on 127.0.0.1 (PORT=8501)
	streamlit run monitor/app.py --server.address 127.0.0.1 --server.port $(or $(PORT),8501)

ui: env ## Open the MLflow UI on 127.0.0.1 (PORT=5000)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --host 127.0.0.1 --port $(or $(PORT),5000)

retrain: env ## Decide whether to retrain, and if so train, compare and promote (ARGUMENTS='-P mode=dry_run')
	@$(ASK)
	mlflow run . -e retreino --env-manager local $(ARGUMENTS)

roll-back: env ## Put the previous champion back (ARGUMENTS='-P version=2 -P reason=...')
	@$(ASK)
	mlflow run . -e reverter --env-manager local $(ARGUMENTS)

verify: env ## Compare the files of every registered version with the registry (ARGUMENTS='--record 3' records those of 0.1.0)
	python -m serving.registry.verify $(ARGUMENTS)

relocate: env ## Let the store of a project that was moved or copied name its own artifacts; every command does so too
	python -m serving.registry.relocation

history: env ## Show champions and decisions (ARGUMENTS='--most 50')
	python -m monitor.retraining.history $(ARGUMENTS)

operation: env ## Replay an operation with the loop, beside never and always retraining (SOURCE=auto)
	@$(ASK)
	mlflow run . -e operacao --env-manager local -P source="$(SOURCE)" $(ARGUMENTS)

bench-loop: env ## Measure how often worse, equal and better challengers are promoted (after make main)
	python -m bench.loop $(ARGUMENTS)

bench-scale: spark ## Measure rows/s and peak memory from 1 to 50 million rows, both engines (SOURCE=FOLDER)
	python -m bench.scale --source "$(SOURCE)" $(ARGUMENTS)

sbom: env ## Write sbom.json, the bill of materials of the run-time environment (CycloneDX)
	python -m tools.sbom

audit: env ## Ask the advisory service what is known against the packages of requirements.txt
	python -m tools.audit

lock: env ## Resolve anew and write uv.lock, requirements.txt and conda.yaml
	uv lock
	python -m tools.environment_files

clean: ## Remove the environment and caches; data, runs and models stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
