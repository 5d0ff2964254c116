package report

import "fmt"

// Figure is one number that is measured on each side.
type Figure struct {
	// Name is what --figures takes; Title is for people.
	Name, Title string
	Unit        string
	// More is true if a larger value is better.
	More bool
	// Target is nil for a figure that is only told.
	Target *Target
}

// Target is what a figure must reach. Only one of AtMost, AtLeast and Absolute is set.
type Target struct {
	// AtMost and AtLeast bound the ratio, ours to theirs.
	AtMost, AtLeast float64
	// Absolute bounds our own value from above, whatever the other side does.
	Absolute float64
	// OrShare of another figure's value on our side, Of, meets AtLeast as well: no broker reads faster than its disk.
	OrShare float64
	Of      string
}

func (t *Target) String() string {
	switch {
	case t == nil:
		return ""
	case t.Absolute > 0:
		return fmt.Sprintf("≤ %s", short(t.Absolute))
	case t.AtMost > 0:
		return fmt.Sprintf("≤ %s ×", short(t.AtMost))
	case t.OrShare > 0:
		return fmt.Sprintf("≥ %s × or %s of the disk", short(t.AtLeast), short(t.OrShare))
	default:
		return fmt.Sprintf("≥ %s ×", short(t.AtLeast))
	}
}

func atMost(ratio float64) *Target  { return &Target{AtMost: ratio} }
func atLeast(ratio float64) *Target { return &Target{AtLeast: ratio} }

// Figures is the table of everything that can be measured, in the order of the report. The targets hold with every acknowledged record
// of ours synced, against Apache Kafka as shipped, which does not sync.
var Figures = figures()

