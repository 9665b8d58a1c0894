/* Records what a process writes to its files and when it syncs them, for replaying power losses (tests/faults/power).
 *
 *   LD_PRELOAD=shim.so OUTPOST_TRACE=/path/of/trace OUTPOST_TRACE_UNDER=/folder/  program …
 *
 * One record per operation on a file under the folder: a header, the path, the data. A record is appended in the same
 * critical section as the operation itself, so that within a process the order of records is the order of operations.
 * Reads, locks and shared memory are not recorded: none of them survives a power loss.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096

struct header {
    uint8_t operation;
    uint8_t reserved;
    uint16_t path_bytes;
    uint32_t data_bytes;
    int64_t offset;
} __attribute__((packed));

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char *path_of[FILES];
static const char *under;
static int trace = -1;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void set_up(void) {
    if (under) return;
    under = getenv("OUTPOST_TRACE_UNDER");
    if (!under) under = "";
    const char *file = getenv("OUTPOST_TRACE");
    if (*under && file) trace = REAL(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
    set_up();
    size_t length = strlen(under), own = strlen(path);
    if (trace < 0 || strncmp(path, under, length)) return 0;
    return own < 4 || strcmp(path + own - 4, "-shm");
}

static void record(char operation, const char *path, int64_t offset, const void *data, size_t bytes) {
    struct header header = {operation, 0, (uint16_t)strlen(path), (uint32_t)bytes, offset};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)path, header.path_bytes}, {(void *)data, bytes}};
    if (writev(trace, parts, 3) < 0) abort();
}

static const char *known(int file) { return file >= 0 && file < FILES ? path_of[file] : NULL; }

static int opened(int file, const char *path, int flags, int is_new) {
    if (file < 0 || file >= FILES) return file;
    free(path_of[file]);
    path_of[file] = strdup(path);
    if (is_new) record('c', path, 0, NULL, 0);
    else if (flags & O_TRUNC) record('t', path, 0, NULL, 0);
    return file;
}

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        mode_t mode = 0;                                                       \
        if (flags & O_CREAT) {                                                 \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            mode = (mode_t)va_arg(rest, int);                                  \
            va_end(rest);                                                      \
        }                                                                      \
        if (!is_ours(path)) return REAL(name)(path, flags, mode);              \
        pthread_mutex_lock(&guard);                                            \
        int is_new = (flags & O_CREAT) && access(path, F_OK);                  \
        int file = opened(REAL(name)(path, flags, mode), path, flags, is_new); \
        pthread_mutex_unlock(&guard);                                          \
        return file;                                                           \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    pthread_mutex_lock(&guard);
    if (known(file)) {
        free(path_of[file]);
        path_of[file] = NULL;
    }
    pthread_mutex_unlock(&guard);
    return REAL(close)(file);
}

ssize_t write(int file, const void *data, size_t bytes) {
    if (!known(file)) return REAL(write)(file, data, bytes);
    pthread_mutex_lock(&guard);
    int64_t offset = lseek(file, 0, fcntl(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = REAL(write)(file, data, bytes);
    if (done > 0) record('w', known(file), offset, data, (size_t)done);
    pthread_mutex_unlock(&guard);
    return done;
}

#define PWRITE(name, type)                                               \
    ssize_t name(int file, const void *data, size_t bytes, type offset) { \
        if (!known(file)) return REAL(name)(file, data, bytes, offset);  \
        pthread_mutex_lock(&guard);                                      \
        ssize_t done = REAL(name)(file, data, bytes, offset);            \
        if (done > 0) record('w', known(file), offset, data, (size_t)done); \
        pthread_mutex_unlock(&guard);                                    \
        return done;                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, type)                                    \
    int name(int file, type length) {                           \
        if (!known(file)) return REAL(name)(file, length);      \
        pthread_mutex_lock(&guard);                             \
        int done = REAL(name)(file, length);                    \
        if (!done) record('t', known(file), length, NULL, 0);   \
        pthread_mutex_unlock(&guard);                           \
        return done;                                            \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                        \
    int name(int file) {                                  \
        if (!known(file)) return REAL(name)(file);        \
        pthread_mutex_lock(&guard);                       \
        int done = REAL(name)(file);                      \
        if (!done) record('s', known(file), 0, NULL, 0);  \
        pthread_mutex_unlock(&guard);                     \
        return done;                                      \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    if (!is_ours(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&guard);
    int done = REAL(unlink)(path);
    if (!done) record('u', path, 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    return done;
}

int rename(const char *from, const char *to) {
    if (!is_ours(from)) return REAL(rename)(from, to);
    pthread_mutex_lock(&guard);
    int done = REAL(rename)(from, to);
    if (!done) record('r', from, 0, to, strlen(to));
    pthread_mutex_unlock(&guard);
    return done;
}
