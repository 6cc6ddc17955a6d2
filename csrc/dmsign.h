/* SPDX-License-Identifier: Apache-2.0
 *
 * dmsign.h: the whole public interface of the C core, and the cffi declaration.
 *
 * The core turns bytes into SHA-256 dm-verity digests and trees and their error correction, and tar
 * archives into EROFS images. It keeps no state but the chosen implementations, prints nothing, and
 * opens and closes no file. Functions return 0 or a negative errno value. Objects belong to the
 * caller that made them; a constant object may serve any number of threads at once, a tree only one
 * call at a time. `threads` is how many threads a call may use, itself included; no result depends
 * on it.
 */
#ifndef DMSIGN_H
#define DMSIGN_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* Implementations of SHA-256, best first, until `index` is past the last one and the name NULL. */
const char *dmsign_impl_name(unsigned index);
/* Whether this processor can run it. */
int dmsign_impl_supported(unsigned index);
/* The one that new objects get. */
const char *dmsign_impl(void);
/* Chooses by name for all objects made afterwards; NULL chooses the best that this processor has.
 * -EINVAL: no such name; -ENOTSUP: this processor cannot run it. */
int dmsign_impl_select(const char *name);

/* SHA-256 of streams of bytes, several in step: one message alone leaves most of a core idle. */
typedef struct dmsign_stream dmsign_stream;

/* How many streams this processor takes in step; 0: it has no instructions for that. */
unsigned dmsign_streams_in_step(void);
/* NULL: out of memory (errno ENOMEM), or no such instructions (ENOTSUP). */
dmsign_stream *dmsign_stream_new(void);
void dmsign_stream_free(dmsign_stream *stream);
/* Appends to each of `count` different streams: pieces[0] pieces of data to the first, then
 * pieces[1] to the second, and so on. -EINVAL: too many in step. */
int dmsign_streams_update(dmsign_stream *const *streams, unsigned count,
                          const uint8_t *const *data, const size_t *sizes, const unsigned *pieces);
/* The digest of all so far, 32 bytes; the stream can go on. */
void dmsign_stream_digest(const dmsign_stream *stream, uint8_t *digest);

/* The salted digest of one block: H(salt | block) for hash type 1, H(block | salt) for type 0. */
typedef struct dmsign_block_hash dmsign_block_hash;

/* block_size: a power of two, 512 to 512 KiB; salt_size: 0 to 256. NULL: out of these limits
 * (errno EINVAL) or of memory (ENOMEM). The salt is copied. */
dmsign_block_hash *dmsign_block_hash_new(unsigned hash_type, const uint8_t *salt, size_t salt_size,
                                         size_t block_size);
void dmsign_block_hash_free(dmsign_block_hash *hash);

/* Digests of `count` contiguous blocks, 32 bytes each. */
int dmsign_hash_blocks(const dmsign_block_hash *hash, const uint8_t *blocks, size_t count,
                       uint8_t *digests, unsigned threads);
/* The same for the blocks from byte `offset` of a file that can be read by position.
 * On failure *failed_at is the byte at which reading stopped; -ENODATA: the file ends there. */
int dmsign_hash_file(const dmsign_block_hash *hash, int fd, uint64_t offset, size_t count,
                     uint8_t *digests, unsigned threads, uint64_t *failed_at);

/* A dm-verity tree that grows as data arrives. Level 0 holds the digests of the data blocks. */
typedef struct dmsign_tree dmsign_tree;

/* Limits and errors as dmsign_block_hash_new. */
dmsign_tree *dmsign_tree_new(unsigned hash_type, const uint8_t *salt, size_t salt_size,
                             size_t data_block_size, size_t hash_block_size);
void dmsign_tree_free(dmsign_tree *tree);

/* Appends data: bytes of any length; `count` blocks of a file; `count` blocks of zeros, which are
 * not hashed again. The last two need data that ended on a block boundary so far (-EINVAL).
 * After an error the tree can only be freed. Threads that a tree started stay until it is freed. */
