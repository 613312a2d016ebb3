/* A serial line: two ports, and every byte of one reaches the other when a wire of that speed would have carried it. One wire for both directions.
 *
 * usage: paced_line BAUD BITS            BITS of a byte with its start, parity and stop bits
 *
 * Prints {"near": PORT, "far": PORT} when ready; the client belongs on the near one, the device on the far one. For each line on its standard
 * input it says what has passed since the last one, and ends when that closes:
 *
 *   frames, bytes        of the client (near) and of the device (far)
 *   silence_us           t3.5 of this line (Modbus over serial line V1.02, 2.5.1)
 *   client_gap_us        how long the line was silent before the client's frames: min, mean, max
 *   device_gap_us        the same before the device's
 *   client_below, device_below   how many of their frames came before t3.5 was over
 *   collisions           bytes that came from one side while the other's were on the wire
 *   late_us              how much later than due bytes were handed over: mean, max; a frame does not grow by it
 *   line_s               from the first byte of the first frame to the last byte of the last one
 *   cpu_s                of this process */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { NEAR, FAR, SIDES };

struct spread {
    long count;
    double sum, least, most;
};

static int port[SIDES];
static struct side {
    uint8_t bytes[8192]; /* that wait for the wire */
    int head, tail;
    long frames, carried, below;
    struct spread gap;
} side[SIDES];
static int64_t byte_time, silence, ended, began; /* [ns] on the monotonic clock; 0: no frame yet */
static long collisions;
static struct spread late;

static void fail(const char *what) {
    fprintf(stderr, "paced_line: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void add(struct spread *spread, double value) {
    if (!spread->count || value < spread->least) spread->least = value;
    if (!spread->count || value > spread->most) spread->most = value;
    spread->count++;
    spread->sum += value;
}

/* Take what a side has sent, and return how many bytes. */
static int take(int which) {
    struct side *from = &side[which];
    if (from->head == from->tail) from->head = from->tail = 0;
    ssize_t got = read(port[which], from->bytes + from->tail, sizeof from->bytes - (size_t)from->tail);
    if (got > 0) from->tail += (int)got;
    return got > 0 ? (int)got : 0;
}

/* Carry what a side has sent, and go on sending meanwhile, until nothing of it is left; it began at `start`. */
static void carry(int which, int64_t start) {
    struct side *from = &side[which];
    int64_t due = start, over = start;
    do {
        due += byte_time;
        struct timespec when = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
        over = now();
        collisions += take(1 - which);
        if (write(port[1 - which], from->bytes + from->head++, 1) != 1) fail("nobody reads at the other end");
        add(&late, 1e-3 * (double)(over - due));
        from->carried++;
        if (from->head == from->tail) take(which); /* what has come since is part of this frame */
    } while (from->head < from->tail);
    ended = over;
}

static void frame(int which) {
    struct side *from = &side[which];
    int64_t start = now();
    if (!began) began = start;
    if (ended) {
        int64_t gap = start > ended ? start - ended : 0;
        add(&from->gap, 1e-3 * (double)gap);
        from->below += gap < silence;
    }
    from->frames++;
    carry(which, start);
}

static void say(const char *name, const struct spread *spread) {
    printf("\"%s\": {\"min\": %.1f, \"mean\": %.1f, \"max\": %.1f}, ", name, spread->least, spread->count ? spread->sum / (double)spread->count : 0.0,
           spread->most);
}

/* Answer a line of the standard input; 0 when it has closed. */
static int report(void) {
    static double before;
    char line[256];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) return 0;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    printf("{\"frames\": [%ld, %ld], \"bytes\": [%ld, %ld], ", side[NEAR].frames, side[FAR].frames, side[NEAR].carried, side[FAR].carried);
    say("client_gap_us", &side[NEAR].gap);
    say("device_gap_us", &side[FAR].gap);
    say("late_us", &late);
    printf("\"client_below\": %ld, \"device_below\": %ld, \"collisions\": %ld, \"silence_us\": %.1f, \"line_s\": %.6f, \"cpu_s\": %.6f}\n",
           side[NEAR].below, side[FAR].below, collisions, 1e-3 * (double)silence, began ? 1e-9 * (double)(ended - began) : 0.0, cpu - before);
    fflush(stdout);
    for (int which = NEAR; which < SIDES; which++) {
        side[which].frames = side[which].carried = side[which].below = 0;
        side[which].gap = (struct spread){0};
    }
    late = (struct spread){0};
    collisions = 0;
    began = ended = 0;
    before = cpu;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3 || atoi(argv[1]) <= 0 || atoi(argv[2]) <= 0) {
        fprintf(stderr, "usage: paced_line BAUD BITS\n");
        return 2;
    }
    int baud = atoi(argv[1]), slave[SIDES];
    char name[SIDES][64];
    byte_time = 1000000000LL * atoi(argv[2]) / baud;
    silence = baud > 19200 ? 1750000 : 7 * byte_time / 2;
    for (int which = NEAR; which < SIDES; which++) {
        struct termios raw;
        if (openpty(&port[which], &slave[which], name[which], NULL, NULL) < 0 || tcgetattr(slave[which], &raw) < 0) fail("no pseudo-terminal");
        cfmakeraw(&raw);
        tcsetattr(slave[which], TCSANOW, &raw); /* which stays open here, so that the port outlives whoever uses it */
        fcntl(port[which], F_SETFL, O_NONBLOCK);
    }
    /* Woken at once, where that is allowed. It never waits busily: a thread of the kernel carries the bytes through the pseudo-terminals and may
     * want this very processor. So a gap is measured longer by what it takes to wake, some ten microseconds. */
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    printf("{\"near\": \"%s\", \"far\": \"%s\"}\n", name[NEAR], name[FAR]);
    fflush(stdout);
    struct pollfd watched[3] = {{.fd = port[NEAR], .events = POLLIN}, {.fd = port[FAR], .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        int which = side[NEAR].head < side[NEAR].tail ? NEAR : side[FAR].head < side[FAR].tail ? FAR : SIDES;
        if (which == SIDES) {
            if (poll(watched, 3, -1) < 0) fail("cannot wait");
            if (watched[2].revents && !report()) return 0;
            which = take(NEAR) ? NEAR : take(FAR) ? FAR : SIDES;
        }
        if (which != SIDES) frame(which);
    }
}
