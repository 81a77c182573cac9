/* Records and breaks the file writes of a process (LD_PRELOAD).
 *
 * Every call by which a process changes files under SKPROXY_FAULT_DIRS goes through here, is done by a
 * raw system call, and is then appended to a trace by one write(2) under one mutex: the order of the
 * trace is the order of the program. The crash tests replay that trace as a disk would hold it after a
 * power cut (mod.rs). No state is kept per descriptor: its path is asked of /proc each time, so dup,
 * rename and reuse of a descriptor cannot mislead.
 *
 *   SKPROXY_FAULT_DIRS=a:b            only files under these directories count
 *   SKPROXY_FAULT_TRACE=file          where the trace goes
 *   SKPROXY_FAULT_MARK=file           what is written to this file is traced as a mark, with its data
 *   SKPROXY_FAULT_FAIL=op:N:error[:sticky]
 *                                     op is write or sync, N counts from 1, error is EIO, ENOSPC, EDQUOT
 *                                     or short (half is written); sticky: every one from N on
 *   SKPROXY_FAULT_SKIP_SYNC=1         syncs do nothing, report success and are not traced
 *
 * A failed write writes nothing; a failed sync does not sync. Writes are write, pwrite, writev, pwritev
 * and fallocate; syncs are fsync, fdatasync and sync_file_range.
 *
 * Not seen: memory-mapped writes (SQLite maps its -shm only, which is no durable state), stdio inside
 * libc, and system calls made past libc (rustix needs its `use-libc` feature). copy_file_range, sendfile
 * and splice into a watched file are refused with EINVAL, which makes callers fall back to write.
 */
#define _GNU_SOURCE
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
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum op { OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_DIRSYNC, OP_RENAME, OP_UNLINK, OP_MARK,
          OP_SYNC_FAILED, OP_WRITE_FAILED, OP_LINK };

enum { DIRS_MAX = 16, MAGIC = 0x54464b53 /* "SKFT" */, WRITE = 0, SYNC = 1 };

struct header {
    uint32_t magic;
    uint32_t op;
    uint64_t sequence;
    uint64_t offset; /* of a write; size of a truncate; 1 in a create that emptied an older file */
    uint32_t path_len;
    uint32_t other_len; /* target of a rename or link */
    uint64_t data_len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dirs[DIRS_MAX][PATH_MAX];
static int dirs_len;
static char mark_path[PATH_MAX];
static int trace_fd = -1;
static int skip_sync;
static struct { int kind; uint64_t at; int error; int half; int sticky; } fail = { -1, 0, 0, 0, 0 };
static uint64_t counts[2];
static uint64_t sequence;
static int ready;

static long raw_open(int dirfd, const char *path, int flags, mode_t mode) {
    return syscall(SYS_openat, dirfd, path, flags | O_LARGEFILE, mode);
}

static void die(const char *what) {
    /* A trace that lies is worse than none. */
    (void)!syscall(SYS_write, 2, what, strlen(what));
    abort();
}

static void parse_fail(const char *text) {
    char op[16], error[16], sticky[16] = "";
    unsigned long long at;
    if (sscanf(text, "%15[^:]:%llu:%15[^:]:%15s", op, &at, error, sticky) < 3)
        die("shim: SKPROXY_FAULT_FAIL does not parse\n");
    fail.kind = strcmp(op, "sync") == 0 ? SYNC : WRITE;
    fail.at = at;
    fail.half = strcmp(error, "short") == 0;
    fail.error = strcmp(error, "ENOSPC") == 0 ? ENOSPC : strcmp(error, "EDQUOT") == 0 ? EDQUOT : EIO;
    fail.sticky = strcmp(sticky, "sticky") == 0;
}

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("SKPROXY_FAULT_DIRS");
    char *copy = text ? strdup(text) : NULL, *rest = copy, *item;
    while (rest && (item = strsep(&rest, ":")) && dirs_len < DIRS_MAX)
        if (*item && realpath(item, dirs[dirs_len]))
            dirs_len++;
    free(copy);
    if ((text = getenv("SKPROXY_FAULT_MARK"))) {
        char parent[PATH_MAX], whole[PATH_MAX];
        snprintf(parent, sizeof parent, "%s", text);
        char *slash = strrchr(parent, '/');
        if (!slash)
            die("shim: SKPROXY_FAULT_MARK must be an absolute path\n");
        *slash = 0;
        if (!realpath(parent[0] ? parent : "/", whole))
            die("shim: the directory of SKPROXY_FAULT_MARK must exist\n");
        if (snprintf(mark_path, sizeof mark_path, "%s/%s", whole, slash + 1) >= PATH_MAX)
            die("shim: SKPROXY_FAULT_MARK is too long\n");
    }
    if ((text = getenv("SKPROXY_FAULT_TRACE"))) {
        trace_fd = (int)raw_open(AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (trace_fd < 0)
            die("shim: cannot open SKPROXY_FAULT_TRACE\n");
    }
    if ((text = getenv("SKPROXY_FAULT_FAIL")))
        parse_fail(text);
    text = getenv("SKPROXY_FAULT_SKIP_SYNC");
    skip_sync = text && strcmp(text, "1") == 0;
    ready = 1;
}

static int watched_path(const char *path) {
    for (int i = 0; i < dirs_len; i++) {
        size_t len = strlen(dirs[i]);
        if (strncmp(path, dirs[i], len) == 0 && (path[len] == '/' || path[len] == 0))
            return 1;
    }
    return 0;
}

/* The path of a descriptor now. Returns 0 for sockets, pipes and deleted files. */
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long len = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (len <= 0 || path[0] != '/')
        return 0;
    path[len] = 0;
    const char deleted[] = " (deleted)";
    size_t tail = sizeof deleted - 1;
    return !((size_t)len > tail && strcmp(path + len - tail, deleted) == 0);
}

