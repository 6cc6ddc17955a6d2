import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.auth import Authenticator, Challenge, merge_scopes, parse_challenges
from dmsign_fast.oci.credentials import Credentials

SCOPE = ("repository:a:pull",)


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ("Basic", [Challenge("basic", {})]),
        ('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})]),
        (
            'bearer Realm="https://a/t",service=b ,scope="repository:a:pull,push x:y:z"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://a/t",
                        "service": "b",
                        "scope": "repository:a:pull,push x:y:z",
                    },
                )
            ],
        ),
        (
            'Negotiate, Basic realm="a\\"b, Bearer c", Bearer realm = ""',
            [
                Challenge("negotiate", {}),
                Challenge("basic", {"realm": 'a"b, Bearer c'}),
                Challenge("bearer", {"realm": ""}),
            ],
        ),
    ],
)
def test_challenges_are_read_by_their_grammar(header, challenges):
    assert parse_challenges(header) == challenges


@given(st.text(max_size=80))
def test_any_header_is_some_challenges(header):
    parse_challenges(header)


def test_scopes_of_one_resource_are_one():
    merged = merge_scopes("repository:a:pull", "repository:b:pull", "repository:a:push,pull")
    assert merged == ("repository:a:pull,push", "repository:b:pull")
    assert merge_scopes("registry:catalog:*", "aws") == ("registry:catalog:*", "aws")


def authenticator(answer, credentials=None, url="https://r"):
    asked = []

    def fetch(method, url, headers, body):
        asked.append((method, url, dict(headers), body))
        return answer

    return Authenticator("r", url, lambda: credentials, fetch), asked


BEARER = 'Bearer realm="https://t/x?y=1",service="s p",scope="repository:a:pull,push"'


def test_a_token_is_asked_for_once_and_by_all_that_is_needed():
    some, asked = authenticator(b'{"token":"T"}')
    assert some.header(SCOPE) is None
    assert some.answer(BEARER, SCOPE, None) == "Bearer T"
    assert some.header(SCOPE) == "Bearer T"
    assert some.answer(BEARER, SCOPE, None) == "Bearer T"  # another thread asked before
    query = "y=1&service=s+p&scope=repository%3Aa%3Apull%2Cpush"
    assert asked == [("GET", f"https://t/x?{query}", {"Accept": "application/json"}, None)]
    assert some.header(("repository:b:pull",)) is None


def test_a_token_that_was_refused_is_not_sent_again():
    some, asked = authenticator(b'{"access_token":"T"}')
    some.answer(BEARER, SCOPE, None)
    some.answer(BEARER, SCOPE, "Bearer T")
    assert len(asked) == 2


def test_a_token_that_expired_is_renewed_before_it_is_sent(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("dmsign_fast.oci.auth.time.monotonic", lambda: now[0])
    some, asked = authenticator(b'{"token":"T","expires_in":100}')
    some.answer(BEARER, SCOPE, None)
    now[0] += 89
    some.header(SCOPE)
    assert len(asked) == 1
    now[0] += 2
    assert some.header(SCOPE) == "Bearer T"
    assert len(asked) == 2


def test_the_password_goes_to_the_server_of_tokens():
    some, asked = authenticator(b'{"token":"T"}', Credentials("alice", "secret"))
    some.answer(BEARER, SCOPE, None)
    assert asked[0][2]["Authorization"] == "Basic YWxpY2U6c2VjcmV0"


@pytest.mark.parametrize(
    "credentials",
    [Credentials("alice", "secret"), Credentials(identity_token="i")],
)
def test_no_secret_goes_over_plain_http(credentials):
    some, asked = authenticator(b'{"token":"T"}', credentials)
    with pytest.raises(RegistryError, match="wants a login to be sent to t over plain HTTP"):
        some.answer('Bearer realm="http://t/x"', SCOPE, None)
    some, asked = authenticator(b"", credentials, "http://r")
    if credentials.username:
        with pytest.raises(RegistryError, match="wants a login to be sent to r over plain HTTP"):
            some.answer("Basic", SCOPE, None)
        with pytest.raises(RegistryError, match="plain HTTP"):
            some.answer("Basic", SCOPE, None)
        assert some.header(SCOPE) is None
    assert asked == []


@pytest.mark.parametrize("challenge", [BEARER, 'Bearer realm="https://t/x"', "Basic"])
def test_over_plain_http_there_is_no_login_at_all(challenge):
    asked = []
    some = Authenticator("r", "http://r", lambda: asked.append("login"), lambda *_: asked.append(_))
    with pytest.raises(RegistryError, match="wants a login to be sent to r over plain HTTP"):
        some.answer(challenge, SCOPE, None)
    assert asked == []


@pytest.mark.parametrize(
    "header", ["a=b," * 100_000, 'Bearer realm="https://t"' + ",x=y" * 5000, "Bearer " * 2000]
)
def test_a_challenge_has_a_bound(header):
    with pytest.raises(RegistryError, match="more than 8192"):
        parse_challenges(header)


def test_a_token_of_the_registry_is_sent_as_it_is():
    some, asked = authenticator(b"", Credentials(registry_token="R"))
    assert some.answer(BEARER, SCOPE, None) == "Bearer R"
    some, asked = authenticator(b"", Credentials(registry_token="R"), "http://r")
    with pytest.raises(RegistryError, match="plain HTTP"):
        some.answer(BEARER, SCOPE, None)
    assert asked == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token":1}', b'{"token":""}', b'{"token":"a\\r\\nX: y"}', b"null"],
)
def test_an_answer_without_a_token_is_refused(answer):
    some, _ = authenticator(answer)
    with pytest.raises(RegistryError, match="the answer of t holds no token"):
        some.answer(BEARER, SCOPE, None)


@pytest.mark.parametrize("life", ["0", "-1", "1e400", '"x"', "null", "true"])
def test_an_odd_life_of_a_token_is_a_short_one(life):
    some, _ = authenticator(b'{"token":"T","expires_in":%s}' % life.encode())
    assert some.answer(BEARER, SCOPE, None) == "Bearer T"


def test_other_logins_are_named():
    some, _ = authenticator(b"")
    with pytest.raises(RegistryError, match="offers negotiate, digest: only bearer and basic"):
        some.answer("Negotiate, Digest realm=x", SCOPE, None)
    with pytest.raises(RegistryError, match="offers nothing"):
        some.answer("", SCOPE, None)
    with pytest.raises(RegistryError, match="dmsign-fast login r"):
        some.answer("Basic", SCOPE, None)


def test_a_password_that_was_refused_is_not_sent_again():
    some, _ = authenticator(b"", Credentials("alice", "wrong"))
    header = some.answer("Basic", SCOPE, None)
    with pytest.raises(RegistryError, match="refuses the login"):
        some.answer("Basic", SCOPE, header)
