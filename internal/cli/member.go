package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// readGroup reads as a member of a group and commits what was written.
func (r *consuming) readGroup(ctx context.Context) error {
	var err error
	r.client, err = r.another(append(r.fetchOptions(),
		kgo.ConsumerGroup(r.o.Group),
		kgo.ConsumeTopics(r.o.Topics...),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(),
		kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(r.startPositions),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) { r.assign(assigned) }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
			if err := client.CommitMarkedOffsets(ctx); err != nil {
				fmt.Fprintf(r.Err, "ottla: commit before a rebalance: %v\n", err)
			}
			r.unassign(revoked)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { r.unassign(lost) }),
	)...)
	if err != nil {
		return err
	}
	err = r.loop(ctx, func() error {
		if err := r.out.flush(); err != nil {
			return err
		}
		r.client.MarkCommitRecords(r.out.marked()...)
		return nil
	})
	r.mu.Lock()
	idle := len(r.position) == 0
	r.mu.Unlock()
	// Even a reader that was interrupted, or whose output is gone, has read what it has written.
	leaving, done := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer done()
	if commitErr := r.client.CommitMarkedOffsets(leaving); commitErr != nil && context.Cause(ctx) == nil {
		err = errors.Join(err, &Error{Message: "the last offsets were not committed: the group will read some records again", Err: commitErr})
	}
	r.client.AllowRebalance()
	r.client.CloseAllowingRebalance()
	if err == nil && r.written == 0 && idle && ctx.Err() == nil {
		fmt.Fprintf(r.Err, "ottla: group %s has given this member no partition: others read them all; see `ottla group describe %[1]s`\n", r.o.Group)
	}
	return err
}

// startPositions puts a partition without a committed offset where --offset says, and learns the positions of the others.
func (r *consuming) startPositions(_ context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	const atStart = -2
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, partitions := range fetched {
		for partition, offset := range partitions {
			at := offset.EpochOffset().Offset
			if begin, ok := r.begin[topic][partition]; ok && at == atStart {
				at = begin
				partitions[partition] = kgo.NewOffset().At(begin)
			}
			r.position.set(topic, partition, max(at, r.within[topic][partition].start))
		}
	}
	r.adjusted = true
	return fetched, nil
}

func (r *consuming) assign(assigned map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = true
	// Positions are known only when the committed offsets were fetched, which happens next if there is anything to fetch.
	r.adjusted = true
	for _, partitions := range assigned {
		r.adjusted = r.adjusted && len(partitions) == 0
	}
}

func (r *consuming) unassign(revoked map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, partitions := range revoked {
		for _, partition := range partitions {
			delete(r.position[topic], partition)
		}
		if len(r.position[topic]) == 0 {
			delete(r.position, topic)
		}
	}
}
