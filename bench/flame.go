package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// frame is a function in a flame graph, below the one that has called it.
type frame struct {
	name  string
	time  time.Duration
	calls map[string]*frame
}

func (f *frame) call(name string) *frame {
	if f.calls == nil {
		f.calls = map[string]*frame{}
	}
	c := f.calls[name]
	if c == nil {
		c = &frame{name: name}
		f.calls[name] = c
	}
	return c
}

// flame draws a CPU profile as a flame graph, callers below what they call. What starts
// every goroutine is left out, and so is what is narrower than a pixel. It prints what each
// part of the work takes, too, of a run of that many tasks.
func flame(profile string, tasks float64) (string, error) {
	out, err := exec.Command("go", "tool", "pprof", "-traces", profile).Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof -traces %s: %w", profile, err)
	}
	root, err := stacks(out)
	if err != nil {
		return "", err
	}
	breakdown(root, tasks)
	const width, rowHeight, top = 1200.0, 16.0, 30.0
	perTime := width / float64(root.time)
	depth := root.depth(perTime)
	var b strings.Builder
	height := top + float64(depth)*rowHeight + 10
	b.WriteString(strings.Replace(svgHead(width, height), `font-size="12"`, `font-size="11"`, 1))
	b.WriteString(text(6, 18, "start", "#000", fmt.Sprintf("CPU time of ctworker itself: %.2f s, callers below what they call", root.time.Seconds())))
	root.draw(&b, 0, height-10, perTime, rowHeight, root.time)
	b.WriteString("</svg>\n")
	return b.String(), nil
}

// traceHead begins a stack: how long, and the function at its top.
var traceHead = regexp.MustCompile(`^ +(\d+(?:\.\d+)?(?:ms|s|us|µs|mins)) +(.+)$`)

// stacks reads what "go tool pprof -traces" prints, innermost function first.
func stacks(traces []byte) (*frame, error) {
	root := &frame{name: "all"}
	var stack []string
	var took time.Duration
	enter := func() {
		f := root
		root.time += took
		for _, name := range slices.Backward(stack) {
			if isStart(name) {
				continue
			}
			f = f.call(name)
			f.time += took
		}
		stack, took = nil, 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(traces)); lines.Scan(); {
		text := lines.Text()
		switch m := traceHead.FindStringSubmatch(text); {
		case strings.HasPrefix(text, "-----------+"):
			enter()
		case m != nil && stack == nil:
			d, err := time.ParseDuration(m[1])
			if err != nil {
				return nil, err
			}
			took, stack = d, []string{clean(m[2])}
		case stack != nil && strings.HasPrefix(text, " "):
			stack = append(stack, clean(strings.TrimSpace(text)))
		}
	}
	enter()
	if root.time == 0 {
		return nil, errors.New("the profile has no samples")
	}
	return root, nil
}

// isStart reports whether a function only starts what is of interest.
func isStart(name string) bool {
	for _, start := range []string{"runtime.goexit", "runtime.mcall", "runtime.mstart", "runtime.systemstack", "panics.", "conc.(*WaitGroup)", "sync.(*WaitGroup)", "pipeline.recovered", "pipeline.runStage", "pipeline.(*Run).goStage"} {
		if strings.Contains(name, start) {
			return true
		}
	}
	return false
}

var typeArguments = regexp.MustCompile(`\[(?:go\.shape\.)?[^\]]*(?:\{[^}]*\}[^\]]*)*\]`)

// clean leaves out type arguments, and the path of a package.
func clean(name string) string {
	name = strings.TrimSuffix(name, " (inline)")
	name = typeArguments.ReplaceAllString(name, "")
	return name[strings.LastIndexByte(name, '/')+1:]
}

func (f *frame) depth(perTime float64) int {
	deepest := 0
	for _, c := range f.calls {
		if float64(c.time)*perTime >= 1 {
			deepest = max(deepest, c.depth(perTime))
		}
	}
	return deepest + 1
}

func (f *frame) draw(b *strings.Builder, x, bottom, perTime, rowHeight float64, all time.Duration) {
	width := float64(f.time) * perTime
	fmt.Fprintf(b, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="#fff" stroke-width="0.5"/>`,
		escaper.Replace(f.name), 100*f.time.Seconds()/all.Seconds(), x, bottom-rowHeight, width, rowHeight, colourOf(f.name))
	if fits := int(width / 6.2); fits > 3 {
		name := f.name
		if len(name) > fits {
			name = name[:fits-1] + "…"
		}
		b.WriteString(text(x+3, bottom-4.5, "start", "#000", name))
	}
	b.WriteString("</g>\n")
	for _, c := range slices.SortedFunc(maps.Values(f.calls), func(a, b *frame) int { return cmp.Compare(a.name, b.name) }) {
		if float64(c.time)*perTime >= 1 {
			c.draw(b, x, bottom-rowHeight, perTime, rowHeight, all)
		}
		x += float64(c.time) * perTime
	}
}

// colourOf has the functions of a package look alike: the runtime's grey, the
// system's blue, and others warm.
func colourOf(name string) string {
	pkg, _, _ := strings.Cut(name, ".")
	switch pkg {
	case "all":
		return "#eee"
	case "runtime", "internal", "atomic":
		return "#c8c8c8"
	case "syscall", "linux", "poll", "os":
		return "#9cc3e6"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(pkg))
	return fmt.Sprintf("hsl(%d,75%%,72%%)", 10+h.Sum32()%90)
}
