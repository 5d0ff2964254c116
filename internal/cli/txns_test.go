package cli_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/cli"
)

func TestTransactionsAreListedDescribedAndAborted(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("txn-verbs", 1)
	producer, err := kgo.NewClient(kgo.SeedBrokers(server), kgo.TransactionalID("verbs"), kgo.DefaultProduceTopic("txn-verbs"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(t.Context(), kgo.StringRecord("pending")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	list := func(states ...string) string {
		return s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListTxns(ctx, states, "") })
	}
	describe := func() string {
		return s.must("", func(ctx context.Context, c *cli.Client) error { return c.DescribeTxns(ctx, []string{"verbs"}, "") })
	}
	if out := list("Ongoing"); !strings.Contains(out, "verbs") {
		t.Errorf("open transactions:\n%s", out)
	}
	if out := describe(); !strings.Contains(out, "Ongoing") || !strings.Contains(out, "txn-verbs:0") {
		t.Errorf("described:\n%s", out)
	}
	abort := func(id string, yes bool) error {
		return s.run("", func(ctx context.Context, c *cli.Client) error { return c.AbortTxns(ctx, []string{id}, yes) })
	}
	if err := abort("verbs", false); err == nil {
		t.Error("aborted without a yes")
	}
	if err := abort("nobody", true); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("abort of an unknown id: %v", err)
	}
	if err := abort("verbs", true); err != nil {
		t.Fatal(err)
	}
	if out := describe(); strings.Contains(out, "Ongoing") || strings.Contains(out, "txn-verbs") {
		t.Errorf("described after the abort:\n%s", out)
	}
	if out := list("Ongoing"); strings.Contains(out, "verbs") {
		t.Errorf("open transactions after the abort:\n%s", out)
	}
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
		t.Errorf("the fenced producer could commit: %v", err)
	}
}
