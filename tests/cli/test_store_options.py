"""How the options of the command line reach a registry."""

import argparse

import pytest

from dmsign_fast.cli.stores import add_image_options, connection_of
from dmsign_fast.oci.transport import Transport


def url(*options, registry="127.0.0.1:5000"):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_image_options(parser)
    args = parser.parse_args([f"{registry}/app:v1", *options])
    return Transport(registry, connection_of(args), lambda: None).url


def test_a_loopback_address_is_reached_by_http_unless_tls_is_wanted():
    assert url() == "http://127.0.0.1:5000"
    assert url("--plain-http", "--ca-file", "ca.pem") == "http://127.0.0.1:5000"
    for options in (("--tls",), ("--ca-file", "ca.pem"), ("--client-cert", "c.pem")):
        assert url(*options) == "https://127.0.0.1:5000"


def test_all_others_are_reached_by_tls_unless_plain_http_is_wanted():
    assert url(registry="r.example") == url("--tls", registry="r.example") == "https://r.example"
    assert url("--plain-http", registry="r.example") == "http://r.example"


def test_both_are_an_error():
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        url("--tls", "--plain-http")
