"""Texts of policies of IPE, and what Linux says to each; tests/kernel asks it."""

from dmsign_fast.node.ipe.policy import Operation

HASH, OTHER = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
HEAD = "policy_name=only-signed policy_version=1.0.0\n"
ALLOW_ALL = "DEFAULT action=ALLOW\n"
SIGNED = "op=EXECUTE dmverity_signature=TRUE action=ALLOW\n"
GOOD = f"{HEAD}{ALLOW_ALL}DEFAULT op=EXECUTE action=DENY\n{SIGNED}"
_PER_OPERATION = "".join(f"DEFAULT op={one} action=DENY\n" for one in Operation)
_ROOT_HASH = f"op=EXECUTE dmverity_roothash={HASH}"

TAKEN = {
    "good": GOOD,
    "crlf": GOOD.replace("\n", "\r\n"),
    "comments": f"# a comment\n\n  {GOOD.replace('=TRUE ', '=TRUE   ')}\t \n# end",
    "each-default": HEAD + _PER_OPERATION,
    "upper-case-hex": f"{HEAD}{ALLOW_ALL}{_ROOT_HASH.replace('ab', 'AB')} action=DENY",
    "no-property": f"{HEAD}{ALLOW_ALL}op=KMODULE action=DENY # all",
    "sha512": f"{HEAD}{ALLOW_ALL}op=EXECUTE dmverity_roothash=sha512:{'0' * 128} action=ALLOW",
    "both-properties": GOOD.replace("op=EXECUTE dm", f"{_ROOT_HASH} dm"),
    "fsverity": f"{GOOD}op=EXECUTE fsverity_digest=sha256:{'0' * 64} action=ALLOW",
    "largest-version": GOOD.replace("1.0.0", "65535.65535.65535"),
    "tabs": GOOD.replace(" ", "\t"),
}
"""By Linux, and by us."""

REFUSED = {
    "empty": ("# nothing", "EBADMSG"),
    "byte-order-mark": (f"\ufeff{GOOD}", "EBADMSG"),
    "no-name": (GOOD.replace("policy_name=only-signed ", ""), "EBADMSG"),
    "more-in-the-header": (GOOD.replace("1.0.0", "1.0.0 more=1"), "EBADMSG"),
    "version-first": ("policy_version=1.0.0 policy_name=a\n" + ALLOW_ALL, "EBADMSG"),
    "version-of-letters": (GOOD.replace("1.0.0", "1.0.x"), "EINVAL"),
    "version-of-two": (GOOD.replace("1.0.0", "1.0"), "EBADMSG"),
    "version-too-large": (GOOD.replace("1.0.0", "1.0.65536"), "ERANGE"),
    "name-with-slash": (GOOD.replace("only-signed", "a/b"), "EACCES"),
    "name-of-dots": (GOOD.replace("only-signed", ".."), "EACCES"),
    "long-name": (GOOD.replace("only-signed", "a" * 300), "ENAMETOOLONG"),
    "no-default": (HEAD, "EBADMSG"),
    "one-default-is-missing": (
        HEAD + _PER_OPERATION.replace("DEFAULT op=POLICY action=DENY\n", ""),
        "EBADMSG",
    ),
    "second-default": (GOOD + ALLOW_ALL, "EBADMSG"),
    "second-default-of-one": (GOOD + "DEFAULT op=EXECUTE action=ALLOW", "EBADMSG"),
    "unknown-operation": (GOOD.replace("op=EXECUTE dm", "op=EXEC dm"), "EBADMSG"),
    "lower-case-operation": (GOOD.replace("op=EXECUTE dm", "op=execute dm"), "EBADMSG"),
    "lower-case-truth": (GOOD.replace("=TRUE", "=true"), "EBADMSG"),
    "unknown-property": (GOOD.replace("dmverity_signature", "signature"), "EBADMSG"),
    "action-not-last": (GOOD + "op=EXECUTE action=ALLOW boot_verified=TRUE", "EBADMSG"),
    "operation-not-first": (GOOD + "boot_verified=TRUE op=EXECUTE action=ALLOW", "EBADMSG"),
    "no-action": (GOOD + "op=EXECUTE", "EBADMSG"),
    "default-with-property": (
        GOOD + "DEFAULT op=KMODULE boot_verified=TRUE action=ALLOW",
        "EBADMSG",
    ),
    "no-hex": (GOOD + "op=EXECUTE dmverity_roothash=sha256:xy action=DENY", "EINVAL"),
    "no-algorithm": (GOOD + f"op=EXECUTE dmverity_roothash={'0' * 64} action=DENY", "EBADMSG"),
}
"""By Linux, with that error, and by us."""

STRICTER = {
    "nul": (GOOD + "\0op=", "NUL"),
    "unknown-algorithm": (
        GOOD + "op=EXECUTE dmverity_roothash=sha257:abcd action=DENY",
        "algorithm 'sha257'",
    ),
    "short-hash": (GOOD + "op=EXECUTE dmverity_roothash=sha256:abcd action=DENY", "2 bytes"),
    "twice": (
        GOOD + "op=KMODULE boot_verified=TRUE boot_verified=TRUE action=DENY",
        "line 5: boot_verified stands there twice .Linux takes it",
    ),
    "same-rule": (GOOD + SIGNED, "line 5: it never applies: line 4"),
    "late-revocation": (GOOD + f"{_ROOT_HASH} action=DENY", "line 5: it comes too late"),
    "behind-a-wider-rule": (
        GOOD + f"{_ROOT_HASH} dmverity_signature=TRUE action=ALLOW",
        "never applies",
    ),
    "impossible": (
        GOOD + "op=KMODULE boot_verified=TRUE dmverity_signature=TRUE action=ALLOW",
        "no file can have",
    ),
}
"""Linux takes them, and we refuse them, for these reasons."""
