/* A Modbus device that does not hold up whoever measures a client: plain C, and a reply is one look-up.
 *
 * usage: modbus_source tcp PORT          on 127.0.0.1, several connections, pipelined requests; PORT 0 takes a free one
 *        modbus_source rtu PATH BAUD BITS    BITS of a byte on the line, which rule t3.5: it waits so long before it replies
 *
 * Input and holding registers are one table. Each block of 125 registers holds 62 float32, big bytes and big words, and then the identity 4321:
 * float number k of block b, at register 125 b + 2 k, is 62 b + k + 0.25. Functions 3, 4, 6 and 16; any unit; the rest is exception 1.
 * Prints {"port": N} when ready; for each line on its standard input it says what it has answered since the last one,
 * {"requests": N, "writes": N, "cpu_s": S}, and ends when that closes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 64, PDU = 253, WHOLE = 65536 };

static uint8_t table[2 * WHOLE]; /* as on the wire */
static long requests, writes;

static void fail(const char *what) {
    fprintf(stderr, "modbus_source: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void fill(void) {
    for (int block = 0; 125 * (block + 1) <= WHOLE; block++) {
        for (int place = 0; place < 62; place++) {
            float value = (float)(62 * block + place) + 0.25f;
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            bits = htonl(bits);
            memcpy(table + 2 * (125 * block + 2 * place), &bits, sizeof bits);
        }
        uint16_t identity = htons(4321);
        memcpy(table + 2 * (125 * block + 124), &identity, sizeof identity);
    }
}

/* Write the reply to a PDU into `out` and return its length. */
static int reply(const uint8_t *pdu, uint8_t *out) {
    int address = pdu[1] << 8 | pdu[2], count = pdu[3] << 8 | pdu[4];
    requests++;
    switch (pdu[0]) {
    case 3:
    case 4:
        if (count < 1 || count > 125 || address + count > WHOLE) break;
        out[0] = pdu[0];
        out[1] = (uint8_t)(2 * count);
        memcpy(out + 2, table + 2 * address, 2 * (size_t)count);
        return 2 + 2 * count;
    case 6:
        memcpy(table + 2 * address, pdu + 3, 2);
        writes++;
        memcpy(out, pdu, 5);
        return 5;
    case 16:
        if (count < 1 || count > 123 || address + count > WHOLE) break;
        memcpy(table + 2 * address, pdu + 6, 2 * (size_t)count);
        writes++;
        memcpy(out, pdu, 5);
        return 5;
    default:
        out[0] = pdu[0] | 0x80;
        out[1] = 1;
        return 2;
    }
    out[0] = pdu[0] | 0x80;
    out[1] = 2;
    return 2;
}

/* Answer a line of the standard input; 0 when it has closed. */
static int report(void) {
    static double before;
    char line[256];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) return 0;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    printf("{\"requests\": %ld, \"writes\": %ld, \"cpu_s\": %.6f}\n", requests, writes, cpu - before);
    fflush(stdout);
    requests = writes = 0;
    before = cpu;
    return 1;
}

static void ready(int port) {
    printf("{\"port\": %d}\n", port);
    fflush(stdout);
}

struct client {
    int used;
    uint8_t bytes[8192];
};

/* Answer every whole request that a client has sent, in one write; -1 when it has gone. */
static int serve(int socket, struct client *client) {
    static uint8_t out[8192 / 12 * 260];
    int got = (int)recv(socket, client->bytes + client->used, sizeof client->bytes - (size_t)client->used, 0), start = 0, length = 0;
    if (got <= 0) return -1;
    client->used += got;
    while (client->used - start >= 8) {
        const uint8_t *request = client->bytes + start;
        int rest = request[4] << 8 | request[5];
        if (rest < 6 || rest > PDU + 1) return -1;
        if (client->used - start < 6 + rest) break;
        int size = reply(request + 7, out + length + 7);
        memcpy(out + length, request, 4);
        out[length + 4] = (uint8_t)((size + 1) >> 8);
        out[length + 5] = (uint8_t)(size + 1);
        out[length + 6] = request[6];
        length += 7 + size;
        start += 6 + rest;
    }
    client->used -= start;
    memmove(client->bytes, client->bytes + start, (size_t)client->used);
    return length && send(socket, out, (size_t)length, MSG_NOSIGNAL) != length ? -1 : 0;
}

