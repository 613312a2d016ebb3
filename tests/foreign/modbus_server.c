/* A Modbus device of another make (libmodbus), for the tests of our driver.
 *
 * usage: modbus_server tcp PORT          on 127.0.0.1; PORT 0 takes a free one
 *        modbus_server rtu PATH BAUD UNIT
 *
 * Prints {"port": N} (0 for RTU) when it is ready, then one line of JSON for each write that it has executed:
 * {"write": N, "unit": U, "function": F, "address": A, "count": C}. Ends when its standard input closes.
 *
 * Holding and input registers 100-199, 200-299, 300-399 and 400-499 hold the same values, in that order with big bytes and big words, big bytes
 * and little words, little bytes and big words, little bytes and little words:
 *
 *   +0 int16 -12345    +4 int32 -123456789    +12 uint32 3123456789    +20 int64 -1234567890123456789    +32 float32 -1234.5
 *   +1 uint16 54321    +8 float32 1e-3        +16 uint64 12345678901234567890                            +36 float64 -98765.4321
 *   +2 bool 1          +3 float16 -1.5        +40 "blackmass 7" in 8 registers, ended by NUL              +34 uint32 43211234
 *
 * +34 is the identity. Input 1: writes executed so far. Holding 10-49: for writes, 0 at first.
 * Coils 0-99: 0 at first; discrete inputs 0-99: 1 where the address divides by 3. 600-619: refused with exception 2 although they lie inside
 * the map. 700 + N: exception N. Whatever else lies above 999 does not exist. */
#define _GNU_SOURCE
#include <errno.h>
#include <modbus.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

enum { LAST = 1000, CLIENTS = 16 };
enum order { ABCD, CDAB, BADC, DCBA };

static modbus_mapping_t *map;
static unsigned writes;

