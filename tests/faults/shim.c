/* Stands between a process and the C library: records what it writes and syncs, and kills it at its N-th call.
 *
 *   LD_PRELOAD=shim.so OUTPOST_UNDER=/folder/ OUTPOST_TRACE=/path/of/trace  program …
 *
 * Recording (for power losses): one record per operation on a file under the folder: a header, the path, the data. A
 * record is appended in the same critical section as the operation itself, so that within a process the order of records
 * is the order of operations. Reads, locks and shared memory are not recorded: none of them survives a power loss.
 *
 * Killing: outpost_watch maps a file of one struct page; every call that comes by here is counted there, and the process
 * kills itself just before call `die_at`, which whoever else has mapped the file may set at any time. A program started
 * with OUTPOST_WATCH=/path/of/page counts there from its first call about a file under the folder.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
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

struct page {
    int64_t calls;
    int64_t die_at;
    char label[112]; /* the call it died at, and the file it was about */
};

static struct page *page;
static struct page *unused; /* of a program that counts from its first call about a file under the folder */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char *path_of[FILES];
static const char *under;
static int trace = -1;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void set_up(void) {
    if (under) return;
    under = getenv("OUTPOST_UNDER");
    if (!under) under = "";
    const char *file = getenv("OUTPOST_TRACE");
    if (*under && file) trace = REAL(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

int outpost_watch(const char *path) {
    int file = REAL(open)(path, O_RDWR | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) REAL(close)(file);
    if (mapped == MAP_FAILED) return -1;
    page = mapped;
    return 0;
}

/* A program that was started with a page (OUTPOST_WATCH) does much before it is of interest: it imports. */
__attribute__((constructor)) static void watch_from_the_first_file(void) {
    const char *path = getenv("OUTPOST_WATCH");
    if (path && outpost_watch(path)) abort();
    unused = page;
    page = NULL;
}

static void step(const char *call, const char *path) {
    if (!page) return;
    int64_t number = __atomic_add_fetch(&page->calls, 1, __ATOMIC_SEQ_CST);
    if (number != __atomic_load_n(&page->die_at, __ATOMIC_SEQ_CST)) return;
    const char *name = path ? strrchr(path, '/') : NULL;
    snprintf(page->label, sizeof page->label, "%s %s", call, name ? name + 1 : "");
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_ours(const char *path) {
    set_up();
    size_t length = strlen(under), own = strlen(path);
    if (!length || strncmp(path, under, length)) return 0;
    if (!page) page = unused;
    return own < 4 || strcmp(path + own - 4, "-shm");
}

static void record(char operation, const char *path, int64_t offset, const void *data, size_t bytes) {
    if (trace < 0) return;
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
        int ours = is_ours(path);                                              \
        step("open", path);                                                    \
        if (!ours) return REAL(name)(path, flags, mode);                       \
        pthread_mutex_lock(&guard);                                            \
        int is_new = (flags & O_CREAT) && access(path, F_OK);                  \
        int file = opened(REAL(name)(path, flags, mode), path, flags, is_new); \
        pthread_mutex_unlock(&guard);                                          \
        return file;                                                           \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    step("close", known(file));
    pthread_mutex_lock(&guard);
    if (known(file)) {
        free(path_of[file]);
        path_of[file] = NULL;
    }
    pthread_mutex_unlock(&guard);
    return REAL(close)(file);
}

ssize_t write(int file, const void *data, size_t bytes) {
    step("write", known(file));
    if (!known(file)) return REAL(write)(file, data, bytes);
    pthread_mutex_lock(&guard);
    int64_t offset = lseek(file, 0, REAL(fcntl)(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = REAL(write)(file, data, bytes);
    if (done > 0) record('w', known(file), offset, data, (size_t)done);
    pthread_mutex_unlock(&guard);
    return done;
}

#define PWRITE(name, type)                                               \
    ssize_t name(int file, const void *data, size_t bytes, type offset) { \
        step("write", known(file));                                      \
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
        step("truncate", known(file));                          \
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
        step("sync", known(file));                        \
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
    step("unlink", path);
    if (!is_ours(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&guard);
    int done = REAL(unlink)(path);
    if (!done) record('u', path, 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    return done;
}

int rename(const char *from, const char *to) {
    step("rename", to);
    if (!is_ours(from)) return REAL(rename)(from, to);
    pthread_mutex_lock(&guard);
    int done = REAL(rename)(from, to);
    if (!done) record('r', from, 0, to, strlen(to));
    pthread_mutex_unlock(&guard);
    return done;
}

/* Calls that are only counted: reads, locks, and what goes over the network. */

#define READ(name, type)                                                \
    ssize_t name(int file, void *data, size_t bytes, type offset) {     \
        step("read", known(file));                                      \
        return REAL(name)(file, data, bytes, offset);                   \
    }
READ(pread, off_t)
READ(pread64, off64_t)

#define CONTROL(name)                              \
    int name(int file, int command, ...) {         \
        va_list rest;                              \
        va_start(rest, command);                   \
        void *argument = va_arg(rest, void *);     \
        va_end(rest);                              \
        step("lock", known(file));                 \
        return REAL(name)(file, command, argument); \
    }
CONTROL(fcntl)
CONTROL(fcntl64)

int flock(int file, int operation) {
    step("lock", known(file));
    return REAL(flock)(file, operation);
}

ssize_t send(int socket, const void *data, size_t bytes, int flags) {
    step("send", NULL);
    return REAL(send)(socket, data, bytes, flags);
}

ssize_t recv(int socket, void *data, size_t bytes, int flags) {
    step("receive", NULL);
    return REAL(recv)(socket, data, bytes, flags);
}

int connect(int socket, const struct sockaddr *address, socklen_t bytes) {
    step("connect", NULL);
    return REAL(connect)(socket, address, bytes);
}

int accept4(int socket, struct sockaddr *address, socklen_t *bytes, int flags) {
    step("accept", NULL);
    return REAL(accept4)(socket, address, bytes, flags);
}
