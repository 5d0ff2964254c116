package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies counts durations with three digits that matter, from a microsecond to ten minutes; longer ones count as ten minutes.
// It is not safe for concurrent use: each connection has its own, and Add puts them together.
type Latencies struct{ h *hdrhistogram.Histogram }

const longest = 10 * time.Minute

// NewLatencies returns an empty one.
func NewLatencies() *Latencies {
	return &Latencies{hdrhistogram.New(1, longest.Microseconds(), 3)}
}

// Record counts one duration.
func (l *Latencies) Record(d time.Duration) {
	_ = l.h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds()) // in range, so never an error
}

// Add counts everything that other has counted.
func (l *Latencies) Add(other *Latencies) { l.h.Merge(other.h) }

// Count is how many durations were recorded.
func (l *Latencies) Count() int64 { return l.h.TotalCount() }

// Quantile returns the duration that a share of q of all are not above, in milliseconds.
func (l *Latencies) Quantile(q float64) float64 { return float64(l.h.ValueAtQuantile(q*100)) / 1e3 }
