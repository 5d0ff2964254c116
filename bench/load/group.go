package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kinds of coordinators, as FindCoordinator names them.
const (
	groupCoordinator = 0
	txnCoordinator   = 1
)

// waitCoordinator returns when the group or transactional id has a coordinator that knows it, for which a broker may have to make its
// internal topic, and load it.
func waitCoordinator(ctx context.Context, addr string, kind int8, id string) error {
	for {
		err := findCoordinator(ctx, addr, kind, id)
		if err == nil && kind == groupCoordinator {
			err = askCoordinator(ctx, addr, id)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !kerr.IsRetriable(err) {
			return errors.Join(context.Cause(ctx), fmt.Errorf("coordinator of %s: %w", id, err))
		}
		time.Sleep(retryEvery)
	}
}

func findCoordinator(ctx context.Context, addr string, kind int8, id string) error {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorType, req.CoordinatorKeys = 4, kind, []string{id}
	var resp kmsg.FindCoordinatorResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if len(resp.Coordinators) != 1 {
		return errAnswer
	}
	return kerr.ErrorForCode(resp.Coordinators[0].ErrorCode)
}

// askCoordinator asks about a group that need not exist.
func askCoordinator(ctx context.Context, addr, group string) error {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 5, []string{group}
	var resp kmsg.DescribeGroupsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if len(resp.Groups) != 1 {
		return errAnswer
	}
	return kerr.ErrorForCode(resp.Groups[0].ErrorCode)
}

// commit commits offsets as a consumer without members does.
func commit(conn net.Conn, answers *answers, group string, next map[Partition]int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	topics := map[string]int{}
	for p, offset := range next {
		i, ok := topics[p.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.Topic] = i
			topic := kmsg.NewOffsetCommitRequestTopic()
			topic.Topic = p.Topic
			req.Topics = append(req.Topics, topic)
		}
		partition := kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Partition, partition.Offset, partition.LeaderEpoch = p.Index, offset, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, partition)
	}
	if _, err := conn.Write(frame(req)); err != nil {
		return err
	}
	body, err := answers.next(true)
	if err != nil {
		return err
	}
	var resp kmsg.OffsetCommitResponse
	resp.Version = req.Version
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			// What may be tried again is: the next commit holds more than this one.
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !kerr.IsRetriable(err) {
				return fmt.Errorf("commit %s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
