package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/bench/load"
	"github.com/ottlaio/ottla/bench/report"
)

// settleLoad is a group that settles.
type settleLoad struct {
	name     string
	consumer bool // the protocol of KIP-848
	members  int
}

var settleLoads = []settleLoad{
	{"settle-classic-100", false, 100}, {"settle-classic-1000", false, 1000},
	{"settle-consumer-100", true, 100}, {"settle-consumer-1000", true, 1000},
}

const (
	settlePartitions = 1000 // of the topic that the group reads
	settleLeaves     = 9    // members that leave, one after the other; the median counts
)

// runSettle has a group settle after its members have joined, and after one has left.
func runSettle(ctx context.Context, r *sideRun, l settleLoad) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	all, err := r.topic(ctx, settlePartitions)
	if err != nil {
		return err
	}
	s := load.Settle{
		Topic: all[0].Topic, Partitions: len(all), Group: "warm-up", Members: l.members, Consumer: l.consumer, Leaves: settleLeaves,
	}
	if _, err := s.Run(ctx, r.broker.Addr); err != nil { // a JVM compiles what it runs often
		return err
	}
	s.Group = "bench"
	done, err := s.Run(ctx, r.broker.Addr)
	if err != nil {
		return err
	}
	var left []float64
	for _, d := range done.Left {
		left = append(left, d.Seconds()*1e3)
	}
	r.put(l.name+"-join", done.Joined.Seconds()*1e3)
	r.put(l.name+"-leave", report.SpreadOf(left).Median)
	r.phase("joined %v, left %v", done.Joined.Round(time.Millisecond), fmt.Sprintf("%.0f ms", left))
	return nil
}
