#!/bin/sh
# Make the secrets that compose.yaml mounts: random, in a folder that only you can enter. Overwrites nothing.
set -eu
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
    echo "$folder is there already: nothing was done. To make new secrets, move it away first." >&2
    exit 1
fi
umask 077
mkdir -p "$folder"
for name in database_password mlflow_database_password inference_log_password mlflow_admin_password \
    mlflow_secret_key kobe_shot_password kobe_shot_server_password; do
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$folder/$name"
    # Compose mounts the file with the owner and mode that it has here, and users of containers have other numbers;
    # on this machine the folder keeps everybody else out.
    chmod 444 "$folder/$name"
done
echo "Made $folder"
