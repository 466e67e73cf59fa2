/*  http.h - an HTTP client on libcurl: easy handles in an rm pool, connections kept alive.
    SPDX-License-Identifier: MIT OR Unlicense

    #define RM_IMPLEMENTATION            // in exactly one C file; it emits this driver as well
    #include "rm.h"
    #include "rm_pool.h"
    #include "drivers/http.h"

    rmx_http_desc desc = {.name = "price.http", .base_url = "http://127.0.0.1:8080"};
    rmx_http *client;
    rmx_http_response response;
    char body[64];
    rm_error error;
    rm_status status = rmx_http_create(&desc, &client, &error);
    ...
    response = rmx_http_response_make(body, sizeof body); // or (NULL, 0): grows
    status = rmx_http_get(client, "/price/42", rm_deadline_after(NULL, RM_MS(250)), NULL, &response,
                          &error);
    if (status == RM_OK && response.status == 200)
        puts(response.body); // terminated
    rmx_http_response_free(&response);

    Build with -lcurl -pthread. A split build defines RMX_HTTP_IMPLEMENTATION in one file.

HANDLES
    A request borrows an easy handle from the pool and gives it back through curl_easy_reset, which
    forgets the options and keeps the connection. Handles share nothing: libcurl's shared
    connections do not work between threads. A handle whose transfer failed is destroyed.
    The pool is the resource to register: rm_pool_resource(rmx_http_pool(client)).

TIME
    The deadline holds for the wait for a handle and for the transfer; without one desc.timeout_ns
    holds for the transfer. libcurl counts in milliseconds: rounded up. A cancel token is looked at
    when data moves, and at least once a second.

BREAKER AND RETRY
    The driver knows neither. Put them around it, so that each attempt is counted:

        static rm_status attempt(void *user, rm_attempt *attempt, rm_error *error) {
            struct my_call *call = user;
            rm_status status = rmx_http_get(call->client, call->path, attempt->deadline,
                                            attempt->cancel, &call->response, error);
            attempt->retry_after_ns = call->response.retry_after_ns;
            return status;
        }
        status = rm_retry_call(&retry, breaker, deadline, cancel, attempt, &call, &error);

    Only what may be done twice may be retried: a POST as a rule not.

ERRORS
    rm_error.where is the client's name; .native is the HTTP status (100 and above) or libcurl's
    CURLcode (below 100). An answer is RM_OK, also a 404: look at response.status. But:
    RM_E_REFUSED   no connection, or it was closed    RM_E_BUSY      429, 503
    RM_E_TIMEOUT   the time was over; 504             RM_E_FAILED    all other 5xx
    RM_E_PROTOCOL  not HTTP; TLS does not agree       RM_E_AUTH      the certificate is not trusted
    RM_E_SYSTEM    the host is unknown; poll() fails  RM_E_CANCELLED the token was requested
    RM_E_TOO_LARGE the body does not fit              RM_E_INVALID   method, header or URL
    and what rm_pool_acquire_until returns.
*/
#ifndef RMX_HTTP_H_INCLUDED
#define RMX_HTTP_H_INCLUDED

#include "rm.h"
#include "rm_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A client: its settings and its pool of handles. Opaque. */
typedef struct rmx_http rmx_http;

typedef struct rmx_http_desc {
    const char *name;           /* of the pool, at most 47 bytes, copied; 0 = "http" */
    const char *base_url;       /* put before every path, copied: http://host[:port]; 0 = none,
                                   paths are whole URLs */
    const char *proxy;          /* copied; 0 = none, whatever the environment says */
    const rm_env *env;          /* 0 = defaults */
    uint32_t max;               /* requests at once; 0 = 8 */
    size_t max_body;            /* bytes a growing response body may have; 0 = 1 MiB */
    int64_t connect_timeout_ns; /* within the request's time; 0 = 2 s */
    int64_t timeout_ns;         /* of a transfer without a deadline; 0 = 30 s */
} rmx_http_desc;

typedef struct rmx_http_request {
    const char *method;         /* 0 = GET, or POST when there is a body */
    const char *path;           /* put after base_url, with its query: /x?y; 0 = "" */
    const char *const *headers; /* "Name: value"; 0 = none */
    uint32_t header_count;
    const void *body; /* 0 = none */
    size_t body_size;
} rmx_http_request;