static void fail(const char *what) {
    fprintf(stderr, "modbus_server: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

/* Store the `words` of a number, the most significant first, in an order of bytes and words. */
static void put(uint16_t *at, int words, uint64_t bits, enum order order) {
    for (int word = 0; word < words; word++) {
        uint16_t one = (uint16_t)(bits >> (16 * (words - 1 - word)));
        if (order == BADC || order == DCBA) one = (uint16_t)(one << 8 | one >> 8);
        at[order == CDAB || order == DCBA ? words - 1 - word : word] = one;
    }
}

/* By hand, since libmodbus 3.1.6 stores the bytes of its modbus_set_float_abcd and the like in the order of the machine. */
static void put_float(uint16_t *at, float value, enum order order) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(at, 2, bits, order);
}

static void fill(uint16_t *table) {
    static const char text[16] = "blackmass 7";
    double wide = -98765.4321;
    uint64_t bits;
    memcpy(&bits, &wide, sizeof bits);
    for (int order = ABCD; order <= DCBA; order++) {
        uint16_t *at = table + 100 * (order + 1);
        put(at, 1, (uint16_t)-12345, order);
        put(at + 1, 1, 54321, order);
        put(at + 2, 1, 1, order);
        put(at + 3, 1, 0xBE00, order); /* IEEE 754 binary16: sign, exponent 15, fraction 1/2 */
        put(at + 4, 2, (uint32_t)-123456789, order);
        put_float(at + 8, 1e-3f, order);
        put(at + 12, 2, 3123456789u, order);
        put(at + 16, 4, 12345678901234567890u, order);
        put(at + 20, 4, (uint64_t)-1234567890123456789, order);
        put_float(at + 32, -1234.5f, order);
        put(at + 36, 4, bits, order);
        put(at + 34, 2, 43211234, order);
        for (int word = 0; word < 8; word++)
            put(at + 40 + word, 1, (uint64_t)(uint8_t)text[2 * word] << 8 | (uint8_t)text[2 * word + 1], order == BADC || order == DCBA ? BADC : ABCD);
    }
}

/* Return the exception that a request is to be refused with, or 0. `pdu` is its function code and what follows. */
static unsigned refusal(const uint8_t *pdu) {
    unsigned address = (unsigned)pdu[1] << 8 | pdu[2];
    unsigned count = pdu[0] == 5 || pdu[0] == 6 || pdu[0] == 22 ? 1 : (unsigned)pdu[3] << 8 | pdu[4];
    if (address < 620 && address + count > 600) return MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
    return address > 700 && address <= 711 ? address - 700 : 0;
}

static void answer(modbus_t *context, const uint8_t *request, int length) {
    const uint8_t *pdu = request + modbus_get_header_length(context);
    unsigned code = refusal(pdu);
    if (code) {
        modbus_reply_exception(context, request, code);
        return;
    }
    int is_write = pdu[0] == 5 || pdu[0] == 6 || pdu[0] == 15 || pdu[0] == 16 || pdu[0] == 22 || pdu[0] == 23;
    unsigned address = (unsigned)pdu[1] << 8 | pdu[2], count = pdu[0] == 15 || pdu[0] == 16 ? (unsigned)pdu[3] << 8 | pdu[4] : 1;
    if (is_write && address + count <= LAST) {
        map->tab_input_registers[1] = (uint16_t)++writes;
        printf("{\"write\": %u, \"unit\": %u, \"function\": %u, \"address\": %u, \"count\": %u}\n", writes, pdu[-1], pdu[0], address, count);
        fflush(stdout);
    }
    modbus_reply(context, request, length, map);
}

static void ready(int port) {
    printf("{\"port\": %d}\n", port);
    fflush(stdout);
}

static void serve_tcp(int port) {
    modbus_t *context = modbus_new_tcp("127.0.0.1", port);
    int listener = context ? modbus_tcp_listen(context, CLIENTS) : -1;
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&name, &size) < 0) fail("cannot listen");
    ready(ntohs(name.sin_port));
    struct pollfd watched[2 + CLIENTS] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    int used = 2;
    for (;;) {
        if (poll(watched, (nfds_t)used, -1) < 0) fail("cannot wait");
        if (watched[0].revents) return;
        for (int place = used - 1; place > 1; place--) {
            if (!watched[place].revents) continue;
            uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
            modbus_set_socket(context, watched[place].fd);
            int length = modbus_receive(context, request);
            if (length > 0) {
                answer(context, request, length);
            } else if (length < 0) {
                close(watched[place].fd);
                watched[place] = watched[--used];
            }
        }
        if (watched[1].revents) {
            int client = modbus_tcp_accept(context, &listener);
            if (client >= 0 && used < 2 + CLIENTS) {
                watched[used++] = (struct pollfd){.fd = client, .events = POLLIN};
            } else if (client >= 0) {
                close(client);
            }
        }
    }
}

static void serve_rtu(const char *path, int baud, int unit) {
    modbus_t *context = modbus_new_rtu(path, baud, 'N', 8, 1);
    if (!context || modbus_set_slave(context, unit) < 0 || modbus_connect(context) < 0) fail("cannot open the line");
    ready(0);
    struct pollfd watched[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = modbus_get_socket(context), .events = POLLIN}};
    for (;;) {
        if (poll(watched, 2, -1) < 0) fail("cannot wait");
        if (watched[0].revents) return;
        uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];
        int length = modbus_receive(context, request); /* 0: for another unit */
        if (length > 0) {
            answer(context, request, length);
        } else if (length < 0 && errno == EIO) {
            fail("the line is gone");
        }
    }
}

int main(int argc, char **argv) {
    if (!(argc == 3 && !strcmp(argv[1], "tcp")) && !(argc == 5 && !strcmp(argv[1], "rtu"))) {
        fprintf(stderr, "usage: modbus_server tcp PORT | rtu PATH BAUD UNIT\n");
        return 2;
    }
    map = modbus_mapping_new(LAST, LAST, LAST, LAST);
    if (!map) fail("no memory");
    fill(map->tab_registers);
    fill(map->tab_input_registers);
    for (int bit = 0; bit < 100; bit++) map->tab_input_bits[bit] = bit % 3 == 0;
    if (argc == 3) {
        serve_tcp(atoi(argv[2]));
    } else {
        serve_rtu(argv[2], atoi(argv[3]), atoi(argv[4]));
    }
    return 0;
}
