#!/bin/sh
# Makes sure that Node.js 20 or newer and npm can be run: the machine's own, else the wheel from PyPI
# installed into the virtual environment ($1). Then installs the bridge's packages as locked.
set -eu
venv=$1
PATH="$venv/bin:$PATH"
export PATH

node_fits() {
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' >/dev/null 2>&1 &&
        npm --version >/dev/null 2>&1
}

if ! node_fits; then
    echo "setup: Node.js (none of version 20 or newer with npm here; taking the one from PyPI)"
    "$venv/bin/python" -m pip install -qq --require-hashes --only-binary=:all: -r requirements-node.lock
    hash -r
    node_fits || { echo "error: the installed Node.js does not run" >&2; exit 1; }
fi
if [ -f bridge/package-lock.json ]; then
    echo "setup: bridge packages (npm ci, Node.js $(node --version))"
    cd bridge
    npm ci --no-audit --no-fund --no-progress --loglevel=error >/dev/null
fi
