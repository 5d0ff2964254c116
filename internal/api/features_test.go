package api

import (
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/metadata"
)

// finalized asks for the features that are in force.
func finalized(c *testClient) (levels map[string]int16, epoch int64) {
	c.tb.Helper()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 4, "a-client", "1.2.3"
	resp := ask[*kmsg.ApiVersionsResponse](c, req)
	levels = map[string]int16{}
	for _, f := range resp.FinalizedFeatures {
		if f.MinVersionLevel != f.MaxVersionLevel {
			c.tb.Errorf("%s is at %d to %d", f.Name, f.MinVersionLevel, f.MaxVersionLevel)
		}
		levels[f.Name] = f.MaxVersionLevel
	}
	return levels, resp.FinalizedFeaturesEpoch
}

// TestFeaturesOfOneLevelStayAtIt is about what Kafka can update and this broker cannot.
func TestFeaturesOfOneLevelStayAtIt(t *testing.T) {
	t.Parallel()
	c := newBroker(t).client()
	before, _ := finalized(c)
	for _, tc := range []struct {
		feature string
		level   int16
		want    string
	}{
		{"eligible.leader.replicas.version", 0, ""},
		{"eligible.leader.replicas.version", 1, "Local controller 1 does not support this feature."},
		{"kraft.version", 1, "Local controller 1 does not support this feature."},
		{"metadata.version", 30, ""},
		{"metadata.version", 29, "Local controller 1 only supports versions 30"},
		{"metadata.version", 0, "Local controller 1 only supports versions 30"},
	} {
		for kind := int8(1); kind <= 3; kind++ {
			got, want := "", tc.want
			if want != "" {
				want = fmt.Sprintf("The update failed for all features since the following feature had an error: Invalid update version %d for feature %s. %s",
					tc.level, tc.feature, tc.want)
			}
			resp := ask[*kmsg.UpdateFeaturesResponse](c, updateFeatures(2, featureUpdate{Feature: tc.feature, MaxVersionLevel: tc.level, UpgradeType: kind}))
			if resp.ErrorMessage != nil {
				got = *resp.ErrorMessage
			}
			if got != want || (resp.ErrorCode == 95) != (want != "") {
				t.Errorf("%s to %d by %d: %d %q, want %q", tc.feature, tc.level, kind, resp.ErrorCode, got, want)
			}
		}
	}
	if after, _ := finalized(c); !maps.Equal(before, after) {
		t.Errorf("features %v became %v", before, after)
	}
}

func TestFeaturesEpochRisesWithTheirLevels(t *testing.T) {
	t.Parallel()
	c := newBroker(t).client()
	last := int64(0)
	for _, level := range []int16{2, 1, 0, 1, 2} {
		kind := metadata.Upgrade
		levels, epoch := finalized(c)
		if epoch <= last && last > 0 {
			t.Errorf("epoch %d after %d", epoch, last)
		}
		last = epoch
		if level < levels["transaction.version"] {
			kind = metadata.SafeDowngrade
		}
		resp := ask[*kmsg.UpdateFeaturesResponse](c, updateFeatures(2, featureUpdate{Feature: "transaction.version", MaxVersionLevel: level, UpgradeType: int8(kind)}))
		if resp.ErrorCode != 0 {
			t.Fatalf("to %d: %d", level, resp.ErrorCode)
		}
		levels, epoch = finalized(c)
		if levels["transaction.version"] != level || levels["group.version"] != 1 || levels["metadata.version"] != 30 {
			t.Errorf("set to %d: features %v", level, levels)
		}
		if level != 2 && epoch == last {
			t.Errorf("set to %d: the epoch stayed at %d", level, epoch)
		}
		last = epoch - 1
	}
}

func TestTransactionsOfBothProtocolsAtEveryLevel(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	for level := range int16(3) {
		kind := metadata.UnsafeDowngrade
		if level > 0 {
			kind = metadata.Upgrade
		}
		resp := ask[*kmsg.UpdateFeaturesResponse](b.client(), updateFeatures(2, featureUpdate{Feature: "transaction.version", MaxVersionLevel: level, UpgradeType: int8(kind)}))
		if resp.ErrorCode != 0 {
			t.Fatalf("to %d: %d", level, resp.ErrorCode)
		}
		c := newTxnClient(b, fmt.Sprint("at", level))
		for range 2 {
			c.want("add", c.add(3, "t", 0), nil)
			c.want("produce v11", c.produce(11, "t", 0, "old"), nil)
			c.want("end v4", c.end(4, true), nil)
			c.completed()
		}
		if c.init(); c.epoch != 1 {
			t.Errorf("level %d: epoch %d after two transactions of the former protocol, want 1", level, c.epoch)
		}
		for range 2 {
			c.want("produce v12", c.produce(12, "t", 0, "new"), nil)
			c.want("end v5", c.end(5, true), nil)
			c.completed()
		}
		if c.epoch != 3 {
			t.Errorf("level %d: epoch %d after two transactions of the new protocol, want 3", level, c.epoch)
		}
	}
}

func TestShareSessionsEndWithTheirFeature(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	b.earliest("g")
	mustProduce(b.client(), "t", 0, "a", "b")
	one := b.sharer("g", "one", topic)
	if got := shared(t, one.fetch(one.request(1))); got != "0: 0-1(1)" {
		t.Fatal(got)
	}
	waiting := one.request(0)
	waiting.MaxWaitMillis = 60_000
	one.send(waiting)
	off := ask[*kmsg.UpdateFeaturesResponse](b.client(), updateFeatures(2, featureUpdate{Feature: "share.version", UpgradeType: 2}))
	on := ask[*kmsg.UpdateFeaturesResponse](b.client(), updateFeatures(2, featureUpdate{Feature: "share.version", MaxVersionLevel: 1, UpgradeType: 1}))
	if off.ErrorCode != 0 || on.ErrorCode != 0 {
		t.Fatal(off.ErrorCode, on.ErrorCode)
	}
	answered[*kmsg.ShareFetchResponse](one.testClient, waiting)
	if got := shared(t, one.fetch(one.request(0))); got != "SHARE_SESSION_NOT_FOUND" {
		t.Errorf("in the session of before: %q", got)
	}
	two := b.sharer("g", "two", topic)
	if got := shared(t, two.fetch(two.request(1))); got != "0: 0-1(2)" {
		t.Errorf("another member got %q, want what the first had", got)
	}
}
