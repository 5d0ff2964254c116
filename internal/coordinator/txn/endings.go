package txn

import (
	"context"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

const (
	// markerWriters is how many transactions are ended at a time.
	markerWriters = 8
	// markerBackoff is the pause before markers that could not be written are tried again.
	markerBackoff = 100 * time.Millisecond
	// tellBackoff is the pause before a machine is told again that markers are written, where its state was given up meanwhile.
	tellBackoff = time.Second
)

// endings is the transactions whose markers are to be written. There is one for each transactional id at most, so their number is bounded
// by that of the ids.
type endings struct {
	ready chan struct{} // holds a value when queue may not be empty

	mu    sync.Mutex // guards the fields below
	queue []Ending
	known map[string]struct{} // transactional ids whose ending is not recorded as complete yet
}

func (e *endings) init() {
	e.ready = make(chan struct{}, 1)
	e.known = make(map[string]struct{})
}

// add queues an ending, unless its transactional id has one already: then it is the same, which a state that was loaded anew repeats.
func (e *endings) add(ending Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, queued := e.known[ending.TransactionalID]; queued && !plant.On(plant.EndedTwice) {
		return
	}
	e.known[ending.TransactionalID] = struct{}{}
	e.putLocked(ending)
}

// again queues an ending that could not be carried out.
func (e *endings) again(ending Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.putLocked(ending)
}

func (e *endings) putLocked(ending Ending) {
	e.queue = append(e.queue, ending)
	e.signal()
}

func (e *endings) signal() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

func (e *endings) take() (Ending, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return Ending{}, false
	}
	first := e.queue[0]
	e.queue = e.queue[1:]
	if len(e.queue) > 0 {
		e.signal() // another writer may take the next
	}
	return first, true
}

// done forgets an ending that is recorded as complete, before its transactional id can have the next one. Until then it must not be added
// again: without KIP-890 markers that come late end the next transaction.
func (e *endings) done(ending Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, ending.TransactionalID)
}

// writeMarkers carries endings out until ctx ends.
func (s *Service) writeMarkers(ctx context.Context) {
	for {
		ending, ok := s.endings.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-s.endings.ready:
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.carryOut(ctx, ending)
	}
}

// carryOut writes the markers of one transaction and tells its machine. What fails is tried again later.
func (s *Service) carryOut(ctx context.Context, ending Ending) {
	marker := ending.Marker
	if plant.On(plant.MarkerOfFormerEpoch) && marker.TransactionVersion >= epochBumps {
		marker.ProducerEpoch--
	}
	for i, p := range ending.Partitions {
		if err := s.deps.Markers.WriteMarker(ctx, p, marker); err != nil && !plant.On(plant.MarkerGivenUp) {
			if ctx.Err() == nil {
				s.deps.Logger.Warn("a transaction marker could not be written; it is tried again",
					"transactional_id", ending.TransactionalID, "topic", p.Topic, "partition", p.Partition, "err", err)
				ending.Partitions = ending.Partitions[i:]
				time.AfterFunc(markerBackoff, func() { s.endings.again(ending) })
			}
			return
		}
	}
	ended := submit(s, ending.TransactionalID, func(m *Machine, fx *coordinator.Effects) struct{} {
		m.Ended(fx, ending)
		fx.After(func() { s.endings.done(ending) }) // not before: a state that is loaded for this very event would have it carried out again
		return struct{}{}
	})
	if _, err := ended.Applied(ctx); err != nil && ctx.Err() == nil {
		ending.Partitions = nil
		time.AfterFunc(tellBackoff, func() { s.endings.again(ending) })
	}
}
