/* Loaded before the C library: fails, or ends the process at, the n-th call that touches a folder.
 *
 * arm() says which calls count, from which on they fail and how; count() tells how many there
 * were. Everything that a program does to files passes here, whatever language it is written in.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, MAKE = 2, WRITE = 4, SYNC = 8, RENAME = 16, REMOVE = 32, MODE = 64, READ = 128 };
enum { COUNT, ONCE, LASTING, KILL, TEAR };

static char under[4096];
static int armed, kinds, fault, how, trace = -1;
static long first, calls, clock_step, clock_calls;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void arm(const char *folder, int wanted, long from, int error, int manner, const char *trace_path) {
    snprintf(under, sizeof under, "%s", folder);
    kinds = wanted, first = from, fault = error, how = manner, calls = 0;
    trace = trace_path[0] ? (int)syscall(SYS_openat, AT_FDCWD, trace_path,
                                         O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644)
                          : -1;
    armed = 1;
}

long count(void) { armed = 0; return calls; }

/* Each reading of the wall clock is `seconds` earlier than the one before. */
void clock_backwards(long seconds) { clock_step = seconds; }

static int below(const char *path) { return strncmp(path, under, strlen(under)) == 0; }

/* The absolute path of a name in an open folder, or of an open file (name ""). */
static void resolve(int folder, const char *name, char *path, size_t size) {
    if (name[0] == '/') {
        snprintf(path, size, "%s", name);
        return;
    }
    char link[64];
    if (folder == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, size - 1);
    path[n < 0 ? 0 : n] = 0;
    if (n > 0 && name[0])
        snprintf(path + n, size - n, "/%s", name);
}

/* 0: let the call pass; 1: fail it with errno set; 2: do half of it and end. */
static int due(int kind, const char *call, int folder, const char *name) {
    if (!armed || !(kind & kinds))
        return 0;
    char path[8192];
    resolve(folder, name, path, sizeof path);
    if (!below(path))
        return 0;
    long number = __sync_add_and_fetch(&calls, 1);
    int hit = how != COUNT && (number == first || (how == LASTING && number > first));
    if (trace >= 0 && (how == COUNT || number == first)) {
        char line[8400];
        int n = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
        syscall(SYS_write, trace, line, n);
    }
    if (!hit)
        return 0;
    if (how == TEAR && strcmp(call, "write") == 0)
        return 2;
    if (how == KILL || how == TEAR)
        kill(getpid(), SIGKILL);
    errno = fault;
    return 1;
}

static int opening(const char *call, int folder, const char *name, int flags) {
    int writes = flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC);
    return due(writes ? OPEN : READ, call, folder, name);
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opening("open", AT_FDCWD, name, flags) ? -1 : NEXT(open)(name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opening("open", AT_FDCWD, name, flags) ? -1 : NEXT(open64)(name, flags, mode);
}
int openat(int folder, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opening("open", folder, name, flags) ? -1 : NEXT(openat)(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opening("open", folder, name, flags) ? -1 : NEXT(openat64)(folder, name, flags, mode);
}
static int stream_flags(const char *mode) { return mode[0] == 'r' && !strchr(mode, '+') ? 0 : O_RDWR; }
FILE *fopen(const char *name, const char *mode) {
    return opening("fopen", AT_FDCWD, name, stream_flags(mode)) ? NULL : NEXT(fopen)(name, mode);
}
FILE *fopen64(const char *name, const char *mode) {
    return opening("fopen", AT_FDCWD, name, stream_flags(mode)) ? NULL : NEXT(fopen64)(name, mode);
}

ssize_t write(int file, const void *content, size_t size) {
    int fate = due(WRITE, "write", file, "");
    if (fate == 2) {
        syscall(SYS_write, file, content, size / 2);
        kill(getpid(), SIGKILL);
    }
    return fate ? -1 : NEXT(write)(file, content, size);
}
ssize_t writev(int file, const struct iovec *parts, int number) {
    return due(WRITE, "writev", file, "") ? -1 : NEXT(writev)(file, parts, number);
}
ssize_t pwrite64(int file, const void *content, size_t size, off64_t at) {
    return due(WRITE, "pwrite", file, "") ? -1 : NEXT(pwrite64)(file, content, size, at);
}
ssize_t pwrite(int file, const void *content, size_t size, off_t at) {
    return due(WRITE, "pwrite", file, "") ? -1 : NEXT(pwrite)(file, content, size, at);
}
int ftruncate64(int file, off64_t size) {
    return due(WRITE, "truncate", file, "") ? -1 : NEXT(ftruncate64)(file, size);
}
int ftruncate(int file, off_t size) {
    return due(WRITE, "truncate", file, "") ? -1 : NEXT(ftruncate)(file, size);
}
int fsync(int file) { return due(SYNC, "fsync", file, "") ? -1 : NEXT(fsync)(file); }
int fdatasync(int file) { return due(SYNC, "fsync", file, "") ? -1 : NEXT(fdatasync)(file); }

int mkdir(const char *name, mode_t mode) {
    return due(MAKE, "mkdir", AT_FDCWD, name) ? -1 : NEXT(mkdir)(name, mode);
}
int mkdirat(int folder, const char *name, mode_t mode) {
    return due(MAKE, "mkdir", folder, name) ? -1 : NEXT(mkdirat)(folder, name, mode);
}
int link(const char *from, const char *to) {
    return due(MAKE, "link", AT_FDCWD, to) ? -1 : NEXT(link)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return due(MAKE, "link", b, to) ? -1 : NEXT(linkat)(a, from, b, to, flags);
}
int rename(const char *from, const char *to) {
    return due(RENAME, "rename", AT_FDCWD, to) ? -1 : NEXT(rename)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    return due(RENAME, "rename", b, to) ? -1 : NEXT(renameat)(a, from, b, to);
}
int unlink(const char *name) {
    return due(REMOVE, "unlink", AT_FDCWD, name) ? -1 : NEXT(unlink)(name);
}
int unlinkat(int folder, const char *name, int flags) {
    return due(REMOVE, "unlink", folder, name) ? -1 : NEXT(unlinkat)(folder, name, flags);
}
int rmdir(const char *name) {
    return due(REMOVE, "rmdir", AT_FDCWD, name) ? -1 : NEXT(rmdir)(name);
}
int chmod(const char *name, mode_t mode) {
    return due(MODE, "chmod", AT_FDCWD, name) ? -1 : NEXT(chmod)(name, mode);
}
int fchmodat(int folder, const char *name, mode_t mode, int flags) {
    return due(MODE, "chmod", folder, name) ? -1 : NEXT(fchmodat)(folder, name, mode, flags);
}

static void set_back(time_t *seconds) {
    if (clock_step)
        *seconds -= clock_step * __sync_add_and_fetch(&clock_calls, 1);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, id, now);
    if (status == 0 && id == CLOCK_REALTIME)
        set_back(&now->tv_sec);
    return status;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int status = (int)syscall(SYS_gettimeofday, now, zone);
    set_back(&now->tv_sec);
    return status;
}
time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}
