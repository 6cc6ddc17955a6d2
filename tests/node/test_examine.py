"""The findings about a node, each changed on its own from one that enforces."""

import gzip
import os

import pki
import pytest
from nodes import CAPTURED, RELEASE, certificate, found

from dmsign_fast.node.findings import Finding, State, overall
from dmsign_fast.node.kernel import parse_options
from dmsign_fast.node.keyrings import parse_keys

ENROLLED = ("root", "ec", "rsa", "v1")
POLICY = "policy_name=layers policy_version=0.0.1\nDEFAULT action=ALLOW\n"


def not_ok(findings):
    """The findings that decide, and are not good."""
    bad = (State.PROBLEM, State.UNKNOWN)
    return {name: one.state for name, one in findings.items() if one.state in bad}


def test_a_node_that_enforces(node):
    findings = found(node, *map(certificate, ENROLLED))
    assert not_ok(findings) == {}
    assert overall(findings.values()) is State.OK
    assert findings["kernel"].evidence == f"Linux {RELEASE}"
    assert findings["CONFIG_DM_VERITY"].evidence == f"m in /boot/config-{RELEASE}"
    assert "require_signatures=Y" in findings["module dm_verity"].evidence
    assert findings["keyring .dm-verity"].evidence == "sealed (keyring_unsealed=Y)"
    held = findings["certificates in .dm-verity"].evidence
    assert "Trusted RSA: ba757916d0315a740e69f7b489821459ab3438de (rsa)" in held
    # through .builtin_trusted_keys, to which it has a link
    assert "Build time" in findings["certificates in .secondary_trusted_keys"].evidence
    assert findings["certificates in .platform"].evidence == "empty"
    assert findings["veritysetup"].state is State.OK
    assert [name for name in findings if name.startswith("certificate CN=")] == [
        f"certificate CN={name}" for name in ("Trusted Root", "Trusted EC", "Trusted RSA", "v1")
    ]


def test_a_certificate_that_this_kernel_cannot_have(node):
    made = pki.make_leaf(name="Next", key="ML-DSA-65").certificate
    finding = found(node, made)["certificate CN=Next"]
    assert (finding.state, finding.evidence) == (
        State.PROBLEM,
        "its key is of ML-DSA, which this kernel has not: it cannot be enrolled",
    )
    assert "CONFIG_CRYPTO_MLDSA" in finding.advice
    assert found(node)["CONFIG_CRYPTO_MLDSA"].state is State.NOTE
    config = node.root / f"boot/config-{RELEASE}"
    config.write_text(f"{config.read_text()}\nCONFIG_CRYPTO_MLDSA=y\n")
    assert "in none of" in found(node, made)["certificate CN=Next"].evidence
    assert found(node)["CONFIG_CRYPTO_MLDSA"].state is State.OK


@pytest.mark.parametrize(
    ("change", "name", "state", "words"),
    [
        (lambda n: n.option("DM_VERITY", None), "CONFIG_DM_VERITY", "problem", "no dm-verity"),
        (
            lambda n: n.option("DM_VERITY_VERIFY_ROOTHASH_SIG", None),
            "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG",
            "problem",
            "are not verified",
        ),
        (lambda n: n.option("EROFS_FS", None), "CONFIG_EROFS_FS", "problem", "mounted"),
        (lambda n: n.option("CRYPTO_ECDSA", None), "CONFIG_CRYPTO_ECDSA", "note", "ECDSA"),
        (lambda n: n.remove(f"boot/config-{RELEASE}"), "options", "unknown", "/proc/config.gz"),
        (
            lambda n: n.write("proc/config.gz", b"\x1f\x8b broken"),
            "options",
            "unknown",
            "unpacked",
        ),
        (lambda n: n.write("proc/config.gz", gzip.compress(b"")), "options", "unknown", "no conf"),
        (
            lambda n: n.write("proc/sys/kernel/osrelease", "5.3.0-1\n"),
            "kernel",
            "problem",
            "knows no signatures",
        ),
        (
            lambda n: n.write("proc/sys/kernel/osrelease", "odd\n"),
            "kernel",
            "unknown",
            "'odd' is no release",
        ),
        (
            lambda n: n.parameter("require_signatures", "N"),
            "signatures required",
            "problem",
            "opens too",
        ),
        (
            lambda n: n.remove("sys/module/dm_verity/parameters/require_signatures"),
            "signatures required",
            "problem",
            "no require_signatures",
        ),
        (
            lambda n: setattr(n, "sealed", False),
            "keyring .dm-verity",
            "problem",
            "not sealed",
        ),
        (lambda n: setattr(n, "sealed", None), "keyring .dm-verity", "unknown", "does not show"),
        (lambda n: setattr(n, "sealed", None), "certificates", "unknown", "cannot run keyctl"),
        (lambda n: n.remove("proc/keys"), "keyrings", "unknown", "/proc/keys is not there"),
        (lambda n: n.write("proc/keys", ""), "keyrings", "unknown", ".builtin_trusted_keys"),
        (
            lambda n: n.write("proc/keys", (CAPTURED / "keys-before").read_bytes()),
            "keyring .dm-verity",
            "problem",
            "though dm_verity is",
        ),
        (lambda n: n.rings.update({295975628: ""}), "certificate CN=v1", "problem", "in none of"),
    ],
)
def test_what_is_wrong_is_found(change, name, state, words, node):
    change(node)
    findings = found(node, *map(certificate, ENROLLED))
    assert findings[name].state == state
    assert words in findings[name].evidence
    if state != "note":
        assert findings[name].advice
        assert overall(findings.values()) is not State.OK
    else:
        assert not_ok(findings) == {}


