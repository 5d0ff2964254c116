package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// UpdateFeatures v0–2 (key 57)
//
//   - The features and their levels are metadata.Features; what can be updated to what is said there. Levels last, and are in force when the
//     answer leaves.
//   - At level 0 of group.version, share.version and streams.version the requests of these protocols are UNSUPPORTED_VERSION. Groups and what
//     is known of them stay; the sessions of share groups end, and what their members had goes back.
//   - transaction.version is for clients to go by: below 2 they know that records do not begin a transaction, nor ends raise the epoch
//     (KIP-890). The version of each request decides, at every level. Kafka does the same, except that at level 0 EndTxn v5 gets
//     UNSUPPORTED_VERSION and leaves the transaction hanging; and that its log has an older format then.
//   - One bad update fails all of them: the request has INVALID_UPDATE_VERSION, and no results. Up to v1 a good one has results.
//   - v1 tells upgrades from downgrades and can validate only (KIP-778); v0 can only upgrade, whatever it allows, as in Kafka.

func (a *API) updateFeatures(_ context.Context, c *call, req *kmsg.UpdateFeaturesRequest) (wire.Pending, error) {
	updates := make([]metadata.FeatureUpdate, len(req.FeatureUpdates))
	for i := range req.FeatureUpdates {
		u := &req.FeatureUpdates[i]
		updates[i] = metadata.FeatureUpdate{Name: u.Feature, Level: u.MaxVersionLevel, Type: metadata.Upgrade}
		if req.Version >= 1 {
			updates[i].Type = metadata.UpgradeType(u.UpgradeType)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		ctx, cancel := withTimeout(ctx, req.TimeoutMillis)
		defer cancel()
		resp := answer[kmsg.UpdateFeaturesResponse](req)
		err := a.metadata.UpdateFeatures(ctx, updates, req.ValidateOnly && req.Version >= 1)
		if errors.Is(err, metadata.ErrInvalidFeature) {
			err = &metadata.Error{
				Kind:    metadata.ErrInvalidFeature,
				Message: "The update failed for all features since the following feature had an error: " + err.Error(),
			}
		}
		resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
		if err == nil && req.Version <= 1 {
			for i := range req.FeatureUpdates {
				result := kmsg.NewUpdateFeaturesResponseResult()
				result.Feature, result.ErrorMessage = req.FeatureUpdates[i].Feature, kmsg.StringPtr("NONE") // as Kafka
				resp.Results = append(resp.Results, result)
			}
		}
		return resp, nil
	})
}

// showFeatures tells what there is and what is in force. The epoch grows with every change of metadata, as in Kafka.
func (a *API) showFeatures(resp *kmsg.ApiVersionsResponse) {
	image := a.view().image
	resp.FinalizedFeaturesEpoch = image.Revision()
	for _, f := range metadata.Features {
		if f.Min > 0 || resp.Version >= 4 {
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.Name, f.Min, f.Max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		if level := image.FeatureLevel(f.Name); level > 0 {
			l := kmsg.NewApiVersionsResponseFinalizedFeature()
			l.Name, l.MinVersionLevel, l.MaxVersionLevel = f.Name, level, level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, l)
		}
	}
}