enum kind { OTHER, WATCHED, MARKS };

static enum kind kind_of(int fd, char *path) {
    if (!ready)
        return OTHER;
    int saved = errno;
    int known = path_of(fd, path);
    errno = saved;
    if (!known)
        return OTHER;
    if (mark_path[0] && strcmp(path, mark_path) == 0)
        return MARKS;
    return watched_path(path) ? WATCHED : OTHER;
}

/* The canonical path of a name that need not exist. Returns 1 when it is watched. */
static int resolve(int dirfd, const char *name, char *path) {
    if (!ready || !name)
        return 0;
    int saved = errno, known = 0;
    char parent[PATH_MAX], whole[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", name);
    char *slash = strrchr(parent, '/');
    const char *base = slash ? name + (slash - parent) + 1 : name;
    if (slash == parent)
        parent[1] = 0;
    else if (slash)
        *slash = 0;
    else
        strcpy(parent, ".");
    long fd = raw_open(dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd >= 0) {
        known = path_of((int)fd, whole) && snprintf(path, PATH_MAX, "%s/%s", whole, base) < PATH_MAX;
        syscall(SYS_close, fd);
    }
    errno = saved;
    return known && watched_path(path);
}

/* Appends one record. The caller holds the lock. */
static void record(enum op op, const char *path, const char *other, uint64_t offset,
                   const struct iovec *data, int data_count, size_t data_len) {
    if (trace_fd < 0)
        return;
    int saved = errno;
    struct header header = { MAGIC, op, sequence++, offset, (uint32_t)strlen(path),
                             other ? (uint32_t)strlen(other) : 0, data_len };
    size_t total = sizeof header + header.path_len + header.other_len + data_len;
    char *buffer = malloc(total), *at = buffer;
    if (!buffer)
        die("shim: no memory for a trace record\n");
    at = mempcpy(at, &header, sizeof header);
    at = mempcpy(at, path, header.path_len);
    if (other)
        at = mempcpy(at, other, header.other_len);
    for (int i = 0; i < data_count && data_len > 0; i++) {
        size_t part = data[i].iov_len < data_len ? data[i].iov_len : data_len;
        at = mempcpy(at, data[i].iov_base, part);
        data_len -= part;
    }
    if (syscall(SYS_write, trace_fd, buffer, total) != (long)total)
        die("shim: cannot write the trace\n");
    free(buffer);
    errno = saved;
}

/* Counts one write or sync; returns 1 when it shall fail. The caller holds the lock. */
static int fails(int kind) {
    uint64_t now = ++counts[kind];
    return fail.kind == kind && (fail.sticky ? now >= fail.at : now == fail.at);
}

static size_t length_of(const struct iovec *data, int count) {
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += data[i].iov_len;
    return total;
}

/* Shortens a vector to `limit` bytes; returns the new count. */
static int shorten(struct iovec *out, const struct iovec *data, int count, size_t limit) {
    int used = 0;
    for (; used < count && limit > 0; used++) {
        out[used] = data[used];
        if (out[used].iov_len > limit)
            out[used].iov_len = limit;
        limit -= out[used].iov_len;
    }
    return used;
}

static off_t end_of(int fd) {
    struct stat meta;
    return syscall(SYS_fstat, fd, &meta) == 0 ? meta.st_size : 0;
}

/* Where `done` bytes landed that were written just now; `at` is -1 for a plain write. */
static uint64_t landed(int fd, off_t at, ssize_t done) {
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND)
        return (uint64_t)(end_of(fd) - done); /* Linux appends even on pwrite */
    return (uint64_t)(at >= 0 ? at : syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR) - done);
}

