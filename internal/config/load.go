package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Sources are the places that settings come from, in rising order of precedence.
type Sources struct {
	// File is the path of a server.properties or a .yaml/.yml file; empty means none.
	File string
	// Environ holds "NAME=value" pairs, normally os.Environ(). Only OTTLA_* and KAFKA_* are looked at; OTTLA_* wins.
	Environ []string
	// Flags are settings with a flag of their own on the command line, by their key (--data is log.dirs).
	Flags map[string]string
	// Sets are "key=value" pairs (--set), in order; later ones win.
	Sets []string
}

// maxFileBytes bounds a file of settings.
const maxFileBytes = 1 << 20

// Load reads all sources. The error lists every problem at once (*Problems).
func Load(s Sources) (*Broker, error) {
	l := &loader{static: map[string]staticValue{}, problems: &Problems{}}
	l.file(s.File)
	l.environ(s.Environ, "KAFKA_", l.kafkaVariable)
	l.environ(s.Environ, "OTTLA_", l.ottlaVariable)
	for _, key := range sortedKeys(s.Flags) {
		l.set(key, s.Flags[key], "command line")
	}
	for _, pair := range s.Sets {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			l.problem(pair, "--set", "want key=value")
			continue
		}
		l.set(trim(key), value, "--set")
	}
	v := newValues(l.static)
	v.notes = l.notes
	l.sameID(v)
	b, err := newBroker(v)
	if err != nil {
		l.problems.List = append(l.problems.List, err.(*Problems).List...) //nolint:errorlint // newBroker returns nothing else
	}
	if len(l.problems.List) > 0 {
		return nil, l.problems
	}
	return b, nil
}

// loader gathers settings and problems.
type loader struct {
	static   map[string]staticValue
	problems *Problems
	notes    []string
}

func (l *loader) problem(key, origin, text string) {
	l.problems.List = append(l.problems.List, Problem{Key: key, Origin: origin, Text: text})
}

// set takes one setting in, in place of what a lower source said.
func (l *loader) set(key, value, origin string) {
	d := BrokerDef(key)
	if d == nil {
		if foreign(key) {
			l.static[key] = staticValue{value, origin}
			return
		}
		l.problem(key, origin, unknownKey(key))
		return
	}
	if err := d.Parse(value); err != nil {
		l.problem(key, origin, err.Error())
		return
	}
	l.static[key] = staticValue{value, origin}
}

// foreignPrefixes begin settings of Kafka's plug-ins, of its listeners one by one, and of older versions.
var foreignPrefixes = []string{
	"listener.name.", "config.providers.", "rsm.config.", "rlmm.config.", "zookeeper.", "log4j.", "client.quota.callback.",
	"password.encoder.", "confluent.",
}

// foreignKeys are settings that Kafka takes from plug-ins of its own, and that older versions had.
var foreignKeys = []string{
	"super.users", "allow.everyone.if.no.acl.found",
	"inter.broker.protocol.version", "log.message.format.version", "log.message.timestamp.difference.max.ms",
	"log.message.downconversion.enable", "offsets.commit.required.acks", "control.plane.listener.name",
	"broker.id.generation.enable", "reserved.broker.max.id", "controlled.shutdown.max.retries",
	"controlled.shutdown.retry.backoff.ms", "delegation.token.master.key",
	"leader.imbalance.per.broker.percentage", "auto.include.jmx.reporter",
	"host.name", "port", "advertised.host.name", "advertised.port",
}

// foreign reports whether a key that is not in the table is one that Kafka has a meaning for.
func foreign(key string) bool {
	return slices.Contains(foreignKeys, key) || slices.ContainsFunc(foreignPrefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}

// file reads the settings of a file.
func (l *loader) file(path string) {
	if path == "" {
		return
	}
	name := filepath.Base(path)
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("%d bytes are too many for settings", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		l.problem("", path, err.Error())
		return
	}
	parse := parseProperties
	if ext := strings.ToLower(filepath.Ext(path)); ext == ".yaml" || ext == ".yml" {
		parse = parseYAML
	}
	entries, err := parse(string(text))
	if err != nil {
		l.problem("", name, err.Error())
	}
	seen := map[string]int{}
	for _, e := range entries {
		if line, ok := seen[e.key]; ok {
			l.notes = append(l.notes, fmt.Sprintf("%s:%d: %s was set in line %d already; the later one counts", name, e.line, e.key, line))
		}
		seen[e.key] = e.line
		l.set(e.key, e.value, fmt.Sprintf("%s:%d", name, e.line))
	}
}

// environ hands the variables with a prefix to take, without the prefix.
func (l *loader) environ(environ []string, prefix string, take func(name, rest, value string)) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			take(name, rest, value)
		}
	}
}

// launcherVariables are read by Kafka's scripts and images, not by the broker.
var launcherVariables = []string{
	"OPTS", "HEAP_OPTS", "JVM_PERFORMANCE_OPTS", "GC_LOG_OPTS", "HOME", "VERSION", "DEBUG", "CLUSTER_ID", "MODE",
	"JMX_OPTS", "JMX_PORT", "JMX_HOSTNAME", "LOG4J_OPTS", "LOG4J_ROOT_LOGLEVEL", "LOG4J_LOGGERS", "TOOLS_LOG4J_LOGLEVEL",
}

// kafkaVariable takes KAFKA_LOG_RETENTION_MS in; what it does not know it only mentions, because the variable may be
// meant for something else on this machine.
func (l *loader) kafkaVariable(name, rest, value string) {
	key := variableKey(rest)
	switch {
	case slices.Contains(launcherVariables, rest):
	case BrokerDef(key) == nil && !foreign(key):
		l.notes = append(l.notes, fmt.Sprintf("%s is ignored: %s", name, unknownKey(key)))
	default:
		l.set(key, value, name)
	}
}

// ottlaVariables belong to the command line.
var ottlaVariables = []string{"CONFIG", "BOOTSTRAP_SERVER", "BOOTSTRAP_SERVERS", "CONTEXT", "PROFILE", "COLOR", "NO_COLOR", "LOG_LEVEL", "LOG_FORMAT"}

// ottlaVariable takes OTTLA_ACK_WHEN as ottla.ack.when in, and OTTLA_LOG_RETENTION_MS as log.retention.ms.
func (l *loader) ottlaVariable(name, rest, value string) {
	if slices.Contains(ottlaVariables, rest) {
		return
	}
	key := variableKey(rest)
	if own := "ottla." + key; BrokerDef(own) != nil || BrokerDef(key) == nil && suggest(own) != "" {
		key = own
	}
	l.set(key, value, name)
}

// variableKey turns the rest of a variable's name into a key as Kafka's images do: _ is a dot, __ a dash, ___ a _.
func variableKey(name string) string {
	return strings.NewReplacer("___", "_", "__", "-", "_", ".").Replace(strings.ToLower(name))
}

// sameID makes node.id and its older name agree.
func (l *loader) sameID(v *values) {
	node, hasNode := v.static["node.id"]
	broker, hasBroker := v.static["broker.id"]
	switch {
	case hasNode && hasBroker && trim(node.text) != trim(broker.text):
		l.problem("node.id", node.origin, fmt.Sprintf("node.id %s and broker.id %s (%s) must be the same", node.text, broker.text, broker.origin))
	case hasNode:
		v.static["broker.id"] = node
	case hasBroker:
		if err := BrokerDef("node.id").Parse(broker.text); err != nil {
			l.problem("broker.id", broker.origin, err.Error())
			delete(v.static, "broker.id")
			return
		}
		v.static["node.id"] = broker
	}
}
