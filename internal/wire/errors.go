package wire

import (
	"errors"
	"fmt"
)

// CloseReason says why a connection was closed. The set is small and fixed, so that it can label a metric.
type CloseReason uint8

// The reasons.
const (
	CloseByClient      CloseReason = iota // the client closed it
	CloseIdle                             // nothing happened for Config.IdleTimeout
	CloseShutdown                         // the server shut down
	CloseReadFailed                       // a read failed
	CloseWriteFailed                      // a write failed
	CloseSlowReader                       // the client accepted no byte for Config.WriteTimeout
	CloseSlowFrame                        // a frame arrived too slowly
	CloseHalfFrame                        // the client closed it inside a frame
	CloseBadFrame                         // a length or a header makes no sense
	CloseFrameTooLarge                    // a frame is longer than allowed
	CloseNoMemory                         // no room in a memory budget for Config.BudgetTimeout
	CloseByHandler                        // the handler returned an error
	ClosePanic                            // the handler panicked
	CloseTooManyFromIP                    // Config.MaxConnsPerIP is reached
	closeReasons
)

var closeReasonNames = [closeReasons]string{
	"client", "idle", "shutdown", "read_failed", "write_failed", "slow_reader", "slow_frame", "half_frame",
	"bad_frame", "frame_too_large", "no_memory", "handler", "panic", "too_many_from_ip",
}

// String returns the reason's name in logs and metrics.
func (r CloseReason) String() string {
	if r < closeReasons {
		return closeReasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// CloseError is why a connection ended; it is the cause of the contexts given to Handle and Wait.
type CloseError struct {
	Reason CloseReason
	Err    error // detail, may be nil
}

// Error implements error.
func (e *CloseError) Error() string {
	if e.Err == nil {
		return "connection closed: " + e.Reason.String()
	}
	return fmt.Sprintf("connection closed: %s: %v", e.Reason, e.Err)
}

// Unwrap returns the detail.
func (e *CloseError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrShutdown) true for every connection that the server's shutdown closed.
func (e *CloseError) Is(target error) bool { return target == ErrShutdown && e.Reason == CloseShutdown }

// ErrShutdown is matched by the cause of a context that ended because the server shuts down.
var ErrShutdown = errors.New("server is shutting down")

var (
	errBudgetWait  = errors.New("no room in the memory budget")
	errBudgetEnded = errors.New("connection ended while waiting for memory")
)

func closeError(r CloseReason, err error) error { return &CloseError{Reason: r, Err: err} }

// budgetCloseError says why a connection that waited for memory is closed.
func budgetCloseError(err error) error {
	if errors.Is(err, errBudgetEnded) {
		return closeError(CloseShutdown, nil)
	}
	return closeError(CloseNoMemory, err)
}

// asCloseError finds the CloseError in err, or makes one with reason.
func asCloseError(err error, reason CloseReason) *CloseError {
	var ce *CloseError
	if errors.As(err, &ce) {
		return ce
	}
	return &CloseError{Reason: reason, Err: err}
}
