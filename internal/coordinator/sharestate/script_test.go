package sharestate

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/scripttest"
	"github.com/ottlaio/ottla/internal/share"
)

// TestScripts runs testdata/*.script in simulated time: commands, each followed by its answer and the records that it wrote. See commands.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripttest.Files(t, func(t *testing.T, script string) (got string) {
		synctest.Test(t, func(t *testing.T) {
			r := &runner{t: t, cfg: Config{UpdatesPerSnapshot: 2}, topic: coordtest.NewTopic(1), partitions: 2}
			r.start()
			defer func() { r.stop() }()
			got = scripttest.Play(script, r.run)
		})
		return got
	})
}

// runner is a share coordinator with one partition.
type runner struct {
	t          *testing.T
	cfg        Config
	topic      *coordtest.Topic
	service    *Service
	stop       func()
	partitions int32 // of the topic whose records are shared
	seen       int   // records of the log
}

// commands are what a script may say. PARTITION is that of group g and the topic.
var commands = map[string]func(r *runner, args []string) string{
	"init":    (*runner).initialize, // init PARTITION STATE-EPOCH START
	"read":    (*runner).read,       // read PARTITION LEADER-EPOCH
	"summary": (*runner).summary,    // summary PARTITION
	"write":   (*runner).write,      // write PARTITION STATE-EPOCH LEADER-EPOCH START [FIRST-LAST:STATE/COUNT ...]
	"delete":  (*runner).delete,     // delete PARTITION
	"gone":    (*runner).gone,       // gone: the topic is deleted
	"advance": (*runner).advance,    // advance DURATION
	"prune":   (*runner).prune,      // prune: and tells where the log begins
	"limit":   (*runner).limit,      // limit BYTES: of memory
	"crash":   (*runner).crash,      // crash: everything that is durable is loaded again
}

func (r *runner) start() {
	s, err := New(r.cfg, Deps{
		Topic: r.topic, Logger: slog.New(slog.DiscardHandler), Partitions: func(base.TopicID) int32 { return r.partitions },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.service = s
	r.stop = func() {
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

// run carries out a command and returns its answer and the records that were written.
func (r *runner) run(line string) (out []string) {
	if answer := scripttest.Do(r.t, r, commands, line); answer != "" {
		out = append(out, answer)
	}
	synctest.Wait()
	records, err := r.topic.Of(0).Records()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, rec := range records[r.seen:] {
		out = append(out, "record: "+describe(rec.Key, rec.Value))
	}
	r.seen = len(records)
	return out
}

// describe shows a record by its kind, its partition and what it holds.
func describe(key, value []byte) string {
	k := kbin.Reader{Src: key}
	kind := "snapshot"
	if k.Int16() == keyUpdate {
		kind = "update"
	}
	_ = k.String()
	k.Uuid()
	at := fmt.Sprintf("%s of %d", kind, k.Int32())
	if value == nil {
		return at + ": none"
	}
	v := kbin.Reader{Src: value}
	v.Int16()
	text := fmt.Sprintf("%s: number %d,", at, v.Int32())
	if kind == "snapshot" {
		text += fmt.Sprintf(" state epoch %d,", v.Int32())
	}
	text += fmt.Sprintf(" leader epoch %d, start %d", v.Int32(), v.Int64())
	if kind == "snapshot" {
		v.Int64() // created
		v.Int64() // written
	}
	for range v.CompactArrayLen() {
		first, last, state, count := v.Int64(), v.Int64(), v.Int8(), v.Int16()
		text += fmt.Sprintf(", %d-%d:%d/%d", first, last, state, count)
		skipTags(&v, nil)
	}
	return text
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func keyOf(partition string) share.Key {
	return share.Key{Group: "g", Topic: base.TopicID{1}, Partition: int32(number(partition))}
}

// result shows an answer, or why there is none.
func result[A any](t *testing.T, p share.Pending[A], show func(A) string) string {
	a, err := p.Wait(t.Context())
	if err != nil {
		return err.Error()
	}
	return show(a)
}

func ok(struct{}) string { return "ok" }

func persisted(p share.Persisted) string {
	text := fmt.Sprintf("state epoch %d, leader epoch %d, start %d, %d complete", p.StateEpoch, p.LeaderEpoch, p.Start, p.DeliveryCompleteCount)
	for _, b := range p.Batches {
		text += fmt.Sprintf(", %d-%d:%d/%d", b.First, b.Last, b.State, b.DeliveryCount)
	}
	return text
}

func (r *runner) initialize(args []string) string {
	return result(r.t, r.service.Initialize(keyOf(args[0]), int32(number(args[1])), base.Offset(number(args[2]))), ok)
}

func (r *runner) read(args []string) string {
	return result(r.t, r.service.Read(keyOf(args[0]), base.LeaderEpoch(number(args[1]))), persisted)
}

func (r *runner) summary(args []string) string {
	return result(r.t, r.service.ReadSummary(keyOf(args[0]), base.NoLeaderEpoch), persisted)
}

func (r *runner) write(args []string) string {
	w := share.Persisted{StateEpoch: int32(number(args[1])), LeaderEpoch: base.LeaderEpoch(number(args[2])), Start: base.Offset(number(args[3]))}
	for _, a := range args[4:] {
		var b share.StateBatch
		if _, err := fmt.Sscanf(a, "%d-%d:%d/%d", &b.First, &b.Last, &b.State, &b.DeliveryCount); err != nil {
			r.t.Fatalf("%s: %v", a, err)
		}
		if w.Batches = append(w.Batches, b); b.State == share.Acknowledged || b.State == share.Archived {
			w.DeliveryCompleteCount += int32(b.Last-b.First) + 1
		}
	}
	return result(r.t, r.service.Write(keyOf(args[0]), w), ok)
}

func (r *runner) delete(args []string) string {
	return result(r.t, r.service.Delete(keyOf(args[0])), ok)
}

func (r *runner) gone([]string) string {
	r.partitions = 0
	r.service.TopicsDeleted([]base.TopicID{{1}})
	return ""
}

func (r *runner) advance(args []string) string {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		panic(err)
	}
	time.Sleep(d)
	return ""
}

func (r *runner) prune([]string) string {
	r.service.Prune(r.t.Context())
	start, end := r.topic.Of(0).Offsets()
	return fmt.Sprintf("the log is %d to %d", start, end)
}

func (r *runner) limit(args []string) string {
	r.service.env.Config.MaxBytes = number(args[0])
	return ""
}

func (r *runner) crash([]string) string {
	r.stop()
	r.topic = r.topic.Crash(func(int) int { return 0 })
	r.start()
	return ""
}
