package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// A value is text: its format's version, a space, its CRC32C in eight hex digits, a space, a JSON object. The checksum covers
// the key too, so that a value under the wrong key is damage. See docs/formats/metadata.md.
const (
	valueVersion = "1"
	valueHeader  = len(valueVersion) + 1 + 8 + 1
)

// maxTopicPartitions bounds one topic, so that no stored number makes an image larger than the store that it came from would.
const maxTopicPartitions = 100_000

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type (
	topicValue struct {
		ID         string            `json:"id"`
		Partitions int32             `json:"partitions"`
		CreatedMs  int64             `json:"created_ms"`
		Internal   bool              `json:"internal,omitempty"`
		Configs    map[string]string `json:"configs,omitempty"`
	}
	tombstoneValue struct {
		Name       string `json:"name"`
		Partitions int32  `json:"partitions"`
		DeletedMs  int64  `json:"deleted_ms"`
	}
	configsValue struct {
		Configs map[string]string `json:"configs"`
	}
	brokerValue struct {
		Rack      string          `json:"rack,omitempty"`
		Endpoints []endpointValue `json:"endpoints"`
	}
	endpointValue struct {
		Name     string `json:"name"`
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Protocol string `json:"protocol"`
	}
	clusterValue struct {
		ID string `json:"id"`
	}
	featuresValue struct {
		Levels map[string]int16 `json:"levels"`
	}
	counterValue struct {
		Next int64 `json:"next"`
	}
	guardValue struct {
		Topics int64  `json:"topics"`
		IDs    string `json:"ids"` // all topic ids, XORed
	}
)

func valueCRC(key, version string, payload []byte) uint32 {
	crc := crc32.Update(0, castagnoli, []byte(key))
	crc = crc32.Update(crc, castagnoli, []byte("\x00"+version+"\x00"))
	return crc32.Update(crc, castagnoli, payload)
}

func encodeValue(key string, v any) []byte {
	var payload bytes.Buffer
	enc := json.NewEncoder(&payload)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("encode metadata value of %s: %v", key, err)) // only our own plain structs get here
	}
	body := bytes.TrimSuffix(payload.Bytes(), []byte("\n"))
	out := make([]byte, 0, valueHeader+len(body))
	out = fmt.Appendf(out, "%s %08x ", valueVersion, valueCRC(key, valueVersion, body))
	return append(out, body...)
}

// decodeValue reads a value into v. Fields that it does not know are an error: a change of a value would lose them.
//
// Errors: *DamageError; ErrUnknownFormat for a whole value of another version.
func decodeValue(key string, value []byte, v any) error {
	damaged := func(reason string) error { return &DamageError{Key: key, Reason: reason} }
	version, rest, ok := bytes.Cut(value, []byte(" "))
	if !ok || len(rest) < 9 || rest[8] != ' ' || len(version) > 4 {
		return damaged("no header")
	}
	payload := rest[9:]
	if want := fmt.Sprintf("%08x", valueCRC(key, string(version), payload)); want != string(rest[:8]) {
		return damaged(fmt.Sprintf("its checksum is %s, stored is %q", want, rest[:8]))
	}
	if string(version) != valueVersion {
		return fmt.Errorf("%w: key %q has version %s", ErrUnknownFormat, key, strconv.Quote(string(version)))
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return damaged(err.Error())
	}
	if _, err := dec.Token(); err != io.EOF {
		return damaged("more than one object")
	}
	return nil
}

func encodeTopic(t *Topic) (key string, value []byte) {
	key = topicKey(t.Name)
	return key, encodeValue(key, topicValue{
		ID: t.ID.String(), Partitions: int32(len(t.Partitions)), CreatedMs: t.Created.UnixMilli(), Internal: t.Internal, Configs: t.Configs,
	})
}

// decodeTopic reads a topic, all but its partitions, of which it returns the number.
func decodeTopic(kv KV) (*Topic, int32, error) {
	name, err := unescapeName(kv.Key[len(prefixTopics):])
	if err != nil {
		return nil, 0, &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	if err := ValidateTopicName(name); err != nil {
		return nil, 0, &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	var v topicValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return nil, 0, err
	}
	id, err := base.ParseTopicID(v.ID)
	if err == nil && id.IsZero() {
		err = fmt.Errorf("the topic id is zero")
	}
	if err == nil && (v.Partitions < 1 || v.Partitions > maxTopicPartitions) {
		err = fmt.Errorf("%d partitions", v.Partitions)
	}
	if err != nil {
		return nil, 0, &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	return &Topic{
		Name: name, ID: id, Created: time.UnixMilli(v.CreatedMs), Internal: v.Internal, Configs: v.Configs,
		ReplicationFactor: 1, modRevision: kv.ModRevision,
	}, v.Partitions, nil
}

func encodeTombstone(t Tombstone) (key string, value []byte) {
	key = tombstoneKey(t.ID)
	return key, encodeValue(key, tombstoneValue{Name: t.Name, Partitions: t.Partitions, DeletedMs: t.Deleted.UnixMilli()})
}

func decodeTombstone(kv KV) (Tombstone, error) {
	id, err := base.ParseTopicID(kv.Key[len(prefixDeleted):])
	if err != nil {
		return Tombstone{}, &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	var v tombstoneValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return Tombstone{}, err
	}
	return Tombstone{ID: id, Name: v.Name, Partitions: v.Partitions, Deleted: time.UnixMilli(v.DeletedMs)}, nil
}

func encodeBroker(b Broker) (key string, value []byte) {
	key = brokerKey(b.ID)
	v := brokerValue{Rack: b.Rack, Endpoints: []endpointValue{}}
	for _, e := range b.Endpoints {
		v.Endpoints = append(v.Endpoints, endpointValue(e))
	}
	return key, encodeValue(key, v)
}

func decodeBroker(kv KV) (Broker, error) {
	text := kv.Key[len(prefixBrokers):]
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 0 || strconv.FormatInt(id, 10) != text {
		return Broker{}, &DamageError{Key: kv.Key, Reason: "no broker id"}
	}
	var v brokerValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return Broker{}, err
	}
	b := Broker{ID: base.BrokerID(id), Rack: v.Rack}
	for _, e := range v.Endpoints {
		b.Endpoints = append(b.Endpoints, Endpoint(e))
	}
	return b, nil
}