/* Made by rmx_http_response_make, filled by each request anew. */
typedef struct rmx_http_response {
    char *body;             /* terminated; the caller's buffer, or one that grows */
    size_t size;            /* of the body, without the end */
    int64_t retry_after_ns; /* what the other side asked for; 0 = nothing */
    int32_t status;         /* 200 and the like; 0 = no answer came */
    uint32_t connects;      /* connections opened for it; 0 = a kept one was used */
    size_t capacity;        /* private, as is all that follows */
    const rm_allocator *allocator;
    bool grows;
    rm_status refused; /* why a part of the body was not taken */
} rmx_http_response;

/* Makes a client. It also initialises libcurl: do it before other threads use libcurl.
   Returns: RM_E_INVALID or RM_E_TOO_LARGE naming the field; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Owns: the caller; rmx_http_destroy. */
RM_API RM_MUST_USE rm_status rmx_http_create(const rmx_http_desc *desc, rmx_http **out,
                                             rm_error *error);

/* Closes the pool and ends the client; NULL is allowed.
   Returns: RM_E_BUSY, closed but not freed, while a request runs.
   Threads: owner. */
RM_API rm_status rmx_http_destroy(rmx_http *client);

/* The pool of handles, to register and to look at.
   Returns: the pool, which the client owns; NULL for NULL.
   Threads: any. */
RM_API rm_pool *rmx_http_pool(rmx_http *client);

/* A response that keeps its body in a buffer of the caller, with one byte for its end; with NULL
   and 0 in memory of its own, up to desc.max_body.
   Returns: the response.
   Threads: any. Owns: the caller; rmx_http_response_free. */
RM_API rmx_http_response rmx_http_response_make(char *buffer, size_t size);

/* Frees a body that has grown. The response can be used again.
   Threads: owner. */
RM_API void rmx_http_response_free(rmx_http_response *response);

/* Makes a request. Redirects are not followed: they are answers. cancel may be NULL.
   Returns: see ERRORS. response->status says how far it came.
   Threads: any; owner of response. Blocks: up to the deadline. */
RM_API RM_MUST_USE rm_status rmx_http_send(rmx_http *client, const rmx_http_request *request,
                                           rm_deadline deadline, rm_cancel *cancel,
                                           rmx_http_response *response, rm_error *error);

/* GETs a path.
   Returns: as rmx_http_send.
   Threads: any; owner of response. Blocks: up to the deadline. */
RM_API RM_MUST_USE rm_status rmx_http_get(rmx_http *client, const char *path, rm_deadline deadline,
                                          rm_cancel *cancel, rmx_http_response *response,
                                          rm_error *error);

#ifdef __cplusplus
}
#endif
#endif /* RMX_HTTP_H_INCLUDED */

#if (defined(RM_IMPLEMENTATION) || defined(RMX_HTTP_IMPLEMENTATION)) && \
    !defined(RMX_HTTP_IMPLEMENTATION_DONE)
#define RMX_HTTP_IMPLEMENTATION_DONE

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rmx_http {
    rm_env env;
    rm_pool *pool;
    char name[48];
    char *base_url, *proxy;
    size_t max_body;
    int64_t connect_timeout_ns, timeout_ns;
};

enum { RMX_HTTP_URL = 2048, RMX_HTTP_FIRST = 256 }; /* longest URL; first size of a body */

/* >>errors */

/* libcurl has one code for a URL that it cannot take and for an answer that is not HTTP: the second
   comes after something was sent. */
static rm_status rmx_http_curl_status(CURL *handle, CURLcode code) {
    long sent = 0;
    if (code == CURLE_UNSUPPORTED_PROTOCOL)
        (void)curl_easy_getinfo(handle, CURLINFO_REQUEST_SIZE, &sent);
    if (sent > 0) return RM_E_PROTOCOL;
    switch (code) {
    case CURLE_OK: return RM_OK;
    case CURLE_COULDNT_CONNECT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE: return RM_E_REFUSED;
    case CURLE_OPERATION_TIMEDOUT: return RM_E_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return RM_E_SYSTEM;
    case CURLE_ABORTED_BY_CALLBACK: return RM_E_CANCELLED;
    case CURLE_OUT_OF_MEMORY: return RM_E_NOMEM;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT: return RM_E_INVALID;
    case CURLE_PEER_FAILED_VERIFICATION: return RM_E_AUTH;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return RM_E_PROTOCOL;
    default: return RM_E_FAILED;
    }
}

