package taskfile

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"gopkg.in/yaml.v3"
)

// The tags of YAML's core schema, as the parser shortens them.
const (
	nullTag      = "!!null"
	boolTag      = "!!bool"
	strTag       = "!!str"
	intTag       = "!!int"
	floatTag     = "!!float"
	timestampTag = "!!timestamp"
	binaryTag    = "!!binary"
	mergeTag     = "!!merge"
	seqTag       = "!!seq"
	mapTag       = "!!map"
)

// maxDepth is how deep a value may be nested, as in JSON files.
const maxDepth = 10_000

// A converter writes YAML values as JSON. Tags run nothing: those it does not
// know are errors.
type converter struct {
	out   []byte
	first int64 // the line of the nodes' line 1

	// An alias stands for a copy of its anchor, so a short entry can ask for
	// more than any memory holds. Both the output and the number of nodes
	// visited, which may yield no output, stay within limit.
	limit   int64
	visited int64
	depth   int
	open    map[*yaml.Node]bool // the anchored nodes around the current one
}

type yamlField struct {
	name  string
	value *yaml.Node
}

func (c *converter) reset(first, limit int64) {
	*c = converter{out: c.out[:0], first: first, limit: limit}
}

func (c *converter) fault(n *yaml.Node, format string, args ...any) error {
	return at(c.first+int64(n.Line)-1, nil, format, args...)
}

// value appends the JSON of n to out.
func (c *converter) value(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		if c.open[n.Alias] {
			return c.fault(n, "alias *%s refers to itself", n.Value)
		}
		n = n.Alias
	}
	if err := c.enter(n); err != nil {
		return err
	}
	defer c.leave(n)
	switch n.Kind {
	case yaml.ScalarNode:
		return c.scalar(n)
	case yaml.SequenceNode:
		if n.Tag != seqTag {
			return c.unknownTag(n)
		}
		c.out = append(c.out, '[')
		for i, item := range n.Content {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			if err := c.value(item); err != nil {
				return err
			}
		}
		c.out = append(c.out, ']')
		return nil
	default:
		return c.mapping(n)
	}
}

func (c *converter) mapping(n *yaml.Node) error {
	if n.Tag != mapTag {
		return c.unknownTag(n)
	}
	fields, err := c.fields(n)
	if err != nil {
		return err
	}
	c.out = append(c.out, '{')
	for i, f := range fields {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.quote(f.name)
		c.out = append(c.out, ':')
		if err := c.value(f.value); err != nil {
			return err
		}
	}
	c.out = append(c.out, '}')
	return nil
}

// enter counts the visit of a node, which leave ends.
func (c *converter) enter(n *yaml.Node) error {
	c.visited++
	if c.visited > c.limit || int64(len(c.out)) > c.limit {
		fault := tooLarge(c.first+int64(n.Line)-1, c.limit)
		fault.Reason += "; an alias counts as often as it is used"
		return fault
	}
	if c.depth++; c.depth > maxDepth {
		return c.fault(n, "the entry is nested more than %d deep", maxDepth)
	}
	if n.Anchor != "" {
		if c.open == nil {
			c.open = make(map[*yaml.Node]bool)
		}
		c.open[n] = true
	}
	return nil
}

func (c *converter) leave(n *yaml.Node) {
	c.depth--
	if n.Anchor != "" {
		delete(c.open, n)
	}
}

