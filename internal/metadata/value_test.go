package metadata

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

var goldenID = base.TopicID{0x1b, 0xfe, 0x70, 0x0a, 0xb2, 0xc4, 0x4d, 0x21, 0x8d, 0x0e, 0x91, 0x00, 0xff, 0x3b, 0x5c, 0x77}

// TestValuesAreAsDocumented has the examples of docs/formats/metadata.md.
func TestValuesAreAsDocumented(t *testing.T) {
	at := time.UnixMilli(1_800_000_000_000)
	pair := func(key string, value []byte) [2]string { return [2]string{key, string(value)} }
	for _, c := range []struct{ got, want [2]string }{
		{
			pair(encodeTopic(&Topic{Name: "orders", ID: goldenID, Created: at, Configs: map[string]string{"retention.ms": "1000", "cleanup.policy": "compact"}, Partitions: make([]Partition, 3)})),
			[2]string{"topics/orders", `1 65e2f35c {"id":"G_5wCrLETSGNDpEA_ztcdw","partitions":3,"created_ms":1800000000000,"configs":{"cleanup.policy":"compact","retention.ms":"1000"}}`},
		},
		{
			pair(encodeTopic(&Topic{Name: "__consumer_offsets", ID: goldenID, Created: at, Internal: true, Partitions: make([]Partition, 50)})),
			[2]string{"topics/__consumer_offsets", `1 39ae7707 {"id":"G_5wCrLETSGNDpEA_ztcdw","partitions":50,"created_ms":1800000000000,"internal":true}`},
		},
		{
			pair(encodeTombstone(Tombstone{ID: goldenID, Name: "orders", Partitions: 3, Deleted: at})),
			[2]string{"deleted/G_5wCrLETSGNDpEA_ztcdw", `1 b743efa8 {"name":"orders","partitions":3,"deleted_ms":1800000000000}`},
		},
		{
			pair(encodeBroker(Broker{ID: 1, Rack: "a", Endpoints: []Endpoint{{"PLAINTEXT", "localhost", 9092, "PLAINTEXT"}}})),
			[2]string{"brokers/1", `1 ca261597 {"rack":"a","endpoints":[{"name":"PLAINTEXT","host":"localhost","port":9092,"protocol":"PLAINTEXT"}]}`},
		},
		{
			pair(configKey(Resource{ResourceBroker, ""}), encodeValue("configs/broker/<default>", configsValue{map[string]string{"log.retention.ms": "<1>"}})),
			[2]string{"configs/broker/<default>", `1 27755f08 {"configs":{"log.retention.ms":"<1>"}}`},
		},
		{
			pair(configKey(Resource{ResourceGroup, "a/b é"}), encodeValue("configs/group/a%2Fb%20%C3%A9", configsValue{map[string]string{}})),
			[2]string{"configs/group/a%2Fb%20%C3%A9", `1 35bd23ab {"configs":{}}`},
		},
		{
			pair(keyTopicGuard, encodeValue(keyTopicGuard, guardValue{1, goldenID.String()})),
			[2]string{"guards/topics", `1 f31a6b52 {"topics":1,"ids":"G_5wCrLETSGNDpEA_ztcdw"}`},
		},
		{pair(keyCluster, encodeValue(keyCluster, clusterValue{goldenID.String()})), [2]string{"cluster", `1 0bedd5f0 {"id":"G_5wCrLETSGNDpEA_ztcdw"}`}},
		{pair(keyFeatures, encodeValue(keyFeatures, featuresValue{map[string]int16{"group.version": 1}})), [2]string{"features", `1 b60f2640 {"levels":{"group.version":1}}`}},
		{pair(keyLeaderEpochs, encodeValue(keyLeaderEpochs, counterValue{7})), [2]string{"counters/leader-epochs", `1 0fff0963 {"next":7}`}},
		{pair(keyProducerIDs, encodeValue(keyProducerIDs, counterValue{3000})), [2]string{"counters/producer-ids", `1 bcff7ef6 {"next":3000}`}},
	} {
		if c.got != c.want {
			t.Errorf("got  %s = %s\nwant %s = %s", c.got[0], c.got[1], c.want[0], c.want[1])
		}
	}
}

func TestNamesSurviveEscaping(t *testing.T) {
	for _, name := range []string{"plain", "", "a/b", "é", "%41", "%", "\x00\xff", "<default>", "a.b_c-d"} {
		got, err := unescapeName(escapeName(name))
		if got != name || err != nil {
			t.Errorf("%q became %q, %v", name, got, err)
		}
	}
	for _, escaped := range []string{"%", "%4", "%41", "%2f", "%GG", "a/b", "é", "%+1"} {
		if name, err := unescapeName(escaped); err == nil {
			t.Errorf("%q is taken for %q", escaped, name)
		}
	}
}

// FuzzDecodeKV puts any key and value into an image: it is refused, or means exactly what encoding it again says.
func FuzzDecodeKV(f *testing.F) {
	seed := func(key string, value []byte) { f.Add(key, value, false) }
	seed(encodeTopic(&Topic{Name: "t", ID: goldenID, Created: time.UnixMilli(1), Configs: map[string]string{"k": "v"}, Partitions: make([]Partition, 3)}))
	seed(encodeTombstone(Tombstone{ID: goldenID, Name: "t", Partitions: 3, Deleted: time.UnixMilli(1)}))
	seed(encodeBroker(Broker{ID: 1, Endpoints: []Endpoint{{"a", "b", 1, "c"}}}))
	for key, v := range map[string]any{
		keyCluster: clusterValue{goldenID.String()}, keyFeatures: featuresValue{map[string]int16{"a": 1}}, keyProducerIDs: counterValue{1},
		keyLeaderEpochs: counterValue{1}, keyTopicGuard: guardValue{1, goldenID.String()}, "configs/group/g": configsValue{map[string]string{"a": "b"}},
	} {
		seed(key, encodeValue(key, v))
		_, payload, _ := bytes.Cut(encodeValue(key, v), []byte("{"))
		f.Add(key, append([]byte("{"), payload...), true)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte, sum bool) {
		if sum { // let the fuzzer past the checksum
			value = append([]byte(valueVersion+" "+crcText(key, value)+" "), value...)
		}
		e := newImageEdit(imageState{})
		e.put(KV{Key: key, Value: value, ModRevision: 2})
		for _, err := range e.errs {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownFormat) {
				t.Fatalf("neither damage nor another format: %v", err)
			}
		}
		for _, topic := range e.topics.m.all() {
			again, n, err := decodeTopic(KV{Key: key, Value: mustSecond(encodeTopic(topic)), ModRevision: 2})
			if err != nil || int(n) != len(topic.Partitions) || again.ID != topic.ID || !sameSettings(again.Configs, topic.Configs) || !again.Created.Equal(topic.Created) {
				t.Fatalf("%+v became %+v, %v", topic, again, err)
			}
		}
		for _, b := range e.s.brokers {
			again, err := decodeBroker(KV{Key: key, Value: mustSecond(encodeBroker(b))})
			if err != nil || !reflect.DeepEqual(again, b) {
				t.Fatalf("%+v became %+v, %v", b, again, err)
			}
		}
		e.remove(key)
	})
}

func sameSettings(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func mustSecond(_ string, value []byte) []byte { return value }

func crcText(key string, payload []byte) string {
	const digits = "0123456789abcdef"
	sum := valueCRC(key, valueVersion, payload)
	text := make([]byte, 8)
	for i := range text {
		text[i] = digits[sum>>(28-4*i)&15]
	}
	return string(text)
}
