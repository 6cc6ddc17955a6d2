"""The index of referrers that clients keep under a tag, where a registry keeps none.

distribution-spec 1.1, Referrers Tag Schema. Registries have no lock and no compare-and-swap for
tags: who reads the index, adds to it and writes it back undoes what another wrote in between.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from dmsign_fast.errors import DmsignError, RegistryError
from dmsign_fast.oci.manifest import Index, make_index

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dmsign_fast.oci.descriptor import Descriptor

__all__ = ["update_indexes"]

_MOST_ROUNDS = 50


def update_indexes(
    referrers: Mapping[str, Sequence[Descriptor]],
    read: Callable[[str], Index | None],
    write: Callable[[Index, str], object],
    settle: float,
    where: str,
    *,
    gone: Collection[str] = (),
) -> dict[str, DmsignError]:
    """Add referrers to indexes, in one write of each, and see that they stay.

    A writer who read an index before our write may write it after, without ours. So we look again
    when everybody who began before us is done, and add what is missing. That holds unless somebody
    takes longer than ``settle``, or four times as long as we did, from reading to writing. All
    indexes share the pause.

    Args:
        referrers: to add, by the tag of their index.
        read: the index under a tag, or None if there is none.
        write: stores an index under a tag.
        settle: seconds.
        where: the repository, for messages.
        gone: digests of referrers to take out.

    Returns:
        The errors by tag; the others have their referrers.
    """
    waiting = dict(referrers)
    failed: dict[str, DmsignError] = {}
    for number in range(_MOST_ROUNDS):
        settled = 0.0
        # who all lost to one look again at different times
        spread = random.uniform(1, 1.5) if number else 1
        for tag in list(waiting):
            try:
                pause = _change(waiting[tag], gone, tag, read, write, settle)
            except DmsignError as error:
                failed[tag], pause = error, None
            if pause is None:
                del waiting[tag]
            else:
                settled = max(settled, time.monotonic() + spread * pause)
        if not waiting:
            return failed
        time.sleep(max(0.0, settled - time.monotonic()))
    for tag in waiting:
        failed[tag] = RegistryError(
            f"{where}:{tag}: other programs removed our referrers {_MOST_ROUNDS} times: try again "
            "later"
        )
    return failed


def _change(
    referrers: Sequence[Descriptor],
    gone: Collection[str],
    tag: str,
    read: Callable[[str], Index | None],
    write: Callable[[Index, str], object],
    settle: float,
) -> float | None:
    """Add what is missing and take out what is gone.

    Returns:
        The seconds after which to look again; None if there was nothing to do.
    """
    begin = time.monotonic()
    index = read(tag) or make_index()
    known = time.monotonic()
    listed = {one.plain() for one in index.manifests}
    missing = [one for one in referrers if one.plain() not in listed]
    if not missing and not any(one.digest in gone for one in index.manifests):
        return None
    changed = index.with_more(missing, lambda one: one.digest in gone)
    if time.monotonic() - known > settle / 2:  # this process was stopped meanwhile
        return 0.0
    write(changed, tag)
    return max(settle, 4 * (time.monotonic() - begin))
