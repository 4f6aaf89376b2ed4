#!/bin/sh
# Prints where promtool is, Prometheus' own checker of metrics and rules: $PROMTOOL, on PATH, or in .cache.
# With --fetch it is taken from Debian's package 'prometheus' into .cache (19 MB); nothing is installed.
set -u
cache="$(cd "$(dirname "$0")/.." && pwd)/.cache/promtool"
for candidate in "${PROMTOOL:-}" promtool "$cache/promtool"; do
    [ -n "$candidate" ] || continue
    if "$candidate" --version >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
if [ "${1:-}" = --fetch ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    mkdir -p "$cache" && cd "$cache" || exit 1
    {
        timeout 60 apt-get -qq download prometheus ||
            { timeout 60 apt-get -qq update && timeout 60 apt-get -qq download prometheus; }
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool.part &&
            chmod 755 promtool.part && ./promtool.part --version && mv promtool.part promtool
        rm -f prometheus_*.deb promtool.part
    } >fetch.log 2>&1
    if [ -x promtool ]; then
        echo "$cache/promtool"
        exit 0
    fi
    cat fetch.log >&2
fi
echo "error: promtool was not found" >&2
echo "next: install Prometheus (Debian and Ubuntu: apt install prometheus), set PROMTOOL=/path/to/promtool, or" >&2
echo "      sh scripts/find_promtool.sh --fetch" >&2
exit 1
