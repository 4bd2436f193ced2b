#!/usr/bin/env bash
# Runs workflows/trl-grpo.yaml with TRL in an environment of its own, made anew when the pins change.
#
#   workflows/trl/run.sh --root runs [--set updates=0 …]
#
# EVOQ names the program where it is not on the PATH; EVOQ_TRL_ENVIRONMENT is where the environment goes. torch comes from PyPI,
# with its CUDA libraries; where pip is pointed at an index of CPU wheels it takes the small one instead.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

environment="$(realpath -m "${EVOQ_TRL_ENVIRONMENT:-${HOME:-/root}/.cache/evoq/trl}")"
if ! cmp --quiet "$here/requirements.txt" "$environment/requirements.txt"; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$environment/"
fi
exec "${EVOQ:-evoq}" run "$here/../trl-grpo.yaml" --set python="$environment/bin/python" "$@"
