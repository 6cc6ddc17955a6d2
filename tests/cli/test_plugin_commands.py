"""``dmsign-fast plugin ...``, and images signed with keys of plugins."""

import json

import pytest
from a_plugin import ENVELOPE, RAW, make_plugin, requests
from container_images import push_image, push_index, tars
from helpers import cli, noise, write
from notation import Layout, Notation
from pipeline import conftest as pipeline
from pki import make_intermediate, make_leaf, make_root, pem
from terminal import at_a_terminal

make_home = pipeline.make_home
NOTARY = "application/vnd.cncf.notary.signature"
DM_VERITY = f"{NOTARY}.dm-verity"
KEY = ("--key", "plugin:test?id=key-1")


@pytest.fixture(autouse=True)
def notation(tmp_path, monkeypatch):
    """notation and our commands with one configuration."""
    made = Notation(tmp_path / "home")
    made.home.mkdir()
    monkeypatch.setenv("NOTATION_CONFIG", str(made.config))
    monkeypatch.delenv("NOTATION_LIBEXEC", raising=False)
    return made


@pytest.fixture
def install(notation):
    """Installs a plugin with one thing wrong; its key and its directory."""

    def make(wrong="", key="EC-256", capabilities=(RAW,)):
        leaf = make_leaf(make_intermediate(make_root()), key=key)
        home = make_plugin(notation.config, leaf, capabilities=capabilities, wrong=wrong)
        return leaf, home

    return make


@pytest.fixture
def home(make_home):
    return make_home("layout")


def ok(*arguments):
    done = cli(*arguments)
    assert done.exit_code == 0, done.err
    return done


def fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err.splitlines()[-1]
    assert "Successfully" not in done.out


def name(home, wanted="v1"):
    *options, place = home.arguments
    return (*options, f"{place}:{wanted}")


def types(home, manifest):
    return sorted(one.artifact_type for one in home.store.referrers(manifest.descriptor))


# managing them


def test_what_is_installed(install, notation):
    assert cli("plugin", "list").out.split() == [
        "NAME",
        "DESCRIPTION",
        "VERSION",
        "CAPABILITIES",
        "ERROR",
    ]
    _, home = install()
    (home.parent / "broken").mkdir()
    done = ok("plugin", "list")
    _, broken, works = done.out.splitlines()
    assert works.split() == ["test", "for", "tests", "1.0.0", RAW]
    assert broken.startswith("broken ")
    assert "the plugin broken is not installed" in broken
    found = json.loads(ok("plugin", "list", "--output", "json").out)["plugins"]
    assert [one["name"] for one in found] == ["broken", "test"]
    assert (found[1]["version"], found[1]["error"]) == ("1.0.0", None)
    theirs = notation("plugin", "ls").out.splitlines()
    assert [line.split()[0] for line in theirs] == ["NAME", "broken", "test"]


def test_what_a_plugin_says_of_itself_and_of_a_key(install):
    _, home = install(key="EC-384")
    assert ok("plugin", "describe", "test").field("capabilities") == RAW
    key = ("--id", "key-1", "--plugin-config", "a=b", "--plugin-timeout", "60.5")
    assert ok("plugin", "describe", "test", *key).field("keySpec") == "EC-384"
    assert requests(home, "describe-key")[0]["pluginConfig"] == {"a": "b"}
    found = json.loads(ok("plugin", "describe", "test", *key, "--output", "json").out)
    assert (found["keyId"], found["keySpec"]) == ("key-1", "EC-384")
    assert found["path"] == str(home / "notation-test")
    fails(cli("plugin", "describe", "nothing"), 4, "the plugin nothing is not installed")
    fails(cli("plugin", "describe", "test", "--plugin-timeout", "0"), 2, "number of seconds")


def test_in_and_out_again(notation, tmp_path):
    source = make_plugin(tmp_path, make_leaf())
    home = notation.config / "plugins/test"
    done = ok("plugin", "install", source / "notation-test")
    assert done.out == "Successfully installed plugin test, version 1.0.0\n"
    fails(cli("plugin", "install", source / "notation-test"), 2, "1.0.0", "--force")
    again = ok("plugin", "install", source, "--force", "--output", "json")
    assert json.loads(again.out)["replaced"]["version"] == "1.0.0"
    forced = ok("plugin", "install", source, "--force")
    assert forced.out == "Successfully updated plugin test from version 1.0.0 to 1.0.0\n"
    fails(cli("plugin", "uninstall", "test"), 2, "Uninstall the plugin 'test'?", "--yes")
    status, shown = at_a_terminal(("plugin", "uninstall", "test"), "[y/N]", b"n\n")
    assert status == 2, shown
    assert home.is_dir()
    done = ok("plugin", "uninstall", "test", "--yes")
    assert done.out == "Successfully uninstalled plugin test\n"
    assert list((notation.config / "plugins").iterdir()) == []
    fails(cli("plugin", "uninstall", "test", "--yes"), 2, "no plugin 'test'")


