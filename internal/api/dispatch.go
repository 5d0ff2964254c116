package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// Reasons to close a connection: there is no answer that the peer could be sure to read. A body that does not decode is another.
var (
	errUnknownAPI         = errors.New("unknown api key")
	errUnsupportedVersion = errors.New("unsupported api version")
)

// Handle implements wire.Handler: the first phase of one request.
//
// A key or version that the table does not have closes the connection, as in Kafka, except for ApiVersions, by which a client
// finds out what there is: it is answered at version 0 with UNSUPPORTED_VERSION.
func (a *API) Handle(ctx context.Context, r *wire.Request) (wire.Pending, error) {
	row, ok := a.row(r.Key)
	if !ok {
		return nil, fmt.Errorf("%w %d", errUnknownAPI, r.Key)
	}
	if r.Version < row.min || r.Version > row.max {
		if r.Key == int16(kmsg.ApiVersions) {
			return a.unsupportedAPIVersions()
		}
		return nil, fmt.Errorf("%w: %s v%d", errUnsupportedVersion, kmsg.NameForKey(r.Key), r.Version)
	}
	return row.handle(a, ctx, r)
}

// row finds the table's row of an API key.
func (a *API) row(key int16) (api, bool) {
	if key < 0 || int(key) >= len(a.rows) || a.rows[key].handle == nil {
		return api{}, false
	}
	return a.rows[key], true
}
