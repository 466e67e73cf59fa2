/*  pool_event_loop.c - a thousand requests of an event loop share eight files.

    What it shows: rm_pool_acquire_async gives an event loop (libuv) a place in the same queue that
    threads use; the loop's thread never waits for it. Each request borrows an open file, reads a
    line of it asynchronously (libuv reads files in threads of its own), and gives it back, which
    hands it to the next. Every callback runs in the loop's thread. A timer keeps the deadlines.
    Build and run: make examples */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

enum { FILES = 8, REQUESTS = 1000, LINE = 16 };

typedef struct request {
    rm_pool_request acquire; /* its place in the queue; must not move */
    rm_lease lease;
    uv_fs_t read;
    uv_buf_t buffer;
    char text[LINE + 1];
    int number;
} request;

static rm_pool *pool;
static uv_timer_t upkeep;
static request requests[REQUESTS];
static int failures, right, wrong, late, elsewhere, left = REQUESTS + 1;
static uint32_t loop_thread;

static void check(bool ok, const char *claim) {
    printf("%-4s %s\n", ok ? "ok" : "FAIL", claim);
    failures += !ok;
}

/* Callbacks touch the loop, so they have to run in its thread. */
static void note_thread(void) {
    elsewhere += rm_thread_number() != loop_thread;
}

/* ---- the resource: an open file; zero is no resource, so the descriptor is kept plus one.
   It is made in the thread that asks, the loop's: opening a file is over at once, but a connect
   would hold up the loop. Then call rm_pool_prewarm first, or acquire in a helper thread. */

static rm_status open_file(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const int file = open((const char *)user, O_RDONLY);
    (void)deadline;
    if (file < 0) return rm_error_set(error, RM_E_SYSTEM, 0, "lines", "cannot open the file");
    *resource = (void *)(intptr_t)(file + 1);
    return RM_OK;
}

static void close_file(void *resource, void *user) {
    (void)user;
    close((int)(intptr_t)resource - 1);
}

/* ---- one request */

static void one_less(void) {
    if (--left == 0) uv_timer_stop(&upkeep); /* nothing is left: the loop ends */
}

static void line_was_read(uv_fs_t *read) {
    request *r = (request *)read->data;
    char expected[LINE + 1];
    note_thread();
    (void)snprintf(expected, sizeof expected, "line %10d", r->number);
    if (read->result == LINE && memcmp(expected, r->text, LINE - 1) == 0)
        ++right;
    else
        ++wrong;
    uv_fs_req_cleanup(read);
    (void)rm_pool_release(pool, &r->lease, RM_RELEASE_OK); /* the next request gets it here */
    one_less();
}

static void file_is_mine(rm_status status, const rm_lease *lease, const rm_error *error,
                         void *user) {
    request *r = (request *)user;
    note_thread();
    if (status != RM_OK) {
        printf("%s: %s\n", error->where, error->message);
        ++wrong;
        one_less();
        return;
    }
    r->lease = *lease;
    r->buffer = uv_buf_init(r->text, LINE);
    r->read.data = r;
    if (uv_fs_read(uv_default_loop(), &r->read, (int)(intptr_t)lease->resource - 1, &r->buffer, 1,
                   (int64_t)r->number * LINE, line_was_read) != 0)
        abort();
}

/* ---- one that cannot wait as long as it would have to */

static void too_late(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    (void)user;
    note_thread();
    late += status == RM_E_TIMEOUT;
    printf("%s: %s\n", rm_status_name(status), error == NULL ? "" : error->message);
    if (lease != NULL) {
        rm_lease copy = *lease;
        (void)rm_pool_release(pool, &copy, RM_RELEASE_OK);
    }
    one_less();
}

/* Ends requests whose time is over, and what was idle for too long. A budget of one hook call
   keeps the loop's other events on time. */
static void keep_up(uv_timer_t *timer) {
    const rm_deadline none = {0};
    (void)timer;
    (void)rm_pool_maintain(pool, 1, none, NULL);
}

static bool write_lines(const char *path) {
    FILE *file = fopen(path, "w");
    if (file == NULL) return false;
    for (int i = 0; i < REQUESTS; ++i)
        fprintf(file, "line %10d\n", i);
    return fclose(file) == 0;
}

int main(void) {
    static rm_pool_request hasty;
    const rm_deadline patient = rm_deadline_after(NULL, RM_SEC(30));
    char path[] = "/tmp/rm_event_loop_XXXXXX";
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool_stats stats;
    rm_error error;
    const int made = mkstemp(path);
    if (made < 0 || close(made) != 0 || !write_lines(path)) return perror(path), 1;
    desc.name = "lines";
    desc.create_fn = open_file;
    desc.destroy_fn = close_file;
    desc.max = FILES;
    desc.user = path;
    if (rm_pool_create(&desc, &pool, &error) != RM_OK) return puts(error.message), 1;
    loop_thread = rm_thread_number();
    uv_timer_init(uv_default_loop(), &upkeep);
    uv_timer_start(&upkeep, keep_up, 1, 1);
    for (int i = 0; i < REQUESTS; ++i) {
        requests[i].number = i;
        if (rm_pool_acquire_async(pool, &requests[i].acquire, patient, NULL, file_is_mine, &error,
                                  &requests[i]) != RM_OK)
            return puts(error.message), 1;
    }
    /* behind a thousand others, with no time at all: the timer tells it so */
    if (rm_pool_acquire_async(pool, &hasty, rm_deadline_after(NULL, 1), NULL, too_late, &error,
                              NULL) != RM_OK)
        return puts(error.message), 1;
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    (void)rm_pool_stats_get(pool, &stats);
    printf("%llu leases of %llu files, %llu waited, p99 wait %lld us\n",
           (unsigned long long)stats.acquired, (unsigned long long)stats.created,
           (unsigned long long)stats.waits, (long long)(stats.wait_p99_ns / 1000));
    check(right == REQUESTS && wrong == 0, "every request read its own line");
    check(stats.created == FILES, "eight files for a thousand requests");
    check(elsewhere == 0, "every callback ran in the loop's thread");
    check(late == 1, "the one whose time was over was told so");
    check(stats.in_use == 0 && stats.waiting == 0, "all are back");
    check(rm_pool_destroy(pool) == RM_OK, "nothing was left behind");
    uv_close((uv_handle_t *)&upkeep, NULL);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    (void)uv_loop_close(uv_default_loop());
    return unlink(path) == 0 && failures == 0 ? 0 : 1;
}
