/*  sqlite.h - SQLite behind two rm pools: one writer, n readers, write-ahead log.
    SPDX-License-Identifier: MIT OR Unlicense

    #define RM_IMPLEMENTATION            // in exactly one C file; it emits this driver as well
    #include "rm.h"
    #include "rm_pool.h"
    #include "drivers/sqlite.h"

    rmx_sqlite_desc desc = {.name = "catalog", .path = "catalog.db"};
    rmx_sqlite *db;
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    rm_error error;
    rmx_sqlite_param id = rmx_sqlite_bind_int(NULL, 42);
    rm_deadline deadline = rm_deadline_after(NULL, RM_MS(250));
    rm_status status = rmx_sqlite_create(&desc, &db, &error);
    ...
    status = rmx_sqlite_read(db, deadline, NULL, &session, &error);
    if (status == RM_OK) {
        status = rmx_sqlite_query(&session, "SELECT name FROM item WHERE id = ?", &id, 1, &rows,
                                  &error);
        while (status == RM_OK && (status = rmx_sqlite_next(&rows, &error)) == RM_OK)
            puts(rmx_sqlite_column_text(&rows, 0, NULL));
        rmx_sqlite_end(&session); // RM_E_NOT_FOUND: no more rows
    }

    Build with -lsqlite3 -pthread. A split build defines RMX_SQLITE_IMPLEMENTATION in one file.

LIFECYCLE
    The two pools are the resources to register: rm_pool_resource(rmx_sqlite_writer(db)) first,
    because the writer makes the file and turns the write-ahead log on, then the readers'. Without a
    manager, begin with a write session.

SESSIONS
    A session is a borrowed connection. Its deadline and its cancel token hold for the wait for the
    connection and for everything that is done with it: a query that runs when the time is over
    ends with RM_E_TIMEOUT. Both are looked at before every call and by SQLite's progress handler
    every 1,000 steps of its virtual machine. sqlite3_interrupt is not used: it needs a second
    thread, and it is lost when it comes between two calls.
    A write session is one transaction, begun with BEGIN IMMEDIATE, so that it waits for its turn
    instead of failing in the middle. What is not committed is rolled back by rmx_sqlite_end.
    At check-in every statement is reset and an open transaction is rolled back; a connection that
    cannot do that, or has met an I/O error or a damaged file, is closed.

STATEMENTS
    Each connection keeps its last `statements` statements prepared, by their SQL text.

ERRORS
    rm_error.where is the database's name, .native SQLite's extended result code.
    RM_E_BUSY      another process holds the lock      RM_E_TIMEOUT   the deadline passed
    RM_E_EXISTS    a UNIQUE or PRIMARY KEY is taken    RM_E_CANCELLED the token was requested
    RM_E_INVALID   SQL, parameters, other constraints, writing in a read session
    RM_E_PROTOCOL  the file is damaged, or is no database
    RM_E_FULL      the disk is full                    RM_E_AUTH      permission denied, read-only
    RM_E_SYSTEM    the file cannot be opened, read or written
    RM_E_STALE     the session has ended               RM_E_STATE     the transaction has ended
*/
#ifndef RMX_SQLITE_H_INCLUDED
#define RMX_SQLITE_H_INCLUDED

#include "rm.h"
#include "rm_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A database: its file and its two pools. Opaque. */
typedef struct rmx_sqlite rmx_sqlite;

typedef struct rmx_sqlite_desc {
    const char *name;        /* at most 40 bytes, copied; 0 = "sqlite". The pools are called
                                   "<name>.write" and "<name>.read" */
    const char *path;        /* the file, copied; required */
    const char *setup;       /* SQL for every new connection, copied; 0 = none */
    const rm_env *env;       /* 0 = defaults */
    uint32_t readers;        /* connections that read; 0 = 4 */
    uint32_t statements;     /* kept prepared by each connection; 0 = 16 */
    int64_t leak_after_ns;   /* sessions held for so long are reported to env->log by
                                   rm_pool_maintain; 0 = never */
    int64_t busy_timeout_ns; /* the wait for a lock of another process, within the session's
                                   deadline; 0 = 5 s; RM_NONE = do not wait */
} rmx_sqlite_desc;

/* A borrowed connection. Private fields; zeroed = none. */
typedef struct rmx_sqlite_session {
    struct rmx_sqlite_connection *connection;
    rm_lease lease;
} rmx_sqlite_session;

/* The rows of a query. Private fields. */
typedef struct rmx_sqlite_rows {
    rmx_sqlite_session *session;
    uint32_t slot;
    uint32_t columns; /* of the present row; 0 = there is none */
    bool open;
} rmx_sqlite_rows;

typedef enum rmx_sqlite_type {
    RMX_SQLITE_NULL = 0,
    RMX_SQLITE_INT,
    RMX_SQLITE_DOUBLE,
    RMX_SQLITE_TEXT,
    RMX_SQLITE_BLOB
} rmx_sqlite_type;

/* A parameter of a statement; make it with rmx_sqlite_bind_x. */
typedef struct rmx_sqlite_param {
    const char *name; /* such as ":id", as in the SQL; 0 = by its place in the array */
    const void *data;
    size_t size;
    int64_t integer;
    double number;
    rmx_sqlite_type type;
} rmx_sqlite_param;

