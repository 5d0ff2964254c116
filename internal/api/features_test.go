package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The expected messages are what Apache Kafka 4.3.1 answered for a feature that it does not have.
func TestUpdateFeaturesAnswersAsTheReference(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	type update = kmsg.UpdateFeaturesRequestFeatureUpdate
	const prefix = "The update failed for all features since the following feature had an error: Invalid update version "
	cases := []struct {
		name    string
		updates []update
		from    int16 // the first version that can say it
		want    string
	}{
		{"upgrade", []update{{Feature: "no.such", MaxVersionLevel: 1, UpgradeType: 1}}, 0, "1 for feature no.such. Local controller 1 does not support this feature."},
		{"downgrade", []update{{Feature: "no.such", MaxVersionLevel: 1, UpgradeType: 3, AllowDowngrade: true}}, 0, "1 for feature no.such. Local controller 1 does not support this feature."},
		{"remove", []update{{Feature: "no.such", UpgradeType: 2, AllowDowngrade: true}}, 0, "0 for feature no.such. Feature no.such not found."},
		{"below zero", []update{{Feature: "no.such", MaxVersionLevel: -1, UpgradeType: 1}}, 0, "-1 for feature no.such. A feature version cannot be less than 0."},
		{"type 0", []update{{Feature: "no.such", MaxVersionLevel: 1}}, 1, "1 for feature no.such. The controller does not support the given upgrade type."},
		{"type 9", []update{{Feature: "no.such", MaxVersionLevel: 1, UpgradeType: 9}}, 1, "1 for feature no.such. The controller does not support the given upgrade type."},
		{"no name", []update{{MaxVersionLevel: 1, UpgradeType: 1}}, 0, "1 for feature . Local controller 1 does not support this feature."},
		{"twice", []update{{Feature: "no.such", MaxVersionLevel: 1, UpgradeType: 1}, {Feature: "no.such", MaxVersionLevel: 2, UpgradeType: 1}}, 0,
			"2 for feature no.such. Local controller 1 does not support this feature."},
		{"two", []update{{Feature: "no.such", MaxVersionLevel: 2, UpgradeType: 1}, {Feature: "no.such2", MaxVersionLevel: 1, UpgradeType: 1}}, 0,
			"2 for feature no.such. Local controller 1 does not support this feature."},
		{"one of Kafka's", []update{{Feature: "eligible.leader.replicas.version", MaxVersionLevel: 1, UpgradeType: 1}}, 0,
			"1 for feature eligible.leader.replicas.version. Local controller 1 does not support this feature."}, // Kafka has it; here nothing is shown that does not work
	}
	for _, tc := range cases {
		for version := tc.from; version <= 2; version++ {
			for _, validate := range []bool{false, true} {
				req := kmsg.NewPtrUpdateFeaturesRequest()
				req.Version, req.ValidateOnly, req.FeatureUpdates = version, validate, tc.updates
				resp := ask[*kmsg.UpdateFeaturesResponse](c, req)
				if resp.ErrorCode != 95 || len(resp.Results) != 0 || resp.ErrorMessage == nil || *resp.ErrorMessage != prefix+tc.want {
					t.Errorf("%s, v%d: %+v, want INVALID_UPDATE_VERSION, %q", tc.name, version, resp, prefix+tc.want)
				}
			}
		}
	}
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.Version = version
		if resp := ask[*kmsg.UpdateFeaturesResponse](c, req); resp.ErrorCode != 0 || resp.ErrorMessage != nil || len(resp.Results) != 0 {
			t.Errorf("no updates, v%d: %+v", version, resp)
		}
	}
	if features := b.metadata.Image().FinalizedFeatures(); len(features) != 0 {
		t.Errorf("features were finalized: %v", features)
	}
}
