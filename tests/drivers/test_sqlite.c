/* The SQLite driver on real files: values, transactions, limits, statements, failures, threads. */
#define _GNU_SOURCE 1 /* faults.h: RTLD_NEXT */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"
#include "examples/drivers/sqlite.h"
#include "rm_test.h"
#include "faults.h"
#include "purse.h"

#include <unistd.h>

/* >>tools --------------------------------------------------------------------------------- */

static const rm_deadline never = {0};
static const char endless[] = "WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n) "
                              "SELECT count(meanwhile(x)) FROM n";

/* In place of the system's, which takes 10 ms: nothing here has to outlive the power. */
int fdatasync(int file) {
    (void)file;
    if (!faults_fail("fdatasync", __builtin_return_address(0))) return 0;
    errno = faults.lives % 2 == 0 ? EIO : ENOSPC;
    return -1;
}

/* Nor has SQLite to wait for real when a lock of the log is made to fail. Where threads meet it
   does: it gives up after so many tries (SQLITE_PROTOCOL). */
int usleep(useconds_t us) {
    const struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
    return faults_on ? 0 : nanosleep(&t, NULL);
}

/* A database in a folder of its own, on a virtual clock that sleep moves. */
typedef struct world {
    rmx_sqlite *db;
    purse purse;
    rm_allocator allocator;
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    char folder[128], path[160];
    sqlite3 *other; /* another process, as it were */
    rm_cancel cancel;
    void (*happens)(struct world *w); /* in the middle of the endless query */
    int64_t reached;                  /* by the endless query */
    int slept;                        /* while it waited for the other */
} world;

static rmx_sqlite_desc world_desc(world *w) {
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    rmx_sqlite_desc desc;
    memset(w, 0, sizeof *w);
    w->allocator = purse_open(&w->purse, 0);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w->time, RM_SEC(1), true));
    w->clock = rm_virtual_clock_clock(&w->time);
    w->env.allocator = &w->allocator;
    w->env.clock = &w->clock;
    (void)snprintf(w->folder, sizeof w->folder, "%s/rm_sqlite_XXXXXX",
                   folder == NULL ? "/tmp" : folder);
    if (!CHECK(mkdtemp(w->folder) != NULL)) exit(1);
    (void)snprintf(w->path, sizeof w->path, "%s/test.db", w->folder);
    memset(&desc, 0, sizeof desc);
    desc.name = "shop";
    desc.path = w->path;
    desc.env = &w->env;
    desc.readers = 1;
    desc.statements = 4;
    return desc;
}

static void world_create(world *w, const rmx_sqlite_desc *desc) {
    rm_error error;
    memset(&error, 0, sizeof error);
    if (CHECK_EQ(RM_OK, rmx_sqlite_create(desc, &w->db, &error))) return;
    printf("# %s: %s\n", error.where, error.message);
    exit(1);
}

static rmx_sqlite_session world_write(world *w) {
    rmx_sqlite_session session = {0};
    if (!CHECK_EQ(RM_OK, rmx_sqlite_write(w->db, never, NULL, &session, NULL))) exit(1);
    return session;
}

static rmx_sqlite_session world_read(world *w) {
    rmx_sqlite_session session = {0};
    if (!CHECK_EQ(RM_OK, rmx_sqlite_read(w->db, never, NULL, &session, NULL))) exit(1);
    return session;
}

