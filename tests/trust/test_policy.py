"""Trust policies: by the specification, and as the real notation reads the same files."""

import json

import pytest
from config_tree import tree
from differences import differences
from notation import SCOPE, Notation
from pki import pem

from dmsign_fast.errors import FormatError, ParameterError, StorageError, VerificationError
from dmsign_fast.trust.policy import (
    LEVELS,
    Action,
    Validation,
    load_policy,
    new_policy,
    save_policy,
)
from dmsign_fast.trust.store import config_directory

A = "x509.subject: C=US, ST=WA, O=a"
OTHER = {
    "name": "other",
    "registryScopes": ["example.com/other"],
    "signatureVerification": {"level": "skip"},
}


def statement(**changes):
    base = {
        "name": "test",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:test"],
        "trustedIdentities": ["*"],
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def verification(**fields):
    return statement(signatureVerification={"level": "strict"} | fields)


def document(*statements, version="1.0"):
    return {"version": version, "trustPolicies": list(statements)}


def load(directory, *statements, **options):
    (directory / "trustpolicy.json").write_text(json.dumps(document(*statements, **options)))
    return load_policy(directory)


GOOD = [
    statement(),
    statement(registryScopes=["local/test", "example.com:5000/a/b_c/d-e"]),
    statement(trustStores=["ca:test", "ca:test", "tsa:x", "signingAuthority:y"]),
    statement(trustedIdentities=[A, A.replace("O=a", "O=b")]),
    verification(override={"revocation": "skip", "expiry": "log", "authenticity": "enforce"}),
    verification(verifyTimestamp="afterCertExpiry"),
    verification(verifyTimestamp="always"),
    statement(signatureVerification={"level": "skip"}, trustStores=None, trustedIdentities=None),
]
# what is wrong, what we say, and its name in docs/notation-differences.md where notation takes it
BAD = [
    (document(version="1.0"), "no trustPolicies", False),
    (document(statement(), version="2.0"), "version", False),
    ({"trustPolicies": [statement()]}, "version", False),
    (document(statement(), statement()), "named 'test'", False),
    (document(statement(), statement(name="b")), "the scope", False),
    (document(statement(name="")), "without a name", False),
    (document(statement(name=None)), "without a name", False),
    (document(statement(registryScopes=[])), "registryScopes", False),
    (document(statement(registryScopes=None)), "registryScopes", False),
    (document(statement(registryScopes=["*", "local/test"])), "alone", False),
    (document(statement(registryScopes=["local/*"])), "full name", False),
    (document(statement(registryScopes=["test"])), "full name", False),
    (document(statement(registryScopes=["local/test:v1"])), "full name", False),
    (document(statement(registryScopes=["https://local/test"])), "full name", False),
    (document(statement(registryScopes=["local/test", "local/test"])), "the scope", False),
    (document(statement(signatureVerification=None)), "signatureVerification", False),
    (document(statement(signatureVerification={})), "level", False),
    (document(statement(signatureVerification={"level": "Strict"})), "level", False),
    (document(verification(override={"integrity": "log"})), "integrity", False),
    (document(verification(override={"authenticity": "skip"})), "only revocation", False),
    (document(verification(override={"revocation": "no"})), "no override", False),
    (document(verification(override={"x": "log"})), "no override", False),
    (document(verification(verifyTimestamp="never")), "verifyTimestamp", False),
    (document(statement(trustStores=[])), "needs both", False),
    (document(statement(trustedIdentities=None)), "needs both", False),
    (document(statement(trustStores=["test"])), "ca:NAME", False),
    (document(statement(trustStores=["CA:test"])), "ca:NAME", False),
    (document(statement(trustStores=["ca:"])), "ca:NAME", False),
    *(
        (document(statement(trustStores=[f"ca:{name}"])), "ca:NAME", False)
        for name in ("a/b", "*", "a b", " a", "é", "a\n", "a:b", "\u0661")
    ),
    (document(statement(trustStores=["ca:test", "ca:.."])), "ca:NAME", False),
    (document(statement(trustedIdentities=["*", A])), "stands alone", False),
    (document(statement(trustedIdentities=[A, A + ", OU=x"])), "overlaps", False),
    (document(statement(trustedIdentities=["x509.subject: O=a"])), "lacks C, ST", False),
    (document(statement(signatureVerification={"level": "skip"})), "skips", False),
    (
        document(statement(signatureVerification={"level": "skip", "override": {"expiry": "log"}})),
        "override",
        False,
    ),
    (document(statement(trustStores="ca:test")), "not a list of text", False),
    (document(statement(trustStores=[1])), "not a list of text", False),
    (document(statement(more=1)), "not known: more", "statement"),
    (
        document(verification(overide={"expiry": "log"})),
        "not known: overide",
        "verification",
    ),
    ({**document(statement()), "x": 1}, "not known: x", "document"),
    ([], "not a JSON object", False),
]


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_good_policies(good, tmp_path, layout, leaf):
    found = load(tmp_path, good, OTHER).statement_for(SCOPE)
    assert found.name == "test"
    notation = Notation(tmp_path / "home")
    for store in ("ca/test", "tsa/x", "signingAuthority/y"):
        notation.trust(pem(leaf.root), store=store)
    (notation.config / "trustpolicy.json").write_text(json.dumps(document(good, OTHER)))
    done = notation.verify(layout)
    understood = done.exit_code == 0 or "Processing signature" in done.err
    assert understood, done.err


@pytest.mark.parametrize(("bad", "says", "accepted"), BAD, ids=range(len(BAD)))
def test_bad_policies(bad, says, accepted, tmp_path, layout, leaf):
    (tmp_path / "trustpolicy.json").write_text(json.dumps(bad))
    with pytest.raises(FormatError, match=says):
        load_policy(tmp_path)
    notation = Notation(tmp_path / "home")
    notation.trust(pem(leaf.root))
    (notation.config / "trustpolicy.json").write_text(json.dumps(bad))
    assert (notation.verify(layout).exit_code == 0) == bool(accepted)


def test_every_difference_is_a_bad_policy():
    assert differences("Trust policies") == {accepted for *_, accepted in BAD if accepted}


def test_repeated_names_are_refused(tmp_path):
    text = json.dumps(document(statement()))
    (tmp_path / "trustpolicy.json").write_text(text[:-1] + ',"version":"1.0"}')
    with pytest.raises(FormatError, match="more than once"):
        load_policy(tmp_path)


def test_levels():
    table = {name: [actions[one].value for one in Validation] for name, actions in LEVELS.items()}
    assert table == {
        "strict": ["enforce"] * 5,
        "permissive": ["enforce", "enforce", "log", "log", "log"],
        "audit": ["enforce", "log", "log", "log", "log"],
        "skip": ["skip"] * 5,
    }


def test_overrides(tmp_path):
    override = {"revocation": "skip", "expiry": "log"}
    found = load(tmp_path, verification(override=override)).statement_for(SCOPE)
    assert found.level == "custom"
    assert found.actions == {
        **LEVELS["strict"],
        Validation.REVOCATION: Action.SKIP,
        Validation.EXPIRY: Action.LOG,
    }
    assert LEVELS["strict"][Validation.EXPIRY] is Action.ENFORCE


def test_the_statement_that_names_a_repository_goes_first(tmp_path):
    named = statement(name="named", registryScopes=["example.com/a", "example.com/a/b"])
    policy = load(tmp_path, statement(), named)
    assert policy.statement_for("example.com/a").name == "named"
    assert policy.statement_for("example.com/a/b").name == "named"
    assert policy.statement_for("example.com/a/c").name == "test"
    policy = load(tmp_path, named)
    with pytest.raises(VerificationError, match="no statement of the trust policy applies to"):
        policy.statement_for("example.com/c")


@pytest.mark.parametrize("scope", ["", "*", "a", "a/b:c", "a/b@sha256:0", "a/B", "a/b\n", "a//b"])
def test_scopes_that_are_none(scope, tmp_path):
    with pytest.raises(ParameterError, match="not the full name"):
        load(tmp_path, statement()).statement_for(scope)


def test_a_scope_that_takes_long_does_not():
    from dmsign_fast.trust.policy import Policy

    with pytest.raises(ParameterError):
        Policy(()).statement_for("a/" + "a" * 5000 + "-" * 5000 + "!")


def test_the_newer_file_goes_first(tmp_path):
    load(tmp_path, statement(name="old"))
    (tmp_path / "trustpolicy.oci.json").write_text(json.dumps(document(statement(name="new"))))
    assert load_policy(tmp_path).statement_for(SCOPE).name == "new"


def test_files_that_are_not_there_or_not_files(tmp_path):
    with pytest.raises(StorageError, match="there is no trust policy in"):
        load_policy(tmp_path)
    (tmp_path / "real.json").write_text(json.dumps(document(statement())))
    (tmp_path / "trustpolicy.json").symlink_to(tmp_path / "real.json")
    with pytest.raises(StorageError, match="no symbolic links"):
        load_policy(tmp_path)


def test_a_new_policy_is_taken_by_notation_as_it_is(tmp_path):
    notation = Notation(tmp_path / "home")
    data = new_policy("é", ["ca:x", "tsa:y"], [A], scopes=["a.example/b"], level="audit")
    assert save_policy(notation.config, data, "new") == notation.config / "trustpolicy.json"
    assert tree(notation.home) == {
        "notation": ("0o700", None),
        "notation/trustpolicy.json": ("0o600", data),
    }
    shown = notation("policy", "show")
    assert (shown.exit_code, shown.out, shown.err) == (0, data.decode(), "")
    found = load_policy(notation.config).statement_for("a.example/b")
    assert (found.name, found.level, found.stores) == ("é", "audit", (("ca", "x"), ("tsa", "y")))
    assert [one.text for one in found.identities] == [A]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("", ["ca:x"], ["*"]), {}),
        (("a", [], ["*"]), {}),
        (("a", ["x"], ["*"]), {}),
        (("a", ["ca:x"], []), {}),
        (("a", ["ca:x"], ["x509.subject: O=a"]), {}),
        (("a", ["ca:x"], ["*"]), {"level": "skip"}),
        (("a", ["ca:x"], ["*"]), {"level": "none"}),
        (("a", ["ca:x"], ["*"]), {"scopes": ["*", "a.example/b"]}),
        (("a", ["ca:x"], ["*"]), {"scopes": ["a"]}),
        (("\udcff", ["ca:x"], ["*"]), {}),
    ],
    ids=str,
)
def test_a_new_policy_against_the_rules(arguments, options):
    with pytest.raises(ParameterError):
        new_policy(*arguments, **options)


