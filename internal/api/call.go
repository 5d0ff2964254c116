package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// call is one request on its way through a handler: what wire knows of it. The decoded message is the handler's own argument.
type call struct {
	*wire.Request
}

// handler is the first phase of one API (see wire.Handler): it runs on the connection's reading goroutine, in the order of the
// requests, and returns what is still to be waited for. An error closes the connection, as a malformed request does; everything
// that the protocol has an error code for is an answer instead.
type handler func(a *API, ctx context.Context, r *wire.Request) (wire.Pending, error)

// typed makes a handler of a function that takes the decoded request.
//
// Byte slices in the request alias c.Body (see wire.Decode): a handler that keeps one past its answer, or past c.Release, copies it.
func typed[T any, R interface {
	*T
	kmsg.Request
}](h func(a *API, ctx context.Context, c *call, req R) (wire.Pending, error)) handler {
	return func(a *API, ctx context.Context, r *wire.Request) (wire.Pending, error) {
		req := R(new(T))
		if err := wire.Decode(r, req); err != nil {
			return nil, err
		}
		return h(a, ctx, &call{Request: r}, req)
	}
}

// answer returns the empty answer to req, at req's version and with the message's defaults, ready to be filled in.
//
//	resp := answer[kmsg.HeartbeatResponse](req)
func answer[T any, R interface {
	*T
	kmsg.Response
	Default()
}](req kmsg.Request) R {
	resp := R(new(T))
	resp.Default()
	resp.SetVersion(req.GetVersion())
	return resp
}

// reply is a finished answer: nothing is left to wait for.
func reply(resp kmsg.Response) (wire.Pending, error) {
	return wire.Ready(wire.Message(resp)), nil
}

// later is an answer that is made in the second phase, on the connection's writing goroutine: answer may block until ctx ends. An
// error closes the connection.
func later(answer func(ctx context.Context) (kmsg.Response, error)) (wire.Pending, error) {
	return wire.PendingFunc(func(ctx context.Context) (wire.Answer, error) {
		resp, err := answer(ctx)
		if err != nil {
			return nil, err
		}
		return wire.Message(resp), nil
	}), nil
}
