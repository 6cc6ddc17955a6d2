"""Name constraints of a chain's issuers (RFC 5280, sections 4.2.1.10 and 6.1.4).

A name of a kind that is constrained and that cannot be compared here is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from dmsign_fast.signing.certificates import extension, name_of, one_line

__all__ = ["name_constraint_problem"]


def name_constraint_problem(chain: Sequence[x509.Certificate]) -> str | None:
    """Say which name in the chain, leaf first, an issuer above it does not allow, or None."""
    for at, issuer in enumerate(chain):
        found = extension(issuer, x509.NameConstraints)
        if found is None:
            continue
        for below in range(at):
            # what a CA issues to itself, as to change its key, is not constrained
            if below and chain[below].subject == chain[below].issuer:
                continue
            problem = _problem(chain[below], found.value)
            if problem is not None:
                return f"{name_of(issuer)} does not allow {name_of(chain[below])}: {problem}"
    return None


def _problem(certificate: x509.Certificate, allowed: x509.NameConstraints) -> str | None:
    for kind, name in _names(certificate):

        def subtrees(all_of: Sequence[x509.GeneralName] | None, kind: type = kind) -> list[Any]:
            return [one.value for one in all_of or () if type(one) is kind]

        if any(
            _within(kind, name, one) is not False for one in subtrees(allowed.excluded_subtrees)
        ):
            return f"its name {_text(name)} is excluded"
        permitted = subtrees(allowed.permitted_subtrees)
        if permitted and not any(_within(kind, name, one) for one in permitted):
            return f"its name {_text(name)} is not among those permitted"
    return None


def _names(certificate: x509.Certificate) -> Iterator[tuple[type, Any]]:
    """Yield each name with its kind."""
    if certificate.subject.rdns:
        yield x509.DirectoryName, certificate.subject
    alternative = extension(certificate, x509.SubjectAlternativeName)
    others = list(alternative.value) if alternative else []
    yield from ((type(one), one.value) for one in others)
    if not any(isinstance(one, x509.RFC822Name) for one in others):
        for mail in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            yield x509.RFC822Name, str(mail.value)


def _within(kind: type, name: Any, subtree: Any) -> bool | None:
    """Tell whether the name is in the subtree of its kind; None where that cannot be told."""
    if kind is x509.DirectoryName:
        within = _rdns(subtree)
        return _rdns(name)[: len(within)] == within
    if kind is x509.DNSName:
        return _host_within(name, subtree, subdomains=True)
    if kind is x509.IPAddress:
        network = isinstance(subtree, ipaddress.IPv4Network | ipaddress.IPv6Network)
        return name in subtree if network else None
    if kind is x509.RFC822Name:
        box, _, host = name.rpartition("@")
        wanted, at, outer_host = subtree.rpartition("@")
        return _host_within(host, outer_host) and (not at or wanted == box)
    if kind is x509.UniformResourceIdentifier:
        try:
            host = urlsplit(name).hostname
        except ValueError:
            return None
        return _host_within(host, subtree) if host else None
    return None


def _host_within(host: str, constraint: str, *, subdomains: bool = False) -> bool:
    """Tell whether it is that host, or one below ``.example``; ``subdomains``: or below it."""
    host, constraint = host.casefold().rstrip("."), constraint.casefold()
    if not constraint:
        return True
    if constraint.startswith("."):
        return host.endswith(constraint)
    return host == constraint or (subdomains and host.endswith(f".{constraint}"))


def _rdns(name: x509.Name) -> list[frozenset[tuple[x509.ObjectIdentifier, str]]]:
    # RFC 5280, section 7.1: case and repeated spaces do not count
    return [
        frozenset((one.oid, " ".join(str(one.value).casefold().split())) for one in rdn)
        for rdn in name.rdns
    ]


def _text(name: object) -> str:
    return repr(one_line(name) if isinstance(name, x509.Name) else str(name))
