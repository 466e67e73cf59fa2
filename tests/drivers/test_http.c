/* The HTTP driver against a server in this process: requests, answers, time, failures, threads. */
#define _GNU_SOURCE 1 /* faults.h: RTLD_NEXT */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"
#include "examples/drivers/http.h"
#include "rm_test.h"
#include "faults.h"
#include "purse.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <sys/socket.h>
#include <unistd.h>

static const rm_deadline never = {0};

/* >>the origin: says what it was asked ----------------------------------------------------- */

/* A client and its origin on a port of the system's choice. */
typedef struct world {
    rmx_http *client;
    purse purse;
    rm_allocator allocator;
    rm_env env;
    struct MHD_Daemon *origin;
    char url[64];
    int requests;
    rm_cancel cancel; /* requested by /cancel */
} world;

/* What a request has sent so far. */
typedef struct upload {
    char body[64];
    size_t size;
} upload;

/* "METHOD /path X-Test [body]" */
static struct MHD_Response *echo(struct MHD_Connection *connection, const char *url,
                                 const char *method, const upload *sent) {
    const char *header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "X-Test");
    char text[256];
    (void)snprintf(text, sizeof text, "%s %s %s [%s]", method, url, header == NULL ? "-" : header,
                   sent->body);
    return MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
}

static struct MHD_Response *many_bytes(size_t size) {
    char *bytes = (char *)malloc(size + 1);
    if (bytes == NULL) return NULL;
    memset(bytes, 'x', size);
    return MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result respond(world *w, struct MHD_Connection *connection, const char *url,
                               const char *method, const upload *sent) {
    struct MHD_Response *response;
    enum MHD_Result result;
    unsigned status = MHD_HTTP_OK;
    size_t size = 0;
    (void)__atomic_add_fetch(&w->requests, 1, __ATOMIC_SEQ_CST);
    (void)sscanf(url, "/status/%u", &status);
    if (strcmp(url, "/cancel") == 0) {
        rm_cancel_request(&w->cancel);
        size = 1000000;
    }
    if (size > 0 || sscanf(url, "/bytes/%zu", &size) == 1)
        response = many_bytes(size);
    else
        response = echo(connection, url, method, sent);
    if (response == NULL) return MHD_NO;
    if (status == 503) (void)MHD_add_response_header(response, "Retry-After", "7");
    if (strcmp(url, "/close") == 0) (void)MHD_add_response_header(response, "Connection", "close");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* Called with the header of a request, with each part of its body, and with no more. */
static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **state) {
    upload *sent = (upload *)*state;
    (void)version;
    if (sent == NULL) {
        *state = calloc(1, sizeof *sent);
        return *state == NULL ? MHD_NO : MHD_YES;
    }
    if (*size == 0) return respond((world *)user, connection, url, method, sent);
    if (*size > sizeof sent->body - 1 - sent->size) return MHD_NO;
    memcpy(sent->body + sent->size, data, *size);
    sent->size += *size;
    *size = 0;
    return MHD_YES;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how) {
    (void)user, (void)connection, (void)how;
    free(*state);
}

static struct sockaddr_in loopback(void) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void origin_begin(world *w) {
    struct sockaddr_in address = loopback();
    const union MHD_DaemonInfo *info;
    w->origin = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
                                 NULL, NULL, on_request, w, MHD_OPTION_SOCK_ADDR, &address,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (!CHECK(w->origin != NULL)) exit(1);
    info = MHD_get_daemon_info(w->origin, MHD_DAEMON_INFO_BIND_PORT);
    (void)snprintf(w->url, sizeof w->url, "http://127.0.0.1:%u", (unsigned)info->port);
}

/* >>tools --------------------------------------------------------------------------------- */

static rmx_http_desc world_desc(world *w) {
    rmx_http_desc desc;
    memset(w, 0, sizeof *w);
    w->allocator = purse_open(&w->purse, 0);
    w->env.allocator = &w->allocator;
    memset(&desc, 0, sizeof desc);
    desc.name = "shop";
    desc.env = &w->env;
    desc.max = 2;
    return desc;
}

/* A client of an address, or else of an origin that is started for it. */
static void world_begin(world *w, rmx_http_desc *desc, const char *url) {
    if (url == NULL) origin_begin(w);
    desc->base_url = url == NULL ? w->url : url;
    CHECK_EQ(RM_OK, rmx_http_create(desc, &w->client, NULL));
    if (w->client == NULL) exit(1);
}

static void world_end(world *w) {
    CHECK_EQ(RM_OK, rmx_http_destroy(w->client));
    CHECK_EQ(0, w->purse.out);
    if (w->origin != NULL) MHD_stop_daemon(w->origin);
}

static rm_pool_stats stats_of(world *w) {
    rm_pool_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(RM_OK, rm_pool_stats_get(rmx_http_pool(w->client), &stats));
    return stats;
}

static rmx_http_request request_of(const char *method, const char *path) {
    rmx_http_request request;
    memset(&request, 0, sizeof request);
    request.method = method;
    request.path = path;
    return request;
}

/* Sends a request; the origin answers 200 with this text. */
static void answers(world *w, const rmx_http_request *request, const char *expected) {
    char buffer[128];
    rmx_http_response response = rmx_http_response_make(buffer, sizeof buffer);
    rm_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(RM_OK, rmx_http_send(w->client, request, never, NULL, &response, &error));
    CHECK_STR("", error.message);
    CHECK_EQ(200, response.status);
    CHECK_STR(expected, response.body);
    CHECK_EQ(strlen(expected), response.size);
}

/* GETs a path; nothing of the body is kept. */
static rm_status get(world *w, const char *path, rm_error *error) {
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    const rm_status status = rmx_http_get(w->client, path, never, NULL, &response, error);
    rmx_http_response_free(&response);
    return status;
}

/* >>requests ------------------------------------------------------------------------------ */

TEST(http, sends_what_it_was_given) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    const char *headers[] = {"X-Test: yes", "Content-Type: text/plain"};
    rmx_http_request request = request_of(NULL, "/a?b=1");
    world_begin(&w, &desc, NULL);
    answers(&w, &request, "GET /a - []");
    request = request_of(NULL, NULL);
    answers(&w, &request, "GET / - []");
    request = request_of("DELETE", "/b");
    answers(&w, &request, "DELETE /b - []");
    request = request_of("HEAD", "/c");
    answers(&w, &request, "");
    request = request_of(NULL, "/d");
    request.headers = headers;
    request.header_count = 2;
    request.body = "hello!";
    request.body_size = 5;
    answers(&w, &request, "POST /d yes [hello]");
    request.method = "PUT";
    answers(&w, &request, "PUT /d yes [hello]");
    request.body = "";
    request.body_size = 0;
    answers(&w, &request, "PUT /d yes []");
    request = request_of(NULL, "/e"); /* the handle has forgotten all of it */
    answers(&w, &request, "GET /e - []");
    CHECK_EQ(1, stats_of(&w).created);
    world_end(&w);
}

