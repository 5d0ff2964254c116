package metadata

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// The features that decide what a broker serves; each is off at level 0.
const (
	FeatureGroup   = "group.version"   // the consumer protocol (KIP-848)
	FeatureShare   = "share.version"   // share groups (KIP-932)
	FeatureStreams = "streams.version" // the streams protocol (KIP-1071)
)

// Feature is one of Kafka's features (KIP-584) and the levels of it that this program has. Until features are first updated, each is at its
// highest level; from then on its level is what was stored, and 0 if nothing was.
type Feature struct {
	Name     string
	Min, Max int16
}

// Features are those of Apache Kafka 4.3, by name. What has one level only cannot be otherwise here: partitions have one replica, there is
// no KRaft quorum to change, and metadata has no formats of Kafka's; level 30 of metadata.version, 4.3-IV0, tells what a client may expect.
var Features = []Feature{
	{Name: "eligible.leader.replicas.version"},
	{Name: FeatureGroup, Max: 1},
	{Name: "kraft.version"},
	{Name: "metadata.version", Min: 30, Max: 30},
	{Name: FeatureShare, Max: 1},
	{Name: FeatureStreams, Max: 1},
	{Name: "transaction.version", Max: 2},
}

// UpgradeType says which way the level of a feature may go (the protocol's numbers).
type UpgradeType int8

// What Kafka knows of; every downgrade that is possible here is a safe one.
const (
	Upgrade         UpgradeType = 1
	SafeDowngrade   UpgradeType = 2
	UnsafeDowngrade UpgradeType = 3
)

// FeatureUpdate asks for a level of a feature.
type FeatureUpdate struct {
	Name  string
	Level int16
	Type  UpgradeType
}

// FeatureLevel returns the level that a feature is at.
func (i *Image) FeatureLevel(name string) int16 {
	if i.featuresMod > 0 {
		return i.features[name]
	}
	return featureNamed(name).Max
}

// featureNamed finds a feature. One that does not exist has the level 0 only, as in Kafka.
func featureNamed(name string) Feature {
	if n := slices.IndexFunc(Features, func(f Feature) bool { return f.Name == name }); n >= 0 {
		return Features[n]
	}
	return Feature{}
}

// UpdateFeatures sets the levels of features, all of them or none. Of two updates of one feature the last counts.
//
// Errors: *Error with ErrInvalidFeature, which says what is wrong with the first bad update; ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) UpdateFeatures(ctx context.Context, updates []FeatureUpdate, validateOnly bool) error {
	return m.update(ctx, func(img *Image) (Txn, error) {
		next := map[string]int16{}
		for _, f := range Features {
			next[f.Name] = img.FeatureLevel(f.Name)
		}
		maps.Copy(next, img.features) // those that a newer release may have stored
		for _, u := range lastOfEach(updates) {
			if reason := m.whyNotUpdated(img, u); reason != "" {
				return Txn{}, refuse(ErrInvalidFeature, "Invalid update version %d for feature %s. %s", u.Level, u.Name, reason)
			}
			next[u.Name] = u.Level
		}
		changed := false
		for name, level := range next {
			changed = changed || level != img.FeatureLevel(name)
		}
		if validateOnly || !changed {
			return Txn{}, nil
		}
		maps.DeleteFunc(next, func(_ string, level int16) bool { return level == 0 })
		return Txn{
			Compares: []Compare{{Key: keyFeatures, ModRevision: img.featuresMod}},
			Ops:      []Op{{Key: keyFeatures, Value: encodeValue(keyFeatures, featuresValue{Levels: next})}},
		}, nil
	})
}

// lastOfEach drops the updates that a later one of the same feature replaces. The order is that in which features are first named.
func lastOfEach(updates []FeatureUpdate) []FeatureUpdate {
	var last []FeatureUpdate
	for _, u := range updates {
		if n := slices.IndexFunc(last, func(l FeatureUpdate) bool { return l.Name == u.Name }); n >= 0 {
			last[n] = u
		} else {
			last = append(last, u)
		}
	}
	return last
}

// whyNotUpdated says in Kafka's words why a feature cannot have a level; empty if it can.
func (m *Metadata) whyNotUpdated(img *Image, u FeatureUpdate) string {
	f, current := featureNamed(u.Name), img.FeatureLevel(u.Name)
	switch {
	case u.Type < Upgrade || u.Type > UnsafeDowngrade:
		return "The controller does not support the given upgrade type."
	case u.Level < 0:
		return "A feature version cannot be less than 0."
	case u.Level > f.Max && f.Max == 0:
		return fmt.Sprintf("Local controller %d does not support this feature.", m.opts.BrokerID)
	case f.Name == "":
		return fmt.Sprintf("Feature %s not found.", u.Name)
	case (u.Level < f.Min || u.Level > f.Max) && f.Min == f.Max:
		return fmt.Sprintf("Local controller %d only supports versions %d", m.opts.BrokerID, f.Max)
	case u.Level < f.Min || u.Level > f.Max:
		return fmt.Sprintf("Local controller %d only supports versions %d-%d", m.opts.BrokerID, f.Min, f.Max)
	case u.Level < current && u.Type == Upgrade:
		return "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
	case u.Level > current && u.Type != Upgrade:
		return "Can't downgrade to a newer version."
	}
	return ""
}
