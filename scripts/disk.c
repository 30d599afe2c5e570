/* A disk that fills up, or that remembers what was written when: LD_PRELOAD for scripts/disk.py.
 *
 * Every call that changes a file or a folder below a prefix is counted. From a given number on, such
 * calls fail with ENOSPC; the first of them, if it writes, may write half. Or each is appended to a
 * log, in the order in which it happened: a kind, a number, and two strings of given lengths.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[PATH_MAX];
static size_t prefix_length;
static long full_from = LONG_MAX, counted;
static int half, log_to = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#pragma GCC diagnostic ignored "-Wformat-truncation" /* what is longer cannot be opened either */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* From the call number `from` on, the disk that `below` lies on is full. */
void disk_fill(const char *below, long from, int halves) {
    strncpy(prefix, below, sizeof prefix - 1);
    prefix_length = strlen(prefix);
    full_from = from;
    half = halves;
    counted = 0;
}

void disk_log(const char *below, int to) {
    disk_fill(below, LONG_MAX, 0);
    log_to = to;
}

long disk_counted(void) { return counted; }

static int below(const char *path) {
    return prefix_length && !strncmp(path, prefix, prefix_length) &&
           (path[prefix_length] == '/' || path[prefix_length] == 0);
}

/* Whether `path`, which may be relative, is below the prefix; its absolute form. */
static int concerns(int folder, const char *path, char *absolute) {
    if (!prefix_length) return 0;
    if (path[0] == '/') {
        snprintf(absolute, PATH_MAX, "%s", path);
    } else if (folder == AT_FDCWD) {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(absolute, PATH_MAX, "%s/%s", here, path);
    } else {
        char link[64], here[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, here, sizeof here - 1);
        if (length < 0) return 0;
        here[length] = 0;
        snprintf(absolute, PATH_MAX, "%s/%s", here, path);
    }
    return below(absolute);
}