/* Creates the database and runs a script in it. */
static void world_begin(world *w, const rmx_sqlite_desc *desc, const char *script) {
    rmx_sqlite_session session;
    world_create(w, desc);
    session = world_write(w);
    CHECK_EQ(RM_OK, rmx_sqlite_script(&session, script, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
}

/* Destroys it; no byte and no file but the database's own is left. */
static void world_end(world *w) {
    char log[176];
    CHECK_EQ(RM_OK, rmx_sqlite_destroy(w->db));
    CHECK_EQ(0, w->purse.out);
    (void)snprintf(log, sizeof log, "%s-wal", w->path);
    CHECK(access(log, F_OK) != 0);
    (void)unlink(w->path);
    CHECK_EQ(0, rmdir(w->folder));
    rm_virtual_clock_destroy(&w->time);
}

/* Runs one statement without parameters. */
static rm_status run(rmx_sqlite_session *session, const char *sql) {
    return rmx_sqlite_run(session, sql, NULL, 0, NULL, NULL);
}

/* The one number that a query gives. */
static int64_t number(rmx_sqlite_session *session, const char *sql) {
    rmx_sqlite_rows rows;
    int64_t result = -1;
    if (!CHECK_EQ(RM_OK, rmx_sqlite_query(session, sql, NULL, 0, &rows, NULL))) return -1;
    if (CHECK_EQ(RM_OK, rmx_sqlite_next(&rows, NULL))) result = rmx_sqlite_column_int(&rows, 0);
    rmx_sqlite_finish(&rows);
    return result;
}

/* The same in a read session of its own. */
static int64_t committed(world *w, const char *sql) {
    rmx_sqlite_session session = world_read(w);
    const int64_t result = number(&session, sql);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    return result;
}

static rm_pool_stats stats_of(rm_pool *pool) {
    rm_pool_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    return stats;
}

/* >>values -------------------------------------------------------------------------------- */

static const char item[] = "CREATE TABLE item(id INTEGER PRIMARY KEY, v)";

static void insert(rmx_sqlite_session *session, int64_t id, rmx_sqlite_param value) {
    const rmx_sqlite_param params[] = {rmx_sqlite_bind_int(NULL, id), value};
    CHECK_EQ(RM_OK,
             rmx_sqlite_run(session, "INSERT INTO item VALUES(?, ?)", params, 2, NULL, NULL));
}

static void insert_one_of_each(world *w) {
    rmx_sqlite_session session = world_write(w);
    insert(&session, INT64_MIN, rmx_sqlite_bind_int(NULL, INT64_MAX));
    insert(&session, 1, rmx_sqlite_bind_double(NULL, 2.5));
    insert(&session, 2, rmx_sqlite_bind_text(NULL, "x\xc3\xa9"));
    insert(&session, 3, rmx_sqlite_bind_text(NULL, ""));
    insert(&session, 4, rmx_sqlite_bind_text(NULL, NULL));
    insert(&session, 5, rmx_sqlite_bind_null(NULL));
    insert(&session, 6, rmx_sqlite_bind_blob(NULL, "a\0b", 3));
    insert(&session, 7, rmx_sqlite_bind_blob(NULL, NULL, 0));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
}

static void next_is(rmx_sqlite_rows *rows, rmx_sqlite_type type) {
    CHECK_EQ(RM_OK, rmx_sqlite_next(rows, NULL));
    CHECK_EQ(type, rmx_sqlite_column_type(rows, 1));
}

TEST(sqlite, values_come_back_as_they_were_bound) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    size_t size = 9;
    world_begin(&w, &desc, item);
    insert_one_of_each(&w);
    session = world_read(&w);
    REQUIRE(rmx_sqlite_query(&session, "SELECT id, v FROM item ORDER BY id", NULL, 0, &rows,
                             NULL) == RM_OK);
    next_is(&rows, RMX_SQLITE_INT);
    CHECK(rmx_sqlite_column_int(&rows, 0) == INT64_MIN);
    CHECK(rmx_sqlite_column_int(&rows, 1) == INT64_MAX);
    next_is(&rows, RMX_SQLITE_DOUBLE);
    CHECK(rmx_sqlite_column_double(&rows, 1) == 2.5);
    next_is(&rows, RMX_SQLITE_TEXT);
    CHECK_STR("x\xc3\xa9", rmx_sqlite_column_text(&rows, 1, &size));
    CHECK_EQ(3, size);
    next_is(&rows, RMX_SQLITE_TEXT);
    CHECK_STR("", rmx_sqlite_column_text(&rows, 1, &size));
    CHECK_EQ(0, size);
    next_is(&rows, RMX_SQLITE_NULL);
    next_is(&rows, RMX_SQLITE_NULL);
    CHECK_STR("", rmx_sqlite_column_text(&rows, 1, NULL));
    next_is(&rows, RMX_SQLITE_BLOB);
    CHECK(memcmp("a\0b", rmx_sqlite_column_blob(&rows, 1, &size), 3) == 0);
    CHECK_EQ(3, size);
    next_is(&rows, RMX_SQLITE_BLOB);
    CHECK(rmx_sqlite_column_blob(&rows, 1, &size) != NULL);
    CHECK_EQ(0, size);
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

static void columns_are_empty(const rmx_sqlite_rows *rows, uint32_t column) {
    size_t size = 9;
    CHECK_EQ(RMX_SQLITE_NULL, rmx_sqlite_column_type(rows, column));
    CHECK_EQ(0, rmx_sqlite_column_int(rows, column));
    CHECK(rmx_sqlite_column_double(rows, column) == 0.0);
    CHECK_STR("", rmx_sqlite_column_text(rows, column, &size));
    CHECK_EQ(0, size);
    size = 9;
    CHECK(rmx_sqlite_column_blob(rows, column, &size) != NULL);
    CHECK_EQ(0, size);
}

TEST(sqlite, columns_that_are_not_there_are_empty) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    world_begin(&w, &desc, item);
    session = world_read(&w);
    REQUIRE(rmx_sqlite_query(&session, "SELECT 42", NULL, 0, &rows, NULL) == RM_OK);
    columns_are_empty(&rows, 0); /* before the first row */
    CHECK_EQ(RM_OK, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(42, rmx_sqlite_column_int(&rows, 0));
    CHECK_STR("42", rmx_sqlite_column_text(&rows, 0, NULL)); /* converted, as in SQLite */
    columns_are_empty(&rows, 1);
    columns_are_empty(&rows, UINT32_MAX);
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&rows, NULL));
    columns_are_empty(&rows, 0); /* after the last */
    columns_are_empty(NULL, 0);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, parameters_have_to_fit) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    static const char sql[] = "INSERT INTO item VALUES(:id, $v)";
    rmx_sqlite_param params[] = {rmx_sqlite_bind_text("$v", "tea"), rmx_sqlite_bind_int(":id", 7)};
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    CHECK_EQ(RM_OK, rmx_sqlite_run(&session, sql, params, 2, NULL, NULL)); /* by name */
    CHECK_EQ(7, number(&session, "SELECT id FROM item WHERE v = 'tea'"));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, sql, params, 1, NULL, &error));
    CHECK_STR("shop", error.where);
    CHECK_STR("the statement has 2 parameters, but 1 were given", error.message);
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, sql, NULL, 0, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, sql, NULL, 2, NULL, &error));
    params[0].name = ":missing";
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, sql, params, 2, NULL, &error));
    CHECK_STR("the statement has no parameter :missing", error.message);
    CHECK_EQ(1, number(&session, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, a_call_takes_one_statement) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, "SELECT 1; SELECT 2", NULL, 0, NULL, &error));
    CHECK_STR("one statement at a time: use rmx_sqlite_script for several", error.message);
    CHECK_EQ(RM_E_INVALID, run(&session, ""));
    CHECK_EQ(RM_E_INVALID, run(&session, " ; "));
    CHECK_EQ(RM_E_INVALID, run(&session, NULL));
    CHECK_EQ(RM_OK, run(&session, "SELECT 1 ; \n"));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_run(&session, "SELEC 1", NULL, 0, NULL, &error));
    CHECK_EQ(SQLITE_ERROR, error.native);
    CHECK_STR("near \"SELEC\": syntax error; correct the SQL or its parameters", error.message);
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_script(&session, "DELETE FROM item; SELEC 1", &error));
    CHECK_EQ(SQLITE_ERROR, error.native);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, a_taken_key_is_not_another_broken_constraint) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc,
                "CREATE TABLE a(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL);"
                "CREATE TABLE b(a REFERENCES a, c CHECK(c > 0));"
                "CREATE TABLE c(k TEXT PRIMARY KEY) WITHOUT ROWID;"
                "INSERT INTO a VALUES(1, 'x', 0); INSERT INTO c VALUES('k')");
    session = world_write(&w);
    CHECK_EQ(RM_E_EXISTS,
             rmx_sqlite_run(&session, "INSERT INTO a VALUES(1, 'y', 0)", NULL, 0, NULL, &error));
    CHECK_EQ(SQLITE_CONSTRAINT_PRIMARYKEY, error.native);
    CHECK_STR("UNIQUE constraint failed: a.id; the row breaks a constraint", error.message);
    CHECK_EQ(RM_E_EXISTS, run(&session, "INSERT INTO a VALUES(2, 'x', 0)"));
    CHECK_EQ(RM_E_EXISTS, run(&session, "INSERT INTO c VALUES('k')"));
    CHECK_EQ(RM_E_INVALID, run(&session, "INSERT INTO a VALUES(3, 'z', NULL)"));
    CHECK_EQ(RM_E_INVALID, run(&session, "INSERT INTO b VALUES(1, 0)"));
    CHECK_EQ(RM_E_INVALID, run(&session, "INSERT INTO b VALUES(9, 1)")); /* there is no a 9 */
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO b VALUES(1, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL)); /* none of it ended the transaction */
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(1, committed(&w, "SELECT count(*) FROM b"));
    CHECK_EQ(0, stats_of(rmx_sqlite_writer(w.db)).ended[RM_POOL_CAUSE_BROKEN]);
    world_end(&w);
}

