package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/ottlaio/ottla/internal/base"
)

// The format is described byte by byte in docs/formats/wal.md. Golden bytes in format_test.go hold it.
const (
	fileMagic  = "OTTLAWAL"
	groupMagic = 0x4757544f // "OTWG"
	// formatVersion is that of the files that are written. Version 1 has no entries of kind Placed and is read as well.
	formatVersion = 2
	groupVersion  = 1

	fileHeaderBytes  = 72
	groupHeaderBytes = 96
	runBytes         = 64

	minBlockBytes = 4096
	maxBlockBytes = 64 << 10

	flagUnsynced = 1 << 0 // of a file: its groups were acknowledged before they were synced
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// fileHeader is the content of a file's first block. It is written when the file is put to use, after everything before it is durable,
// and so proves that the wal was durable up to group first-1.
type fileHeader struct {
	block   uint32 // bytes; groups start at its multiples
	number  uint64
	salt    uint64
	first   Sequence // of the first group in this file
	prev    uint64   // number of the file that holds group first-1; 0 if there is none
	prevEnd int64    // where that group ends in that file
	size    int64    // of this file
	flags   uint32
}

func (h fileHeader) encode(b []byte) {
	copy(b, fileMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], h.block)
	le.PutUint64(b[16:], h.number)
	le.PutUint64(b[24:], h.salt)
	le.PutUint64(b[32:], uint64(h.first))
	le.PutUint64(b[40:], h.prev)
	le.PutUint64(b[48:], uint64(h.prevEnd))
	le.PutUint64(b[56:], uint64(h.size))
	le.PutUint32(b[64:], h.flags)
	le.PutUint32(b[68:], crcOf(b[:68]))
}

var (
	errNoHeader = errors.New("no wal file header")
	errVersion  = errors.New("unknown format version")
)

func decodeFileHeader(b []byte) (fileHeader, error) {
	if len(b) < fileHeaderBytes || string(b[:8]) != fileMagic || le.Uint32(b[68:]) != crcOf(b[:68]) {
		return fileHeader{}, errNoHeader
	}
	if v := le.Uint32(b[8:]); v < 1 || v > formatVersion {
		return fileHeader{}, fmt.Errorf("%w %d, this program knows 1 to %d", errVersion, v, formatVersion)
	}
	h := fileHeader{
		block: le.Uint32(b[12:]), number: le.Uint64(b[16:]), salt: le.Uint64(b[24:]), first: Sequence(le.Uint64(b[32:])),
		prev: le.Uint64(b[40:]), prevEnd: int64(le.Uint64(b[48:])), size: int64(le.Uint64(b[56:])),
		flags: le.Uint32(b[64:]),
	}
	if !validBlock(h.block) || h.first == 0 || h.prev >= h.number || h.prevEnd < 0 || h.size < int64(h.block) {
		return fileHeader{}, errNoHeader
	}
	return h, nil
}

// mark is what the file `newest` holds behind its copy of a file header: all groups of that file up to seq were durable.
type mark struct {
	seq Sequence
	end int64 // where that group ends
}

const markBytes = fileHeaderBytes + 20 // with the header

// encode puts m behind the header in b.
func (m mark) encode(b []byte) {
	le.PutUint64(b[fileHeaderBytes:], uint64(m.seq))
	le.PutUint64(b[fileHeaderBytes+8:], uint64(m.end))
	le.PutUint32(b[fileHeaderBytes+16:], crcOf(b[:fileHeaderBytes+16]))
}

// decodeMark reads the mark behind a header; a zero one if there is none.
func decodeMark(b []byte) mark {
	if len(b) < markBytes || le.Uint32(b[fileHeaderBytes+16:]) != crcOf(b[:fileHeaderBytes+16]) {
		return mark{}
	}
	return mark{Sequence(le.Uint64(b[fileHeaderBytes:])), int64(le.Uint64(b[fileHeaderBytes+8:]))}
}

func validBlock(b uint32) bool {
	return b >= minBlockBytes && b <= maxBlockBytes && b&(b-1) == 0
}

// groupHeader is the beginning of a commit group.
type groupHeader struct {
	flags    uint32
	salt     uint64
	number   uint64 // of the file
	seq      Sequence
	pos      int64 // of this group in the file
	durable  Sequence
	durFile  uint64 // where group `durable` ends
	durEnd   int64
	body     int64 // bytes
	runs     uint32
	tableCRC uint32
}