static void serve_tcp(int port) {
    static struct client clients[CLIENTS];
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&name, size) < 0 || listen(listener, CLIENTS) < 0) fail("cannot listen");
    getsockname(listener, (struct sockaddr *)&name, &size);
    ready(ntohs(name.sin_port));
    struct pollfd watched[2 + CLIENTS] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    for (int place = 2; place < 2 + CLIENTS; place++) watched[place] = (struct pollfd){.fd = -1, .events = POLLIN};
    int end = 2;
    for (;;) {
        if (poll(watched, (nfds_t)end, -1) < 0) fail("cannot wait");
        for (int place = 2; place < end; place++) {
            if (watched[place].fd < 0 || !watched[place].revents || !serve(watched[place].fd, &clients[place - 2])) continue;
            close(watched[place].fd);
            watched[place].fd = -1;
        }
        if (watched[0].revents && !report()) return;
        if (watched[1].revents) {
            int client = accept(listener, NULL, NULL), place = 2;
            while (place < 2 + CLIENTS && watched[place].fd >= 0) place++;
            if (client < 0 || place == 2 + CLIENTS) fail("cannot accept");
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            watched[place].fd = client;
            watched[place].revents = 0;
            clients[place - 2].used = 0;
            if (place >= end) end = place + 1;
        }
    }
}

static uint16_t crc(const uint8_t *bytes, int length) {
    uint16_t value = 0xFFFF;
    for (int place = 0; place < length; place++) {
        value ^= bytes[place];
        for (int bit = 0; bit < 8; bit++) value = (uint16_t)(value & 1 ? value >> 1 ^ 0xA001 : value >> 1);
    }
    return value;
}

static void serve_rtu(const char *path, int baud, int bits) {
    long silence = baud > 19200 ? 1750000 : 3500000000L / baud * bits; /* [ns] Modbus over serial line V1.02, 2.5.1 */
    int line = open(path, O_RDWR | O_NOCTTY);
    struct termios raw;
    if (line < 0 || tcgetattr(line, &raw) < 0) fail("cannot open the line");
    cfmakeraw(&raw);
    tcsetattr(line, TCSANOW, &raw);
    prctl(PR_SET_TIMERSLACK, 1); /* and woken at once, where that is allowed */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    ready(0);
    struct pollfd watched[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = line, .events = POLLIN}};
    uint8_t request[512], out[260];
    int used = 0;
    for (;;) {
        int found = poll(watched, 2, used ? 50 : -1);
        if (found < 0) fail("cannot wait");
        if (!found) used = 0; /* the rest of it never came */
        if (watched[0].revents && !report()) return;
        if (!watched[1].revents) continue;
        int got = (int)read(line, request + used, sizeof request - (size_t)used);
        if (got <= 0) return;
        struct timespec when;
        clock_gettime(CLOCK_MONOTONIC, &when);
        used += got;
        int length = used >= 7 && request[1] == 16 ? 9 + request[6] : 8;
        if (used < length) continue;
        if (crc(request, length) == 0) {
            int size = 1 + reply(request + 1, out + 1);
            out[0] = request[0];
            uint16_t check = crc(out, size);
            out[size] = (uint8_t)check;
            out[size + 1] = (uint8_t)(check >> 8);
            when.tv_nsec += silence;
            while (when.tv_nsec >= 1000000000) when.tv_sec++, when.tv_nsec -= 1000000000;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
            if (write(line, out, (size_t)size + 2) != size + 2) fail("cannot reply");
        }
        used = 0;
    }
}

int main(int argc, char **argv) {
    fill();
    if (argc == 3 && !strcmp(argv[1], "tcp")) {
        serve_tcp(atoi(argv[2]));
    } else if (argc == 5 && !strcmp(argv[1], "rtu")) {
        serve_rtu(argv[2], atoi(argv[3]), atoi(argv[4]));
    } else {
        fprintf(stderr, "usage: modbus_source tcp PORT | rtu PATH BAUD BITS\n");
        return 2;
    }
    return 0;
}