TEST(sqlite, counts_the_rows_that_a_statement_changed) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    int64_t changes = -1;
    world_begin(&w, &desc,
                "CREATE TABLE a(id INTEGER PRIMARY KEY);"
                "CREATE TABLE b(a REFERENCES a ON DELETE CASCADE);"
                "INSERT INTO a VALUES(1), (2), (3); INSERT INTO b VALUES(1), (1), (2)");
    session = world_write(&w);
    CHECK_EQ(RM_OK, rmx_sqlite_run(&session, "UPDATE a SET id = id WHERE id > 1", NULL, 0, &changes,
                                   NULL));
    CHECK_EQ(2, changes);
    CHECK_EQ(RM_OK, rmx_sqlite_run(&session, "SELECT id FROM a", NULL, 0, &changes, NULL));
    CHECK_EQ(0, changes);
    CHECK_EQ(RM_OK,
             rmx_sqlite_run(&session, "DELETE FROM a WHERE id = 1", NULL, 0, &changes, NULL));
    CHECK_EQ(3, changes); /* one of a, two of b */
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

/* >>transactions -------------------------------------------------------------------------- */

TEST(sqlite, what_is_not_committed_is_rolled_back) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO item VALUES(1, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, "SELECT 1 UNION SELECT 2", NULL, 0, &rows, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&rows, NULL)); /* rows are open, too */
    CHECK_EQ(0, committed(&w, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(0, committed(&w, "SELECT count(*) FROM item"));
    session = world_write(&w);
    CHECK_EQ(0, number(&session, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(1, stats_of(rmx_sqlite_writer(w.db)).created); /* the connection was kept */
    world_end(&w);
}

TEST(sqlite, a_commit_ends_the_transaction) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO item VALUES(1, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL));
    CHECK_EQ(1, committed(&w, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_E_STATE, rmx_sqlite_run(&session, "SELECT 1", NULL, 0, NULL, &error));
    CHECK_STR("the transaction was committed: end the session", error.message);
    CHECK_EQ(RM_E_STATE, rmx_sqlite_script(&session, "DELETE FROM item", NULL));
    CHECK_EQ(RM_E_STATE, rmx_sqlite_commit(&session, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    session = world_write(&w);
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO item VALUES(2, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_script(&session, "ROLLBACK", NULL));
    CHECK_EQ(RM_E_STATE, rmx_sqlite_commit(&session, &error));
    CHECK_STR("there is no transaction: an earlier error has rolled it back", error.message);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(1, committed(&w, "SELECT count(*) FROM item"));
    world_end(&w);
}

TEST(sqlite, a_reader_sees_the_newest_state_and_one_state_after_begin) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session reader, writer;
    world_begin(&w, &desc, item);
    reader = world_read(&w);
    CHECK_EQ(RM_OK, run(&reader, "BEGIN"));
    CHECK_EQ(0, number(&reader, "SELECT count(*) FROM item"));
    writer = world_write(&w);
    CHECK_EQ(RM_OK, run(&writer, "INSERT INTO item VALUES(1, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&writer, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&writer));
    CHECK_EQ(0, number(&reader, "SELECT count(*) FROM item")); /* as at its beginning */
    CHECK_EQ(RM_OK, rmx_sqlite_end(&reader));
    reader = world_read(&w); /* the same connection, out of its transaction */
    CHECK_EQ(1, number(&reader, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&reader));
    CHECK_EQ(1, stats_of(rmx_sqlite_readers(w.db)).created);
    world_end(&w);
}

TEST(sqlite, a_read_session_cannot_write) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    session = world_read(&w);
    CHECK_EQ(RM_E_INVALID,
             rmx_sqlite_run(&session, "INSERT INTO item VALUES(1, 1)", NULL, 0, NULL, &error));
    CHECK_EQ(SQLITE_READONLY, error.native);
    CHECK(strstr(error.message, "a read session cannot write: use rmx_sqlite_write") != NULL);
    CHECK_EQ(0, number(&session, "SELECT count(*) FROM item"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, a_full_disk_is_said_and_commits_nothing) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_status status = RM_OK;
    rm_error error;
    desc.setup = "PRAGMA max_page_count = 20";
    world_begin(&w, &desc, item);
    session = world_write(&w);
    for (int i = 0; i < 100 && status == RM_OK; ++i)
        status = rmx_sqlite_run(&session, "INSERT INTO item(v) VALUES(zeroblob(4000))", NULL, 0,
                                NULL, &error);
    CHECK_EQ(RM_E_FULL, status);
    CHECK_EQ(SQLITE_FULL, error.native);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(0, committed(&w, "SELECT count(*) FROM item"));
    session = world_write(&w);
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO item VALUES(1, 1)"));
    CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(1, committed(&w, "SELECT count(*) FROM item"));
    world_end(&w);
}

TEST(sqlite, a_value_that_is_too_long_is_refused) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    (void)sqlite3_limit(session.connection->handle, SQLITE_LIMIT_LENGTH, 1000);
    CHECK_EQ(RM_OK, run(&session, "INSERT INTO item(v) VALUES(zeroblob(900))"));
    CHECK_EQ(RM_E_TOO_LARGE, run(&session, "INSERT INTO item(v) VALUES(zeroblob(1001))"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

/* >>limits -------------------------------------------------------------------------------- */

/* An SQL function: something happens while the query is at its 5000th row. */
static void meanwhile(sqlite3_context *context, int count, sqlite3_value **values) {
    world *w = (world *)sqlite3_user_data(context);
    (void)count;
    w->reached = sqlite3_value_int64(values[0]);
    if (w->reached == 5000) w->happens(w);
    sqlite3_result_int(context, 1);
}

static void let_happen(world *w, rmx_sqlite_session *session, void (*happens)(world *w)) {
    w->happens = happens;
    CHECK_EQ(SQLITE_OK, sqlite3_create_function(session->connection->handle, "meanwhile", 1,
                                                SQLITE_UTF8, w, meanwhile, NULL, NULL));
}

static void time_passes(world *w) {
    rm_virtual_clock_advance(&w->time, RM_MS(50));
}

static void is_cancelled(world *w) {
    rm_cancel_request(&w->cancel);
}

/* The session is of no more use, but its connection is. */
static void all_else_works(world *w, rmx_sqlite_session *session, rm_status status) {
    rmx_sqlite_rows rows;
    CHECK_EQ(status, run(session, "SELECT 1"));
    CHECK_EQ(status, rmx_sqlite_query(session, "SELECT 1", NULL, 0, &rows, NULL));
    CHECK_EQ(status, rmx_sqlite_script(session, "SELECT 1", NULL));
    CHECK_EQ(status, rmx_sqlite_commit(session, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(session));
    CHECK_EQ(0, committed(w, "SELECT count(*) FROM item"));
    CHECK_EQ(1, stats_of(rmx_sqlite_readers(w->db)).created);
    CHECK_EQ(0, stats_of(rmx_sqlite_readers(w->db)).ended[RM_POOL_CAUSE_BROKEN]);
}

TEST(sqlite, a_deadline_ends_a_running_query) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    REQUIRE(rmx_sqlite_read(w.db, rm_deadline_after(&w.clock, RM_MS(50)), NULL, &session, NULL) ==
            RM_OK);
    let_happen(&w, &session, time_passes);
    CHECK_EQ(RM_E_TIMEOUT, rmx_sqlite_run(&session, endless, NULL, 0, NULL, &error));
    CHECK(w.reached >= 5000 && w.reached < 6000); /* SQLite asks every 1,000 steps */
    CHECK_EQ(SQLITE_INTERRUPT, error.native);
    CHECK_STR("interrupted; the session's deadline has passed", error.message);
    all_else_works(&w, &session, RM_E_TIMEOUT);
    world_end(&w);
}

TEST(sqlite, a_cancel_ends_a_running_query) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    world_begin(&w, &desc, item);
    CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
    REQUIRE(rmx_sqlite_read(w.db, never, &w.cancel, &session, NULL) == RM_OK);
    let_happen(&w, &session, is_cancelled);
    CHECK_EQ(RM_E_CANCELLED, rmx_sqlite_run(&session, endless, NULL, 0, NULL, &error));
    CHECK(w.reached >= 5000 && w.reached < 6000);
    CHECK_STR("interrupted; the session was cancelled", error.message);
    all_else_works(&w, &session, RM_E_CANCELLED);
    CHECK_EQ(RM_E_CANCELLED, rmx_sqlite_read(w.db, never, &w.cancel, &session, NULL));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
    world_end(&w);
}

TEST(sqlite, a_deadline_between_two_rows_ends_the_query) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    world_begin(&w, &desc, item);
    REQUIRE(rmx_sqlite_read(w.db, rm_deadline_after(&w.clock, RM_MS(50)), NULL, &session, NULL) ==
            RM_OK);
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, "SELECT 1 UNION SELECT 2", NULL, 0, &rows, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&rows, NULL));
    time_passes(&w);
    CHECK_EQ(RM_E_TIMEOUT, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&rows, NULL));
    columns_are_empty(&rows, 0);
    all_else_works(&w, &session, RM_E_TIMEOUT);
    world_end(&w);
}

static void other_writes(world *w) {
    CHECK_EQ(SQLITE_OK, sqlite3_open(w->path, &w->other));
    CHECK_EQ(SQLITE_OK, sqlite3_exec(w->other, "BEGIN IMMEDIATE", NULL, NULL, NULL));
}

static void other_ends(world *w) {
    CHECK_EQ(SQLITE_OK, sqlite3_close(w->other));
}

/* Tries to write while another does; returns what came of it, and how long that took. */
static rm_status try_to_write(world *w, int64_t timeout_ns, int64_t *took_ns, rm_error *error) {
    const rm_deadline deadline = timeout_ns == 0 ? never : rm_deadline_after(&w->clock, timeout_ns);
    const int64_t began = rm_now(&w->clock);
    rmx_sqlite_session session;
    const rm_status status = rmx_sqlite_write(w->db, deadline, NULL, &session, error);
    *took_ns = rm_now(&w->clock) - began;
    if (status == RM_OK) CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    return status;
}

TEST(sqlite, waits_for_another_process_as_long_as_it_may) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    int64_t took = 0;
    rm_error error;
    desc.busy_timeout_ns = RM_MS(200);
    world_begin(&w, &desc, item);
    other_writes(&w);
    CHECK_EQ(RM_E_BUSY, try_to_write(&w, 0, &took, &error));
    CHECK(took >= RM_MS(200) && took <= RM_MS(205));
    CHECK_EQ(SQLITE_BUSY, error.native);
    CHECK_STR("database is locked; another process holds the lock: try again, or raise "
              "busy_timeout_ns",
              error.message);
    CHECK_EQ(RM_E_TIMEOUT, try_to_write(&w, RM_MS(30), &took, &error));
    CHECK(took >= RM_MS(30) && took <= RM_MS(35));
    CHECK_STR("database is locked; the session's deadline has passed", error.message);
    other_ends(&w);
    CHECK_EQ(RM_OK, try_to_write(&w, 0, &took, &error));
    CHECK_EQ(0, took);
    CHECK_EQ(1, stats_of(rmx_sqlite_writer(w.db)).created);
    CHECK_EQ(0, stats_of(rmx_sqlite_writer(w.db)).in_use);
    world_end(&w);
}

TEST(sqlite, waits_for_another_process_for_5_s_or_not_at_all) {
    for (int strict = 0; strict < 2; ++strict) {
        world w;
        rmx_sqlite_desc desc = world_desc(&w);
        int64_t took = 0;
        desc.busy_timeout_ns = strict ? RM_NONE : 0;
        world_begin(&w, &desc, item);
        other_writes(&w);
        CHECK_EQ(RM_E_BUSY, try_to_write(&w, 0, &took, NULL));
        CHECK(strict ? took == 0 : took >= RM_SEC(5) && took <= RM_SEC(5) + RM_MS(5));
        other_ends(&w);
        world_end(&w);
    }
}

/* The other gives up during the driver's third sleep. */
static rm_status sleep_thrice(int64_t ns, void *user) {
    rm_virtual_clock *clock = (rm_virtual_clock *)user;
    world *w = (world *)(void *)((char *)clock - offsetof(world, time));
    if (++w->slept == 3) CHECK_EQ(SQLITE_OK, sqlite3_exec(w->other, "ROLLBACK", NULL, NULL, NULL));
    rm_virtual_clock_advance(clock, ns);
    return RM_OK;
}

TEST(sqlite, goes_on_when_the_other_process_is_done) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    int64_t took = 0;
    w.clock.sleep_fn = sleep_thrice;
    world_begin(&w, &desc, item);
    other_writes(&w);
    CHECK_EQ(RM_OK, try_to_write(&w, 0, &took, NULL));
    CHECK_EQ(3, w.slept);
    other_ends(&w);
    world_end(&w);
}

