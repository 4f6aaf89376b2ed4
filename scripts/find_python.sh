#!/bin/sh
# Prints the first Python that can make the virtual environment: 3.11 or newer, with venv and ensurepip.
# Each candidate is run, because a version manager's shim may exist for a version that is not installed.
set -u
incomplete=""
for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
    incomplete="${incomplete:-$candidate}"
done
if [ -n "$incomplete" ]; then
    echo "error: $incomplete lacks the modules venv and ensurepip" >&2
    echo "next: install them (Debian and Ubuntu: apt install python3-venv), then 'make setup' again" >&2
else
    echo "error: no Python 3.11 or newer was found" >&2
    echo "next: install one, or name it: make setup PYTHON=/path/to/python3" >&2
fi
exit 1