def test_a_module_that_is_not_loaded(node):
    for name in ("require_signatures", "keyring_unsealed", "prefetch_cluster"):
        node.remove(f"sys/module/dm_verity/parameters/{name}")
    (node.root / "sys/module/dm_verity/parameters").rmdir()
    (node.root / "sys/module/dm_verity").rmdir()
    node.write("proc/keys", (CAPTURED / "keys-before").read_bytes())
    findings = found(node)
    assert findings["module dm_verity"].advice == "modprobe dm_verity"
    assert findings["keyring .dm-verity"].advice == "modprobe dm_verity"
    assert "signatures required" not in findings
    assert "certificates in .dm-verity" not in findings
    (node.root / "sys/module").rmdir()
    node.root.joinpath("sys").rename(node.root / "nosys")
    assert found(node)["module dm_verity"].state is State.UNKNOWN


def test_the_seal_shows_by_the_parameter_or_by_asking(node):
    assert found(node, probe_seal=False)["keyring .dm-verity"].state is State.UNKNOWN
    enrolled = found(node, certificate("ec"), probe_seal=False)
    assert enrolled["certificate CN=Trusted EC"].state is State.UNKNOWN
    node.parameter("keyring_unsealed", "N")
    node.sealed = False  # would be said if it were asked
    assert found(node)["keyring .dm-verity"].state is State.OK
    assert found(node, probe_seal=False)["keyring .dm-verity"].state is State.OK


def test_unsealed_keys_do_not_count(node):
    node.rings[296100562] = ""
    node.sealed = False
    findings = found(node, certificate("rsa"))
    assert findings["certificates"].state is State.PROBLEM
    assert findings["certificate CN=Trusted RSA"].state is State.PROBLEM
    node.sealed = True
    assert found(node)["certificates"].state is State.OK
    assert found(node, probe_seal=False)["certificates"].state is State.UNKNOWN


def test_a_kernel_without_the_keyring(node):
    node.write("proc/sys/kernel/osrelease", "6.12.1-amd64\n")
    node.remove(f"boot/config-{RELEASE}")
    node.write("lib/modules/6.12.1-amd64/config", gzip.decompress(captured("config.gz")))
    node.write("proc/keys", captured("keys-before"))
    findings = found(node, certificate("ec"))
    assert findings["keyring .dm-verity"].state is State.NOTE
    assert findings["CONFIG_DM_VERITY"].evidence == "m in /lib/modules/6.12.1-amd64/config"
    assert findings["certificate CN=Trusted EC"].state is State.PROBLEM


def captured(name):
    return (CAPTURED / name).read_bytes()


def test_keyrings_that_the_kernel_does_not_ask_do_not_count(node):
    node.option("DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING", None)
    node.option("DM_VERITY_VERIFY_ROOTHASH_SIG_SECONDARY_KEYRING", None)
    names = [name for name in found(node) if name.startswith("certificates in ")]
    assert names == ["certificates in .builtin_trusted_keys", "certificates in .dm-verity"]


def test_a_policy_of_ipe_can_ask_for_signatures(node):
    node.parameter("require_signatures", "N")
    place = "sys/kernel/security/ipe/policies/layers"
    node.write(f"{place}/active", "1").write(f"{place}/policy", POLICY)
    assert found(node)["signatures required"].state is State.PROBLEM
    allows = "op=EXECUTE dmverity_signature=TRUE action=ALLOW\n"
    node.write(f"{place}/policy", POLICY + allows)  # and all else, by its default
    assert found(node)["signatures required"].state is State.PROBLEM
    node.write(f"{place}/policy", f"{POLICY}DEFAULT op=EXECUTE action=DENY\n{allows}")
    node.write(f"{place}/version", "0.0.1").write(f"{place}/../idle/version", "2.0.0")
    findings = found(node)
    assert findings["signatures required"].state is State.OK
    assert "layers 0.0.1 is active, enforced; programs of an unsigned device: DENY" in (
        findings["IPE policy"].evidence
    )
    assert "not active: idle 2.0.0" in findings["IPE policy"].evidence
    assert "`ignore_corruption` beside" in findings["IPE bounds"].evidence
    node.write(f"{place}/policy", f"{POLICY}DEFAULT op=EXECUTE action=DENY\n{allows}{allows}")
    assert "cannot be meant" in found(node)["IPE policy"].evidence
    node.write(f"{place}/policy", f"{POLICY}DEFAULT op=EXECUTE action=DENY\n{allows}")
    node.write("sys/kernel/security/ipe/enforce", "0")
    assert found(node)["signatures required"].state is State.PROBLEM
    node.write("sys/kernel/security/ipe/enforce", "1").write(f"{place}/active", "0")
    assert found(node)["signatures required"].state is State.PROBLEM
    (node.root / "sys/kernel/security").rename(node.root / "sys/kernel/nosecurity")
    assert found(node)["signatures required"].state is State.UNKNOWN


