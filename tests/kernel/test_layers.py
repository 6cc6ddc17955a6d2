"""Every layer of an image that was signed in a registry: opened, mounted, and read."""

import pytest

from kernel.expected_files import listing
from kernel.images import readable
from kernel.layers import DAMAGED, LAYERS, LISTED, SIGNINGS, SWAPPED, data_end


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("signing", SIGNINGS, ids=lambda signing: signing.name)
def test_a_layer_opens_with_the_signature_of_the_registry(signing, layer, judged):
    name = signing.case(layer)
    answer, image = judged.answers[name], judged.image(name)
    assert answer.verdict == "reads"
    assert answer.status == "V"
    assert answer.sha256 == readable(image.data, data_end(image), 512)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("signing", LISTED, ids=lambda signing: signing.name)
def test_a_mounted_layer_has_the_files_of_the_tar(signing, layer, judged):
    _, make = LAYERS[layer]
    assert sorted(judged.answers[signing.case(layer)].files) == listing(make())


def test_a_damaged_layer_has_all_but_one_file(judged):
    answer = judged.answers[DAMAGED]
    assert answer.verdict.startswith("EIO ")
    assert answer.status == "C"
    _, make = LAYERS["everything"]
    lost = [line for line in listing(make()) if line not in answer.files]
    assert len(lost) == 1
    assert lost[0].endswith("  ./size/large")
    assert set(answer.files) < set(listing(make()))


def test_a_layer_with_the_signature_of_another_does_not_open(judged):
    assert judged.answers[SWAPPED].verdict == "EKEYREJECTED"
