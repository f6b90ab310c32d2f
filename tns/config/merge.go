package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxMerged bounds the keys that merging adds to a file: a few lines can ask for
// very many.
const maxMerged = 100_000

// merger puts in the place of YAML's merge keys ("<<: *base") what they stand for:
// the keys of the other maps that the map does not have itself, the first of them
// counting.
type merger struct {
	file *file
	seen map[*yaml.Node]bool // false while at it
	left int                 // keys that may be added
}

func (f *file) merge() {
	m := &merger{file: f, seen: map[*yaml.Node]bool{}, left: maxMerged}
	m.expand(f.root, 0)
}

// expand returns false where a fault was found.
func (m *merger) expand(n *yaml.Node, depth int) bool {
	if depth > maxDepth {
		return true // checkKeys says it of maps, and nothing reads lists that deep
	}
	if done, known := m.seen[n]; known {
		if !done {
			m.file.fault(n, "is merged into itself", "")
		}
		return done
	}
	m.seen[n] = false
	defer func() { m.seen[n] = true }()
	if n.Kind != yaml.MappingNode {
		for _, item := range n.Content {
			if item.Kind != yaml.AliasNode && !m.expand(item, depth+1) {
				return false
			}
		}
		return true
	}
	own := map[string]bool{}
	var sources []*yaml.Node
	kept := make([]*yaml.Node, 0, len(n.Content))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			if value = resolve(value); value.Kind == yaml.SequenceNode {
				sources = append(sources, value.Content...)
			} else {
				sources = append(sources, value)
			}
			continue
		}
		own[key.Value] = true
		kept = append(kept, key, value)
		if value.Kind != yaml.AliasNode && !m.expand(value, depth+1) {
			return false
		}
	}
	for _, source := range sources {
		from := resolve(source)
		if from.Kind != yaml.MappingNode {
			m.file.fault(source, "<< must name a map, not "+kindName(from), "as in <<: *base, where another map begins with &base")
			return false
		}
		if !m.expand(from, depth+1) {
			return false
		}
		for i := 0; i+1 < len(from.Content); i += 2 {
			if own[from.Content[i].Value] {
				continue
			}
			if m.left--; m.left < 0 {
				m.file.fault(source, fmt.Sprintf("merges more than %d keys", maxMerged), "")
				return false
			}
			own[from.Content[i].Value] = true
			kept = append(kept, from.Content[i], from.Content[i+1])
		}
	}
	n.Content = kept
	return true
}
