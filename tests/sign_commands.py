"""What the tests of ``dmsign-fast sign`` say again and again."""

from notation import SCOPE

NOTARY = "application/vnd.cncf.notary.signature"
DM_VERITY = "application/vnd.cncf.notary.signature.dm-verity"
OSGUARD = "application/vnd.oci.mt.pkcs7"
SECRET = "Pass phrase 42"


def name(home, wanted="v1"):
    *options, place = home.arguments
    return (*options, f"{place}{'@' if ':' in wanted else ':'}{wanted}")


def types(home, manifest):
    return sorted(one.artifact_type for one in home.store.referrers(manifest.descriptor))


def only(home, manifest, kind):
    (found,) = home.store.referrers(manifest.descriptor, kind)
    return found


def assert_fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("dmsign-fast")
    assert ": error: " in last
    for word in words:
        assert word in last, last
    assert "Successfully" not in done.out


# what notation says of it


def judge(notation, home, image, *options, command="verify"):
    """Let notation verify or list."""
    *layout, place = home.arguments
    reference = f"{place}@{image.descriptor.digest}"
    scope = ("--scope", SCOPE) if layout and command == "verify" else ()
    where = () if layout else ("--insecure-registry",)
    done = notation(command, *layout, reference, *scope, *where, *options)
    if home.server:  # which is made for our own manners
        home.server.complaints.clear()
    return done


def listed(done):
    return [line.split()[-1] for line in done.out.splitlines() if "sha256:" in line][1:]
