package wire

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/plant"
)

// ErrTooLargeToDecode is the error of a request that could take more memory than the server's decode budget holds.
var ErrTooLargeToDecode = errors.New("request is too large to decode")

// DecodeError is a request body that does not parse. Its connection should be closed, as Kafka does.
type DecodeError struct {
	Key, Version int16
	Err          error
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s v%d: %v", keyName(e.Key), e.Version, e.Err)
}

// Unwrap returns what was wrong.
func (e *DecodeError) Unwrap() error { return e.Err }

// Decode reads req.Body into into, after setting its version to the request's. Byte slices in into alias req.Body.
// Bytes after the message are ignored, as Kafka does. Errors: those of CheckShape. Decode may only be called within Handle.
func Decode(req *Request, into kmsg.Request) error {
	if err := CheckShape(req); err != nil {
		return err
	}
	into.SetVersion(req.Version)
	return readMessage(req, into)
}

// CheckShape checks the body against the shape of its version, which also bounds what a message decoded from it can take;
// that much of the server's decode budget is held until Handle returns. It is for handlers that decode by themselves.
//
// Errors: *DecodeError for a body that does not parse, ErrTooLargeToDecode for one that could take more than the whole
// budget, a *CloseError if there was no room in it for too long. CheckShape may only be called within Handle.
func CheckShape(req *Request) error {
	if plant.On(plant.TrustCounts) {
		return nil
	}
	cost, err := checkBody(req.Key, req.Version, req.Body)
	if err != nil {
		return &DecodeError{req.Key, req.Version, err}
	}
	if req.Conn == nil { // tests may decode without one
		return nil
	}
	s := req.Conn.server
	if cost > s.decoding.limit {
		return fmt.Errorf("%s v%d of %d bytes: %w", keyName(req.Key), req.Version, len(req.Body), ErrTooLargeToDecode)
	}
	if err := s.decoding.take(nil, cost, s.cfg.BudgetTimeout, req.Conn.done, s.draining); err != nil {
		return budgetCloseError(err)
	}
	req.decoding += cost
	return nil
}

// readMessage calls kmsg's decoder and turns a panic into an error.
func readMessage(req *Request, into kmsg.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &DecodeError{req.Key, req.Version, fmt.Errorf("panic: %v", v)}
		}
	}()
	if err := into.ReadFrom(req.Body); err != nil {
		return &DecodeError{req.Key, req.Version, err}
	}
	return nil
}
