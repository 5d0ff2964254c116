package config

import (
	"fmt"
	"strings"
)

//go:generate go run ./gen

// Markdown returns docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(markdownIntro)
	section := func(title, intro string, defs []*Def, broker bool, keep func(*Def) bool) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, intro)
		if broker {
			b.WriteString("| setting | type | default | values | change | meaning |\n|---|---|---|---|---|---|\n")
		} else {
			b.WriteString("| setting | type | default | values | from the broker's | meaning |\n|---|---|---|---|---|---|\n")
		}
		for _, d := range defs {
			if !d.Internal && keep(d) {
				b.WriteString(markdownRow(d, broker))
			}
		}
	}
	ours := func(d *Def) bool { return strings.HasPrefix(d.Name, "ottla.") }
	all := func(*Def) bool { return true }
	section("Ottla's own broker settings", "Kafka does not have these.", BrokerDefs(), true, ours)
	section("Kafka's broker settings that have effect", "They mean what they mean in Kafka.", BrokerDefs(), true,
		func(d *Def) bool { return !ours(d) && d.Effect == Effective })
	section("Topic settings", "A topic that does not set one takes the broker's, where there is one. Those in *italics* are accepted, checked and shown, and have no effect yet.",
		TopicDefs(), false, all)
	section("Group settings", "Settings of one group, over the broker's. They have to lie within the broker's `group.*.min.*` and `group.*.max.*`.", GroupDefs(), false, all)
	section("Client-metrics settings", "They are accepted, checked and shown; subscriptions are yet to come.", ClientMetricsDefs(), false, all)
	section("Kafka's broker settings without effect", "They are accepted, checked and shown, so that a configuration of Kafka can be used as it is. What was set of them is listed once at the start.",
		BrokerDefs(), true, func(d *Def) bool { return !ours(d) && d.Effect == Accepted })
	return b.String()
}

const markdownIntro = `# Configuration

<!-- Generated from internal/config by go generate. Do not edit. -->

Ottla understands the settings of Apache Kafka 4.3 under their own names. They come from, in rising order of precedence:

1. the defaults below;
2. a file, ` + "`ottla serve --config FILE`" + `: Kafka's ` + "`server.properties`" + ` as it is, or YAML (` + "`.yaml`, `.yml`" + `), in which keys may
   be nested or dotted as one likes (` + "`log: {retention.ms: 3600000}`" + `);
3. the environment: ` + "`KAFKA_LOG_RETENTION_MS`" + ` is ` + "`log.retention.ms`" + ` (` + "`_`" + ` is a dot, ` + "`__`" + ` a dash, ` + "`___`" + ` an underscore),
   ` + "`OTTLA_ACK_WHEN`" + ` is ` + "`ottla.ack.when`" + `, and ` + "`OTTLA_LOG_RETENTION_MS`" + ` is understood too and goes before ` + "`KAFKA_`" + `;
4. the command line: ` + "`--data`, `--listen`, `--set key=value`" + `;
5. for those that can change while the broker runs, what was set through the protocol (` + "`ottla config`, `kafka-configs`" + `): first for
   all brokers, then for one.

A setting that nobody knows, or a value that is not allowed, in a file, on the command line or in an ` + "`OTTLA_`" + ` variable keeps
the broker from starting; all problems are listed at once, with their place. An unknown ` + "`KAFKA_`" + ` variable is only mentioned.

Defaults are Kafka's, except:

| setting | default | why |
|---|---|---|
| ` + "`node.id`" + `, ` + "`broker.id`" + ` | 1 | a broker starts without being told who it is |
| ` + "`listeners`" + ` | ` + "`PLAINTEXT://127.0.0.1:9092`" + ` | nothing is open to a network unasked |
| ` + "`log.dir`" + ` | ` + "`data`" + ` | ` + "`/tmp`" + ` is no place for data |
| ` + "`*.replication.factor`, `*.min.isr`" + ` of internal topics | 1 | one broker is enough |

Listeners of controllers (` + "`controller.listener.names`" + `) are not opened: metadata has no listener of its own. Listeners with TLS or
SASL, and authorizers, are refused at the start until they exist, rather than left out silently.

*change*: read-only settings need a restart, per-broker ones can be set for one broker while it runs, cluster-wide ones also for
all of them.
`

func markdownRow(d *Def, broker bool) string {
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
	}
	value := code(d.Default)
	if d.Null {
		value = "none"
	}
	valid := ""
	if d.Valid != nil {
		valid = code(d.Valid.String())
	}
	name, fifth := code(d.Name), d.Mode.String()
	if !broker {
		fifth = code(d.Synonym)
		if d.Effect == Accepted && TopicDef(d.Name) == d {
			name = "*" + name + "*"
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", name, strings.ToLower(d.Type.String()), value, valid, fifth, d.Doc)
}
