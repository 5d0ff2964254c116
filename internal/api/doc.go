// Package api answers Kafka's requests: it decodes, asks the domain (metadata, storage, coordinators), and encodes.
//
// Everything that a client may ask is one row of the table in table.go: API key, versions, handler. Dispatch, ApiVersions and
// docs/protocol.md read it. The errors of the domain become Kafka's codes in one place, errors.go.
//
// # Handlers
//
// A handler is a method of API that takes the decoded request and returns what is still to be waited for:
//
//	func (a *API) heartbeat(ctx context.Context, c *call, req *kmsg.HeartbeatRequest) (wire.Pending, error) {
//		resp := answer[kmsg.HeartbeatResponse](req)
//		...
//		return reply(resp) // finished, or:
//		return later(func(ctx context.Context) (kmsg.Response, error) { ...; return resp, nil })
//	}
//
// and a row of the table: serve(12, 0, 4, typed((*API).heartbeat)). The handler itself is the first phase: it runs on the
// connection's reading goroutine, in the order of the requests, and must not wait for anything slow; it fixes what has to happen in
// order (offsets are assigned, coordinator events queued). The function given to later is the second phase: it runs on the writing
// goroutine and waits for durability, data or a coordinator, while the connection's next request is already in its first phase.
// Answers leave in request order. An error from either closes the connection, and is for what the protocol has no code for.
//
// Handlers read in five beats: check version and shape, authorise, work per partition (a function of its own, so that one bad
// partition never spoils the others), collect results, reply. Each file opens with the APIs it serves, what their versions changed,
// and what is left out on purpose.
package api