static int concerns_file(int file) {
    if (!prefix_length || file == log_to) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int writes(int file) {
    int flags = fcntl(file, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

/* One more call: 0 if there is room, 1 if not, 2 if this one is the first without. */
static int is_full(void) {
    long number = __sync_add_and_fetch(&counted, 1);
    return number == full_from ? 2 : number > full_from;
}

static int refuse(void) {
    errno = ENOSPC;
    return -1;
}

static void note(char kind, int64_t number, const void *one, uint32_t length, const void *other,
                 uint32_t other_length) {
    if (log_to < 0) return;
    char head[17];
    head[0] = kind;
    memcpy(head + 1, &number, 8);
    memcpy(head + 9, &length, 4);
    memcpy(head + 13, &other_length, 4);
    struct iovec parts[3] = {{head, 17}, {(void *)one, length}, {(void *)other, other_length}};
    ssize_t written = REAL(writev)(log_to, parts, 3);
    (void)written;
}

static int64_t inode_of(int file) {
    struct stat found;
    return fstat(file, &found) ? -1 : (int64_t)found.st_ino;
}

/* A file was opened for writing: whether it is new, and whether it was emptied. */
static void note_opened(int file, const char *path, int flags, int existed) {
    if (file < 0) return;
    int64_t inode = inode_of(file);
    if (!existed) note('c', inode, path, strlen(path), "", 0);
    else if (flags & O_TRUNC) {
        int64_t size = 0;
        note('t', inode, &size, 8, "", 0);
    }
}

static void note_written(int file, const void *data, ssize_t count, off_t at) {
    if (log_to < 0 || count <= 0) return;
    int64_t offset = at;
    if (at < 0) {
        int append = fcntl(file, F_GETFL) & O_APPEND;
        offset = lseek(file, 0, append ? SEEK_END : SEEK_CUR) - count;
    }
    note('w', inode_of(file), &offset, 8, data, count);
}

#define OPENING(call)                                                   \
    char absolute[PATH_MAX];                                            \
    int changes = (flags & (O_CREAT | O_TRUNC)) != 0;                   \
    if (!changes || !concerns(folder, path, absolute)) return call;     \
    if (is_full()) return refuse();                                     \
    pthread_mutex_lock(&mutex);                                         \
    struct stat found;                                                  \
    int existed = !fstatat(folder, path, &found, 0);                    \
    int file = call;                                                    \
    note_opened(file, absolute, flags, existed);                        \
    pthread_mutex_unlock(&mutex);                                       \
    return file;

#define MODE                                       \
    mode_t mode = 0;                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {         \
        va_list rest;                              \
        va_start(rest, flags);                     \
        mode = va_arg(rest, mode_t);               \
        va_end(rest);                              \
    }

int open(const char *path, int flags, ...) {
    int folder = AT_FDCWD;
    MODE OPENING(REAL(open)(path, flags, mode))
}

int open64(const char *path, int flags, ...) {
    int folder = AT_FDCWD;
    MODE OPENING(REAL(open64)(path, flags, mode))
}

int openat(int folder, const char *path, int flags, ...) {
    MODE OPENING(REAL(openat)(folder, path, flags, mode))
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE OPENING(REAL(openat64)(folder, path, flags, mode))
}

static FILE *open_stream(FILE *(*real)(const char *, const char *), const char *path,
                         const char *how) {
    char absolute[PATH_MAX];
    if (how[0] == 'r' || !concerns(AT_FDCWD, path, absolute)) return real(path, how);
    if (is_full()) {
        errno = ENOSPC;
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    struct stat found;
    int existed = !stat(path, &found);
    FILE *stream = real(path, how);
    if (stream) note_opened(fileno(stream), absolute, how[0] == 'w' ? O_TRUNC : 0, existed);
    pthread_mutex_unlock(&mutex);
    return stream;
}

FILE *fopen(const char *path, const char *how) { return open_stream(REAL(fopen), path, how); }
FILE *fopen64(const char *path, const char *how) { return open_stream(REAL(fopen64), path, how); }

#define WRITING(call, halved, at)                    \
    if (!concerns_file(file)) return call;           \
    int full = is_full();                            \
    if (full == 1 || (full && !half)) return refuse(); \
    if (full) return halved;                         \
    pthread_mutex_lock(&mutex);                      \
    ssize_t written = call;                          \
    note_written(file, data, written, at);           \
    pthread_mutex_unlock(&mutex);                    \
    return written;

ssize_t write(int file, const void *data, size_t count) {
    WRITING(REAL(write)(file, data, count), REAL(write)(file, data, (count + 1) / 2), -1)
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at) {
    WRITING(REAL(pwrite)(file, data, count, at), REAL(pwrite)(file, data, (count + 1) / 2, at), at)
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t at) {
    WRITING(REAL(pwrite64)(file, data, count, at), REAL(pwrite64)(file, data, (count + 1) / 2, at), at)
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (!concerns_file(file)) return REAL(writev)(file, parts, count);
    ssize_t done = 0; /* part by part, as write sees them */
    for (int part = 0; part < count; part++) {
        ssize_t written = write(file, parts[part].iov_base, parts[part].iov_len);
        if (written < 0) return done ? done : -1;
        done += written;
        if ((size_t)written < parts[part].iov_len) break;
    }
    return done;
}

#define SYNCING(call)                          \
    if (!concerns_file(file)) return call;     \
    if (is_full()) return refuse();            \
    pthread_mutex_lock(&mutex);                \
    int result = call;                         \
    char link[64], path[PATH_MAX];             \
    snprintf(link, sizeof link, "/proc/self/fd/%d", file); \
    ssize_t length = readlink(link, path, sizeof path);    \
    note('s', inode_of(file), path, length < 0 ? 0 : length, "", 0); \
    pthread_mutex_unlock(&mutex);              \
    return result;

int fsync(int file) { SYNCING(REAL(fsync)(file)) }
int fdatasync(int file) { SYNCING(REAL(fdatasync)(file)) }

int close(int file) {
    if (!prefix_length || !writes(file) || !concerns_file(file)) return REAL(close)(file);
    int full = is_full();
    int result = REAL(close)(file);
    return full ? refuse() : result;
}

static int truncate_to(int (*real)(int, off64_t), int file, off64_t size) {
    if (!concerns_file(file)) return real(file, size);
    if (is_full()) return refuse();
    pthread_mutex_lock(&mutex);
    int result = real(file, size);
    int64_t kept = size;
    if (!result) note('t', inode_of(file), &kept, 8, "", 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int ftruncate(int file, off_t size) { return truncate_to(REAL(ftruncate64), file, size); }
int ftruncate64(int file, off64_t size) { return truncate_to(REAL(ftruncate64), file, size); }

static int rename_within(int from, const char *old, int to, const char *new) {
    char one[PATH_MAX], other[PATH_MAX];
    if (!concerns(from, old, one) || !concerns(to, new, other))
        return REAL(renameat)(from, old, to, new);
    if (is_full()) return refuse();
    pthread_mutex_lock(&mutex);
    int result = REAL(renameat)(from, old, to, new);
    if (!result) note('r', 0, one, strlen(one), other, strlen(other));
    pthread_mutex_unlock(&mutex);
    return result;
}

int rename(const char *old, const char *new) {
    return rename_within(AT_FDCWD, old, AT_FDCWD, new);
}

int renameat(int from, const char *old, int to, const char *new) {
    return rename_within(from, old, to, new);
}

static int link_within(int from, const char *old, int to, const char *new, int flags) {
    char one[PATH_MAX], other[PATH_MAX];
    if (!concerns(from, old, one) || !concerns(to, new, other))
        return REAL(linkat)(from, old, to, new, flags);
    if (is_full()) return refuse();
    pthread_mutex_lock(&mutex);
    int result = REAL(linkat)(from, old, to, new, flags);
    if (!result) note('l', 0, one, strlen(one), other, strlen(other));
    pthread_mutex_unlock(&mutex);
    return result;
}

int link(const char *old, const char *new) {
    return link_within(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    return link_within(from, old, to, new, flags);
}

static int make_folder(int folder, const char *path, mode_t mode) {
    char absolute[PATH_MAX];
    if (!concerns(folder, path, absolute)) return REAL(mkdirat)(folder, path, mode);
    if (is_full()) return refuse();
    pthread_mutex_lock(&mutex);
    int result = REAL(mkdirat)(folder, path, mode);
    if (!result) note('d', 0, absolute, strlen(absolute), "", 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int mkdir(const char *path, mode_t mode) { return make_folder(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return make_folder(folder, path, mode); }

/* What only frees room always works. */
static int remove_from(int folder, const char *path, int flags) {
    char absolute[PATH_MAX];
    int ours = log_to >= 0 && concerns(folder, path, absolute);
    pthread_mutex_lock(&mutex);
    int result = REAL(unlinkat)(folder, path, flags);
    if (ours && !result) note('u', 0, absolute, strlen(absolute), "", 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int unlink(const char *path) { return remove_from(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return remove_from(folder, path, flags); }
int rmdir(const char *path) { return remove_from(AT_FDCWD, path, AT_REMOVEDIR); }
