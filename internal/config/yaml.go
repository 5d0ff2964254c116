package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads settings from YAML: keys may be nested or dotted as one likes, lists may be written as such.
//
//	log:
//	  retention.ms: 3600000
//	  segment: {bytes: 1048576}
//	listeners: [PLAINTEXT://:9092]
func parseYAML(text string) ([]entry, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return yamlEntries(nil, "", doc.Content[0], 0)
}

// maxYAMLDepth is deeper than any key has parts.
const maxYAMLDepth = 20

func yamlEntries(entries []entry, prefix string, n *yaml.Node, depth int) ([]entry, error) {
	if n.Kind != yaml.MappingNode || depth > maxYAMLDepth {
		return nil, fmt.Errorf("line %d: want a mapping of settings", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		var err error
		switch value.Kind {
		case yaml.MappingNode:
			if entries, err = yamlEntries(entries, name+".", value, depth+1); err != nil {
				return nil, err
			}
		case yaml.SequenceNode:
			parts := make([]string, len(value.Content))
			for j, part := range value.Content {
				if part.Kind != yaml.ScalarNode {
					return nil, fmt.Errorf("line %d: the list of %s holds something else than plain values", part.Line, name)
				}
				parts[j] = part.Value
			}
			entries = append(entries, entry{name, strings.Join(parts, ","), key.Line})
		case yaml.ScalarNode:
			text := value.Value
			if value.Tag == "!!null" {
				text = ""
			}
			entries = append(entries, entry{name, text, key.Line})
		default:
			return nil, fmt.Errorf("line %d: aliases are not supported", value.Line)
		}
	}
	return entries, nil
}
