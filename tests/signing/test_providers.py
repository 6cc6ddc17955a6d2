"""Keys by URI: which provider, and what each part of a URI means."""

import pytest
from pki import make_leaf

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.providers import KeyOptions, extra, is_key_uri, open_signer


def test_a_key_and_its_certificates_in_files(tmp_path):
    leaf = make_leaf(key="EC-256")
    files = leaf.write(tmp_path / "a b?c")
    quoted = str(tmp_path / "a%20b%3Fc")
    both = open_signer(f"file:{quoted}/key.pem?cert={quoted}/chain.pem")
    assert both.certificate_chain == leaf.chain
    given = open_signer(f"file:{quoted}/key.pem", KeyOptions(certificates=files.chain))
    assert given.certificate_chain == leaf.chain
    files.key.write_bytes(files.key.read_bytes() + files.chain.read_bytes())
    assert open_signer(f"file:{quoted}/key.pem").certificate_chain == leaf.chain


def test_an_encrypted_key_asks_once_and_says_of_what(tmp_path):
    files = make_leaf(key="EC-256").write(tmp_path, b"secret")
    asked = []

    def secret(what):
        asked.append(what)
        return b"secret"

    options = KeyOptions(certificates=files.chain, secret=secret)
    assert open_signer(f"file:{files.key}", options).key_spec == "EC-256"
    assert asked == [f"passphrase of {files.key}"]
    with pytest.raises(SigningError, match=f"the passphrase of {files.key} is needed"):
        open_signer(f"file:{files.key}", KeyOptions(certificates=files.chain))


@pytest.mark.parametrize(
    "uri",
    [
        "file:",
        "file:?cert=a",
        "file:a?cert=b&cert=c",
        "file:a?chain=b",
        "file:a?cert",
        "ftp:a",
        "a",
    ],
)
def test_what_is_not_the_uri_of_a_key(uri):
    with pytest.raises(ParameterError, match="is not"):
        open_signer(uri)


def test_certificates_are_named_once(tmp_path):
    files = make_leaf(key="EC-256").write(tmp_path)
    with pytest.raises(ParameterError, match="leave --cert out"):
        open_signer(f"file:{files.key}?cert={files.chain}", KeyOptions(certificates=files.chain))


def test_names_of_files_are_no_uris():
    assert is_key_uri("file:key.pem")
    assert not is_key_uri("key.pem")
    assert not is_key_uri("./file:key.pem")
    assert not is_key_uri("file")


def test_a_missing_extra_says_how_to_get_it():
    with (
        pytest.raises(SigningError, match=r"pip install 'dmsign-fast\[some\]'"),
        extra("some"),
    ):
        import a_package_that_does_not_exist  # noqa: F401
