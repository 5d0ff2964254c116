package metadata

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdWatch is a Watch over one of etcd's.
type etcdWatch struct {
	store  *Etcd
	events clientv3.WatchChan
	done   chan struct{}
	close  func()
}

// Watch implements Store.
func (e *Etcd) Watch(prefix string, from int64) Watch {
	ctx, cancel := context.WithCancel(e.quit)
	w := &etcdWatch{store: e, done: make(chan struct{})}
	w.close = sync.OnceFunc(func() {
		cancel()
		close(w.done)
	})
	if e.usable() == nil {
		// Responses are not fragmented, so that each has whole revisions.
		w.events = e.client.Watch(ctx, etcdRoot+prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	}
	return w
}

// Next implements Watch.
func (w *etcdWatch) Next(ctx context.Context) (Events, error) {
	for {
		if err := w.usable(); err != nil {
			return Events{}, err
		}
		select {
		case res, ok := <-w.events:
			switch {
			case !ok:
				if err := w.usable(); err != nil {
					return Events{}, err
				}
				return Events{}, ErrClosed
			case res.CompactRevision != 0:
				return Events{}, ErrCompacted
			case res.Err() != nil:
				return Events{}, w.store.explain(ctx, res.Err())
			case len(res.Events) == 0: // progress
				continue
			}
			return convertEvents(res.Events), nil
		case <-w.done:
			return Events{}, ErrClosed
		case <-w.store.quit.Done():
			return Events{}, ErrClosed
		case <-w.store.alarm.failed:
			return Events{}, w.store.alarm.cause()
		case <-ctx.Done():
			return Events{}, context.Cause(ctx)
		}
	}
}

func (w *etcdWatch) usable() error {
	select {
	case <-w.done:
		return ErrClosed
	default:
		return w.store.usable()
	}
}

// Close implements Watch.
func (w *etcdWatch) Close() { w.close() }

func convertEvents(events []*clientv3.Event) Events {
	out := Events{Events: make([]Event, 0, len(events))}
	for _, ev := range events {
		kv := KV{Key: string(ev.Kv.Key[len(etcdRoot):]), ModRevision: ev.Kv.ModRevision}
		deleted := ev.Type == clientv3.EventTypeDelete
		if !deleted {
			kv.Value = ev.Kv.Value
		}
		out.Events = append(out.Events, Event{KV: kv, Deleted: deleted})
		out.Revision = kv.ModRevision
	}
	return out
}