/* Lets the time pass for the one who waits on the clock. */
static void wake_one(void *user) {
    world *w = (world *)user;
    rm_virtual_clock_await(&w->time, 1);
    time_passes(w);
}

TEST(sqlite, the_second_writer_waits_for_the_first) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_thread thread;
    int64_t took = 0;
    rm_error error;
    world_begin(&w, &desc, item);
    session = world_write(&w);
    REQUIRE(rm_thread_start(&thread, wake_one, &w) == RM_OK);
    CHECK_EQ(RM_E_TIMEOUT, try_to_write(&w, RM_MS(50), &took, &error));
    CHECK_EQ(RM_MS(50), took);
    CHECK_STR("shop.write", error.where);
    rm_thread_join(&thread);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(RM_OK, try_to_write(&w, RM_MS(50), &took, &error));
    world_end(&w);
}

/* >>statements ---------------------------------------------------------------------------- */

static bool is_prepared(const rmx_sqlite_session *session, const char *sql) {
    sqlite3_stmt *at = NULL;
    while ((at = sqlite3_next_stmt(session->connection->handle, at)) != NULL)
        if (strcmp(sqlite3_sql(at), sql) == 0) return true;
    return false;
}

TEST(sqlite, keeps_the_statements_used_last) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    desc.statements = 2;
    world_begin(&w, &desc, item);
    session = world_read(&w);
    CHECK_EQ(RM_OK, run(&session, "SELECT 1"));
    CHECK_EQ(RM_OK, run(&session, "SELECT 2"));
    CHECK_EQ(RM_OK, run(&session, "SELECT 1"));
    CHECK_EQ(RM_OK, run(&session, "SELECT 3"));
    CHECK(is_prepared(&session, "SELECT 1"));
    CHECK(!is_prepared(&session, "SELECT 2"));
    CHECK(is_prepared(&session, "SELECT 3"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    session = world_read(&w);
    CHECK(is_prepared(&session, "SELECT 1")); /* kept between sessions */
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, open_rows_hold_their_statement) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    static const char sql[] = "SELECT 1 UNION SELECT 2";
    rmx_sqlite_session session;
    rmx_sqlite_rows a, b, c;
    rm_error error;
    desc.statements = 2;
    world_begin(&w, &desc, item);
    session = world_read(&w);
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, sql, NULL, 0, &a, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&a, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, sql, NULL, 0, &b, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&b, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&b, NULL));
    CHECK_EQ(1, rmx_sqlite_column_int(&a, 0));
    CHECK_EQ(2, rmx_sqlite_column_int(&b, 0));
    CHECK_EQ(RM_E_FULL, rmx_sqlite_query(&session, sql, NULL, 0, &c, &error));
    CHECK_STR("all 2 statements have open rows: finish some, or raise `statements`", error.message);
    rmx_sqlite_finish(&a);
    rmx_sqlite_finish(&a); /* twice is once */
    rmx_sqlite_finish(NULL);
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&a, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, sql, NULL, 0, &c, NULL));
    CHECK_EQ(2, rmx_sqlite_column_int(&b, 0));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    session = world_read(&w); /* the end of the session has freed them all */
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, sql, NULL, 0, &a, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, sql, NULL, 0, &b, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, the_end_of_a_session_ends_its_rows) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    world_begin(&w, &desc, item);
    session = world_read(&w);
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, "SELECT 1 UNION SELECT 2", NULL, 0, &rows, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    columns_are_empty(&rows, 0);
    CHECK_EQ(RM_E_STALE, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(&rows, NULL));
    CHECK_EQ(RM_E_STALE, rmx_sqlite_end(&session));
    CHECK_EQ(RM_E_STALE, run(&session, "SELECT 1"));
    CHECK_EQ(RM_E_STALE, rmx_sqlite_commit(&session, NULL));
    world_end(&w);
}

