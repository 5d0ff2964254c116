package config

// topicTable holds the settings of topics, in order of name.
var topicTable = []Def{
	{Name: "cleanup.policy", Type: List, Default: "delete", Valid: listOf("compact", "delete"), Synonym: "log.cleanup.policy", Effect: Effective, Doc: "What happens to old records: delete by age and size, compact to the newest of each key, or both."},
	{Name: "compression.gzip.level", Type: Int, Default: "-1", Valid: gzipLevel(), Synonym: "compression.gzip.level", Effect: Effective, Doc: "Level at which batches are compressed where compression.type is gzip; -1 is the codec's default."},
	{Name: "compression.lz4.level", Type: Int, Default: "9", Valid: between(1, 17), Synonym: "compression.lz4.level", Effect: Effective, Doc: "Level at which batches are compressed where compression.type is lz4."},
	{Name: "compression.type", Type: String, Default: "producer", Valid: oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), Synonym: "compression.type", Effect: Effective, Doc: "Codec that batches are stored in. producer keeps what the producer chose, uncompressed removes compression."},
	{Name: "compression.zstd.level", Type: Int, Default: "3", Valid: between(-131072, 22), Synonym: "compression.zstd.level", Effect: Effective, Doc: "Level at which batches are compressed where compression.type is zstd."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", Valid: atLeast(0), Synonym: "log.cleaner.delete.retention.ms", Effect: Effective, Doc: "How long tombstones and transaction markers of a compacted topic are kept for readers that are behind."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", Valid: atLeast(0), Synonym: "log.segment.delete.delay.ms", Effect: Effective, Doc: "How long a deleted segment stays on disk."},
	{Name: "flush.messages", Type: Long, Default: "9223372036854775807", Valid: atLeast(1), Synonym: "log.flush.interval.messages", Doc: "After how many records Kafka syncs the log. Here every record is synced before it is acknowledged."},
	{Name: "flush.ms", Type: Long, Default: "9223372036854775807", Valid: atLeast(0), Synonym: "log.flush.interval.ms", Doc: "After what time Kafka syncs the log. Here every record is synced before it is acknowledged."},
	{Name: "follower.replication.throttled.replicas", Type: List, Valid: throttledReplicas(), Doc: "Replicas whose fetching is throttled as partition:broker, or * for all."},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", Valid: atLeast(0), Synonym: "log.index.interval.bytes", Effect: Effective, Doc: "How many bytes of records lie between two entries of the offset index."},
	{Name: "internal.segment.bytes", Type: Int, Null: true, Internal: true, Effect: Effective, Doc: "Segment size in tests."},
	{Name: "leader.replication.throttled.replicas", Type: List, Valid: throttledReplicas(), Doc: "Replicas whose serving is throttled as partition:broker, or * for all."},
	{Name: "local.retention.bytes", Type: Long, Default: "-2", Valid: atLeast(-2), Synonym: "log.local.retention.bytes", Doc: "How many bytes of a tiered partition stay on local disk; -2 means retention.bytes."},
	{Name: "local.retention.ms", Type: Long, Default: "-2", Valid: atLeast(-2), Synonym: "log.local.retention.ms", Doc: "How long segments of a tiered partition stay on local disk; -2 means retention.ms."},
	{Name: "max.compaction.lag.ms", Type: Long, Default: "9223372036854775807", Valid: atLeast(1), Synonym: "log.cleaner.max.compaction.lag.ms", Effect: Effective, Doc: "Longest time that a record stays out of reach of compaction."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", Valid: atLeast(0), Synonym: "message.max.bytes", Effect: Effective, Doc: "Largest batch that the topic accepts."},
	{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", Valid: atLeast(0), Synonym: "log.message.timestamp.after.max.ms", Effect: Effective, Doc: "How far a record's timestamp may lie in the future."},
	{Name: "message.timestamp.before.max.ms", Type: Long, Default: "9223372036854775807", Valid: atLeast(0), Synonym: "log.message.timestamp.before.max.ms", Effect: Effective, Doc: "How far a record's timestamp may lie in the past."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime", Valid: oneOf("CreateTime", "LogAppendTime"), Synonym: "log.message.timestamp.type", Effect: Effective, Doc: "Whether a record keeps the producer's timestamp or gets the time of its append."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Valid: between(0, 1), Synonym: "log.cleaner.min.cleanable.ratio", Effect: Effective, Doc: "Share of a log that has to be new before it is compacted."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Valid: atLeast(0), Synonym: "log.cleaner.min.compaction.lag.ms", Effect: Effective, Doc: "Time for which a record is safe from compaction."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", Valid: atLeast(1), Synonym: "min.insync.replicas", Doc: "How many replicas must have a record before acks=all is answered."},
	{Name: "preallocate", Type: Boolean, Default: "false", Synonym: "log.preallocate", Doc: "Whether segment files are made at their full size."},
	{Name: "remote.log.copy.disable", Type: Boolean, Default: "false", Doc: "Whether a tiered topic is read from the tier but no longer copied to it."},
	{Name: "remote.log.delete.on.disable", Type: Boolean, Default: "false", Doc: "Whether what is in the tier is deleted when tiering is switched off."},
	{Name: "remote.storage.enable", Type: Boolean, Default: "false", Doc: "Whether the topic is tiered."},
	{Name: "retention.bytes", Type: Long, Default: "-1", Synonym: "log.retention.bytes", Effect: Effective, Doc: "Size of a partition from which its oldest segments are deleted; -1 is no limit."},
	{Name: "retention.ms", Type: Long, Default: "604800000", Valid: atLeast(-1), Synonym: "log.retention.ms", Effect: Effective, Doc: "How long records are kept; -1 is for ever."},
	{Name: "segment.bytes", Type: Int, Default: "1073741824", Valid: atLeast(1048576), Synonym: "log.segment.bytes", Effect: Effective, Doc: "Size of a segment."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", Valid: atLeast(4), Synonym: "log.index.size.max.bytes", Effect: Effective, Doc: "Largest offset index of a segment; a full one rolls the segment."},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", Valid: atLeast(0), Synonym: "log.roll.jitter.ms", Effect: Effective, Doc: "Random part that is taken off segment.ms, so that not all segments roll at once."},
	{Name: "segment.ms", Type: Long, Default: "604800000", Valid: atLeast(1), Synonym: "log.roll.ms", Effect: Effective, Doc: "Age at which a new segment is begun."},
	{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false", Synonym: "unclean.leader.election.enable", Doc: "Whether a replica that is not in sync may become leader and lose records."},
}

// groupTable holds the settings of groups, in order of name.
var groupTable = []Def{
	{Name: "consumer.assignment.interval.ms", Type: Int, Default: "1000", Valid: atLeast(0), Synonym: "group.consumer.assignment.interval.ms", Effect: Effective, Doc: "Least time between two computations of the consumer group's assignment."},
	{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Valid: atLeast(1), Synonym: "group.consumer.heartbeat.interval.ms", Effect: Effective, Doc: "How often members of the consumer group report."},
	{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Valid: atLeast(1), Synonym: "group.consumer.session.timeout.ms", Effect: Effective, Doc: "After how long without a report a member of the consumer group is removed."},
	{Name: "share.assignment.interval.ms", Type: Int, Default: "1000", Valid: atLeast(0), Synonym: "group.share.assignment.interval.ms", Doc: "Least time between two computations of the share group's assignment."},
	{Name: "share.auto.offset.reset", Type: String, Default: "latest", Valid: shareOffsetReset(), Effect: Effective, Doc: "Where a share group begins: earliest, latest or by_duration: and an ISO 8601 duration back in time."},
	{Name: "share.delivery.count.limit", Type: Int, Default: "5", Valid: atLeast(2), Synonym: "group.share.delivery.count.limit", Effect: Effective, Doc: "How often a record is delivered to the share group before it is given up."},
	{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", Valid: atLeast(1), Synonym: "group.share.heartbeat.interval.ms", Doc: "How often members of the share group report."},
	{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", Valid: oneOf("read_committed", "read_uncommitted"), Effect: Effective, Doc: "Whether a share group sees records of open and aborted transactions."},
	{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", Valid: atLeast(100), Synonym: "group.share.partition.max.record.locks", Effect: Effective, Doc: "Most records of a partition that the share group may hold locked."},
	{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", Valid: atLeast(1000), Synonym: "group.share.record.lock.duration.ms", Effect: Effective, Doc: "How long a record stays locked for the member that got it."},
	{Name: "share.renew.acknowledge.enable", Type: Boolean, Default: "true", Effect: Effective, Doc: "Whether members may extend the lock of a record."},
	{Name: "share.session.timeout.ms", Type: Int, Default: "45000", Valid: atLeast(1), Synonym: "group.share.session.timeout.ms", Doc: "After how long without a report a member of the share group is removed."},
	{Name: "streams.assignment.interval.ms", Type: Int, Default: "1000", Valid: atLeast(0), Synonym: "group.streams.assignment.interval.ms", Effect: Effective, Doc: "Least time between two computations of the streams group's assignment."},
	{Name: "streams.heartbeat.interval.ms", Type: Int, Default: "5000", Valid: atLeast(1), Synonym: "group.streams.heartbeat.interval.ms", Effect: Effective, Doc: "How often members of the streams group report."},
	{Name: "streams.initial.rebalance.delay.ms", Type: Int, Default: "3000", Valid: atLeast(0), Synonym: "group.streams.initial.rebalance.delay.ms", Effect: Effective, Doc: "How long the empty streams group waits for more members before its first assignment."},
	{Name: "streams.num.standby.replicas", Type: Int, Default: "0", Valid: atLeast(0), Synonym: "group.streams.num.standby.replicas", Effect: Effective, Doc: "Standby copies of each task of the streams group."},
	{Name: "streams.session.timeout.ms", Type: Int, Default: "45000", Valid: atLeast(1), Synonym: "group.streams.session.timeout.ms", Effect: Effective, Doc: "After how long without a report a member of the streams group is removed."},
}

// clientMetricsTable holds the settings of client-metrics subscriptions (KIP-714), in order of name.
var clientMetricsTable = []Def{
	{Name: "interval.ms", Type: Int, Default: "300000", Doc: "How often matching clients push their metrics."},
	{Name: "match", Type: List, Valid: listOf(), Doc: "Which clients a subscription is for, as name=pattern; none matches all."},
	{Name: "metrics", Type: List, Valid: listOf(), Doc: "Prefixes of the metrics that are asked for; * is all."},
}
