package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ResolveGroup returns the settings of a group in order of name: its own over the broker's.
func ResolveGroup(group map[string]string, broker *Broker) []Value {
	var all []Value
	for _, d := range groups().defs {
		value := inherited(broker.values, d)
		if d.Synonym == "" {
			value.Synonyms = []SynonymValue{{Name: d.Name, Value: d.Default, Source: SourceDefault}}
		}
		if text, ok := group[d.Name]; ok && d.Parse(text) == nil {
			override(&value, canonical(d, text), SourceDynamicGroup)
		}
		all = append(all, value)
	}
	return all
}

// ValidateGroup checks the settings of a group one by one, against the broker's bounds, and together. The error is an
// *InvalidError with Kafka's text.
func ValidateGroup(group map[string]string, broker *Broker) error {
	names := sortedKeys(group)
	for _, name := range names {
		if GroupDef(name) == nil {
			return &InvalidError{name, "Unknown group config name: " + name}
		}
	}
	for _, name := range names {
		if err := GroupDef(name).Parse(group[name]); err != nil {
			return err
		}
	}
	values := map[string]int64{}
	for _, v := range ResolveGroup(group, broker) {
		if n, err := strconv.ParseInt(v.Value, 10, 64); err == nil {
			values[v.Def.Name] = n
		}
	}
	for _, d := range groups().defs {
		if err := checkGroupBounds(broker.values, d, d.Name, values[d.Name]); err != nil {
			return err
		}
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		session, heartbeat := kind+".session.timeout.ms", kind+".heartbeat.interval.ms"
		if values[session] <= values[heartbeat] {
			return &InvalidError{session, fmt.Sprintf("%s must be greater than %s", session, heartbeat)}
		}
	}
	return nil
}

// GroupMillis is GroupInt for a number of milliseconds.
func GroupMillis(group map[string]string, broker *Broker, name string) time.Duration {
	return Millis(GroupInt(group, broker, name))
}

// GroupInt returns a group's setting that is a number: its own, held within the broker's bounds of now, or else the broker's.
func GroupInt(group map[string]string, broker *Broker, name string) int64 {
	v := broker.values
	own, err := strconv.ParseInt(trim(group[name]), 10, 64)
	if err != nil {
		return v.int(GroupDef(name).Synonym)
	}
	bounds := groupBounds(name)
	if BrokerDef(bounds[0]) != nil {
		own = max(own, v.int(bounds[0]))
	}
	if BrokerDef(bounds[1]) != nil {
		own = min(own, v.int(bounds[1]))
	}
	return own
}

// groupBounds names the broker's settings that bound a group's, group.<kind>.min.<rest> and group.<kind>.max.<rest>. There may be none.
func groupBounds(name string) [2]string {
	if name == "streams.num.standby.replicas" {
		return [2]string{"", "group.streams.max.standby.replicas"}
	}
	kind, rest, _ := strings.Cut(name, ".")
	return [2]string{"group." + kind + ".min." + rest, "group." + kind + ".max." + rest}
}

// checkGroupBounds holds a group's value, or the broker's default for it, within the broker's bounds. shown is the setting's name where the
// value stands.
func checkGroupBounds(v *values, d *Def, shown string, value int64) error {
	bounds := groupBounds(d.Name)
	if BrokerDef(bounds[0]) != nil && value < v.int(bounds[0]) {
		return &InvalidError{shown, fmt.Sprintf("%s must be greater than or equal to %s", shown, bounds[0])}
	}
	if BrokerDef(bounds[1]) != nil && value > v.int(bounds[1]) {
		return &InvalidError{shown, fmt.Sprintf("%s must be less than or equal to %s", shown, bounds[1])}
	}
	return nil
}

// checkGroupDefaults holds the broker's own settings for groups within the bounds that it sets for those of single groups, as Kafka does.
func (b *Broker) checkGroupDefaults(p *Problems) {
	v := b.values
	for _, d := range groups().defs {
		name, bounds := d.Synonym, groupBounds(d.Name)
		if name == "" {
			continue // groups have it alone
		}
		least, most := BrokerDef(bounds[0]), BrokerDef(bounds[1])
		if least != nil && most != nil && v.int(most.Name) < v.int(least.Name) {
			p.add(v, most.Name, fmt.Sprintf("%s must be greater than or equal to %s", most.Name, least.Name))
		}
		if err := checkGroupBounds(v, d, name, v.int(name)); err != nil {
			p.add(v, name, err.Error())
		}
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		heartbeat, session := "group."+kind+".heartbeat.interval.ms", "group."+kind+".session.timeout.ms"
		if v.int(heartbeat) >= v.int(session) {
			p.add(v, heartbeat, fmt.Sprintf("%s must be less than %s", heartbeat, session))
		}
	}
	if n := len(v.words("group.share.assignors")); n != 1 {
		p.add(v, "group.share.assignors", fmt.Sprintf("group.share.assignors must contain exactly one assignor, but found %d", n))
	}
	for _, setting := range []struct {
		name, kind string
		classes    map[string]string
	}{
		{"group.consumer.assignors", "consumer", assignorClasses},
		{"group.share.assignors", "share", shareAssignorClasses},
	} {
		known := slices.Sorted(maps.Values(setting.classes))
		for _, word := range v.words(setting.name) {
			if _, class := setting.classes[word]; !class && !slices.Contains(known, word) {
				p.add(v, setting.name, fmt.Sprintf("there is no %s group assignor %q, only %s", setting.kind, word, strings.Join(known, " and ")))
			}
		}
	}
}

// ResolveClientMetrics returns the settings of a client-metrics subscription in order of name.
func ResolveClientMetrics(subscription map[string]string) []Value {
	var all []Value
	for _, d := range clientMetrics().defs {
		value := Value{Def: d, Value: d.Default, Source: SourceDefault}
		value.Synonyms = []SynonymValue{{Name: d.Name, Value: d.Default, Source: SourceDefault}}
		if text, ok := subscription[d.Name]; ok && d.Parse(text) == nil {
			value.Synonyms = nil
			override(&value, canonical(d, text), SourceDynamicClientMetrics)
		}
		all = append(all, value)
	}
	return all
}

// clientMatches are what a subscription can match clients by.
var clientMatches = map[string]bool{
	"client_instance_id": true, "client_id": true, "client_software_name": true, "client_software_version": true,
	"client_source_address": true, "client_source_port": true,
}

// ValidateClientMetrics checks the settings of a client-metrics subscription. The error is an *InvalidError with
// Kafka's text.
func ValidateClientMetrics(subscription map[string]string) error {
	for _, name := range sortedKeys(subscription) {
		text := subscription[name]
		d := ClientMetricsDef(name)
		if d == nil {
			return &InvalidError{name, "Unknown client metrics configuration: " + name}
		}
		parsed, err := d.parse(text)
		if err != nil {
			return err
		}
		switch name {
		case "interval.ms":
			if n := parsed.(int64); n < 100 || n > 3600000 {
				return &InvalidError{name, fmt.Sprintf("Invalid value %d for %s, interval must be between 100 and 3600000 (1 hour)", n, name)}
			}
		case "match":
			for _, pattern := range parsed.([]string) {
				key, expression, ok := strings.Cut(pattern, "=")
				if _, err := regexp.Compile(expression); !ok || err != nil || !clientMatches[trim(key)] {
					return &InvalidError{name, "Illegal client matching pattern: " + pattern}
				}
			}
		}
	}
	return nil
}