static ssize_t raw_write(int fd, const struct iovec *data, int count, off_t at) {
    if (at < 0)
        return syscall(SYS_writev, fd, data, count);
    return syscall(SYS_pwritev, fd, data, count, (long)at, (long)0);
}

static ssize_t do_write(int fd, const struct iovec *data, int count, off_t at) {
    char path[PATH_MAX];
    enum kind kind = kind_of(fd, path);
    if (kind == OTHER || count > IOV_MAX)
        return raw_write(fd, data, count, at);
    struct iovec half[IOV_MAX];
    pthread_mutex_lock(&lock);
    ssize_t done;
    int failing = kind == WATCHED && fails(WRITE);
    if (failing && !fail.half) {
        record(OP_WRITE_FAILED, path, NULL, 0, NULL, 0, 0);
        errno = fail.error;
        done = -1;
    } else {
        if (failing) {
            count = shorten(half, data, count, length_of(data, count) / 2);
            data = half;
        }
        done = raw_write(fd, data, count, at);
        if (done > 0)
            record(kind == MARKS ? OP_MARK : OP_WRITE, path, NULL, landed(fd, at, done), data, count,
                   (size_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t len) {
    struct iovec one = { (void *)data, len };
    return do_write(fd, &one, 1, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    struct iovec one = { (void *)data, len };
    return do_write(fd, &one, 1, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return pwrite(fd, data, len, at); }

ssize_t writev(int fd, const struct iovec *data, int count) { return do_write(fd, data, count, -1); }

ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) {
    return do_write(fd, data, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t at) {
    return do_write(fd, data, count, at);
}

ssize_t pwritev2(int fd, const struct iovec *data, int count, off_t at, int flags) {
    (void)flags;
    return do_write(fd, data, count, at);
}

ssize_t pwritev64v2(int fd, const struct iovec *data, int count, off64_t at, int flags) {
    (void)flags;
    return do_write(fd, data, count, at);
}

static int do_sync(int fd, long number) {
    char path[PATH_MAX];
    if (kind_of(fd, path) != WATCHED)
        return (int)syscall(number, fd);
    if (skip_sync)
        return 0;
    struct stat meta;
    int is_dir = syscall(SYS_fstat, fd, &meta) == 0 && S_ISDIR(meta.st_mode);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (fails(SYNC)) {
        record(OP_SYNC_FAILED, path, NULL, 0, NULL, 0, 0);
        errno = fail.error;
    } else {
        done = (int)syscall(number, fd);
        if (done == 0)
            record(is_dir ? OP_DIRSYNC : OP_SYNC, path, NULL, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return do_sync(fd, SYS_fsync); }

int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* Makes nothing durable (no metadata, no disk cache flush), so it is passed on and never traced. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    return (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

static int do_truncate(int fd, off_t size) {
    char path[PATH_MAX];
    if (kind_of(fd, path) != WATCHED)
        return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (done == 0)
        record(OP_TRUNCATE, path, NULL, (uint64_t)size, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }

int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }

static int do_allocate(int fd, int mode, off_t at, off_t len) {
    char path[PATH_MAX];
    if (kind_of(fd, path) != WATCHED)
        return (int)syscall(SYS_fallocate, fd, mode, at, len);
    if (mode & ~FALLOC_FL_KEEP_SIZE) { /* holes and the like would need records of their own */
        errno = EOPNOTSUPP;
        return -1;
    }
    pthread_mutex_lock(&lock);
    int done = -1;
    if (fails(WRITE) && !fail.half) {
        record(OP_WRITE_FAILED, path, NULL, 0, NULL, 0, 0);
        errno = fail.error;
    } else {
        off_t before = end_of(fd);
        done = (int)syscall(SYS_fallocate, fd, mode, at, len);
        if (done == 0 && end_of(fd) != before)
            record(OP_TRUNCATE, path, NULL, (uint64_t)end_of(fd), NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fallocate(int fd, int mode, off_t at, off_t len) { return do_allocate(fd, mode, at, len); }

int fallocate64(int fd, int mode, off64_t at, off64_t len) { return do_allocate(fd, mode, at, len); }

int posix_fallocate(int fd, off_t at, off_t len) {
    int saved = errno;
    int error = do_allocate(fd, 0, at, len) == 0 ? 0 : errno;
    errno = saved;
    return error;
}

int posix_fallocate64(int fd, off64_t at, off64_t len) { return posix_fallocate(fd, at, len); }

static int do_open(int dirfd, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int changes = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE;
    if (!changes || !resolve(dirfd, name, path) || strcmp(path, mark_path) == 0)
        return (int)raw_open(dirfd, name, flags, mode);
    pthread_mutex_lock(&lock);
    int saved = errno;
    int existed = faccessat(dirfd, name, F_OK, AT_EACCESS) == 0;
    errno = saved;
    int fd = (int)raw_open(dirfd, name, flags, mode);
    if (fd >= 0 && (!existed || (flags & O_TRUNC))) {
        path_of(fd, path);
        record(OP_CREATE, path, NULL, existed ? 1 : 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, mode)                                                                            \
    mode_t mode = 0;                                                                                    \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                              \
        va_list rest;                                                                                   \
        va_start(rest, flags);                                                                          \
        mode = va_arg(rest, mode_t);                                                                    \
        va_end(rest);                                                                                   \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return do_open(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return do_open(AT_FDCWD, name, flags, mode);
}

int openat(int dirfd, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return do_open(dirfd, name, flags, mode);
}

int openat64(int dirfd, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return do_open(dirfd, name, flags, mode);
}

int creat(const char *name, mode_t mode) {
    return do_open(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *name, mode_t mode) { return creat(name, mode); }

int unlinkat(int dirfd, const char *name, int flags) {
    char path[PATH_MAX];
    if ((flags & AT_REMOVEDIR) || !resolve(dirfd, name, path))
        return (int)syscall(SYS_unlinkat, dirfd, name, flags);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, dirfd, name, flags);
    if (done == 0)
        record(OP_UNLINK, path, NULL, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    int from_watched = resolve(from_dir, from, from_path), to_watched = resolve(to_dir, to, to_path);
    if (!from_watched && !to_watched)
        return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (from_watched != to_watched || (flags & ~RENAME_NOREPLACE)) {
        errno = EXDEV; /* as if the watched directories were a disk of their own */
        return -1;
    }
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (done == 0)
        record(OP_RENAME, from_path, to_path, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    if (!resolve(to_dir, to, to_path))
        return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (!resolve(from_dir, from, from_path)) {
        errno = EXDEV;
        return -1;
    }
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (done == 0)
        record(OP_LINK, from_path, to_path, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int watched_fd(int fd) {
    char path[PATH_MAX];
    return kind_of(fd, path) != OTHER;
}

#define REFUSE(fd)                                                                                      \
    if (watched_fd(fd)) {                                                                               \
        errno = EINVAL;                                                                                 \
        return -1;                                                                                      \
    }

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
    REFUSE(out)
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
}

ssize_t sendfile(int out, int in, off_t *at, size_t len) {
    REFUSE(out)
    return syscall(SYS_sendfile, out, in, at, len);
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t len) {
    REFUSE(out)
    return syscall(SYS_sendfile, out, in, at, len);
}

ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
    REFUSE(out)
    return syscall(SYS_splice, in, in_at, out, out_at, len, flags);
}
