/*  faults.h - calls of the system that fail when told to.

    The program defines open, read, connect and so on in place of the C library's; what a shared
    library calls is then these as well.  They fail only in the thread that has set faults_on: the
    k-th call of a life alone, with all that follow, or with one of the next few; in even lives by
    one error code, in odd ones by another.  A life uses an object from its making to its end:

        static void life(void *user) {
            faults_on = true;
            status = create(&object);   // may fail if faults.failed > 0
            ...
            faults_on = false;
            CHECK(...);                 // it works, or has ended; nothing is left
        }
        faults_torture(life, &world);   // every call in every mode; prints how many

    close and munmap do their work and say that they failed, as on Linux; an unlock does not fail.
    Nothing fails without glibc, or under TSan, whose runtime calls these functions too early. */
#ifndef FAULTS_H_INCLUDED
#define FAULTS_H_INCLUDED

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) /* gcc */
#define FAULTS_POSSIBLE 1
#else
#define FAULTS_POSSIBLE 0
#endif
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) /* clang */
#undef FAULTS_POSSIBLE
#define FAULTS_POSSIBLE 0
#endif
#endif
enum { FAULTS_NEXT = 4, FAULTS_SITES = 512 };

static _Thread_local bool faults_on;
static struct {
    int64_t from, to, also;  /* which calls fail */
    int64_t calls, failed;   /* in this life */
    int64_t lives, failures; /* in all */
    const char *last;        /* what failed last */
    void *sites[FAULTS_SITES];
    int site_count;
} faults;

/* Does this call, from that place, fail? */
static inline bool faults_fail(const char *name, void *site) {
    int i = 0;
    if (!faults_on) return false;
    ++faults.calls;
    if ((faults.calls < faults.from || faults.calls > faults.to) && faults.calls != faults.also)
        return false;
    ++faults.failed;
    faults.last = name;
    while (i < faults.site_count && faults.sites[i] != site)
        ++i;
    if (i == faults.site_count && i < FAULTS_SITES) faults.sites[faults.site_count++] = site;
    return true;
}

/* One life; false if a check failed, or if it had no k-th call any more. */
static inline bool faults_live(void (*life)(void *), void *user, int64_t from, int64_t to,
                               int64_t also) {
    faults.from = from;
    faults.to = to;
    faults.also = also;
    faults.calls = faults.failed = 0;
    life(user);
    ++faults.lives;
    faults.failures += faults.failed;
    if (rm_test_failures > 0)
        printf("# when the calls %lld to %lld and %lld fail, the last of them %s\n",
               (long long)from, (long long)to, (long long)also, faults.last);
    return rm_test_failures == 0 && faults.calls >= from;
}

static inline void faults_torture(void (*life)(void *), void *user) {
    int64_t k, also;
    if (!FAULTS_POSSIBLE) return;
    memset(&faults, 0, sizeof faults);
    for (k = 1; faults_live(life, user, k, k, 0); ++k) {}
    for (k = 1; faults_live(life, user, k, INT64_MAX, 0); ++k) {}
    for (k = also = 1; faults_live(life, user, k, k, k + also); k += also == 1 ? 1 : 0)
        also = also < FAULTS_NEXT ? also + 1 : 1;
    CHECK(faults.site_count >= 10); /* fewer: the library calls something else */
    printf("# %d sites x 3 modes, %lld failures in %lld lives\n", faults.site_count,
           (long long)faults.failures, (long long)faults.lives);
}

/* How many files are open. */
static inline int faults_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = -3; /* ".", ".." and the folder itself */
    if (folder == NULL) return -1;
    while (readdir(folder) != NULL)
        ++count;
    (void)closedir(folder);
    return count;
}

/* >>the calls: under the names of the C library, with as many arguments as any of them has */

#if FAULTS_POSSIBLE

typedef long (*faults_fn)(long, long, long, long, long, long);

