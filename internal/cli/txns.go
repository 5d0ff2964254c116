package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnRow is a transactional id in `txn list`, and with the rest set in `txn describe`.
type txnRow struct {
	ID          string   `json:"transactional_id"`
	State       string   `json:"state"`
	ProducerID  int64    `json:"producer_id"`
	Coordinator int32    `json:"coordinator"`
	Epoch       *int16   `json:"producer_epoch,omitempty"`
	TimeoutMs   *int32   `json:"timeout_ms,omitempty"`
	OpenSeconds *float64 `json:"open_seconds,omitempty"` // since the transaction began, while one is open
	Partitions  []string `json:"partitions,omitempty"`   // of the open transaction
}

// openState is Kafka's name of the state of a transaction that is neither committed nor aborted.
const openState = "Ongoing"

// ListTxns writes what transactional ids there are, in the named states only where some are given.
func (c *Client) ListTxns(ctx context.Context, states []string, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	listed, err := c.admin.ListTransactions(ctx, nil, states)
	if err != nil {
		return err
	}
	rows := []txnRow{}
	for _, l := range listed.Sorted() {
		rows = append(rows, txnRow{ID: l.TxnID, State: l.State, ProducerID: l.ProducerID, Coordinator: l.Coordinator})
	}
	return c.print(format, rows, func(w io.Writer) error {
		if len(rows) == 0 {
			fmt.Fprintln(c.Err, "no transactional ids; a producer that is given one makes it known")
			return nil
		}
		t := newTable("TRANSACTIONAL-ID", "STATE", ">PRODUCER-ID", ">COORDINATOR")
		for _, r := range rows {
			t.add(r.ID, r.State, r.ProducerID, r.Coordinator)
		}
		return t.write(w)
	})
}

// TxnNames returns the transactional ids, sorted.
func (c *Client) TxnNames(ctx context.Context) ([]string, error) {
	listed, err := c.admin.ListTransactions(ctx, nil, nil)
	return listed.TransactionalIDs(), err
}

// DescribeTxns writes the state of transactional ids, or of all.
func (c *Client) DescribeTxns(ctx context.Context, ids []string, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	if len(ids) == 0 {
		var err error
		if ids, err = c.TxnNames(ctx); err != nil {
			return err
		}
	}
	rows := []txnRow{}
	var failed []error
	if len(ids) > 0 {
		described, err := c.admin.DescribeTransactions(ctx, ids...)
		if err != nil {
			return err
		}
		for _, d := range described.Sorted() {
			if d.Err != nil {
				failed = append(failed, refused("transactional id "+d.TxnID, d.Err, ""))
				continue
			}
			r := txnRow{ID: d.TxnID, State: d.State, ProducerID: d.ProducerID, Coordinator: d.Coordinator, Epoch: &d.ProducerEpoch, TimeoutMs: &d.TimeoutMillis}
			if d.State == openState {
				open := time.Since(time.UnixMilli(d.StartTimestamp)).Seconds()
				r.OpenSeconds = &open
			}
			for _, t := range d.Topics.Sorted() {
				r.Partitions = append(r.Partitions, fmt.Sprintf("%s:%s", t.Topic, idsText(t.Partitions)))
			}
			rows = append(rows, r)
		}
	}
	err := c.print(format, rows, func(w io.Writer) error {
		if len(rows) == 0 {
			return nil
		}
		t := newTable("TRANSACTIONAL-ID", "STATE", ">PRODUCER-ID", ">EPOCH", ">TIMEOUT", ">OPEN-FOR", "PARTITIONS")
		for _, r := range rows {
			open := ""
			if r.OpenSeconds != nil {
				open = secondsText(r.OpenSeconds)
			}
			t.add(r.ID, r.State, r.ProducerID, *r.Epoch, time.Duration(*r.TimeoutMs)*time.Millisecond, open, strings.Join(r.Partitions, " "))
		}
		return t.write(w)
	})
	return errors.Join(append(failed, err)...)
}

// AbortTxns aborts what transactional ids have open and fences their producers, after asking. It is what a new producer with the same id does.
func (c *Client) AbortTxns(ctx context.Context, ids []string, yes bool) error {
	if err := c.confirm(yes, fmt.Sprintf("Abort the transactions of %s on %s and fence their producers?", strings.Join(ids, ", "), c.servers())); err != nil {
		return err
	}
	ctx, done := c.bounded(ctx)
	defer done()
	described, err := c.admin.DescribeTransactions(ctx, ids...)
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		err := described[id].Err // who does not exist is not to be made by this
		if err == nil {
			err = c.fence(ctx, id, described[id].TimeoutMillis)
		}
		if err != nil {
			failed = append(failed, refused("transactional id "+id, err, ""))
			continue
		}
		fmt.Fprintf(c.Out, "fenced %s; nothing of it is open\n", id)
	}
	return errors.Join(failed...)
}

// fencePause is the pause before the coordinator is asked again whether the transaction has ended.
const fencePause = 20 * time.Millisecond

// fence takes the producer id's next epoch, for which the coordinator first ends what is open.
func (c *Client) fence(ctx context.Context, id string, timeoutMillis int32) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, timeoutMillis
	for {
		resp, err := req.RequestWith(ctx, c.base)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		pause := time.NewTimer(fencePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}
