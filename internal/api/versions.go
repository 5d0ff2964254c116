package api

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// ApiVersions v0–4 (key 18)
//
//   - The answer is the table. A version that is not in it is answered at version 0 with UNSUPPORTED_VERSION and the range of
//     ApiVersions itself, so that the client can ask again (KIP-511).
//   - v3 names the client's software (KIP-511); a name or version that is not letters, digits, dots and dashes is INVALID_REQUEST.
//   - v3 also has the features of KIP-584; see UpdateFeatures. One at level 0 is not among the finalized ones.
//   - v4 may show a supported feature whose minimum is 0; v3 leaves such a one out.

// softwareName is what a client may call itself, and its version.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (a *API) apiVersions(_ context.Context, c *call, req *kmsg.ApiVersionsRequest) (wire.Pending, error) {
	resp := answer[kmsg.ApiVersionsResponse](req)
	if req.Version >= 3 {
		if !softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return reply(resp)
		}
		c.Conn.SetClientSoftware(req.ClientSoftwareName, req.ClientSoftwareVersion)
	}
	if req.Version >= 3 {
		a.showFeatures(resp)
	}
	for _, row := range a.rows {
		if row.handle != nil {
			resp.ApiKeys = append(resp.ApiKeys, shown(row))
		}
	}
	return reply(resp)
}

// unsupportedAPIVersions answers an ApiVersions request whose version is not served.
func (a *API) unsupportedAPIVersions() (wire.Pending, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	if row, ok := a.row(int16(kmsg.ApiVersions)); ok {
		resp.ApiKeys = append(resp.ApiKeys, shown(row))
	}
	return reply(resp)
}

func shown(row api) kmsg.ApiVersionsResponseApiKey {
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = row.key, row.shownMin, row.max
	return k
}