TEST(http, keeps_the_connection) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    uint32_t connects = 0;
    world_begin(&w, &desc, NULL);
    for (int i = 0; i < 20; ++i) {
        CHECK_EQ(RM_OK, rmx_http_get(w.client, "/", never, NULL, &response, NULL));
        connects += response.connects;
        CHECK_STR("GET / - []", response.body);
        CHECK_EQ(10, response.size); /* nothing is left of the one before */
    }
    CHECK_EQ(1, connects);
    CHECK_EQ(RM_OK, rmx_http_get(w.client, "/close", never, NULL, &response, NULL));
    CHECK_EQ(0, response.connects);
    CHECK_EQ(RM_OK, rmx_http_get(w.client, "/", never, NULL, &response, NULL));
    CHECK_EQ(1, response.connects); /* the origin has closed the first */
    rmx_http_response_free(&response);
    world_end(&w);
}

TEST(http, no_text_of_a_request_ends_its_line) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    const char *headers[] = {"X-Test: a\r\nX-Other: b"};
    rmx_http_request request = request_of(NULL, "/");
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    rm_error error;
    world_begin(&w, &desc, NULL);
    request.header_count = 1;
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, &response, &error));
    CHECK_STR("shop", error.where);
    request.headers = headers;
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, &response, &error));
    headers[0] = NULL;
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, &response, &error));
    request = request_of("GET / HTTP/1.1\r\nX-Other: b\r\n\r\nGET", "/");
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, &response, &error));
    request = request_of(NULL, "/\r\nX-Other: b");
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, &response, &error));
    rmx_http_response_free(&response);
    CHECK_EQ(0, w.requests);
    world_end(&w);
}

TEST(http, a_url_has_at_most_2047_bytes) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    char path[2048];
    rm_error error;
    size_t longest;
    world_begin(&w, &desc, NULL);
    longest = 2047 - strlen(w.url);
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[longest + 1] = '\0';
    CHECK_EQ(RM_E_TOO_LARGE, get(&w, path, &error));
    CHECK_STR("a URL has at most 2047 bytes", error.message);
    path[longest] = '\0';
    CHECK_EQ(RM_OK, get(&w, path, &error));
    CHECK_EQ(1, w.requests);
    world_end(&w);
}

