package segment

import (
	"fmt"
	"hash/crc32"
)

// Mend writes damaged indexes and the sidecar anew from the log, where the log proves to be what it was: whole files, in the place of the
// damaged ones. It returns the names of the files that it has mended. It must not run beside a write, Sync or Seal; reads may go on.
//
// Errors: of the file system. That a file can not be mended, because the log is damaged too, is none.
func (s *Segment) Mend() (mended []string, err error) {
	if s.State().Size == 0 {
		return nil, nil
	}
	for _, l := range s.ledgers() {
		data := l.remade()
		if data == nil {
			continue
		}
		name := FileName(s.o.Base, l.suffix)
		if err := replaceFile(s.o.FS, s.o.Dir, name, data); err != nil {
			return mended, fmt.Errorf("mend segment %d: %w", s.o.Base, err)
		}
		mended = append(mended, name)
		s.o.Files.forget(s)
		if s.isRemoved() { // meanwhile, and without the new file
			if err := s.o.FS.Remove(s.path(l.suffix)); err != nil && !isNotExist(err) {
				return mended, fmt.Errorf("mend segment %d: %w", s.o.Base, err)
			}
		}
	}
	return mended, nil
}

// remade is the file as it should be, if it is not; nil if it is whole or can not be made from the log.
func (l *ledger) remade() []byte {
	l.mu.Lock()
	durable := l.durable
	l.mu.Unlock()
	if durable.Entries == 0 && l.header == 0 {
		return nil
	}
	footer := false
	_, bad, err := l.loadFile(durable, func(*DamageError) { footer = true })
	if err != nil || bad == nil && !footer {
		return nil
	}
	var data []byte
	if l.header > 0 {
		data = sidecarHeader(l.s.o.Base)
	}
	entries, err := l.heal(durable)
	if err != nil || entries == nil && durable.Entries > 0 {
		return nil
	}
	data = append(data, entries...)
	if crc32.Checksum(data, castagnoli) != durable.CRC {
		return nil
	}
	if st := l.s.State(); l.header > 0 && st.Sealed {
		data = append(data, sidecarFooter(st)...)
	}
	return data
}
