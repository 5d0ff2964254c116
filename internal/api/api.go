package api

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
)

// Deps are the parts of the broker that requests are about.
type Deps struct {
	Config   *config.Broker
	Metadata *metadata.Metadata
	Engine   *storage.Engine
	Groups   *group.Service
	Txns     *txn.Service
	// ShareState keeps the state of share partitions.
	ShareState *sharestate.Service
	// Shares holds the share partitions.
	Shares *share.Manager
	// ShareSettings are those of share groups; see GroupSettings.Share.
	ShareSettings func(group string) config.ShareGroup
	// ProducerIDs is shared with Txns.
	ProducerIDs *ProducerIDs
	Logger      *slog.Logger
}

// API answers the requests of all connections. It implements wire.Handler and is safe for concurrent use.
type API struct {
	config     *config.Broker
	metadata   *metadata.Metadata
	engine     *storage.Engine
	groups     *group.Service
	txns       *txn.Service
	shares     *share.Manager
	markers    *Markers
	shareState *sharestate.Service
	logger     *slog.Logger

	rows        []api                // by key; a row without handler is an API that is not served
	current     atomic.Pointer[view] // never nil once New has returned
	following   sync.Mutex           // held while current is replaced
	topicViews  sync.Map             // base.TopicID to *topicView, entries of older images among them
	sessions    *fetchSessions
	producerIDs *ProducerIDs

	shareSettings func(group string) config.ShareGroup
}

// New returns the handlers over the given parts, all of which must be there. It subscribes to the metadata; the subscription that
// makes the engine follow the metadata must have been made before, so that no client hears of a topic that the engine lacks.
func New(d Deps) *API {
	a := &API{
		config:      d.Config,
		metadata:    d.Metadata,
		engine:      d.Engine,
		groups:      d.Groups,
		txns:        d.Txns,
		shareState:  d.ShareState,
		markers:     &Markers{Metadata: d.Metadata, Engine: d.Engine, Groups: d.Groups, Logger: d.Logger},
		logger:      d.Logger,
		sessions:    newFetchSessions(d.Config.FetchSessionCacheSlots),
		producerIDs: d.ProducerIDs,
		shares:      d.Shares,

		shareSettings: d.ShareSettings,
	}
	for _, row := range table() {
		for len(a.rows) <= int(row.key) {
			a.rows = append(a.rows, api{})
		}
		a.rows[row.key] = row
	}
	a.begin(a.metadata.Subscribe(a.follow))
	return a
}
