package help

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	indent = "  "
	// usageColumn is the column in which the descriptions of flags start. With 80 columns, the
	// longest variable name fits into the columns to the right.
	usageColumn = 28
)

// Short returns the help of c for most users, wrapped to width columns: its usage, its common flags
// and examples. The help mentions command, which prints the full help.
func (c Command) Short(width int, command string) string {
	p := page{width: width}
	p.head(c)
	p.commands(c.Commands)
	var common []Flag
	more := false // flags that are not shown here, except those for help
	for _, f := range c.Flags {
		if f.Common {
			common = append(common, f)
		}
		more = more || !f.Common && f.Category != CategoryHelp
	}
	p.flags("Common flags", common, false)
	p.examples(c.Examples)
	switch {
	case len(c.Commands) > 0:
		p.paragraph(fmt.Sprintf("%q describes a command; %q prints more.", command+" COMMAND", command))
	case more:
		p.paragraph(fmt.Sprintf("%q lists all %d flags.", command, len(c.Flags)))
	default:
		p.paragraph(fmt.Sprintf("%q prints more.", command))
	}
	return p.String()
}

// Full returns the complete help of c, wrapped to width columns. Flags are grouped by category.
func (c Command) Full(width int) string {
	p := page{width: width}
	p.head(c)
	if c.Description != "" {
		p.block(wrapParagraphs(c.Description, width))
	}
	p.examples(c.Examples)
	p.commands(c.Commands)
	for _, group := range c.Groups() {
		title := "Flags"
		if category := group[0].Category; category != "" {
			title += " (" + strings.ToLower(category) + ")"
		}
		p.flags(title, group, true)
	}
	return p.String()
}

// Groups returns the flags by category. Categories and flags are in the order of the table.
func (c Command) Groups() (groups [][]Flag) {
	index := map[string]int{}
	for _, f := range c.Flags {
		i, ok := index[f.Category]
		if !ok {
			i = len(groups)
			index[f.Category] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// Synopsis returns all names of the flag with dashes, and the placeholder of its value.
func (f Flag) Synopsis() string {
	names := make([]string, len(f.Names))
	for i, name := range f.Names {
		names[i] = dashed(name)
	}
	text := strings.Join(names, ", ")
	if f.Arg != "" {
		text += " " + f.Arg
	}
	return text
}

// Text returns the description of the flag with its default value. If full is true, the environment variable
// is included.
func (f Flag) Text(full bool) string { return strings.ReplaceAll(f.text(full), glue, " ") }

// text is like Text, but with glue before a short default, so that wrap does not break the line there.
func (f Flag) text(full bool) string {
	const short = 12
	text := f.Usage
	switch {
	case len(f.Default) > short:
		text += " (default: " + f.Default + ")"
	case f.Default != "":
		text += " (default:" + glue + f.Default + ")"
	}
	if full && f.Env != "" {
		text += " [$" + f.Env + "]"
	}
	return text
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// page is a help page that is being written.
type page struct {
	strings.Builder
	width int
}

// block writes lines. If the page already contains text, it writes an empty line first.
func (p *page) block(lines []string) {
	if p.Len() > 0 {
		p.WriteByte('\n')
	}
	for _, line := range lines {
		p.WriteString(line)
		p.WriteByte('\n')
	}
}

func (p *page) paragraph(text string) { p.block(wrap(text, p.width)) }

func (p *page) head(c Command) {
	title := c.Name
	if c.Summary != "" {
		title += ": " + c.Summary
	}
	p.paragraph(title)
	lines := []string{"Usage:"}
	for _, usage := range c.Usage {
		for i, line := range wrap(usage, p.width-2*len(indent)) {
			if i > 0 {
				line = indent + line
			}
			lines = append(lines, indent+line)
		}
	}
	p.block(lines)
}

func (p *page) commands(commands []Command) {
	if len(commands) == 0 {
		return
	}
	column := 0
	for _, c := range commands {
		column = max(column, len(indent)+len(c.lastName())+2)
	}
	lines := []string{"Commands:"}
	for _, c := range commands {
		lines = append(lines, p.entry(c.lastName(), c.Summary, column)...)
	}
	p.block(lines)
}

func (p *page) flags(title string, flags []Flag, full bool) {
	if len(flags) == 0 {
		return
	}
	lines := []string{title + ":"}
	for _, f := range flags {
		lines = append(lines, p.entry(f.Synopsis(), f.text(full), usageColumn)...)
	}
	p.block(lines)
}

// entry returns the lines of a term and its text, which starts in the given column. On a narrow
// terminal the text starts below the term.
func (p *page) entry(term, text string, column int) (lines []string) {
	if p.width < 2*column {
		column = 3 * len(indent)
	}
	for _, line := range wrap(term, p.width-len(indent)) {
		lines = append(lines, indent+line)
	}
	for i, line := range wrap(text, p.width-column) {
		last := len(lines) - 1
		if space := column - utf8.RuneCountInString(lines[last]); i == 0 && space >= 2 {
			lines[last] += strings.Repeat(" ", space) + line
			continue
		}
		lines = append(lines, strings.Repeat(" ", column)+line)
	}
	return lines
}

func (p *page) examples(examples []string) {
	if len(examples) == 0 {
		return
	}
	title := "Examples:"
	if len(examples) == 1 {
		title = "Example:"
	}
	lines := []string{title}
	for _, example := range examples {
		for _, line := range wrapCommand(example, p.width-len(indent)) {
			lines = append(lines, indent+line)
		}
	}
	p.block(lines)
}
