package api

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The expected codes are what Apache Kafka 4.3.1 answered; its order is that of a hash.
func TestAlterReplicaLogDirsAnswersAsTheReference(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	c := b.client()
	type dir struct{ dir, topic string } // the topic as "topic:0,1"
	cases := []struct {
		name string
		dirs []dir
		want []string
	}{
		{"the same", []dir{{"/data", "p:0,1"}}, []string{"p:0 0", "p:1 0"}},
		{"the same in two parts", []dir{{"/data", "p:0"}, {"/data", "p:1"}}, []string{"p:0 0", "p:1 0"}},
		{"another", []dir{{"/no/such/dir", "p:0"}}, []string{"p:0 57"}},
		{"with a slash", []dir{{"/data/", "p:0"}}, []string{"p:0 57"}},
		{"relative", []dir{{"data", "p:0"}}, []string{"p:0 57"}},
		{"empty", []dir{{"", "p:0"}}, []string{"p:0 57"}},
		{"unknown topic", []dir{{"/data", "nope:0"}, {"/data", ":0"}}, []string{"nope:0 3", ":0 3"}},
		{"unknown partition", []dir{{"/data", "p:7,-1"}}, []string{"p:7 3", "p:-1 3"}},
		{"unknown topic to another", []dir{{"/no/such/dir", "nope:0"}}, []string{"nope:0 57"}},
		{"each its own", []dir{{"/data", "p:0"}, {"/no/such/dir", "p:1"}}, []string{"p:0 0", "p:1 57"}},
		{"the last counts", []dir{{"/data", "p:0"}, {"/no/such/dir", "p:0"}}, []string{"p:0 57"}},
		{"the last counts, the other way", []dir{{"/no/such/dir", "p:0"}, {"/data", "p:0"}}, []string{"p:0 0"}},
		{"twice", []dir{{"/data", "p:0,0"}}, []string{"p:0 0"}},
		{"no partitions", []dir{{"/data", "p:"}}, nil},
		{"nothing", nil, nil},
	}
	for _, tc := range cases {
		for version := int16(1); version <= 2; version++ {
			req := kmsg.NewPtrAlterReplicaLogDirsRequest()
			req.Version = version
			for _, d := range tc.dirs {
				topic := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
				topic.Topic, topic.Partitions = partitionSpec(t, d.topic)
				out := kmsg.NewAlterReplicaLogDirsRequestDir()
				out.Dir, out.Topics = d.dir, append(out.Topics, topic)
				req.Dirs = append(req.Dirs, out)
			}
			resp := ask[*kmsg.AlterReplicaLogDirsResponse](c, req)
			var got []string
			for _, topic := range resp.Topics {
				if len(topic.Partitions) == 0 {
					t.Errorf("%s, v%d: topic %s without partitions", tc.name, version, topic.Topic)
				}
				for _, p := range topic.Partitions {
					got = append(got, shownCode(topic.Topic, p.Partition, p.ErrorCode))
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s, v%d: %q, want %q", tc.name, version, got, tc.want)
			}
		}
	}
}

func TestPartitionsAreWhereTheyAreShownToBe(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 1)
	c := b.client()
	shown := ask[*kmsg.DescribeLogDirsResponse](c, &kmsg.DescribeLogDirsRequest{Version: 4})
	req := kmsg.NewPtrAlterReplicaLogDirsRequest()
	req.Version = 2
	req.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{
		Dir: shown.Dirs[0].Dir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "p", Partitions: []int32{0}}},
	}}
	if got := ask[*kmsg.AlterReplicaLogDirsResponse](c, req).Topics[0].Partitions[0]; got.ErrorCode != 0 {
		t.Errorf("to where it is shown to be: code %d", got.ErrorCode)
	}
}