def test_ourselves_from_another_directory(notation, tmp_path, monkeypatch):
    """No module of the working directory comes before ours."""
    assert "plugin dmsign, version" in ok("plugin", "install").out
    write(tmp_path / "dmsign_fast.py", b"raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    assert ok("plugin", "describe", "dmsign").field("name") == "dmsign"


# signing with them


@pytest.mark.parametrize("key", ["RSA-2048", "RSA-3072", "EC-256"])
@pytest.mark.parametrize("envelope", ["jws", "cose"])
def test_an_image_signed_by_ourselves_as_a_plugin(key, envelope, home, notation, tmp_path):
    ok("plugin", "install")
    leaf = make_leaf(make_intermediate(make_root()), key=key)
    files = leaf.write(tmp_path / "pki", b"secret")
    secret = write(tmp_path / "secret", b"secret")
    image = push_image(home.store, "v1", tars(2))
    config = {"cert": str(files.chain), "passphrase_file": str(secret)}
    keys = [
        {"name": "it", "pluginName": "dmsign", "id": f"file:{files.key}", "pluginConfig": config}
    ]
    (notation.config / "signingkeys.json").write_text(json.dumps({"default": "it", "keys": keys}))
    done = ok("sign", *name(home), "--signature-format", envelope, "--output", "json")
    assert json.loads(done.out)["signer"] == leaf.certificate.subject.rfc4514_string()
    assert types(home, image) == [NOTARY, DM_VERITY]
    ok("verify", *name(home), "--trust", files.root)
    again = ok("sign", *name(home), "--signature-format", envelope)
    assert "Already signed" in again.out
    assert types(home, image) == [NOTARY, DM_VERITY]
    notation.trust(pem(leaf.root))
    (layout,) = home.arguments[-1:]
    verified = notation(
        *("verify", "--oci-layout", f"{layout}@{image.descriptor.digest}"),
        *("--scope", "local/test"),
    )
    assert verified.exit_code == 0, verified.err


def test_signing_again_with_and_without_certificates(home, install, tmp_path):
    leaf, plugin = install()
    chain = leaf.write(tmp_path / "pki").chain
    image = push_image(home.store, contents=tars(1))
    index = push_index(home.store, "v1", [(image, "linux/amd64")])
    ok("sign", *name(home), *KEY, "--recursive")
    assert (types(home, image), types(home, index)) == ([NOTARY, DM_VERITY], [NOTARY])
    asked = len(requests(plugin, "generate-signature"))
    assert asked == 3
    before = home.contents
    ok("sign", *name(home), *KEY, "--recursive")
    # once, to learn the certificates
    assert len(requests(plugin, "generate-signature")) == asked + 1
    ok("sign", *name(home), *KEY, "--recursive", "--cert", chain)
    assert len(requests(plugin, "generate-signature")) == asked + 1
    assert home.contents == before


def test_reuse_needs_the_certificate(home, install, tmp_path):
    leaf, _ = install()
    chain = leaf.write(tmp_path / "pki").chain
    push_image(home.store, "v1", tars(1))
    ok("sign", *name(home), *KEY)
    fails(cli("sign", *name(home), *KEY, "--reuse"), 2, "give --cert")
    assert (
        ": 1 layer (1 reused) and " in ok("sign", *name(home), *KEY, "--reuse", "--cert", chain).out
    )


def test_a_name_and_what_is_given_beside_it(home, install, notation, tmp_path):
    leaf, plugin = install()
    config = {"of": "the name", "both": "the name"}
    keys = [{"name": "it", "pluginName": "test", "id": "k/1?+", "pluginConfig": config}]
    (notation.config / "signingkeys.json").write_text(json.dumps({"keys": keys}))
    push_image(home.store, "v1", tars(1))
    sign = ("sign", *name(home), "--key", "it", "--no-dm-verity")
    given = ("--plugin-config", "both=given", "--plugin-config", "more=1")
    ok(*sign, *given, "--cert", leaf.write(tmp_path / "pki").chain)
    (asked,) = requests(plugin, "generate-signature")
    assert asked["keyId"] == "k/1?+"
    assert asked["pluginConfig"] == {"of": "the name", "both": "given", "more": "1"}
    other = make_leaf(make_root(), "Other").write(tmp_path / "other").chain
    fails(cli(*sign, "--force", "--cert", other), 5, "and not with CN=Other")
    fails(cli("sign", *name(home), "--key", "nothing", "--cert", other), 4, "cannot read nothing")


def test_a_file_and_its_root_hash(install, tmp_path):
    leaf, _ = install(key="RSA-2048")
    data = write(tmp_path / "data", noise(8192))
    ok("verity", "sign", data, *KEY)
    root = leaf.write(tmp_path / "pki").root
    files = ("--root-hash-file", f"{data}.roothash", "--signature", f"{data}.roothash.p7s")
    ok("verity", "verify", data, f"{data}.verity", *files, "--cert", root)


@pytest.mark.parametrize(
    ("wrong", "key", "exit_code", "words"),
    [
        ("get-plugin-metadata: dies", "EC-256", 4, "the plugin test was killed by SIGKILL"),
        ("speaks contract 2.0", "EC-256", 4, "the versions 2.0"),
        ("is another plugin", "EC-256", 4, "'other'"),
        ("does not sign", "EC-256", 5, "does not sign: it has SIGNATURE_VERIFIER.TRUSTED"),
        ("describe-key: fails in JSON", "EC-256", 5, "refused describe-key: ACCESS_DENIED: not yo"),
        ("generate-signature: hangs", "EC-256", 4, "did not end within 3 s"),
        ("generate-signature: floods stdout", "EC-256", 4, "to standard output and was stopped"),
        ("generate-signature: dies", "EC-256", 4, "was killed by SIGKILL"),
        ("generate-signature: fails in text", "EC-256", 4, "no route to the vault"),
        ("generate-signature: says nothing", "EC-256", 4, "does not keep to the contract"),
        ("signs as PSS", "RSA-2048", 5, "does not know signing_scheme=rsassa-pkcs1-v1_5"),
        ("signs as PKCS#1", "RSA-2048", 5, "asked for a rsassa-pss-sha256 signature"),
        ("signs with another key", "RSA-2048", 5, "another key than that of CN=Test Signer"),
        ("shows another key's certificate", "EC-256", 5, "by the key of CN=Other"),
    ],
)
def test_nothing_is_pushed_after(wrong, key, exit_code, words, home, install):
    install(wrong, key)
    push_image(home.store, "v1", tars(2))
    before = home.contents
    done = cli("sign", *name(home), *KEY, "--plugin-timeout", "3")
    fails(done, exit_code, words)
    assert home.contents == before


# envelopes


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_an_envelope_of_a_plugin_signs_the_manifest(form, home, install, notation):
    leaf, _ = install(capabilities=(ENVELOPE,), key="RSA-3072")
    image = push_image(home.store, "v1", tars(1))
    sign = ("sign", *name(home), *KEY, "--no-dm-verity", "--signature-format", form)
    ok(*sign, "--expiry", "24h", "--user-metadata", "build=7")
    (found,) = home.store.referrers(image.descriptor)
    manifest = home.store.fetch_manifest(found)
    assert manifest.annotations["by"] == "plugin"
    assert manifest.annotations["org.opencontainers.image.created"] != "never"
    notation.trust(pem(leaf.root))
    (layout,) = home.arguments[-1:]
    verified = notation(
        *("verify", "--oci-layout", f"{layout}@{image.descriptor.digest}"),
        *("--scope", "local/test", "--user-metadata", "build=7"),
    )
    assert verified.exit_code == 0, verified.err


@pytest.mark.parametrize("wrong", ["signs another descriptor", "never expires", "adds a member"])
def test_nothing_is_pushed_after_an_envelope_that(wrong, home, install):
    install(wrong, capabilities=(ENVELOPE,))
    push_image(home.store, "v1", tars(1))
    before = home.contents
    fails(cli("sign", *name(home), *KEY, "--no-dm-verity", "--expiry", "24h"), 5, "envelope")
    assert home.contents == before


def test_an_envelope_is_nothing_for_layers(home, install, tmp_path):
    _, plugin = install(capabilities=(ENVELOPE,))
    push_image(home.store, "v1", tars(1))
    before = home.contents
    for options in ((), ("--no-manifest-signature",)):
        done = cli("sign", *name(home), *KEY, *options)
        fails(done, 5, "no raw signatures", "--no-dm-verity")
    data = write(tmp_path / "data", noise(8192))
    fails(cli("verity", "sign", data, *KEY), 5, "no raw signatures")
    assert home.contents == before
    assert [path.name for path in tmp_path.glob("data*")] == ["data"]
    assert requests(plugin, "generate-envelope") == []


@pytest.mark.parametrize("capability", [RAW, ENVELOPE])
@pytest.mark.parametrize("media_type", ["application/jose+json", "application/cose"])
def test_notation_takes_the_plugin_of_these_tests(
    capability, media_type, install, notation, tmp_path
):
    leaf, _ = install(capabilities=(capability,))
    layout = Layout(tmp_path / "oci")
    notation.trust(pem(leaf.root))
    done = notation.sign(layout, media_type, "--plugin", "test", "--id", "key-1")
    assert done.exit_code == 0, done.err
    assert notation.verify(layout).exit_code == 0
    ok("verify", "--oci-layout", f"{layout.root}:v1", "--no-dm-verity", "--scope", "local/test")
