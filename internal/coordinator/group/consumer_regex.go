package group

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// minRegexRefresh is the shortest time, in ms, between two times that all patterns of a group are matched again because there are new
// topics.
const minRegexRefresh = 10_000

// compileRegex compiles a pattern that has to match the whole name of a topic. Patterns are RE2, as in Kafka, whose own library was made
// from Go's: they cost time in proportion to what they are matched with.
func compileRegex(pattern string) (*regexp.Regexp, error) {
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil {
		return nil, err // for the pattern itself, without what stands around it below
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

func invalidRegex(pattern string, err error) *Refusal {
	why := err.Error()
	var bad *syntax.Error
	if errors.As(err, &bad) {
		why = string(bad.Code)
	}
	return refuse(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", pattern, why)
}

// forgetRegex drops what is known of a pattern that no member has any more.
func (m *Machine) forgetRegex(fx *coordinator.Effects, g *consumerGroup, pattern string) {
	if _, ok := g.regexes[pattern]; ok && g.regexMembers[pattern] == 0 {
		fx.Append(regexKey(g.id, pattern), nil)
	}
}

// refreshRegexes matches the patterns of a group with the topics: one that is new at once, all of them when topics have come or gone, and
// from time to time in any case. It reports whether any matches something else than before.
//
// A pattern is matched where the request is handled, which takes about a tenth of a microsecond for each topic; minRegexRefresh keeps
// that rare.
func (m *Machine) refreshRegexes(fx *coordinator.Effects, g *consumerGroup) (changed bool) {
	if len(g.regexMembers) == 0 {
		return false
	}
	image, now := m.env.Topics.Image(), fx.Now.UnixMilli()
	for _, pattern := range sortedKeys(g.regexMembers) {
		old, known := g.regexes[pattern]
		due := now > old.at+minRegexRefresh && image.Version() != old.version || now > old.at+m.env.Config.RegexRefreshInterval.Milliseconds()
		if known && !due {
			continue
		}
		found := resolvedRegex{version: image.Version(), at: now}
		if re, err := compileRegex(pattern); err == nil { // it was checked when it came
			for name := range image.Names() {
				if re.MatchString(name) {
					found.topics = append(found.topics, name)
				}
			}
		}
		value := encodeRegex(found)
		if m.env.Budget.full(found.size(pattern)) || m.tooLong(g.id, value) {
			continue
		}
		changed = changed || !slices.Equal(old.topics, found.topics)
		fx.Append(regexKey(g.id, pattern), value)
	}
	return changed
}
