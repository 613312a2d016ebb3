/* A Modbus client in C (libmodbus), to be measured against: N reads of 125 input registers, each turned into 62 float32 and checked.
 *
 * usage: modbus_client tcp PORT UNIT REQUESTS
 *        modbus_client rtu PATH BAUD UNIT REQUESTS
 *
 * Reads what modbus_source serves and prints {"requests": N, "cpu_s": user and system, "wall_s": S}. */
#define _GNU_SOURCE
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { REGISTERS = 125, FLOATS = 62 };

static void fail(const char *what) {
    fprintf(stderr, "modbus_client: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int argc, char **argv) {
    int serial = argc == 6 && !strcmp(argv[1], "rtu");
    if (!serial && !(argc == 5 && !strcmp(argv[1], "tcp"))) {
        fprintf(stderr, "usage: modbus_client tcp PORT UNIT REQUESTS | rtu PATH BAUD UNIT REQUESTS\n");
        return 2;
    }
    int unit = atoi(argv[argc - 2]), requests = atoi(argv[argc - 1]);
    modbus_t *context = serial ? modbus_new_rtu(argv[2], atoi(argv[3]), 'N', 8, 1) : modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    if (!context || modbus_set_slave(context, unit) < 0 || modbus_connect(context) < 0) fail("cannot connect");
    modbus_set_response_timeout(context, 2, 0);
    uint16_t registers[REGISTERS];
    float values[FLOATS];
    double cpu_before = cpu(), begun = now();
    for (int request = 0; request < requests; request++) {
        if (modbus_read_input_registers(context, 0, REGISTERS, registers) != REGISTERS) fail("a read failed");
        for (int place = 0; place < FLOATS; place++) {
            uint32_t bits = (uint32_t)registers[2 * place] << 16 | registers[2 * place + 1];
            memcpy(&values[place], &bits, sizeof bits);
        }
        if (values[0] != 0.25f || values[FLOATS - 1] != FLOATS - 1 + 0.25f) fail("a value is wrong");
    }
    printf("{\"requests\": %d, \"cpu_s\": %.6f, \"wall_s\": %.6f}\n", requests, cpu() - cpu_before, now() - begun);
    modbus_close(context);
    modbus_free(context);
    return 0;
}
