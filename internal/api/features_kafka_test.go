package api

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestFeaturesAnswerAsKafka updates the levels of features, and asks for what a feature has switched off. It compares each answer with the
// one that Apache Kafka 4.3.1 gave.
func TestFeaturesAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/features-kafka-4.3.1.txt", (*conversation).features,
		difference{"UpdateFeatures: metadata.version up", "only supports versions 7-30", "only supports versions 30", "the levels before are of Kafka's own formats"})
}

type featureUpdate = kmsg.UpdateFeaturesRequestFeatureUpdate

func (v *conversation) features(t *testing.T) {
	v.beginShare("t")
	for version := int16(0); version <= 2; version++ {
		v.featureUpdates(version)
	}
	v.awaitLevels(t, map[string]int16{"group.version": 1, "share.version": 1, "streams.version": 1, "transaction.version": 2})
	v.protocols("on")
	for _, f := range []string{"group.version", "share.version", "streams.version", "transaction.version"} {
		v.ask(f+" down", updateFeatures(2, featureUpdate{Feature: f, UpgradeType: 2}))
	}
	v.awaitLevels(t, map[string]int16{})
	v.protocols("off")
	v.ask("all up", updateFeatures(1, featureUpdate{Feature: "group.version", MaxVersionLevel: 1, UpgradeType: 1},
		featureUpdate{Feature: "share.version", MaxVersionLevel: 1, UpgradeType: 1}, featureUpdate{Feature: "transaction.version", MaxVersionLevel: 1, UpgradeType: 1}))
	v.awaitLevels(t, map[string]int16{"group.version": 1, "share.version": 1, "transaction.version": 1})
}

func updateFeatures(version int16, updates ...featureUpdate) *kmsg.UpdateFeaturesRequest {
	req := kmsg.NewPtrUpdateFeaturesRequest()
	req.Version, req.TimeoutMillis, req.FeatureUpdates = version, 10_000, updates
	return req
}

// featureUpdates asks for updates that are refused, are only validated, or change nothing.
func (v *conversation) featureUpdates(version int16) {
	for _, f := range []string{"group.version", "share.version", "streams.version", "transaction.version", "no.such"} {
		for level := int16(-1); level <= 3; level++ {
			for kind := range int8(5) {
				if version == 0 && kind > 0 {
					continue // there are no types yet, nor is there validation
				}
				req := updateFeatures(version, featureUpdate{Feature: f, MaxVersionLevel: level, UpgradeType: kind, AllowDowngrade: true})
				req.ValidateOnly = true
				v.ask(fmt.Sprintf("%s to %d by %d", f, level, kind), req)
			}
		}
	}
	same := featureUpdate{Feature: "transaction.version", MaxVersionLevel: 2, UpgradeType: 1}
	bad := featureUpdate{Feature: "transaction.version", MaxVersionLevel: 3, UpgradeType: 1}
	v.ask("none", updateFeatures(version))
	v.ask("as it is", updateFeatures(version, same))
	v.ask("no name", updateFeatures(version, featureUpdate{MaxVersionLevel: 1, UpgradeType: 1}))
	v.ask("twice, good last", updateFeatures(version, bad, same))
	v.ask("twice, bad last", updateFeatures(version, same, bad))
	v.ask("good and bad", updateFeatures(version, featureUpdate{Feature: "group.version", MaxVersionLevel: 1, UpgradeType: 1}, bad))
	v.ask("kraft.version as it is", updateFeatures(version, featureUpdate{Feature: "kraft.version", UpgradeType: 1}))
	v.ask("metadata.version as it is", updateFeatures(version, featureUpdate{Feature: "metadata.version", MaxVersionLevel: 30, UpgradeType: 1}))
	v.ask("metadata.version up", updateFeatures(version, featureUpdate{Feature: "metadata.version", MaxVersionLevel: 31, UpgradeType: 1}))
}

// awaitLevels waits until these features, and none but those that are the same always, are in force: Kafka's brokers follow their controller.
func (v *conversation) awaitLevels(t *testing.T, want map[string]int16) {
	t.Helper()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 4, "a", "1"
	epoch := int64(-1)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp := ask[*kmsg.ApiVersionsResponse](v.client, req)
		if resp.FinalizedFeaturesEpoch < epoch {
			t.Errorf("the epoch of the features went down from %d to %d", epoch, resp.FinalizedFeaturesEpoch)
		}
		epoch = resp.FinalizedFeaturesEpoch
		have := map[string]int16{}
		for _, f := range resp.FinalizedFeatures {
			if !slices.Contains([]string{"eligible.leader.replicas.version", "metadata.version"}, f.Name) {
				have[f.Name] = f.MaxVersionLevel
			}
		}
		if maps.Equal(have, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("features %v, want %v", have, want)
		}
	}
}

// protocols asks for what the features switch off.
func (v *conversation) protocols(label string) {
	v.ask(label, v.report("c", "a", 0))
	v.ask(label, consumerDescribe(1, "c"))
	v.ask(label, v.shareReport("s", "a", 0))
	v.ask(label, shareDescribe("s"))
	v.ask(label, v.share("nobody", 7))
	v.ask(label, v.acknowledge("nobody", 7))
	v.ask(label, v.describeShareOffsets(1, "e"))
	v.ask(label, v.alterShareOffsets("", 0, 0))
	v.ask(label, deleteShareOffsets(""))
	v.ask(label, v.stateSummary("g", 0))
	v.ask(label, v.streamsReport("st", "a", 0, plain(v.topic)))
	v.ask(label, streamsDescribe("st"))
}
