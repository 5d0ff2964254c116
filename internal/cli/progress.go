package cli

import (
	"fmt"
	"time"
)

// progressInterval is how often the display is drawn; input that is done before the first drawing shows none.
const progressInterval = 500 * time.Millisecond

// progress draws one line on the terminal while producing.
type progress struct {
	quit, ended chan struct{}
}

// startProgress draws p's progress from a goroutine until stop.
func startProgress(p *producing, began time.Time) *progress {
	if !p.ErrTerminal || p.o.Quiet {
		return nil
	}
	g := &progress{quit: make(chan struct{}), ended: make(chan struct{})}
	total := p.inputSize()
	go func() {
		defer close(g.ended)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		drawn := false
		for {
			select {
			case <-g.quit:
				if drawn {
					fmt.Fprint(p.Err, "\r\x1b[K") // the summary takes the line's place
				}
				return
			case now := <-tick.C:
				drawn = true
				fmt.Fprint(p.Err, "\r\x1b[K", progressText(p.records.Load(), p.bytes.Load(), total, now.Sub(began)))
			}
		}
	}()
	return g
}

// stop ends the drawing. It may be called on nil.
func (g *progress) stop() {
	if g == nil {
		return
	}
	close(g.quit)
	<-g.ended
}

// progressText is the line: how much is acknowledged, how fast, and how long it will take if the input's size is known. The size of
// the input counts its line ends too, one for each record.
func progressText(records, bytes, total int64, took time.Duration) string {
	seconds := max(took.Seconds(), 1e-3)
	text := fmt.Sprintf("%s records  %s  %.1f MB/s  %s records/s", countText(records), bytesText(bytes), float64(bytes)/1e6/seconds,
		countText(int64(float64(records)/seconds)))
	if done := bytes + records; total > 0 && done > 0 {
		left := time.Duration(float64(max(0, total-done)) / float64(done) * float64(took))
		text = fmt.Sprintf("%3.0f%%  %s  ETA %s", min(100, float64(done)*100/float64(total)), text, left.Round(time.Second))
	}
	return text
}
