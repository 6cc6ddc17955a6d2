"""OpenSSL 4 of Debian experimental, which knows ML-DSA; the README calls it optional."""

import subprocess

import pytest
from debian import CACHE, Apt, UnavailableError, kept


@pytest.fixture(scope="session")
def openssl_4_program():
    """Return the words that run it."""

    def fetch(home):
        return Apt(home, "sid experimental").download_all("-t", "experimental", "openssl")

    try:
        root = kept(CACHE / "openssl-4", fetch)
    except UnavailableError as error:
        pytest.skip(f"OpenSSL 4 is optional: {error}")
    loader = next((root / "usr/lib").glob("*-linux-gnu*/ld-linux*"))
    return (loader, "--library-path", loader.parent, root / "usr/bin/openssl")


@pytest.fixture(scope="session")
def openssl_4(openssl_4_program):
    """Return what runs it in a directory."""

    def run(directory, *words):
        return subprocess.run(
            [*openssl_4_program, *words],
            cwd=directory,
            env={"OPENSSL_CONF": "/dev/null"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("/", "version").stdout.startswith("OpenSSL 4.")
    return run
