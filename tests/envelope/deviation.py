"""An envelope with one thing wrong, and a signature that is right for its bytes."""

from dataclasses import dataclass

from forge import forge_cose, forge_jws
from pki import Entity, make_intermediate, make_leaf, make_root

JWS, COSE = "application/jose+json", "application/cose"

RSA = make_leaf(make_intermediate(make_root()), key="RSA-2048")
EC = make_leaf(make_intermediate(make_root("Other Root"), "Other Intermediate"), "EC Signer")


@dataclass(frozen=True)
class Case:
    """``says`` is in our refusal; ``changes`` are what ``forge`` makes otherwise."""

    name: str
    says: str
    entity: Entity
    changes: dict
    media_type: str = JWS

    def envelope(self, image: dict) -> bytes:
        """Return the envelope, over an image or the payload that is made of it."""
        payload = self.changes.get("payload")
        made = {"payload": payload(image)} if callable(payload) else {}
        forge = {JWS: forge_jws, COSE: forge_cose}[self.media_type]
        return forge(self.entity, image, **self.changes | made)


def case(name, says, entity=RSA, **changes):
    return Case(name, says, entity, changes)
