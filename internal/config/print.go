package config

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/ctworker/ctworker/internal/redact"
)

// Print writes each setting as a line of YAML, in the order of the help, with the origin of its
// value in a comment. It writes a setting without a value as a comment. The output is a config file
// with the same settings, but secrets in URLs are masked, because users paste the output into bug
// reports.
func (c *Config) Print(w io.Writer) error {
	var b strings.Builder
	for _, s := range settings() {
		if s.flagOnly {
			continue
		}
		v := s.at(c)
		shown := v.text()
		if shown == "" {
			fmt.Fprintf(&b, "# %s: (not set)\n", s.name)
			continue
		}
		secret := ""
		if masked := redact.URL(shown); masked != shown {
			shown, secret = masked, "; secrets masked"
		}
		if _, free := v.(field[string]); free {
			var err error
			if shown, err = scalar(shown); err != nil {
				return fmt.Errorf("print %s: %w", s.name, err)
			}
		}
		fmt.Fprintf(&b, "%s: %s  # %s\n", s.name, shown, oneLine(c.origins[s.name].String())+secret)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// scalar returns text as a YAML scalar on one line, in quotes if necessary.
func scalar(text string) (string, error) {
	if !utf8.ValidString(text) { // a file name may contain any bytes
		return `!!binary "` + base64.StdEncoding.EncodeToString([]byte(text)) + `"`, nil
	}
	node := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		node.Style = yaml.DoubleQuotedStyle
	}
	line, err := yaml.Marshal(&node)
	return strings.TrimSuffix(string(line), "\n"), err
}
