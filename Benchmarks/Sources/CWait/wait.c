// ppoll and prctl are not among what Swift's Glibc module shows.
#define _GNU_SOURCE
#include "wait.h"

#ifdef __linux__
#include <sys/prctl.h>
#include <time.h>

int load_wait(struct pollfd *polled, unsigned long count, long long nanoseconds) {
  struct timespec limit = {nanoseconds / 1000000000, nanoseconds % 1000000000};
  return ppoll(polled, count, &limit, 0);
}

void load_use_fine_timers(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }
#else
int load_wait(struct pollfd *polled, unsigned long count, long long nanoseconds) {
  return poll(polled, (nfds_t)count, (int)(nanoseconds / 1000000));
}

void load_use_fine_timers(void) {}
#endif
