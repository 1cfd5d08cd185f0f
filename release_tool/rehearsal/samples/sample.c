/*
 * The sample executable of the rehearsal: a real Mach-O file that answers --version and serves
 * nothing. Built twice, as `darkbloom` and as `darkbloom-enclave` (-DSAMPLE_NAME=...).
 *
 * The version stands in a field of fixed width, so that the rehearsal's build step can write it
 * into a copy without a compiler: RECORD_MARK, then a field that is NUL-terminated and padded.
 */
#include <stdio.h>
#include <string.h>

#ifndef SAMPLE_NAME
#define SAMPLE_NAME "darkbloom"
#endif

struct record {
    char mark[24];
    char version[64];
    char commit_mark[24];
    char commit[48];
};

/* volatile: the compiler must read the bytes that stand in the file. */
__attribute__((used, section("__TEXT,__const")))
static const volatile struct record record = {
    "sample-record:version",
    "0.0.0-unset",
    "sample-record:commit",
    "unknown",
};

int main(int count, char **arguments) {
    char version[sizeof record.version];
    for (size_t i = 0; i < sizeof version; i++) version[i] = record.version[i];
    version[sizeof version - 1] = 0;
    if (count == 2 && strcmp(arguments[1], "--version") == 0) {
        puts(version);
        return 0;
    }
    fprintf(stderr, "%s %s is a sample executable of the rehearsal: it serves no model\n",
            SAMPLE_NAME, version);
    return count > 1 && strcmp(arguments[1], "start") == 0 ? 1 : 64;
}