// fields returns the fields of a mapping in their order, with those that merge
// keys ("<<") bring in their place. A mapping's own fields come before those
// it merges, and an earlier merge before a later one.
func (c *converter) fields(n *yaml.Node) ([]yamlField, error) {
	names := make(map[string]bool, len(n.Content)/2)
	fields := make([]yamlField, 0, len(n.Content)/2)
	merges := false
	for i := 0; i < len(n.Content); i += 2 {
		name := mergeTag // no key's name: it names the field to replace below
		if isMerge(n.Content[i]) {
			merges = true
		} else {
			var err error
			if name, err = c.key(n.Content[i]); err != nil {
				return nil, err
			}
			if names[name] {
				return nil, c.fault(n.Content[i], "the key %q is there twice", name)
			}
			names[name] = true
		}
		fields = append(fields, yamlField{name, n.Content[i+1]})
	}
	if !merges {
		return fields, nil
	}
	var all []yamlField
	for i, own := range fields {
		if !isMerge(n.Content[2*i]) {
			all = append(all, own)
			continue
		}
		merged, err := c.merged(own.value)
		if err != nil {
			return nil, err
		}
		for _, f := range merged {
			if !names[f.name] {
				names[f.name] = true
				all = append(all, f)
			}
		}
	}
	return all, nil
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.Tag == mergeTag }

// merged returns the fields that the value of a merge key brings.
func (c *converter) merged(n *yaml.Node) ([]yamlField, error) {
	sources := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		sources = n.Content
	}
	var all []yamlField
	for _, source := range sources {
		if source.Kind == yaml.AliasNode {
			if c.open[source.Alias] {
				return nil, c.fault(source, "alias *%s refers to itself", source.Value)
			}
			source = source.Alias
		}
		if source.Kind != yaml.MappingNode {
			return nil, c.fault(n, "<< is %s: it can merge a mapping, or a list of them", yamlType(source))
		}
		if err := c.enter(source); err != nil {
			return nil, err
		}
		fields, err := c.fields(source)
		c.leave(source)
		if err != nil {
			return nil, err
		}
		c.visited += int64(len(fields)) // a merge costs what it copies
		all = append(all, fields...)
	}
	return all, nil
}

// key returns a key as a string: a number, say, as its JSON.
func (c *converter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", c.fault(n, "a key is %s: JSON has only strings for keys", yamlType(n))
	}
	start := len(c.out)
	if err := c.scalar(n); err != nil {
		return "", err
	}
	name := string(c.out[start:])
	c.out = c.out[:start]
	if name[0] == '"' {
		return n.Value, nil
	}
	return name, nil
}

// scalar appends the JSON of a scalar to out.
func (c *converter) scalar(n *yaml.Node) error {
	// The parser makes a string of a number that Go cannot hold. JSON has no
	// such bounds.
	if n.Style == 0 && n.Tag == strTag || n.Tag == intTag || n.Tag == floatTag {
		if literal, ok := number(n.Value); ok {
			c.out = append(c.out, literal...)
			return nil
		}
	}
	switch n.Tag {
	case strTag, timestampTag, binaryTag, mergeTag:
		c.quote(n.Value)
		return nil
	case nullTag:
		switch n.Value {
		case "", "~", "null", "Null", "NULL":
			c.out = append(c.out, "null"...)
			return nil
		}
	case boolTag:
		switch value := strings.ToLower(n.Value); value {
		case "true", "false":
			c.out = append(c.out, value...)
			return nil
		}
	case floatTag:
		if strings.HasSuffix(strings.ToLower(n.Value), ".nan") || strings.HasSuffix(strings.ToLower(n.Value), ".inf") {
			return c.fault(n, "%s has no JSON: use a number, a string or null", n.Value)
		}
	case intTag:
	default:
		return c.unknownTag(n)
	}
	return c.fault(n, "%q is not %s, as its tag says", n.Value, yamlType(n))
}

func (c *converter) unknownTag(n *yaml.Node) error {
	return c.fault(n, "the tag %s is not known: a task is plain data", n.Tag)
}

func (c *converter) quote(s string) {
	c.out, _ = jsontext.AppendQuote(c.out, s) // it is UTF-8, so there is no error
}

func yamlType(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return yamlType(n.Alias)
	}
	switch n.Tag {
	case strTag:
		return "a string"
	case intTag, floatTag:
		return "a number"
	case boolTag:
		return "true or false"
	case nullTag:
		return "null"
	case timestampTag:
		return "a date"
	default:
		return "a value with the tag " + n.Tag
	}
}