TEST(http, without_a_base_a_path_is_a_whole_url) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    char url[80];
    rmx_http_request request = request_of(NULL, url);
    origin_begin(&w);
    (void)snprintf(url, sizeof url, "%s/a", w.url);
    CHECK_EQ(RM_OK, rmx_http_create(&desc, &w.client, NULL));
    answers(&w, &request, "GET /a - []");
    CHECK_EQ(RM_E_INVALID, get(&w, "file:///etc/passwd", NULL)); /* by the same handle */
    world_end(&w);
}

TEST(http, goes_through_the_proxy_it_was_given_and_no_other) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_request request = request_of(NULL, "/a");
    CHECK_EQ(0, setenv("http_proxy", "no_scheme://that.curl.has", 1));
    world_begin(&w, &desc, NULL);
    answers(&w, &request, "GET /a - []");
    CHECK_EQ(RM_OK, rmx_http_destroy(w.client));
    CHECK_EQ(0, unsetenv("http_proxy"));
    desc.proxy = w.url;
    desc.base_url = "http://shop.invalid";
    CHECK_EQ(RM_OK, rmx_http_create(&desc, &w.client, NULL));
    answers(&w, &request, "GET http://shop.invalid/a - []");
    world_end(&w);
}

/* >>answers ------------------------------------------------------------------------------- */

static void status_is(world *w, const char *path, rm_status expected, int32_t status) {
    char buffer[64], message[64] = "", body[64];
    rmx_http_response response = rmx_http_response_make(buffer, sizeof buffer);
    rm_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(expected, rmx_http_get(w->client, path, never, NULL, &response, &error));
    CHECK_EQ(status, response.status);
    CHECK_EQ(status == 503 ? RM_SEC(7) : 0, response.retry_after_ns);
    (void)snprintf(body, sizeof body, "GET %s - []", path);
    CHECK_STR(body, response.body); /* also of a failure */
    CHECK_EQ(expected == RM_OK ? 0 : status, error.native);
    if (expected != RM_OK)
        (void)snprintf(message, sizeof message, "the server answered with %d", (int)status);
    CHECK_STR(message, error.message);
}

TEST(http, the_servers_failures_are_failures_and_answers_are_not) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    world_begin(&w, &desc, NULL);
    status_is(&w, "/status/200", RM_OK, 200);
    status_is(&w, "/status/302", RM_OK, 302); /* not followed */
    status_is(&w, "/status/404", RM_OK, 404);
    status_is(&w, "/status/429", RM_E_BUSY, 429);
    status_is(&w, "/status/499", RM_OK, 499);
    status_is(&w, "/status/500", RM_E_FAILED, 500);
    status_is(&w, "/status/503", RM_E_BUSY, 503);
    status_is(&w, "/status/504", RM_E_TIMEOUT, 504);
    status_is(&w, "/status/599", RM_E_FAILED, 599);
    status_is(&w, "/status/200", RM_OK, 200);
    CHECK_EQ(1, stats_of(&w).created); /* the handle is as good as before */
    CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    world_end(&w);
}

TEST(http, a_body_has_to_fit_in_its_buffer) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    char buffer[64];
    rmx_http_response response = rmx_http_response_make(buffer, sizeof buffer);
    rm_error error;
    world_begin(&w, &desc, NULL);
    CHECK_EQ(RM_OK, rmx_http_get(w.client, "/bytes/63", never, NULL, &response, NULL));
    CHECK_EQ(63, response.size);
    CHECK_EQ(63, strlen(response.body));
    CHECK_EQ(RM_E_TOO_LARGE, rmx_http_get(w.client, "/bytes/64", never, NULL, &response, &error));
    CHECK_STR("the body has more than 63 bytes: use a larger buffer, or raise max_body",
              error.message);
    CHECK_EQ(200, response.status);
    CHECK_STR("", response.body);
    CHECK_EQ(
        1, stats_of(&w)
               .ended[RM_POOL_CAUSE_BROKEN]); /* the rest of the body is still on the connection */
    response = rmx_http_response_make(buffer, 0);
    CHECK_EQ(RM_E_TOO_LARGE, rmx_http_get(w.client, "/", never, NULL, &response, &error));
    CHECK_EQ(2, w.requests);
    world_end(&w);
}