/* What an answer means: 5xx and "come back later" are failures of the other side. */
static rm_status rmx_http_answer_status(int32_t status) {
    if (status == 429 || status == 503) return RM_E_BUSY;
    if (status == 504) return RM_E_TIMEOUT;
    return status >= 500 ? RM_E_FAILED : RM_OK;
}

/* >>bodies */

RM_API rmx_http_response rmx_http_response_make(char *buffer, size_t size) {
    rmx_http_response response;
    memset(&response, 0, sizeof response);
    response.body = buffer;
    response.capacity = buffer == NULL ? 0 : size;
    response.grows = buffer == NULL;
    return response;
}

RM_API void rmx_http_response_free(rmx_http_response *response) {
    if (response == NULL || !response->grows) return;
    rm_free(response->allocator, response->body, response->capacity);
    *response = rmx_http_response_make(NULL, 0);
}

/* Makes room for size bytes and the end; doubles, so that a body is copied O(1) times. */
static rm_status rmx_http_reserve(rmx_http_response *response, size_t size, size_t max_body) {
    size_t capacity = response->capacity;
    char *body;
    if (response->grows ? size > max_body : size >= capacity) return RM_E_TOO_LARGE;
    if (size < capacity) return RM_OK;
    if (capacity == 0) capacity = RMX_HTTP_FIRST;
    while (capacity <= size)
        capacity = capacity > max_body / 2 ? max_body + 1 : capacity * 2;
    body = (char *)rm_alloc(response->allocator, capacity);
    if (body == NULL) return RM_E_NOMEM;
    if (response->size > 0) memcpy(body, response->body, response->size);
    rm_free(response->allocator, response->body, response->capacity);
    response->body = body;
    response->capacity = capacity;
    return RM_OK;
}

/* A transfer, as libcurl's callbacks see it. */
typedef struct rmx_http_transfer {
    rmx_http *client;
    CURL *handle;
    rmx_http_response *response;
    rm_cancel *cancel;
    struct curl_slist *headers;
    char url[RMX_HTTP_URL];
    char said[CURL_ERROR_SIZE];
} rmx_http_transfer;

static size_t rmx_http_on_body(char *data, size_t one, size_t size, void *user) {
    rmx_http_transfer *transfer = (rmx_http_transfer *)user;
    rmx_http_response *response = transfer->response;
    size_t sum = 0;
    (void)one; /* always 1 */
    response->refused = RM_E_TOO_LARGE;
    if (rm_size_add(response->size, size, &sum))
        response->refused = rmx_http_reserve(response, sum, transfer->client->max_body);
    if (response->refused != RM_OK) return 0;
    memcpy(response->body + response->size, data, size);
    response->size = sum;
    response->body[sum] = '\0';
    return size;
}

static int rmx_http_on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c,
                                curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return rm_cancel_requested((const rm_cancel *)user);
}

/* >>handles */

static rm_status rmx_http_make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const rmx_http *client = (const rmx_http *)user;
    CURL *handle = curl_easy_init();
    (void)deadline;
    if (handle == NULL)
        return rm_error_set(error, RM_E_NOMEM, CURLE_FAILED_INIT, client->name,
                            "libcurl has no handle to give");
    *resource = handle;
    return RM_OK;
}

static void rmx_http_end(void *resource, void *user) {
    (void)user;
    curl_easy_cleanup((CURL *)resource);
}

static rm_status rmx_http_reset(void *resource, void *user) {
    (void)user;
    curl_easy_reset((CURL *)resource); /* keeps the connection and the known names */
    return RM_OK;
}

/* >>requests */

static long rmx_http_ms(int64_t ns) {
    const int64_t ms = rm_time_add(ns, RM_MS(1) - 1) / RM_MS(1);
    return ms < 1 ? 1 : ms > INT32_MAX ? (long)INT32_MAX : (long)ms;
}

