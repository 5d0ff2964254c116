package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/ottlaio/ottla/internal/base"
)

// Pruner is a Log whose beginning can be deleted.
type Pruner interface {
	Log
	// Prune deletes what lies before an offset that is not above the durable end. It returns when that is durable.
	Prune(ctx context.Context, before base.Offset) error
}

// Prune deletes from the log of each partition that holds state what needed says is not needed to load it again: what lies before the
// offset that it returns, at most end, which is behind the last record. All that the state rests on is durable before that. It is for
// topics that are not compacted, where later records stand for earlier ones.
func Prune[M Machine](ctx context.Context, r *Runtime[M], needed func(m M, end base.Offset) base.Offset) error {
	var problems []error
	for _, c := range SubmitAll(r, func(m M, fx *Effects, c *Call[partitionEnd]) {
		c.Answer(fx, partitionEnd{fx.partition, needed(m, fx.next)})
	}) {
		from, err := c.Wait(ctx)
		if err != nil {
			continue // it is not led here, or cannot be loaded, which has been logged
		}
		log, err := r.cfg.Topic.Log(from.partition)
		if err != nil {
			continue
		}
		pruner, ok := log.(Pruner)
		if start, _ := log.Offsets(); !ok || from.offset <= start {
			continue
		}
		if err := pruner.Prune(ctx, from.offset); err != nil {
			problems = append(problems, fmt.Errorf("partition %d: %w", from.partition, err))
		}
	}
	return errors.Join(problems...)
}
