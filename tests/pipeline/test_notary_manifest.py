"""The manifest of a Notary Project signature, by the letter of its specification."""

import json
from datetime import UTC, datetime

import pytest
from pki import der, make_intermediate, make_leaf, make_root

from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.pipeline.artifact import make_notary

SUBJECT = Descriptor.of(b"image", "application/vnd.oci.image.manifest.v1+json")
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
}


@pytest.fixture(scope="module")
def chain():
    return make_leaf(make_intermediate(make_root())).chain


@pytest.mark.parametrize("legacy", [True, False])
def test_the_manifest_of_a_notary_signature(legacy, chain):
    kind = "application/vnd.cncf.notary.signature"
    when = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    artifact = make_notary(SUBJECT, b"envelope", "application/cose", chain, when, legacy=legacy)
    thumbprints = [Digest.of(der(one)).encoded for one in chain]
    assert len(thumbprints) == 3
    form = (
        {"config": EMPTY | {"mediaType": kind}}
        if legacy
        else {"config": EMPTY, "artifactType": kind}
    )
    assert json.loads(artifact.manifest.raw) == {
        "schemaVersion": 2,
        "mediaType": SUBJECT.media_type,
        "subject": SUBJECT.to_json(),
        **form,
        "layers": [Descriptor.of(b"envelope", "application/cose").to_json()],
        "annotations": {
            "io.cncf.notary.x509chain.thumbprint#S256": json.dumps(
                thumbprints, separators=(",", ":")
            ),
            "org.opencontainers.image.created": "2026-02-03T04:05:06Z",
        },
    }
    assert [content for _, content in artifact.blobs] == [b"{}", b"envelope"]
    assert artifact.manifest.referrer.artifact_type == kind
