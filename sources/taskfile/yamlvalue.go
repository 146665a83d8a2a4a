package taskfile

import (
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// maxDepth is the maximum nesting depth of a value, as in JSON files and in the parser.
const maxDepth = 10_000

// A converter converts YAML values to JSON. Unknown tags are errors; tags never execute code.
type converter struct {
	out    []byte
	offset int64 // the line in the file minus the line of the node
	masked bool  // the nodes were parsed from masked text

	// onAmbiguous, if not nil, is called for the first value that YAML 1.1 reads
	// differently. Only task_id and data are checked, not other keys of the entry.
	onAmbiguous func(Ambiguity)
	isChecking  bool

	// limit bounds the size of the output. An alias stands for a copy of its anchor, so a short
	// entry can expand to more than the memory of the machine. limit also bounds the number of
	// visited nodes, because a node may have no output.
	limit   int64
	visited int64
	depth   int
	open    map[*yaml.Node]bool // the anchored nodes that contain the current node
}

type yamlField struct {
	name  string
	value *yaml.Node
}

func (c *converter) reset(offset int64, masked bool, limit int64) {
	*c = converter{out: c.out[:0], offset: offset, masked: masked, limit: limit, onAmbiguous: c.onAmbiguous}
}

func (c *converter) line(n *yaml.Node) int64 { return int64(n.Line) + c.offset }

func (c *converter) fault(n *yaml.Node, format string, args ...any) error {
	return at(c.line(n), nil, format, args...)
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
		text, s, err := c.scalar(n)
		if err != nil {
			return err
		}
		if s.kind == stringScalar {
			c.out = rawjson.AppendQuote(c.out, text)
		} else {
			c.out = append(c.out, s.json...)
		}
		return nil
	case yaml.SequenceNode:
		if n.Tag != seqTag {
			return c.fault(n, "%s", unknownTag(c.tag(n)))
		}
		c.out = append(c.out, '[')
		for i, item := range n.Content {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			if err := c.checkColon(n, item); err != nil {
				return err
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
		return c.fault(n, "%s", unknownTag(c.tag(n)))
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
		c.out = rawjson.AppendQuote(c.out, f.name)
		c.out = append(c.out, ':')
		if err := c.value(f.value); err != nil {
			return err
		}
	}
	c.out = append(c.out, '}')
	return nil
}

// enter begins the visit of a node, and checks the limits. leave ends the visit.
func (c *converter) enter(n *yaml.Node) error {
	c.visited++
	if c.visited > c.limit || int64(len(c.out)) > c.limit {
		fault := tooLarge(c.line(n), c.limit)
		fault.Reason += "; an alias counts as often as it is used"
		return fault
	}
	if c.depth++; c.depth > maxDepth {
		return c.fault(n, reasonDepth, maxDepth)
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

// fields returns the fields of a mapping in their order, and replaces each merge key ("<<") by the
// fields that it merges. The mapping's own fields take precedence over merged fields, and an earlier
// merge takes precedence over a later merge.
func (c *converter) fields(n *yaml.Node) ([]yamlField, error) {
	names := make(map[string]bool, len(n.Content)/2)
	fields := make([]yamlField, 0, len(n.Content)/2)
	merges := false
	for i := 0; i < len(n.Content); i += 2 {
		if err := c.checkColon(n, n.Content[i:i+2]...); err != nil {
			return nil, err
		}
		name := mergeTag // a placeholder: the field is replaced below
		if isMerge(n.Content[i]) {
			merges = true
		} else {
			var err error
			if name, err = c.key(n.Content[i]); err != nil {
				return nil, err
			}
			if names[name] {
				return nil, c.fault(n.Content[i], "duplicate key %q", name)
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

// merged returns the fields that a merge key with the value n adds.
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
			return nil, c.fault(n, "<< is %s: it can merge a mapping, or a list of them", c.typeOf(source))
		}
		if err := c.enter(source); err != nil {
			return nil, err
		}
		fields, err := c.fields(source)
		c.leave(source)
		if err != nil {
			return nil, err
		}
		c.visited += int64(len(fields)) // count the copied fields
		all = append(all, fields...)
	}
	return all, nil
}

// key returns a key as a string. A key that is not a string, such as a number, becomes its JSON.
func (c *converter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", c.fault(n, "a key is %s: keys must be strings, as in JSON", c.typeOf(n))
	}
	text, s, err := c.scalar(n)
	if err != nil || s.kind == stringScalar {
		return text, err
	}
	return s.json, nil
}

// scalar returns the text of a scalar and its resolved value.
func (c *converter) scalar(n *yaml.Node) (text string, s scalar, err error) {
	text, ok := c.text(n)
	if !ok {
		return "", s, c.fault(n, "%s: %s", reasonSyntax, "control characters are not allowed without quotes")
	}
	plain := isPlain(n)
	s, fault := resolve(text, plain, c.tag(n))
	if fault != "" {
		return "", s, c.fault(n, "%s", fault)
	}
	if c.onAmbiguous != nil && c.isChecking && plain && n.Style&yaml.TaggedStyle == 0 {
		if there, differs := differsInYAML11(text, s); differs {
			c.onAmbiguous(Ambiguity{Line: c.line(n), Value: excerpt(text), Here: describe(text, s), YAML11: there})
			c.onAmbiguous = nil
		}
	}
	return text, s, nil
}

// checkColon checks the items of a flow list, or a key and its value in a flow mapping. In YAML
// 1.2, a colon before a comma, a bracket or a brace ends a key. The parser reads such a colon as part
// of the scalar. checkColon therefore returns an error that says that the text is unsupported.
func (c *converter) checkColon(parent *yaml.Node, parts ...*yaml.Node) error {
	if parent.Style&yaml.FlowStyle == 0 {
		return nil
	}
	last := parts[len(parts)-1]
	isLoneKey := len(parts) == 2 && last.Kind == yaml.ScalarNode && last.Value == "" && isPlain(last)
	for i, n := range parts {
		if n.Kind != yaml.ScalarNode || !isPlain(n) || !strings.HasSuffix(n.Value, ":") || i < len(parts)-1 && !isLoneKey {
			continue
		}
		text, _ := c.text(n)
		return c.fault(n, "unsupported YAML: %s is followed by a comma or a bracket: put a space after its colon, or quote it", excerpt(text))
	}
	return nil
}

// text returns the unmasked text of a scalar; see unmask.
func (c *converter) text(n *yaml.Node) (text string, ok bool) {
	if !c.masked {
		return n.Value, true
	}
	return unmask(n.Value, n.Style&yaml.DoubleQuotedStyle != 0, n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0)
}

// tag returns the explicit tag of a node, or "". It ignores the tags that the parser assigns to
// untagged scalars, because some of these tags follow YAML 1.1.
func (c *converter) tag(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return n.Tag
}

func isPlain(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

func (c *converter) typeOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return c.typeOf(n.Alias)
	}
	text, _ := c.text(n)
	s, _ := resolve(text, isPlain(n), c.tag(n))
	return s.kind.String()
}
