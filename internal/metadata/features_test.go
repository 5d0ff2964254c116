package metadata

import (
	"errors"
	"testing"
)

// levelsOf lists the level of every feature.
func levelsOf(img *Image) map[string]int16 {
	levels := map[string]int16{}
	for _, f := range Features {
		levels[f.Name] = img.FeatureLevel(f.Name)
	}
	return levels
}

func TestFeaturesAreAtTheirHighestLevelUntilUpdated(t *testing.T) {
	m := openMemory(t)
	for name, level := range levelsOf(m.Image()) {
		if level != featureNamed(name).Max {
			t.Errorf("%s is at %d", name, level)
		}
	}
	if level := m.Image().FeatureLevel("no.such"); level != 0 {
		t.Errorf("a feature that does not exist is at %d", level)
	}
}

func TestLevelsOfFeaturesOutliveARestart(t *testing.T) {
	store := NewMemory()
	m := openOn(t, store)
	check := func(m *Metadata, want map[string]int16) {
		t.Helper()
		for name, level := range levelsOf(m.Image()) {
			if wanted, named := want[name]; named && level != wanted || !named && level != featureNamed(name).Max {
				t.Errorf("%s is at %d", name, level)
			}
		}
	}
	for _, step := range []struct {
		updates      []FeatureUpdate
		validateOnly bool
		want         map[string]int16
	}{
		{[]FeatureUpdate{{FeatureGroup, 0, SafeDowngrade}}, true, nil},
		{[]FeatureUpdate{{FeatureGroup, 0, SafeDowngrade}}, false, map[string]int16{FeatureGroup: 0}},
		{[]FeatureUpdate{{FeatureGroup, 1, Upgrade}, {FeatureShare, 0, UnsafeDowngrade}}, false, map[string]int16{FeatureShare: 0}},
		{[]FeatureUpdate{{"transaction.version", 1, SafeDowngrade}, {"transaction.version", 0, SafeDowngrade}}, false,
			map[string]int16{FeatureShare: 0, "transaction.version": 0}},
	} {
		if err := m.UpdateFeatures(t.Context(), step.updates, step.validateOnly); err != nil {
			t.Fatal(err)
		}
		check(m, step.want)
		check(openOn(t, store), step.want)
	}
}

func TestABadUpdateFailsAllOfThem(t *testing.T) {
	m := openMemory(t)
	before := m.Image().Revision()
	err := m.UpdateFeatures(t.Context(), []FeatureUpdate{{FeatureGroup, 0, SafeDowngrade}, {FeatureShare, 2, Upgrade}}, false)
	if !errors.Is(err, ErrInvalidFeature) {
		t.Errorf("the error is %v", err)
	}
	if img := m.Image(); img.FeatureLevel(FeatureGroup) != 1 || img.Revision() != before {
		t.Errorf("group.version is at %d, revision %d after %d", img.FeatureLevel(FeatureGroup), img.Revision(), before)
	}
}

func TestWhatChangesNoFeatureWritesNothing(t *testing.T) {
	m := openMemory(t)
	before := m.Image().Revision()
	for _, u := range []FeatureUpdate{{FeatureGroup, 1, Upgrade}, {FeatureGroup, 1, SafeDowngrade}, {"kraft.version", 0, Upgrade}} {
		if err := m.UpdateFeatures(t.Context(), []FeatureUpdate{u}, false); err != nil {
			t.Error(err)
		}
	}
	if after := m.Image().Revision(); after != before {
		t.Errorf("revision %d after %d", after, before)
	}
}
