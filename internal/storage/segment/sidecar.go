package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ottlaio/ottla/internal/base"
)

// The sidecar: a header, the CRC32C of each whole block of the log, and once the segment is sealed a footer.
const (
	sidecarMagic      = "OTTLACRC"
	footerMagic       = "OTTLAEND"
	sidecarVersion    = 1
	sidecarEntrySize  = 4
	sidecarHeaderSize = 32
	footerSize        = 8 + StateSize + 4 // with aborted transactions txnStateSize more
)

// sidecarHeader returns the header of the sidecar of the segment with base offset b.
func sidecarHeader(b base.Offset) []byte {
	h := make([]byte, 0, sidecarHeaderSize)
	h = append(h, sidecarMagic...)
	h = binary.BigEndian.AppendUint32(h, sidecarVersion)
	h = binary.BigEndian.AppendUint32(h, BlockSize)
	h = binary.BigEndian.AppendUint64(h, uint64(b))
	h = binary.BigEndian.AppendUint32(h, 0) // reserved
	return binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// parseSidecarHeader checks a header and returns the base offset in it.
func parseSidecarHeader(h []byte) (base.Offset, error) {
	if len(h) < sidecarHeaderSize {
		return 0, fmt.Errorf("sidecar header of %d bytes", len(h))
	}
	b := base.Offset(binary.BigEndian.Uint64(h[16:]))
	if !bytes.Equal(h[:sidecarHeaderSize], sidecarHeader(b)) || b < 0 {
		return 0, fmt.Errorf("not a sidecar header of version %d: %x", sidecarVersion, h[:sidecarHeaderSize])
	}
	return b, nil
}

// sidecarFooter returns the footer of a sealed segment: all of its state, so that the files can be checked and opened without a
// checkpoint.
func sidecarFooter(st State) []byte {
	f := make([]byte, 0, footerSize+txnStateSize)
	f = append(f, footerMagic...)
	f = st.AppendTo(f)
	return binary.BigEndian.AppendUint32(f, crc32.Checksum(f, castagnoli))
}

// parseSidecarFooter checks a footer and returns the state in it.
func parseSidecarFooter(f []byte) (State, error) {
	if len(f) < footerSize || string(f[:8]) != footerMagic {
		return State{}, fmt.Errorf("not a sidecar footer: %d bytes", len(f))
	}
	end := len(f) - 4
	if got, want := crc32.Checksum(f[:end], castagnoli), binary.BigEndian.Uint32(f[end:]); got != want {
		return State{}, fmt.Errorf("sidecar footer: CRC32C is %#08x, want %#08x", got, want)
	}
	st, rest, err := ParseState(f[8:end])
	switch {
	case err != nil:
		return State{}, err
	case len(rest) > 0:
		return State{}, fmt.Errorf("sidecar footer: %d bytes too many", len(rest))
	case !st.Sealed:
		return State{}, fmt.Errorf("%w: a footer of an active segment", errState)
	}
	return st, nil
}

// ReadFooter returns the state of a sealed segment from its sidecar alone, for tools and for segments that no checkpoint lists. It
// checks the sidecar; blocks and indexes are checked when they are used, as always.
//
// Errors: of the file system, and *DamageError for a sidecar that is not whole, as that of an active segment is not.
func ReadFooter(o Options) (State, error) {
	path := o.FS.PathJoin(o.Dir, FileName(o.Base, sidecarSuffix))
	bad := func(size int64, reason string) error {
		return &DamageError{File: path, Len: size, FirstOffset: o.Base, Reason: reason}
	}
	f, err := o.FS.Open(path)
	if err != nil {
		return State{}, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // it is only read
	info, err := f.Stat()
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", path, err)
	}
	if info.Size() < sidecarHeaderSize+footerSize || info.Size() > sidecarHeaderSize+footerSize+txnStateSize+maxSize/BlockSize*sidecarEntrySize {
		return State{}, bad(info.Size(), "the size cannot be that of a sealed segment's sidecar")
	}
	b := make([]byte, info.Size())
	if err := readFull(f, b, 0); err != nil {
		return State{}, fmt.Errorf("read %s: %w", path, err)
	}
	st, err := parseSidecar(b, o.Base)
	if err != nil {
		return State{}, bad(info.Size(), err.Error())
	}
	return st, nil
}

// parseSidecar checks the whole sidecar of a sealed segment.
func parseSidecar(b []byte, want base.Offset) (State, error) {
	baseOffset, err := parseSidecarHeader(b)
	if err != nil {
		return State{}, err
	}
	if len(b) < sidecarHeaderSize+footerSize {
		return State{}, fmt.Errorf("sidecar of %d bytes", len(b))
	}
	end := len(b) - footerSize
	if longer := end - txnStateSize; longer >= sidecarHeaderSize && bytes.HasPrefix(b[longer:], []byte(footerMagic)) {
		end = longer
	}
	st, err := parseSidecarFooter(b[end:])
	switch {
	case err != nil:
		return State{}, err
	case st.Base != baseOffset || st.Base != want:
		return State{}, fmt.Errorf("sidecar of segment %d, with the footer of segment %d, want %d", baseOffset, st.Base, want)
	case end != sidecarHeaderSize+int(st.Sidecar.Entries)*sidecarEntrySize:
		return State{}, fmt.Errorf("sidecar of %d bytes for %d blocks", len(b), st.Sidecar.Entries)
	case crc32.Checksum(b[:end], castagnoli) != st.Sidecar.CRC:
		return State{}, fmt.Errorf("sidecar entries: CRC32C is %#08x, want %#08x", crc32.Checksum(b[:end], castagnoli), st.Sidecar.CRC)
	}
	return st, nil
}

// checkFooter compares the footer in the file with the state.
func (s *Segment) checkFooter(f io.ReaderAt) *DamageError {
	st := s.Current()
	pos := int64(sidecarHeaderSize) + int64(st.Sidecar.Entries)*sidecarEntrySize
	want := sidecarFooter(st)
	b := make([]byte, len(want))
	if err := readFull(f, b, pos); err != nil {
		d := s.damage(sidecarSuffix, pos, int64(len(b)), "the footer cannot be read")
		d.Err = err
		return d
	}
	if !bytes.Equal(b, want) {
		return s.damage(sidecarSuffix, pos, int64(len(b)), "the footer is not that of this segment")
	}
	return nil
}

// healSidecar computes the block CRCs from the log. They are as good as those in the file if all of them together have the CRC that
// the state gives: then the log is whole and only the sidecar is damaged. Otherwise it returns nil: the entries that the file
// still has are used, since one that agrees with its block proves both right.
func (s *Segment) healSidecar(durable FileState) []byte {
	f, err := s.o.Files.acquire(s, logSuffix, false, false)
	if err != nil {
		return nil
	}
	defer s.o.Files.release(f)
	buf := s.o.Files.blockBuffer()
	entries := make([]byte, 0, int(durable.Entries)*sidecarEntrySize)
	crc := crc32.Checksum(sidecarHeader(s.o.Base), castagnoli)
	for n := range int64(durable.Entries) {
		if readFull(f, buf, n*BlockSize) != nil {
			return nil
		}
		entries = binary.BigEndian.AppendUint32(entries, crc32.Checksum(buf, castagnoli))
	}
	s.o.Files.recycle(buf)
	if crc32.Update(crc, castagnoli, entries) != durable.CRC {
		return nil
	}
	return entries
}
