#!/bin/sh
# Installs what tests run from Python into a virtual environment of its own: the published client of
# the REST API, `safetensors`, which opens the weight files, Segment's library, and moto, which plays
# Kinesis. Usage: Tests/Clients/install.sh [folder]   (default .build/clients/python)
set -eu
cd "$(dirname "$0")/../.."
folder="${1:-.build/clients/python}"
if [ -x "$folder/bin/python" ] && "$folder/bin/python" -c 'import shaped, safetensors, numpy, segment.analytics, moto.server, boto3' 2>/dev/null; then
  echo "The client is installed in $folder."
  exit 0
fi
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check shaped==2.0.82 safetensors numpy \
  segment-analytics-python==2.4.0 'moto[server]==5.2.1'
echo "Installed the client in $folder."
