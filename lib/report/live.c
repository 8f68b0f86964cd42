/* live.c -- the report of a folder over HTTP, for a browser on this machine, while the run that fills it goes on.
 *
 * One thread of libmicrohttpd answers. It reads the folder when someone asks, if anything in it has changed, but never more often than once
 * a second, and no more than a twentieth of the time: the run needs the processor. No signal is taken on it, as none may be on any thread
 * that the program did not make for that (cli/progress.c). */
#include "report_page.h"

#include "ghostmax_model.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECTIONS = 32, TIMEOUT_S = 30, DEPTH = 3 /* lab, runs, a run */, SHARE = 20 };

struct gm_live {
    struct MHD_Daemon *daemon;
    char folder[1024];
    char *json;     /* as last rendered; never NULL */
    uint64_t state; /* of the folder then */
    double next;    /* not looked at before */
};

/* ---- what is served ------------------------------------------------------------------------------------------------------------------ */

/* Names, sizes and times of all that lies in a folder, in whatever order it is listed. */
static uint64_t state_of(const char *folder, int depth) {
    uint64_t state = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[1024];
        struct stat info;
        if (entry->d_name[0] == '.' || gm_path_join(path, sizeof path, folder, entry->d_name, NULL) != GM_OK || stat(path, &info) != 0)
            continue;
        int64_t facts[] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
        if (S_ISDIR(info.st_mode))
            state += depth > 1 ? state_of(path, depth - 1) : 0;
        else
            state += gm_hash(facts, sizeof facts, gm_hash(path, strlen(path), 0));
    }
    if (dir)
        closedir(dir);
    return state;
}

/* A report of nothing, with the reason. */
static char *nothing_yet(const char *why) {
    json_t *data = json_pack("{s:s, s:s, s:[], s:[s], s:[]}", "schema", "ghostmax.report/1", "version", GM_VERSION, "sources", "notes",
                             "nothing to show yet", "groups");
    json_t *reason = data ? json_string(why) : NULL;
    if (reason)
        json_array_append_new(json_object_get(data, "notes"), reason);
    char *text = json_dumps(data, JSON_COMPACT);
    json_decref(data);
    return text;
}

/* A file that is just being replaced, or no memory: what was served stands, and is tried again. */
static void refresh(gm_live *live) {
    double start = gm_seconds();
    if (start < live->next)
        return;
    uint64_t state = state_of(live->folder, DEPTH);
    if (state != live->state) {
        const char *folders[] = {live->folder};
        gm_error err = {.offset = -1};
        char *json;
        if (gm_report_json(folders, 1, &json, &err) == GM_OK) {
            free(live->json);
            live->json = json;
            live->state = state;
        }
    }
    double end = gm_seconds();
    live->next = end + GM_MAX(1, SHARE * (end - start));
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code, const char *type, void *bytes, size_t size) {
    static const char *const headers[][2] = {
        {"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}, {"Cross-Origin-Resource-Policy", "same-origin"}};
    struct MHD_Response *response = MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    for (int i = 0; i < GM_COUNT(headers); i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", "GET");
    enum MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned code, const char *text) {
    return answer(connection, code, "text/plain; charset=utf-8", (void *)text, strlen(text));
}

/* The name under which a browser reached us: another site's name that leads here must not read what is served. */
static bool is_this_machine(const char *host) {
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (int i = 0; host && i < GM_COUNT(names); i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n) == 0 && (host[n] == 0 || host[n] == ':'))
            return true;
    }
    return false;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_size, void **state) {
    static int begun;
    gm_live *live = user;
    (void)version;
    (void)upload;
    if (!*state) { /* headers only: it is called again */
        *state = &begun;
        return MHD_YES;
    }
    if (*upload_size) { /* a body is not looked at */
        *upload_size = 0;
        return MHD_YES;
    }
    if (!is_this_machine(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host")))
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "open it as http://127.0.0.1 or http://localhost\n");
    bool page = strcmp(url, "/") == 0;
    if (!page && strcmp(url, "/data.json") != 0)
        return answer_text(connection, MHD_HTTP_NOT_FOUND, "there is / and /data.json\n");
    if (strcmp(method, "GET") != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "it can only be read\n");
    refresh(live);
    if (!page)
        return answer(connection, MHD_HTTP_OK, "application/json", live->json, strlen(live->json));
    gm_text text = {0};
    gm_report_page(&text, live->json);
    enum MHD_Result queued = text.failed ? MHD_NO : answer(connection, MHD_HTTP_OK, "text/html; charset=utf-8", text.data, text.size);
    gm_text_free(&text);
    return queued;
}

/* ---- listening ------------------------------------------------------------------------------------------------------------------------
 */

/* A socket on the loopback interface alone. */
static gm_status listen_on(int *fd, int *port, gm_error *err) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int on = 1; /* a port whose last connections are still fading is free */
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd >= 0 && setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(*fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(*fd, CONNECTIONS) == 0 &&
        getsockname(*fd, (struct sockaddr *)&address, &size) == 0) {
        *port = ntohs(address.sin_port);
        return GM_OK;
    }
    gm_status status =
        gm_fail(err, GM_EIO, "cannot serve on 127.0.0.1:%d: %s; choose another port, or 0 for any free one", *port, strerror(errno));
    if (*fd >= 0)
        close(*fd);
    return status;
}

gm_status gm_live_start(gm_live **out, const char *folder, int *port, gm_error *err) {
    int fd = -1;
    sigset_t all, before;
    *out = NULL;
    if (*port < 0 || *port > 65535)
        return gm_fail(err, GM_EINVAL, "port is %d, it must be in 0 to 65535", *port);
    gm_live *live = calloc(1, sizeof *live);
    if (!live || !(live->json = nothing_yet("the run has not begun"))) {
        free(live);
        return gm_fail_memory(err, sizeof *live);
    }
    gm_status status = (size_t)snprintf(live->folder, sizeof live->folder, "%s", folder) < sizeof live->folder
                           ? listen_on(&fd, port, err)
                           : gm_fail(err, GM_EINVAL, "path is too long: %.100s...", folder);
    if (status == GM_OK) {
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before); /* the thread inherits it */
        live->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request, live, MHD_OPTION_LISTEN_SOCKET, fd,
                                        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
                                        (unsigned)TIMEOUT_S, MHD_OPTION_END);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!live->daemon) {
            close(fd);
            status = gm_fail(err, GM_EIO, "cannot serve on 127.0.0.1:%d: no thread for it", *port);
        }
    }
    if (status != GM_OK) {
        gm_live_stop(live);
        return status;
    }
    *out = live;
    return GM_OK;
}

void gm_live_stop(gm_live *live) {
    if (!live)
        return;
    if (live->daemon)
        MHD_stop_daemon(live->daemon); /* waits for its thread, and closes the socket */
    free(live->json);
    free(live);
}
