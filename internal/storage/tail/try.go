package tail

// TryAcquire is Acquire without waiting: it reports whether it has reserved bytes.
func (p *Pool) TryAcquire(bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.reserveLocked(int64(bytes))
}

// Overdraw reserves bytes whatever the budget says. It is for recovery, where what is in the wal has to go somewhere; the wal's
// own size bounds it.
func (p *Pool) Overdraw(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved += int64(bytes)
}
