package server

import (
	"context"
	"time"

	"github.com/ottlaio/ottla/internal/storage"
)

const (
	// scrubMinPace is the least that a scrub reads in a second, so that a small log is checked in a moment and not over a week.
	scrubMinPace = 1 << 20
	// scrubFirst is how long a broker runs before its first scrub: a start has better things to do.
	scrubFirst = 10 * time.Minute
	// scrubShare of the interval is what a pass is meant to take, so that it is done before the next is due.
	scrubShare = 0.8
)

// scrub checks the logs over and over, once in each interval, at the pace that this takes. What it finds the engine logs and remembers.
func (s *Server) scrub(ctx context.Context) {
	for wait := min(scrubFirst, s.cfg.ScrubInterval); ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		found, err := s.scrubOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.logger.Warn("a scrub ended early", "err", err)
		case found > 0:
			s.logger.Warn("a scrub has found damage", "ranges", found, "took", time.Since(began).Round(time.Second))
		default:
			s.logger.Info("a scrub has found no damage", "took", time.Since(began).Round(time.Second))
		}
		wait = max(time.Until(began.Add(s.cfg.ScrubInterval)), time.Minute)
	}
}

// scrubOnce checks everything once and returns how many damaged ranges it has found.
func (s *Server) scrubOnce(ctx context.Context) (found int, err error) {
	err = s.engine.Scrub(ctx, storage.ScrubOptions{
		BytesPerSecond: s.scrubPace(),
		Report: func(d storage.Damage) {
			if !d.Mended && !d.SetAside {
				found++
			}
		},
	})
	if err != nil {
		return found, err
	}
	snapshots := s.snapshots()
	err = snapshots.Verify(func(path string, reason error) error {
		s.logger.Warn("a snapshot of the coordinator's state is damaged; the log will be read instead", "file", path, "err", reason)
		return nil
	})
	return found, err
}

// scrubPace is how many bytes a second bring a pass to its end in time, within limits.
func (s *Server) scrubPace() int64 {
	var total int64
	for p := range s.engine.Partitions() {
		total += p.SizeBytes()
	}
	need := float64(total) / (scrubShare * s.cfg.ScrubInterval.Seconds())
	return min(max(int64(need), scrubMinPace), s.cfg.ScrubBytesPerSecond)
}
