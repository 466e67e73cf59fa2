/*  catalogue.h - the demo's articles: 10,000 rows in SQLite, written and read through the toolkit,
    read by plain SQL, and asked for by Zipf's law. */
#ifndef CATALOGUE_H_INCLUDED
#define CATALOGUE_H_INCLUDED

#include "../drivers/memory.h"
#include "../drivers/sqlite.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum { ARTICLES = 10000, SKU = 16 };

typedef struct article {
    int64_t id, cents;
    double weight;
    char name[40];
    char note[40];
    bool noted; /* the column is not NULL */
} article;

/* All articles, as plain SQL gives them; an article's number is its index. */
typedef struct catalogue {
    article plain[ARTICLES + 1];
    uint32_t count;
    double popularity[ARTICLES]; /* of the article of rank r and those above it */
} catalogue;

RMX_MEMORY_TYPE(articles, article)

static inline void catalogue_sku(char sku[SKU], int64_t id) {
    (void)snprintf(sku, SKU, "sku-%05d", (int)id);
}

static inline void catalogue_text(char *to, size_t size, const char *from) {
    (void)snprintf(to, size, "%s", from);
}

/* Writes all articles in one transaction. */
static inline rm_status catalogue_fill(rmx_sqlite *db, rm_deadline deadline, rm_error *error) {
    static const char schema[] = "CREATE TABLE article (id INTEGER PRIMARY KEY,"
                                 " sku TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
                                 " cents INTEGER NOT NULL, weight REAL NOT NULL, note TEXT)";
    static const char insert[] = "INSERT INTO article (id, sku, name, cents, weight, note)"
                                 " VALUES (:id, :sku, :name, :cents, :weight, :note)";
    rmx_sqlite_session session;
    rm_status status = rmx_sqlite_write(db, deadline, NULL, &session, error), ended;
    if (status != RM_OK) return status;
    status = rmx_sqlite_script(&session, schema, error);
    for (int64_t id = 1; id <= ARTICLES && status == RM_OK; ++id) {
        char sku[SKU], name[40];
        rmx_sqlite_param params[6];
        catalogue_sku(sku, id);
        (void)snprintf(name, sizeof name, "article %d of shelf %d", (int)id, (int)(id % 97));
        params[0] = rmx_sqlite_bind_int(":id", id);
        params[1] = rmx_sqlite_bind_text(":sku", sku);
        params[2] = rmx_sqlite_bind_text(":name", name);
        params[3] = rmx_sqlite_bind_int(":cents", 100 + id * 31 % 9900);
        params[4] = rmx_sqlite_bind_double(":weight", (double)(id % 1000) / 8.0);
        params[5] = rmx_sqlite_bind_text(":note", id % 3 == 0 ? "fragile" : NULL);
        status = rmx_sqlite_run(&session, insert, params, 6, NULL, error);
    }
    if (status == RM_OK) status = rmx_sqlite_commit(&session, error);
    ended = rmx_sqlite_end(&session);
    return status != RM_OK ? status : ended;
}

/* Reads all articles as anybody would who has SQLite and nothing else. */
static inline rm_status catalogue_read_plain(catalogue *c, const char *path, rm_error *error) {
    sqlite3 *db = NULL;
    sqlite3_stmt *rows = NULL;
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(db, "SELECT id, cents, weight, name, note FROM article", -1,
                                  &rows, NULL);
    while (code == SQLITE_OK && sqlite3_step(rows) == SQLITE_ROW) {
        const int64_t id = sqlite3_column_int64(rows, 0);
        const char *note = (const char *)sqlite3_column_text(rows, 4);
        article *a = &c->plain[id < 1 || id > ARTICLES ? 0 : id];
        a->id = id;
        a->cents = sqlite3_column_int64(rows, 1);
        a->weight = sqlite3_column_double(rows, 2);
        catalogue_text(a->name, sizeof a->name, (const char *)sqlite3_column_text(rows, 3));
        a->noted = note != NULL;
        if (note != NULL) catalogue_text(a->note, sizeof a->note, note);
        ++c->count;
    }
    if (code == SQLITE_OK) code = sqlite3_finalize(rows);
    if (code != SQLITE_OK)
        (void)rm_error_set(error, RM_E_FAILED, code, "plain SQL", "%s", sqlite3_errmsg(db));
    (void)sqlite3_close(db);
    return code == SQLITE_OK ? RM_OK : RM_E_FAILED;
}

static inline bool catalogue_same(const article *a, const article *b) {
    return a->id == b->id && a->cents == b->cents && a->weight >= b->weight &&
           a->weight <= b->weight && strcmp(a->name, b->name) == 0 && a->noted == b->noted &&
           strcmp(a->note, b->note) == 0;
}

/* The cache's loader: one article, by its sku, through the toolkit. user is the database. */
static inline rm_status catalogue_load(const char *key, void *value, rm_deadline deadline,
                                       rm_error *error, void *user) {
    static const char select[] = "SELECT id, cents, weight, name, note FROM article WHERE sku = ?";
    const rmx_sqlite_param sku = rmx_sqlite_bind_text(NULL, key);
    article *a = (article *)value;
    rmx_sqlite_session session;
    rmx_sqlite_rows rows;
    rm_status status = rmx_sqlite_read((rmx_sqlite *)user, deadline, NULL, &session, error);
    if (status != RM_OK) return status;
    status = rmx_sqlite_query(&session, select, &sku, 1, &rows, error);
    if (status == RM_OK) {
        status = rmx_sqlite_next(&rows, error);
        if (status == RM_E_NOT_FOUND)
            (void)rm_error_set(error, status, 0, "catalog", "there is no article %s", key);
    }
    if (status == RM_OK) {
        a->id = rmx_sqlite_column_int(&rows, 0);
        a->cents = rmx_sqlite_column_int(&rows, 1);
        a->weight = rmx_sqlite_column_double(&rows, 2);
        catalogue_text(a->name, sizeof a->name, rmx_sqlite_column_text(&rows, 3, NULL));
        a->noted = rmx_sqlite_column_type(&rows, 4) != RMX_SQLITE_NULL;
        catalogue_text(a->note, sizeof a->note, rmx_sqlite_column_text(&rows, 4, NULL));
    }
    (void)rmx_sqlite_end(&session);
    return status;
}

/* Zipf's law: the article of rank r is asked for in proportion to 1 / r. */
static inline void catalogue_rank(catalogue *c) {
    double sum = 0;
    for (int rank = 0; rank < ARTICLES; ++rank) {
        sum += 1.0 / (rank + 1);
        c->popularity[rank] = sum;
    }
}

/* The article that a random number stands for. Ranks are spread over the numbers. */
static inline int64_t catalogue_pick(const catalogue *c, uint64_t random) {
    const double at = (double)(random >> 11) / 9007199254740992.0 * c->popularity[ARTICLES - 1];
    int low = 0, high = ARTICLES - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (c->popularity[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return (int64_t)low * 7919 % ARTICLES + 1;
}

#endif /* CATALOGUE_H_INCLUDED */
