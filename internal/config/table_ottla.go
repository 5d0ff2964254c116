package config

// ottlaTable holds the settings that Kafka does not have, in order of name.
var ottlaTable = []Def{
	{Name: "ottla.ack.when", Type: String, Default: "synced", Valid: oneOf("synced", "unsafe-written", "unsafe-memory"), Effect: Effective, Doc: "When a produce is answered: synced, once the records are on stable storage; unsafe-written, once the operating system has them; unsafe-memory, once the broker has them. Both unsafe ones can lose acknowledged records when the machine fails, the last one when the process does."},
	{Name: "ottla.connection.inflight.bytes", Type: Long, Default: "104857600", Valid: atLeast(1 << 20), Effect: Effective, Doc: "Most bytes of requests of one connection that wait for their answer. With more, the connection is not read."},
	{Name: "ottla.connection.inflight.requests", Type: Int, Default: "64", Valid: between(1, 10000), Effect: Effective, Doc: "Most requests of one connection that wait for their answer. With more, the connection is not read."},
	{Name: "ottla.memory.limit.bytes", Type: Long, Default: "0", Valid: atLeast(0), Effect: Effective, Doc: "Memory that the process of ottla serve is to stay within. The garbage collector then works harder as it comes near; it is told this number less ottla.tail.bytes and a sixteenth. 0 is what the control group allows (a container's limit), or no limit where there is none. GOMEMLIMIT overrides it. An embedded broker leaves the limit of its process alone."},
	{Name: "ottla.request.memory.bytes", Type: Long, Default: "536870912", Valid: atLeast(16 << 20), Effect: Effective, Doc: "Most bytes of requests that all connections together hold. With more, connections are not read until there is room."},
	{Name: "ottla.scrub.interval.hours", Type: Int, Default: "168", Valid: between(0, 24*365), Effect: Effective, Doc: "How long the broker takes to read all of its logs once and check them, over and over, in the background. The pace follows from the amount of data. 0 turns it off."},
	{Name: "ottla.scrub.max.bytes.per.second", Type: Long, Default: "33554432", Valid: atLeast(1 << 16), Effect: Effective, Doc: "Most bytes that the background check reads in a second, however much there is to check. It stands back while producers wait for the disk."},
	{Name: "ottla.tail.bytes", Type: Long, Default: "268435456", Valid: atLeast(4 << 20), Effect: Effective, Doc: "Memory for the newest batches of all partitions, outside the garbage collector's heap. When it is full, producers wait for segments to be written."},
	{Name: "ottla.wal.max.bytes", Type: Long, Default: "1073741824", Valid: atLeast(16 << 20), Effect: Effective, Doc: "Most bytes of the write-ahead log that a restart has to read again. When it is full, producers wait for a checkpoint."},
	{Name: "ottla.write.timeout.ms", Type: Int, Default: "30000", Valid: atLeast(100), Effect: Effective, Doc: "A client that accepts no byte of its answers for this long is cut off."},
}