/* The C library's own function, or the sanitizer's. */
static inline faults_fn faults_real(faults_fn *known, const char *name) {
    faults_fn real = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (real != NULL) return real;
    real = (faults_fn)(uintptr_t)dlsym(RTLD_NEXT, name);
    __atomic_store_n(known, real, __ATOMIC_RELAXED);
    return real;
}

/* A call fails if it may, and does its work all the same or not. */
#define FAULTY_IF(name, may, does, code, other)                                        \
    long faulty_##name(long a, long b, long c, long d, long e, long f) __asm__(#name); \
    long faulty_##name(long a, long b, long c, long d, long e, long f) {               \
        static faults_fn known;                                                        \
        const faults_fn real = faults_real(&known, #name);                             \
        if (!(may) || !faults_fail(#name, __builtin_return_address(0)))                \
            return real(a, b, c, d, e, f);                                             \
        if (does) (void)real(a, b, c, d, e, f);                                        \
        errno = faults.lives % 2 == 0 ? code : other;                                  \
        return -1;                                                                     \
    }
#define FAULTY(name, code, other) FAULTY_IF(name, true, false, code, other)

/* An unlock does not fail. */
static inline bool faults_unlocks(long command, long lock) {
    return command == F_SETLK && ((const struct flock *)(uintptr_t)lock)->l_type == F_UNLCK;
}

FAULTY_IF(close, true, true, EIO, EINTR)
FAULTY_IF(munmap, true, true, ENOMEM, EINVAL)
FAULTY(open, EMFILE, EACCES)
FAULTY(open64, EMFILE, EACCES)
FAULTY(read, EIO, EISDIR)
FAULTY(pread, EIO, ESTALE)
FAULTY(pread64, EIO, ESTALE)
FAULTY(write, EIO, ENOSPC)
FAULTY(pwrite, EIO, ENOSPC)
FAULTY(pwrite64, EIO, ENOSPC)
FAULTY(ftruncate, EIO, EFBIG)
FAULTY(ftruncate64, EIO, EFBIG)
FAULTY(mmap, ENOMEM, ENODEV)
FAULTY(mmap64, ENOMEM, ENODEV)
FAULTY(stat, EIO, EACCES)
FAULTY(stat64, EIO, EACCES)
FAULTY(lstat, EIO, EACCES)
FAULTY(lstat64, EIO, EACCES)
FAULTY(fstat, EIO, EOVERFLOW)
FAULTY(fstat64, EIO, EOVERFLOW)
FAULTY(access, EIO, EACCES)
FAULTY(unlink, EIO, EACCES)
FAULTY(readlink, EIO, EACCES)
FAULTY(fchmod, EIO, EPERM)
FAULTY(fchown, EIO, EPERM)
FAULTY_IF(fcntl, !faults_unlocks(b, c), false, EAGAIN, ENOLCK)
FAULTY_IF(fcntl64, !faults_unlocks(b, c), false, EAGAIN, ENOLCK)
FAULTY(socket, EMFILE, ENOBUFS)
FAULTY(socketpair, EMFILE, ENFILE)
FAULTY(eventfd, EMFILE, ENFILE)
FAULTY(connect, ECONNREFUSED, ENETUNREACH)
FAULTY(send, ECONNRESET, EPIPE)
FAULTY(sendto, ECONNRESET, EPIPE)
FAULTY(recv, ECONNRESET, ETIMEDOUT)
FAULTY(recvfrom, ECONNRESET, ETIMEDOUT)
FAULTY(poll, ENOMEM, EINVAL)
FAULTY(getsockopt, ENOBUFS, EINVAL)
FAULTY(setsockopt, ENOBUFS, EINVAL)
FAULTY(getsockname, ENOBUFS, EINVAL)
FAULTY(getpeername, ENOTCONN, ENOBUFS)

#endif /* FAULTS_POSSIBLE */
#endif /* FAULTS_H_INCLUDED */
