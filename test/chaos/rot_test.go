package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/proof"
)

const (
	rotTopics  = 3
	rotRecords = 150  // of each topic
	rotBytes   = 8000 // of each record
)

// TestABitRotsUnderTheRealBinary flips one bit of one file of a data folder, or cuts or zeroes a part of it, starts the broker on it, and asks for
// everything as a client: records, topics, settings, committed offsets. What is not as it was must have been named: by a refusal to
// start, by an error to the client, or in the broker's log. No other record, setting or offset is ever given out.
func TestABitRotsUnderTheRealBinary(t *testing.T) {
	times, seed := proof.Times(t, 3, 30, 2000), proof.Seed(t)
	row := proof.Start(t, "bit-rot-binary", "folders with a damaged file, started", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(times)*20*time.Second)
	defer cancel()
	folders := []string{rotFolder(ctx, t, false), rotFolder(ctx, t, true)}
	refused, named := 0, 0
	for range times {
		data := filepath.Join(t.TempDir(), "data")
		if out, err := exec.CommandContext(ctx, "cp", "-a", "--sparse=always", folders[random.IntN(2)], data).CombinedOutput(); err != nil {
			t.Fatalf("copy the folder: %v: %s", err, out)
		}
		what := rot(t, data, random)
		outcome, err := serveRotten(ctx, t, data)
		if err != nil {
			row.Lost(1)
			t.Errorf("%s: %v", what, err)
		}
		switch outcome {
		case rotRefused:
			refused++
		case rotNamed:
			named++
		}
		row.Tried(1)
		os.RemoveAll(data)
	}
	row.Note("%d starts refused, %d served the rest and named it, the others did no harm", refused, named)
}

// rotFolder makes a data folder with topics, settings, records and committed offsets. A killed broker leaves a wal that matters.
func rotFolder(ctx context.Context, t *testing.T, killed bool) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	broker := newProcessIn(t, data, "log.segment.bytes=1048576", "offsets.topic.num.partitions=2", "ottla.wal.max.bytes=16777216")
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.addr), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(20), kgo.ManualFlushing())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for i := range rotTopics {
		if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": new(rotRetention(i))}, rotTopic(i)); err != nil {
			t.Fatal(err)
		}
		for from := 0; from < rotRecords; from += 10 {
			var records []*kgo.Record
			for n := from; n < from+10; n++ {
				records = append(records, &kgo.Record{Topic: rotTopic(i), Key: fmt.Appendf(nil, "%d", n), Value: rotValue(i, n)})
			}
			for _, r := range records {
				client.Produce(ctx, r, nil)
			}
			if err := client.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var offsets kadm.Offsets
		offsets.AddOffset(rotTopic(i), 0, int64(40+i), -1)
		if err := admin.CommitAllOffsets(ctx, "rotten", offsets); err != nil {
			t.Fatal(err)
		}
	}
	if killed {
		broker.kill()
		return data
	}
	if err := broker.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-broker.exited; err != nil {
		t.Fatalf("stop: %v\n%s", err, broker.output)
	}
	broker.cmd = nil
	return data
}

func rotTopic(i int) string     { return fmt.Sprintf("rotten-%d", i) }
func rotRetention(i int) string { return fmt.Sprint(1_000_000_000_000 + i) }

func rotValue(topic, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(topic), byte(n), byte(n >> 8)})
	b := make([]byte, rotBytes)
	_, _ = r.Read(b)
	return b
}

// rot damages one file, drawn with equal weight, where it holds something.
func rot(t *testing.T, data string, random *rand.Rand) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "lock" && d.Name() != "ballast" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := files[random.IntN(len(files))]
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(b, "\x00"))
		if used == 0 {
			continue
		}
		name := strings.TrimPrefix(path, data+"/")
		at := random.IntN(used)
		switch random.IntN(8) {
		case 0:
			if err := os.Truncate(path, int64(at)); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s cut from %d to %d bytes", name, len(b), at)
		case 1:
			end := min(at+512, len(b))
			clear(b[at:end])
			what := fmt.Sprintf("%s zeroed from %d to %d", name, at, end)
			return what + writeBack(t, path, b[at:end], at)
		default:
			b[at] ^= 1 << random.IntN(8)
			return fmt.Sprintf("a bit of byte %d of %s flipped", at, name) + writeBack(t, path, b[at:at+1], at)
		}
	}
}

func writeBack(t *testing.T, path string, b []byte, at int) string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, int64(at))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

type rotOutcome int

const (
	rotHarmless rotOutcome = iota
	rotRefused
	rotNamed
)

