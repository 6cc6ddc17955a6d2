"""Envelopes whose chain, or a certificate in it, has one thing wrong."""

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from deviation import EC, RSA, case
from pki import make_entity, make_intermediate, make_leaf, make_root

CHAINS = [
    case("chain-without-root", "self-signed root", chain=RSA.chain[:-1]),
    case("chain-reversed", "not that of a key", chain=RSA.chain[::-1]),
    case("chain-out-of-order", "did not issue", chain=(RSA.chain[0], *RSA.chain[:0:-1])),
    case("chain-root-twice", "not the last", chain=(*RSA.chain, RSA.root)),
    case("chain-unrelated", "did not issue", chain=(RSA.certificate, *EC.above)),
    case("chain-of-other-key", "not that of a key", chain=EC.chain),
]


OTHER_USAGES = dict.fromkeys(
    (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
NOT_CRITICAL = (x509.KeyUsage(digital_signature=True, **OTHER_USAGES), False)


def eku(*usages, critical=False):
    return (x509.ExtendedKeyUsage(list(usages)), critical)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
ACME = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Acme")])
NARROW = x509.NameConstraints([x509.DirectoryName(ACME)], None)
ROOT = make_root()
BY_OPTIONAL = make_intermediate(
    ROOT, "bc", ca=None, extensions=((x509.BasicConstraints(True, None), False),)
)


CERTIFICATES = [
    case("leaf-is-ca", "is a CA", make_entity("ca", ROOT, ca=True, usage=("digital_signature",))),
    case("usage-absent", "has no key usage", make_leaf(ROOT, "no usage", usage=None)),
    case(
        "usage-not-critical",
        "is not critical",
        make_leaf(ROOT, "usage", usage=None, extensions=(NOT_CRITICAL,)),
    ),
    case("usage-lacks", "lacks digitalSignature", make_leaf(ROOT, "lacks", usage=("crl_sign",))),
    case(
        "usage-encipherment",
        "includes keyEncipherment",
        make_leaf(ROOT, "more", usage=("digital_signature", "key_encipherment")),
    ),
    *(
        case(
            f"usage-extended-{name}",
            f"includes {written}",
            make_leaf(ROOT, name, extensions=(eku(Eku.CODE_SIGNING, one),)),
        )
        for name, written, one in (
            ("server", "serverAuth", Eku.SERVER_AUTH),
            ("client", "clientAuth", Eku.CLIENT_AUTH),
            ("email", "emailProtection", Eku.EMAIL_PROTECTION),
            ("timestamps", "timeStamping", Eku.TIME_STAMPING),
            ("ocsp", "OCSPSigning", Eku.OCSP_SIGNING),
            ("any", "anyExtendedKeyUsage", Eku.ANY_EXTENDED_KEY_USAGE),
        )
    ),
    case(
        "ca-constraints-absent",
        "not a CA",
        make_leaf(make_intermediate(ROOT, "no constraints", ca=None)),
    ),
    case("ca-false", "not a CA", make_leaf(make_intermediate(ROOT, "false", ca=False))),
    case("ca-constraints-not-critical", "are not critical", make_leaf(BY_OPTIONAL)),
    case(
        "ca-usage-absent", "has no key usage", make_leaf(make_intermediate(ROOT, "ku", usage=None))
    ),
    case(
        "ca-usage-lacks",
        "lacks keyCertSign",
        make_leaf(make_intermediate(ROOT, "ku2", usage=("crl_sign",))),
    ),
    case(
        "ca-path-length",
        "allows 0",
        make_leaf(make_intermediate(make_root("short", path_length=0))),
    ),
    case(
        "ca-key-of-1024-bits",
        "too small",
        make_leaf(make_intermediate(ROOT, "weak", key="RSA-1024")),
    ),
    case(
        "leaf-critical-extension",
        "critical extension 1.2.3.4",
        make_leaf(ROOT, "critical", extensions=((UNKNOWN, True),)),
    ),
    case(
        "ca-critical-extension",
        "critical extension 1.2.3.4",
        make_leaf(make_intermediate(ROOT, "critical ca", extensions=((UNKNOWN, True),))),
    ),
    case(
        "ca-name-constraints",
        "not among those permitted",
        make_leaf(make_intermediate(ROOT, "narrow", extensions=((NARROW, True),))),
    ),
    case("leaf-key-of-2560-bits", "no support for a key", make_leaf(ROOT, "odd", key="RSA-2560")),
    case(
        "self-signed-ca",
        "is a CA",
        make_root("alone", usage=("digital_signature", "key_cert_sign")),
    ),
]