@pytest.mark.parametrize(("wrong", "says", "_"), BAD)
def test_what_is_against_the_rules_is_not_saved(wrong, says, _, tmp_path):
    load(tmp_path, statement())
    before = tree(tmp_path)
    with pytest.raises(FormatError, match=says):
        save_policy(tmp_path, json.dumps(wrong).encode(), "new", replace=True)
    assert tree(tmp_path) == before


def test_a_policy_takes_the_place_of_the_one_that_counts(tmp_path):
    new = json.dumps(document(statement(name="new"))).encode()
    load(tmp_path, statement(name="old"))
    with pytest.raises(ParameterError, match="exists already"):
        save_policy(tmp_path, new, "new")
    assert load_policy(tmp_path).statement_for(SCOPE).name == "old"
    newer = tmp_path / "trustpolicy.oci.json"
    newer.write_text("{")
    assert save_policy(tmp_path, new, "new", replace=True) == newer
    assert load_policy(tmp_path).statement_for(SCOPE).name == "new"
    newer.unlink()
    assert load_policy(tmp_path).statement_for(SCOPE).name == "old"


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "trustpolicy.json").symlink_to(tmp_path / "elsewhere")
    new = json.dumps(document(statement())).encode()
    with pytest.raises(StorageError, match="symbolic link"):
        save_policy(tmp_path, new, "new", replace=True)
    assert not (tmp_path / "elsewhere").exists()


def test_where_the_configuration_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("NOTATION_CONFIG", raising=False)
    assert config_directory() == tmp_path / ".config/notation"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert str(config_directory()) == "/x/notation"
    monkeypatch.setenv("NOTATION_CONFIG", "/y")
    assert str(config_directory()) == "/y"
