/* SPDX-License-Identifier: Apache-2.0
 *
 * test_fec.c: error correction against itself, made to run under sanitizers and emulators.
 *
 * Every implementation must agree with the portable one in all that it adds, and get back what was
 * destroyed. (That the parity is veritysetup's is for tests/verity/test_fec_veritysetup.py.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dmsign.h"
#include "fec/code.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, dmsign_fec_impl(), #condition); \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static unsigned long checks;

static uint32_t next_random(void)
{
    static uint32_t x = 2463534242;

    x ^= x << 13;
    x ^= x >> 17;
    return x ^= x << 5;
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)next_random();
}

/* add() for any number of rows and sums, at any alignment, touching nothing beside its sums. */
static void test_add(const dmsign_fec *fec)
{
    static uint8_t data[FEC_BATCH * 3000], sums[FEC_MAX_ROOTS * 3000], wanted[sizeof sums];
    uint8_t factors[FEC_BATCH][FEC_MAX_ROOTS];

    for (unsigned count = 1; count <= FEC_MAX_ROOTS; count++) {
        const unsigned rows = 1 + next_random() % FEC_BATCH, skew = next_random() % 64;
        const size_t width = FEC_UNIT * (1 + next_random() % 4);

        fill(data, sizeof data);
        fill(sums, sizeof sums);
        fill(factors[0], sizeof factors);
        factors[0][0] = 0;
        factors[rows - 1][count - 1] = 1;
        memcpy(wanted, sums, sizeof sums);
        fec->impl->add(&fec->field, (struct fec_rows){sums + skew, 2700}, count,
                          (struct fec_rows){data + skew, 2800}, rows, factors, width);
        fec_portable.add(&fec->field, (struct fec_rows){wanted + skew, 2700}, count,
                         (struct fec_rows){data + skew, 2800}, rows, factors, width);
        CHECK(!memcmp(sums, wanted, sizeof sums));
    }
}

/* A message in two files (the second with a hole), its parity in a third. */
struct message {
    dmsign_fec *fec;
    unsigned roots, rows;
    size_t row_size, size, parity_size;
    uint8_t *bytes, *parity; /* the message padded to rows * row_size */
    int files[2], parity_file;
    size_t cut;
};

