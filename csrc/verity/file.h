/* SPDX-License-Identifier: Apache-2.0
 *
 * file.h: block digests of a file by the threads of a pool, in two steps.
 */
#ifndef DMSIGN_FILE_H
#define DMSIGN_FILE_H

#include "../sha256/block_hash.h"

/* Reads and hashes a run of blocks at a time; its buffers stay from one to the next. All zero: a
 * new one. */
struct file_hash {
    const dmsign_block_hash *hash;
    int fd;
    uint64_t offset;
    size_t count, batch;
    uint8_t *digests;
    _Atomic uint64_t failed_at;
    uint8_t *buffers[MAX_THREADS]; /* of each worker, when it needs one */
};

/* Arguments and errors as dmsign_hash_file. What was begun without an error has to be ended. */
int file_hash_begin(struct file_hash *file, struct pool *pool, const dmsign_block_hash *hash,
                    int fd, uint64_t offset, size_t count, uint8_t *digests, unsigned threads);
int file_hash_end(struct file_hash *file, struct pool *pool, uint64_t *failed_at);
/* Only when nothing is going on. */
void file_hash_free(struct file_hash *file);

#endif