func figures() []Figure {
	table := []Figure{
		{Name: "start", Title: "start to first acknowledged record", Unit: "ms", Target: atMost(1.0 / 15)},
		{Name: "idle-memory", Title: "resident memory, idle", Unit: "MiB", Target: atMost(1.0 / 7)},
		{Name: "idle-cpu", Title: "CPU, idle", Unit: "ms/s"},
	}
	table = append(table, produceFigures("produce", "produce, 12 partitions", produceTargets{
		mbps: atLeast(1.5), cpu: atMost(0.4), p99: atMost(0.7), written: &Target{Absolute: 2.1},
	})...)
	table = append(table,
		Figure{Name: "produce-p999", Title: "produce, 12 partitions, p99.9", Unit: "ms"},
		Figure{Name: "produce-memory", Title: "produce, 12 partitions, resident memory", Unit: "MiB", Target: atMost(1.0 / 3)},
		Figure{Name: "produce-client", Title: "produce, 12 partitions, the load generator's own CPU", Unit: "s/GB"})
	table = append(table, produceFigures("produce-long", "produce, batches of 1 MiB", produceTargets{mbps: atLeast(2), written: &Target{Absolute: 1.2}})...)
	table = append(table, produceFigures("produce-bursts", "produce, 16 batches in a row to one partition",
		produceTargets{mbps: atLeast(2), written: &Target{Absolute: 1.2}})...)
	table = append(table, produceFigures("produce-1p", "produce, 1 partition", produceTargets{})...)
	table = append(table, produceFigures("produce-1000p", "produce, 1,000 partitions", produceTargets{p99: atMost(0.5)})...)
	table = append(table, produceFigures("produce-100b", "produce, records of 100 bytes", produceTargets{})...)
	for _, codec := range []string{"gzip", "snappy", "lz4", "zstd"} {
		table = append(table, produceFigures("produce-"+codec, "produce, "+codec, produceTargets{})...)
	}
	table = append(table, produceFigures("single", "produce, single 1 KiB batches", produceTargets{})...)
	table = append(table,
		Figure{Name: "single-client", Title: "produce, single 1 KiB batches, the load generator's own CPU", Unit: "s/GB"},
		Figure{Name: "single-per-cpu", Title: "produces of one 1 KiB batch per broker CPU second", Unit: "1/s", More: true, Target: atLeast(1.7)},
	)
	for _, l := range []struct {
		name, title string
		p999        *Target
	}{
		{"half", "produce at half of the other's saturation", atMost(0.5)},
		{"half-1000p", "produce at half of the other's saturation, 1,000 partitions", nil},
	} {
		table = append(table, quantileFigures(l.name, l.title, atMost(0.5), l.p999)...)
		table = append(table, Figure{Name: l.name + "-cpu", Title: l.title + ", broker CPU", Unit: "s/GB"})
	}
	table = append(table,
		Figure{Name: "tail-cpu", Title: "produce and tail-consume at once, broker CPU", Unit: "s/GB", Target: atMost(0.5)},
		Figure{Name: "tail-p99", Title: "produce and tail-consume at once, produce p99", Unit: "ms"},
		Figure{Name: "fanout-cpu", Title: "5 groups tail-consume, broker CPU per GB produced", Unit: "s/GB"},
		Figure{Name: "fanout-p99", Title: "5 groups tail-consume, produce p99", Unit: "ms"},
		Figure{Name: "catchup-mbps", Title: "catch-up consume from a cold disk", Unit: "MB/s", More: true,
			Target: &Target{AtLeast: 1, OrShare: 0.9, Of: "catchup-disk"}},
		Figure{Name: "catchup-cpu", Title: "catch-up consume from a cold disk, broker CPU", Unit: "s/GB", Target: atMost(0.7)},
		Figure{Name: "catchup-disk", Title: "the disk's own sequential direct read of the same files", Unit: "MB/s", More: true},
	)
	for _, e := range []struct {
		name, title string
		target      *Target
	}{
		{"e2e-one", "end to end, one record at a time", atMost(0.5)},
		{"e2e-1k", "end to end, 1,000 records/s", nil},
		{"e2e-10k", "end to end, 10,000 records/s", atMost(0.5)},
		{"e2e-50k", "end to end, 50,000 records/s", nil},
	} {
		table = append(table, quantileFigures(e.name, e.title, e.target, e.target)...)
	}
	for _, n := range []int{1, 50} {
		name, title := fmt.Sprintf("txn-%d", n), fmt.Sprintf("transactions of %s", counted(n, "producer"))
		table = append(table,
			Figure{Name: name + "-rate", Title: title + ", committed", Unit: "1/s", More: true, Target: atLeast(1.1)},
			Figure{Name: name + "-p99", Title: title + ", end to end, p99", Unit: "ms", Target: atMost(0.9)})
	}
	for _, protocol := range []string{"classic", "consumer"} {
		for _, n := range []int{100, 1000} {
			name, title := fmt.Sprintf("settle-%s-%d", protocol, n), fmt.Sprintf("%s, %s protocol", counted(n, "member"), protocol)
			table = append(table,
				Figure{Name: name + "-join", Title: title + ", settled after all joined", Unit: "ms", Target: atMost(0.9)},
				Figure{Name: name + "-leave", Title: title + ", settled after one left", Unit: "ms", Target: atMost(0.9)})
		}
	}
	return append(table,
		Figure{Name: "share-mbps", Title: "share group of 4 members, delivered and accepted", Unit: "MB/s", More: true, Target: atLeast(1.1)},
		Figure{Name: "share-cpu", Title: "share group of 4 members, broker CPU", Unit: "s/GB", Target: atMost(0.9)},
		Figure{Name: "compact-mbps", Title: "compaction, 10 million keys", Unit: "MB/s", More: true, Target: atLeast(1.1)},
		Figure{Name: "compact-memory", Title: "compaction, 10 million keys, resident memory", Unit: "MiB", Target: atMost(0.9)},
		Figure{Name: "compact-cpu", Title: "compaction, 10 million keys, broker CPU", Unit: "s/GB"},
		Figure{Name: "many-create", Title: "10,000 partitions, created and written once", Unit: "s"},
		Figure{Name: "many-cpu", Title: "10,000 partitions, CPU at a steady 10 MB/s", Unit: "ms/s"},
		Figure{Name: "many-memory", Title: "10,000 partitions, resident memory", Unit: "MiB"},
		Figure{Name: "many-restart", Title: "10,000 partitions, start after a clean stop", Unit: "ms"},
		Figure{Name: "many-recover", Title: "10,000 partitions, start after SIGKILL with a full wal", Unit: "ms", Target: atMost(1.0 / 20)},
		Figure{Name: "conns-idle-memory", Title: "1,000 idle connections, resident memory", Unit: "MiB"},
		Figure{Name: "conns-idle-cpu", Title: "1,000 idle connections, CPU", Unit: "ms/s"},
		Figure{Name: "conns-active-rate", Title: "1,000 active connections, produces of one 1 KiB batch", Unit: "1/s", More: true},
		Figure{Name: "conns-active-per-cpu", Title: "1,000 active connections, produces per broker CPU second", Unit: "1/s", More: true},
		Figure{Name: "conns-active-p99", Title: "1,000 active connections, produce p99", Unit: "ms"},
		Figure{Name: "jvm-linger0-mbps", Title: "Kafka's producer-perf, linger 0", Unit: "MB/s", More: true},
		Figure{Name: "jvm-linger0-cpu", Title: "Kafka's producer-perf, linger 0, broker CPU", Unit: "s/GB"},
		Figure{Name: "jvm-linger0-p99", Title: "Kafka's producer-perf, linger 0, p99", Unit: "ms"},
		Figure{Name: "jvm-linger5-mbps", Title: "Kafka's producer-perf, linger 5 ms", Unit: "MB/s", More: true},
		Figure{Name: "jvm-linger5-cpu", Title: "Kafka's producer-perf, linger 5 ms, broker CPU", Unit: "s/GB"},
		Figure{Name: "jvm-linger5-p99", Title: "Kafka's producer-perf, linger 5 ms, p99", Unit: "ms"},
		Figure{Name: "jvm-consume-mbps", Title: "Kafka's consumer-perf", Unit: "MB/s", More: true},
		Figure{Name: "jvm-consume-cpu", Title: "Kafka's consumer-perf, broker CPU", Unit: "s/GB"},
		Figure{Name: "jvm-e2e-p50", Title: "Kafka's e2e-latency, p50", Unit: "ms"},
		Figure{Name: "jvm-e2e-p99", Title: "Kafka's e2e-latency, p99", Unit: "ms"},
		Figure{Name: "jvm-e2e-p999", Title: "Kafka's e2e-latency, p99.9", Unit: "ms"},
		Figure{Name: "rdkafka-linger0-mbps", Title: "rdkafka_performance produce, linger 0", Unit: "MB/s", More: true},
		Figure{Name: "rdkafka-linger0-cpu", Title: "rdkafka_performance produce, linger 0, broker CPU", Unit: "s/GB"},
		Figure{Name: "rdkafka-linger5-mbps", Title: "rdkafka_performance produce, linger 5 ms", Unit: "MB/s", More: true},
		Figure{Name: "rdkafka-linger5-cpu", Title: "rdkafka_performance produce, linger 5 ms, broker CPU", Unit: "s/GB"},
		Figure{Name: "rdkafka-consume-mbps", Title: "rdkafka_performance consume", Unit: "MB/s", More: true},
		Figure{Name: "rdkafka-consume-cpu", Title: "rdkafka_performance consume, broker CPU", Unit: "s/GB"},
	)
}

type produceTargets struct{ mbps, cpu, p99, written *Target }

// produceFigures are those of every saturating produce load.
func produceFigures(name, title string, t produceTargets) []Figure {
	return []Figure{
		{Name: name + "-mbps", Title: title, Unit: "MB/s", More: true, Target: t.mbps},
		{Name: name + "-cpu", Title: title + ", broker CPU", Unit: "s/GB", Target: t.cpu},
		{Name: name + "-p50", Title: title + ", p50", Unit: "ms"},
		{Name: name + "-p99", Title: title + ", p99", Unit: "ms", Target: t.p99},
		{Name: name + "-written", Title: title + ", bytes written to disk per byte produced", Unit: "×", Target: t.written},
	}
}

// quantileFigures are the latencies of a load.
func quantileFigures(name, title string, p99, p999 *Target) []Figure {
	return []Figure{
		{Name: name + "-p50", Title: title + ", p50", Unit: "ms"},
		{Name: name + "-p99", Title: title + ", p99", Unit: "ms", Target: p99},
		{Name: name + "-p999", Title: title + ", p99.9", Unit: "ms", Target: p999},
	}
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%s %s", grouped(int64(n)), thing)
}