static CURLcode rmx_http_set_time(rmx_http_transfer *transfer, rm_deadline deadline) {
    const rmx_http *client = transfer->client;
    const int64_t left = rm_deadline_left(client->env.clock, deadline);
    const int64_t total = left == RM_FOREVER ? client->timeout_ns : left;
    const int64_t connect = client->connect_timeout_ns < total ? client->connect_timeout_ns : total;
    CURLcode code = curl_easy_setopt(transfer->handle, CURLOPT_TIMEOUT_MS, rmx_http_ms(total));
    if (code == CURLE_OK)
        code = curl_easy_setopt(transfer->handle, CURLOPT_CONNECTTIMEOUT_MS, rmx_http_ms(connect));
    if (code != CURLE_OK || transfer->cancel == NULL) return code;
    (void)curl_easy_setopt(transfer->handle, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(transfer->handle, CURLOPT_XFERINFODATA, transfer->cancel);
    return curl_easy_setopt(transfer->handle, CURLOPT_XFERINFOFUNCTION, rmx_http_on_progress);
}

/* What every request is made with. NOSIGNAL: no SIGALRM and no SIGPIPE. */
static CURLcode rmx_http_set_up(rmx_http_transfer *transfer) {
    CURL *handle = transfer->handle;
    const rmx_http *client = transfer->client;
    (void)curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, transfer->said);
    (void)curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);
    (void)curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, rmx_http_on_body);
#if LIBCURL_VERSION_NUM >= 0x075500
    (void)curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    (void)curl_easy_setopt(handle, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    if (curl_easy_setopt(handle, CURLOPT_PROXY, client->proxy == NULL ? "" : client->proxy) !=
        CURLE_OK)
        return CURLE_OUT_OF_MEMORY;
    return curl_easy_setopt(handle, CURLOPT_URL, transfer->url);
}

static CURLcode rmx_http_set_request(rmx_http_transfer *transfer, const rmx_http_request *request) {
    CURL *handle = transfer->handle;
    CURLcode code = CURLE_OK;
    uint32_t i;
    for (i = 0; i < request->header_count; ++i) {
        struct curl_slist *longer = curl_slist_append(transfer->headers, request->headers[i]);
        if (longer == NULL) return CURLE_OUT_OF_MEMORY;
        transfer->headers = longer;
    }
    if (transfer->headers != NULL)
        code = curl_easy_setopt(handle, CURLOPT_HTTPHEADER, transfer->headers);
    if (code == CURLE_OK && request->body != NULL) {
        (void)curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
        code = curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->body);
    }
    if (code != CURLE_OK || request->method == NULL) return code;
    if (strcmp(request->method, "HEAD") == 0) /* libcurl must know that no body follows */
        return curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    return curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
}

static void rmx_http_note_answer(rmx_http_transfer *transfer) {
    rmx_http_response *response = transfer->response;
    curl_off_t retry_after = 0;
    long status = 0, connects = 0;
    (void)curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(transfer->handle, CURLINFO_NUM_CONNECTS, &connects);
    (void)curl_easy_getinfo(transfer->handle, CURLINFO_RETRY_AFTER, &retry_after);
    response->status = (int32_t)status;
    response->connects = (uint32_t)connects;
    response->retry_after_ns = rm_time_mul(RM_SEC(1), (int64_t)retry_after);
}