/* Makes a database. Nothing is opened yet.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Owns: the caller; rmx_sqlite_destroy. */
RM_API RM_MUST_USE rm_status rmx_sqlite_create(const rmx_sqlite_desc *desc, rmx_sqlite **out,
                                               rm_error *error);

/* Closes both pools and ends the database; NULL is allowed.
   Returns: RM_E_BUSY, closed but not freed, while a session is open.
   Threads: owner. */
RM_API rm_status rmx_sqlite_destroy(rmx_sqlite *database);

/* The pool of the one writing connection: register its resource first.
   Returns: the pool, which the database owns; NULL for NULL.
   Threads: any. */
RM_API rm_pool *rmx_sqlite_writer(rmx_sqlite *database);

/* The pool of the reading connections.
   Returns: the pool, which the database owns; NULL for NULL.
   Threads: any. */
RM_API rm_pool *rmx_sqlite_readers(rmx_sqlite *database);

/* Borrows a reader. cancel may be NULL; a zeroed deadline never passes. Each query sees the newest
   committed state; for one state over several, run "BEGIN" first.
   Returns: what rm_pool_acquire_until and opening a connection return.
   Threads: any; a session belongs to one thread at a time. Blocks: up to the deadline.
   Owns: the caller; rmx_sqlite_end. */
RM_API RM_MUST_USE rm_status rmx_sqlite_read(rmx_sqlite *database, rm_deadline deadline,
                                             rm_cancel *cancel, rmx_sqlite_session *out,
                                             rm_error *error);

/* Borrows the writer and begins a transaction.
   Returns: as rmx_sqlite_read; RM_E_BUSY when another process writes for too long.
   Threads: any; a session belongs to one thread at a time. Blocks: up to the deadline.
   Owns: the caller; rmx_sqlite_end. */
RM_API RM_MUST_USE rm_status rmx_sqlite_write(rmx_sqlite *database, rm_deadline deadline,
                                              rm_cancel *cancel, rmx_sqlite_session *out,
                                              rm_error *error);

/* Commits the transaction of a write session. Only rmx_sqlite_end may follow.
   Returns: RM_E_STATE when there is no transaction any more; any of ERRORS, with nothing committed.
   Threads: the session's. */
RM_API RM_MUST_USE rm_status rmx_sqlite_commit(rmx_sqlite_session *session, rm_error *error);

/* Gives the connection back, after a rollback of what was not committed. Ends its rows.
   Returns: RM_E_STALE for a session that has ended.
   Threads: the session's. */
RM_API rm_status rmx_sqlite_end(rmx_sqlite_session *session);

/* Begins a query: one SQL statement with exactly as many parameters as it names; they are copied.
   *rows points to the session, which must stay where it is.
   Returns: RM_E_FULL when all `statements` are in use by open rows; any of ERRORS.
   Threads: the session's. Owns: the session; rmx_sqlite_finish ends it earlier. */
RM_API RM_MUST_USE rm_status rmx_sqlite_query(rmx_sqlite_session *session, const char *sql,
                                              const rmx_sqlite_param *params, uint32_t count,
                                              rmx_sqlite_rows *rows, rm_error *error);

/* Goes to the next row.
   Returns: RM_OK: there is one; RM_E_NOT_FOUND, with error left alone: there is none, and the query
   has ended; any of ERRORS, which end it too.
   Threads: the session's. */
RM_API RM_MUST_USE rm_status rmx_sqlite_next(rmx_sqlite_rows *rows, rm_error *error);

/* Ends a query before its last row; its statement can be used again. Needed only then.
   Threads: the session's. */
RM_API void rmx_sqlite_finish(rmx_sqlite_rows *rows);

/* Runs a statement to its end. *changes (may be NULL) is the number of rows changed by it,
   by triggers and foreign keys too.
   Returns: any of ERRORS.
   Threads: the session's. */
RM_API RM_MUST_USE rm_status rmx_sqlite_run(rmx_sqlite_session *session, const char *sql,
                                            const rmx_sqlite_param *params, uint32_t count,
                                            int64_t *changes, rm_error *error);

/* Runs several statements without parameters, such as a schema.
   Returns: any of ERRORS, from the first that failed.
   Threads: the session's. */
RM_API RM_MUST_USE rm_status rmx_sqlite_script(rmx_sqlite_session *session, const char *sql,
                                               rm_error *error);

/* Columns of the present row, counted from 0. Text and blobs live until the next call on the rows.
   Without a row, or with a column that is not there, they are NULL, 0, 0.0 and empty. Text is
   terminated; size may be NULL. As in SQLite, reading a column as another type converts it.
   Threads: the session's. */
RM_API rmx_sqlite_type rmx_sqlite_column_type(const rmx_sqlite_rows *rows, uint32_t column);
RM_API int64_t rmx_sqlite_column_int(const rmx_sqlite_rows *rows, uint32_t column);
RM_API double rmx_sqlite_column_double(const rmx_sqlite_rows *rows, uint32_t column);
RM_API const char *rmx_sqlite_column_text(const rmx_sqlite_rows *rows, uint32_t column,
                                          size_t *size);
RM_API const void *rmx_sqlite_column_blob(const rmx_sqlite_rows *rows, uint32_t column,
                                          size_t *size);

/* Parameters: name NULL = by its place in the array. A NULL text is an SQL NULL. What they point
   at must live until the query has begun.
   Threads: any. */
