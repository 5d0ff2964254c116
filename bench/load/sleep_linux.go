package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep is exact to about 0.1 ms. Go's own timers may be a millisecond late on an idle machine, because its poller waits in whole
// milliseconds, and that lateness would count as the broker's.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early: the request is then sent a little before it is due
}