/* Runs the transfer and turns how it ended into a status. *broken: the handle is of no more use. */
static rm_status rmx_http_perform(rmx_http_transfer *transfer, const rmx_http_request *request,
                                  rm_deadline deadline, bool *broken, rm_error *error) {
    const char *name = transfer->client->name;
    rmx_http_response *response = transfer->response;
    rm_status status;
    CURLcode code = rmx_http_set_up(transfer);
    bool began;
    if (code == CURLE_OK) code = rmx_http_set_time(transfer, deadline);
    if (code == CURLE_OK) code = rmx_http_set_request(transfer, request);
    began = code == CURLE_OK;
    if (began) code = curl_easy_perform(transfer->handle);
    *broken = code != CURLE_OK;
    rmx_http_note_answer(transfer);
    curl_slist_free_all(transfer->headers);
    if (response->refused == RM_E_TOO_LARGE)
        return rm_error_set(
            error, RM_E_TOO_LARGE, (int32_t)code, name,
            "the body has more than %llu bytes: use a larger buffer, or raise max_body",
            (unsigned long long)(response->grows ? transfer->client->max_body
                                                 : response->capacity - 1));
    if (response->refused != RM_OK)
        return rm_error_set(error, response->refused, (int32_t)code, name, "no memory for a body");
    if (began && code == CURLE_BAD_FUNCTION_ARGUMENT) /* what libcurl says when poll() fails */
        return rm_error_set(error, RM_E_SYSTEM, (int32_t)code, name,
                            "the system cannot wait for the connection");
    if (code != CURLE_OK)
        return rm_error_set(error, rmx_http_curl_status(transfer->handle, code), (int32_t)code,
                            name, "%s",
                            transfer->said[0] != '\0' ? transfer->said : curl_easy_strerror(code));
    status = rmx_http_answer_status(response->status);
    if (status == RM_OK) return RM_OK;
    return rm_error_set(error, status, response->status, name, "the server answered with %d",
                        (int)response->status);
}

/* A blank or line break in the method, or a line break in a header, would begin another header or
   another request; a path that does not begin as one ("@elsewhere") would change the host. */
static bool rmx_http_request_valid(const rmx_http *client, const rmx_http_request *request) {
    const char *path = request->path == NULL ? "" : request->path;
    uint32_t i;
    if (client->base_url[0] != '\0' && path[0] != '\0' && path[0] != '/' && path[0] != '?')
        return false;
    if (request->method != NULL && strpbrk(request->method, " \t\r\n") != NULL) return false;
    if (request->headers == NULL) return request->header_count == 0;
    for (i = 0; i < request->header_count; ++i) {
        const char *header = request->headers[i];
        if (header == NULL || strpbrk(header, "\r\n") != NULL) return false;
    }
    return true;
}

/* Forgets the response before, and makes sure that there is an empty body. */
static rm_status rmx_http_prepare(rmx_http_transfer *transfer, const rmx_http_request *request,
                                  rm_error *error) {
    const rmx_http *client = transfer->client;
    rmx_http_response *response = transfer->response;
    rm_status status;
    const int length = snprintf(transfer->url, sizeof transfer->url, "%s%s", client->base_url,
                                request->path == NULL ? "" : request->path);
    if (length < 0 || (size_t)length >= sizeof transfer->url)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, client->name, "a URL has at most %d bytes",
                            RMX_HTTP_URL - 1);
    if (!rmx_http_request_valid(client, request))
        return rm_error_set(error, RM_E_INVALID, 0, client->name,
                            "the path must begin with / or ?, headers must not be NULL, and method "
                            "and headers have no line breaks");
    if (response->body == NULL) response->allocator = client->env.allocator;
    response->size = 0;
    response->status = 0;
    response->connects = 0;
    response->retry_after_ns = 0;
    response->refused = RM_OK;
    status = rmx_http_reserve(response, 0, client->max_body);
    if (status != RM_OK)
        return rm_error_set(error, status, 0, client->name, "no room for the end of a body");
    response->body[0] = '\0';
    return RM_OK;
}