TEST(http, a_body_grows_as_far_as_it_may) {
    static const size_t limits[] = {10, 255, 256, 257, 65536};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; ++i) {
        world w;
        rmx_http_desc desc = world_desc(&w);
        rmx_http_response response = rmx_http_response_make(NULL, 0);
        char path[32];
        desc.max_body = limits[i];
        world_begin(&w, &desc, NULL);
        (void)snprintf(path, sizeof path, "/bytes/%zu", limits[i]);
        CHECK_EQ(RM_OK, rmx_http_get(w.client, path, never, NULL, &response, NULL));
        CHECK_EQ(limits[i], response.size);
        CHECK_EQ(limits[i], strlen(response.body));
        (void)snprintf(path, sizeof path, "/bytes/%zu", limits[i] + 1);
        CHECK_EQ(RM_E_TOO_LARGE, rmx_http_get(w.client, path, never, NULL, &response, NULL));
        CHECK_EQ(RM_OK, rmx_http_get(w.client, "/bytes/0", never, NULL, &response, NULL));
        CHECK_STR("", response.body);
        rmx_http_response_free(&response);
        rmx_http_response_free(&response); /* twice is once */
        CHECK_EQ(RM_OK, rmx_http_get(w.client, "/bytes/3", never, NULL, &response, NULL));
        CHECK_STR("xxx", response.body); /* it can be used again */
        rmx_http_response_free(&response);
        world_end(&w);
    }
}

TEST(http, a_body_grows_to_1_mib_by_default) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    world_begin(&w, &desc, NULL);
    CHECK_EQ(RM_OK, get(&w, "/bytes/1048576", NULL));
    CHECK_EQ(RM_E_TOO_LARGE, get(&w, "/bytes/1048577", NULL));
    world_end(&w);
}

/* >>failures of the other side -------------------------------------------------------------- */

/* A server below HTTP: one connection, one answer. */
typedef struct peer {
    int listener;
    char url[64];
    const char *answer;
    rm_cancel *cancel; /* requested instead of an answer; 0 = answer */
    rm_thread thread;
} peer;

static void peer_begin(peer *p, bool listens) {
    struct sockaddr_in address = loopback();
    socklen_t size = sizeof address;
    memset(p, 0, sizeof *p);
    p->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (!CHECK(p->listener >= 0)) exit(1);
    CHECK_EQ(0, bind(p->listener, (struct sockaddr *)&address, size));
    CHECK_EQ(0, getsockname(p->listener, (struct sockaddr *)&address, &size));
    if (listens) CHECK_EQ(0, listen(p->listener, 4));
    (void)snprintf(p->url, sizeof p->url, "http://127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
}

/* Accepts a connection and reads the header of its request. */
static int peer_hear(const peer *p) {
    const int connection = accept(p->listener, NULL, NULL);
    char said[1024] = "";
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && size + 1 < sizeof said && strstr(said, "\r\n\r\n") == NULL) {
        got = recv(connection, said + size, sizeof said - 1 - size, 0);
        if (got > 0) size += (size_t)got;
        said[size] = '\0';
    }
    CHECK(strstr(said, "\r\n\r\n") != NULL);
    return connection;
}

static void peer_answer(int connection, const char *answer) {
    CHECK_EQ(strlen(answer), send(connection, answer, strlen(answer), MSG_NOSIGNAL));
    (void)close(connection);
}

static void peer_run(void *user) {
    peer *p = (peer *)user;
    const int connection = peer_hear(p);
    char byte;
    if (p->cancel == NULL) {
        peer_answer(connection, p->answer);
        return;
    }
    rm_cancel_request(p->cancel);
    CHECK_EQ(0, recv(connection, &byte, 1, 0)); /* until the client hangs up */
    (void)close(connection);
}

static void fails_with(const char *answer, rm_status expected, int32_t native) {
    world w;
    peer p;
    rmx_http_desc desc = world_desc(&w);
    rm_error error;
    memset(&error, 0, sizeof error);
    peer_begin(&p, true);
    p.answer = answer;
    world_begin(&w, &desc, p.url);
    REQUIRE(rm_thread_start(&p.thread, peer_run, &p) == RM_OK);
    CHECK_EQ(expected, get(&w, "/", &error));
    CHECK_EQ(native, error.native);
    CHECK_STR("shop", error.where);
    CHECK(error.message[0] != '\0');
    rm_thread_join(&p.thread);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    (void)close(p.listener);
    world_end(&w);
}

TEST(http, what_is_not_http_is_a_fault_of_the_server) {
    fails_with("hello there\n", RM_E_PROTOCOL, CURLE_UNSUPPORTED_PROTOCOL);
    fails_with("HTTP/1.1 abc\r\n\r\n", RM_E_PROTOCOL, CURLE_UNSUPPORTED_PROTOCOL);
    fails_with("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", RM_E_PROTOCOL,
               CURLE_WEIRD_SERVER_REPLY);
}

