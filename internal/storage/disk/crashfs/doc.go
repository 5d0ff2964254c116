// Package crashfs is a file system in memory for tests. It remembers what was synced, and makes images of what a power loss at this
// moment could leave on the disk.
//
// # Fault model
//
// What must survive a power loss:
//
//   - The bytes of a file, and its size, as they were at the last Sync, SyncData, or write through a synced direct file.
//   - The entries of a folder as they were when the folder was last synced: files made in it, linked, renamed, removed.
//
// What may or may not survive, each decided by the seeded generator:
//
//   - Bytes written since the file's last sync, sector by sector of 512 bytes. A sector holds any one of the versions written since that
//     sync, or the synced one; sectors of one write need not agree (a torn write). A sector is never torn within itself.
//   - The size of a file that grew or shrank since its last sync: the old, the new, or one between, and lost sectors below it are zeros.
//   - Each change to a folder since it was last synced, on its own: a later change may survive without an earlier one. A rename is one
//     change: both names change or neither does.
//
// A disk whose blocks are larger than a sector reads, changes and writes a whole block, and a power loss in the middle may destroy all of
// it. Files that SetFragile names lie on such blocks: any page of 4096 bytes with synced content that was written since the last sync may
// hold garbage, in images that keep some of what was not synced and not all.
//
// What else does not happen: synced bytes rotting (tests flip bits themselves), a sector filled with garbage, a disk that lies about a sync,
// and an entry without its file (a file whose entry survives has at least size 0).
//
// Syncing a file does not sync the folder it was made in, although most file systems do so; making a folder is a change to its parent.
//
// An image is itself a crashfs in which everything is synced. Pages are immutable and shared between a file system and its images, so an
// image costs one pointer for each page of a file with unsynced bytes, and nothing for a page of the others.
//
// # Faults while running
//
// SetFault is asked before every operation and may return an error in its place: nothing is then applied. SetCapacity makes operations
// that need more pages than there are fail with ENOSPC; a write is then applied up to where it fits, as on a real disk. errorfs works on
// top as well: disk.Wrap(errorfs.Wrap(fs, injector)).
//
// SetHook is called after every operation that changed or synced something, with no lock held, so it may take images. A synced direct
// write calls it twice: after the bytes were written and again after they were synced.
package crashfs
