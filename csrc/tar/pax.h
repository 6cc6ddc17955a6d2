/* SPDX-License-Identifier: Apache-2.0
 *
 * PAX records to fields. */
#ifndef DMSIGN_TAR_PAX_H
#define DMSIGN_TAR_PAX_H

#include "fields.h"

/* The records of one header: `len` bytes followed by a NUL. On failure *reason says why. */
int tar_pax_parse(struct tar_fields *fields, uint32_t traits, bool lossy, char *bytes, size_t len,
                  const char **reason);

#endif
