package wal

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFullDiskIsLoggedOnce keeps a disk full for a while: the log says so once, and once more when it is full again later.
func TestFullDiskIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fs := newFS(t)
		cfg := smallConfig(fs)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		fs.SetCapacity(3*minFileBytes + 5*minBlockBytes)
		l := mustOpen(t, cfg, 0, nil)
		stayFull := func(logged int) {
			t.Helper()
			for fulls := 0; fulls < 5; {
				_, err := tryPut(t.Context(), l, entryOf(0, "more"))
				switch {
				case errors.Is(err, ErrFull):
					fulls++
					time.Sleep(2 * noSpaceRetry) // the keeper tries again
				case err != nil:
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if n := strings.Count(log.String(), "no room for the next wal file"); n != logged {
				t.Fatalf("logged %d times, want %d:\n%s", n, logged, log.String())
			}
		}
		stayFull(1)
		fs.SetCapacity(5*minFileBytes + 5*minBlockBytes)
		time.Sleep(2 * noSpaceRetry)
		stayFull(2)
		mustClose(t, l)
	})
}
