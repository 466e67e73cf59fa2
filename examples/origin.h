/*  origin.h - a price server in a process of its own, to be killed: for the lessons and the demo.

    int main(int argc, char **argv) {
        origin server = {0};
        if (origin_wanted(argc, argv))
            return origin_run(argv);               // this process is the server
        origin_start(&server, argv[0], &error);    // http://127.0.0.1:<server.port>/price/<id>
        origin_kill(&server);                      // SIGKILL
        origin_start(&server, argv[0], &error);    // again, on the same port
        origin_stop(&server);
    }

    The program starts itself anew with the argument --origin, which is safe from any thread, as
    fork() alone is not. The server ends when its standard input does: it never outlives its parent.
    Include it after the file with RM_IMPLEMENTATION's rm.h. Build with -lmicrohttpd. */
#ifndef ORIGIN_H_INCLUDED
#define ORIGIN_H_INCLUDED

#include "rm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct origin {
    pid_t pid;     /* 0 = it does not run */
    int lifeline;  /* its standard input */
    uint16_t port; /* 0 = not chosen yet */
} origin;

/* The server's rule: cents for the article with this number. */
static inline int64_t origin_price(int64_t id) {
    return 99 + id * 7919 % 9901;
}

/* >>the server */

static inline enum MHD_Result origin_answer(void *user, struct MHD_Connection *connection,
                                            const char *url, const char *method,
                                            const char *version, const char *data, size_t *size,
                                            void **state) {
    char text[32];
    int64_t id;
    unsigned status = MHD_HTTP_OK;
    struct MHD_Response *response;
    enum MHD_Result result;
    (void)user, (void)method, (void)version, (void)data, (void)size, (void)state;
    if (sscanf(url, "/price/%" SCNd64, &id) == 1) {
        (void)snprintf(text, sizeof text, "%" PRId64 "\n", origin_price(id));
    } else {
        (void)snprintf(text, sizeof text, "no such page\n");
        status = MHD_HTTP_NOT_FOUND;
    }
    response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) return MHD_NO;
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static inline struct MHD_Daemon *origin_listen(uint16_t port) {
    struct sockaddr_in local;
    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_port = htons(port);
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, port, NULL, NULL, origin_answer, NULL,
                            MHD_OPTION_SOCK_ADDR, &local, MHD_OPTION_THREAD_POOL_SIZE, 2u,
                            MHD_OPTION_END);
}

static inline bool origin_wanted(int argc, char **argv) {
    return argc == 3 && strcmp(argv[1], "--origin") == 0;
}

/* Listens on the port argv[2] (0 = one that is free), says which on standard output, and serves
   until standard input ends. It chooses below 32768: the ports above are given to outgoing
   connections, and one that is made to its own port while the server is dead meets itself. */
static inline int origin_run(char **argv) {
    uint16_t port = (uint16_t)strtoul(argv[2], NULL, 10);
    const bool given = port != 0;
    struct MHD_Daemon *daemon = NULL;
    char byte;
    int tries;
    for (tries = 0; tries < (given ? 1 : 100) && daemon == NULL; ++tries) {
        if (!given) port = (uint16_t)(20000 + rm_random_below(NULL, 12000));
        daemon = origin_listen(port);
    }
    if (daemon == NULL) {
        fprintf(stderr, "origin: cannot listen on 127.0.0.1:%u\n", (unsigned)port);
        return 1;
    }
    printf("%u\n", (unsigned)port);
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    MHD_stop_daemon(daemon);
    return 0;
}

/* >>its parent */

/* A pipe that a started program does not inherit, unless it is made its input or output. */
static inline bool origin_pipe(int ends[2]) {
    if (pipe(ends) != 0) return false;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return true;
}

/* Starts this program again as the server, with these as its input and output. */
static inline int origin_spawn(origin *server, const char *program, int input, int output) {
    extern char **environ;
    char name[256], flag[] = "--origin", port[16];
    char *argv[] = {name, flag, port, NULL};
    posix_spawn_file_actions_t actions;
    int code;
    (void)snprintf(name, sizeof name, "%s", program);
    (void)snprintf(port, sizeof port, "%u", (unsigned)server->port);
    code = posix_spawn_file_actions_init(&actions);
    if (code != 0) return code;
    code = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (code == 0) code = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (code == 0) code = posix_spawnp(&server->pid, name, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return code;
}

/* Ends the server by SIGKILL, as a crash would. */
static inline void origin_kill(origin *server) {
    if (server->pid == 0) return;
    (void)kill(server->pid, SIGKILL);
    while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    (void)close(server->lifeline);
    server->pid = 0;
}

/* Waits, at most 5 s, for the server to say its port. */
static inline rm_status origin_hear(origin *server, int output, rm_error *error) {
    struct pollfd wait = {output, POLLIN, 0};
    char said[16];
    ssize_t size = 0;
    if (poll(&wait, 1, 5000) == 1) size = read(output, said, sizeof said - 1);
    if (size <= 0) {
        origin_kill(server);
        return rm_error_set(error, RM_E_SYSTEM, 0, "origin",
                            "the price server did not start within 5 s; it says why above");
    }
    said[size] = '\0';
    server->port = (uint16_t)strtoul(said, NULL, 10);
    return RM_OK;
}

/* Starts the server and waits until it listens; on the same port as before, if there was one. */
static inline rm_status origin_start(origin *server, const char *program, rm_error *error) {
    int input[2], output[2], code;
    if (!origin_pipe(input))
        return rm_error_set(error, RM_E_SYSTEM, errno, "origin", "pipe: %s", strerror(errno));
    if (!origin_pipe(output)) {
        code = errno;
        (void)close(input[0]), (void)close(input[1]);
        return rm_error_set(error, RM_E_SYSTEM, code, "origin", "pipe: %s", strerror(code));
    }
    code = origin_spawn(server, program, input[0], output[1]);
    (void)close(input[0]), (void)close(output[1]);
    server->lifeline = input[1];
    rm_status status = RM_OK;
    if (code == 0) {
        status = origin_hear(server, output[0], error);
    } else {
        server->pid = 0;
        (void)close(server->lifeline);
        status = rm_error_set(error, RM_E_SYSTEM, code, "origin", "cannot start %s again: %s",
                              program, strerror(code));
    }
    (void)close(output[0]);
    return status;
}

/* Asks the server to end, and waits for it. Returns RM_E_FAILED if it ended with an error. */
static inline rm_status origin_stop(origin *server) {
    int how = 0;
    if (server->pid == 0) return RM_OK;
    (void)close(server->lifeline);
    while (waitpid(server->pid, &how, 0) < 0 && errno == EINTR)
        continue;
    server->pid = 0;
    return WIFEXITED(how) && WEXITSTATUS(how) == 0 ? RM_OK : RM_E_FAILED;
}

#endif /* ORIGIN_H_INCLUDED */
