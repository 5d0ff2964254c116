package storage

import "sync"

// flusher is the queue of partitions that have blocks to flush. Engine.runFlusher empties it.
type flusher struct {
	mu    sync.Mutex // guards queue
	queue []*Partition
	ready chan struct{} // holds a value while the queue may hold partitions
}

func newFlusher() *flusher { return &flusher{ready: make(chan struct{}, 1)} }

// put adds p. The caller has set p.queued.
func (f *flusher) put(p *Partition) {
	f.mu.Lock()
	f.queue = append(f.queue, p)
	f.mu.Unlock()
	f.signal()
}

func (f *flusher) signal() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// take removes the oldest partition, nil if there is none. If more wait it wakes another worker.
func (f *flusher) take() *Partition {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.queue = nil
		return nil
	}
	p := f.queue[0]
	f.queue[0] = nil
	f.queue = f.queue[1:]
	if len(f.queue) > 0 {
		f.signal()
	}
	return p
}
