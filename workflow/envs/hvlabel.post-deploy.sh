#!/usr/bin/env bash
# Run inside the environment: sam2 is a source archive whose build needs the installed torch; its CUDA extension is not used.
set -euo pipefail
SAM2_BUILD_CUDA=0 python -m pip install --no-build-isolation --no-deps sam2==1.1.0
