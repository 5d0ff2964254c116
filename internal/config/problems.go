package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Key    string // the setting, empty if it is about the source
	Origin string // where it was read: "server.properties:12", "KAFKA_LOG_DIRS", "--set"
	Text   string
}

// String is one line for an operator.
func (p Problem) String() string {
	var parts []string
	if p.Origin != "" {
		parts = append(parts, p.Origin)
	}
	if p.Key != "" && !strings.Contains(p.Text, p.Key) {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Text), ": ")
}

// Problems is the error of Load: everything that is wrong, at once.
type Problems struct{ List []Problem }

// Error lists the problems, one a line.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, problem := range p.List {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// add notes a problem of a setting, with where it came from.
func (p *Problems) add(v *values, key, text string) {
	p.List = append(p.List, Problem{Key: key, Origin: v.static[key].origin, Text: text})
}

// has reports whether there is a problem of that setting.
func (p *Problems) has(key string) bool {
	return slices.ContainsFunc(p.List, func(q Problem) bool { return q.Key == key })
}

// unknownKey is the text for a setting that nobody knows, with the known one that looks most like it.
func unknownKey(key string) string {
	text := fmt.Sprintf("unknown setting %q", key)
	if s := suggest(key); s != "" {
		text += fmt.Sprintf(", did you mean %q?", s)
	}
	return text
}

// suggest returns the known key that is nearest to key, empty if none is near.
func suggest(key string) string {
	best, bestDistance := "", min(len(key)/3+1, 6)
	for _, d := range brokers().defs {
		if distance := levenshtein(strings.ToLower(key), d.Name, bestDistance); distance < bestDistance {
			best, bestDistance = d.Name, distance
		}
	}
	if best == "" && topics().byName[key] != nil {
		return topics().byName[key].Synonym // a topic's setting where the broker's belongs
	}
	return best
}

// levenshtein returns how many letters differ, or limit if that many or more do.
func levenshtein(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal, least := row[0], i
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}
