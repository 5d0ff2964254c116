/* What rdkafka_performance.c takes from librdkafka's private headers, so that it can be built against an installed library. */
#ifndef RD_H
#define RD_H
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef int64_t rd_ts_t; /* microseconds */

#define RD_UNUSED __attribute__((unused))
#define RD_FORMAT(...) __attribute__((format(__VA_ARGS__)))
#define RD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define rd_snprintf snprintf
#define rd_strdup strdup

static inline rd_ts_t RD_UNUSED rd_clock(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (rd_ts_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
#endif
