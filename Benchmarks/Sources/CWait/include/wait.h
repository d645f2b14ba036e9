#ifndef LOAD_WAIT_H
#define LOAD_WAIT_H

#include <poll.h>

/// poll(2) with a time limit in nanoseconds. Where the system has no ppoll, the limit is cut to whole
/// milliseconds, and the caller comes back and polls until the rest is over.
int load_wait(struct pollfd *polled, unsigned long count, long long nanoseconds);

/// Lets sleeps of this thread end within a microsecond; Linux may otherwise add 50.
void load_use_fine_timers(void);

#endif