/* >>opening and ending -------------------------------------------------------------------- */

TEST(sqlite, names_the_field_that_is_wrong) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rm_error error;
    desc.path = NULL;
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_create(&desc, &w.db, &error));
    CHECK_STR("desc, desc.path or out is NULL", error.message);
    desc.path = w.path;
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_create(&desc, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_create(NULL, &w.db, &error));
    desc.name = "a name that has one byte more than forty!";
    CHECK_EQ(RM_E_TOO_LARGE, rmx_sqlite_create(&desc, &w.db, &error));
    CHECK_STR("name", error.where);
    desc.name = "a name that has just as many as forty !!";
    desc.busy_timeout_ns = -7;
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_create(&desc, &w.db, &error));
    CHECK_STR("busy_timeout_ns", error.where);
    desc.busy_timeout_ns = 0;
    desc.readers = 70000;
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_create(&desc, &w.db, &error));
    CHECK(w.db == NULL);
    CHECK_EQ(0, w.purse.out);
    desc.readers = 0;
    world_begin(&w, &desc, item);
    CHECK_EQ(4, stats_of(rmx_sqlite_readers(w.db)).max);
    CHECK_EQ(1, stats_of(rmx_sqlite_writer(w.db)).max);
    world_end(&w);
}

TEST(sqlite, refuses_null) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    world_begin(&w, &desc, item);
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_read(NULL, never, NULL, &session, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_read(w.db, never, NULL, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_write(NULL, never, NULL, &session, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_write(w.db, never, NULL, NULL, NULL));
    CHECK_EQ(RM_E_STALE, rmx_sqlite_query(NULL, "SELECT 1", NULL, 0, &rows, NULL));
    CHECK_EQ(RM_E_STALE, rmx_sqlite_commit(NULL, NULL));
    CHECK_EQ(RM_E_STALE, rmx_sqlite_end(NULL));
    CHECK_EQ(RM_E_NOT_FOUND, rmx_sqlite_next(NULL, NULL));
    CHECK(rmx_sqlite_writer(NULL) == NULL);
    CHECK(rmx_sqlite_readers(NULL) == NULL);
    CHECK_EQ(RM_OK, rmx_sqlite_destroy(NULL));
    session = world_read(&w);
    CHECK_EQ(RM_E_INVALID, rmx_sqlite_query(&session, "SELECT 1", NULL, 0, NULL, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

/* Creates a database that cannot be opened, and ends it. */
static void cannot_open(rmx_sqlite_desc *desc, bool writer, rm_status expected,
                        const char *message) {
    world w;
    rmx_sqlite_desc base = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    rm_status status;
    base.path = desc->path == NULL ? base.path : desc->path;
    base.setup = desc->setup;
    world_create(&w, &base);
    status = writer ? rmx_sqlite_write(w.db, never, NULL, &session, &error)
                    : rmx_sqlite_read(w.db, never, NULL, &session, &error);
    CHECK_EQ(expected, status);
    CHECK_STR("shop", error.where);
    CHECK_STR(message, error.message);
    CHECK_EQ(0, stats_of(rmx_sqlite_writer(w.db)).created);
    CHECK_EQ(0, stats_of(rmx_sqlite_readers(w.db)).created);
    world_end(&w);
}

TEST(sqlite, says_why_a_connection_cannot_be_opened) {
    rmx_sqlite_desc desc;
    memset(&desc, 0, sizeof desc);
    cannot_open(&desc, false, RM_E_SYSTEM,
                "unable to open database file; the writer makes the file: start it first");
    desc.setup = "NONSENSE";
    cannot_open(&desc, true, RM_E_INVALID,
                "near \"NONSENSE\": syntax error; correct the SQL or its parameters");
    desc.setup = NULL;
    desc.path = ":memory:";
    cannot_open(&desc, true, RM_E_INVALID,
                ":memory: cannot have a write-ahead log: name a file on a local disk");
    desc.path = "/dev/null/there/is/none.db";
    cannot_open(&desc, true, RM_E_SYSTEM,
                "unable to open database file; check that its directory exists and can be written");
}

TEST(sqlite, a_file_that_is_no_database_breaks_the_connection) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    rm_error error;
    FILE *file = fopen(w.path, "wb");
    REQUIRE(file != NULL);
    for (int i = 0; i < 512; ++i)
        (void)fputs("garbage!", file);
    (void)fclose(file);
    world_create(&w, &desc);
    CHECK_EQ(RM_E_PROTOCOL, rmx_sqlite_write(w.db, never, NULL, &session, &error));
    CHECK_EQ(SQLITE_NOTADB, error.native);
    CHECK_STR("file is not a database; restore the file from a backup", error.message);
    session = world_read(&w); /* SQLite has not looked into the file yet */
    CHECK_EQ(RM_E_PROTOCOL, run(&session, "SELECT * FROM sqlite_master"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    CHECK_EQ(1, stats_of(rmx_sqlite_readers(w.db)).ended[RM_POOL_CAUSE_BROKEN]);
    CHECK_EQ(1, stats_of(rmx_sqlite_readers(w.db)).destroyed);
    world_end(&w);
}

TEST(sqlite, the_setup_is_run_on_every_connection) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rmx_sqlite_session session;
    desc.setup = "PRAGMA cache_size = 123; PRAGMA cell_size_check = ON";
    world_begin(&w, &desc, item);
    CHECK_EQ(123, committed(&w, "PRAGMA cache_size"));
    CHECK_EQ(1, committed(&w, "PRAGMA cell_size_check"));
    session = world_write(&w);
    CHECK_EQ(123, number(&session, "PRAGMA cache_size"));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    world_end(&w);
}

TEST(sqlite, is_not_destroyed_while_a_session_is_open) {
    for (int write = 0; write < 2; ++write) {
        world w;
        rmx_sqlite_desc desc = world_desc(&w);
        rmx_sqlite_session session, late;
        world_begin(&w, &desc, item);
        session = write ? world_write(&w) : world_read(&w);
        CHECK_EQ(RM_E_BUSY, rmx_sqlite_destroy(w.db));
        CHECK_EQ(RM_E_CLOSED, rmx_sqlite_read(w.db, never, NULL, &late, NULL));
        CHECK_EQ(RM_E_CLOSED, rmx_sqlite_write(w.db, never, NULL, &late, NULL));
        CHECK_EQ(RM_OK, run(&session, "SELECT 1")); /* what is open goes on */
        CHECK_EQ(RM_E_BUSY, rmx_sqlite_destroy(w.db));
        CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
        world_end(&w);
    }
}

/* >>threads ------------------------------------------------------------------------------- */

enum { WRITERS = 2, READERS = 4, ROUNDS = 40 };

/* Each transaction adds two rows; every third is not committed. */
static void add_pairs(void *user) {
    world *w = (world *)user;
    for (int i = 0; i < ROUNDS; ++i) {
        rmx_sqlite_session session = world_write(w);
        CHECK_EQ(RM_OK, run(&session, "INSERT INTO item(v) VALUES(1)"));
        CHECK_EQ(RM_OK, run(&session, "INSERT INTO item(v) VALUES(1)"));
        if (i % 3 != 0) CHECK_EQ(RM_OK, rmx_sqlite_commit(&session, NULL));
        CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    }
}

static void count_pairs(void *user) {
    world *w = (world *)user;
    int64_t before = 0;
    for (int i = 0; i < ROUNDS; ++i) {
        const int64_t now = committed(w, "SELECT count(*) FROM item");
        CHECK(now % 2 == 0 && now >= before);
        before = now;
    }
}

TEST(sqlite, threads_share_it) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rm_thread threads[WRITERS + READERS];
    w.env.clock = NULL; /* they wait for each other */
    desc.readers = 3;
    world_begin(&w, &desc, item);
    for (int i = 0; i < WRITERS + READERS; ++i)
        CHECK_EQ(RM_OK, rm_thread_start(&threads[i], i < WRITERS ? add_pairs : count_pairs, &w));
    for (int i = 0; i < WRITERS + READERS; ++i)
        rm_thread_join(&threads[i]);
    CHECK_EQ(WRITERS * 2 * (ROUNDS - (ROUNDS + 2) / 3), committed(&w, "SELECT count(*) FROM item"));
    CHECK(stats_of(rmx_sqlite_readers(w.db)).created <= 3);
    CHECK_EQ(1, stats_of(rmx_sqlite_writer(w.db)).created);
    world_end(&w);
}

/* >>memory -------------------------------------------------------------------------------- */

/* Opens, writes, commits and reads; the first status that is not RM_OK. */
static rm_status use_all(world *w, const rmx_sqlite_desc *desc, rm_error *error) {
    const rmx_sqlite_param param = rmx_sqlite_bind_text(NULL, "a text of some length");
    rmx_sqlite_session session;
    rm_status status = rmx_sqlite_create(desc, &w->db, error);
    if (status == RM_OK) status = rmx_sqlite_write(w->db, never, NULL, &session, error);
    if (status != RM_OK) return status;
    status = rmx_sqlite_script(&session, item, error);
    if (status == RM_OK)
        status = rmx_sqlite_run(&session, "INSERT INTO item(v) VALUES(?)", &param, 1, NULL, error);
    if (status == RM_OK) status = rmx_sqlite_commit(&session, error);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    if (status == RM_OK) status = rmx_sqlite_read(w->db, never, NULL, &session, error);
    if (status != RM_OK) return status;
    status = rmx_sqlite_run(&session, "SELECT v FROM item ORDER BY v", NULL, 0, NULL, error);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    return status;
}

/* True if nothing failed; what failed has said so. */
static bool no_memory_is_said(rm_status status, const rm_error *error) {
    if (status == RM_OK) return true;
    CHECK_EQ(RM_E_NOMEM, status);
    CHECK_EQ(RM_E_NOMEM, error->status);
    CHECK(error->message[0] != '\0');
    return false;
}

TEST(sqlite, survives_every_failing_allocation) {
    bool done = false;
    int64_t fails_at;
    for (fails_at = 1; !done && fails_at < 100; ++fails_at) {
        world w;
        rmx_sqlite_desc desc = world_desc(&w);
        rm_error error;
        memset(&error, 0, sizeof error);
        desc.setup = "PRAGMA cache_size = 10";
        w.purse.fails_at = fails_at;
        done = no_memory_is_said(use_all(&w, &desc, &error), &error);
        world_end(&w);
    }
    CHECK(done);
    CHECK_EQ(11, fails_at); /* 5 to create it, 2 for each connection, and one that went well */
}

/* SQLite's own memory, some allocations of which fail. */
static sqlite3_mem_methods plain;
static int64_t sqlite_calls, sqlite_fails_from, sqlite_fails_to;

static bool sqlite_fails(void) {
    ++sqlite_calls;
    return sqlite_calls >= sqlite_fails_from && sqlite_calls <= sqlite_fails_to;
}

static void *sqlite_malloc(int size) {
    return sqlite_fails() ? NULL : plain.xMalloc(size);
}

static void *sqlite_realloc(void *pointer, int size) {
    return sqlite_fails() ? NULL : plain.xRealloc(pointer, size);
}

/* The k-th allocation fails, alone or with all that follow. */
static void without_memory(bool alone) {
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    sqlite3_mem_methods failing;
    bool done = false;
    int64_t fails_at;
    CHECK_EQ(SQLITE_OK, sqlite3_shutdown());
    CHECK_EQ(SQLITE_OK, sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain));
    failing = plain;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    CHECK_EQ(SQLITE_OK, sqlite3_config(SQLITE_CONFIG_MALLOC, &failing));
    CHECK_EQ(SQLITE_OK, sqlite3_initialize());
    for (fails_at = 1; !done && fails_at < 5000; ++fails_at) {
        rm_error error;
        memset(&error, 0, sizeof error);
        sqlite_calls = 0;
        sqlite_fails_from = fails_at;
        sqlite_fails_to = alone ? fails_at : INT64_MAX;
        done = no_memory_is_said(use_all(&w, &desc, &error), &error) && sqlite_calls < fails_at;
        sqlite_fails_to = 0;
        CHECK_EQ(RM_OK, rmx_sqlite_destroy(w.db));
        w.db = NULL;
        CHECK_EQ(0, w.purse.out);
        CHECK_EQ(0, sqlite3_memory_used());
        (void)unlink(w.path);
    }
    CHECK(done);
    CHECK(fails_at > 50);
    CHECK_EQ(SQLITE_OK, sqlite3_shutdown());
    CHECK_EQ(SQLITE_OK, sqlite3_config(SQLITE_CONFIG_MALLOC, &plain));
    world_end(&w);
}

TEST(sqlite, survives_every_failing_allocation_of_sqlite) {
    without_memory(true);
    without_memory(false);
}

/* >>the system: every call that SQLite makes to it fails ----------------------------------- */

/* A failure that was injected, and that says what it was; nothing else may fail, and the caller is
   not to blame. */
static bool held(rm_status status, const rm_error *error) {
    if (status == RM_OK) return true;
    CHECK(faults.failed > 0);
    CHECK_EQ(status, error->status);
    CHECK_STR("shop", error->where);
    CHECK(error->message[0] != '\0');
    CHECK(status != RM_E_INVALID && status != RM_E_INTERNAL && status != RM_E_STATE);
    return false;
}

/* No status but RM_OK while nothing is made to fail. */
static void works(rm_status status, const rm_error *error) {
    if (!CHECK_EQ(RM_OK, status)) printf("# %s (%d)\n", error->message, (int)error->native);
}

static rm_status add_row(world *w, bool commit, rm_error *error) {
    rmx_sqlite_session session;
    const rm_deadline soon = rm_deadline_after(&w->clock, RM_SEC(60));
    rm_status status = rmx_sqlite_write(w->db, soon, NULL, &session, error);
    if (status != RM_OK) return status;
    status = rmx_sqlite_script(&session,
                               "CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, v)", error);
    if (status == RM_OK)
        status = rmx_sqlite_run(&session, "INSERT INTO item(v) VALUES(zeroblob(50000))", NULL, 0,
                                NULL, error);
    if (status == RM_OK && commit) status = rmx_sqlite_commit(&session, error);
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    return status;
}

static rm_status count_rows(world *w, int64_t expected, rm_error *error) {
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    const rm_deadline soon = rm_deadline_after(&w->clock, RM_SEC(60));
    rm_status status = rmx_sqlite_read(w->db, soon, NULL, &session, error);
    if (status != RM_OK) return status;
    status = rmx_sqlite_query(&session, "SELECT count(*), sum(length(v)) FROM item", NULL, 0, &rows,
                              error);
    if (status == RM_OK) status = rmx_sqlite_next(&rows, error);
    if (status == RM_OK) {
        CHECK_EQ(expected, rmx_sqlite_column_int(&rows, 0));
        CHECK_EQ(expected * 50000, rmx_sqlite_column_int(&rows, 1));
    }
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
    return status;
}

static void adds_up(rm_pool *pool) {
    const rm_pool_stats stats = stats_of(pool);
    CHECK_EQ(0, stats.in_use + stats.creating + stats.closing + stats.waiting);
    CHECK_EQ(stats.created, stats.destroyed + stats.idle);
    CHECK(stats.ended[RM_POOL_CAUSE_BROKEN] <= (uint64_t)faults.failed);
}

/* The file as the next process finds it. */
static void is_sound(world *w, const rmx_sqlite_desc *desc, int64_t rows) {
    rmx_sqlite_session session;
    rmx_sqlite_rows said;
    rm_error error;
    world_create(w, desc);
    works(add_row(w, true, &error), &error);
    works(count_rows(w, rows + 1, &error), &error);
    session = world_read(w);
    CHECK_EQ(RM_OK, rmx_sqlite_query(&session, "PRAGMA integrity_check", NULL, 0, &said, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_next(&said, NULL));
    CHECK_STR("ok", rmx_sqlite_column_text(&said, 0, NULL));
    CHECK_EQ(RM_OK, rmx_sqlite_end(&session));
}

/* Creates, writes, reads, rolls back; goes on without faults; ends. */
static void life(void *user) {
    const int files = *(int *)user;
    world w;
    rmx_sqlite_desc desc = world_desc(&w);
    rm_error error;
    int64_t rows = 0;
    desc.setup = "PRAGMA cache_size = 5";
    desc.busy_timeout_ns = RM_MS(20);
    faults_on = true;
    CHECK_EQ(RM_OK, rmx_sqlite_create(&desc, &w.db, &error));
    rows += held(add_row(&w, true, &error), &error);
    if (rows > 0) (void)held(count_rows(&w, rows, &error), &error);
    (void)held(add_row(&w, false, &error), &error);
    faults_on = false;
    works(add_row(&w, true, &error), &error);
    works(count_rows(&w, ++rows, &error), &error);
    adds_up(rmx_sqlite_writer(w.db));
    adds_up(rmx_sqlite_readers(w.db));
    faults_on = true;
    CHECK_EQ(RM_OK, rmx_sqlite_destroy(w.db));
    faults_on = false;
    CHECK_EQ(files, faults_files());
    CHECK_EQ(0, sqlite3_memory_used());
    is_sound(&w, &desc, rows);
    world_end(&w);
}

TEST(sqlite, survives_every_failing_call_of_the_system) {
    int files = faults_files();
    faults_torture(life, &files);
}

TEST_MAIN
