"""The fixtures of the end-to-end tests serve here too."""

from tests.e2e.conftest import (  # noqa: F401 - pytest finds fixtures by their names here
    line,
    new_phone,
    pair_of,
    proxied_line,
    proxy,
    simulator,
    state_dir,
    whatsapp,
)
