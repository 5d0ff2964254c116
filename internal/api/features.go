package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// UpdateFeatures v0–2 (key 57)
//
//   - The features that are shown (see ApiVersions) are in force and stay so: an update to the level that a feature has changes nothing, any
//     other is refused. Features that are not shown are refused with the texts that Kafka has for one that it does not know. Whether the
//     request only validates (v1, KIP-778) makes no difference.
//   - One bad update fails all of them: the request has INVALID_UPDATE_VERSION and no results, in every version.
//   - A feature that is named twice is judged by its last update.

// The upgrade types of v1.
const (
	upgradeOnly     int8 = 1
	unsafeDowngrade int8 = 3
)

func (a *API) updateFeatures(_ context.Context, c *call, req *kmsg.UpdateFeaturesRequest) (wire.Pending, error) {
	resp := answer[kmsg.UpdateFeaturesResponse](req)
	if len(req.FeatureUpdates) > 0 {
		update := &req.FeatureUpdates[0]
		for i := range req.FeatureUpdates {
			if req.FeatureUpdates[i].Feature == update.Feature {
				update = &req.FeatureUpdates[i]
			}
		}
		if a.inForce(req) {
			return reply(resp)
		}
		err := refuse(kerr.InvalidUpdateVersion,
			"The update failed for all features since the following feature had an error: Invalid update version %d for feature %s. %s",
			update.MaxVersionLevel, update.Feature, a.whyNotUpdated(req.Version, update))
		resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
	}
	return reply(resp)
}

// inForce reports whether a request asks for nothing but what is so already.
func (a *API) inForce(req *kmsg.UpdateFeaturesRequest) bool {
	for i := range req.FeatureUpdates {
		u := &req.FeatureUpdates[i]
		if !slices.ContainsFunc(features, func(f feature) bool { return f.name == u.Feature && f.finalized == u.MaxVersionLevel }) {
			return false
		}
	}
	return true
}

// whyNotUpdated says what is wrong with an update of a feature that does not exist, or to a level that it does not have.
func (a *API) whyNotUpdated(version int16, update *kmsg.UpdateFeaturesRequestFeatureUpdate) string {
	switch {
	case version >= 1 && (update.UpgradeType < upgradeOnly || update.UpgradeType > unsafeDowngrade):
		return "The controller does not support the given upgrade type."
	case update.MaxVersionLevel < 0:
		return "A feature version cannot be less than 0."
	case slices.ContainsFunc(features, func(f feature) bool { return f.name == update.Feature }):
		return fmt.Sprintf("Local controller %d runs it at one level only.", int32(a.config.NodeID))
	case update.MaxVersionLevel == 0:
		return fmt.Sprintf("Feature %s not found.", update.Feature)
	default:
		return fmt.Sprintf("Local controller %d does not support this feature.", int32(a.config.NodeID))
	}
}