int dmsign_tree_update(dmsign_tree *tree, const uint8_t *data, size_t size, unsigned threads);
int dmsign_tree_update_file(dmsign_tree *tree, int fd, uint64_t offset, size_t count,
                            unsigned threads, uint64_t *failed_at);
/* dmsign_tree_update_file in two steps: between them other threads read and hash, and the caller
 * may take what dmsign_tree_level showed before, and shows still; the end forgets it. Nothing else
 * may be done with the tree meanwhile, but to free it. */
int dmsign_tree_begin_file(dmsign_tree *tree, int fd, uint64_t offset, size_t count,
                           unsigned threads);
int dmsign_tree_end_file(dmsign_tree *tree, unsigned threads, uint64_t *failed_at);
int dmsign_tree_update_zeros(dmsign_tree *tree, size_t count);
/* Appends `count` blocks of which only the digests are known, under the same condition. */
int dmsign_tree_update_digests(dmsign_tree *tree, const uint8_t *digests, size_t count,
                               unsigned threads);
/* Ends the data and writes the root hash, 32 bytes.
 * -ENODATA: there was none; -EINVAL: it does not end on a block boundary. */
int dmsign_tree_final(dmsign_tree *tree, uint8_t *root_hash, unsigned threads);

/* Levels that hold something; after dmsign_tree_final, exactly the levels of the hash area. */
unsigned dmsign_tree_levels(const dmsign_tree *tree);
/* The finished hash blocks of a level that were not drained: *size bytes (a multiple of the hash
 * block size) that stand *start bytes into the level. Valid until the next call with the tree. */
const uint8_t *dmsign_tree_level(const dmsign_tree *tree, unsigned level, uint64_t *start,
                                 size_t *size);
/* Forgets what dmsign_tree_level shows, on all levels. */
void dmsign_tree_drain(dmsign_tree *tree);

/* Forward error correction as dm-verity has it (kernel: drivers/md/dm-verity-fec.c). A message, with
 * zeros behind it, is cut into 255 - roots rows of row_size bytes; the bytes of a column are the data
 * of one Reed-Solomon codeword over GF(2^8). Its parity, `roots` bytes, stands at column * roots. */
typedef struct dmsign_fec dmsign_fec;
/* `size` bytes of a file from `offset` on stand in the message from `start` on. Between parts, and
 * behind them, it is zero. */
typedef struct dmsign_fec_part {
    int fd;
    uint64_t offset, start, size;
} dmsign_fec_part;

/* As dmsign_impl_name and its like, for the arithmetic of Reed-Solomon codes. */
const char *dmsign_fec_impl_name(unsigned index);
int dmsign_fec_impl_supported(unsigned index);
const char *dmsign_fec_impl(void);
int dmsign_fec_impl_select(const char *name);

/* roots: 2 to 24; row_size: a multiple of 512; parts: at most 4, in rising order, copied. NULL: out
 * of these limits (errno EINVAL) or of memory (ENOMEM). */
dmsign_fec *dmsign_fec_new(unsigned roots, uint64_t row_size, const dmsign_fec_part *parts,
                           size_t count);
void dmsign_fec_free(dmsign_fec *fec);

/* Adds (XOR) the parity of `columns` columns from `first` on, both multiples of 512, to `parity`,
 * columns * roots bytes: it is zero at first, or has the parity of other parts. With a hash (not
 * NULL) first and columns are multiples of its block size, part 0 begins the message, and the
 * digest of its block n in these columns of row i goes to digests[(i * columns / block_size) + n].
 * On failure *failed_at is the byte of the message at which reading stopped, or UINT64_MAX. */
int dmsign_fec_encode(const dmsign_fec *fec, uint64_t first, size_t columns, uint8_t *parity,
                      const dmsign_block_hash *hash, uint8_t *digests, unsigned threads,
                      uint64_t *failed_at);
/* Decodes `columns` columns from `first` on, both multiples of 512, and writes `count` rows of them,
 * `columns` bytes each, to `out`. erased: these rows, at most `roots`, are not read; else the errors
 * in them are mended where they stand. *errors: symbols that were wrong in other rows (without
 * `erased`, in all), parity among them; *failed: columns with too many errors, where `out` is not
 * mended. *failed_at is as before; the parity stands behind the padded message. */
