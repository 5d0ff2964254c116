// Package wire carries the Kafka protocol over connections: frames, request headers, order, limits. It knows bytes and
// the shapes of requests, and nothing of brokers, topics or groups.
//
// # Layout
//
// A request is a frame:
//
//	length        int32   of what follows; checked before anything is reserved
//	key           int16   which API
//	version       int16   which version of it
//	correlation   int32   chosen by the client, comes back in the answer
//	client id     int16 length and bytes, -1 for null; not in ControlledShutdown v0 (header version 0)
//	tagged fields only in flexible versions (header version 2, KIP-482); stepped over
//	body          what the API defines; the handler's business
//
// An answer is a frame of length, correlation id, an empty section of tagged fields (one zero byte) in flexible
// versions except those of ApiVersions (KIP-511), and the body.
//
// # The life of a request
//
// Two goroutines serve a connection. The reading one takes a slot (Config.MaxInFlightPerConn), waits for a frame, reads
// it into memory that is reserved as its bytes arrive, parses the header and calls Handler.Handle, which puts the
// request's effects in their order. The Pending that Handle returns goes into a queue, and the next frame is read. The
// writing goroutine takes one Pending after the other, calls Wait, sends the answer, and gives memory and slot back.
// So the effects of requests and their answers are in the order in which the client sent them, and a request that waits
// does not keep the next from being ordered.
//
//	socket ─▶ readLength ─▶ readFrame ─▶ parseHeader ─▶ Handle ──queue──▶ Wait ─▶ connWriter ─▶ socket
//	           (reading goroutine, one request at a time)         (writing goroutine, in order)
//
// Small answers are collected in a buffer, which is sent when nothing is left to answer, when it is full, and before a
// Wait that may take long (see Prober). Long pieces of an answer are never copied.
//
// # Limits
//
//   - A length that is too large, or too small for a header, closes the connection; nothing was reserved for it.
//   - Reading stops while a connection has MaxInFlightPerConn requests or MaxBytesPerConn bytes unanswered, and while
//     all connections together hold MaxBytesTotal; whoever waits longer than BudgetTimeout is closed. One frame at a
//     time may overdraw the total, else half-arrived frames could wait for each other for good.
//   - A frame begins with at most 64 KiB, or with what the connection has shown to send in full, up to 2 MiB, and
//     doubles as it fills.
//   - A frame must not pause for FrameTimeout, nor arrive slower than MinReadRate after that.
//   - Decode steps over a body, by the shapes in schemas.txt, before kmsg sees it: counts are checked against the bytes
//     that remain, and what the message can take is reserved from a budget.
//   - A client that takes no byte of its answers for WriteTimeout is cut off.
//   - Connections are counted in total and per address, and closed when idle.
//
// # How a connection ends
//
// If the client closes it, or a read, a write or a limit fails, the contexts of Handle and Wait end, Wait is still
// called for every Pending, and what comes out is sent if it can be. After a bad frame, an error of Handle or a
// panic in it, the requests before are answered first. Shutdown reads nothing more and answers what is in flight until
// its context ends; then the contexts end, and what is left has half a second. The first reason is counted in Stats and
// logged; those that a client can cause at will at most once a second each.
//
// Locks: Server.mu, Conn.mu, Conn.bytesMu and budget.mu are leaves; none is held while another is taken, except
// Server.mu in Shutdown over the deadlines that it sets.
package wire