TEST(http, a_connection_that_closes_early_is_refused) {
    fails_with("", RM_E_REFUSED, CURLE_GOT_NOTHING);
    fails_with("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", RM_E_REFUSED, CURLE_PARTIAL_FILE);
}

TEST(http, nobody_listens_is_refused) {
    world w;
    peer p;
    rmx_http_desc desc = world_desc(&w);
    rm_error error;
    peer_begin(&p, false);
    world_begin(&w, &desc, p.url);
    CHECK_EQ(RM_E_REFUSED, get(&w, "/", &error));
    CHECK_EQ(CURLE_COULDNT_CONNECT, error.native);
    (void)close(p.listener);
    world_end(&w);
}

static void address_is(const char *url, rm_status expected, int32_t native) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rm_error error;
    world_begin(&w, &desc, url);
    CHECK_EQ(expected, get(&w, "/", &error));
    CHECK_EQ(native, error.native);
    CHECK_EQ(0, stats_of(&w).in_use);
    world_end(&w);
}

TEST(http, tells_bad_addresses_from_unknown_ones) {
    char url[80] = "http://";
    memset(url + 7, 'a', 64); /* no name has so long a part: nobody is asked */
    address_is(url, RM_E_SYSTEM, CURLE_COULDNT_RESOLVE_HOST);
    address_is("http://", RM_E_INVALID, CURLE_URL_MALFORMAT);
    address_is("http://127.0.0.1:99999", RM_E_INVALID, CURLE_URL_MALFORMAT);
    address_is("file:///etc/passwd", RM_E_INVALID, CURLE_UNSUPPORTED_PROTOCOL);
    address_is("gopher://127.0.0.1", RM_E_INVALID, CURLE_UNSUPPORTED_PROTOCOL);
}

/* >>time ---------------------------------------------------------------------------------- */

TEST(http, a_deadline_ends_a_transfer) {
    for (int by_default = 0; by_default < 2; ++by_default) {
        world w;
        peer p;
        rmx_http_desc desc = world_desc(&w);
        rmx_http_response response = rmx_http_response_make(NULL, 0);
        const int64_t began = rm_now(NULL);
        rm_error error;
        peer_begin(&p, true); /* the system connects, but nobody answers */
        desc.timeout_ns = by_default ? RM_MS(20) : 0;
        world_begin(&w, &desc, p.url);
        CHECK_EQ(RM_E_TIMEOUT, rmx_http_get(w.client, "/",
                                            by_default ? never : rm_deadline_after(NULL, RM_MS(20)),
                                            NULL, &response, &error));
        CHECK_EQ(CURLE_OPERATION_TIMEDOUT, error.native);
        CHECK(rm_now(NULL) - began >= RM_MS(20));
        CHECK(rm_now(NULL) - began < RM_SEC(10)); /* of 30 s */
        CHECK_EQ(0, response.status);
        CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
        rmx_http_response_free(&response);
        (void)close(p.listener);
        world_end(&w);
    }
}

TEST(http, sends_nothing_after_the_deadline) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    world_begin(&w, &desc, NULL);
    CHECK_EQ(RM_E_TIMEOUT, rmx_http_get(w.client, "/", rm_deadline_after(NULL, RM_NOWAIT), NULL,
                                        &response, NULL));
    CHECK_EQ(0, w.requests);
    rmx_http_response_free(&response);
    world_end(&w);
}

/* A clock on which every look takes a millisecond. */
static int64_t look(void *user) {
    return __atomic_add_fetch((int64_t *)user, RM_MS(1), __ATOMIC_RELAXED);
}

TEST(http, sends_nothing_when_the_deadline_passes_with_the_wait_for_a_handle) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rm_clock clock = *rm_clock_system();
    int64_t now = RM_SEC(1);
    bool seen = false;
    clock.now_fn = clock.coarse_fn = look;
    clock.user = &now;
    w.env.clock = &clock;
    world_begin(&w, &desc, NULL);
    for (int looks = 1; looks < 20 && !seen; ++looks) {
        rmx_http_response response = rmx_http_response_make(NULL, 0);
        const rm_deadline deadline = {now + looks * RM_MS(1)};
        const int before = __atomic_load_n(&w.requests, __ATOMIC_SEQ_CST);
        rm_error error;
        if (rmx_http_get(w.client, "/", deadline, NULL, &response, &error) == RM_E_TIMEOUT &&
            strcmp(error.message, "the deadline passed before the request was sent") == 0) {
            CHECK_EQ(before, __atomic_load_n(&w.requests, __ATOMIC_SEQ_CST));
            CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
            seen = true;
        }
        rmx_http_response_free(&response);
    }
    CHECK(seen);
    world_end(&w);
}

