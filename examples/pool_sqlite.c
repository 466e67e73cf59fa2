/*  pool_sqlite.c - eight threads share two SQLite connections.

    What it shows: a pool bounds what is expensive, lends it in turn, and takes it back clean,
    whatever its holder did; it says who holds what for too long; and it lets go of all connections
    when there is a new database. Build and run: make examples */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"
#include "drivers/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, LOOKUPS = 1000, ROWS = 100 };

static rmx_sqlite *db;
static int failures;

static void check(bool ok, const char *claim) {
    printf("%-4s %s\n", ok ? "ok" : "FAIL", claim);
    failures += !ok;
}

static bool worked(rm_status status, const rm_error *error) {
    if (status != RM_OK)
        printf("%s: %s: %s\n", error->where, rm_status_name(status), error->message);
    return status == RM_OK;
}

/* One transaction: a hundred squares, or as many times something else. */
static bool fill(int64_t times, bool commit) {
    rmx_sqlite_session session;
    rm_error error;
    rm_deadline deadline = rm_deadline_after(NULL, RM_SEC(1));
    rm_status status = rmx_sqlite_write(db, deadline, NULL, &session, &error);
    if (!worked(status, &error)) return false;
    status = rmx_sqlite_script(&session,
                               "CREATE TABLE IF NOT EXISTS square (n INTEGER PRIMARY KEY,"
                               " value INTEGER NOT NULL); DELETE FROM square",
                               &error);
    for (int64_t n = 0; n < ROWS && status == RM_OK; n++) {
        rmx_sqlite_param params[] = {rmx_sqlite_bind_int(":n", n),
                                     rmx_sqlite_bind_int(":value", n * n * times)};
        status = rmx_sqlite_run(&session, "INSERT INTO square VALUES (:n, :value)", params, 2, NULL,
                                &error);
    }
    if (status == RM_OK && commit) status = rmx_sqlite_commit(&session, &error);
    return worked(rmx_sqlite_end(&session) == RM_OK ? status : RM_E_FAILED, &error);
}

/* Asks for the square of n, or -1. */
static int64_t square(int64_t n) {
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    rmx_sqlite_param param = rmx_sqlite_bind_int(NULL, n);
    rm_error error;
    int64_t value = -1;
    rm_deadline deadline = rm_deadline_after(NULL, RM_SEC(5)); /* for the wait and for the query */
    rm_status status = rmx_sqlite_read(db, deadline, NULL, &session, &error);
    if (!worked(status, &error)) return -1;
    status = rmx_sqlite_query(&session, "SELECT value FROM square WHERE n = ?", &param, 1, &rows,
                              &error);
    if (status == RM_OK && (status = rmx_sqlite_next(&rows, &error)) == RM_OK)
        value = rmx_sqlite_column_int(&rows, 0);
    (void)rmx_sqlite_end(&session);
    return worked(status, &error) ? value : -1;
}

static void look_up(void *user) {
    for (int64_t i = 0; i < LOOKUPS; i++)
        *(int64_t *)user += square(i % ROWS) == (i % ROWS) * (i % ROWS);
}

/* Eight threads, two connections. */
static void share(void) {
    rm_thread threads[THREADS];
    int64_t right[THREADS] = {0}, sum = 0;
    rm_pool_stats stats;
    for (int i = 0; i < THREADS; i++)
        if (rm_thread_start(&threads[i], look_up, &right[i]) != RM_OK) exit(1);
    for (int i = 0; i < THREADS; i++) {
        rm_thread_join(&threads[i]);
        sum += right[i];
    }
    (void)rm_pool_stats_get(rmx_sqlite_readers(db), &stats);
    printf("%lld look-ups over %llu connections, %llu waited, p99 wait %lld us\n", (long long)sum,
           (unsigned long long)stats.created, (unsigned long long)stats.waits,
           (long long)(stats.wait_p99_ns / 1000));
    check(sum == THREADS * LOOKUPS, "every look-up got the right answer");
    check(stats.created <= 2, "never more than two connections were opened");
    check(stats.in_use == 0, "and both are back");
}