def test_the_boot_line(node):
    assert "no /proc/cmdline" in found(node)["boot line"].evidence
    node.write("proc/cmdline", "quiet dm_verity.require_signatures=1 ipe.enforce=0 root=x\n")
    finding = found(node)["boot line"]
    assert finding.evidence.startswith("dm_verity.require_signatures=1 ipe.enforce=0 in")
    node.write("proc/cmdline", "lsm=ipe lsm=apparmor,bpf")
    assert "IPE is off" in found(node)["boot line"].evidence
    node.write("proc/cmdline", "lsm=apparmor,ipe")
    assert "IPE is off" not in found(node)["boot line"].evidence


def test_an_image_that_is_not_running(node):
    node.running = False
    findings = found(node, certificate("ec"), probe_seal=False)
    assert overall(findings.values()) is State.UNKNOWN
    assert "not the running system" in findings["veritysetup"].evidence
    assert findings["certificate CN=Trusted EC"].evidence.startswith("in /proc/keys; which")
    for path in ("proc/sys/kernel/osrelease", "proc/keys"):
        node.remove(path)
    node.write(f"lib/modules/{RELEASE}/kernel/empty", "")
    assert found(node, probe_seal=False)["kernel"].evidence == f"Linux {RELEASE}"
    node.write("lib/modules/6.1.0-1/kernel/empty", "")
    assert "2 kernels" in found(node, probe_seal=False)["kernel"].evidence


def test_names_that_lead_out_of_the_image_and_pipes_are_not_read(node, tmp_path):
    (tmp_path / "secret").write_text("secret = 1")
    (node.root / "etc/containerd").mkdir(parents=True)
    config = node.root / "etc/containerd/config.toml"
    config.symlink_to(tmp_path / "secret")
    assert "leads out of" in found(node)["containerd"].evidence
    config.unlink()
    os.mkfifo(config)
    assert "is not a file" in found(node)["containerd"].evidence
    config.unlink()
    config.symlink_to(config)
    assert found(node)["containerd"].state is State.UNKNOWN


class TestCertificates:
    def test_each_is_its_own_in_what_linux_lists(self):
        keys = [one for one in parse_keys(captured("keys-enrolled").decode()) if one.algorithm]
        assert len(keys) == 5
        for name in ENROLLED:
            matching = [one.name for one in keys if one.is_of(certificate(name))]
            assert len(matching) == 1
            assert matching[0].lower().removeprefix("trusted ").startswith(name)

    def test_another_with_the_same_name_is_not(self):
        other = pki.make_leaf(name="Trusted EC", key="EC-256").certificate
        keys = parse_keys(captured("keys-enrolled").decode())
        assert not any(one.is_of(other) for one in keys)

    def test_a_name_of_its_own_leaves_the_end_of_the_identifier(self):
        line = (
            "0285c47a I--Q---     1 perm 39010000     0     0 asymmetri our: signer: "
            "X509.ecdsa-nist-p256 9090a056 []\n"
        )
        (key,) = parse_keys(line)
        assert key.name == "our: signer"
        assert key.is_of(certificate("ec"))
        assert not key.is_of(certificate("rsa"))
        (other,) = parse_keys(line.replace("our: signer", f"signer: {12 * '00'}9090a056"))
        assert not other.is_of(certificate("ec"))

    def test_what_is_no_certificate_or_keyring_is_passed_over(self):
        keys = parse_keys(captured("keys-loaded").decode() + "nonsense\n\n")
        assert {one.name for one in keys if one.name.startswith(".dm")} == {".dm-verity"}
        assert "opal-boot-pin" not in {one.name for one in keys}


def test_options_are_read_from_a_real_configuration():
    options = parse_options(gzip.decompress(captured("config.gz")).decode())
    assert len(options) > 3000
    assert options["DM_VERITY"] == "m"
    assert options["IKCONFIG"] == "n"
    assert options["IPE_BOOT_POLICY"] == '""'


def test_overall_is_the_worst_and_notes_do_not_count():
    def worst(*states):
        return overall(Finding("", State(state), "") for state in states)

    assert worst("ok", "note") == "ok"
    assert worst("ok", "unknown", "note") == "unknown"
    assert worst("unknown", "problem", "ok") == "problem"
