#!/bin/sh
# Create the secrets that compose.yaml mounts: random, in a folder that only you can enter. Overwrites nothing.
set -eu
here=$(dirname "$0")
folder=${1:-$here/secrets}
if [ -e "$folder" ]; then
    echo "$folder is there already: nothing was done. To make new secrets, move it away first." >&2
    exit 1
fi
umask 077
mkdir -p "$(dirname "$folder")"
made=$(mktemp -d "$folder.XXXXXX")
for name in database_password mlflow_database_password inference_log_password mlflow_admin_password \
    mlflow_secret_key kobe_shot_password kobe_shot_server_password; do
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$made/$name"
    # Compose mounts the file with its owner and mode, and users of containers have other numbers; on this machine only
    # the owner can enter the folder.
    chmod 444 "$made/$name"
done
mv "$made" "$folder"
# PostgreSQL's container runs this script as mounted, also from a clone that only you can read.
chmod a+rx "$here/databases.sh"
echo "Made $folder"
