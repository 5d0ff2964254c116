// Package server is the composition root: it builds every part of a broker from its settings, starts them in order, connects them, and
// stops them in the reverse order.
//
// # The life of a broker
//
//	Start   data folder ─▶ metadata ─▶ log ─▶ groups ─▶ wire ─▶ listeners ─▶ running
//	Close   lock ◀─ etcd ◀─ metadata ◀─ log ◀─ background ◀─ groups ◀─ listeners, connections
//
// The data folder is locked before anything in it is read. The metadata comes before the log, because a start leads its partitions with
// an epoch that it takes there, and because only the metadata can tell a deleted topic from a lost one. Listeners come last and all at
// once, so that no client comes in before everything can answer, and a port in use is found before the first does. A step that fails
// undoes those before it.
//
// Close stops reading requests and answers what is in flight until its context ends. The flush of the log is not cut short by that: what is
// not flushed would only cost the next start its time.
//
// Failed is closed when the log or the metadata can no longer keep what they promise, or a listener is gone. The broker answers nothing
// new then; who runs it must Close it.
//
// # What connects the parts
//
// topicSync applies each image of the metadata to the engine. It subscribes before the handlers do, so that no client hears of a topic
// that has no partitions yet; deletions, which wait for the disk, follow on a goroutine. offsetsTopic shows the coordinators their
// internal topic, and coordinatorLog one partition of it.
package server
