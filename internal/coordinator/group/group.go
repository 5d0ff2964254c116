package group

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// Kind is the protocol that the members of a group speak.
type Kind string

// The kinds of groups, by the names that ListGroups has for them.
const (
	Classic  Kind = "classic"
	Consumer Kind = "consumer"
	Streams  Kind = "streams"
	Share    Kind = "share"
)

// group is what the coordinator asks of a group of any kind. The rest of a kind is its own: its requests come as methods of Machine,
// its records as rows of recordTypes. A group's methods do no more to the world than Effects lets them.
type group interface {
	kind() Kind
	// stateName is Kafka's name of the state that the group is in.
	stateName() string
	// protocolName is what ListGroups shows as protocol type.
	protocolName() string
	// isEmpty reports whether the group has no members and may be deleted.
	isEmpty() bool
	// size is about how much memory the group takes, without its offsets.
	size() int64

	// resume is called once the group is loaded. It sets the timers that the group needs.
	resume(m *Machine, fx *coordinator.Effects)
	// elapsed is called when a timer of the group has come.
	elapsed(m *Machine, fx *coordinator.Effects, t coordinator.Timer)
	// entomb writes the tombstones of all records of the group but its offsets, by which it is gone, and cancels its timers.
	entomb(m *Machine, fx *coordinator.Effects)
	// snapshot calls emit with the records that make the group.
	snapshot(emit func(key, value []byte))

	// subscribes reports whether members are, or may be, subscribed to a topic. Offsets of such topics are not deleted.
	subscribes(topic string) bool
	// mayDeleteOffsets is the reason not to delete any offsets of the group.
	mayDeleteOffsets() *kerr.Error
	// retention says when offsets of topics that no member subscribes to expire: offsets.retention.minutes after the time, in ms,
	// that since gives for each. No function: they do not.
	retention() (since func(*committed) int64)
	// mayCommit checks who commits offsets. The function that it returns, if any, is to allow each partition.
	mayCommit(by committer) (commitCheck, *kerr.Error)
	// mayFetch checks who fetches offsets.
	mayFetch(by fetcher) *kerr.Error
}

// committer is who commits offsets: a member, or nobody in particular.
type committer struct {
	member   string
	instance *string
	epoch    int32 // or generation; negative: none
	version  int16 // of the request

	transactional bool
}

// commitCheck is the reason why a partition's offset may not be committed.
type commitCheck func(topic string, id base.TopicID, partition int32) *kerr.Error

// fetcher is who fetches offsets, as far as the request tells.
type fetcher struct {
	member *string
	epoch  int32 // negative: none
}

// Refusal is the reason why a request about a group is refused.
type Refusal struct {
	Code *kerr.Error
	Text string // for the client
}

func refuse(code *kerr.Error, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// noMember is the refusal of a member that a group does not have.
func noMember(group, id string) *Refusal {
	return refuse(kerr.UnknownMemberID, "Member %s is not a member of group %s.", id, group)
}

// as finds a group of one kind, named as a person would.
func as[G group](m *Machine, id, kind string) (g G, refused *Refusal) {
	switch found := m.groups[id].(type) {
	case nil:
		return g, refuse(kerr.GroupIDNotFound, "Group %s not found.", id)
	case G:
		return found, nil
	default:
		return g, refuse(kerr.GroupIDNotFound, "Group %s is not a %s group.", id, kind)
	}
}

// classic returns a classic group, nil where there is none of that name or it is of another kind.
func (m *Machine) classic(id string) *classicGroup {
	g, _ := m.groups[id].(*classicGroup)
	return g
}
