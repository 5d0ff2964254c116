package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Validator checks one parsed value.
type Validator interface {
	// String describes the allowed values as Kafka does: "[0,...]", "[a, b]".
	String() string

	check(name string, value any) error
}

// number is a range of numbers, its ends included.
type number struct {
	min float64
	max *float64
}

func atLeast(low float64) Validator { return number{min: low} }

func between(low, high float64) Validator { return number{min: low, max: &high} }

func (n number) String() string {
	text := "[" + strconv.FormatFloat(n.min, 'f', -1, 64) + ",..."
	if n.max != nil {
		text += "," + strconv.FormatFloat(*n.max, 'f', -1, 64)
	}
	return text + "]"
}

func (n number) check(name string, value any) error {
	var f float64
	switch v := value.(type) {
	case int64:
		f = float64(v)
	case float64:
		f = v
	}
	switch {
	case f < n.min:
		return invalid(name, format(value), "Value must be at least "+strconv.FormatFloat(n.min, 'f', -1, 64))
	case n.max != nil && f > *n.max:
		return invalid(name, format(value), "Value must be no more than "+strconv.FormatFloat(*n.max, 'f', -1, 64))
	}
	return nil
}

// choice is one of several words.
type choice struct {
	words []string
	fold  bool // upper and lower case are the same
}

func oneOf(words ...string) Validator { return choice{words: words} }

func oneOfFold(words ...string) Validator { return choice{words: words, fold: true} }

func (c choice) String() string {
	text := "[" + strings.Join(c.words, ", ") + "]"
	if c.fold {
		return "(case insensitive) " + text
	}
	return text
}

func (c choice) check(name string, value any) error {
	if err := checkWord(c.words, c.fold, name, value.(string)); err != nil {
		return err
	}
	return nil
}

func checkWord(words []string, fold bool, name, word string) error {
	if slices.Contains(words, word) || fold && slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, word) }) {
		return nil
	}
	of := "String must be one of: "
	if fold {
		of = "String must be one of (case insensitive): "
	}
	return invalid(name, word, of+strings.Join(words, ", "))
}

// list is a list without duplicates, of certain words if there are any.
type list struct {
	words []string
	empty bool // may be empty
}

func listOf(words ...string) Validator { return list{words, true} }

func nonEmptyListOf(words ...string) Validator { return list{words, false} }

func (l list) String() string {
	if len(l.words) == 0 {
		return ""
	}
	return "[" + strings.Join(l.words, ", ") + "]"
}

func (l list) check(name string, value any) error {
	v := value.([]string)
	if len(v) == 0 && !l.empty {
		valid := "any non-empty value"
		if len(l.words) > 0 {
			valid = l.String()
		}
		return &InvalidError{name, fmt.Sprintf("Configuration '%s' must not be empty. Valid values include: %s", name, valid)}
	}
	for i, word := range v {
		if slices.Contains(v[:i], word) {
			return &InvalidError{name, fmt.Sprintf("Configuration '%s' values must not be duplicated.", name)}
		}
	}
	for _, word := range v {
		if word == "" {
			return &InvalidError{name, fmt.Sprintf("Configuration '%s' values must not be empty.", name)}
		}
		if len(l.words) > 0 {
			if err := checkWord(l.words, false, name, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// rule is any other check.
type rule struct {
	text string
	fn   func(name string, value any) error
}

func (r rule) String() string { return r.text }

func (r rule) check(name string, value any) error { return r.fn(name, value) }

func nonEmpty() Validator {
	return rule{"non-empty string", func(name string, value any) error {
		if value.(string) == "" {
			return invalid(name, "", "String must be non-empty")
		}
		return nil
	}}
}

func gzipLevel() Validator {
	return rule{"[1,...,9] or -1", func(name string, value any) error {
		if v := value.(int64); v != -1 && (v < 1 || v > 9) {
			return invalid(name, format(v), "Value must be between 1 and 9 or equal to -1")
		}
		return nil
	}}
}

var throttledReplica = regexp.MustCompile(`^\d+:\d+$`)

func throttledReplicas() Validator {
	return rule{"[partitionId]:[brokerId],[partitionId]:[brokerId],...", func(name string, value any) error {
		v := value.([]string)
		if len(v) == 1 && v[0] == "*" {
			return nil
		}
		for _, replica := range v {
			if !throttledReplica.MatchString(replica) {
				return invalid(name, "["+strings.Join(v, ", ")+"]", name+" must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
			}
		}
		return nil
	}}
}

var (
	quorumVoter     = regexp.MustCompile(`^\d+@\[?[0-9a-zA-Z\-%._:]*\]?:\d+$`)
	bootstrapServer = regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z\d+-.]*://)?\[?([0-9a-zA-Z\-._%:]+)\]?:\d+$`)
)

func quorumVoters() Validator {
	return rule{"non-empty list", func(name string, value any) error {
		for _, voter := range value.([]string) {
			if !quorumVoter.MatchString(voter) {
				return &InvalidError{name, "Invalid configuration value for " + name + ". Each entry should be in the form `{id}@{host}:{port}`."}
			}
		}
		return nil
	}}
}

func bootstrapServers() Validator {
	return rule{"non-empty list", func(name string, value any) error {
		for _, server := range value.([]string) {
			if !bootstrapServer.MatchString(server) {
				return &InvalidError{name, fmt.Sprintf("Failed to parse host name from %s for the configuration %s. Each entry should be in the form \"{host}:{port}\"", server, name)}
			}
		}
		return nil
	}}
}

// isoDuration is java.time.Duration's text, positive.
var isoDuration = regexp.MustCompile(`(?i)^by_duration:P(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:[.,]\d{0,9})?S)?)?$`)

func shareOffsetReset() Validator {
	return rule{"[latest, earliest, by_duration:PnDTnHnMn.nS]", func(name string, value any) error {
		v := value.(string)
		if v == "latest" || v == "earliest" {
			return nil
		}
		if isoDuration.MatchString(v) && strings.ContainsAny(v[len("by_duration:"):], "0123456789") && v[len(v)-1]|0x20 != 't' {
			return nil
		}
		return invalid(name, v, fmt.Sprintf("Invalid value `%s` for configuration %s. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.", v, name))
	}}
}
