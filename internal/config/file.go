package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// entry is one line of a config file: a setting and its value, or a fault.
type entry struct {
	setting setting
	value   string
	shown   string // file, line and key, as shown in faults
	line    int
	fault   *Error
}

// parseFile parses a config file: a YAML mapping from the names of settings to scalars. A name may
// have _ instead of -. The value is the text as written, regardless of its YAML type, because a
// value must have the same meaning as in a flag.
func parseFile(name string, content []byte) []entry {
	broken := func(line int, reason string) entry {
		shown := name
		if line > 0 {
			shown += ":" + strconv.Itoa(line)
		}
		return entry{fault: &Error{Setting: shown, Reason: reason, valueless: true}}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // empty, or comments only
	} else if err != nil {
		return []entry{broken(0, notYAML(err))}
	}

	top := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
		top = doc.Content[0]
	}
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return nil
	}
	if top.Kind != yaml.MappingNode {
		return []entry{broken(top.Line, "not a mapping; give lines such as "+maxRuntime+": 600")}
	}
	entries := parseMapping(name, top)
	switch err := decoder.Decode(&second); {
	case err == nil:
		entries = append(entries, broken(second.Line, "second YAML document; remove all but one"))
	case !errors.Is(err, io.EOF):
		entries = append(entries, broken(0, notYAML(err)))
	}
	return entries
}

// notYAML returns the reason for a file that the YAML parser rejects. The text of err contains the
// line number.
func notYAML(err error) string {
	return "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")
}

func parseMapping(name string, mapping *yaml.Node) (entries []entry) {
	known := keys()
	first := make(map[string]int) // the line on which each setting occurs first
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, val := mapping.Content[i], mapping.Content[i+1]
		e := entry{shown: name + ":" + strconv.Itoa(key.Line) + ": " + key.Value, line: key.Line}
		raw, reason := plain(val)
		e.value = raw
		s, ok := known[strings.ReplaceAll(key.Value, "_", "-")]
		e.setting = s
		about := s.name
		switch {
		case !ok:
			reason, about = unknownKey(key.Value)
		case first[s.name] > 0:
			reason = "already on line " + strconv.Itoa(first[s.name]) + "; remove one of the two lines"
		case s.flagOnly:
			reason = "not allowed in a config file; give " + flagged(s.name) + " on the command line"
		}
		if reason != "" {
			e.fault = &Error{
				Setting: e.shown, Value: raw, Reason: reason, about: about, valueless: val.Kind != yaml.ScalarNode,
			}
		}
		if ok && first[s.name] == 0 {
			first[s.name] = key.Line
		}
		entries = append(entries, e)
	}
	return entries
}

// keys returns all settings. The map key is the setting's key in a config file.
func keys() map[string]setting {
	all := make(map[string]setting)
	for _, s := range settings() {
		all[s.name] = s
	}
	return all
}

// plain returns the text of a node, or the reason why the node is not a scalar.
func plain(node *yaml.Node) (raw, reason string) {
	switch {
	case node.Kind != yaml.ScalarNode:
		return "", "not a single value; give a text, a number, true or false"
	case node.ShortTag() == "!!null":
		return node.Value, "no value; give one, or remove the line"
	case node.ShortTag() == "!!binary": // Print writes text that is not UTF-8 in this form
		if err := node.Decode(&raw); err != nil {
			return node.Value, "not base64; give the text itself"
		}
		return raw, ""
	default:
		return node.Value, ""
	}
}

// unknownKey returns the reason why key is invalid, and the setting that the user probably meant.
func unknownKey(key string) (reason, about string) {
	if r, ok := removed(strings.ReplaceAll(key, "_", "-")); ok {
		return "unknown setting; use " + r.key(), r.setting
	}
	if a, ok := aliases()[key]; ok && !a.negated && !a.setting.flagOnly { // a short flag, such as j
		return "unknown setting; did you mean " + a.setting.name + "?", a.setting.name
	}
	var names []string
	for _, s := range settings() {
		if !s.flagOnly {
			names = append(names, s.name)
		}
	}
	if near := nearest(key, names); near != "" {
		return "unknown setting; did you mean " + near + "?", near
	}
	return "unknown setting; the settings are the flags in --help, without the leading dashes", ""
}

// cannotRead returns the reason why a file cannot be read. It omits the name of the file, because
// the fault contains the name.
func cannotRead(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return "cannot be read: " + err.Error() + "; give the name of a YAML file"
}
