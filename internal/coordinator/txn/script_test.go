package txn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/scripttest"
)

// TestScripts runs testdata/*.script in simulated time: commands, each followed by the output that it gives. See runner.commands.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripttest.Files(t, func(t *testing.T, script string) (got string) {
		synctest.Test(t, func(t *testing.T) {
			r := &runner{t: t, topic: coordtest.NewTopic(1), next: 1000}
			r.to = r
			r.start()
			defer func() { r.stop() }()
			got = scripttest.Play(script, r.run)
		})
		return got
	})
}

// run carries out a command and returns its answer and the markers that were written.
func (r *runner) run(line string) (out []string) {
	if answer := scripttest.Do(r.t, r, commands, line); answer != "" {
		out = append(out, answer)
	}
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.markers {
		out = append(out, "marker: "+m)
	}
	r.markers = nil
	return out
}

// runner is a transaction coordinator with one partition. It implements Markers and ProducerIDs.
type runner struct {
	t       *testing.T
	cfg     Config
	topic   *coordtest.Topic
	to      Markers
	service *Service
	stop    func()
	next    base.ProducerID
	epoch   int32

	mu      sync.Mutex // guards the fields below
	refuse  bool       // markers cannot be written
	markers []string
}

func (r *runner) start() {
	r.epoch++
	s, err := New(r.cfg, Deps{Topic: r.topic, Markers: r.to, ProducerIDs: r, Logger: coordtest.Logger(func(why string) { r.t.Error(why) }), CoordinatorEpoch: r.epoch})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.service = s
	r.stop = func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

// WriteMarker implements Markers. One transaction is ended at a time in scripts.
func (r *runner) WriteMarker(_ context.Context, p base.TopicPartition, m Marker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse {
		return errors.New("refused by the script")
	}
	what := "abort"
	if m.Commit {
		what = "commit"
	}
	r.markers = append(r.markers, fmt.Sprintf("%s %s-%d producer=%d/%d coordinator=%d version=%d", what, p.Topic, p.Partition,
		m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.TransactionVersion))
	return nil
}

// NewProducerID implements ProducerIDs.
func (r *runner) NewProducerID(context.Context) (base.ProducerID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.next, nil
}

// commands are what a script may say. Requests name the transactional id, then producer id/epoch.
var commands = map[string]func(r *runner, args []string) string{
	"init":     (*runner).init,      // init ID [PRODUCER/EPOCH] [TIMEOUT]
	"add":      (*runner).add,       // add ID PRODUCER/EPOCH VERSION PARTITION...
	"verify":   (*runner).verify,    // verify ID PRODUCER/EPOCH PARTITION...
	"commit":   (*runner).commit,    // commit ID PRODUCER/EPOCH VERSION
	"abort":    (*runner).abort,     // abort ID PRODUCER/EPOCH VERSION
	"describe": (*runner).describe,  // describe ID
	"list":     (*runner).list,      // list [STATE]
	"advance":  (*runner).advance,   // advance DURATION
	"epoch":    (*runner).setEpoch,  // epoch ID EPOCH: as if so many had been used
	"refuse":   (*runner).setRefuse, // refuse on|off
	"crash":    (*runner).crash,     // everything that is durable is loaded again
}

func producer(id, at string) Producer {
	p := Producer{TransactionalID: id, ID: base.NoProducerID, Epoch: base.NoProducerEpoch}
	if n, epoch, ok := strings.Cut(at, "/"); ok {
		p.ID, p.Epoch = base.ProducerID(number(n)), base.ProducerEpoch(number(epoch))
	}
	return p
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func partitions(names []string) (list []base.TopicPartition) {
	for _, name := range names {
		topic, n, _ := strings.Cut(name, "-")
		list = append(list, base.TopicPartition{Topic: topic, Partition: int32(number(n))})
	}
	return list
}

func codeName(code *kerr.Error, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case code != nil:
		return code.Message
	}
	return "ok"
}

func outcome(o Outcome, err error) string {
	if err != nil || o.Code != nil {
		return codeName(o.Code, err)
	}
	return fmt.Sprintf("producer=%d/%d", o.ID, o.Epoch)
}

func (r *runner) init(args []string) string {
	p, timeout := producer(args[0], ""), int32(60_000)
	for _, a := range args[1:] {
		if d, err := time.ParseDuration(a); err == nil {
			timeout = int32(d.Milliseconds())
		} else {
			p = producer(args[0], a)
		}
	}
	return outcome(r.service.InitProducerID(r.t.Context(), p, timeout))
}

func (r *runner) add(args []string) string {
	return codeName(r.service.AddPartitions(producer(args[0], args[1]), partitions(args[3:]), int16(number(args[2]))).Wait(r.t.Context()))
}

func (r *runner) verify(args []string) string {
	v, err := r.service.Verify(producer(args[0], args[1]), partitions(args[2:])).Wait(r.t.Context())
	if err != nil || v.Code != nil {
		return codeName(v.Code, err)
	}
	var words []string
	for _, code := range v.Partitions {
		words = append(words, codeName(code, nil))
	}
	return strings.Join(words, " ")
}

func (r *runner) end(args []string, commit bool) string {
	return outcome(r.service.EndTxn(r.t.Context(), producer(args[0], args[1]), commit, int16(number(args[2]))))
}

func (r *runner) commit(args []string) string { return r.end(args, true) }
func (r *runner) abort(args []string) string  { return r.end(args, false) }

func (r *runner) describe(args []string) string {
	d, err := r.service.Describe(args[0]).Wait(r.t.Context())
	switch {
	case err != nil:
		return err.Error()
	case !d.Found:
		return "not found"
	}
	return show(d.Description)
}

func show(d Description) string {
	s := fmt.Sprintf("%s %s producer=%d/%d timeout=%dms", d.TransactionalID, d.State, d.ProducerID, d.Epoch, d.Timeout)
	for _, p := range d.Partitions {
		s += fmt.Sprintf(" %s-%d", p.Topic, p.Partition)
	}
	return s
}

func (r *runner) list(args []string) string {
	var all []string
	for _, c := range r.service.List(Filter{States: args, LongerThan: -1}) {
		list, err := c.Wait(r.t.Context())
		if err != nil {
			return err.Error()
		}
		for _, d := range list {
			all = append(all, d.TransactionalID+":"+d.State)
		}
	}
	return "[" + strings.Join(all, " ") + "]"
}

func (r *runner) advance(args []string) string {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		panic(err)
	}
	time.Sleep(d)
	return ""
}

func (r *runner) setEpoch(args []string) string {
	_, err := coordinator.Submit(r.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		n := m.txns[args[0]].next(fx.Now.UnixMilli())
		n.epoch = base.ProducerEpoch(number(args[1]))
		m.record(fx, n)
		c.Answer(fx, struct{}{})
	}).Wait(r.t.Context())
	return codeName(nil, err)
}

func (r *runner) setRefuse(args []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = args[0] == "on"
	return ""
}

func (r *runner) crash([]string) string {
	r.stop()
	r.topic = r.topic.Crash(func(int) int { return 0 })
	r.start()
	return ""
}
