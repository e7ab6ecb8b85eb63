#!/bin/bash
# Make or update the virtual environment that everything runs from; `make` calls this.
#
#   docker/setup.sh VENV EXTRAS SIZES      with the Python in $PYTHON, else the first of 3.13, 3.12, 3.11
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 extras=$2 sizes=$3

needs() {
    cat >&2 <<EOF
setup: found $1
setup: needs Python 3.11, 3.12 or 3.13 with venv, and a C compiler; install them with
  Debian, Ubuntu:  sudo apt install python3 python3-venv python3-dev gcc
  Fedora:          sudo dnf install python3.13 python3.13-devel gcc
  macOS:           xcode-select --install; brew install python@3.13
or name a Python with: make setup PYTHON=/path/to/python3.13
EOF
    exit 1
}

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

echo "setup: downloads $sizes; once"

python=${PYTHON:-}
if [ -z "$python" ]; then
    # A version manager's shim may be on PATH and not start.
    for each in python3.13 python3.12 python3.11 python3; do
        if fits "$each"; then python=$each; break; fi
    done
fi
[ -n "$python" ] || needs "$(python3 --version 2>/dev/null || echo 'no python3') on PATH"
fits "$python" || needs "$("$python" --version 2>/dev/null || echo "no $python")"
"$python" -c 'import ensurepip, venv' 2>/dev/null || needs "$python without venv"

# What setuptools compiles the one package with that comes as source only, sagemaker-training.
program=$(mktemp)
trap 'rm -f "$program"' EXIT
echo 'int main(void) { return 0; }' | "${CC:-cc}" -x c - -o "$program" 2>/dev/null \
    || needs "no C compiler that works (${CC:-cc})"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
install() {
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet install --progress-bar off \
        --use-pep517 "$@"
}
install -c constraints.txt -e ".[$extras]"
install --no-deps -r docker/no-deps.txt
# Once more: the sagemaker-training toolkit has a command `train` as well, and the last one stays.
install -c constraints.txt --no-deps --force-reinstall -e .