RM_API rmx_sqlite_param rmx_sqlite_bind_null(const char *name);
RM_API rmx_sqlite_param rmx_sqlite_bind_int(const char *name, int64_t value);
RM_API rmx_sqlite_param rmx_sqlite_bind_double(const char *name, double value);
RM_API rmx_sqlite_param rmx_sqlite_bind_text(const char *name, const char *value);
RM_API rmx_sqlite_param rmx_sqlite_bind_blob(const char *name, const void *data, size_t size);

#ifdef __cplusplus
}
#endif
#endif /* RMX_SQLITE_H_INCLUDED */

#if (defined(RM_IMPLEMENTATION) || defined(RMX_SQLITE_IMPLEMENTATION)) && \
    !defined(RMX_SQLITE_IMPLEMENTATION_DONE)
#define RMX_SQLITE_IMPLEMENTATION_DONE

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types */

typedef struct rmx_sqlite_statement {
    sqlite3_stmt *handle; /* NULL = the slot is free */
    uint64_t used;        /* the connection's tick when it was last taken */
    bool busy;            /* open rows read from it */
} rmx_sqlite_statement;

/* A connection; between acquire and release it belongs to one session. */
typedef struct rmx_sqlite_connection {
    rmx_sqlite *database;
    sqlite3 *handle;
    rmx_sqlite_statement *statements;
    uint64_t tick;
    rm_deadline deadline; /* the session's */
    rm_cancel *cancel;    /* the session's */
    int64_t busy_since_ns;
    bool writer;
    bool committed;
    bool broken;
} rmx_sqlite_connection;

struct rmx_sqlite {
    rm_env env;
    rm_pool *writer, *readers;
    char name[48];
    char *path, *setup;
    uint32_t statements;
    int64_t busy_timeout_ns;
};

enum { RMX_SQLITE_STEPS = 1000 }; /* of the virtual machine between two looks at the clock */

/* >>errors */

/* What a result code means to the caller, and what he can do about it. */
static rm_status rmx_sqlite_status(const rmx_sqlite_connection *connection, int code,
                                   const char **advice) {
    *advice = "see native for SQLite's result code";
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        *advice = "another process holds the lock: try again, or raise busy_timeout_ns";
        return RM_E_BUSY;
    case SQLITE_INTERRUPT: *advice = "stopped by its session"; return RM_E_CANCELLED;
    case SQLITE_NOMEM: *advice = "out of memory"; return RM_E_NOMEM;
    case SQLITE_READONLY:
        if (!connection->writer && code == SQLITE_READONLY) { /* not: the log cannot be written */
            *advice = "a read session cannot write: use rmx_sqlite_write";
            return RM_E_INVALID;
        }
        *advice = "check the permissions of the file and of its directory";
        return RM_E_AUTH;
    case SQLITE_AUTH:
    case SQLITE_PERM: *advice = "check the permissions of the file"; return RM_E_AUTH;
    case SQLITE_CANTOPEN:
        *advice = connection->writer ? "check that its directory exists and can be written"
                                     : "the writer makes the file: start it first";
        return RM_E_SYSTEM;
    case SQLITE_IOERR: *advice = "check the disk"; return RM_E_SYSTEM;
    case SQLITE_FULL: *advice = "make room on the disk"; return RM_E_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: *advice = "restore the file from a backup"; return RM_E_PROTOCOL;
    case SQLITE_TOOBIG: *advice = "a value or the SQL is too long"; return RM_E_TOO_LARGE;
    case SQLITE_CONSTRAINT:
        *advice = "the row breaks a constraint";
        return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
                       code == SQLITE_CONSTRAINT_ROWID
                   ? RM_E_EXISTS
                   : RM_E_INVALID;
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE: *advice = "correct the SQL or its parameters"; return RM_E_INVALID;
    case SQLITE_MISUSE:
    case SQLITE_INTERNAL: return RM_E_INTERNAL;
    default: return RM_E_FAILED;
    }
}

/* After these the connection may be of no use. The file may be another one by now (CANTOPEN,
   READONLY_DBMOVED), or what is in memory no longer what is on disk. SQLite opens a file that it
   may not write for reading alone, and stays with that: the writer has to open it again. */
static bool rmx_sqlite_breaks(const rmx_sqlite_connection *connection, int code) {
    switch (code & 0xff) {
    case SQLITE_READONLY: return connection->writer || code != SQLITE_READONLY;
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL:
    case SQLITE_MISUSE:
    case SQLITE_INTERNAL: return true;
    default: return false;
    }
}

/* Is the time of the session over, or was it cancelled? */
static rm_status rmx_sqlite_over(const rmx_sqlite_connection *connection) {
    if (rm_cancel_requested(connection->cancel)) return RM_E_CANCELLED;
    if (rm_deadline_passed(connection->database->env.clock, connection->deadline))
        return RM_E_TIMEOUT;
    return RM_OK;
}

/* Fills an error from a result code. The session's own limits are the cause that counts. */
static rm_status rmx_sqlite_fail(rmx_sqlite_connection *connection, int code, rm_error *error) {
    const char *advice;
    rm_status status = rmx_sqlite_status(connection, code, &advice);
    const char *said =
        connection->handle == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(connection->handle);
    if (rmx_sqlite_breaks(connection, code)) connection->broken = true;
    if (status == RM_E_CANCELLED || status == RM_E_BUSY) {
        const rm_status over = rmx_sqlite_over(connection);
        status = over == RM_OK ? status : over;
        if (status == RM_E_TIMEOUT)
            advice = "the session's deadline has passed";
        else if (status == RM_E_CANCELLED)
            advice = "the session was cancelled";
    }
    return rm_error_set(error, status, code, connection->database->name, "%s; %s", said, advice);
}

