/* Preloaded, makes bytes BAD_FROM to BAD_TO of the file whose name ends in "disk" unreadable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t guarded(const char *name, int fd, void *to, size_t size, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    const off_t from = atoll(getenv("BAD_FROM")), end = atoll(getenv("BAD_TO"));
    char link[64], path[4096] = "";

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 4 && !strcmp(path + strlen(path) - 4, "disk") &&
        at < end && at + (off_t)size > from) {
        errno = EIO;
        return -1;
    }
    return real(fd, to, size, at);
}

ssize_t pread(int fd, void *to, size_t size, off_t at)
{
    return guarded("pread", fd, to, size, at);
}

ssize_t pread64(int fd, void *to, size_t size, off_t at)
{
    return guarded("pread64", fd, to, size, at);
}
