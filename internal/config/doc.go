// Package config holds one table of every setting: those of Apache Kafka 4.3 for brokers, topics, groups and
// client-metrics subscriptions, and Ottla's own. A Def says a setting's name, type, default, allowed values, how it may
// change at run time, and whether it has effect here; parsing, checking, DescribeConfigs and docs/configuration.md all
// read it.
//
// # Layers
//
// A broker setting has a value in up to four places. The first that has one wins:
//
//	dynamic, this broker      WithDynamic, SourceDynamicBroker
//	dynamic, all brokers      WithDynamic, SourceDynamicDefaultBroker
//	static                    Load: --set over flags over OTTLA_* over KAFKA_* over the file, SourceStaticBroker
//	default                   the table, SourceDefault
//
// Some durations have several names (log.retention.ms, .minutes, .hours): the finest that has a value in any place
// wins. A topic's or group's setting is its own, or that of the broker setting that its Def names as its synonym.
// DescribeConfigs lists the places as Kafka does, see values.synonyms.
//
// # What is refused
//
// Load reports all problems at once (*Problems), each with the file and line, variable or flag that it came from. Keys
// that nobody knows are refused with the known one that looks most like them, except in KAFKA_* variables, which get
// a warning; Kafka's keys without effect here are accepted and listed once (Broker.Warnings). What a user would rely on
// for safety and we do not have yet, TLS and SASL listeners and authorizers, is refused rather than passed over.
//
// Errors about values are *InvalidError; their text is word for word that of Kafka's ConfigException, which a test
// compares with recorded answers of the reference.
package config
