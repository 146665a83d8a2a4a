package main

import (
	"fmt"
	"strings"

	"github.com/ctworker/ctworker/internal/help"
)

// pages returns the pages of a program and all of its commands, by file name. version is for the
// footer.
func pages(root help.Command, version string) map[string]string {
	all := map[string]string{}
	var add func(c help.Command, parents []help.Command)
	add = func(c help.Command, parents []help.Command) {
		all[pageName(c)+".1"] = page(c, parents, version)
		for _, sub := range c.Commands {
			add(sub, append(parents[:len(parents):len(parents)], c))
		}
	}
	add(root, nil)
	return all
}

// pageName returns the name of the page of a command, such as ctworker-queue-status.
func pageName(c help.Command) string { return strings.ReplaceAll(c.Name, " ", "-") }

// page returns the page of one command in the language of man(7).
func page(c help.Command, parents []help.Command, version string) string {
	var b roff
	b.printf(".TH %s 1 \"\" \"%s\" \"Manual of ctworker\"\n", escaped(strings.ToUpper(pageName(c))), escaped(version))
	b.printf(".nh\n.ad l\n") // a flag or variable is never hyphenated
	b.section("NAME")
	b.printf("%s \\- %s\n", escaped(pageName(c)), escaped(c.Summary))
	b.section("SYNOPSIS")
	for i, usage := range c.Usage {
		if i > 0 {
			b.printf(".br\n")
		}
		if rest, ok := strings.CutPrefix(usage, c.Name); ok {
			b.printf("\\fB%s\\fR%s\n", escaped(c.Name), escaped(rest))
		} else {
			b.text(usage)
		}
	}
	if c.Description != "" {
		b.section("DESCRIPTION")
		b.paragraphs(c.Description)
	}
	if len(c.Commands) > 0 {
		b.section("COMMANDS")
		for _, sub := range c.Commands {
			b.printf(".TP\n%s\n", reference(sub))
			b.text(sub.Summary)
		}
	}
	b.options(c)
	if len(c.Examples) > 0 {
		b.section("EXAMPLES")
		b.printf(".nf\n")
		for _, example := range c.Examples {
			b.text(example)
		}
		b.printf(".fi\n")
	}
	b.seeAlso(c, parents)
	return b.String()
}

// reference returns the name of the page of a command, as other pages show it.
func reference(c help.Command) string { return `\fB` + escaped(pageName(c)) + `\fR(1)` }

// roff is a page that is being written.
type roff struct{ strings.Builder }

func (r *roff) printf(format string, args ...any) { _, _ = fmt.Fprintf(&r.Builder, format, args...) }

func (r *roff) section(title string) { r.printf(".SH %s\n", title) }

// text writes a line of text.
func (r *roff) text(line string) { r.printf("%s\n", escaped(line)) }

// paragraphs writes text whose paragraphs are separated by empty lines. In a paragraph that starts
// with a space, line breaks are kept.
func (r *roff) paragraphs(text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			r.printf(".PP\n")
		}
		verbatim := strings.HasPrefix(paragraph, " ")
		if verbatim {
			r.printf(".nf\n")
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			r.text(line)
		}
		if verbatim {
			r.printf(".fi\n")
		}
	}
}

func (r *roff) options(c help.Command) {
	groups := c.Groups()
	if len(groups) == 0 {
		return
	}
	r.section("OPTIONS")
	for _, group := range groups {
		if category := group[0].Category; category != "" && len(groups) > 1 {
			r.printf(".SS %s\n", escaped(category))
		}
		for _, f := range group {
			names, arg := f.Synopsis(), ""
			if f.Arg != "" {
				names = strings.TrimSuffix(names, " "+f.Arg)
				arg = ` \fI` + escaped(f.Arg) + `\fR`
			}
			r.printf(".TP\n\\fB%s\\fR%s\n", strings.ReplaceAll(escaped(names), ", ", `\fR, \fB`), arg)
			r.text(f.Usage + ".")
			if f.Default != "" {
				r.text("The default is " + f.Default + ".")
			}
			if f.Env != "" {
				r.printf(".br\nVariable: \\fB%s\\fR.\n", escaped(f.Env))
			}
		}
	}
}

// seeAlso refers to the parents and the children of a command.
func (r *roff) seeAlso(c help.Command, parents []help.Command) {
	var pages []string
	for _, other := range append(parents[:len(parents):len(parents)], c.Commands...) {
		pages = append(pages, reference(other))
	}
	if len(pages) > 0 {
		r.section("SEE ALSO")
		r.printf("%s\n", strings.Join(pages, ",\n"))
	}
}

// escaped returns text without anything that roff interprets. An ellipsis is written as three
// dots, because not every device has that character.
func escaped(text string) string {
	text = strings.NewReplacer(
		`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...",
	).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	var b strings.Builder
	for _, char := range text {
		if char < 0x80 {
			b.WriteRune(char)
		} else {
			_, _ = fmt.Fprintf(&b, `\[u%04X]`, char)
		}
	}
	return b.String()
}