/* Refuses a call on a session that has ended, is cancelled or whose time is over. */
static rm_status rmx_sqlite_ready(const rmx_sqlite_session *session, rm_error *error) {
    const rmx_sqlite_connection *connection = session == NULL ? NULL : session->connection;
    rm_status status;
    if (connection == NULL)
        return rm_error_set(error, RM_E_STALE, 0, "sqlite", "the session has ended");
    if (connection->committed)
        return rm_error_set(error, RM_E_STATE, 0, connection->database->name,
                            "the transaction was committed: end the session");
    status = rmx_sqlite_over(connection);
    if (status == RM_OK) return RM_OK;
    return rm_error_set(error, status, 0, connection->database->name,
                        status == RM_E_TIMEOUT ? "the session's deadline has passed"
                                               : "the session was cancelled");
}

/* >>connections */

/* SQLite asks, every so many steps, whether to go on. */
static int rmx_sqlite_on_progress(void *user) {
    return rmx_sqlite_over((const rmx_sqlite_connection *)user) != RM_OK;
}

/* SQLite asks whether to wait on for a lock that another process holds. */
static int rmx_sqlite_on_busy(void *user, int count) {
    rmx_sqlite_connection *connection = (rmx_sqlite_connection *)user;
    const rm_clock *clock = connection->database->env.clock;
    const int64_t limit = connection->database->busy_timeout_ns;
    const int64_t now = rm_now(clock);
    if (count == 0) connection->busy_since_ns = now;
    if (limit == RM_NONE || now - connection->busy_since_ns >= limit ||
        rmx_sqlite_over(connection) != RM_OK)
        return 0;
    return rm_sleep(clock, count < 10 ? RM_MS(1) : RM_MS(5), connection->cancel) == RM_OK;
}

static void rmx_sqlite_disconnect(void *resource, void *user) {
    rmx_sqlite_connection *connection = (rmx_sqlite_connection *)resource;
    const rmx_sqlite *database = connection->database;
    const rm_allocator *allocator = database->env.allocator;
    uint32_t i;
    (void)user;
    for (i = 0; i < database->statements; ++i)
        (void)sqlite3_finalize(connection->statements[i].handle);
    (void)sqlite3_close(connection->handle);
    rm_free(allocator, connection->statements,
            database->statements * sizeof *connection->statements);
    rm_free(allocator, connection, sizeof *connection);
}

