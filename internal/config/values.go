package config

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// values are the settings of a broker as text, in their layers.
type values struct {
	static     map[string]staticValue
	dynDefault map[string]string // dynamic, default of the cluster
	dynBroker  map[string]string // dynamic, this broker
	notes      []string

	topics func() *topicBase // settings of a topic that sets nothing itself
}

// staticValue is a setting from a file, a variable or a flag.
type staticValue struct{ text, origin string }

func newValues(static map[string]staticValue) *values {
	v := &values{static: static}
	v.topics = sync.OnceValue(func() *topicBase { return newTopicBase(v) })
	return v
}

// layer is one place that can give a setting a value.
type layer struct {
	source Source
	get    func(name string) (string, bool)
}

// layers are the places in order of precedence.
func (v *values) layers() [4]layer {
	return [4]layer{
		{SourceDynamicBroker, func(n string) (string, bool) { s, ok := v.dynBroker[n]; return s, ok }},
		{SourceDynamicDefaultBroker, func(n string) (string, bool) { s, ok := v.dynDefault[n]; return s, ok }},
		{SourceStaticBroker, func(n string) (string, bool) { s, ok := v.static[n]; return s.text, ok }},
		{SourceDefault, func(n string) (string, bool) {
			d := BrokerDef(n)
			return d.Default, !d.Null
		}},
	}
}

// effective returns the value in force, false if there is none (null).
func (v *values) effective(name string) (string, bool) {
	if s, ok := v.dynBroker[name]; ok {
		return s, true
	}
	if s, ok := v.dynDefault[name]; ok {
		return s, true
	}
	if s, ok := v.static[name]; ok {
		return s.text, true
	}
	d := BrokerDef(name)
	return d.Default, !d.Null
}

// isSet reports whether anybody set name, dynamically or in a source.
func (v *values) isSet(name string) bool {
	_, static := v.static[name]
	_, broker := v.dynBroker[name]
	_, cluster := v.dynDefault[name]
	return static || broker || cluster
}

// parsed returns the value in force, nil for null. Values were checked when they came in; one that does not parse all
// the same is a bug here.
func (v *values) parsed(name string) any {
	text, ok := v.effective(name)
	if !ok {
		return nil
	}
	value, err := BrokerDef(name).parse(text)
	if err != nil {
		if !v.isSet(name) {
			panic("config: the default of " + name + " is invalid: " + err.Error())
		}
		value, _ = BrokerDef(name).parse(BrokerDef(name).Default) // Load has reported it and gives no Broker out
	}
	return value
}

func (v *values) int(name string) int64 {
	n, _ := v.parsed(name).(int64)
	return n
}

func (v *values) double(name string) float64 {
	f, _ := v.parsed(name).(float64)
	return f
}

func (v *values) bool(name string) bool {
	b, _ := v.parsed(name).(bool)
	return b
}

func (v *values) string(name string) string {
	s, _ := v.parsed(name).(string)
	return s
}

func (v *values) words(name string) []string {
	l, _ := v.parsed(name).([]string)
	return slices.Clone(l)
}

func (v *values) millis(name string) time.Duration { return Millis(v.int(name)) }

// Millis returns ms milliseconds, or the longest or shortest duration there is.
func Millis(ms int64) time.Duration {
	const limit = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case ms > limit:
		return math.MaxInt64
	case ms < -limit:
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// timeGroup is a duration that can be set in several units, the finest first.
type timeGroup struct {
	names []string
	unit  []int64 // in milliseconds
}

const (
	minuteMillis = 60 * 1000
	hourMillis   = 60 * minuteMillis
)

// timeGroups are the durations with several names, by each of them.
var timeGroups = func() map[string]*timeGroup {
	all := map[string]*timeGroup{}
	for _, g := range []*timeGroup{
		{[]string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"}, []int64{1, minuteMillis, hourMillis}},
		{[]string{"log.roll.ms", "log.roll.hours"}, []int64{1, hourMillis}},
		{[]string{"log.roll.jitter.ms", "log.roll.jitter.hours"}, []int64{1, hourMillis}},
		{[]string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"}, []int64{1, 1}},
	} {
		for _, name := range g.names {
			all[name] = g
		}
	}
	return all
}()

// brokerSynonyms returns all names of a broker setting, in order of precedence.
func brokerSynonyms(name string) []string {
	if g := timeGroups[name]; g != nil {
		return g.names
	}
	return []string{name}
}

// groupMillis returns the duration of a time group, in milliseconds.
func (v *values) groupMillis(name string) int64 {
	g := timeGroups[name]
	for i, n := range g.names {
		if value, ok := v.parsed(n).(int64); ok {
			if value < 0 {
				return -1
			}
			if value > math.MaxInt64/g.unit[i] {
				return math.MaxInt64
			}
			return value * g.unit[i]
		}
	}
	return -1
}

// withDynamic returns the same static values under other dynamic ones.
func (v *values) withDynamic(clusterDefault, broker map[string]string) *values {
	next := newValues(v.static)
	next.notes = v.notes
	next.dynDefault, next.dynBroker = maps.Clone(clusterDefault), maps.Clone(broker)
	return next
}

// synonyms lists the places that give a setting a value as Kafka does: all names by source, from the first that is
// name itself on (so log.retention.ms is shown without log.retention.hours as long as it is not set).
func (v *values) synonyms(name string) []SynonymValue {
	var all []SynonymValue
	for _, l := range v.layers() {
		for _, n := range brokerSynonyms(name) {
			text, ok := l.get(n)
			if !ok {
				continue
			}
			d := BrokerDef(n)
			s := SynonymValue{Name: n, Source: l.source, Null: d.Sensitive}
			if !d.Sensitive {
				s.Value = canonical(d, text)
			}
			all = append(all, s)
		}
	}
	i := slices.IndexFunc(all, func(s SynonymValue) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return all[i:]
}

// canonical returns text in the form that Kafka shows, or as it is if it does not parse.
func canonical(d *Def, text string) string {
	if v, err := d.parse(text); err == nil {
		return format(v)
	}
	return text
}
