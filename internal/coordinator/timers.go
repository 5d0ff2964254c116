package coordinator

import (
	"container/heap"
	"time"
)

// timers is a queue of timers by time, then by the order in which they were set.
type timers struct {
	byName map[Timer]*timerEntry
	queue  timerHeap
	count  uint64
}

type timerEntry struct {
	timer Timer
	at    time.Time
	order uint64
	index int
}

func newTimers() *timers { return &timers{byName: map[Timer]*timerEntry{}} }

func (ts *timers) set(t Timer, at time.Time) {
	ts.count++
	if e, ok := ts.byName[t]; ok {
		e.at, e.order = at, ts.count
		heap.Fix(&ts.queue, e.index)
		return
	}
	e := &timerEntry{timer: t, at: at, order: ts.count}
	ts.byName[t] = e
	heap.Push(&ts.queue, e)
}

func (ts *timers) cancel(t Timer) {
	if e, ok := ts.byName[t]; ok {
		heap.Remove(&ts.queue, e.index)
		delete(ts.byName, t)
	}
}

// next is the time of the earliest timer.
func (ts *timers) next() (time.Time, bool) {
	if len(ts.queue) == 0 {
		return time.Time{}, false
	}
	return ts.queue[0].at, true
}

// elapsed takes out one timer whose time is not after now.
func (ts *timers) elapsed(now time.Time) (Timer, bool) {
	if len(ts.queue) == 0 || ts.queue[0].at.After(now) {
		return Timer{}, false
	}
	e := heap.Pop(&ts.queue).(*timerEntry)
	delete(ts.byName, e.timer)
	return e.timer, true
}

type timerHeap []*timerEntry

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	e := x.(*timerEntry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