// serveRotten starts a broker on a folder and asks for everything.
func serveRotten(ctx context.Context, t *testing.T, data string) (rotOutcome, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	broker := newProcessIn(t, data, "ottla.wal.max.bytes=16777216")
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	if err := broker.serving(ctx); err != nil {
		if ctx.Err() != nil {
			return rotHarmless, fmt.Errorf("it neither serves nor refuses to: %w", err)
		}
		broker.cmd = nil
		return rotRefused, nil // it said why: the error has its words
	}
	defer broker.kill()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var wrong []string // without an error of its own: it is fine if the broker has named damage
	errored := false
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return rotHarmless, err
	}
	for i := range rotTopics {
		if !topics.Has(rotTopic(i)) {
			wrong = append(wrong, rotTopic(i)+" is not there")
			continue
		}
		gone, failed, err := readRotten(ctx, client, i, topics[rotTopic(i)].ID)
		if err != nil {
			return rotHarmless, err
		}
		errored = errored || failed
		if gone > 0 {
			wrong = append(wrong, fmt.Sprintf("%d records of %s are not there", gone, rotTopic(i)))
		}
	}
	for i := range rotTopics {
		configs, err := admin.DescribeTopicConfigs(ctx, rotTopic(i))
		if err != nil {
			return rotHarmless, err
		}
		config, _ := configs.On(rotTopic(i), nil)
		for _, c := range config.Configs {
			if c.Key == "retention.ms" && c.MaybeValue() != rotRetention(i) {
				return rotHarmless, fmt.Errorf("retention.ms of %s is %s", rotTopic(i), c.MaybeValue())
			}
		}
	}
	// A client asks again as long as it may for the offsets of a group whose log is damaged.
	bounded, cancelBounded := context.WithTimeout(ctx, 5*time.Second)
	defer cancelBounded()
	offsets, err := admin.FetchOffsets(bounded, "rotten")
	if err != nil {
		errored = true
	}
	for i := range rotTopics {
		if at, ok := offsets.Lookup(rotTopic(i), 0); err == nil && (!ok || at.At != int64(40+i)) {
			wrong = append(wrong, fmt.Sprintf("the group stands at %d (%t) in %s", at.At, ok, rotTopic(i)))
		}
	}
	said := strings.Contains(broker.output.String(), "damage")
	if (len(wrong) > 0 || errored) && !said {
		return rotHarmless, fmt.Errorf("nothing was said, but %v (errors: %t)\n%s", wrong, errored, broker.output)
	}
	if said {
		return rotNamed, nil
	}
	return rotHarmless, nil
}

// readRotten reads a topic offset by offset where it must. gone counts records that are not there, failed tells of errors for damage; a record
// that is another is an error.
func readRotten(ctx context.Context, client *kgo.Client, topic int, id [16]byte) (gone int, failed bool, err error) {
	there := map[int64]bool{}
	for offset := int64(0); offset < rotRecords; {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, -1
		p := kmsg.NewFetchRequestTopicPartition()
		p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = offset, 1<<20, -1
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID, rt.Partitions = rotTopic(topic), id, []kmsg.FetchRequestTopicPartition{p}
		req.Topics = []kmsg.FetchRequestTopic{rt}
		resp, err := req.RequestWith(ctx, client.SeedBrokers()[0])
		if err != nil {
			failed = true // the connection is closed when damage is met halfway
			offset++
			if ctx.Err() != nil {
				return gone, failed, err
			}
			continue
		}
		part := resp.Topics[0].Partitions[0]
		switch err := kerr.ErrorForCode(part.ErrorCode); {
		case errors.Is(err, kerr.KafkaStorageError):
			failed = true
			offset++
			continue
		case errors.Is(err, kerr.OffsetOutOfRange), errors.Is(err, kerr.UnknownTopicOrPartition):
			return rotRecords - len(there), failed, nil
		case err != nil:
			return gone, failed, err
		}
		fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: rotTopic(topic)}, &part, kgo.DefaultDecompressor(), nil)
		for _, r := range fetched.Records {
			if r.Offset >= rotRecords || string(r.Key) != fmt.Sprint(r.Offset) || !bytes.Equal(r.Value, rotValue(topic, int(r.Offset))) {
				return gone, failed, fmt.Errorf("offset %d of %s holds another record", r.Offset, rotTopic(topic))
			}
			there[r.Offset] = true
		}
		if next <= offset {
			next = offset + 1
		}
		offset = next
	}
	return rotRecords - len(there), failed, nil
}
