package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

const (
	shareMembers = 4
	sharePoll    = 500 // max.poll.records, as shipped
)

// runShare has one share group after the other read a topic that was written before, each all of it.
func runShare(ctx context.Context, r *sideRun) error {
	all, err := r.startWithTopic(ctx, 12)
	if err != nil {
		return err
	}
	read := func(group string) (load.Shared, error) {
		return load.Share{Partitions: all, Group: group, Members: shareMembers, MaxRecords: sharePoll}.Run(ctx, r.broker.Addr)
	}
	if _, err := read("warm-up"); err != nil { // a JVM compiles what it runs often
		return err
	}
	var total load.Shared
	u, err := r.measure(func() error {
		for i := 0; total.Took < r.length(); i++ {
			got, err := read(fmt.Sprintf("bench-%d", i))
			if err != nil {
				return err
			}
			total.Records += got.Records
			total.Bytes += got.Bytes
			total.Took += got.Took
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.put("share-mbps", total.MBps())
	r.putCPU("share-cpu", u, total.Bytes)
	r.phase("%.0f MB/s, %.0f records/s in %v", total.MBps(), float64(total.Records)/total.Took.Seconds(), total.Took.Round(time.Millisecond))
	return nil
}