int dmsign_fec_decode(const dmsign_fec *fec, uint64_t first, size_t columns, int parity_fd,
                      uint64_t parity_offset, const uint8_t *rows, unsigned count, int erased,
                      uint8_t *out, uint64_t *errors, uint64_t *failed, unsigned threads,
                      uint64_t *failed_at);

/* The groups of versions of mkfs.erofs that make the same images, oldest first, until `index` is
 * past the last one and the name NULL. *versions: all of them, each followed by a space. */
const char *dmsign_mkfs_group(unsigned index, const char **versions);

/* A layer's tar on its way to the EROFS image that mkfs.erofs makes of it. The image is
 * [head][data][tail], and blocks of data are hashed as the tar comes in:
 *   full conversion (mkfs.erofs --tar=f --aufs -Enoinline_data -b4096 --sort=none): the head is
 *     block 0, the data the files' in the order of the tar, the tail all other metadata;
 *   tar index (--tar=i --aufs, the tar appended): the head is the metadata, the data the tar. */
typedef struct dmsign_layer dmsign_layer;

/* index: 1 for a tar index, 0 for full conversion. lossy: do as mkfs.erofs where it silently drops
 * something, instead of failing. hash: of the data's blocks, whose size must divide the image's
 * block size, 512 or 4096; it must outlive the layer; NULL: no digests. seed: of hash tables, to be
 * random. fd: a new file that gets data and tail too, from byte 0 (tar index) or 4096 on, with holes
 * for zeros; -1: none. head_fd: a new file that gets the head too, from byte 0 on; -1: none.
 * leader: NULL, or a layer of the same layout and hash that outlives the new one, and gets the same
 * tar in the same calls, each just before it: the new one follows it, as another version. It hashes
 * no data, and head and tail together are its head.
 * NULL: unknown version or wrong block size (errno EINVAL), no memory (ENOMEM). */
dmsign_layer *dmsign_layer_new(const char *mkfs_version, int index, int lossy,
                               const dmsign_block_hash *hash, uint64_t seed, int fd, int head_fd,
                               dmsign_layer *leader);
void dmsign_layer_free(dmsign_layer *layer);

/* More of the tar, in pieces of any size. After an error every call repeats it. */
int dmsign_layer_update(dmsign_layer *layer, const uint8_t *tar, size_t size, unsigned threads);
/* Ends the tar. Data that does not end on a block boundary is hashed as if zeros followed. */
int dmsign_layer_final(dmsign_layer *layer, const uint8_t *uuid, unsigned threads);

/* Whether a follower may have other data than its leader: then the leader's leaves are not its. */
int dmsign_layer_differs(const dmsign_layer *layer);

/* The first digests, in order, of the blocks behind the head that were hashed and not drained: *size
 * bytes, 0 if there are none. Valid until the next call with the layer. */
const uint8_t *dmsign_layer_leaves(const dmsign_layer *layer, size_t *size);
/* Forgets what dmsign_layer_leaves shows; then it shows the next. */
void dmsign_layer_drain(dmsign_layer *layer);

/* After dmsign_layer_final: the digests of the head; its bytes, without an fd the first 4096; bytes
 * of the image (of a tar index: without the tar), and of the tar up to the end of the archive;
 * inodes. */
const uint8_t *dmsign_layer_head_leaves(const dmsign_layer *layer, size_t *size);
const uint8_t *dmsign_layer_head(const dmsign_layer *layer, size_t *size);
void dmsign_layer_about(const dmsign_layer *layer, uint64_t *image_size, uint64_t *parsed,
                        uint64_t *inodes);

/* Why the layer failed: an errno value if writing to fd did; otherwise 0, and the reason, the entry
 * (at most 255 bytes, which need not be text; maybe none) and where in the tar it begins. */
int dmsign_layer_error(const dmsign_layer *layer, const char **reason, const char **entry,
                       uint64_t *offset);

/* cffi: end */

#endif
