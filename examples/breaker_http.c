/*  breaker_http.c - a server dies and comes back.

    What it shows: a breaker stops the calls to a server that is gone, answers in its place at once,
    and lets calls through again when the server is back. The server is a real one, in a process of
    its own on loopback (origin.h). Build and run: make examples */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"
#include "rm_breaker.h"
#include "drivers/http.h"
#include "origin.h"

#include <stdio.h>
#include <stdlib.h>

enum { LAST_KNOWN = 41 };

static rmx_http *client;
static int failures;

static void check(bool ok, const char *claim) {
    printf("%-4s %s\n", ok ? "ok" : "FAIL", claim);
    failures += !ok;
}

static rm_status fetch_price(void *user, rm_error *error) {
    char body[16];
    rmx_http_response response = rmx_http_response_make(body, sizeof body);
    const rm_deadline deadline = rm_deadline_after(NULL, RM_MS(500));
    const rm_status status = rmx_http_get(client, "/price/42", deadline, NULL, &response, error);
    if (status == RM_OK) *(int64_t *)user = atoll(response.body);
    return status;
}

static rm_status last_known_price(void *user, const rm_error *reason) {
    (void)reason;
    *(int64_t *)user = LAST_KNOWN;
    return RM_OK;
}

static rm_status attempt_price(void *user, rm_attempt *attempt, rm_error *error) {
    (void)attempt;
    return fetch_price(user, error);
}

static void on_change(rm_breaker *breaker, const rm_breaker_event *event, void *user) {
    (void)breaker, (void)user;
    printf("     the breaker went from %s to %s: %s\n", rm_breaker_state_name(event->from),
           rm_breaker_state_name(event->to), event->reason);
}

/* Calls count times, with the fallback; how many answers were this price? */
static int ask(rm_breaker *breaker, int count, int64_t wanted) {
    int right = 0;
    for (int i = 0; i < count; i++) {
        int64_t price = 0;
        right += rm_breaker_call(breaker, fetch_price, last_known_price, &price, NULL) == RM_OK &&
                 price == wanted;
    }
    return right;
}

int main(int argc, char **argv) {
    char url[64];
    origin server = {0};
    rmx_http_desc desc = {.name = "price", .base_url = url};
    rm_breaker_desc rules = {.name = "price", .failures = 3, .open_ns = RM_MS(200)};
    rm_retry_desc patience = {.base_ns = RM_MS(5), .max_retries = 100};
    rm_breaker *breaker;
    rm_breaker_stats stats;
    rm_error error;
    int64_t price = 0;
    rules.event_fn = on_change;
    if (origin_wanted(argc, argv)) return origin_run(argv);
    if (origin_start(&server, argv[0], &error) != RM_OK)
        return fprintf(stderr, "%s: %s\n", error.where, error.message), 1;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)server.port);
    if (rmx_http_create(&desc, &client, NULL) != RM_OK ||
        rm_breaker_create(&rules, &breaker, NULL) != RM_OK)
        return 1;
    check(ask(breaker, 100, origin_price(42)) == 100, "the server lives: 100 answers are its own");

    origin_kill(&server);
    const int64_t began = rm_now(NULL);
    check(ask(breaker, 1000, LAST_KNOWN) == 1000, "it is dead: 1,000 answers are the last known");
    (void)rm_breaker_stats_get(breaker, &stats);
    printf("     1,000 calls took %lld us, %llu reached for the server\n",
           (long long)((rm_now(NULL) - began) / 1000), (unsigned long long)stats.failures);
    check(stats.opened > 0 && stats.failures + stats.rejected == 1000 && stats.failures < 100,
          "the breaker opened, and nearly no call went out");

    check(origin_start(&server, argv[0], &error) == RM_OK, "the server is back");
    rm_status status = rm_retry_call(&patience, breaker, rm_deadline_after(NULL, RM_SEC(5)), NULL,
                                     attempt_price, &price, NULL);
    check(status == RM_OK && price == origin_price(42),
          "a retry waited for the breaker's rest and was answered");
    (void)rm_breaker_stats_get(breaker, &stats);
    check(stats.state == RM_BREAKER_STATE_CLOSED && ask(breaker, 100, origin_price(42)) == 100,
          "the breaker closed, and all goes on as before");
    rm_breaker_destroy(breaker);
    check(rmx_http_destroy(client) == RM_OK && origin_stop(&server) == RM_OK,
          "nothing was left behind");
    return failures == 0 ? 0 : 1;
}
