/* Syncs of a process that do not return while the file that CHRONIK_HANG names is there, and that take 300 ms more while
 * the one that CHRONIK_SLOW names is. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *variable) {
    const char *path = getenv(variable);
    return path && access(path, F_OK) == 0;
}

static void pause_for(long ms) {
    struct timespec time = {0, ms * 1000000};
    nanosleep(&time, NULL);
}

static void hesitate(void) {
    while (is_there("CHRONIK_HANG"))
        pause_for(5);
    if (is_there("CHRONIK_SLOW"))
        pause_for(300);
}

int fdatasync(int fd) {
    hesitate();
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    hesitate();
    return syscall(SYS_fsync, fd);
}
