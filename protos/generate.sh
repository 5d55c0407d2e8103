#!/bin/sh
# Writes rlforge/wire/pb and docs/reference/wire.md from protos/. The compiler is an old one on purpose: what it writes asks for no runtime of its
# own age, so it runs on every protobuf from 4.25 on, the oldest that vLLM admits and the newest alike.
set -eu
cd "$(dirname "$0")/.."
TOOLS=.venv-protos
OUT=rlforge/wire/pb
if [ ! -x $TOOLS/bin/python ]; then
  "${PYTHON:-python3.11}" -m venv $TOOLS
  $TOOLS/bin/python -m pip install --quiet --disable-pip-version-check "grpcio-tools==1.62.3" "setuptools<81"
fi
mkdir -p $OUT
rm -f $OUT/*_pb2*
$TOOLS/bin/python -W ignore -m grpc_tools.protoc -I protos \
  --python_out=$OUT --pyi_out=$OUT --grpc_python_out=$OUT protos/rlforge/v1/*.proto
mv $OUT/rlforge/v1/* $OUT/ && rm -r $OUT/rlforge
sed -i.bak 's/^from rlforge\.v1 import/from rlforge.wire.pb import/' $OUT/*_pb2* && rm -f $OUT/*.bak
$TOOLS/bin/python protos/reference.py
