package wal

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// groupTakes is how long steadyDisk writes at each group.
const groupTakes = 100 * time.Microsecond

// steadyDisk is a disk that takes as long for each group, and no time to fill a new file.
type steadyDisk struct{ disk.FS }

func (d steadyDisk) OpenDirect(name string, o disk.DirectOptions) (disk.DirectFile, error) {
	f, err := d.FS.OpenDirect(name, o)
	return steadyFile{f}, err
}

type steadyFile struct{ disk.DirectFile }

func (f steadyFile) WriteAt(p []byte, off int64) (int, error) {
	if len(p) < fillBytes {
		time.Sleep(groupTakes)
	}
	return f.DirectFile.WriteAt(p, off)
}

// paced runs a load against a wal on such a disk. Time is simulated.
func paced(t *testing.T, load func(t *testing.T, l *Log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := smallConfig(steadyDisk{newFS(t)})
		cfg.MaxBytes, cfg.FileBytes, cfg.FirstFileBytes = 64<<20, 8<<20, 8<<20
		l := mustOpen(t, cfg, 0, nil)
		t.Cleanup(func() { mustClose(t, l) })
		load(t, l)
	})
}

// waited puts an entry and returns how long it took. What was written before is not needed any more.
func waited(t *testing.T, l *Log) time.Duration {
	t.Helper()
	begin := time.Now()
	seq := put(t, l, entryOf(0, "x"))
	took := time.Since(begin)
	if err := l.Release(seq - min(seq, 100)); err != nil {
		t.Error(err)
	}
	return took
}

// TestGroupsOfASteadyStreamAreFewer sends 4,000 entries a second, whether or not those before them were acknowledged.
func TestGroupsOfASteadyStreamAreFewer(t *testing.T) {
	t.Parallel()
	paced(t, func(t *testing.T, l *Log) {
		const each, all = 250 * time.Microsecond, 8000
		var mu sync.Mutex
		var latencies []time.Duration
		var sent sync.WaitGroup
		for n := range all {
			sent.Go(func() {
				time.Sleep(time.Duration(n%2) * each * 2 / 3) // some come while another is written
				took := waited(t, l)
				mu.Lock()
				latencies = append(latencies, took)
				mu.Unlock()
			})
			time.Sleep(each)
		}
		sent.Wait()
		if n := l.Stats().Groups; n > all*2/5 {
			t.Errorf("%d groups of %d entries", n, all)
		}
		if most := slices.Max(latencies); most > paceEvery+400*time.Microsecond {
			t.Errorf("an entry waited %v", most)
		}
	})
}

func TestALoneProducerMeetsNoPause(t *testing.T) {
	t.Parallel()
	paced(t, func(t *testing.T, l *Log) {
		late := 0
		for range 20_000 {
			if waited(t, l) > groupTakes {
				late++
			}
			time.Sleep(10 * time.Microsecond)
		}
		if late > 50 { // at the beginning of a file
			t.Errorf("%d entries waited", late)
		}
	})
}

// TestProducersThatWaitForAnswersAreNotSlowed has eight that send again 50 µs after each answer.
func TestProducersThatWaitForAnswersAreNotSlowed(t *testing.T) {
	t.Parallel()
	paced(t, func(t *testing.T, l *Log) {
		const producers, lasts = 8, 30 * time.Second
		var answers atomic.Int64
		var all sync.WaitGroup
		end := time.Now().Add(lasts)
		for range producers {
			all.Go(func() {
				for time.Now().Before(end) {
					waited(t, l)
					answers.Add(1)
					time.Sleep(50 * time.Microsecond)
				}
			})
		}
		all.Wait()
		// Each waits for the group that is written when its entry comes, and for its own.
		if least := int64(producers * lasts / (250 * time.Microsecond) * 97 / 100); answers.Load() < least {
			t.Errorf("%d answers, want %d", answers.Load(), least)
		}
	})
}

// TestPausesEndWithTheStream has a lone producer come after a stream that made the wal pause.
func TestPausesEndWithTheStream(t *testing.T) {
	t.Parallel()
	paced(t, func(t *testing.T, l *Log) {
		var sent sync.WaitGroup
		for range 4000 {
			sent.Go(func() { waited(t, l) })
			time.Sleep(80 * time.Microsecond)
		}
		sent.Wait()
		synctest.Wait()
		if !l.pacer.pausing {
			t.Fatal("the stream did not make the wal pause")
		}
		for begin := time.Now(); time.Since(begin) < 2*paceWindow; {
			waited(t, l)
		}
		if took := waited(t, l); took > groupTakes {
			t.Errorf("an entry waited %v", took)
		}
	})
}
