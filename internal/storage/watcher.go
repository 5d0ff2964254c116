package storage

import "sync"

// Watcher is signalled when a watched partition has new records below its high watermark, once per commit group. It is also
// signalled when one is deleted and when the engine fails or closes.
// Watch, Unwatch and Close are safe for concurrent use.
type Watcher struct {
	c    chan struct{}
	wake uint64 // Engine.wake when it was last signalled; guarded by Engine.wakeMu

	mu         sync.Mutex // guards partitions; taken before Partition.mu
	partitions map[*Partition]struct{}
}

// NewWatcher returns a watcher of no partitions.
func NewWatcher() *Watcher {
	return &Watcher{c: make(chan struct{}, 1), partitions: make(map[*Partition]struct{})}
}

// Watch adds a partition.
func (w *Watcher) Watch(p *Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partitions[p] = struct{}{}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = make(map[*Watcher]struct{})
	}
	p.watchers[w] = struct{}{}
}

// Unwatch removes a partition.
func (w *Watcher) Unwatch(p *Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.partitions, p)
	p.unwatch(w)
}

func (p *Partition) unwatch(w *Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w) // the empty map stays: who has read a partition reads it again
}

// C receives a value after watched partitions moved. Signals are merged: look at every partition after each.
func (w *Watcher) C() <-chan struct{} { return w.c }

// Close unwatches everything. The watcher may be used again; a signal from before may still come then.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.partitions {
		p.unwatch(w)
	}
	clear(w.partitions)
}

// signal leaves a value in the channel if there is none.
func (w *Watcher) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
