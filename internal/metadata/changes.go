package metadata

import (
	"context"
	"errors"
	"maps"
	"math"
	"reflect"

	"github.com/ottlaio/ottla/internal/base"
)

// ProducerIDBlock is how many producer ids one allocation takes (Kafka: ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE).
const ProducerIDBlock = 1000

// errExhausted means that a counter cannot count further. No broker lives that long.
var errExhausted = errors.New("counter exhausted")

// AlterConfigs replaces a resource's settings by what change makes of them. change gets a copy that it may alter and return;
// it is called again when someone else changed the resource in between, so it must have no effects of its own. An error of
// change is returned as it is. An empty result removes the resource's settings.
//
// Errors: *Error with ErrUnknownTopic for a topic that does not exist, with ErrInvalidRequest for an unknown type of resource
// or settings beyond 512 KiB; ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) AlterConfigs(ctx context.Context, r Resource, change func(current map[string]string) (map[string]string, error)) error {
	return m.update(ctx, func(img *Image) (Txn, error) {
		txn, err := planConfigs(img, r, change)
		if err != nil {
			return Txn{}, err
		}
		for _, op := range txn.Ops {
			if len(op.Key)+len(op.Value) > bytesPerTxn {
				return Txn{}, refuse(ErrInvalidRequest, "The configuration of the %s '%s' is too large.", r.Type, r.Name)
			}
		}
		return txn, nil
	})
}

func planConfigs(img *Image, r Resource, change func(map[string]string) (map[string]string, error)) (Txn, error) {
	if _, known := resourceTypeNames[r.Type]; !known {
		return Txn{}, refuse(ErrInvalidRequest, "Unexpected resource type %d.", r.Type)
	}
	topic, exists := img.topics.get(r.Name)
	if r.Type == ResourceTopic && !exists {
		return Txn{}, &Error{Kind: ErrUnknownTopic}
	}
	current := img.Config(r)
	copied := maps.Clone(current)
	if copied == nil {
		copied = map[string]string{}
	}
	next, err := change(copied)
	if err != nil || maps.Equal(current, next) {
		return Txn{}, err
	}
	next = maps.Clone(next) // change may have kept it
	if r.Type == ResourceTopic {
		altered := *topic
		altered.Configs = next
		return replaceTopic(&altered), nil
	}
	entry, _ := img.configs.get(r)
	key := configKey(r)
	op := Op{Key: key, Delete: true}
	if len(next) > 0 {
		op = Op{Key: key, Value: encodeValue(key, configsValue{Configs: next})}
	}
	return Txn{Compares: []Compare{{Key: key, ModRevision: entry.modRevision}}, Ops: []Op{op}}, nil
}

// RegisterBroker writes what others should know of a broker.
func (m *Metadata) RegisterBroker(ctx context.Context, b Broker) error {
	return m.update(ctx, func(img *Image) (Txn, error) {
		if b.ID < 0 {
			return Txn{}, refuse(ErrInvalidRequest, "The broker id %d is below zero.", b.ID)
		}
		if known, ok := img.Broker(b.ID); ok && reflect.DeepEqual(known, b) {
			return Txn{}, nil
		}
		key, value := encodeBroker(b)
		return Txn{Ops: []Op{{Key: key, Value: value}}, Essential: true}, nil
	})
}

// UnregisterBroker forgets a broker. This broker itself cannot be forgotten: it serves.
//
// Errors: *Error with ErrUnknownBroker or ErrInvalidRequest; ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) UnregisterBroker(ctx context.Context, id base.BrokerID) error {
	if id == m.opts.BrokerID {
		return refuse(ErrInvalidRequest, "Broker ID %d serves this request, it cannot be unregistered", id)
	}
	return m.update(ctx, func(img *Image) (Txn, error) {
		if _, ok := img.Broker(id); !ok {
			return Txn{}, refuse(ErrUnknownBroker, "Broker ID %d is not currently registered", id)
		}
		return Txn{Ops: []Op{{Key: brokerKey(id), Delete: true}}, Essential: true}, nil
	})
}

// BeginEpoch takes the next leader epoch, of which the first is 0. A broker calls it once at each start, before it leads
// anything; from then on the image's partitions have it.
func (m *Metadata) BeginEpoch(ctx context.Context) (base.LeaderEpoch, error) {
	var epoch int64
	err := m.update(ctx, func(img *Image) (Txn, error) {
		epoch = img.leaderEpochs.next
		txn, err := count(keyLeaderEpochs, img.leaderEpochs, epoch+1, math.MaxInt32)
		txn.Essential = true
		return txn, err
	})
	if err != nil {
		return base.NoLeaderEpoch, err
	}
	return base.LeaderEpoch(epoch), nil
}

// AllocateProducerIDs takes count producer ids beginning at first, which nobody was given before.
func (m *Metadata) AllocateProducerIDs(ctx context.Context) (first base.ProducerID, n int32, err error) {
	var start int64
	err = m.update(ctx, func(img *Image) (Txn, error) {
		start = max(img.producerIDs.next, m.producerID.Load())
		return count(keyProducerIDs, img.producerIDs, start+ProducerIDBlock, math.MaxInt64-ProducerIDBlock)
	})
	if err != nil {
		return base.NoProducerID, 0, err
	}
	return base.ProducerID(start), ProducerIDBlock, nil
}

// count plans a counter's next value.
func count(key string, c counter, next, limit int64) (Txn, error) {
	if next > limit || next <= c.next {
		return Txn{}, errExhausted
	}
	return Txn{
		Compares: []Compare{{Key: key, ModRevision: c.modRevision}},
		Ops:      []Op{{Key: key, Value: encodeValue(key, counterValue{Next: next})}},
	}, nil
}

// maxProducerID is far above what counting by blocks ever reaches, and far below where the counter ends.
const maxProducerID = 1 << 62

// RaiseProducerIDs makes sure that no producer id up to and including highest is allocated from now on. A broker calls it
// with the highest id found in any partition, because metadata that was restored from a backup knows too low a number. Ids
// that no allocation can have reached are ignored: anyone can write a batch with any id.
func (m *Metadata) RaiseProducerIDs(highest base.ProducerID) {
	if highest > maxProducerID {
		m.log.Warn("ignored a producer id that was never allocated", "producer_id", highest)
		return
	}
	for {
		floor := m.producerID.Load()
		if int64(highest) < floor || m.producerID.CompareAndSwap(floor, int64(highest)+1) {
			return
		}
	}
}