/* ---- who holds it? */

static char reported[160];

static void note_leak(const rm_log_event *event, void *user) {
    (void)user;
    for (size_t i = 0; i < event->count; i++)
        if (strcmp(event->event, "leak") == 0 && strcmp(event->values[i].key, "message") == 0)
            (void)snprintf(reported, sizeof reported, "%s", event->values[i].string);
}

static bool show_lease(const rm_pool_lease_info *lease, void *user) {
    (void)user;
    printf("a connection is out since %lld ms, by thread %u at %s\n",
           (long long)(lease->held_ns / RM_MS(1)), lease->thread, lease->where);
    return true;
}

/* A session that somebody forgot: upkeep reports it once, with the place that it was noted at. */
static void leak(void) {
    rmx_sqlite_session session;
    rm_error error;
    const rm_deadline none = {0};
    rm_pool *readers = rmx_sqlite_readers(db);
    if (!worked(rmx_sqlite_read(db, none, NULL, &session, &error), &error)) return;
    (void)rm_pool_note(readers, &session.lease, RM_HERE);
    (void)rm_sleep(NULL, RM_MS(60), NULL); /* longer than leak_after_ns */
    (void)rm_pool_maintain(readers, 0, none, NULL);
    check(rm_pool_leases(readers, show_lease, NULL) == 1, "the pool knows who holds a connection");
    printf("log: %s\n", reported);
    check(strstr(reported, "pool_sqlite.c:") != NULL, "and reported the one held for too long");
    (void)rmx_sqlite_end(&session);
}

/* New credentials, a failover, a file that was replaced: from here on nobody gets a connection that
   was made before. */
static void rotate(void) {
    rmx_sqlite_session session;
    rm_pool_stats before, after;
    rm_error error;
    const rm_deadline none = {0};
    rm_pool *readers = rmx_sqlite_readers(db);
    if (!worked(rmx_sqlite_read(db, none, NULL, &session, &error), &error)) return;
    (void)rm_pool_stats_get(readers, &before);
    check(rm_pool_evict_all(readers) == RM_OK && square(7) == 49,
          "after an eviction the next one gets a new connection");
    (void)rmx_sqlite_end(&session); /* it was out meanwhile: it ends now */
    (void)rm_pool_stats_get(readers, &after);
    check(after.ended[RM_POOL_CAUSE_EVICTED] == before.in_use + before.idle &&
              after.created == before.created + 1,
          "and all that were made before are closed");
}

int main(void) {
    static const rm_log log = {note_leak, NULL, RM_LOG_INFO};
    static const rm_env env = {NULL, NULL, NULL, &log};
    static const char endless[] =
        "WITH RECURSIVE c(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c)"
        " SELECT count(*) FROM c";
    char folder[] = "/tmp/rm_pool_sqlite_XXXXXX", path[64];
    rmx_sqlite_desc desc = {
        .name = "squares", .readers = 2, .env = &env, .leak_after_ns = RM_MS(50)};
    rmx_sqlite_session session;
    rm_error error;
    if (mkdtemp(folder) == NULL) return perror(folder), 1;
    (void)snprintf(path, sizeof path, "%s/squares.db", folder);
    desc.path = path;
    if (!worked(rmx_sqlite_create(&desc, &db, &error), &error) || !fill(1, true)) return 1;
    share();
    leak();
    rotate();
    check(fill(2, false) && square(7) == 49 && fill(1, true) && square(7) == 49,
          "what was not committed was rolled back at check-in");
    if (worked(rmx_sqlite_read(db, rm_deadline_after(NULL, RM_MS(50)), NULL, &session, &error),
               &error))
        check(rmx_sqlite_run(&session, endless, NULL, 0, NULL, &error) == RM_E_TIMEOUT &&
                  rmx_sqlite_end(&session) == RM_OK && square(9) == 81,
              "an endless query ended at its deadline, and its connection is of use");
    check(rmx_sqlite_destroy(db) == RM_OK, "nothing was left behind");
    return (unlink(path) == 0 && rmdir(folder) == 0 && failures == 0) ? 0 : 1;
}
