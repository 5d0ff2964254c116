package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group"
)

// A client that names the coordinators' topic before any group exists gets it with the coordinators' own number of partitions: with
// another number, groups would be looked for where they are not.
func TestMetadataCreatesTheOffsetsTopicAsTheCoordinatorDoes(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "num.partitions=1")
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 12, true
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(group.Topic)
	req.Topics = append(req.Topics, asked)
	resp := ask[*kmsg.MetadataResponse](b.client(), req)
	if got := resp.Topics[0]; got.ErrorCode != 0 || len(got.Partitions) != 4 || !got.IsInternal {
		t.Errorf("error %d, %d partitions, internal %v; want the coordinator's 4 partitions, internal", got.ErrorCode, len(got.Partitions), got.IsInternal)
	}
}