func (h groupHeader) encode(b []byte) {
	le.PutUint32(b[0:], groupMagic)
	le.PutUint16(b[4:], groupVersion)
	le.PutUint16(b[6:], uint16(h.flags))
	le.PutUint64(b[8:], h.salt)
	le.PutUint64(b[16:], h.number)
	le.PutUint64(b[24:], uint64(h.seq))
	le.PutUint64(b[32:], uint64(h.pos))
	le.PutUint64(b[40:], uint64(h.durable))
	le.PutUint64(b[48:], h.durFile)
	le.PutUint64(b[56:], uint64(h.durEnd))
	le.PutUint64(b[64:], uint64(h.body))
	le.PutUint32(b[72:], h.runs)
	le.PutUint32(b[76:], h.tableCRC)
	clear(b[80:92])
	le.PutUint32(b[92:], crcOf(b[:92]))
}

// decodeGroupHeader reports whether b begins with the whole header of a group. It says nothing of the group's place in the chain.
func decodeGroupHeader(b []byte) (groupHeader, bool) {
	if len(b) < groupHeaderBytes || le.Uint32(b) != groupMagic || le.Uint16(b[4:]) != groupVersion ||
		le.Uint32(b[92:]) != crcOf(b[:92]) {
		return groupHeader{}, false
	}
	h := groupHeader{
		flags: uint32(le.Uint16(b[6:])), salt: le.Uint64(b[8:]), number: le.Uint64(b[16:]), seq: Sequence(le.Uint64(b[24:])),
		pos: int64(le.Uint64(b[32:])), durable: Sequence(le.Uint64(b[40:])), durFile: le.Uint64(b[48:]), durEnd: int64(le.Uint64(b[56:])),
		body: int64(le.Uint64(b[64:])), runs: le.Uint32(b[72:]), tableCRC: le.Uint32(b[76:]),
	}
	if h.seq == 0 || h.durable >= h.seq || h.pos < 0 || h.body < 0 || h.body > 1<<40 {
		return groupHeader{}, false
	}
	return h, true
}

// content is the whole group's length without its padding, in bytes.
func (h groupHeader) content() int64 { return groupHeaderBytes + h.body + int64(h.runs)*runBytes }

// size is the whole group's, in bytes, up to the next block.
func (h groupHeader) size(block int64) int64 { return groupSize(h.body, int(h.runs), block) }

func groupSize(body int64, runs int, block int64) int64 {
	return roundUp(groupHeaderBytes+body+int64(runs)*runBytes, block)
}

func roundUp(n, block int64) int64 { return (n + block - 1) &^ (block - 1) }

// run is one entry in a group's table.
type run struct {
	kind        Kind
	partition   base.TopicIDPartition
	first, last base.Offset
	at          int64 // of the bytes, from the group's start
	length      int64
	crc         uint32
}

func (r run) encode(b []byte) {
	le.PutUint32(b[0:], uint32(r.kind))
	le.PutUint32(b[4:], uint32(r.partition.Partition))
	copy(b[8:24], r.partition.ID[:])
	le.PutUint64(b[24:], uint64(r.first))
	le.PutUint64(b[32:], uint64(r.last))
	le.PutUint64(b[40:], uint64(r.at))
	le.PutUint64(b[48:], uint64(r.length))
	le.PutUint32(b[56:], r.crc)
	le.PutUint32(b[60:], 0)
}

// decodeRun reads one entry of a table whose CRC was right. It checks that the bytes lie in the body all the same.
func decodeRun(b []byte, body int64) (run, bool) {
	r := run{
		kind: Kind(b[0]), partition: base.TopicIDPartition{ID: base.TopicID(b[8:24]), Partition: int32(le.Uint32(b[4:]))},
		first: base.Offset(le.Uint64(b[24:])), last: base.Offset(le.Uint64(b[32:])),
		at: int64(le.Uint64(b[40:])), length: int64(le.Uint64(b[48:])), crc: le.Uint32(b[56:]),
	}
	ok := r.at >= groupHeaderBytes && r.length >= 0 && r.at <= groupHeaderBytes+body && r.length <= groupHeaderBytes+body-r.at
	return r, ok
}

// crcOf is the CRC32C of b, the only checksum in the format.
func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