/* Turns the write-ahead log on; that needs a file. */
static rm_status rmx_sqlite_use_wal(rmx_sqlite_connection *connection, rm_error *error) {
    sqlite3_stmt *pragma = NULL;
    bool on = false;
    /* reads the file first: the next pragma says no more than "no" when it is no database */
    int code = sqlite3_exec(connection->handle, "PRAGMA schema_version", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code =
            sqlite3_prepare_v2(connection->handle, "PRAGMA journal_mode = WAL", -1, &pragma, NULL);
    if (code == SQLITE_OK && sqlite3_step(pragma) == SQLITE_ROW)
        on = sqlite3_stricmp((const char *)sqlite3_column_text(pragma, 0), "wal") == 0;
    if (code == SQLITE_OK) code = sqlite3_finalize(pragma);
    if (code != SQLITE_OK) return rmx_sqlite_fail(connection, code, error);
    if (on) return RM_OK;
    return rm_error_set(error, RM_E_INVALID, 0, connection->database->name,
                        "%s cannot have a write-ahead log: name a file on a local disk",
                        connection->database->path);
}

static rm_status rmx_sqlite_open(rmx_sqlite_connection *connection, rm_error *error) {
    const rmx_sqlite *database = connection->database;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    rm_status status = RM_OK;
    int code = sqlite3_open_v2(database->path, &connection->handle,
                               connection->writer ? flags | SQLITE_OPEN_CREATE : flags, NULL);
    if (code != SQLITE_OK)
        return rmx_sqlite_fail(connection, sqlite3_extended_errcode(connection->handle), error);
    (void)sqlite3_extended_result_codes(connection->handle, 1);
    (void)sqlite3_busy_handler(connection->handle, rmx_sqlite_on_busy, connection);
    sqlite3_progress_handler(connection->handle, RMX_SQLITE_STEPS, rmx_sqlite_on_progress,
                             connection);
    if (connection->writer) status = rmx_sqlite_use_wal(connection, error);
    if (status != RM_OK) return status;
    code = sqlite3_exec(connection->handle,
                        connection->writer ? "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON"
                                           : "PRAGMA query_only = ON",
                        NULL, NULL, NULL);
    if (code == SQLITE_OK && database->setup != NULL)
        code = sqlite3_exec(connection->handle, database->setup, NULL, NULL, NULL);
    return code == SQLITE_OK ? RM_OK : rmx_sqlite_fail(connection, code, error);
}

static rm_status rmx_sqlite_connect(rmx_sqlite *database, bool writer, void **resource,
                                    rm_deadline deadline, rm_error *error) {
    const rm_allocator *allocator = database->env.allocator;
    const size_t size = database->statements * sizeof(rmx_sqlite_statement);
    rmx_sqlite_connection *connection =
        (rmx_sqlite_connection *)rm_alloc(allocator, sizeof *connection);
    rm_status status;
    if (connection == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, database->name, "no memory for a connection");
    memset(connection, 0, sizeof *connection);
    connection->database = database;
    connection->writer = writer;
    connection->deadline = deadline;
    connection->statements = (rmx_sqlite_statement *)rm_alloc(allocator, size);
    if (connection->statements == NULL) {
        rm_free(allocator, connection, sizeof *connection);
        return rm_error_set(error, RM_E_NOMEM, 0, database->name, "no memory for a connection");
    }
    memset(connection->statements, 0, size);
    status = rmx_sqlite_open(connection, error);
    if (status == RM_OK)
        *resource = connection;
    else
        rmx_sqlite_disconnect(connection, NULL);
    return status;
}

static rm_status rmx_sqlite_connect_writer(void **resource, rm_deadline deadline, rm_error *error,
                                           void *user) {
    return rmx_sqlite_connect((rmx_sqlite *)user, true, resource, deadline, error);
}

static rm_status rmx_sqlite_connect_reader(void **resource, rm_deadline deadline, rm_error *error,
                                           void *user) {
    return rmx_sqlite_connect((rmx_sqlite *)user, false, resource, deadline, error);
}

static void rmx_sqlite_release_statement(rmx_sqlite_statement *statement) {
    (void)sqlite3_reset(statement->handle);
    (void)sqlite3_clear_bindings(statement->handle);
    statement->busy = false;
}

/* Check-in. It has to run to its end, so the session's limits no longer hold. */
static rm_status rmx_sqlite_reset(void *resource, void *user) {
    rmx_sqlite_connection *connection = (rmx_sqlite_connection *)resource;
    uint32_t i;
    (void)user;
    memset(&connection->deadline, 0, sizeof connection->deadline);
    connection->cancel = NULL;
    connection->committed = false;
    for (i = 0; i < connection->database->statements; ++i) {
        if (connection->statements[i].busy)
            rmx_sqlite_release_statement(&connection->statements[i]);
    }
    if (sqlite3_get_autocommit(connection->handle)) return RM_OK;
    return sqlite3_exec(connection->handle, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK
               ? RM_OK
               : RM_E_FAILED;
}

/* >>statements */

/* An idle statement for this SQL: one that is prepared, else the one used longest ago, replaced. */
static rm_status rmx_sqlite_prepare(rmx_sqlite_connection *connection, const char *sql,
                                    uint32_t *slot, rm_error *error) {
    rmx_sqlite_statement *statements = connection->statements, *oldest = NULL;
    const char *tail = NULL;
    uint32_t i;
    int code;
    for (i = 0; i < connection->database->statements; ++i) {
        if (statements[i].busy) continue;
        if (statements[i].handle != NULL && strcmp(sqlite3_sql(statements[i].handle), sql) == 0)
            break;
        if (oldest == NULL || statements[i].used < oldest->used) oldest = &statements[i];
    }
    if (i < connection->database->statements) {
        *slot = i;
        return RM_OK;
    }
    if (oldest == NULL)
        return rm_error_set(error, RM_E_FULL, 0, connection->database->name,
                            "all %u statements have open rows: finish some, or raise `statements`",
                            (unsigned)connection->database->statements);
    (void)sqlite3_finalize(oldest->handle);
    oldest->handle = NULL;
    oldest->used = 0;
    code = sqlite3_prepare_v3(connection->handle, sql, -1, SQLITE_PREPARE_PERSISTENT,
                              &oldest->handle, &tail);
    if (code != SQLITE_OK) return rmx_sqlite_fail(connection, code, error);
    if (oldest->handle == NULL || tail[strspn(tail, " \t\r\n;")] != '\0') {
        (void)sqlite3_finalize(oldest->handle);
        oldest->handle = NULL;
        return rm_error_set(error, RM_E_INVALID, 0, connection->database->name,
                            "one statement at a time: use rmx_sqlite_script for several");
    }
    *slot = (uint32_t)(oldest - statements);
    return RM_OK;
}

static int rmx_sqlite_bind(sqlite3_stmt *handle, int index, const rmx_sqlite_param *param) {
    switch (param->type) {
    case RMX_SQLITE_INT: return sqlite3_bind_int64(handle, index, param->integer);
    case RMX_SQLITE_DOUBLE: return sqlite3_bind_double(handle, index, param->number);
    case RMX_SQLITE_TEXT:
        return sqlite3_bind_text64(handle, index, (const char *)param->data, param->size,
                                   SQLITE_TRANSIENT, SQLITE_UTF8);
    case RMX_SQLITE_BLOB:
        return param->size == 0
                   ? sqlite3_bind_zeroblob(handle, index, 0)
                   : sqlite3_bind_blob64(handle, index, param->data, param->size, SQLITE_TRANSIENT);
    case RMX_SQLITE_NULL: break;
    }
    return sqlite3_bind_null(handle, index);
}

static rm_status rmx_sqlite_bind_all(rmx_sqlite_connection *connection, sqlite3_stmt *handle,
                                     const rmx_sqlite_param *params, uint32_t count,
                                     rm_error *error) {
    const char *name = connection->database->name;
    const int wanted = sqlite3_bind_parameter_count(handle);
    uint32_t i;
    if ((uint32_t)wanted != count)
        return rm_error_set(error, RM_E_INVALID, SQLITE_RANGE, name,
                            "the statement has %d parameters, but %u were given", wanted,
                            (unsigned)count);
    for (i = 0; i < count; ++i) {
        const int index = params[i].name == NULL
                              ? (int)i + 1
                              : sqlite3_bind_parameter_index(handle, params[i].name);
        const int code = index == 0 ? SQLITE_RANGE : rmx_sqlite_bind(handle, index, &params[i]);
        if (index == 0)
            return rm_error_set(error, RM_E_INVALID, code, name,
                                "the statement has no parameter %s", params[i].name);
        if (code != SQLITE_OK) return rmx_sqlite_fail(connection, code, error);
    }
    return RM_OK;
}

RM_API rm_status rmx_sqlite_query(rmx_sqlite_session *session, const char *sql,
                                  const rmx_sqlite_param *params, uint32_t count,
                                  rmx_sqlite_rows *rows, rm_error *error) {
    rm_status status = rmx_sqlite_ready(session, error);
    rmx_sqlite_statement *statement;
    uint32_t slot = 0;
    if (status != RM_OK) return status;
    if (sql == NULL || rows == NULL || (params == NULL && count > 0))
        return rm_error_set(error, RM_E_INVALID, 0, session->connection->database->name,
                            "sql, params or rows is NULL");
    status = rmx_sqlite_prepare(session->connection, sql, &slot, error);
    if (status != RM_OK) return status;
    statement = &session->connection->statements[slot];
    status = rmx_sqlite_bind_all(session->connection, statement->handle, params, count, error);
    if (status != RM_OK) {
        rmx_sqlite_release_statement(statement);
        return status;
    }
    statement->used = ++session->connection->tick;
    statement->busy = true;
    memset(rows, 0, sizeof *rows);
    rows->session = session;
    rows->slot = slot;
    rows->open = true;
    return RM_OK;
}

RM_API rm_status rmx_sqlite_next(rmx_sqlite_rows *rows, rm_error *error) {
    rmx_sqlite_connection *connection;
    rm_status status;
    sqlite3_stmt *handle;
    int code;
    if (rows == NULL || !rows->open) return RM_E_NOT_FOUND;
    status = rmx_sqlite_ready(rows->session, error);
    if (status != RM_OK) {
        rmx_sqlite_finish(rows);
        return status;
    }
    connection = rows->session->connection;
    handle = connection->statements[rows->slot].handle;
    code = sqlite3_step(handle);
    rows->columns = code == SQLITE_ROW ? (uint32_t)sqlite3_column_count(handle) : 0;
    if (code == SQLITE_ROW) return RM_OK;
    status = code == SQLITE_DONE ? RM_E_NOT_FOUND : rmx_sqlite_fail(connection, code, error);
    rmx_sqlite_finish(rows);
    return status;
}

RM_API void rmx_sqlite_finish(rmx_sqlite_rows *rows) {
    rmx_sqlite_connection *connection;
    if (rows == NULL || !rows->open) return;
    rows->open = false;
    rows->columns = 0;
    connection = rows->session->connection;
    if (connection != NULL) /* else the session has ended, and its statements were reset */
        rmx_sqlite_release_statement(&connection->statements[rows->slot]);
}

RM_API rm_status rmx_sqlite_run(rmx_sqlite_session *session, const char *sql,
                                const rmx_sqlite_param *params, uint32_t count, int64_t *changes,
                                rm_error *error) {
    rmx_sqlite_rows rows;
    uint32_t before; /* sqlite3_total_changes is an int that wraps */
    rm_status status = rmx_sqlite_query(session, sql, params, count, &rows, error);
    if (status != RM_OK) return status;
    before = (uint32_t)sqlite3_total_changes(session->connection->handle);
    while (status == RM_OK)
        status = rmx_sqlite_next(&rows, error);
    if (status != RM_E_NOT_FOUND) return status;
    if (changes != NULL)
        *changes = (uint32_t)sqlite3_total_changes(session->connection->handle) - before;
    return RM_OK;
}

RM_API rm_status rmx_sqlite_script(rmx_sqlite_session *session, const char *sql, rm_error *error) {
    const rm_status status = rmx_sqlite_ready(session, error);
    int code;
    if (status != RM_OK) return status;
    code = sqlite3_exec(session->connection->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? RM_OK : rmx_sqlite_fail(session->connection, code, error);
}

/* >>sessions */

RM_API rm_status rmx_sqlite_read(rmx_sqlite *database, rm_deadline deadline, rm_cancel *cancel,
                                 rmx_sqlite_session *out, rm_error *error) {
    rm_pool *pool = rmx_sqlite_readers(database);
    rmx_sqlite_session session;
    rm_status status;
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "sqlite", "database or out is NULL");
    status = rm_pool_acquire_until(pool, deadline, cancel, &session.lease, error);
    if (status != RM_OK) return status;
    session.connection = (rmx_sqlite_connection *)session.lease.resource;
    session.connection->deadline = deadline;
    session.connection->cancel = cancel;
    *out = session;
    return RM_OK;
}

RM_API rm_status rmx_sqlite_write(rmx_sqlite *database, rm_deadline deadline, rm_cancel *cancel,
                                  rmx_sqlite_session *out, rm_error *error) {
    rm_pool *pool = rmx_sqlite_writer(database);
    rmx_sqlite_session session;
    rm_status status;
    int code;
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "sqlite", "database or out is NULL");
    status = rm_pool_acquire_until(pool, deadline, cancel, &session.lease, error);
    if (status != RM_OK) return status;
    session.connection = (rmx_sqlite_connection *)session.lease.resource;
    session.connection->deadline = deadline;
    session.connection->cancel = cancel;
    code = sqlite3_exec(session.connection->handle, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        status = rmx_sqlite_fail(session.connection, code, error);
        (void)rmx_sqlite_end(&session);
        return status;
    }
    *out = session;
    return RM_OK;
}

RM_API rm_status rmx_sqlite_commit(rmx_sqlite_session *session, rm_error *error) {
    rmx_sqlite_connection *connection;
    rm_status status = rmx_sqlite_ready(session, error);
    int code;
    if (status != RM_OK) return status;
    connection = session->connection;
    if (sqlite3_get_autocommit(connection->handle)) /* a full disk, for one, rolls back by itself */
        return rm_error_set(error, RM_E_STATE, 0, connection->database->name,
                            "there is no transaction: an earlier error has rolled it back");
    code = sqlite3_exec(connection->handle, "COMMIT", NULL, NULL, NULL);
    if (code != SQLITE_OK) return rmx_sqlite_fail(connection, code, error);
    connection->committed = connection->writer;
    return RM_OK;
}

RM_API rm_status rmx_sqlite_end(rmx_sqlite_session *session) {
    rmx_sqlite_connection *connection = session == NULL ? NULL : session->connection;
    if (connection == NULL) return RM_E_STALE;
    session->connection = NULL;
    return rm_pool_release(connection->writer ? connection->database->writer
                                              : connection->database->readers,
                           &session->lease, connection->broken ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
}

/* >>columns and parameters */

static sqlite3_stmt *rmx_sqlite_row(const rmx_sqlite_rows *rows, uint32_t column) {
    if (rows == NULL || column >= rows->columns || rows->session->connection == NULL) return NULL;
    return rows->session->connection->statements[rows->slot].handle;
}

RM_API rmx_sqlite_type rmx_sqlite_column_type(const rmx_sqlite_rows *rows, uint32_t column) {
    sqlite3_stmt *handle = rmx_sqlite_row(rows, column);
    switch (handle == NULL ? SQLITE_NULL : sqlite3_column_type(handle, (int)column)) {
    case SQLITE_INTEGER: return RMX_SQLITE_INT;
    case SQLITE_FLOAT: return RMX_SQLITE_DOUBLE;
    case SQLITE_TEXT: return RMX_SQLITE_TEXT;
    case SQLITE_BLOB: return RMX_SQLITE_BLOB;
    default: return RMX_SQLITE_NULL;
    }
}

RM_API int64_t rmx_sqlite_column_int(const rmx_sqlite_rows *rows, uint32_t column) {
    sqlite3_stmt *handle = rmx_sqlite_row(rows, column);
    return handle == NULL ? 0 : sqlite3_column_int64(handle, (int)column);
}

RM_API double rmx_sqlite_column_double(const rmx_sqlite_rows *rows, uint32_t column) {
    sqlite3_stmt *handle = rmx_sqlite_row(rows, column);
    return handle == NULL ? 0.0 : sqlite3_column_double(handle, (int)column);
}

RM_API const char *rmx_sqlite_column_text(const rmx_sqlite_rows *rows, uint32_t column,
                                          size_t *size) {
    sqlite3_stmt *handle = rmx_sqlite_row(rows, column);
    const char *text =
        handle == NULL ? NULL : (const char *)sqlite3_column_text(handle, (int)column);
    if (size != NULL) *size = text == NULL ? 0 : (size_t)sqlite3_column_bytes(handle, (int)column);
    return text == NULL ? "" : text;
}

RM_API const void *rmx_sqlite_column_blob(const rmx_sqlite_rows *rows, uint32_t column,
                                          size_t *size) {
    sqlite3_stmt *handle = rmx_sqlite_row(rows, column);
    const void *data = handle == NULL ? NULL : sqlite3_column_blob(handle, (int)column);
    if (size != NULL) *size = data == NULL ? 0 : (size_t)sqlite3_column_bytes(handle, (int)column);
    return data == NULL ? "" : data;
}

RM_API rmx_sqlite_param rmx_sqlite_bind_null(const char *name) {
    rmx_sqlite_param param;
    memset(&param, 0, sizeof param);
    param.name = name;
    return param;
}

RM_API rmx_sqlite_param rmx_sqlite_bind_int(const char *name, int64_t value) {
    rmx_sqlite_param param = rmx_sqlite_bind_null(name);
    param.type = RMX_SQLITE_INT;
    param.integer = value;
    return param;
}

RM_API rmx_sqlite_param rmx_sqlite_bind_double(const char *name, double value) {
    rmx_sqlite_param param = rmx_sqlite_bind_null(name);
    param.type = RMX_SQLITE_DOUBLE;
    param.number = value;
    return param;
}

RM_API rmx_sqlite_param rmx_sqlite_bind_text(const char *name, const char *value) {
    rmx_sqlite_param param = rmx_sqlite_bind_null(name);
    if (value == NULL) return param;
    param.type = RMX_SQLITE_TEXT;
    param.data = value;
    param.size = strlen(value);
    return param;
}

RM_API rmx_sqlite_param rmx_sqlite_bind_blob(const char *name, const void *data, size_t size) {
    rmx_sqlite_param param = rmx_sqlite_bind_null(name);
    param.type = RMX_SQLITE_BLOB;
    param.data = data;
    param.size = size;
    return param;
}

/* >>create and destroy */

static char *rmx_sqlite_copy(const rm_env *env, const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = (char *)rm_alloc(env->allocator, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}

static void rmx_sqlite_free(rmx_sqlite *database) {
    const rm_env env = database->env;
    if (database->path != NULL) rm_free(env.allocator, database->path, strlen(database->path) + 1);
    if (database->setup != NULL)
        rm_free(env.allocator, database->setup, strlen(database->setup) + 1);
    rm_free(env.allocator, database, sizeof *database);
}

static rm_status rmx_sqlite_create_pools(rmx_sqlite *database, const rmx_sqlite_desc *desc,
                                         rm_error *error) {
    char name[64];
    rm_pool_desc pool = rm_pool_desc_default();
    rm_status status;
    pool.env = &database->env;
    pool.user = database;
    pool.destroy_fn = rmx_sqlite_disconnect;
    pool.reset_fn = rmx_sqlite_reset;
    pool.idle_timeout_ns = RM_NONE;
    pool.leak_after_ns = desc->leak_after_ns;
    pool.create_backoff_ns = RM_NONE; /* a file can be tried again at once */
    pool.name = name;
    pool.max = pool.min_idle = 1;
    pool.create_fn = rmx_sqlite_connect_writer;
    (void)snprintf(name, sizeof name, "%s.write", database->name);
    status = rm_pool_create(&pool, &database->writer, error);
    if (status != RM_OK) return status;
    pool.max = pool.min_idle = desc->readers == 0 ? 4 : desc->readers;
    pool.create_fn = rmx_sqlite_connect_reader;
    (void)snprintf(name, sizeof name, "%s.read", database->name);
    status = rm_pool_create(&pool, &database->readers, error);
    if (status != RM_OK) (void)rm_pool_destroy(database->writer);
    return status;
}

RM_API rm_status rmx_sqlite_create(const rmx_sqlite_desc *desc, rmx_sqlite **out, rm_error *error) {
    const char *name = desc == NULL || desc->name == NULL ? "sqlite" : desc->name;
    rmx_sqlite *database;
    rm_status status;
    rm_env env;
    if (desc == NULL || out == NULL || desc->path == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, name, "desc, desc.path or out is NULL");
    if (strlen(name) > 40)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "at most 40 bytes");
    if (desc->busy_timeout_ns < 0 && desc->busy_timeout_ns != RM_NONE)
        return rm_error_set(error, RM_E_INVALID, 0, "busy_timeout_ns", "a time or RM_NONE");
    status = rm_env_resolve(desc->env, &env, error);
    if (status != RM_OK) return status;
    database = (rmx_sqlite *)rm_alloc(env.allocator, sizeof *database);
    if (database == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, name, "no memory for a database");
    memset(database, 0, sizeof *database);
    database->env = env;
    database->statements = desc->statements == 0 ? 16 : desc->statements;
    database->busy_timeout_ns = desc->busy_timeout_ns == 0 ? RM_SEC(5) : desc->busy_timeout_ns;
    memcpy(database->name, name, strlen(name) + 1);
    database->path = rmx_sqlite_copy(&env, desc->path);
    database->setup = desc->setup == NULL ? NULL : rmx_sqlite_copy(&env, desc->setup);
    if (database->path == NULL || (desc->setup != NULL && database->setup == NULL))
        status = rm_error_set(error, RM_E_NOMEM, 0, name, "no memory for a database");
    else
        status = rmx_sqlite_create_pools(database, desc, error);
    if (status == RM_OK)
        *out = database;
    else
        rmx_sqlite_free(database);
    return status;
}

RM_API rm_status rmx_sqlite_destroy(rmx_sqlite *database) {
    rm_status readers, writer;
    if (database == NULL) return RM_OK;
    readers = database->readers == NULL ? RM_OK : rm_pool_close(database->readers, RM_NOWAIT, NULL);
    writer = rm_pool_close(database->writer, RM_NOWAIT, NULL);
    if (readers != RM_OK || writer != RM_OK) return RM_E_BUSY;
    if (rm_pool_destroy(database->readers) != RM_OK) return RM_E_BUSY;
    database->readers = NULL; /* it is gone, even if a call still leaves the writer */
    if (rm_pool_destroy(database->writer) != RM_OK) return RM_E_BUSY;
    rmx_sqlite_free(database);
    return RM_OK;
}

RM_API rm_pool *rmx_sqlite_writer(rmx_sqlite *database) {
    return database == NULL ? NULL : database->writer;
}

RM_API rm_pool *rmx_sqlite_readers(rmx_sqlite *database) {
    return database == NULL ? NULL : database->readers;
}

#ifdef __cplusplus
}
#endif
#endif /* RMX_SQLITE_IMPLEMENTATION_DONE */
