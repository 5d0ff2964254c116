package load

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Produce is a load of pre-encoded batches, one in each request, acks=all.
type Produce struct {
	Partitions  []Partition
	Batch       Batch
	Connections int
	InFlight    int // requests on the way for each connection
	// Burst is how many requests in a row go to one partition; 0 is 1.
	Burst int
	// Rate is in requests per second over all connections; 0 sends as fast as answers come.
	Rate float64
	// Duration and MinBytes (of batches) are both reached before the load ends.
	Duration time.Duration
	MinBytes int64

	// sending is told when each request is due, before it is sent.
	sending func(p Partition, due time.Time)
}

// Produced is what a load did.
type Produced struct {
	Requests, Records, Bytes int64 // bytes of batches
	Took                     time.Duration
	Latencies                *Latencies // of every request, from when it was due to its answer
}

// MBps is in 10⁶ bytes per second.
func (p Produced) MBps() float64 { return float64(p.Bytes) / 1e6 / p.Took.Seconds() }

// producing is a load that runs.
type producing struct {
	Produce
	begin   time.Time
	payload []byte       // the batch and the end of the request
	bytes   atomic.Int64 // answered
}

// Run sends the load and waits for every answer. The first error ends it.
func (l Produce) Run(ctx context.Context, addr string) (Produced, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running := &producing{Produce: l, payload: append(l.Batch.Raw[:len(l.Batch.Raw):len(l.Batch.Raw)], make([]byte, produceTail)...)}
	conns := make([]net.Conn, l.Connections)
	for i := range conns { // before the time begins: a thousand connections take a while
		conn, closeConn, err := dial(ctx, addr)
		if err != nil {
			return Produced{}, err
		}
		defer closeConn()
		conns[i] = conn
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		result = Produced{Latencies: NewLatencies()}
	)
	running.begin = time.Now()
	for number, conn := range conns {
		wg.Go(func() {
			latencies, err := running.connection(conn, number)
			mu.Lock()
			defer mu.Unlock()
			result.Latencies.Add(latencies)
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	result.Took = time.Since(running.begin)
	result.Requests = result.Latencies.Count()
	result.Records = result.Requests * int64(l.Batch.Records)
	result.Bytes = running.bytes.Load()
	return result, context.Cause(ctx)
}

// sent is a request whose answer has not come.
type sent struct {
	due time.Time
	to  Partition
}

// connection is one producer: a goroutine that sends and this one, which reads the answers.
func (l *producing) connection(conn net.Conn, number int) (*Latencies, error) {
	waiting := make(chan sent, l.InFlight)
	slots := make(chan struct{}, l.InFlight) // one is taken by each request on its way
	failed := make(chan error, 1)
	go func() {
		defer close(waiting)
		failed <- l.send(conn, number, slots, waiting)
	}()
	latencies := NewLatencies()
	answers := newAnswers(conn)
	for request := range waiting {
		body, err := answers.next(true)
		if err == nil {
			err = checkProduced(body, request.to)
		}
		if err != nil {
			_ = conn.Close() // ends the sender once it has a slot
			<-slots
			for range waiting {
				<-slots
			}
			return latencies, errors.Join(err, <-failed)
		}
		<-slots
		latencies.Record(time.Since(request.due))
		l.bytes.Add(int64(len(l.Batch.Raw)))
	}
	return latencies, <-failed
}

// send writes requests until the load is over.
func (l *producing) send(conn net.Conn, number int, slots chan<- struct{}, waiting chan<- sent) error {
	mine := share(l.Partitions, number, l.Connections)
	heads := make([][]byte, len(mine))
	for i, p := range mine {
		heads[i] = produceHead(p, l.Batch.Raw)
	}
	var pieces net.Buffers
	pace := newPacer(l.begin, l.Rate, number, l.Connections)
	burst := max(l.Burst, 1)
	for n := 0; ; n++ {
		due := pace.wait()
		if due.Sub(l.begin) >= l.Duration && l.bytes.Load() >= l.MinBytes {
			return nil
		}
		i := n / burst % len(mine)
		slots <- struct{}{}
		if l.Rate == 0 {
			due = time.Now() // a request is due when its predecessors leave room for it
		}
		if l.sending != nil {
			l.sending(mine[i], due)
		}
		waiting <- sent{due, mine[i]}
		pieces = append(pieces[:0], heads[i], l.payload)
		rest := pieces
		if _, err := rest.WriteTo(conn); err != nil {
			return err
		}
	}
}
