"""The index of referrers that clients keep under a tag, where a registry keeps none.

distribution-spec 1.1, Referrers Tag Schema. Registries have no lock and no compare-and-swap for
tags: who reads the index, adds to it and writes it back undoes what another wrote in between.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.manifest import Index, make_index

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dmsign_fast.oci.descriptor import Descriptor, Digest

__all__ = ["update_index"]

_MOST_ROUNDS = 50


def update_index(
    referrers: Sequence[Descriptor],
    read: Callable[[], Index | None],
    write: Callable[[Index], None],
    settle: float,
    where: str,
    gone: Collection[Digest] = (),
) -> None:
    """Add referrers to an index and take others out in one write, and see that it stays so.

    A writer who read the index before our write may write it after, without ours. So we look again
    when everybody who began before us is done, and add what is missing. That holds unless somebody
    takes longer than ``settle``, or four times as long as we did, from reading to writing.

    Args:
        referrers: to add.
        read: the index, or None if there is none.
        write: stores an index.
        settle: seconds.
        where: the tag, for messages.
        gone: referrers to take out.

    Raises:
        RegistryError: others undid every write of ours.
    """
    for _ in range(_MOST_ROUNDS):
        begin = time.monotonic()
        index = read() or make_index()
        known = time.monotonic()
        kept = [one for one in index.manifests if one.digest not in gone]
        listed = {one.digest for one in kept}
        missing = [one for one in referrers if one.digest not in listed]
        if not missing and len(kept) == len(index.manifests):
            return
        changed = index.with_manifests([*kept, *missing])
        if time.monotonic() - known > settle / 2:  # this process was stopped meanwhile
            continue
        write(changed)
        took = time.monotonic() - begin
        time.sleep(max(settle, 4 * took) * random.uniform(1, 1.5))
    raise RegistryError(
        f"{where}: other programs removed our referrers {_MOST_ROUNDS} times: try again later"
    )
