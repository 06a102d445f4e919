/* A load generator for HTTP: one thread, epoll, keep-alive, a closed loop of C connections.
 *
 *   load ADDRESS PORT CONNECTIONS SECONDS BODY < requests      one request a line: "METHOD path-with-query"
 *   load fsync FILE SECONDS                                    the disk's limit: append 1 KiB and fdatasync, over and over
 *
 * SECONDS below 0: that many requests instead of a time. BODY: bytes of each request's body (PUT). The lines are taken in turn, from the
 * beginning again at their end. Prints one line: requests seconds bytes_in refused broken p50_us p99_us. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd, line;
    size_t sent, got, head;   /* of the request; of the reply's head; its length once it is whole */
    long long left;           /* bytes of the reply's body to come */
    double began;
    char in[8192];
};

static char **lines;
static size_t *lengths;
static int count, next_line;
static long long bytes_in;
static int refused, broken, started, ended, most;
static float *latencies;
static size_t latency_count, latency_room;
static struct sockaddr_in address;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void note(double seconds) {
    if (latency_count == latency_room) latencies = realloc(latencies, (latency_room = latency_room ? latency_room * 2 : 65536) * sizeof *latencies);
    latencies[latency_count++] = seconds * 1e6;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void report(double seconds) {
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("%zu %.6f %lld %d %d %.1f %.1f\n", latency_count, seconds, bytes_in, refused, broken,
           latency_count ? latencies[latency_count / 2] : 0, latency_count ? latencies[latency_count * 99 / 100] : 0);
}

static void join(struct connection *c, int poll) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&address, sizeof address) != 0) { perror("connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &e);
}

/* Gives the connection its next request; 0 when there is none. */
static int start(struct connection *c) {
    c->line = -1;
    if (most && started >= most) return 0;
    started++;
    c->line = next_line++ % count;
    c->sent = c->got = c->head = 0;
    c->began = now();
    return 1;
}

static void go_on(struct connection *c, int poll) {
    if (c->line < 0) return;
    for (;;) {
        while (c->sent < lengths[c->line]) {
            ssize_t n = write(c->fd, lines[c->line] + c->sent, lengths[c->line] - c->sent);
            if (n < 0) {
                if (errno == EAGAIN) break;
                goto lost;
            }
            c->sent += n;
        }
        if (!c->head) {
            ssize_t n = read(c->fd, c->in + c->got, sizeof c->in - 1 - c->got);
            if (n < 0 && errno == EAGAIN) return;
            if (n <= 0) goto lost;
            c->got += n;
            c->in[c->got] = 0;
            char *end = strstr(c->in, "\r\n\r\n");
            if (!end) continue;
            c->head = end + 4 - c->in;
            char *length = strcasestr(c->in, "\r\ncontent-length:");
            c->left = !length || length > end || !strncmp(lines[c->line], "HEAD", 4) ? 0 : atoll(length + 17);
            if (c->in[9] != '2') refused++;
            c->left -= c->got - c->head;
            bytes_in += c->got - c->head;
        }
        while (c->left > 0) {
            static char sink[1 << 18];
            ssize_t n = read(c->fd, sink, c->left < (long long)sizeof sink ? (size_t)c->left : sizeof sink);
            if (n < 0 && errno == EAGAIN) return;
            if (n <= 0) goto lost;
            c->left -= n;
            bytes_in += n;
        }
        note(now() - c->began);
        ended++;
        if (!start(c)) return;
    }
lost:
    broken++;
    ended++;
    close(c->fd);
    join(c, poll);
    if (start(c)) go_on(c, poll);
}

static int sync_loop(const char *path, double seconds) {
    char block[1024];
    memset(block, 'x', sizeof block);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    double began = now();
    while (now() - began < seconds) {
        double from = now();
        if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd) != 0) { perror(path); return 1; }
        note(now() - from);
    }
    report(now() - began);
    unlink(path);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "fsync")) return sync_loop(argv[2], atof(argv[3]));
    if (argc != 6) return 2;
    int connections = atoi(argv[3]);
    double seconds = atof(argv[4]);
    size_t body = atol(argv[5]);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    static char line[1 << 16], head[1 << 17];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int n = snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: %s:%s\r\n", line, argv[1], argv[2]);
        if (!strncmp(line, "PUT", 3)) n += snprintf(head + n, sizeof head - n, "Content-Length: %zu\r\n", body);
        n += snprintf(head + n, sizeof head - n, "\r\n");
        size_t more = strncmp(line, "PUT", 3) ? 0 : body;
        lines = realloc(lines, (count + 1) * sizeof *lines);
        lengths = realloc(lengths, (count + 1) * sizeof *lengths);
        lines[count] = malloc(n + more);
        memcpy(lines[count], head, n);
        memset(lines[count] + n, 'w', more);
        lengths[count++] = n + more;
    }
    if (!count) return 2;
    if (seconds < 0) most = -seconds;
    int poll = epoll_create1(0);
    double began = now();
    for (int i = 0; i < connections; i++) {
        struct connection *c = calloc(1, sizeof *c);
        join(c, poll);
        if (start(c)) go_on(c, poll);
    }
    struct epoll_event events[256];
    while (most ? ended < most : now() - began < seconds) {
        int n = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!most || ended < most) go_on(c, poll);
        }
    }
    report(now() - began);
    return 0;
}