RM_API rm_status rmx_http_send(rmx_http *client, const rmx_http_request *request,
                               rm_deadline deadline, rm_cancel *cancel, rmx_http_response *response,
                               rm_error *error) {
    rmx_http_transfer transfer;
    rm_lease lease;
    rm_status status;
    bool broken = false;
    if (client == NULL || request == NULL || response == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "http", "client, request or response is NULL");
    transfer.client = client;
    transfer.response = response;
    transfer.cancel = cancel;
    transfer.headers = NULL;
    transfer.said[0] = '\0';
    status = rmx_http_prepare(&transfer, request, error);
    if (status == RM_OK)
        status = rm_pool_acquire_until(client->pool, deadline, cancel, &lease, error);
    if (status != RM_OK) return status;
    transfer.handle = lease.resource;
    if (rm_deadline_passed(client->env.clock, deadline))
        status = rm_error_set(error, RM_E_TIMEOUT, 0, client->name,
                              "the deadline passed before the request was sent");
    else
        status = rmx_http_perform(&transfer, request, deadline, &broken, error);
    (void)rm_pool_release(client->pool, &lease, broken ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
    return status;
}

RM_API rm_status rmx_http_get(rmx_http *client, const char *path, rm_deadline deadline,
                              rm_cancel *cancel, rmx_http_response *response, rm_error *error) {
    rmx_http_request request;
    memset(&request, 0, sizeof request);
    request.path = path;
    return rmx_http_send(client, &request, deadline, cancel, response, error);
}

/* >>create and destroy */

static char *rmx_http_copy(const rm_env *env, const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = (char *)rm_alloc(env->allocator, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}

static void rmx_http_free(rmx_http *client) {
    const rm_env env = client->env;
    if (client->base_url != NULL)
        rm_free(env.allocator, client->base_url, strlen(client->base_url) + 1);
    if (client->proxy != NULL) rm_free(env.allocator, client->proxy, strlen(client->proxy) + 1);
    rm_free(env.allocator, client, sizeof *client);
}

static rm_status rmx_http_fill(rmx_http *client, const rmx_http_desc *desc, rm_error *error) {
    rm_pool_desc pool = rm_pool_desc_default();
    client->max_body = desc->max_body == 0 ? (size_t)1 << 20 : desc->max_body;
    client->connect_timeout_ns =
        desc->connect_timeout_ns == 0 ? RM_SEC(2) : desc->connect_timeout_ns;
    client->timeout_ns = desc->timeout_ns == 0 ? RM_SEC(30) : desc->timeout_ns;
    client->base_url = rmx_http_copy(&client->env, desc->base_url == NULL ? "" : desc->base_url);
    if (desc->proxy != NULL) client->proxy = rmx_http_copy(&client->env, desc->proxy);
    if (client->base_url == NULL || (desc->proxy != NULL && client->proxy == NULL))
        return rm_error_set(error, RM_E_NOMEM, 0, client->name, "no memory for a client");
    pool.name = client->name;
    pool.env = &client->env;
    pool.max = desc->max == 0 ? 8 : desc->max;
    pool.create_fn = rmx_http_make;
    pool.create_backoff_ns = RM_NONE; /* it takes memory only, and does not connect */
    pool.destroy_fn = rmx_http_end;
    pool.reset_fn = rmx_http_reset;
    pool.user = client;
    return rm_pool_create(&pool, &client->pool, error);
}

RM_API rm_status rmx_http_create(const rmx_http_desc *desc, rmx_http **out, rm_error *error) {
    const char *name = desc == NULL || desc->name == NULL ? "http" : desc->name;
    rmx_http *client;
    rm_status status;
    rm_env env;
    if (desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, name, "desc or out is NULL");
    if (strlen(name) > 47)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "at most 47 bytes");
    if (desc->connect_timeout_ns < 0)
        return rm_error_set(error, RM_E_INVALID, 0, "connect_timeout_ns", "must not be negative");
    if (desc->timeout_ns < 0)
        return rm_error_set(error, RM_E_INVALID, 0, "timeout_ns", "must not be negative");
    status = rm_env_resolve(desc->env, &env, error);
    if (status != RM_OK) return status;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return rm_error_set(error, RM_E_SYSTEM, 0, name, "libcurl could not be initialised");
    client = (rmx_http *)rm_alloc(env.allocator, sizeof *client);
    if (client == NULL) {
        curl_global_cleanup();
        return rm_error_set(error, RM_E_NOMEM, 0, name, "no memory for a client");
    }
    memset(client, 0, sizeof *client);
    client->env = env;
    memcpy(client->name, name, strlen(name) + 1);
    status = rmx_http_fill(client, desc, error);
    if (status == RM_OK) {
        *out = client;
        return RM_OK;
    }
    rmx_http_free(client);
    curl_global_cleanup();
    return status;
}

RM_API rm_status rmx_http_destroy(rmx_http *client) {
    if (client == NULL) return RM_OK;
    if (rm_pool_destroy(client->pool) != RM_OK) return RM_E_BUSY;
    rmx_http_free(client);
    curl_global_cleanup();
    return RM_OK;
}

RM_API rm_pool *rmx_http_pool(rmx_http *client) {
    return client == NULL ? NULL : client->pool;
}

#ifdef __cplusplus
}
#endif
#endif /* RMX_HTTP_IMPLEMENTATION_DONE */