static int file_of(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("part", 0);

    CHECK(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    return fd;
}

static struct message make(unsigned roots, size_t row_size, size_t size)
{
    struct message m = {.roots = roots, .rows = 255 - roots, .row_size = row_size, .size = size};
    dmsign_fec_part parts[2];
    uint64_t failed_at;

    m.cut = size / 2 / 512 * 512;
    m.bytes = calloc(m.rows, row_size);
    m.parity_size = row_size * roots;
    m.parity = calloc(1, m.parity_size);
    CHECK(m.bytes && m.parity);
    fill(m.bytes, size);
    memset(m.bytes + m.cut, 0, size / 4); /* zeros at the head of the second file: a hole */
    m.files[0] = file_of(m.bytes, m.cut);
    m.files[1] = memfd_create("part", 0);
    CHECK(m.files[1] >= 0 && !ftruncate(m.files[1], (off_t)(size - m.cut)));
    CHECK(pwrite(m.files[1], m.bytes + m.cut + size / 4, size - m.cut - size / 4,
                 (off_t)(size / 4)) == (ssize_t)(size - m.cut - size / 4));
    parts[0] = (dmsign_fec_part){m.files[0], 0, 0, m.cut};
    parts[1] = (dmsign_fec_part){m.files[1], 0, m.cut, size - m.cut};
    m.fec = dmsign_fec_new(roots, row_size, parts, 2);
    CHECK(m.fec && !dmsign_fec_encode(m.fec, 0, row_size, m.parity, NULL, NULL, 3, &failed_at));
    m.parity_file = file_of(m.parity, m.parity_size);
    return m;
}

static void drop(struct message *m)
{
    dmsign_fec_free(m->fec);
    close(m->files[0]);
    close(m->files[1]);
    close(m->parity_file);
    free(m->bytes);
    free(m->parity);
}

/* The remainder of long division by the generator, symbol by symbol. */
static void test_parity(const struct message *m)
{
    const struct fec_field *field = &m->fec->field;
    uint8_t generator[25] = {1};

    for (unsigned root = 0; root < m->roots; root++)
        for (unsigned i = root + 1; i; i--)
            generator[i] ^= field->products[generator[i - 1]][field->powers[root]];
    for (size_t column = 0; column < m->row_size; column += 1 + next_random() % 50) {
        uint8_t rest[25] = {0};

        for (unsigned row = 0; row < m->rows; row++) {
            const uint8_t top = rest[0] ^ m->bytes[row * m->row_size + column];

            for (unsigned i = 0; i < m->roots; i++)
                rest[i] = rest[i + 1] ^ field->products[top][generator[i + 1]];
        }
        CHECK(!memcmp(rest, m->parity + column * m->roots, m->roots));
    }
}

/* Parity of spans, by parts that are added one after the other, with digests on the way. */
static void test_spans(const struct message *m, size_t block_size)
{
    dmsign_block_hash *hash = dmsign_block_hash_new(1, (const uint8_t *)"salt", 4, block_size);
    const dmsign_fec_part first = {m->files[0], 0, 0, m->cut};
    const dmsign_fec_part second = {m->files[1], 0, m->cut, m->size - m->cut};
    dmsign_fec *one = dmsign_fec_new(m->roots, m->row_size, &first, 1);
    dmsign_fec *two = dmsign_fec_new(m->roots, m->row_size, &second, 1);
    uint8_t *parity = calloc(1, m->parity_size), digest[32];
    const size_t step = block_size * (1 + next_random() % 3);
    uint64_t failed_at;

    CHECK(hash && one && two && parity);
    for (size_t at = 0, columns; at < m->row_size; at += columns) {
        uint8_t *digests;

        columns = step < m->row_size - at ? step : m->row_size - at;
        digests = calloc(m->rows, columns / block_size * 32);
        CHECK(!dmsign_fec_encode(one, at, columns, parity + at * m->roots, hash, digests, 2,
                                 &failed_at));
        for (unsigned row = 0; row < m->rows; row++)
            for (size_t n = 0; n < columns / block_size; n++) {
                const size_t place = row * m->row_size + at + n * block_size;

                memset(digest, 0, 32);
                if (place + block_size <= m->cut)
                    CHECK(!dmsign_hash_blocks(hash, m->bytes + place, 1, digest, 1));
                CHECK(!memcmp(digest, digests + (row * columns / block_size + n) * 32, 32));
            }
        free(digests);
    }
    CHECK(!dmsign_fec_encode(two, 0, m->row_size, parity, NULL, NULL, 2, &failed_at));
    CHECK(!memcmp(parity, m->parity, m->parity_size));
    dmsign_block_hash_free(hash);
    dmsign_fec_free(one);
    dmsign_fec_free(two);
    free(parity);
}

static int touch(const struct message *m, size_t at, uint8_t change)
{
    const int fd = at < m->cut ? m->files[0] : m->files[1];
    const off_t offset = (off_t)(at < m->cut ? at : at - m->cut);
    uint8_t byte;

    CHECK(pread(fd, &byte, 1, offset) == 1);
    byte ^= change;
    return pwrite(fd, &byte, 1, offset) == 1;
}

/* Destroys whole rows, and besides as many symbols of each column as can be found. */
static void test_decode(struct message *m, unsigned erasures)
{
    const unsigned last = (unsigned)((m->size + m->row_size - 1) / m->row_size);
    uint8_t rows[FEC_MAX_ROOTS], *out = calloc(FEC_MAX_ROOTS, m->row_size);
    uint64_t errors, failed, failed_at, wrong = 0;
    const size_t columns = m->row_size;
    uint8_t (*places)[FEC_MAX_ROOTS] = calloc(columns, FEC_MAX_ROOTS);
    uint8_t (*changes)[FEC_MAX_ROOTS] = calloc(columns, FEC_MAX_ROOTS);
    unsigned *touched = calloc(columns, sizeof *touched);

    if (erasures > last)
        erasures = last;
    for (unsigned k = 0; k < erasures; k++) {
        unsigned row, known;

        do {
            row = next_random() % last;
            for (known = 0; known < k && rows[known] != row; known++)
                ;
        } while (known < k);
        rows[k] = (uint8_t)row;
    }
    for (size_t column = 0; column < columns; column++) {
        unsigned more = next_random() % ((m->roots - erasures) / 2 + 1);

        while (more--) {
            unsigned row = next_random() % last, known, erased;
            const size_t at = row * m->row_size + column;

            for (known = 0; known < touched[column] && places[column][known] != row; known++)
                ;
            for (erased = 0; erased < erasures && rows[erased] != row; erased++)
                ;
            if (known < touched[column] || erased < erasures || at >= m->size)
                continue;
            changes[column][known] = (uint8_t)(1 + next_random() % 255);
            places[column][known] = (uint8_t)row;
            CHECK(touch(m, at, changes[column][known]));
            touched[column]++;
            wrong++;
        }
    }
    CHECK(!dmsign_fec_decode(m->fec, 0, columns, m->parity_file, 0, rows, erasures, 1, out, &errors,
                             &failed, 2, &failed_at));
    CHECK(errors == wrong && !failed);
    for (unsigned k = 0; k < erasures; k++)
        CHECK(!memcmp(out + k * columns, m->bytes + rows[k] * m->row_size, columns));
    if (!erasures && last >= 3) { /* the same, with rows that are wanted */
        const uint8_t wanted[] = {0, 1, 2};

        CHECK(!dmsign_fec_decode(m->fec, 0, columns, m->parity_file, 0, wanted, 3, 0, out, &errors,
                                 &failed, 2, &failed_at));
        CHECK(errors == wrong && !failed && !memcmp(out, m->bytes, 3 * columns));
    }
    for (size_t column = 0; column < columns; column++)
        while (touched[column]) {
            const unsigned k = --touched[column];

            CHECK(touch(m, places[column][k] * m->row_size + column, changes[column][k]));
        }
    free(places);
    free(changes);
    free(touched);
    free(out);
}

/* More errors than can be found are said to be too many, or (rarely) taken for others. */
static void test_too_many(struct message *m)
{
    uint64_t errors, failed, failed_at;
    unsigned wrong = m->roots / 2 + 1;

    for (unsigned k = 0; k < wrong; k++)
        CHECK(touch(m, k * m->row_size, (uint8_t)(k + 1)));
    CHECK(!dmsign_fec_decode(m->fec, 0, m->row_size, m->parity_file, 0, NULL, 0, 0, NULL, &errors,
                             &failed, 1, &failed_at));
    CHECK(failed == 1 || (errors <= m->roots / 2 && errors));
    for (unsigned k = 0; k < wrong; k++)
        CHECK(touch(m, k * m->row_size, (uint8_t)(k + 1)));
}

static void test_limits(void)
{
    const dmsign_fec_part good = {0, 0, 0, 512}, before = {0, 0, 0, 0}, far = {0, 0, 253 * 512, 1};
    const dmsign_fec_part two[] = {good, before};
    uint8_t rows[] = {1, 1}, out[2 * 512];
    uint64_t errors, failed, failed_at;
    dmsign_fec *fec;

    CHECK(!dmsign_fec_new(1, 512, &good, 1) && errno == EINVAL);
    CHECK(!dmsign_fec_new(25, 512, &good, 1) && errno == EINVAL);
    CHECK(!dmsign_fec_new(2, 0, &good, 1) && errno == EINVAL);
    CHECK(!dmsign_fec_new(2, 1000, &good, 1) && errno == EINVAL);
    CHECK(!dmsign_fec_new(2, UINT64_MAX / 512 * 512, &good, 1) && errno == EINVAL);
    CHECK(!dmsign_fec_new(2, 512, two, 2) && errno == EINVAL);
    CHECK(!dmsign_fec_new(2, 512, &far, 1) && errno == EINVAL);
    CHECK(dmsign_fec_impl_select("no such") == -EINVAL && dmsign_fec_impl_select("") == -EINVAL);
    fec = dmsign_fec_new(2, 512, &before, 1);
    CHECK(fec);
    CHECK(dmsign_fec_encode(fec, 512, 512, out, NULL, NULL, 1, &failed_at) == -EINVAL);
    CHECK(dmsign_fec_encode(fec, 0, 100, out, NULL, NULL, 1, &failed_at) == -EINVAL);
    CHECK(dmsign_fec_decode(fec, 0, 512, -1, 0, rows, 2, 1, out, &errors, &failed, 1,
                            &failed_at) == -EINVAL);
    CHECK(dmsign_fec_decode(fec, 0, 512, -1, 0, rows, 1, 1, out, &errors, &failed, 1,
                            &failed_at) == -EBADF);
    CHECK(failed_at == 253 * 512);
    dmsign_fec_free(fec);
}

int main(void)
{
    const int quick = getenv("DMSIGN_TEST_QUICK") != NULL; /* an emulator runs it */

    test_limits();
    for (unsigned impl = 0; dmsign_fec_impl_name(impl); impl++) {
        if (!dmsign_fec_impl_supported(impl)) {
            CHECK(dmsign_fec_impl_select(dmsign_fec_impl_name(impl)) == -ENOTSUP);
            printf("fec %s: not on this processor\n", dmsign_fec_impl_name(impl));
            continue;
        }
        CHECK(!dmsign_fec_impl_select(dmsign_fec_impl_name(impl)));
        for (unsigned roots = 2; roots <= FEC_MAX_ROOTS; roots += quick ? 11 : 1) {
            const size_t row_size = 1024 * (1 + next_random() % 9);
            const size_t full = (255 - roots) * row_size;
            struct message m = make(roots, row_size, full - next_random() % full / 4 / 512 * 512);

            test_add(m.fec);
            test_parity(&m);
            test_spans(&m, next_random() % 2 ? 512 : 1024);
            for (unsigned erasures = 0; erasures <= roots; erasures += 1 + next_random() % 5)
                test_decode(&m, erasures);
            test_decode(&m, roots);
            test_too_many(&m);
            drop(&m);
        }
        printf("fec %s: agrees\n", dmsign_fec_impl());
    }
    printf("fec: %lu checks\n", checks);
    return 0;
}
