package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the parts of the page
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/ctworker/ctworker/internal/units"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// page has the values of the template.
type page struct {
	R                        *Report
	Title, Subtitle, Sources string
	Policy                   string
	CSS                      template.CSS
	JS                       template.JS
	Facts                    []fact
	Time, Distributions      []*chart
	Attempts                 []attemptBar
	Commands                 []string
	Parts                    []costPart
	Split                    template.HTML
}

// An attemptBar is a row of the table of attempts by number.
type attemptBar struct {
	Name, Share string
	Count       int64
	Width       int // in percent
}

// attemptList has the values of the template of a list of attempts.
type attemptList struct {
	Title string
	All   []Attempt
}

func parsePage() (*template.Template, error) {
	classesOf := map[string]string{"completed": "c0", "exception": "c1", "timed_out": "c2", "exited": "c3"}
	return template.New("page").Funcs(template.FuncMap{
		"count": count, "duration": formatSeconds, "time": formatTime, "money": money, "percent": percent,
		"bytes":   func(n int64) string { return formatBytes(float64(n)) },
		"kind":    Notice.kind,
		"list":    func(title string, all []Attempt) attemptList { return attemptList{title, all} },
		"classOf": func(outcome string) string { return classesOf[outcome] },
		"words":   func(outcome string) string { return strings.ReplaceAll(outcome, "_", " ") },
	}).Parse(pageHTML)
}

// WriteHTML writes the report as an HTML page that needs no other file.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := parsePage()
	if err != nil {
		return err
	}
	p := page{
		R: r, CSS: template.CSS(pageCSS), JS: template.JS(pageJS), //nolint:gosec // constants
		// The hashes permit exactly the style and the script of the page.
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'", hashOf(pageCSS), hashOf(pageJS)),
		Facts:  r.facts(), Time: r.timeCharts(), Attempts: r.attemptBars(),
		Sources: units.Count(int64(len(r.logs)), "event log"),
	}
	p.Title, p.Subtitle = r.title()
	for _, c := range []*chart{
		distributionChart("duration", "Run time", r.Duration, formatSeconds, durationTicks()),
		distributionChart("memory", "Peak memory", r.Memory, formatBytes, sizeTicks()),
		distributionChart("cpu", "CPU time", r.CPU, formatSeconds, durationTicks()),
	} {
		if c != nil {
			p.Distributions = append(p.Distributions, c)
		}
	}
	for _, kind := range []string{"exception", "exited", "timed_out"} {
		for _, f := range r.Failures {
			if f.Outcome == kind {
				p.Commands = append(p.Commands, visible(r.failedCommand(kind)))
				break
			}
		}
	}
	if r.Cost != nil {
		p.Parts, p.Split = r.Cost.parts(), r.Cost.split()
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// title returns the heading of the page, and the line below it.
func (r *Report) title() (title, subtitle string) {
	s := r.Summary
	names := make([]string, 0, len(r.logs))
	for i, log := range r.logs {
		if i == maxNamedLogs {
			names = append(names, fmt.Sprintf("%d more", len(r.logs)-i))
			break
		}
		names = append(names, visible(cut(filepath.Base(log), maxText)))
	}
	subtitle = strings.Join(names, ", ")
	if s.Start != nil {
		subtitle += " · " + formatTime(s.Start) + " to " + formatTime(s.End) + " UTC"
	}
	switch {
	case s.Attempts == 0:
		return "No task has ended", subtitle
	case s.Failed == 0:
		return plural(s.Tasks, "task") + ", none failed", subtitle
	}
	return fmt.Sprintf("%s, %s failed", plural(s.Tasks, "task"), count(s.Failed)), subtitle
}

func (r *Report) attemptBars() (all []attemptBar) {
	highest := int64(1)
	for _, n := range r.Attempts {
		highest = max(highest, n)
	}
	for i, n := range r.Attempts {
		bar := attemptBar{Name: fmt.Sprint(i + 1), Count: n, Share: percent(float64(n), float64(r.Summary.Attempts))}
		if i+1 == maxAttemptBars {
			bar.Name += " and more"
		}
		if n > 0 {
			bar.Width = max(int(math.Log(float64(n)+1)/math.Log(float64(highest)+1)*100), 1)
		}
		all = append(all, bar)
	}
	return all
}

// split draws the parts of the costs in one bar.
func (c *Cost) split() template.HTML {
	var s svg
	x := 0.0
	for _, p := range c.parts() {
		if c.Total > 0 {
			w := p.Amount / c.Total * plotWidth
			s.rect(x, 0, w, 22, p.Class, "")
			x += w
		}
	}
	return s.html()
}
