package cli

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Limits of the time lag's questions.
const (
	timeLagQuestions = 8  // at a time
	timeLagSkips     = 16 // batches without a record, such as transactions' ends, before one partition is given up
)

// addTimeLags asks for the first record that the group has not consumed, of each partition that has one. Its age is the time lag. One batch
// of each partition is fetched for it.
func (c *Client) addTimeLags(ctx context.Context, d *groupDetail) error {
	names := []string{}
	for _, p := range d.Partitions {
		if p.Lag > 0 {
			names = append(names, p.Topic)
		}
	}
	zero := 0.0
	d.TimeLag = &zero
	if len(names) > 0 {
		topics, err := c.admin.ListTopicsWithInternal(ctx, names...)
		if err != nil {
			return err
		}
		now := time.Now()
		var g errgroup.Group
		g.SetLimit(timeLagQuestions)
		for i := range d.Partitions {
			p := &d.Partitions[i]
			if p.Lag <= 0 {
				continue
			}
			g.Go(func() error {
				p.TimeLag = c.timeLag(ctx, topics[p.Topic], p, now)
				return nil
			})
		}
		_ = g.Wait()
	}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if p.Lag == 0 {
			p.TimeLag = &zero
		}
		switch {
		case p.TimeLag == nil:
			d.TimeLag = nil
		case d.TimeLag != nil && *p.TimeLag > *d.TimeLag:
			d.TimeLag = p.TimeLag
		}
	}
	return nil
}

// timeLag returns the age in seconds of the first record at or behind p.next, nil if it cannot be had.
func (c *Client) timeLag(ctx context.Context, topic kadm.TopicDetail, p *groupPartition, now time.Time) *float64 {
	offset := p.next
	for range timeLagSkips {
		fetched, next, err := c.fetchOnce(ctx, topic, p.Partition, offset, 1, kgo.ReadUncommitted())
		if err != nil {
			return nil // the lag in records is worth showing without the time
		}
		for _, r := range fetched.Records {
			if !r.Attrs.IsControl() {
				age := max(0, now.Sub(r.Timestamp).Seconds())
				return &age
			}
		}
		if next <= offset || next >= p.End {
			return nil
		}
		offset = next
	}
	return nil
}
