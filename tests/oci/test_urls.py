"""A URL means the same host to everybody, or it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.urls import join, origin, split

BAD = [
    r"https://good.example\@evil.example/",
    r"https://good.example\.evil.example/",
    "https://user@evil.example/",
    "https://user:secret@evil.example/",
    "https://good.example@evil.example:443/",
    "https://evil.example\x00/",
    "https://evil.example\x7f/",
    "https://evil.example/a b",
    "https://evil.example\t/",
    "https://127.0.0.1%00.evil.example/",
    "https://evil.example%2f@good.example/",
    "https://[::1%25eth0]/",
    "https://[::1/",
    "https://[::1]evil.example/",
    "https://evil.example:port/",
    "https://evil.example:99999/",
    "https://ev\u0131l.example/",
    "https://evil\u3002example/",
    "https:///v2/",
    "https:evil.example",
    "ftp://evil.example/",
    "file:///etc/passwd",
    "//evil.example/",
    "",
]
GOOD = [
    ("https://r.example/v2/?a=b", ("https", "r.example", 443)),
    ("http://R.Example:5000", ("http", "r.example", 5000)),
    ("https://[2001:db8::1]:8443/a?b=https://u@c/\u00fc", ("https", "2001:db8::1", 8443)),
    ("https://my_registry:5000/a@b", ("https", "my_registry", 5000)),
    ("https://r.example/a%20b%5cc", ("https", "r.example", 443)),
]


@pytest.mark.parametrize("url", BAD)
def test_what_two_programs_could_read_differently_is_refused(url):
    with pytest.raises(RegistryError, match="no URL of HTTP"):
        split(url)


@pytest.mark.parametrize(("url", "host"), GOOD)
def test_what_all_programs_read_alike(url, host):
    assert origin(url) == host


@given(st.text(st.sampled_from("htps:/\\@.a1[]%#?\t \x00\u3002-_"), max_size=30))
def test_what_is_taken_is_what_will_be_connected_to(rest):
    try:
        scheme, host, port = origin(f"http://{rest}")
    except RegistryError:
        return
    read = parse_url(f"http://{rest}")
    assert (read.scheme, (read.host or "").strip("[]"), read.port or 80) == (scheme, host, port)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("/a?b=c", "https://r.example/a?b=c"),
        ("x", "https://r.example/v2/x"),
        ("?n=1", "https://r.example/v2/?n=1"),
        ("//other.example/a", "https://other.example/a"),
        ("https://other.example/a", "https://other.example/a"),
    ],
)
def test_where_a_url_leads(url, where):
    assert join("https://r.example/v2/", url) == where


@pytest.mark.parametrize(
    "url", [*BAD[:15], "//u@evil.example/", r"\\evil.example\a", "/a\\b", "a b"]
)
def test_where_no_url_leads(url):
    with pytest.raises(RegistryError, match="no URL of HTTP"):
        join("https://r.example/v2/", url)
