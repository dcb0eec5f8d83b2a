# Needs Python 3.11, make and a package registry; everything else is installed in .venv.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPARK_READY := $(VENV)/.ready-spark
UV_VERSION := $(shell sed -n 's/^    "uv==\(.*\)",$$/\1/p' pyproject.toml)

SOURCE ?= auto
ARGUMENTS ?=

# The activated environment, for every command below: MLflow finds uvicorn on PATH. Neither MLflow nor Streamlit sends usage data.
# CURDIR, because abspath splits a path with spaces.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export MLFLOW_DISABLE_TELEMETRY := true
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false
# Without compiled bytecode `import mlflow` takes twice as long where Python cannot write it.
export UV_COMPILE_BYTECODE := 1
export UV_NO_PROGRESS := 1

# Entry points take the dataset as a parameter; servers and the app take it from the environment.
DATASET = $(if $(KOBE_SHOT_DATASET),-P dataset="$(KOBE_SHOT_DATASET)")

# `mlflow run` waits four minutes for an unavailable tracking server, and creates a new store from an empty file.
CHECK_STORE = case "$$MLFLOW_TRACKING_URI" in ""|sqlite:*|file:*|/*) ;; *) python -m serving.registry.reachability ;; esac; \
	if [ -z "$$MLFLOW_TRACKING_URI" ] && [ -e mlflow.db ] && [ ! -s mlflow.db ]; then \
		echo "Expected the database of an MLflow store in mlflow.db; found an empty file (0 bytes). Restore a copy of it," \
			"or move it away to start with an empty store." >&2; exit 1; fi

.DEFAULT_GOAL := help
.PHONY: help env main test test-slow lint docs format bench bench-serving bench-monitor bench-groups bench-pages serve monitor ui lock clean
.PHONY: docs-site entrega retrain approve roll-back verify relocate history operation spark sbom audit bench-loop bench-preparation bench-scale fuzz mutation

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make main SOURCE=FOLDER takes the raw files from a folder; ARGUMENTS='-P models=lr,ada' passes parameters."

env: $(READY) ## Build the environment in .venv

$(READY): pyproject.toml uv.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Expected Python 3.11; found $$("$(PYTHON)" --version 2>&1) at $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv.txt
	@echo "Building $(VENV): 2 GB, about a minute with a fast registry"
	$(BIN)/uv sync --frozen --quiet --python $(BIN)/python
	@touch $@

spark: $(SPARK_READY) ## Add Spark to the environment, for engine=spark (needs Java 17)

$(SPARK_READY): $(READY)
	@echo "Adding PySpark to $(VENV): 470 MB"
	$(BIN)/uv sync --frozen --quiet --extra spark --python $(BIN)/python
	@touch $@

main: env ## Acquire, prepare, train, register, serve, score, monitor and report (SOURCE=auto)
	@$(CHECK_STORE)
	mlflow run . -e main --env-manager local $(DATASET) -P source="$(SOURCE)" $(ARGUMENTS)

entrega: export ALUNO := $(value ALUNO)
entrega: export DISCIPLINA := $(value DISCIPLINA)
entrega: export PROFESSOR := $(value PROFESSOR)

entrega: env ## Write the report to hand in to docs/entrega: Markdown, HTML, images, PDF (ALUNO='Ana Lima' DISCIPLINA=... PROFESSOR=...)
	@$(CHECK_STORE)
	@[ -n "$$MLFLOW_TRACKING_URI" ] || [ -e mlflow.db ] || $(MAKE) main
	mlflow run . -e relatorio --env-manager local $(DATASET) -P out=docs/entrega -P screenshots=yes \
		-P aluno="$$ALUNO" -P disciplina="$$DISCIPLINA" -P professor="$$PROFESSOR" $(ARGUMENTS)
	@echo "To hand in: git add docs/entrega && git commit -m 'Entrega' && git push"

# Threads of OpenMP that wait for a core spin: with three workers on two cores LightGBM takes three times as long.
test test-slow: export OMP_NUM_THREADS := 1

# Each worker and each command that a test starts imports the project, also where Python may not keep what it compiles.
COMPILE = python -m compileall -q data serving monitor steps

test: spark ## Run the tests, except the long ones
	@$(COMPILE)
	python -m pytest -n 3 --dist worksteal -m "not slow" $(ARGUMENTS)

test-slow: spark ## Run the long tests: kills, outages, both engines through the commands, the tour, the services of a deployment
	@$(COMPILE)
	python -m pytest -n 2 --dist worksteal -m slow $(ARGUMENTS)

lint: env ## Check style, types, and the files of the deployment and of CI
	ruff format --check .
	ruff check .
	mypy
	mypy --platform darwin --cache-dir .mypy_cache/darwin data serving monitor steps deploy
	check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml docs/retrain.workflow.yml
	hadolint deploy/Dockerfile

docs: env ## Generate MLproject, docs/parameters.md, docs/environment-variables.md and docs/openapi.json
	python -m tools.parameters
	python -m tools.environment_variables
	python -m tools.openapi

docs-site: env ## Build the pages of docs/ as a site in .site/html (Zensical, in an environment of its own); a warning is an error
	UV_PROJECT_ENVIRONMENT=.venv-docs $(BIN)/uv sync --frozen --quiet --only-group docs --python "$(PYTHON)"
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" "$(CURDIR)/$(BIN)/python" -m tools.site

format: env ## Format the code
	ruff format .
	ruff check --fix .

bench: env ## Measure durations of the steps and peak memory of main (SOURCE=FOLDER)
	python -m bench.main --source "$(SOURCE)" $(ARGUMENTS)

bench-serving: env ## Compare both servers with FastAPI, BentoML and the stock flavor (after make main)
	python -m bench.serving $(ARGUMENTS)

fuzz: env ## Send 200,000 malformed bodies to each server (after make main)
	python -m bench.fuzz $(ARGUMENTS)

mutation: env ## Measure which changes of the modules that decide no test notices (ARGUMENTS='--sample 100')
	$(BIN)/uv sync --frozen --quiet --inexact --group mutation --python $(BIN)/python
	python -m bench.mutation $(ARGUMENTS)

bench-pages: env ## Measure the time until the pages of the monitor show their results (after make main)
	python -m bench.pages $(ARGUMENTS)

bench-groups: env ## Measure what groups, such as games, change in intervals, the gate and drift thresholds
	python -m bench.groups $(ARGUMENTS)

bench-monitor: env ## Measure false-positive rates of the alarms, power, and interval coverage (after make main)
	python -m bench.monitor $(ARGUMENTS)

serve: env ## Serve the champion on 127.0.0.1; reloads on promotion (PORT=5001 WORKERS=2 OUTPUT=label)
	python -m serving.server --port $(or $(PORT),5001) --workers $(or $(WORKERS),2) $(if $(OUTPUT),--output $(OUTPUT))

monitor: env ## Open the monitor on 127.0.0.1 (PORT=8501)
	streamlit run monitor/app.py --server.address 127.0.0.1 --server.port $(or $(PORT),8501)

ui: env ## Open the MLflow UI on 127.0.0.1 (PORT=5000)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --host 127.0.0.1 --port $(or $(PORT),5000)

retrain: env ## Decide whether to retrain, and if so train, compare and promote (ARGUMENTS='-P mode=dry_run')
	@$(CHECK_STORE)
	mlflow run . -e retreino --env-manager local $(DATASET) $(ARGUMENTS)

approve: env ## Approve or reject the version that waits for it (ARGUMENTS='-P decision=reject -P reason=...')
	@$(CHECK_STORE)
	mlflow run . -e aprovar --env-manager local $(DATASET) $(ARGUMENTS)

roll-back: env ## Restore the previous champion (ARGUMENTS='-P version=2 -P reason=...')
	@$(CHECK_STORE)
	mlflow run . -e reverter --env-manager local $(DATASET) $(ARGUMENTS)

verify: env ## Compare the files of every registered version with the registry (ARGUMENTS='--record 3' records those of 0.1.0)
	python -m serving.registry.verify $(ARGUMENTS)

relocate: env ## Update the paths in the store of a moved or copied project; every command does so too
	python -m serving.registry.relocation

history: env ## Show champions and decisions (ARGUMENTS='--limit 50')
	python -m monitor.retraining.history $(ARGUMENTS)

operation: env ## Backtest the retraining policy vs. never and always retraining (SOURCE=auto)
	@$(CHECK_STORE)
	mlflow run . -e operacao --env-manager local $(DATASET) -P source="$(SOURCE)" $(ARGUMENTS)

bench-loop: env ## Measure how often worse, equal and better challengers are promoted (after make main)
	python -m bench.loop $(ARGUMENTS)

bench-preparation: spark ## Measure rows/s and peak memory of the preparation (ARGUMENTS='--before CHECKOUT')
	python -m bench.preparation $(ARGUMENTS)

bench-scale: spark ## Measure rows/s and peak memory from 1 to 50 million rows, both engines (SOURCE=FOLDER)
	python -m bench.scale --source "$(SOURCE)" $(ARGUMENTS)

sbom: env ## Write sbom.json, the bill of materials of the run-time environment (CycloneDX)
	python -m tools.sbom

audit: env ## Query the advisory service for the packages of requirements.txt
	python -m tools.audit

lock: env ## Resolve the dependencies and write uv.lock, requirements.txt and conda.yaml
	uv lock
	python -m tools.environment_files

clean: ## Remove the environment and caches; keeps data, runs and models
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
