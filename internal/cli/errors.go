package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Error is an error for people: what happened and what to do next.
type Error struct {
	Message string
	Next    string // a sentence or command; may be empty
	Err     error  // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Next returns what the user can do about err, or "".
func Next(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Next
	}
	return ""
}

// ErrInterrupted ends a verb that the user stopped before its work was done.
var ErrInterrupted = errors.New("interrupted")

// hints are the next steps for Kafka's error codes that people meet.
var hints = map[*kerr.Error]string{
	kerr.UnknownTopicOrPartition:      "see what there is with `ottla topic list`, or make it with `ottla topic create NAME`",
	kerr.UnknownTopicID:               "the topic was deleted meanwhile; see `ottla topic list`",
	kerr.TopicAlreadyExists:           "add --if-not-exists if that is fine, or look at it with `ottla topic describe NAME`",
	kerr.InvalidTopicException:        "a name has 1 to 249 letters, digits, dots, underscores and hyphens",
	kerr.InvalidReplicationFactor:     "a replica needs a broker of its own: leave out --replication-factor to take the broker's default",
	kerr.InvalidPartitions:            "partitions can be added, never taken away; --partitions is the new total",
	kerr.InvalidConfig:                "list the settings with `ottla config describe topic NAME`, or read about one with `ottla config explain KEY`",
	kerr.MessageTooLarge:              "raise the topic's limit with `ottla topic alter NAME --config max.message.bytes=N`",
	kerr.RecordListTooLarge:           "the record is larger than a segment; raise segment.bytes of the topic",
	kerr.GroupIDNotFound:              "see what there is with `ottla group list`",
	kerr.NonEmptyGroup:                "stop the group's consumers first; `ottla group describe NAME` names them",
	kerr.TopicAuthorizationFailed:     "the broker denies this user; give credentials with -X sasl.username=… -X sasl.password=…",
	kerr.GroupAuthorizationFailed:     "the broker denies this user; give credentials with -X sasl.username=… -X sasl.password=…",
	kerr.ClusterAuthorizationFailed:   "the broker denies this user; give credentials with -X sasl.username=… -X sasl.password=…",
	kerr.SaslAuthenticationFailed:     "check -X sasl.mechanism, sasl.username and sasl.password",
	kerr.OffsetOutOfRange:             "see which offsets exist with `ottla topic describe NAME`",
	kerr.KafkaStorageError:            "the broker cannot read or write its disk; look at its log and at `ottla doctor`",
	kerr.UnsupportedVersion:           "the broker is too old, or does not offer this; `ottla doctor` shows what it serves",
	kerr.PolicyViolation:              "the broker's policy forbids it; its message says what",
	kerr.TopicDeletionDisabled:        "the broker runs with delete.topic.enable=false",
	kerr.CoordinatorNotAvailable:      "the group coordinator is not up yet; try again in a moment, or ask `ottla doctor`",
	kerr.NotEnoughReplicas:            "fewer replicas are in sync than min.insync.replicas asks for; see `ottla topic describe NAME`",
	kerr.NotEnoughReplicasAfterAppend: "fewer replicas are in sync than min.insync.replicas asks for; see `ottla topic describe NAME`",
}

// explain turns an error of the client library into one for people. ctx is the one that With made: its cause tells more than the
// "context canceled" that the library saw.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// What With found out about the cluster tells more than what the library saw of it.
	if cause := lost(ctx); cause != nil {
		err = cause
	}
	var known *Error
	var code *kerr.Error
	var eof *kgo.ErrFirstReadEOF
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &eof):
		return &Error{
			Message: "the server closed the connection at the first request",
			Next:    "is it a Kafka listener? If it wants TLS, add -X security.protocol=SSL; if it wants a login, add -X security.protocol=SASL_PLAINTEXT and credentials",
			Err:     io.EOF,
		}
	case errors.As(err, &code):
		return &Error{Message: codeText(code, ""), Next: hints[code]}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Message: "no answer in time", Next: "`ottla doctor` tells what is wrong; --timeout gives it longer", Err: nil}
	case errors.Is(err, context.Canceled):
		return ErrInterrupted
	}
	return err
}

// lost returns why the cluster cannot be reached, if With has found that out and ended ctx with it.
func lost(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return nil
	}
	return cause
}

// codeText says what a code means in the broker's words, or else in the library's, and the code's name for search engines.
func codeText(code *kerr.Error, words string) string {
	words = strings.TrimSuffix(cmp.Or(words, code.Description), ".")
	return fmt.Sprintf("%s (%s)", words, code.Message)
}

// refused is the error of one item of a request: what it was about, the code, and the broker's own words, if any.
func refused(subject string, err error, words string) error {
	var code *kerr.Error
	if !errors.As(err, &code) {
		return fmt.Errorf("%s: %w", subject, err)
	}
	next := strings.ReplaceAll(hints[code], "NAME", subject[strings.LastIndexByte(subject, ' ')+1:])
	return &Error{Message: subject + ": " + codeText(code, words), Next: next}
}
