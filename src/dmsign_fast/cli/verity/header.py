"""What veritysetup prints of a hash tree, and the same for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dmsign_fast.verity.format import Formatted
    from dmsign_fast.verity.params import VerityParams
    from dmsign_fast.verity.superblock import Superblock

__all__ = ["formatted_header", "header", "print_header"]


def header(
    params: VerityParams, data_blocks: int, superblock: Superblock | None, hash_offset: int
) -> dict[str, Any]:
    """Name and value of all that is known of a tree without its root hash."""
    area = params.hash_area(data_blocks, hash_offset=hash_offset, superblock=superblock is not None)
    return {
        "uuid": str(superblock.uuid) if superblock else None,
        "hash_type": params.hash_type,
        "data_blocks": data_blocks,
        "data_block_size": params.data_block_size,
        "hash_blocks": area.blocks,
        "hash_block_size": params.hash_block_size,
        "hash_algorithm": params.hash_algorithm,
        "salt": params.salt.hex(),
        "hash_offset": hash_offset,
        "hash_area_end": area.end,
    }


def formatted_header(formatted: Formatted, hash_offset: int) -> dict[str, Any]:
    """The same of a tree that was just made, with its root hash."""
    known = header(formatted.params, formatted.data_blocks, formatted.superblock, hash_offset)
    if fec := formatted.fec:
        known |= {
            "fec_roots": fec.roots,
            "fec_blocks": fec.parity_blocks,
            "fec_offset": fec.offset,
            "fec_end": fec.end,
            "fec_in_hash_file": fec.shared,
        }
    return known | {"root_hash": formatted.root_hash.hex()}


def print_header(path: Path, known: dict[str, Any]) -> None:
    """The text of ``veritysetup dump`` and ``format``."""
    print(f"VERITY header information for {path}")
    print(f"UUID:            \t{known['uuid'] or ''}")
    print(f"Hash type:       \t{known['hash_type']}")
    print(f"Data blocks:     \t{known['data_blocks']}")
    print(f"Data block size: \t{known['data_block_size']}")
    print(f"Hash blocks:     \t{known['hash_blocks']}")
    print(f"Hash block size: \t{known['hash_block_size']}")
    print(f"Hash algorithm:  \t{known['hash_algorithm']}")
    if "fec_roots" in known:
        print(f"FEC RS roots:   \t{known['fec_roots']}")
        print(f"FEC blocks:     \t{known['fec_blocks']}")
    print(f"Salt:            \t{known['salt'] or '-'}")
    if "root_hash" in known:
        print(f"Root hash:      \t{known['root_hash']}")
    parity = known.get("fec_blocks", 0) * known["data_block_size"]
    if not known["hash_offset"]:
        end = known["hash_area_end"] + (parity if known.get("fec_in_hash_file") else 0)
        print(f"Hash device size: \t{end} [bytes]")
    if parity and not known["fec_in_hash_file"] and not known["fec_offset"]:
        print(f"FEC device size: \t{parity} [bytes]")
