"""Fixtures of the tests that run a service: its state directory, and a PostgreSQL that can be taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from tests.integration.remote_places import s3_server
from tests.integration.services import short_directory
from tests.support import Proxy


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Of an S3 server in a process of its own, on 127.0.0.1. Shared: give each test a bucket."""
    with s3_server() as port:
        yield port


@pytest.fixture
def state() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
async def proxy(tcp_options: DatabaseOptions) -> AsyncIterator[Proxy]:
    assert tcp_options.host
    assert tcp_options.port
    async with Proxy.before(tcp_options.host, tcp_options.port) as standing:
        yield standing


@pytest.fixture
def proxied(tcp_options: DatabaseOptions, proxy: Proxy) -> DatabaseOptions:
    return replace(tcp_options, port=proxy.port)
