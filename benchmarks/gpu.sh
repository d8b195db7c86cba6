#!/bin/sh
# What this project does on a GPU: is it right, and how fast? One table, in under 8 minutes.
#
#   benchmarks/gpu.sh pack IMAGES     here: IMAGES is a folder of classes (`ubench data` makes one)
#   benchmarks/gpu.sh [OPTIONS]       there: prints the table; python benchmarks/gpu.py --help
#
# There: a GPU, Python with torch, timm, transformers and scikit-learn; no network, no data folder.
# `pack` puts at most 14 MiB of images into .gpu/images, and into .gpu/wheels what this project
# needs and such a machine may lack. Copy the checkout with its .gpu folder. Without packed images
# SYNTHETIC ones are made there, and the table says so.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = pack ]; then
    .venv/bin/python benchmarks/gpu_pack.py "${2:?name a folder of classes}"
    exit
fi
more=$(mktemp -d)
trap 'rm -rf "$more"' EXIT
for wheel in .gpu/wheels/*.whl; do
    [ -e "$wheel" ] || continue
    python3 -m pip install -q --no-index --no-deps --target "$more" "$wheel" 2>/dev/null || true
done
# What lies on that machine comes first: the wheels only fill gaps.
timeout "${SECONDS_AT_MOST:-470}" env PYTHONPATH="$PWD" UBENCH_MORE="$more" \
    python3 -u benchmarks/gpu.py "$@"
