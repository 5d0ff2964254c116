// Package record reads, checks, builds and compresses record batches: the unit in which producers send, the log keeps
// and consumers fetch records. It knows one format, Kafka's message format 2 (KIP-98, with the headers of KIP-82), and
// nothing of partitions, files or requests. All functions are safe for concurrent use on different batches.
//
// # Layout
//
// Integers are big-endian. A batch is a header of 61 bytes and its records.
//
//	byte  size
//	   0     8  base offset          of the first record; producers send 0, the broker assigns it
//	   8     4  batch length         bytes after this field: the whole batch less 12
//	  12     4  leader epoch         of the leader that appended it
//	  16     1  magic                2
//	  17     4  crc                  CRC-32C of everything after this field
//	  21     2  attributes           bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon
//	  23     4  last offset delta    last offset less base offset
//	  27     8  base timestamp       ms; the timestamps of records are relative to it (bit 6: the delete horizon, KIP-534)
//	  35     8  max timestamp        ms; the greatest of the records', or with bit 3 the time of the append, for all of them
//	  43     8  producer id          -1 without one
//	  51     2  producer epoch       -1 without a producer id
//	  53     4  base sequence        of the first record; -1 without a producer id
//	  57     4  record count
//	  61        records              with a codec: one compressed stream of all of them
//
// The checksum does not cover base offset, batch length and leader epoch, so the broker can set offset and epoch without
// computing it again (SetBaseOffset, SetLeaderEpoch); the storage engine guards those bytes by checksums of its own.
// Compaction may take records out of a batch: then the record count is lower than last offset delta + 1, and 0 at worst.
//
// A record is made of zigzag variable-length integers (varint 32 bits, varlong 64) and bytes:
//
//	varint   length              of all that follows
//	int8     attributes          none in use
//	varlong  timestamp delta     to the base timestamp
//	varint   offset delta        to the base offset
//	varint   key length, key     -1 is null
//	varint   value length, value -1 is null
//	varint   header count, and for each header
//	         varint key length, key (never null), varint value length, value (-1 is null)
//
// An example, the record with key "k", value null, one header "h"="x", that is the first of its batch:
//
//	16        length 11
//	00        attributes
//	00        timestamp delta 0
//	00        offset delta 0
//	02 6b     key "k"
//	01        value null
//	02        one header
//	02 68     header key "h"
//	02 78     header value "x"
//
// # Codecs
//
// Gzip and zstd are the plain formats. Snappy is the framing of Java's snappy library or one raw block, whichever came
// (see snappy.go); lz4 is the frame format with independent blocks (see lz4.go). What a Java consumer could not read is
// refused, or else one producer could put a batch into the log that stops every consumer behind it.
//
// # Validation
//
// Validate is what stands between a producer and the log. Its answers, texts included, are those of Kafka's
// LogValidator and of the checks that come before it, except that it
//
//   - requires the offset deltas of an uncompressed batch to be 0, 1, 2, ..., which Kafka takes unseen, and refuses
//     compressed batches where they are not, which Kafka builds anew;
//   - refuses bytes after the batch that are no batch, which Kafka drops, and attributes that have no meaning for a
//     producer, which Kafka ignores;
//   - refuses lengths below -1, which Kafka takes for -1, and integers that do not fit, which Kafka cuts off;
//   - limits what a batch may decompress to, and the number of record errors that it lists;
//   - answers INVALID_RECORD for records that do not decompress and UNSUPPORTED_COMPRESSION_TYPE for a codec that does
//     not exist, where Kafka fails with UNKNOWN_SERVER_ERROR;
//   - ignores a client's LogAppendTime bit on topics with create times, where Kafka checks only the batch's maximum
//     timestamp but then keeps the records' own.
//
// # Memory
//
// No length that a peer sent is believed before the bytes for it have been seen. Uncompressed batches are checked in
// place without allocating. Compressed ones are decompressed into pooled memory, of which at most a MiB per piece is
// kept, and the output is counted from the compressed blocks before room is made for it, see Decompress.
package record