TEST(http, a_cancel_ends_a_transfer) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    rm_error error;
    world_begin(&w, &desc, NULL);
    CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
    CHECK_EQ(RM_OK, rmx_http_get(w.client, "/", never, &w.cancel, &response, NULL));
    CHECK_EQ(RM_E_CANCELLED,
             rmx_http_get(w.client, "/cancel", never, &w.cancel, &response, &error));
    CHECK_EQ(CURLE_ABORTED_BY_CALLBACK, error.native);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    CHECK_EQ(RM_E_CANCELLED, rmx_http_get(w.client, "/", never, &w.cancel, &response, NULL));
    CHECK_EQ(2, w.requests);
    CHECK_EQ(RM_OK, rmx_http_get(w.client, "/", never, NULL, &response, NULL));
    rmx_http_response_free(&response);
    world_end(&w);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
}

TEST(http, a_cancel_is_seen_within_a_second_when_nothing_moves) {
    world w;
    peer p;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    peer_begin(&p, true);
    CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
    p.cancel = &w.cancel;
    world_begin(&w, &desc, p.url);
    REQUIRE(rm_thread_start(&p.thread, peer_run, &p) == RM_OK);
    CHECK_EQ(RM_E_CANCELLED, rmx_http_get(w.client, "/", rm_deadline_after(NULL, RM_SEC(20)),
                                          &w.cancel, &response, NULL));
    rm_thread_join(&p.thread);
    rmx_http_response_free(&response);
    (void)close(p.listener);
    world_end(&w);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
}

/* >>threads ------------------------------------------------------------------------------- */

static void get_one(void *user) {
    CHECK_EQ(RM_OK, get((world *)user, "/", NULL));
}

TEST(http, a_request_waits_for_a_handle) {
    world w;
    peer p;
    rm_thread thread;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    rm_error error;
    int connection;
    peer_begin(&p, true);
    desc.max = 1;
    world_begin(&w, &desc, p.url);
    REQUIRE(rm_thread_start(&thread, get_one, &w) == RM_OK);
    connection = peer_hear(&p); /* now the only handle is out */
    CHECK_EQ(RM_E_TIMEOUT, rmx_http_get(w.client, "/", rm_deadline_after(NULL, RM_MS(20)), NULL,
                                        &response, &error));
    CHECK_EQ(0, error.native);
    CHECK_EQ(RM_E_BUSY, rmx_http_destroy(w.client));
    peer_answer(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rm_thread_join(&thread);
    CHECK_EQ(RM_E_CLOSED, rmx_http_get(w.client, "/", never, NULL, &response, NULL));
    rmx_http_response_free(&response);
    (void)close(p.listener);
    world_end(&w);
}

enum { THREADS = 6, ROUNDS = 30 };

static void get_many(void *user) {
    rmx_http_request request = request_of(NULL, "/t");
    for (int i = 0; i < ROUNDS; ++i)
        answers((world *)user, &request, "GET /t - []");
}

TEST(http, threads_share_the_handles) {
    world w;
    rm_thread threads[THREADS];
    rmx_http_desc desc = world_desc(&w);
    desc.max = 3;
    world_begin(&w, &desc, NULL);
    for (int i = 0; i < THREADS; ++i)
        CHECK_EQ(RM_OK, rm_thread_start(&threads[i], get_many, &w));
    for (int i = 0; i < THREADS; ++i)
        rm_thread_join(&threads[i]);
    CHECK_EQ(THREADS * ROUNDS, stats_of(&w).acquired);
    CHECK(stats_of(&w).created <= 3);
    CHECK_EQ(0, stats_of(&w).in_use);
    CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    world_end(&w);
}

/* >>creating ------------------------------------------------------------------------------ */

TEST(http, names_the_field_that_is_wrong) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rm_error error;
    CHECK_EQ(RM_E_INVALID, rmx_http_create(NULL, &w.client, &error));
    CHECK_EQ(RM_E_INVALID, rmx_http_create(&desc, NULL, &error));
    desc.name = "a name that has exactly one byte more than 47 !!";
    CHECK_EQ(RM_E_TOO_LARGE, rmx_http_create(&desc, &w.client, &error));
    CHECK_STR("name", error.where);
    desc.name = "a name that has exactly as many bytes as fit !!";
    desc.timeout_ns = -1;
    CHECK_EQ(RM_E_INVALID, rmx_http_create(&desc, &w.client, &error));
    CHECK_STR("timeout_ns", error.where);
    desc.timeout_ns = 0;
    desc.connect_timeout_ns = -1;
    CHECK_EQ(RM_E_INVALID, rmx_http_create(&desc, &w.client, &error));
    CHECK_STR("connect_timeout_ns", error.where);
    desc.connect_timeout_ns = 0;
    desc.max = 70000;
    CHECK_EQ(RM_E_INVALID, rmx_http_create(&desc, &w.client, &error));
    CHECK(w.client == NULL);
    CHECK_EQ(0, w.purse.out);
    desc.max = 0;
    CHECK_EQ(RM_OK, rmx_http_create(&desc, &w.client, &error));
    CHECK_EQ(8, stats_of(&w).max);
    world_end(&w);
}

