#!/bin/sh
# Create the roles and databases of the services. PostgreSQL's image runs this once, when its volume is empty; elsewhere
# run it as the database's superuser with $SECRETS, the folder that make-secrets.sh created.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"
for name in mlflow_database_password inference_log_password; do
    if ! [ -s "$SECRETS/$name" ]; then
        echo "expected a secret in $SECRETS/$name; found none. Nothing was made. Set SECRETS to the folder that" \
            "make-secrets.sh has made." >&2
        exit 1
    fi
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<'SQL'
\set mlflow_password `cat "$SECRETS/mlflow_database_password"`
\set inference_log_password `cat "$SECRETS/inference_log_password"`
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE ROLE inference_log LOGIN PASSWORD :'inference_log_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE inference_log OWNER inference_log;
REVOKE CONNECT ON DATABASE postgres, mlflow, mlflow_auth, inference_log FROM PUBLIC;
SQL
