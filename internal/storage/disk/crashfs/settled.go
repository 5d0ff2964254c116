package crashfs

// Settled reports whether everything is synced, so that all images of this moment are the same.
func (fs *FS) Settled() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.changes) == 0 && fs.root.settled()
}

func (n *node) settled() bool {
	if len(n.dirty) > 0 || n.size != n.syncedSize {
		return false
	}
	for _, c := range n.children {
		if !c.settled() {
			return false
		}
	}
	return true
}