TEST(http, refuses_a_path_that_would_change_the_host) {
    static const char *const bad[] = {"@127.0.0.1:1/stolen", ".example/", ":80/", "x"};
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    size_t i;
    world_begin(&w, &desc, "http://127.0.0.1:1");
    for (i = 0; i < sizeof bad / sizeof *bad; ++i)
        CHECK_EQ(RM_E_INVALID, rmx_http_get(w.client, bad[i], never, NULL, &response, NULL));
    /* these stay with the host, where nobody listens */
    CHECK_EQ(RM_E_REFUSED, rmx_http_get(w.client, "//x@y", never, NULL, &response, NULL));
    CHECK_EQ(RM_E_REFUSED, rmx_http_get(w.client, "?q", never, NULL, &response, NULL));
    rmx_http_response_free(&response);
    world_end(&w);
}

TEST(http, refuses_null) {
    world w;
    rmx_http_desc desc = world_desc(&w);
    rmx_http_request request = request_of(NULL, "/");
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    world_begin(&w, &desc, "http://127.0.0.1:1");
    CHECK_EQ(RM_E_INVALID, rmx_http_send(NULL, &request, never, NULL, &response, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, NULL, never, NULL, &response, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_http_send(w.client, &request, never, NULL, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_http_get(NULL, "/", never, NULL, &response, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_http_get(w.client, "/", never, NULL, NULL, NULL));
    CHECK(rmx_http_pool(NULL) == NULL);
    CHECK_EQ(RM_OK, rmx_http_destroy(NULL));
    rmx_http_response_free(NULL);
    rmx_http_response_free(&response);
    world_end(&w);
}

/* >>memory -------------------------------------------------------------------------------- */

/* Creates a client, puts a body with a header, and lets a response grow twice. */
static rm_status use_all(world *w, const rmx_http_desc *desc, rm_error *error) {
    const char *headers[] = {"X-Test: yes"};
    rmx_http_request request = request_of("PUT", "/bytes/1000");
    rmx_http_response response = rmx_http_response_make(NULL, 0);
    rm_status status = rmx_http_create(desc, &w->client, error);
    request.headers = headers;
    request.header_count = 1;
    request.body = "hello";
    request.body_size = 5;
    if (status == RM_OK) status = rmx_http_send(w->client, &request, never, NULL, &response, error);
    if (status == RM_OK) CHECK_EQ(1000, response.size);
    rmx_http_response_free(&response);
    return status;
}

TEST(http, survives_every_failing_allocation) {
    rm_status status = RM_E_NOMEM;
    int64_t fails_at;
    for (fails_at = 1; status != RM_OK && fails_at < 100; ++fails_at) {
        world w;
        rmx_http_desc desc = world_desc(&w);
        rm_error error;
        origin_begin(&w);
        desc.base_url = w.url;
        desc.proxy = "";
        w.purse.fails_at = fails_at;
        status = use_all(&w, &desc, &error);
        if (status != RM_OK) {
            CHECK_EQ(RM_E_NOMEM, status);
            CHECK_EQ(RM_E_NOMEM, error.status);
            CHECK_STR("shop", error.where);
        }
        world_end(&w);
    }
    CHECK_EQ(RM_OK, status);
    CHECK_EQ(8, fails_at); /* 4 to create it, 2 for the body, and one that went well */
}

/* libcurl's own memory, some allocations of which fail. */
static int64_t curl_calls, curl_fails_from, curl_fails_to, curl_blocks;

static void *curl_count(void *pointer) {
    curl_blocks += pointer != NULL;
    return pointer;
}

static bool curl_fails(void) {
    ++curl_calls;
    return curl_calls >= curl_fails_from && curl_calls <= curl_fails_to;
}

static void *curl_malloc(size_t size) {
    return curl_fails() ? NULL : curl_count(malloc(size));
}

static void *curl_calloc(size_t count, size_t size) {
    return curl_fails() ? NULL : curl_count(calloc(count, size));
}

static void *curl_realloc(void *pointer, size_t size) {
    if (pointer == NULL) return curl_malloc(size);
    return curl_fails() ? NULL : realloc(pointer, size);
}

static char *curl_strdup(const char *text) {
    return curl_fails() ? NULL : (char *)curl_count(strdup(text));
}

static void curl_release(void *pointer) {
    curl_blocks -= pointer != NULL;
    free(pointer);
}

static void curl_begin(void) {
    CHECK_EQ(CURLE_OK, curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, curl_release,
                                            curl_realloc, curl_strdup, curl_calloc));
}

/* The k-th allocation fails, alone or with all that follow. */
static void without_memory(bool alone) {
    int64_t fails_at = 0, used;
    curl_begin();
    do {
        world w;
        rmx_http_desc desc = world_desc(&w);
        rm_status status;
        rm_error error;
        origin_begin(&w);
        desc.base_url = w.url;
        curl_calls = 0;
        curl_fails_from = ++fails_at;
        curl_fails_to = alone ? fails_at : INT64_MAX;
        status = use_all(&w, &desc, &error);
        curl_fails_to = 0;
        /* it goes on without some, and calls others a host that it cannot find */
        CHECK(status == RM_OK || status == RM_E_NOMEM || status == RM_E_SYSTEM);
        CHECK(status == RM_OK || error.status == status);
        used = curl_calls;
        /* curl_easy_reset cannot say that it failed: the next request does, and its handle goes */
        if (get(&w, "/", NULL) != RM_OK) CHECK_EQ(RM_OK, get(&w, "/", NULL));
        world_end(&w);
    } while (used >= fails_at && fails_at < 1000);
    CHECK(fails_at > 20 && fails_at < 1000);
    curl_global_cleanup();
}

TEST(http, survives_every_failing_allocation_of_libcurl) {
    without_memory(true);
    without_memory(false);
}

/* >>the system: every call that libcurl makes to it fails ---------------------------------- */

/* A failure that was injected, and that says what it was; nothing else may fail. Counts it. */
static uint64_t failed(rm_status status, const rm_error *error) {
    if (status == RM_OK) return 0;
    CHECK(faults.failed > 0);
    CHECK(status == RM_E_REFUSED || status == RM_E_SYSTEM || status == RM_E_TIMEOUT);
    CHECK_EQ(status, error->status);
    CHECK_STR("shop", error->where);
    CHECK(error->native > 0 && error->message[0] != '\0');
    return 1;
}

/* What the client has let go is closed by the origin's threads, in a moment. */
static bool files_are(int count) {
    int tries = 1000;
    while (faults_files() != count && tries-- > 0)
        (void)rm_sleep(NULL, RM_MS(1), NULL);
    return tries >= 0;
}

/* Creates a client, gets, puts, gets by a second connection; goes on without faults; ends. */
static void life(void *user) {
    world *w = (world *)user;
    const int files = faults_files();
    const int64_t blocks = curl_blocks;
    rmx_http_desc desc;
    rm_pool_stats stats;
    uint64_t broken;
    rm_error error;
    memset(&error, 0, sizeof error);
    memset(&desc, 0, sizeof desc);
    desc.name = "shop";
    desc.env = &w->env;
    desc.base_url = w->url;
    w->client = NULL;
    faults_on = true;
    broken = failed(use_all(w, &desc, &error), &error);
    broken += failed(get(w, "/close", &error), &error);
    broken += failed(get(w, "/", &error), &error);
    faults_on = false;
    CHECK_EQ(RM_OK, get(w, "/", &error));
    stats = stats_of(w);
    CHECK_EQ(0, stats.in_use + stats.creating + stats.closing + stats.waiting);
    CHECK_EQ(stats.created, stats.destroyed + stats.idle);
    CHECK_EQ(broken, stats.ended[RM_POOL_CAUSE_BROKEN]);
    faults_on = true;
    CHECK_EQ(RM_OK, rmx_http_destroy(w->client));
    faults_on = false;
    CHECK_EQ(0, w->purse.out);
    CHECK_EQ(blocks, curl_blocks);
    CHECK(files_are(files));
}

TEST(http, survives_every_failing_call_of_the_system) {
    world w;
    (void)world_desc(&w);
    origin_begin(&w);
    curl_begin();
    faults_torture(life, &w);
    curl_global_cleanup();
    MHD_stop_daemon(w.origin);
}

TEST_MAIN
