package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/wal"
	"github.com/ottlaio/ottla/internal/wire"
)

// codes is the one place where errors of the domain become Kafka's codes: the first row that matches by errors.Is wins. The code is
// picked by what real clients do with it: try again, refresh their metadata, or give up.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	// Coordinators. All of these have a client look for the coordinator again, or simply try again. They come
	// first because a coordinator's error may wrap the storage's.
	{coordinator.ErrNotCoordinator, kerr.NotCoordinator},
	{coordinator.ErrLoading, kerr.CoordinatorLoadInProgress},
	{coordinator.ErrUnavailable, kerr.CoordinatorNotAvailable},
	{coordinator.ErrClosed, kerr.CoordinatorNotAvailable},
	{coordinator.ErrUnknownRecord, kerr.UnknownServerError}, // only the runtime sees it

	// Share coordinator.
	{share.ErrFencedStateEpoch, kerr.FencedStateEpoch},
	{share.ErrFencedLeaderEpoch, kerr.FencedLeaderEpoch},
	{share.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{share.ErrNotInitialized, kerr.InvalidRequest},
	{share.ErrInvalidState, kerr.InvalidRequest},

	// What producers send. Rows of wrapped sentinels come before those they wrap.
	{record.ErrUnsupportedMagic, kerr.InvalidRecord},
	{record.ErrUnsupportedCodec, kerr.UnsupportedCompressionType},
	{record.ErrInvalidRecord, kerr.InvalidRecord},
	{record.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{record.ErrTooLarge, kerr.MessageTooLarge},
	{wal.ErrTooLarge, kerr.MessageTooLarge}, // beyond what the whole wal could hold
	{record.ErrCRC, kerr.CorruptMessage},
	{record.ErrCorrupt, kerr.CorruptMessage},
	{record.ErrShort, kerr.CorruptMessage},

	// Storage. A full disk and a failed one are the same to a client: it refreshes its metadata and tries again.
	{storage.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{storage.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{storage.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{storage.ErrInvalidTxnState, kerr.InvalidTxnState},
	{storage.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{storage.ErrNoSpace, kerr.KafkaStorageError},
	{storage.ErrFailed, kerr.KafkaStorageError},
	{storage.ErrDamage, kerr.KafkaStorageError},
	{storage.ErrClosed, kerr.NotLeaderForPartition},
	{storage.ErrDeleted, kerr.UnknownTopicOrPartition},
	{storage.ErrStaleLeaderEpoch, kerr.NotLeaderForPartition},
	{storage.ErrExists, kerr.UnknownServerError}, // only the owner of the engine sees it

	// Share groups. A share partition whose state moved on under another leader is gone from here.
	{share.ErrSessionNotFound, kerr.ShareSessionNotFound},
	{share.ErrSessionEpoch, kerr.InvalidShareSessionEpoch},
	{share.ErrSessionLimit, kerr.ShareSessionLimitReached},
	{share.ErrInitialAcks, kerr.InvalidRequest},
	{share.ErrInvalidAck, kerr.InvalidRequest},
	{share.ErrInvalidRecordState, kerr.InvalidRecordState},
	{share.ErrRenewDisabled, kerr.InvalidRecordState},
	{share.ErrClosed, kerr.NotLeaderForPartition},

	// Metadata. What the store cannot do now it may do later: clients try a timed out request again.
	{metadata.ErrInvalidTopicName, kerr.InvalidTopicException},
	{metadata.ErrTopicExists, kerr.TopicAlreadyExists},
	{metadata.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
	{metadata.ErrUnknownTopicID, kerr.UnknownTopicID},
	{metadata.ErrInvalidPartitions, kerr.InvalidPartitions},
	{metadata.ErrInvalidReplicationFactor, kerr.InvalidReplicationFactor},
	{metadata.ErrInvalidReplicaAssignment, kerr.InvalidReplicaAssignment},
	{metadata.ErrInvalidRequest, kerr.InvalidRequest},
	{metadata.ErrUnknownBroker, kerr.BrokerIDNotRegistered},
	{metadata.ErrPolicyViolation, kerr.PolicyViolation},
	{metadata.ErrInvalidFeature, kerr.InvalidUpdateVersion},
	{metadata.ErrTxnTooLarge, kerr.InvalidRequest},
	{metadata.ErrNoSpace, kerr.KafkaStorageError},
	{metadata.ErrConflict, kerr.RequestTimedOut},
	{metadata.ErrTimeout, kerr.RequestTimedOut},
	{metadata.ErrFailed, kerr.KafkaStorageError}, // clients try again, and meet the broker that is started after this one
	{metadata.ErrClosed, kerr.BrokerNotAvailable},
	// These are for whoever opens the store, and say that something is wrong if a request meets them.
	{metadata.ErrCompacted, kerr.UnknownServerError},
	{metadata.ErrFutureRevision, kerr.UnknownServerError},
	{metadata.ErrDamaged, kerr.UnknownServerError},
	{metadata.ErrUnknownFormat, kerr.UnknownServerError},
	{metadata.ErrClusterID, kerr.UnknownServerError},

	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

// Refusals that several handlers raise.
var (
	errUnknownPartition    = refuse(kerr.UnknownTopicOrPartition, "This server does not host this topic-partition.")
	errUnknownTopicID      = refuse(kerr.UnknownTopicID, "This server does not host this topic ID.")
	errPartitionOffline    = refuse(kerr.NotLeaderForPartition, "The partition is not open on this broker.")
	errInvalidRequiredAcks = refuse(kerr.InvalidRequiredAcks, "Produce request specified an invalid value for required acks.")
	errInternalTopic       = refuse(kerr.InvalidTopicException, "Cannot append to an internal topic.")
	errZstdTooEarly        = refuse(kerr.UnsupportedCompressionType, "Produce requests below version %d may not use ZStandard compression.", zstdVersion)
	errNotEnoughReplicas   = refuse(kerr.NotEnoughReplicas, "There are fewer in-sync replicas than min.insync.replicas.")
	errNoTransaction       = refuse(kerr.InvalidTxnState, "Partition was not added to the transaction")
	errNoTransactionalID   = refuse(kerr.TransactionalIDAuthorizationFailed, "A transactional batch needs a transactional id.")
	errFencedLeaderEpoch   = refuse(kerr.FencedLeaderEpoch, "The leader epoch in the request is older than the broker's.")
	errUnknownLeaderEpoch  = refuse(kerr.UnknownLeaderEpoch, "The leader epoch in the request is newer than the broker's.")
)

// codeOf is the protocol's code for err, 0 for nil. An error that nobody gave a code is UNKNOWN_SERVER_ERROR, and is logged with
// the request's identity: it is a fault in this program.
func (a *API) codeOf(c *call, err error) int16 {
	code, known := lookUp(err)
	if !known {
		a.logger.Error("request failed for an unforeseen reason", "api", kmsg.NameForKey(c.Key), "version", c.Version,
			"client_id", c.ClientID, "remote", c.Conn.RemoteAddr(), "err", err)
	}
	return code
}

// lookUp is codeOf without the log.
func lookUp(err error) (code int16, known bool) {
	if err == nil {
		return 0, true
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.code.Code, true
	}
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		return kerr.InvalidConfig.Code, true
	}
	var closed *wire.CloseError
	if errors.As(err, &closed) {
		return kerr.RequestTimedOut.Code, true // nobody is there to read it
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return row.code.Code, true
		}
	}
	return kerr.UnknownServerError.Code, false
}

// messageOf is the text that goes with codeOf, nil where there is none to give.
func messageOf(err error) *string {
	var domain *metadata.Error
	if err == nil || err.Error() == "" || errors.As(err, &domain) && domain.Message == "" {
		return nil
	}
	return kmsg.StringPtr(err.Error())
}

// refusal is an error that a handler itself raises: a code, and the text for the client.
type refusal struct {
	code *kerr.Error
	text string
}

// Error returns the text alone: it is what the client sees.
func (r *refusal) Error() string { return r.text }

// refuse returns an error with a code of its own. The answer carries the text where its version has a place for it.
func refuse(code *kerr.Error, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}
